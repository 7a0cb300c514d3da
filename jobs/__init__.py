"""Jobs: what fills datasets - ingest, features, queries - and export; each run recorded, each batch committed exactly once.

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
from jobs.query import DatasetQuery, QueryInput, QueryReport, create_from_query, query_of, refresh_from_query

use_decoder(decode_errors)

__all__ = [
    "DatasetQuery",
    "ExportReport",
    "FeatureReport",
    "FileCheck",
    "IngestReport",
    "Progress",
    "QueryInput",
    "QueryReport",
    "TableOptions",
    "check_file",
    "create_from_query",
    "export",
    "ingest",
    "query_of",
    "refresh_from_query",
    "run_features",
]
