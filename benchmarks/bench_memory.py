"""Peak memory of each job at two sizes, a factor of ten apart: it must not follow the size.

python benchmarks/bench_memory.py [ROWS [IMAGES]]
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

import catalog
import jobs
import lakehouse
from lakehouse.compaction import optimize
from lakehouse.readers.duck import connect
from lakehouse.restoring import restore

SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.string()), ("value", pa.float64())])
BATCH = 100_000
MERGED = 10_000
LIMIT = 1.5
CEILINGS = {"optimize --sort": 2_048 + 512}
"""MiB of jobs that fill the memory they are given before they spill: DuckDB's limit, and what every process needs."""


def batches(rows: int) -> Iterator[pa.RecordBatch]:
    """Yield rows with ascending ids."""
    for start in range(0, rows, BATCH):
        ids = np.arange(start, start + BATCH)
        names = pa.array([f"name-{n}" for n in ids], pa.string())
        yield pa.record_batch([ids, names, ids * 0.5], schema=SCHEMA)


def append(lake: lakehouse.Lake, rows: int, images: int) -> None:
    """Append a stream in one commit."""
    catalog.create_dataset(lake, "t", SCHEMA, key=["id"])
    lake.table("t").append(pa.RecordBatchReader.from_batches(SCHEMA, batches(rows)))


def merge(lake: lakehouse.Lake, rows: int, images: int) -> None:
    """Merge rows with keys that lie together."""
    ids = np.arange(MERGED)
    lake.table("t").merge(pa.table([ids, [f"new-{n}" for n in ids], ids * 0.1], schema=SCHEMA))


def ingest(lake: lakehouse.Lake, rows: int, images: int) -> None:
    """Take a folder of images."""
    jobs.ingest(lake, Path(lake.root).parent / f"images-{images}", dataset="photos")


JOBS: dict[str, Callable[[lakehouse.Lake, int, int], object]] = {
    "append": append,
    "publish": lambda lake, *_: catalog.publish(lake, "t"),
    "merge": merge,
    "delete": lambda lake, *_: lake.table("t").delete("id % 1000 = 7"),
    "publish again": lambda lake, *_: catalog.publish(lake, "t"),
    "diff": lambda lake, *_: lake.diff("t@v1", "t@v2").counts,
    "optimize --sort": lambda lake, *_: optimize(lake, "t", sort=True, full=True),
    "restore": lambda lake, *_: restore(lake, "t", "t@v1"),
    "vacuum": lambda lake, *_: catalog.vacuum(lake, keep_for="0"),
    "verify --deep": lambda lake, *_: catalog.verify(lake, deep=True),
    "export": lambda lake, rows, _: jobs.export(lake, "t@v2", Path(lake.root).parent / f"out-{rows}", format="parquet"),
    "ingest images": ingest,
    "features": lambda lake, *_: jobs.run_features(lake, "photos", workers=1),
}


def make_images(folder: Path, count: int) -> None:
    """Write small PNG files, each another one."""
    folder.mkdir()
    pixels = np.random.default_rng(1).integers(0, 255, (count, 16, 16, 3), dtype=np.uint8)
    for n in range(count):
        target = BytesIO()
        Image.fromarray(pixels[n]).save(target, "PNG")
        (folder / f"{n:06d}.png").write_bytes(target.getvalue())


def child(job: str, root: str, rows: int, images: int) -> None:
    """Do one job in this process and print its peak memory in MiB."""
    lake = lakehouse.init(root)
    with connect() as con:  # what every process has loaded
        con.execute("select 1")
    JOBS[job](lake, rows, images)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def main() -> None:
    """Run it."""
    if sys.argv[1:2] == ["child"]:
        child(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
        return
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    images = int(sys.argv[2]) if len(sys.argv) > 2 else 20_000
    with tempfile.TemporaryDirectory() as folder:
        sizes = ((rows // 10, images // 10), (rows, images))
        for _, count in sizes:
            make_images(Path(folder) / f"images-{count}", count)
        print(f"peak memory, MiB: {rows // 10:,} and {rows:,} rows, {images // 10:,} and {images:,} images")
        for job in JOBS:
            peaks = []
            for count, pictures in sizes:
                root = str(Path(folder) / f"lake-{count}")
                line = [sys.executable, __file__, "child", job, root, str(count), str(pictures)]
                peaks.append(int(subprocess.run(line, check=True, capture_output=True, text=True).stdout.split()[-1]))
            ratio, ceiling = peaks[1] / peaks[0], CEILINGS.get(job)
            target = f"<= {LIMIT}x" + ("" if ceiling is None else f", and <= {ceiling:,} MiB whatever the size")
            met = ratio <= LIMIT and (ceiling is None or peaks[1] <= ceiling)
            print(
                f"{job:<20} {peaks[0]:>6,} {peaks[1]:>6,}  {ratio:5.2f}x   target {target}   {'ok' if met else 'MISSED'}",
                flush=True,
            )


if __name__ == "__main__":
    main()
