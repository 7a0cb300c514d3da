"""Long histories: what open, commit, publish, resolve and log cost after 10, 1,000 and 20,000 commits.

python benchmarks/bench_history.py [COMMITS]
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from _history import ROWS, dataset_with
from _timing import compare
from deltalake import DeltaTable, write_deltalake

import catalog
import lakehouse
from lakehouse.compaction import optimize
from lakehouse.vacuum import vacuum


def raw_commit(uri: str) -> None:
    """Append with delta-rs alone."""
    write_deltalake(uri, ROWS, mode="append")


def main() -> None:
    """Run it."""
    most = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    with tempfile.TemporaryDirectory() as folder:
        lake = lakehouse.init(Path(folder) / "lake")
        uris = {}
        for count in (10, 1_000, most):
            name = f"bench.of{count}"
            dataset_with(lake, name, count)
            raw = lake.storage.uri(dataset_with(lake, f"bench.raw{count}", count).location)
            uris[count] = raw
            optimize(lake, name)
            freed = vacuum(lake, catalog.show_dataset(lake, name).dataset, keep_for=timedelta(0))
            print(
                f"{count:,} commits: {freed.versions:,} versions, {freed.files:,} files, {freed.log_files:,} log files freed"
            )
            catalog.publish(lake, name)
        steps: dict[str, Callable[[int], object]] = {
            "open": lambda n: lake.table(f"bench.of{n}").open(),
            "read": lambda n: lake.read(f"bench.of{n}").num_rows,
            "commit": lambda n: lake.table(f"bench.of{n}").append(ROWS),
            "publish": lambda n: catalog.publish(lake, f"bench.of{n}"),
            "resolve": lambda n: lake.resolve(f"bench.of{n}@v1"),
            "log -n 20": lambda n: lake.table(f"bench.of{n}").log(20),
        }
        for count in (1_000, most):
            for step, act in steps.items():
                compare(
                    f"{step}: {count:,} commits vs 10",
                    lambda act=act, count=count: act(count),  # type: ignore[misc]
                    {"10": lambda act=act: act(10)},  # type: ignore[misc]
                    15,
                    "<= 2x",
                )
        for count in (1_000, most):
            compare(
                f"raw delta-rs open: {count:,} commits vs 10",
                lambda count=count: DeltaTable(uris[count]),  # type: ignore[misc]
                {"10": lambda: DeltaTable(uris[10])},
            )
            compare(
                f"raw delta-rs commit: {count:,} commits vs 10",
                lambda count=count: raw_commit(uris[count]),  # type: ignore[misc]
                {"10": lambda: raw_commit(uris[10])},
            )


if __name__ == "__main__":
    main()
