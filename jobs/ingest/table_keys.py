"""Rows of one file or of several that share a key, found by DuckDB on disk so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pyarrow as pa

from jobs.ingest.table_values import Chunk

_MEMORY = "256MB"


class RepeatedKeys:
    """The lines of all rows whose key occurs more than once; rows with null in the key are left out.

    Args:
        chunks: (number of the file, rows with the key columns only) of all rows.
        folder: Where DuckDB may put what does not fit into 256 MB.
    """

    def __init__(self, chunks: Iterator[tuple[int, Chunk]], key: pa.Schema, folder: Path) -> None:
        import duckdb

        names = [f"k{number}" for number in range(len(key))]
        schema = pa.schema([("file", pa.int64()), ("line", pa.int64()), *zip(names, key.types, strict=True)])
        incoming = (
            pa.RecordBatch.from_arrays(
                [pa.repeat(pa.scalar(file, pa.int64()), len(c.lines)), c.lines, *c.batch.columns], schema=schema
            )
            for file, c in chunks
        )
        self._connection = duckdb.connect(
            config={"memory_limit": _MEMORY, "temp_directory": str(folder), "preserve_insertion_order": "false"}
        )
        reader = pa.RecordBatchReader.from_batches(schema, incoming)
        self._connection.register("incoming", reader)
        self._connection.execute("create temp table rows as from incoming")
        self._connection.execute(
            f"create temp table repeated as select file, line from rows semi join "
            f"(select {', '.join(names)} from rows group by all having count(*) > 1) using ({', '.join(names)})"
        )
        self._connection.execute("drop table rows")

    def lines(self, file: int, first: int, last: int) -> set[int]:
        """Return the lines of a file between `first` and `last`, both included, whose key is repeated."""
        query = "select line from repeated where file = ? and line between ? and ?"
        found = self._connection.execute(query, [file, first, last])
        return {line for (line,) in found.fetchall()}

    def __enter__(self) -> RepeatedKeys:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
