"""Streams: many small writes that become few commits."""

from __future__ import annotations

import time
from typing import Any, Self
from uuid import uuid4

import pyarrow as pa

from lakehouse.schema import fit, to_reader
from lakehouse.tables import Commit, Table

FLUSH_BYTES = 64 << 20
FLUSH_SECONDS = 60.0


class Stream:
    """Appends that are gathered and committed by size and time, each flush exactly once.

    Leaving the `with` block commits what is left; leaving it by an error commits nothing more.

    Args:
        table: Where to.
        flush_bytes, flush_seconds: A flush comes at the first write after either is reached.
    """

    def __init__(
        self,
        table: Table,
        *,
        run: str | None = None,
        message: str | None = None,
        flush_bytes: int = FLUSH_BYTES,
        flush_seconds: float = FLUSH_SECONDS,
    ) -> None:
        self._table, self._run, self._message = table, run, message
        self._flush_bytes, self._flush_seconds = flush_bytes, flush_seconds
        self._id, self._count = f"{run or 'stream'}-{uuid4().hex}", 0
        self._schema = table.schema()
        self._held: list[pa.RecordBatch] = []
        self._bytes = 0
        self._since = time.monotonic()
        self.commits: list[Commit] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.flush()

    def write(self, data: Any) -> None:
        """Take rows; they are durable after the next flush.

        Raises:
            InvalidInputError: data that does not fit the table, as `schema.fit`; nothing of it is taken but what a
                flush of this same call committed before the bad batch.
        """
        batches, kept = fit(to_reader(data), self._schema), len(self._held)
        while True:
            try:
                batch = next(batches, None)
            except BaseException:
                del self._held[kept:]
                self._bytes = sum(b.nbytes for b in self._held)
                raise
            if batch is not None:
                self._held.append(batch)
                self._bytes += batch.nbytes
            if self._bytes >= self._flush_bytes or time.monotonic() - self._since >= self._flush_seconds:
                self.flush()
                kept = 0
            if batch is None:
                return

    def flush(self) -> Commit | None:
        """Commit what is held; None when nothing is."""
        if not self._held:
            return None
        reader = pa.RecordBatchReader.from_batches(self._schema, self._held)
        commit = self._table.append(reader, run=self._run, message=self._message, txn=(self._id, self._count))
        self._held, self._bytes, self._count, self._since = [], 0, self._count + 1, time.monotonic()
        self.commits.append(commit)
        return commit
