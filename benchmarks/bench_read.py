"""Reading through a reference against DuckDB and Polars on the same files.

10 M rows in 20 files: a full aggregate and a selective predicate, through SQL against DuckDB's own `read_parquet`, and
through `snap.scan()` against Polars' own `scan_parquet`. The ratio that counts is the faster of our two faces against
the faster of the two peers, in the same round.

    python benchmarks/bench_read.py [--rows 10000000]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
from _timing import compare

import catalog
import lakehouse

FILES = 20


def rows_of(count: int, start: int) -> pa.Table:
    """Return rows of an events table: a sorted id, a category, two measures and a short text."""
    random = np.random.default_rng(start)
    ids = np.arange(start, start + count)
    words = np.array([f"device-{i:04d}" for i in range(1_000)])
    return pa.table(
        {
            "id": ids,
            "category": pa.array(random.integers(0, 50, count), pa.int32()),
            "value": random.normal(size=count),
            "weight": random.random(count),
            "device": words[random.integers(0, 1_000, count)],
        }
    )


def make(root: str, rows: int) -> lakehouse.Lake:
    """Make the lake: one dataset of `rows` rows in 20 files, published."""
    lake = lakehouse.init(root)
    per_file = rows // FILES
    catalog.create_dataset(lake, "bench.events", rows_of(1, 0).schema, key=["id"])
    for i in range(FILES):
        lake.table("bench.events").append(rows_of(per_file, i * per_file))
    catalog.publish(lake, "bench.events")
    return lake


AGGREGATE = "select category, count(*), avg(value), sum(weight), max(device) from {} group by category"
SELECTIVE = "select count(*), sum(weight) from {} where device = 'device-0042' and value > 1"


def aggregate(frame: pl.LazyFrame) -> object:
    """Ask Polars for the full aggregate."""
    wanted = (pl.len(), pl.col("value").mean(), pl.col("weight").sum(), pl.col("device").max())
    return frame.group_by("category").agg(*wanted).collect()


def selective(frame: pl.LazyFrame) -> object:
    """Ask Polars for the rows that satisfy the selective predicate: one in 6,300, all over the files."""
    return (
        frame.filter((pl.col("device") == "device-0042") & (pl.col("value") > 1))
        .select(pl.len(), pl.col("weight").sum())
        .collect()
    )


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--repeat", type=int, default=9)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lake = make(str(Path(folder) / "lake"), args.rows)
        files = lake.read("bench.events@v1").files()
        listed = "read_parquet([" + ", ".join(f"'{f}'" for f in files) + "])"
        # Each engine has one connection that stays open; the reference is resolved again in every round.
        session, con = lake.session(), duckdb.connect()
        for name, sql, frame in (
            ("full aggregate", AGGREGATE, aggregate),
            ("selective predicate", SELECTIVE, selective),
        ):
            ours: dict[str, Callable[[], object]] = {
                "sql": partial(lambda q: session.query(q).fetchall(), sql.format('"bench.events@v1"')),
                "scan": partial(lambda f: f(lake.read("bench.events@v1").scan()), frame),
            }
            peers: dict[str, Callable[[], object]] = {
                "duckdb": partial(lambda q: con.sql(q).fetchall(), sql.format(listed)),
                "polars": partial(lambda f: f(pl.scan_parquet(files)), frame),
            }
            for run in (*ours.values(), *peers.values()):  # warm the page cache and the engines
                run()
            results = [
                compare(f"{name}: SQL vs DuckDB", ours["sql"], {"duckdb": peers["duckdb"]}, args.repeat),
                compare(f"{name}: scan vs Polars", ours["scan"], {"polars": peers["polars"]}, args.repeat),
            ]
            fastest = min(("sql", "scan"), key=lambda way: results[way == "scan"].seconds["ours"])
            compare(f"{name}: {fastest} vs the fastest of both", ours[fastest], peers, args.repeat, "<= 1.05x")


if __name__ == "__main__":
    main()
