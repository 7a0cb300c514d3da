"""Jobs: what fills datasets - ingest, features, export - each run recorded, each batch committed exactly once.

import jobs
jobs.ingest(lake, "photos/", dataset="vision.photos")
jobs.run_features(lake, "vision.photos")
"""

from jobs.export import ExportReport, export
from jobs.features.job import FeatureReport, run_features
from jobs.ingest import FileCheck, IngestReport, TableOptions, check_file, ingest
from jobs.progress import Progress

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
