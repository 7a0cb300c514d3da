"""The ledger: decisions of one and of many writers, and what a long history and a large lake cost.

python benchmarks/bench_ledger.py

S3 is measured when AWS_ENDPOINT_URL is set and LAKEHOUSE_BENCH_S3 names a prefix such as s3://bucket/bench.
LAKEHOUSE_BENCH_DECISIONS sets the length of the long history (20,000). Exits with 1 when a target is missed.
"""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from multiprocessing import get_context
from multiprocessing.pool import Pool
from pathlib import Path

from _timing import Result, compare

from lakehouse.decisions import Dataset, DatasetVersion, Decision, Name, Tag, Value
from lakehouse.lake import Lake
from lakehouse.ledger import LEDGER_KEY, Ledger, State
from lakehouse.references import parse
from lakehouse.resolution import resolve
from lakehouse.storage import Storage

WRITERS = 8
AGED_EVERY = 200
"""Decisions after which the history is made three hours older, as if it had taken months."""


def bump(state: State) -> tuple[int, list[Decision]]:
    """The rule that counts."""
    found = state.get(Tag, "bench/count")
    value = Tag(series="bench", name="count", number=1 + (found.number if found else 0))
    return value.number, [Decision.put("bench", value)]


def decide(root: str, count: int) -> None:
    """Decide so often."""
    ledger = Ledger(Storage.open(root), "bench")
    for _ in range(count):
        ledger.decide(bump)


def writers(pool: Pool, root: str, number: int, count: int) -> None:
    """Let some processes share so many decisions."""
    pool.starmap(decide, [(root, count // number)] * number)


def rates(where: str, root: str, count: int) -> None:
    """Print decisions per second of one writer and of many."""
    Ledger(Storage.open(root), "bench").create()
    with get_context("spawn").Pool(WRITERS) as pool:
        pool.starmap(decide, [(root, 1)] * WRITERS * 2)
        found = compare(
            f"{count} decisions, {where}: {WRITERS} writers vs 1",
            partial(writers, pool, root, WRITERS, count),
            {"1 writer": partial(writers, pool, root, 1, count)},
            repeat=3,
        )
    for way, seconds in found.seconds.items():
        print(f"  {way}: {count / seconds:.0f} decisions/s")


def grow(root: str, count: int) -> Ledger:
    """Make a ledger with so many decisions, one commit each, that looks as if they had taken months."""
    ledger = Ledger(Storage.open(root), "bench")
    ledger.create()
    for done in range(0, count, AGED_EVERY):
        decide(root, min(AGED_EVERY, count - done))
        for path in Path(root, LEDGER_KEY).rglob("*.*"):
            stamp = path.stat().st_mtime - 3 * 3600
            os.utime(path, (stamp, stamp))
    return ledger


def large(root: str, datasets: int, versions: int) -> Lake:
    """Make a lake with so many datasets of so many published versions each; their tables play no part here."""
    lake, now = Lake(Storage.open(root), "bench"), datetime.now(UTC)
    lake.ledger.create()

    def rule(_: State) -> tuple[None, list[Decision]]:
        return None, [Decision.put("bench", v) for i in range(datasets) for v in dataset_values(i, versions, now)]

    lake.ledger.decide(rule)
    return lake


def dataset_values(i: int, versions: int, now: datetime, **more: str) -> list[Value]:
    """Return what the ledger holds of one dataset with so many published versions.

    Args:
        more: Fields of the dataset besides its name.
    """
    dataset = Dataset(
        dataset_id=f"{i:032x}",
        namespace="bench",
        name=f"d{i}",
        location=f"bench/d{i}/g1",
        delta_id="",
        created_at=now,
    )
    dataset = replace(dataset, **more)
    name = Name(full_name=dataset.full_name, series=f"s{i}", dataset_id=dataset.dataset_id, last_version=versions)
    published = (
        DatasetVersion(
            series=name.series,
            number=n,
            dataset_id=dataset.dataset_id,
            full_name=dataset.full_name,
            table_version=n,
            data_tag="FINAL",
            rows=1,
            files=1,
            bytes=1,
            committed_at=now,
            created_at=now,
        )
        for n in range(1, versions + 1)
    )
    return [dataset, name, *published]


def resolves(lake: Lake) -> None:
    """Resolve references of every kind, each against the newest state."""
    for reference in ("bench.d7@v3", "bench.d7@latest", "bench.d7@FINAL", "bench.d7", "bench.d7@#3"):
        for _ in range(20):
            resolve(lake.storage, lake.state(), parse(reference))


def cold(root: str) -> None:
    """Open a lake afresh and resolve one reference."""
    resolve(Storage.open(root), Ledger(Storage.open(root), "bench").state(), parse("bench.d7@v3"))


def main() -> int:
    """Run it; return the exit status."""
    count, found = int(os.environ.get("LAKEHOUSE_BENCH_DECISIONS", "20000")), list[Result]()
    with tempfile.TemporaryDirectory(prefix="lakehouse-bench-") as base:
        rates("local", f"{base}/rates", 160)
        if (bucket := os.environ.get("LAKEHOUSE_BENCH_S3")) and os.environ.get("AWS_ENDPOINT_URL"):
            rates("S3", f"{bucket}/{secrets.token_hex(4)}", 48)
        else:
            print("S3: not measured; set AWS_ENDPOINT_URL and LAKEHOUSE_BENCH_S3=s3://bucket/prefix")
        small, big = large(f"{base}/small", 10, 10), large(f"{base}/big", 10_000, 10)
        for lake in (small, big):
            resolves(lake)
        name = "10,000 datasets, 100,000 versions vs 10, 100"
        found.append(compare(f"resolve: {name}", partial(resolves, big), {"few": partial(resolves, small)}, 5, "<= 3x"))
        one = {"few": partial(small.ledger.decide, bump)}
        found.append(compare(f"decide: {name}", partial(big.ledger.decide, bump), one, 9, "<= 3x"))
        start = time.perf_counter()
        cold(big.root)
        print(f"cold, the whole fold of {name[:33]}: {time.perf_counter() - start:.2f} s")
        lengths = {n: grow(f"{base}/{n}", n) for n in (10, 1_000, count)}
        few = lengths.pop(10)
        for length, ledger in lengths.items():
            for what, run in (("open", lambda ledger: ledger._open()), ("decide", lambda ledger: ledger.decide(bump))):
                name = f"{what} after {length:,} decisions vs 10"
                for warm in (ledger, few):
                    run(warm)
                found.append(compare(name, partial(run, ledger), {"10": partial(run, few)}, 15, "<= 2x"))
    return 0 if all(result.ok for result in found) else 1


if __name__ == "__main__":
    sys.exit(main())
