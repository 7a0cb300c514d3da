"""What the audit costs: reading with and without noting it, deciding with and without the hash chain.

    python benchmarks/bench_audit.py

Exits with 1 when a target is missed.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from unittest.mock import patch

import pyarrow as pa
from _timing import Result, compare

import catalog
import lakehouse
from lakehouse import ledger as ledger_module
from lakehouse.decisions import Decision, Tag

DATASETS, READS, DECISIONS = 20, 100, 10


def make(root: str) -> lakehouse.Lake:
    """Make a lake of published datasets."""
    lake = lakehouse.init(root)
    rows = pa.table({"id": range(1_000), "x": [i * 0.5 for i in range(1_000)]})
    for i in range(DATASETS):
        catalog.create_dataset(lake, f"d{i}", rows.schema)
        lake.table(f"d{i}").append(rows)
        catalog.publish(lake, f"d{i}")
    return lake


def main() -> int:
    """Run it; return the exit status."""
    with tempfile.TemporaryDirectory(prefix="lakehouse-bench-", ignore_cleanup_errors=True) as base:
        lake = make(f"{base}/lake")
        turns = itertools.count()

        def different(opened: Callable[[str], lakehouse.Snapshot]) -> None:
            """Open states that were not opened within a minute, as far as the notes know: each is a new event."""
            with lake.reads._lock:
                lake.reads._last.clear()
            for i in range(DATASETS):
                opened(f"d{i}@v1").to_arrow()

        def same(opened: Callable[[str], lakehouse.Snapshot]) -> None:
            for _ in range(READS):
                opened("d0@v1")

        def decide() -> None:
            for _ in range(DECISIONS):
                value = Tag(series="bench", name="count", number=next(turns))
                lake.ledger.decide(lambda _, value=value: (None, [Decision.put("bench", value)]))  # type: ignore[misc]

        def unchained() -> None:
            with patch.object(ledger_module, "chained", lambda rows, before: rows):
                decide()

        for warm in (different, same):
            warm(lake.read)
            warm(lake.peek)
        found: list[Result] = [
            compare(
                f"{DATASETS} states, each read whole: noted",
                partial(different, lake.read),
                {"not noted": partial(different, lake.peek)},
                15,
                "<= 1.05x",
            ),
            compare(
                f"one open state, opened {READS} times: noted",
                partial(same, lake.read),
                {"not noted": partial(same, lake.peek)},
                15,
                "<= 1.05x",
            ),
            compare(f"{DECISIONS} decisions: chained", decide, {"not chained": unchained}, 15, "<= 1.05x"),
        ]
        lake.reads.flush()
    return 0 if all(result.ok for result in found) else 1


if __name__ == "__main__":
    sys.exit(main())
