"""Ingest: from files to rows and assets."""

from jobs.ingest.assets import ASSET_SCHEMA, asset_id
from jobs.ingest.checking import FileCheck, check_file
from jobs.ingest.run import IngestReport, ingest
from jobs.ingest.tabular import TableOptions

__all__ = ["ASSET_SCHEMA", "FileCheck", "IngestReport", "TableOptions", "asset_id", "check_file", "ingest"]
