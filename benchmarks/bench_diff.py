"""Diffs after a small change of a large table, against a full outer join of both versions, and over table sizes.

python benchmarks/bench_diff.py
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from _timing import compare

import catalog
import lakehouse
from lakehouse.compaction import optimize
from lakehouse.diff import Via
from lakehouse.readers.duck import string
from lakehouse.vacuum import vacuum

ROWS, FILES, CHANGED = 10_000_000, 20, 10_000
NAMES = ("id", "amount", "ratio", "label")


def rows(ids: np.ndarray, shift: int = 0) -> pa.Table:
    """Rows of these keys; another shift gives each other values."""
    values = ids * 2_654_435_761 % 1_000_003 + shift
    label = pa.array(np.char.add("label-", (values % 5_000).astype(str)), pa.string())
    return pa.table(
        {"id": pa.array(ids, pa.int64()), "amount": pa.array(values), "ratio": values / 1_000_003, "label": label}
    )


def filled(lake: lakehouse.Lake, name: str, count: int) -> None:
    """Make a published dataset of so many rows, sorted by key, in FILES files."""
    catalog.create_dataset(lake, name, rows(np.arange(1)).schema, key=["id"])
    part = count // FILES
    for n in range(FILES):
        lake.table(name).append(rows(np.arange(n * part, (n + 1) * part)))
    catalog.publish(lake, name)


def changed(lake: lakehouse.Lake, name: str, ids: np.ndarray) -> None:
    """Change the rows of these keys by a merge, and publish."""
    lake.table(name).merge(rows(ids, shift=1))
    catalog.publish(lake, name)


Answer = tuple[int, list[int]]


def ours(lake: lakehouse.Lake, name: str, via: Via, old: str = "v1", new: str = "v2") -> Callable[[], Answer]:
    """Return a call that gives the number of changed rows and their keys, by the way that is expected."""

    def run() -> Answer:
        found = lake.diff(f"{name}@{old}", f"{name}@{new}")
        assert found.via is via, found.compared
        keys = pa.Table.from_batches(found.differing())
        return found.counts.changed, keys.column("id").to_pylist()

    return run


def outer_join(lake: lakehouse.Lake, name: str, old: str = "v1", new: str = "v2") -> Callable[[], Answer]:
    """Return a call that gives the same by a full outer join of both versions in DuckDB."""

    def run() -> Answer:
        source = {
            side: f"read_parquet([{', '.join(map(string, lake.read(f'{name}@{ref}').files()))}])"
            for side, ref in (("o", old), ("n", new))
        }
        differs = " or ".join(f"o.{c} is distinct from n.{c}" for c in NAMES)
        with duckdb.connect() as con:
            found = con.execute(
                f"select coalesce(o.id, n.id) as id from {source['o']} o full join {source['n']} n on o.id = n.id "
                f"where {differs} order by id"
            ).fetchnumpy()["id"]
        return len(found), found.tolist()

    return run


def against_join(
    lake: lakehouse.Lake, name: str, what: str, via: Via, old: str = "v1", new: str = "v2", limit: str = ">= 20x"
) -> None:
    """Compare one diff with the join, after checking that both say the same."""
    mine, theirs = ours(lake, name, via, old, new), outer_join(lake, name, old, new)
    expected = theirs()
    assert mine() == expected
    compare(f"diff, {what}, {via}", mine, {"outer join": theirs}, 5, limit)


def main() -> None:
    """Run it."""
    random = np.random.default_rng(7)
    with tempfile.TemporaryDirectory() as folder:
        lake = lakehouse.init(Path(folder) / "lake")
        for name, count in (("bench.large", ROWS), ("bench.small", ROWS // 10)):
            filled(lake, name, count)
            changed(lake, name, np.arange(count // 2, count // 2 + CHANGED))
        filled(lake, "bench.random", ROWS)
        changed(lake, "bench.random", np.sort(random.choice(ROWS, CHANGED, replace=False)))
        for name, what in (("bench.large", "contiguous keys"), ("bench.random", "random keys")):
            against_join(lake, name, what, Via.STORED)
            # The same change once more, not published: by the feed of the commit.
            ids = ours(lake, name, Via.STORED)()[1]
            lake.table(name).merge(rows(np.array(ids), shift=2))
            # Random keys have to be looked for in all of the table, to prove that no other row has one.
            target = ">= 20x" if name == "bench.large" else ">= 3x"
            against_join(lake, name, what, Via.FEED, "v2", "head", target)
        large, small = (ours(lake, f"bench.{name}", Via.STORED) for name in ("large", "small"))
        compare("diff: 10 M rows vs 1 M, stored", large, {"1 M": small}, 9, "<= 1.3x")
        lake.table("bench.small").merge(rows(np.arange(ROWS // 20, ROWS // 20 + CHANGED), shift=2))
        large, small = (ours(lake, f"bench.{name}", Via.FEED, "v2", "head") for name in ("large", "small"))
        compare("diff: 10 M rows vs 1 M, feed", large, {"1 M": small}, 9, "<= 1.3x")
        for name, what in (("bench.large", "contiguous keys"), ("bench.random", "random keys")):
            catalog.publish(lake, name)
            optimize(lake, name, full=True)
            catalog.publish(lake, name)
            vacuum(lake, catalog.show_dataset(lake, name).dataset, keep_for=timedelta(0))
            against_join(lake, name, f"{what}, optimized and vacuumed", Via.STORED)
            # Over several versions the rows of all stored keys are compared, in data that was all rewritten.
            against_join(lake, name, f"{what}, over three versions", Via.STORED, "v1", "v4", ">= 1x")


if __name__ == "__main__":
    main()
