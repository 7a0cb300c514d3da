"""Ingest of small images against the limit (read, hash, write one file), `dvc add` and, on S3, one PUT per file.

Prints a line a figure and exits with 1 when a target is missed. `dvc` is compared when LAKEHOUSE_BENCH_DVC names its
program (it can't share an environment with us); S3 when AWS_ENDPOINT_URL is set and LAKEHOUSE_BENCH_S3 names a prefix
such as s3://bucket/bench. LAKEHOUSE_BENCH_IMAGES sets the number of images (100,000).
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path

from _timing import compare

import jobs
import lakehouse
from lakehouse.storage import Overwrite, Storage

SIZE = 10 << 10
_HEAD = bytes.fromhex(
    "ffd8ffe000104a46494600010100000100010000"  # SOI, APP0
    "ffc0000b080078007801011100"  # SOF0: 120 x 120 pixels, one channel
    "ffda0008010100003f00"  # SOS
)
_INGEST = """
import json, sys
from pathlib import Path
import jobs, lakehouse

def peak():  # not getrusage: its maximum is inherited from the parent process
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

before = peak()
report = jobs.ingest(lakehouse.init(sys.argv[2]), sys.argv[1], dataset="bench.images")
print(json.dumps({"items": report.ingested, "before": before, "after": peak()}))
"""


def make_images(folder: Path, number: int) -> None:
    """Write images that have a good structure and random bytes for pixels: no decoder is asked."""
    noise = random.Random(7)
    for i in range(number):
        path = folder / f"{i // 1000:03d}"
        path.mkdir(parents=True, exist_ok=True)
        scan = noise.randbytes(SIZE - len(_HEAD) - 2).replace(b"\xff", b"\xfe")
        (path / f"{i:06d}.jpg").write_bytes(_HEAD + scan + b"\xff\xd9")


def files(folder: Path) -> Iterator[Path]:
    """All images in order."""
    for part in sorted(folder.iterdir()):
        yield from sorted(part.iterdir())


def limit(folder: Path, target: Path, *, durable: bool) -> None:
    """Read, hash and write the same bytes, one after the other; `durable`: to the disk, as an ingest does."""
    with target.open("wb") as out:
        for path in files(folder):
            data = path.read_bytes()
            hashlib.sha256(data).hexdigest()
            out.write(data)
        out.flush()
        if durable:
            os.fsync(out.fileno())


def ours(folder: Path, lakes: Iterator[lakehouse.Lake]) -> None:
    """Ingest into a fresh lakehouse."""
    report = jobs.ingest(next(lakes), folder, dataset="bench.images")
    assert report.rejected == 0, report


def dvc_add(program: str, folder: Path, workspaces: Iterator[Path]) -> None:
    """`dvc add` of the folder into a fresh workspace, whose cache takes copies."""
    workspace = next(workspaces)
    workspace.mkdir()
    run = partial(subprocess.run, cwd=workspace, check=True, capture_output=True)
    run([program, "init", "--no-scm", "-q"])
    run([program, "config", "cache.type", "copy"])
    run([program, "add", "-q", "--out", "images", str(folder)])


def one_put_each(folder: Path, prefixes: Iterator[str]) -> None:
    """Each file as an object of its own, 16 at once: what `dvc push` does."""
    store = Storage.open(next(prefixes))

    def put(path: Path) -> None:
        store.put(path.name, path.read_bytes(), Overwrite())

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(put, files(folder)))


def memory(folder: Path, root: Path) -> dict[str, int]:
    """Peak memory of an ingest in a process of its own, in kB, and that before it."""
    done = subprocess.run([sys.executable, "-c", _INGEST, folder, root], check=True, capture_output=True, text=True)
    found: dict[str, int] = json.loads(done.stdout)
    return found


def main() -> int:
    """Run all comparisons; return the exit status."""
    number = int(os.environ.get("LAKEHOUSE_BENCH_IMAGES", "100000"))
    good = True
    with tempfile.TemporaryDirectory(prefix="lakehouse-bench-") as scratch:
        base = Path(scratch)
        many, few = base / "many", base / "few"
        make_images(many, number)
        make_images(few, number // 10)
        # Made beforehand: `init` proves the store by races, which is no part of an ingest.
        lakes = iter([lakehouse.init(base / f"lake-{i}") for i in range(8)])
        way = partial(ours, many, lakes)
        # As many times faster than the limit: 1 would be no cost of our own.
        for durable, name in ((True, "the limit on disk"), (False, "the limit in the page cache")):
            peers = {"read, hash, write": partial(limit, many, base / "out.bin", durable=durable)}
            good &= compare(f"ingest of {number:,} images vs {name}", way, peers, repeat=3, limit=">= 0.6x").ok
        good &= against_dvc(base, many, way)
        for path in base.glob("lake-*"):
            shutil.rmtree(path)
        good &= peak(base, few, many, number)
        if (bucket := os.environ.get("LAKEHOUSE_BENCH_S3")) and os.environ.get("AWS_ENDPOINT_URL"):
            tag = random.SystemRandom().randbytes(4).hex()
            on_s3 = iter([lakehouse.init(f"{bucket}/{tag}/lake-{i}") for i in range(3)])
            single = (f"{bucket}/{tag}/single-{i}" for i in count())
            name = f"ingest of {number // 10:,} images to S3 vs one PUT each"
            rivals = {"one PUT each": partial(one_put_each, few, single)}
            good &= compare(name, partial(ours, few, on_s3), rivals, repeat=3, limit=">= 10x").ok
        else:
            print("S3: not compared; set AWS_ENDPOINT_URL and LAKEHOUSE_BENCH_S3=s3://bucket/prefix")
    return 0 if good else 1


def against_dvc(base: Path, folder: Path, way: partial[None]) -> bool:
    """Compare with `dvc add` where there is one."""
    program = os.environ.get("LAKEHOUSE_BENCH_DVC")
    if not program:
        print("dvc add: not compared; set LAKEHOUSE_BENCH_DVC to the path of a dvc program")
        return True
    workspaces = (base / f"dvc-{i}" for i in count())
    rivals = {"dvc add": partial(dvc_add, program, folder, workspaces)}
    return compare("ingest vs dvc add", way, rivals, repeat=2, limit=">= 4x").ok


def peak(base: Path, few: Path, many: Path, number: int) -> bool:
    """Print the peak memory of a small and a large ingest; the target is under 1 GiB, and flat."""
    small, large = memory(few, base / "small"), memory(many, base / "large")
    grown = large["after"] / small["after"]
    for images, found in ((number // 10, small), (number, large)):
        print(f"peak memory, {images:,} images: {found['after'] >> 10} MiB ({found['before'] >> 10} MiB at the start)")
    good = large["after"] < 1 << 20 and grown <= 1.25
    print(
        f"peak memory, {number:,} vs {number // 10:,}: {grown:.2f}x   target <= 1.25x, < 1 GiB   {'ok' if good else 'MISSED'}"
    )
    return good


if __name__ == "__main__":
    sys.exit(main())
