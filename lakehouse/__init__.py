"""The lakehouse: versioned datasets for machine learning on open table formats, with no database server.

    import lakehouse
    lake = lakehouse.connect("./lake")          # or s3://bucket/prefix; lakehouse.init(uri) makes one
    snap = lake.read("vision.photos@v3")        # a snapshot: it never moves
    lake.sql('select label, count(*) from "vision.photos@v3" group by 1')

`import lakehouse` alone reads everything by reference; `catalog` decides, `jobs` compute, `api` has the faces.
"""

from lakehouse.compaction import OptimizeReport, optimize
from lakehouse.errors import (
    AccessDeniedError,
    ConflictError,
    FormatError,
    InternalError,
    InvalidInputError,
    LakeError,
    NotFoundError,
    StateError,
    StorageError,
)
from lakehouse.lake import Lake, MilestoneBundle, connect, init
from lakehouse.snapshots import Snapshot
from lakehouse.tables import Commit, LogEntry, Table

__all__ = [
    "AccessDeniedError",
    "Commit",
    "ConflictError",
    "FormatError",
    "InternalError",
    "InvalidInputError",
    "Lake",
    "LakeError",
    "LogEntry",
    "MilestoneBundle",
    "NotFoundError",
    "OptimizeReport",
    "Snapshot",
    "StateError",
    "StorageError",
    "Table",
    "connect",
    "init",
    "optimize",
]
