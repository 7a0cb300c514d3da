"""Merge of 10,000 rows into 10 million by key, against deltalake's own: time, peak memory, files rewritten.

python benchmarks/bench_merge.py [ROWS]

Half of the rows given are new, half change a row. Clustered: their keys lie close together; random: anywhere. The table
is made of appends in the order of the key, so that every file has a key range of its own. Each merge runs in a process
of its own, on a copy of the same table; deltalake's is a plain `merge` on the key with its default settings.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from _timing import Result
from deltalake import DeltaTable

import catalog
import lakehouse

ROWS, GIVEN, FILES, ROUNDS = 10_000_000, 10_000, 20, 3


def peak_kib() -> int:
    """Return the most memory that this process ever held at once, in KiB."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])


def rows(ids: np.ndarray, value: float) -> pa.Table:
    """Return rows with these keys."""
    noise = np.random.default_rng(int(ids[0])).random(len(ids))
    labels = pa.array(["cat", "dog", "emu", "fox"]).take(pa.array(ids % 4))
    return pa.table({"id": ids * 2, "value": noise + value, "label": labels, "size": ids % 10_007})


def given(kind: str, count: int) -> pa.Table:
    """Return the rows to merge: even keys are there already, odd ones are new."""
    half = GIVEN // 2
    picked = (
        np.arange(half) + count // 3 if kind == "clustered" else np.random.default_rng(3).choice(count, half, False)
    )
    table = rows(np.sort(picked), 1.0)
    return pa.concat_tables([table, table.set_column(0, "id", pa.array(np.sort(picked) * 2 + 1))])


def make(root: str, count: int) -> None:
    """Make the table, in a process of its own, so that later ones start small."""
    lake = lakehouse.init(root)
    catalog.create_dataset(lake, "bench.t", rows(np.arange(4), 0.0).schema, key=["id"])
    for part in np.array_split(np.arange(count), FILES):
        lake.table("bench.t").append(rows(part, 0.0))
    lake.table("bench.t").open().create_checkpoint()


def run(way: str, root: str, kind: str, count: int) -> None:
    """Merge once; print the figures as JSON."""
    table = lakehouse.connect(root).table("bench.t")
    before, source = {Path(f).name for f in lakehouse.connect(root).read("bench.t").files()}, given(kind, count)
    idle, start = peak_kib(), time.perf_counter()
    if way == "ours":
        done = table.merge(source)
        updated, added = done.rows_updated, done.rows_added
    else:
        merger = DeltaTable(table.open().table_uri).merge(source, "t.id = s.id", source_alias="s", target_alias="t")
        told = merger.when_matched_update_all().when_not_matched_insert_all().execute()
        updated, added = told["num_target_rows_updated"], told["num_target_rows_inserted"]
    seconds, peak = time.perf_counter() - start, peak_kib()
    assert (updated, added) == (GIVEN // 2, GIVEN // 2)
    after = {Path(f).name for f in lakehouse.connect(root).read("bench.t").files()}
    print(json.dumps({"seconds": seconds, "mib": (peak - idle) / 1024, "files": len(before - after)}))


def child(*words: str) -> str:
    """Run one step in a process of its own and return what it printed."""
    return subprocess.run([sys.executable, __file__, *words], check=True, capture_output=True, text=True).stdout


def measured(way: str, source: Path, kind: str, count: int) -> dict[str, float]:
    """Merge into a copy of the table; files never change, so links are a copy."""
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        copy = Path(folder) / "lake"
        subprocess.run(["cp", "-al", str(source), str(copy)], check=True)
        found: dict[str, float] = json.loads(child("run", way, str(copy), kind, str(count)))
        return found


def main(count: int) -> None:
    """Run it."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "lake"
        child("make", str(source), str(count))
        for kind in ("clustered", "random"):
            ways: dict[str, list[dict[str, float]]] = {"ours": [], "deltalake": []}
            for turn in range(ROUNDS):
                for way in list(ways) if turn % 2 == 0 else list(ways)[::-1]:
                    ways[way].append(measured(way, source, kind, count))
            for figure, unit in (("seconds", "time"), ("mib", "memory")):
                ratios = [a[figure] / b[figure] for a, b in zip(*ways.values(), strict=True)]
                name = f"merge {GIVEN:,} into {count:,}, {kind}: {unit}"
                seconds = {way: statistics.median(r["seconds"] for r in found) for way, found in ways.items()}
                print(Result(name, statistics.median(ratios), min(ratios), max(ratios), "", seconds), flush=True)
            for way, found in ways.items():
                memory = statistics.median(r["mib"] for r in found)
                print(f"    {way}: {found[0]['files']:.0f} of {FILES} files rewritten, {memory:,.0f} MiB", flush=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", root, count]:
            make(root, int(count))
        case ["run", way, root, kind, count]:
            run(way, root, kind, int(count))
        case _:
            main(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS)
