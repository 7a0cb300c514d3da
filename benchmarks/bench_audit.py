"""What the audit costs: reading with and without noting it, and the hash chain's share of a decision.

    python benchmarks/bench_audit.py

On a busy machine a clock tells little of what takes so short, so what counts is the audit's share of the processor's
time, the least of several rounds, all threads of the process together. Exits with 1 when a target is missed.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
import timeit
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import pyarrow as pa
from _timing import compare

import catalog
import lakehouse
from lakehouse.chain import chained
from lakehouse.decisions import Chain, Decision, Tag
from lakehouse.ledger import SCHEMA, State

DATASETS = 20
LIMIT = 0.05


def make(root: str) -> lakehouse.Lake:
    """Make a lake of published datasets."""
    lake = lakehouse.init(root)
    rows = pa.table({"id": range(1_000), "x": [i * 0.5 for i in range(1_000)]})
    for i in range(DATASETS):
        catalog.create_dataset(lake, f"d{i}", rows.schema)
        lake.table(f"d{i}").append(rows)
        catalog.publish(lake, f"d{i}")
    return lake


def read_all(lake: lakehouse.Lake, opened: Callable[[str], lakehouse.Snapshot]) -> None:
    """Read every dataset; to the notes, none of them was opened before, so that each opening is an event."""
    with lake.reads._lock:
        lake.reads._last.clear()
    for i in range(DATASETS):
        opened(f"d{i}@v1").to_arrow()


def used(run: Callable[[], object], number: int) -> float:
    """Return the processor's seconds that one call takes, all threads of this process together."""
    return min(timeit.repeat(run, number=number, repeat=7, timer=time.process_time)) / number


def share(name: str, part: float, whole: float) -> bool:
    """Print what share of something the audit is; return whether it is small enough."""
    ok = part <= LIMIT * whole
    verdict = "ok" if ok else "MISSED"
    print(f"{name}: {part / whole:.1%} of {whole * 1e6:,.0f} us   target <= {LIMIT:.0%}   {verdict}", flush=True)
    return ok


def main() -> int:
    """Run it; return the exit status."""
    with tempfile.TemporaryDirectory(prefix="lakehouse-bench-", ignore_cleanup_errors=True) as base:
        lake, numbers = make(f"{base}/lake"), itertools.count()
        snapshot = lake.read("d0@v1")
        row = {"seq": 1, "pos": 0, "entity": "tag", "key": "bench/count", "value": "{}", "action": "bench"}
        row |= {"at": datetime.now(UTC), "actor": "bench", "commit_id": "0" * 32}
        rows = pa.Table.from_pylist([row], schema=SCHEMA)

        def decide() -> None:
            value = Tag(series="bench", name="count", number=next(numbers))

            def rule(_: State) -> tuple[None, list[Decision]]:
                return None, [Decision.put("bench", value)]

            lake.ledger.decide(rule)

        for opened in (lake.read, lake.peek):
            read_all(lake, opened)
        ours, plain = (partial(read_all, lake, opened) for opened in (lake.read, lake.peek))
        compare(f"{DATASETS} states read, each noted", ours, {"not noted": plain}, 15)
        whole = used(plain, 1)
        noted = used(lambda: lake.reads.note(snapshot), 5_000)
        linked = used(lambda: chained(rows, Chain(head="ab" * 32)), 500)
        found = [
            share(f"noting {DATASETS} states, and writing that", used(ours, 1) - whole, whole),
            share("noting that an open state was opened again", noted, used(lambda: lake.peek("d0@v1"), 200)),
            share("the link of a decision", linked, used(decide, 20)),
        ]
        lake.reads.flush()
    return 0 if all(found) else 1


if __name__ == "__main__":
    sys.exit(main())
