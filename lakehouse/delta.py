"""Opening Delta tables: the one boundary to delta-rs for reading a log, and the choice of the reading route.

Tables may be ours or written by any other engine. What a reader needs - schema, files in their fixed order, the
route - is taken from the log once; after that no reader needs delta-rs, so it survives a fork and a pickle.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from lakehouse.commits import reopening
from lakehouse.errors import FormatError, InvalidInputError, NotFoundError, StateError, StorageError, translated
from lakehouse.storage import Storage

STATS_COLUMNS = 32
"""Delta writers keep statistics of the first 32 leaf columns only (protocol default)."""
NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
_runtime_of: int | None = None  # the process in which delta-rs started its threads, which do not survive a fork

# Reader features that need nothing from a reader of the listed Parquet files. Type widening leaves narrower files
# behind, which every reader of ours widens to the table's schema anyway.
_FILES_FEATURES = {"timestampNtz", "v2Checkpoint", "vacuumProtocolCheck", "typeWidening", "typeWidening-preview"}
_SCAN_FEATURES = {"columnMapping", "deletionVectors"}


class Route(Enum):
    """How the rows of a snapshot are read."""

    FILES = "files"
    """The Parquet files of the log, read directly: the fastest."""
    SCAN = "scan"
    """delta-rs' own scan: for column mapping, deletion vectors and partition values that paths do not show."""


@dataclass(frozen=True)
class FileList:
    """The data files of one table version, in the order in which rows are read.

    The order is (modification time, path): the order of ingest, and - unlike the order of log replay, which a
    checkpoint may change - a function of the set of files alone.
    """

    table: pa.Table
    """Columns path (as in the log, decoded), uri, size (bytes), rows (null: no statistics), modified (ms since epoch)."""
    partition_columns: tuple[str, ...]
    route: Route
    uniform: bool
    """Whether statistics prove that every file has every column."""

    @cached_property
    def uris(self) -> list[str]:
        """Full path or URI of each file."""
        uris: list[str] = self.table.column("uri").to_pylist()
        return uris

    @property
    def bytes(self) -> int:
        """Total size of the files."""
        return int(pa.compute.sum(self.table.column("size")).as_py() or 0)

    @property
    def rows(self) -> int | None:
        """Total rows by statistics; None when a file has none or some rows are marked deleted."""
        column = self.table.column("rows")
        if self.route is Route.SCAN or column.null_count:
            return None
        return int(pa.compute.sum(column).as_py() or 0)

    def __len__(self) -> int:
        return int(self.table.num_rows)


def table_uri(storage: Storage, location: str) -> str:
    """Return the full path or URI of a table's location: a key under the root, or an adopted table's full URI."""
    return location if "://" in location or location.startswith("/") else storage.uri(location)


def open_delta(storage: Storage, location: str, what: str, version: int | None = None) -> DeltaTable:
    """Open a Delta table, at its newest version or at a given one.

    Args:
        location: Key under the root, or full URI of an adopted table.
        what: The dataset's name, for messages.
    Raises:
        NotFoundError: no Delta table there (table-missing), or no such version (version-not-found).
        FormatError: a table feature that delta-rs does not know (feature-unsupported).
        StateError: in a forked process (fork-unsupported), as `refuse_fork`.
    """
    refuse_fork(what)
    uri = table_uri(storage, location)
    with translated(f"opening {what}", dataset=what):
        try:
            # A clean-up may delete log files between the look at their names and the reading.
            return reopening(lambda: DeltaTable(uri, version=version, storage_options=storage.options(uri)))
        except TableNotFoundError as error:
            if version is not None and _exists(storage, uri):
                raise _no_version(what, version) from error
            raise NotFoundError(
                "table-missing", f"There is no Delta table for {what} at {uri}. Was it moved or deleted?", dataset=what
            ) from error
        except (DeltaError, OSError) as error:
            text = str(error)
            if "feature" in text.lower() or "catalog-managed" in text:
                feature = "catalogManaged" if "catalog-managed" in text else text[:300]
                raise FormatError(
                    "feature-unsupported",
                    f"{what} uses a Delta feature that can't be read here: {feature}",
                    dataset=what,
                ) from error
            if version is not None and ("ersion" in text or isinstance(error, FileNotFoundError)):
                raise _no_version(what, version) from error
            raise


def _exists(storage: Storage, uri: str) -> bool:
    return bool(DeltaTable.is_deltatable(uri, storage_options=storage.options(uri)))


def _no_version(what: str, version: int) -> NotFoundError:
    return NotFoundError(
        "version-not-found",
        f"{what} has no table version {version}. See: lakehouse log {what}",
        dataset=what,
        version=version,
    )


def refuse_foreign(table: DeltaTable, what: str) -> None:
    """Refuse to write into an adopted table that asks more of its files than its schema says.

    Raises:
        InvalidInputError: partitions or mapped columns (table-partitioned), constraints or computed columns
            (table-constrained).
    """
    metadata, fields = table.metadata(), table.schema().to_json()
    mapped = metadata.configuration.get("delta.columnMapping.mode", "none") != "none"
    if metadata.partition_columns or mapped:
        raise InvalidInputError(
            "table-partitioned",
            f"{what} is partitioned or maps its columns; it is read here, but written only by the engine that made it.",
        )
    rules = ("delta.generationExpression", "delta.invariants", "delta.identity")
    if any(name.startswith("delta.constraints.") for name in metadata.configuration) or any(
        rule in fields for rule in rules
    ):
        raise InvalidInputError(
            "table-constrained",
            f"{what} has constraints or computed columns; it is read here, but written only by the engine that made it.",
        )


def refuse_fork(what: str) -> None:
    """Refuse to use delta-rs in a process that was forked from one which used it: there it would panic.

    Raises:
        StateError: this is such a process (fork-unsupported).
    """
    global _runtime_of
    if _runtime_of is None:
        _runtime_of = os.getpid()
    elif _runtime_of != os.getpid():
        raise StateError(
            "fork-unsupported",
            f"{what} can't be opened in a forked process. Use snapshots that were opened before the fork and need no "
            "Delta log (no column mapping, deletion vectors or unusual partitions), or start workers with 'spawn'.",
        )


def table_schema(table: DeltaTable) -> pa.Schema:
    """Return a table's Arrow schema, with plain strings and lists named `element`."""
    return pa.schema(table.schema().to_arrow())


def arrow_table(found: Any) -> pa.Table:
    """Return what delta-rs gave as an Arrow table; `pa.table` would import pandas to look at it, which takes 0.2 s."""
    return pa.RecordBatchReader.from_stream(found).read_all()


def list_files(table: DeltaTable, what: str) -> FileList:
    """Return the files of an opened table version and the route to read them.

    Raises:
        FormatError: the table needs a reader feature that no route has (feature-unsupported).
        StorageError: deletion vectors are gone (file-missing).
    """
    adds: Any = arrow_table(table.get_add_actions(flatten=True))
    partitions = tuple(table.metadata().partition_columns)
    schema = table_schema(table)
    route = _route(table, adds, partitions, schema, what)
    base = unquote(table.table_uri.rstrip("/").removeprefix("file://"))
    paths, uris = _located(adds.column("path").cast(pa.string()), base)
    listed = pa.table(
        {
            "path": paths,
            "uri": uris,
            "size": adds.column("size_bytes"),
            "rows": adds.column("num_records"),
            "modified": adds.column("modification_time"),
        }
    ).sort_by([("modified", "ascending"), ("path", "ascending")])
    return FileList(listed, partitions, route, _uniform(adds, schema, partitions))


def _located(paths: pa.ChunkedArray, base: str) -> tuple[Any, Any]:
    """Return the paths of the log without their escapes, and the full paths or URIs that they mean."""
    if not pc.any(pc.match_substring_regex(paths, "%|://|^/")).as_py():
        # Our own tables: arrays from Python lists would import pandas, which takes 0.2 s.
        return paths, pc.utf8_replace_slice(paths, 0, 0, f"{base}/")
    plain = [unquote(p) for p in paths.to_pylist()]
    uris = [p if p.startswith("/") or "://" in p else f"{base}/{p}" for p in plain]
    return pa.array(plain, pa.string()), pa.array([u.removeprefix("file://") for u in uris], pa.string())


def _route(table: DeltaTable, adds: pa.Table, partitions: Sequence[str], schema: pa.Schema, what: str) -> Route:
    protocol, properties = table.protocol(), table.metadata().configuration
    features = set(protocol.reader_features or ())
    unknown = features - _FILES_FEATURES - _SCAN_FEATURES
    if unknown:
        raise FormatError(
            "feature-unsupported",
            f"{what} needs the Delta reader feature {min(unknown)!r}, which can't be read here. Rewrite the table without it.",
            feature=min(unknown),
        )
    if properties.get("delta.columnMapping.mode", "none") != "none":
        return Route.SCAN
    if "deletionVectors" in features and _marks_deleted(table, what):
        return Route.SCAN
    # A folder above the table that looks like a partition (`x=1`) would become a column of every reader.
    if partitions and ("=" in table.table_uri or not _paths_tell(adds, partitions, schema)):
        return Route.SCAN
    return Route.FILES


def _marks_deleted(table: DeltaTable, what: str) -> bool:
    """Whether a file has rows that are marked deleted; reads the marks."""
    with translated(f"reading the deletion vectors of {what}", dataset=what):
        try:
            return bool(arrow_table(table.deletion_vectors()).num_rows)
        except DeltaError as error:
            if "not found" not in str(error).lower():
                raise
            raise StorageError(
                "file-missing", f"{what}: a file with deletion vectors is missing. Was it vacuumed?", dataset=what
            ) from error


def _paths_tell(adds: pa.Table, partitions: Sequence[str], schema: pa.Schema) -> bool:
    """Whether each file's path names its partition values as the log does (`column=value/`), in types readers parse."""
    simple = (pa.types.is_string, pa.types.is_integer, pa.types.is_date, pa.types.is_boolean)
    if not all(any(is_type(schema.field(p).type) for is_type in simple) for p in partitions):
        return False
    told = [adds.column(f"partition.{p}").cast(pa.string()).to_pylist() for p in partitions]
    for path, *values in zip(adds.column("path").to_pylist(), *told, strict=True):
        shown = dict(part.split("=", 1) for part in unquote(path).split("/")[:-1] if "=" in part)
        for column, value in zip(partitions, values, strict=True):
            in_path = unquote(shown.get(column, "\0"))
            if in_path != (NULL_PARTITION if value is None else value) or value == "":
                return False
    return True


def _uniform(adds: pa.Table, schema: pa.Schema, partitions: Sequence[str]) -> bool:
    stored = [f for f in schema if f.name not in partitions]
    if adds.num_rows <= 1 or len(stored) > STATS_COLUMNS:
        return not adds.num_rows
    names = set(adds.column_names)
    for field in stored:
        column = f"null_count.{field.name}"
        if pa.types.is_nested(field.type) or column not in names or adds.column(column).null_count:
            return False
    return True
