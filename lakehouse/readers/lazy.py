"""Rows of a snapshot as a Polars LazyFrame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from lakehouse.delta import Route
from lakehouse.readers.relation import open_scan

if TYPE_CHECKING:
    import polars as pl

    from lakehouse.snapshots import Snapshot


def scan(snapshot: Snapshot) -> pl.LazyFrame:
    """Return the snapshot as a LazyFrame; columns and predicates are pushed down to the files.

    Columns, their order and types are those of `pl.from_arrow(snapshot.to_arrow())`, rows come in the same order.
    """
    import polars as pl

    files = snapshot.file_list
    if files.route is Route.SCAN:
        return from_batches(snapshot.schema, open_scan(snapshot))
    schema = frame_schema(snapshot.schema)
    if not len(files):
        return pl.LazyFrame(schema=schema)
    partitions = {name: schema[name] for name in files.partition_columns}
    frame = pl.scan_parquet(
        files.uris,
        schema={name: kind for name, kind in schema.items() if name not in partitions},
        glob=False,
        hive_partitioning=bool(partitions),
        hive_schema=partitions or None,
        missing_columns="insert",
        extra_columns="ignore",
        cast_options=pl.ScanCastOptions(
            integer_cast="upcast",
            float_cast="upcast",
            datetime_cast=["nanosecond-downcast", "convert-timezone"],
            missing_struct_fields="insert",
            extra_struct_fields="ignore",
        ),
        storage_options=snapshot.storage.options(files.uris[0]) or None,
    )
    return frame.select(schema.names())


def from_batches(schema: pa.Schema, read: Callable[[Sequence[str]], Iterable[pa.RecordBatch]]) -> pl.LazyFrame:
    """Return a LazyFrame over record batches.

    Args:
        schema: All columns.
        read: Gives the batches with the named columns, afresh on each call.
    """
    import polars as pl
    from polars.io.plugins import register_io_source

    def source(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        wanted = schema.names if with_columns is None else with_columns
        needed = wanted if predicate is None else list(dict.fromkeys([*wanted, *predicate.meta.root_names()]))
        for batch in read(needed):
            frame = pl.DataFrame(batch)
            if n_rows is not None:
                frame = frame.head(n_rows)
                n_rows -= len(frame)
            yield (frame if predicate is None else frame.filter(predicate)).select(wanted)
            if n_rows == 0:
                return

    return register_io_source(source, schema=frame_schema(schema))


def frame_schema(schema: pa.Schema) -> pl.Schema:
    """Return the Polars schema that frames of an Arrow schema have."""
    import polars as pl

    return pl.DataFrame(schema.empty_table()).schema
