"""Jobs: what fills datasets - ingest, features, export - each run recorded, each batch committed exactly once.

import jobs
jobs.ingest(lake, "photos/", dataset="vision.photos")
jobs.run_features(lake, "vision.photos")
"""

from catalog.check_images import use_decoder
from jobs.export import ExportReport, export
from jobs.features.image import decode_errors
from jobs.features.job import FeatureReport, run_features
from jobs.ingest import FileCheck, IngestReport, TableOptions, check_file, ingest
from jobs.progress import Progress

use_decoder(decode_errors)

__all__ = [
    "ExportReport",
    "FeatureReport",
    "FileCheck",
    "IngestReport",
    "Progress",
    "TableOptions",
    "check_file",
    "export",
    "ingest",
    "run_features",
]
