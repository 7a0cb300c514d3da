"""Clean-up: its time follows the number of files, not the number of pinned versions.

python benchmarks/bench_vacuum.py
"""

from __future__ import annotations

import tempfile
import time
from datetime import timedelta
from pathlib import Path

from _history import dataset_with, pin
from _timing import compare
from deltalake import DeltaTable

import lakehouse
from lakehouse.decisions import Dataset
from lakehouse.vacuum import plan_vacuum, vacuum

COMMITS, ADDS, REMOVES = 10_000, 10, 8
"""100,000 files, of which 80 % are history."""
RAW_PINS = 100


def made(lake: lakehouse.Lake, pins: int, commits: int = COMMITS) -> Dataset:
    """Return a dataset with so many pinned versions, spread evenly."""
    dataset = dataset_with(lake, f"bench.pins{pins}_{commits}", commits, ADDS, REMOVES)
    pin(lake, dataset, [1 + i * (commits - 2) // max(pins - 1, 1) for i in range(pins)])
    return dataset


def main() -> None:
    """Run it."""
    none = timedelta(0)
    with tempfile.TemporaryDirectory() as folder:
        lake = lakehouse.init(Path(folder) / "lake")
        few, some, many = made(lake, 10), made(lake, 1_000), made(lake, 10_000 - 1)
        tenth = made(lake, 10, COMMITS // 10)
        plan_vacuum(lake, few)  # reads the ledger once
        for name, dataset in (("1,000", some), ("10,000", many)):
            compare(
                f"plan, {COMMITS * ADDS:,} files: {name} pins vs 10",
                lambda dataset=dataset: plan_vacuum(lake, dataset, keep_for=none),  # type: ignore[misc]
                {"10": lambda: plan_vacuum(lake, few, keep_for=none)},
                3,
                "<= 1.5x",
            )
        compare(
            f"plan, 10 pins: {COMMITS * ADDS:,} files vs {COMMITS * ADDS // 10:,}",
            lambda: plan_vacuum(lake, few, keep_for=none),
            {"a tenth": lambda: plan_vacuum(lake, tenth, keep_for=none)},
            3,
            "<= 12x",
        )
        table = DeltaTable(lake.storage.uri(few.location))
        pins = [1 + i * (COMMITS - 2) // RAW_PINS for i in range(RAW_PINS)]
        compare(
            f"plan with 1,000 pins vs delta-rs keep_versions with {RAW_PINS}",
            lambda: plan_vacuum(lake, some, keep_for=none),
            {"delta-rs": lambda: table.vacuum(0, True, False, full=False, keep_versions=pins)},
            1,
            ">= 1x",
        )
        for name, dataset in (("10", few), ("1,000", some), ("10,000", many)):
            began = time.perf_counter()
            done = vacuum(lake, dataset, keep_for=none)
            again = time.perf_counter()
            vacuum(lake, dataset, keep_for=none)
            print(
                f"vacuum with {name} pins: {done.files:,} files and {done.log_files:,} log files deleted in "
                f"{again - began:.1f} s; run again {time.perf_counter() - again:.2f} s"
            )


if __name__ == "__main__":
    main()
