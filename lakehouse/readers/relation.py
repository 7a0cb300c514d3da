"""A snapshot as something that DuckDB can select from.

The Parquet files of a snapshot are read with the columns and types of its Delta schema, matched by name: a column
that a file lacks is null, and a narrower type is widened, file by file, without opening all files first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pyarrow as pa
from deltalake import QueryBuilder

from lakehouse.delta import Route, open_delta, table_uri
from lakehouse.errors import FormatError
from lakehouse.readers.duck import close, connect, identifier, literal, sql_type, string

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from lakehouse.decisions import Dataset
    from lakehouse.snapshots import Snapshot
    from lakehouse.storage import Storage


def source_sql(con: DuckDBPyConnection, snapshot: Snapshot, columns: Sequence[str] | None = None) -> str:
    """Return SQL that can stand after FROM (in parentheses, or as a view's text) and gives the snapshot's rows.

    Args:
        con: Connection that will run the SQL; what the SQL needs is registered with it.
        snapshot: Its columns come in the order and with the types of its schema, its rows in its fixed order.
        columns: Names to give, in this order, at least one; None means all.
    Raises:
        FormatError: column names that differ only in case, which SQL can't tell apart (columns-ambiguous).
    """
    schema = snapshot.schema
    _check_names(snapshot)
    names = schema.names if columns is None else list(columns)
    if not len(snapshot.file_list):
        nulls = ", ".join(f"cast(null as {sql_type(schema.field(n).type)}) as {identifier(n)}" for n in names)
        return f"select {nulls} where false"
    if snapshot.file_list.route is Route.SCAN:
        read = open_scan(snapshot)
        wanted = pa.schema([schema.field(n) for n in names])
        return f"select {', '.join(map(identifier, names))} from {register_batches(con, wanted, lambda: read(names))}"
    _reach(con, snapshot.storage, snapshot.file_list.uris[0])
    if snapshot.file_list.partition_columns:
        return _partitioned(con, snapshot, names)
    types = ", ".join(
        f"{string(f.name)}: {{name: {string(f.name)}, type: {string(sql_type(f.type))}, default_value: NULL}}"
        for f in schema
    )
    # Partitions are switched off in so many words: a folder of the root called `x=1` must not become a column.
    source = f"read_parquet({_files(snapshot)}, schema = MAP {{{types}}}, hive_partitioning = false)"
    return f"select {', '.join(map(identifier, names))} from {source}"


def register_table(con: DuckDBPyConnection, table: pa.Table) -> str:
    """Make an Arrow table readable by a connection; return the quoted name to select from."""
    # Given as a stream, since DuckDB imports pandas (a quarter of a second) to recognise a table.
    return register_batches(con, table.schema, lambda: iter(table.to_batches()))


def open_scan(snapshot: Snapshot) -> Callable[[Sequence[str]], Iterator[pa.RecordBatch]]:
    """Open a snapshot as delta-rs reads it; return what gives the batches of named columns, afresh on each call.

    This is the route for column mapping and deletion vectors. Files come in the order of log replay, one after the
    other: a single partition keeps DataFusion from mixing them.

    Raises:
        StateError: in a forked process, where delta-rs can't run (fork-unsupported).
        NotFoundError, FormatError, StorageError: as `open_delta`.
    """
    dataset = snapshot.dataset
    table = open_delta(snapshot.storage, dataset.location, dataset.full_name, snapshot.table_version)

    def read(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        wanted = pa.schema([snapshot.schema.field(n) for n in columns])
        query = QueryBuilder({"datafusion.execution.target_partitions": "1"}).register("source", table)
        reader: Any = query.execute(f"select {', '.join(map(identifier, columns))} from source")
        for batch in pa.RecordBatchReader.from_stream(reader):
            yield conform(batch, wanted)

    return read


def conform(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch with exactly this schema; columns are matched by position."""
    if batch.schema.equals(schema, check_metadata=True):
        return batch
    pairs = zip(batch.columns, schema, strict=True)
    return pa.RecordBatch.from_arrays([c if c.type.equals(f.type) else c.cast(f.type) for c, f in pairs], schema=schema)


@dataclass(frozen=True, slots=True)
class _Stream:
    """Batches that DuckDB may ask for any number of times, as Arrow's C interface."""

    schema: pa.Schema
    batches: Callable[[], Iterable[pa.RecordBatch]]

    def __arrow_c_schema__(self) -> Any:
        return self.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> Any:
        return pa.RecordBatchReader.from_batches(self.schema, self.batches()).__arrow_c_stream__(requested_schema)


def register_batches(
    con: DuckDBPyConnection, schema: pa.Schema, batches: Callable[[], Iterable[pa.RecordBatch]]
) -> str:
    """Make batches, given afresh on each call, readable by a connection; return the quoted name to select from."""
    # Always a new name: views over an older registration keep their own rows.
    name = f"__stream_{uuid4().hex}"
    con.register(name, _Stream(schema, batches))
    return identifier(name)


def _check_names(snapshot: Snapshot) -> None:
    seen: dict[str, str] = {}
    for name in snapshot.schema.names:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            raise FormatError(
                "columns-ambiguous",
                f"{snapshot.reference} has columns {other!r} and {name!r}, which SQL can't tell apart. Read it with scan().",
            )


def _files(snapshot: Snapshot) -> str:
    # DuckDB takes each entry for a pattern: `[`, `*` and `?` in a path stand in brackets.
    meant = str.maketrans({c: f"[{c}]" for c in "[*?"})
    return f"[{', '.join(string(uri.translate(meant)) for uri in snapshot.file_list.uris)}]"


def _partitioned(con: DuckDBPyConnection, snapshot: Snapshot, names: Sequence[str]) -> str:
    """Return SQL that takes partition values from the paths, which excludes matching columns by an explicit schema."""
    types = {f.name: sql_type(f.type) for f in snapshot.schema}
    hive = ", ".join(f"{string(p)}: {types[p]}" for p in snapshot.file_list.partition_columns)
    source, found = "", {}
    # The first file speaks for all if all have every column and it has the widest types; else all are opened.
    for union in ("false", "true") if snapshot.file_list.uniform else ("true",):
        source = f"read_parquet({_files(snapshot)}, hive_partitioning = true, hive_types = {{{hive}}}, union_by_name = {union})"
        bound = con.sql(f"from {source}")
        found = {name.casefold(): str(kind) for name, kind in zip(bound.columns, bound.types, strict=True)}
        if all(found.get(name.casefold()) == kind for name, kind in types.items()):
            break
    return f"select {', '.join(_cast(n, found.get(n.casefold()), types[n]) for n in names)} from {source}"


def _cast(name: str, found: str | None, wanted: str) -> str:
    quoted = identifier(name)
    if found is None:
        return f"cast(null as {wanted}) as {quoted}"
    return quoted if found == wanted else f"cast({quoted} as {wanted}) as {quoted}"


def confine(con: DuckDBPyConnection, storage: Storage, datasets: Iterable[Dataset]) -> None:
    """Let a connection open nothing but the files of some datasets, for good: no other file, extension or setting."""
    uris = [table_uri(storage, d.location).removeprefix("file://") for d in datasets]
    for uri in uris:  # by fsspec, since a confined connection can be given no secret later
        scheme, found, _ = uri.partition("://")
        if found and not con.filesystem_is_registered(scheme):
            con.register_filesystem(storage.filesystem(uri))
    folders = ", ".join(string(f"{uri.rstrip('/')}/") for uri in uris)
    con.execute(f"set allowed_directories = [{folders}]")
    con.execute("set enable_external_access = false; set lock_configuration = true")


def _reach(con: DuckDBPyConnection, storage: Storage, uri: str) -> None:
    """Let a connection read a file on a remote store: through httpfs where it is installed, else through fsspec."""
    scheme, found, _ = uri.partition("://")
    if not found or con.filesystem_is_registered(scheme):
        return
    if scheme == "s3" and storage.profile.ssl_verify and not storage.profile.ca_file and _load_httpfs(con):
        options = storage.options(uri)
        secret = {
            "key_id": options.get("AWS_ACCESS_KEY_ID"),
            "secret": options.get("AWS_SECRET_ACCESS_KEY"),
            "session_token": options.get("AWS_SESSION_TOKEN"),
            "region": options.get("AWS_REGION"),
        }
        if endpoint := options.get("AWS_ENDPOINT_URL"):
            protocol, host = endpoint.rstrip("/").split("://")
            secret |= {"endpoint": host, "url_style": "path", "use_ssl": str(protocol == "https").lower()}
        given = ", ".join(f"{key} {string(value)}" for key, value in secret.items() if value)
        con.execute(f"create or replace secret lakehouse (type s3, {given})")
        return
    con.register_filesystem(storage.filesystem(uri))


def _load_httpfs(con: DuckDBPyConnection) -> bool:
    import duckdb

    try:
        con.load_extension("httpfs")
    except duckdb.Error:
        return False
    return True


__all__ = ["close", "conform", "connect", "identifier", "literal", "open_scan", "register_table", "source_sql"]
