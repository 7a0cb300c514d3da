"""Failing rows: counted as they stream by, a few of them kept as JSON."""

from __future__ import annotations

import base64
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import pyarrow as pa

from lakehouse.readers import relation
from lakehouse.readers.duck import close, identifier, reading, stream
from lakehouse.snapshots import Snapshot

MOST_SAMPLES = 100
_LONGEST = 1_000
"""Characters of a value that a sample keeps."""
BATCH_ROWS = 8_192


@dataclass(frozen=True, slots=True)
class Failing:
    """How much fails, and some of it."""

    count: int
    samples: tuple[str, ...]
    """JSON objects: the first that were met, `MOST_SAMPLES` at most."""


def select(
    snapshot: Snapshot, columns: Sequence[str], query: str, known: Snapshot | None = None
) -> Iterator[pa.RecordBatch]:
    """Iterate over the rows that a query gives, in bounded memory.

    Args:
        snapshot: What the query reads.
        columns: The columns of it that the query needs.
        query: SQL in which `t` is the snapshot.
        known: Rows that are left out of `t`, one for one, by these columns.
    Raises:
        StorageError: a data file is gone or can't be read, as `reading`.
    """
    con = relation.connect()
    try:
        with reading(snapshot.reference):
            wanted = columns or snapshot.schema.names[:1]
            source = relation.source_sql(con, snapshot, wanted)
            if known is not None:
                source = f"({source}) except all ({relation.source_sql(con, known, wanted)})"
            found = stream(con.sql(f"with t as ({source}) {query}"), BATCH_ROWS)
        while True:
            with reading(snapshot.reference):
                batch = next(found, None)
            if batch is None:
                return
            yield batch
    finally:
        close(con)


def names(columns: Iterable[str], prefix: str = "") -> str:
    """Return column names as a list in SQL."""
    return ", ".join(prefix + identifier(name) for name in columns)


def shown(snapshot: Snapshot, columns: Sequence[str]) -> list[str]:
    """Return the columns that a sample shows: the key, by which a row is found again, and those that are looked at."""
    key = [name for name in snapshot.dataset.key_columns if name in snapshot.schema.names]
    return list(dict.fromkeys([*key, *columns]))


def tally(batches: Iterable[pa.RecordBatch]) -> Failing:
    """Count rows and keep the first of them."""
    count = 0
    samples: list[str] = []
    for batch in batches:
        count += batch.num_rows
        samples += texts(batch.slice(0, MOST_SAMPLES - len(samples)))
    return Failing(count, tuple(samples))


def without(samples: Sequence[str], gone: Iterable[pa.RecordBatch]) -> Failing:
    """Count rows that are gone; what is kept are the samples that are still there, row for row."""
    left, count = Counter(samples), 0
    for batch in gone:
        count += batch.num_rows
        if samples:
            left.subtract(text for text in texts(batch) if text in left)
    kept = [text for text, times in left.items() for _ in range(times)]
    return Failing(count, tuple(kept))


def texts(batch: pa.RecordBatch) -> list[str]:
    """Return rows as JSON objects; long texts are cut, bytes are base64, numbers that JSON lacks are words."""
    return [json.dumps({k: plain(v) for k, v in row.items()}, ensure_ascii=False) for row in batch.to_pylist()]


def plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    match value:
        case None | bool():
            return value
        case int():
            return value if abs(value) < 2**53 else str(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case bytes():
            return base64.b64encode(value[:_LONGEST]).decode()
        case datetime() | date():
            return value.isoformat()
        case list() | tuple():
            return [plain(entry) for entry in value[:_LONGEST]]
        case dict():
            return {str(name): plain(entry) for name, entry in value.items()}
        case _:
            text = str(value)
            return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


__all__ = ["BATCH_ROWS", "MOST_SAMPLES", "Failing", "names", "plain", "select", "shown", "tally", "texts", "without"]
