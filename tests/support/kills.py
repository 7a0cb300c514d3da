"""Processes that are killed: a worker that says what it begins and what it has done, and the one who kills it.

A fork server that has imported everything, but used nothing, starts a worker within some 10 ms.
"""

from __future__ import annotations

import itertools
import os
import random
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import polars  # noqa: F401
import pyarrow as pa

import catalog
import jobs
from jobs.ingest import assets, items
from jobs.ingest import rows as row_module
from jobs.ingest.idx import encode_png
from lakehouse.compaction import optimize
from lakehouse.lake import Lake, connect
from lakehouse.restoring import restore
from lakehouse.vacuum import vacuum

SCHEMA = pa.schema([("id", pa.int64()), ("batch", pa.int64()), ("x", pa.int64())])
ROWS = 5
"""Rows of a batch."""
IMAGES = 12
BATCH_IMAGES = 4
FILES = 3
"""CSV files of one ingest, each a batch of its own."""
ZERO = timedelta(0)
KINDS = ("ingest", "csv", "publish", "milestone", "optimize", "vacuum", "restore", "features", "mix")
_BLIND = 0.2
"""Share of kills at any moment after the start."""
Plan = tuple[str, tuple[Any, ...]]


@dataclass(slots=True)
class Said:
    """One operation, as the worker told of it."""

    what: str
    given: tuple[Any, ...]
    done: bool = False
    result: Any = None


@dataclass(slots=True)
class Killer:
    """Starts workers of one kind on one root and kills them inside their operations."""

    root: str
    kind: str
    material: Path
    draw: random.Random
    spans: dict[str, float] = field(default_factory=dict)
    """Seconds after its begin within which an operation is killed; they follow how long it takes."""
    hit: Counter[str] = field(default_factory=Counter)
    """In which operation the kills fell."""
    begun: int = 0

    def kill(self) -> list[Said]:
        """Start a worker, kill it at a random moment, and return its operations; only the last may be undone."""
        context = get_context("forkserver")
        context.set_forkserver_preload([__name__])
        ours, theirs = context.Pipe(duplex=False)
        environment = {k: v for k, v in os.environ.items() if k.startswith("AWS_")}
        given = (theirs, self.root, self.kind, self.material, self.begun, self.draw.random(), environment)
        process = context.Process(target=work, args=given, daemon=True)
        process.start()
        theirs.close()
        assert ours.recv() == ("ready",)
        said = list[Said]()
        with ours:
            target = self._wait_for_target(ours, said)
            span = self.spans.setdefault(target, 1.0 if self.root.startswith("s3://") else 0.2)
            time.sleep(self.draw.uniform(0.0, span))
            process.kill()
            process.join()
            reached = len(said)
            for message in _drained(ours):
                _note(said, message)
        survived = bool(said) and said[max(reached, 1) - 1].done
        self.spans[target] = max(0.02, span * (0.9 if survived else 1.1))
        self.begun += len(said)
        self.hit["none" if not said or said[-1].done else said[-1].what] += 1
        return said

    def _wait_for_target(self, connection: Connection, said: list[Said]) -> str:
        """Wait until the operation begins in which the kill should fall, mostly one that the kind is named after."""
        if self.draw.random() < _BLIND:
            return "any"
        begins = self.draw.randint(1, 4) if self.kind == "mix" else 0
        while True:
            _note(said, connection.recv())
            if not said[-1].done and (said[-1].what == self.kind or len(said) == begins):
                return said[-1].what


def _note(said: list[Said], message: tuple[Any, ...]) -> None:
    if message[0] == "begin":
        said.append(Said(*message[1:]))
    elif message[0] == "done":
        said[-1].done, said[-1].result = True, message[1]
    else:
        raise AssertionError(f"{said[-1:]} failed:\n{message[1]}")


def _drained(connection: Connection) -> Iterator[tuple[Any, ...]]:
    try:
        while True:
            yield connection.recv()
    except EOFError:
        return


def work(
    connection: Connection,
    root: str,
    kind: str,
    material: Path,
    begun: int,
    seed: float,
    environment: dict[str, str],
) -> None:
    """Do operations of one kind until killed."""
    os.environ.update(environment)
    small_batches()
    try:
        lake, draw = connect(root), random.Random(seed)
        connection.send(("ready",))
        for number in itertools.count(begun):
            what, given = choose(lake, kind, material, number, draw)
            connection.send(("begin", what, given))
            connection.send(("done", OPERATIONS[what](lake, *given)))
    except BaseException:  # noqa: BLE001 - the test has to see everything, also a panic
        connection.send(("failed", traceback.format_exc()))


def small_batches(change: Callable[[object, str, int], None] = setattr) -> None:
    """Commit every few items or rows."""
    for name in ("BATCH_ROWS", "_GROUP_ITEMS"):
        change(assets, name, BATCH_IMAGES)
    change(items, "_LOAD_ITEMS", 2)
    change(row_module, "BATCH_ROWS", 1)


# -- what workers do ----------------------------------------------------------------------------------------------


_CYCLES: dict[str, tuple[str, ...]] = {
    "ingest": ("ingest",),
    "csv": ("csv",),
    "features": ("ingest", "features"),
    "publish": ("append", "publish"),
    "milestone": ("append", "append_other", "publish", "publish_other", "milestone"),
    "optimize": ("append", "append", "optimize", "merge", "optimize"),
    "vacuum": ("append", "merge", "vacuum", "snapshot", "delete", "vacuum"),
    "restore": ("append", "restore", "publish", "delete", "restore"),
}
_MIX: tuple[str, ...] = (
    "append",
    "append_other",
    "merge",
    "delete",
    "publish",
    "milestone",
    "optimize",
    "vacuum",
    "snapshot",
    "restore",
)


def choose(lake: Lake, kind: str, material: Path, number: int, draw: random.Random) -> Plan:
    """Return operation number `number` of a kind, and what is given to it."""
    what = draw.choice(_MIX) if kind == "mix" else _CYCLES[kind][number % len(_CYCLES[kind])]
    if what in ("ingest", "csv"):
        return what, (material / what / f"{number:05d}",)
    if what in ("features", "milestone"):
        return what, ()
    what, _, other = what.partition("_")
    name = "u" if other else "t"
    if what == "append":
        return what, (name, number)
    if what in ("delete", "merge"):
        known = lake.read(name).to_arrow(["batch"]).column("batch").unique().to_pylist()
        return what, (name, draw.choice([*known, number]), *((number,) if what == "merge" else ()))
    if what == "optimize":
        return what, (name, draw.choice(("pack", "sort", "zorder")))
    if what == "restore":
        return what, (name, draw.choice(catalog.list_versions(lake, name)).number)
    if what == "snapshot":
        return what, (f"s{number}", f"{name}@#{lake.table(name).version()}")
    return what, (name,)


def batch(number: int, stamp: int | None = None) -> pa.Table:
    """Return the rows of one batch."""
    ids = [number * ROWS + i for i in range(ROWS)]
    return pa.table({"id": ids, "batch": [number] * ROWS, "x": [number if stamp is None else stamp] * ROWS})


def _append(lake: Lake, name: str, number: int) -> int:
    return lake.table(name).append(batch(number)).table_version


def _merge(lake: Lake, name: str, known: int, number: int) -> int:
    rows = [batch(known, number), *([batch(number)] if known != number else [])]
    return lake.table(name).merge(pa.concat_tables(rows)).table_version


def _delete(lake: Lake, name: str, number: int) -> int:
    return lake.table(name).delete(f"batch = {number}").table_version


def _optimize(lake: Lake, name: str, way: str) -> None:
    arguments: dict[str, Any] = {"pack": {}, "sort": {"sort": True, "full": True}, "zorder": {"zorder": ["x", "id"]}}[
        way
    ]
    optimize(lake, name, **arguments)


def _vacuum(lake: Lake, name: str) -> None:
    vacuum(lake, lake.table(name).dataset, keep_for=ZERO)


def ingest(lake: Lake, folder: Path, *, resume: bool = False) -> None:
    """Take a folder of images, or merge a folder of CSV files."""
    if folder.parent.name == "ingest":
        jobs.ingest(lake, folder, dataset="photos", resume=resume)
    else:
        files = sorted(folder.iterdir())
        jobs.ingest(lake, files, dataset="rows", mode="merge", key=["id"], resume=resume)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "append": _append,
    "merge": _merge,
    "delete": _delete,
    "publish": lambda lake, name: catalog.publish(lake, name).number,
    "milestone": lambda lake: catalog.publish_milestone(lake, "m").version.number,
    "snapshot": lambda lake, name, reference: lake.snapshot(name, [reference]).members[0].table_version,
    "optimize": _optimize,
    "vacuum": _vacuum,
    "restore": lambda lake, name, number: restore(lake, name, f"{name}@v{number}").table_version,
    "ingest": ingest,
    "csv": ingest,
    "features": lambda lake: jobs.run_features(lake, "photos", workers=1).processed,
}


# -- what is ingested ---------------------------------------------------------------------------------------------


def make_material(base: Path, kind: str, count: int) -> None:
    """Make the folders that operations of a kind ingest: images, one of them broken, or CSV files that overlap."""
    for number in range(count) if kind in ("ingest", "features") else ():
        folder = base / "ingest" / f"{number:05d}"
        folder.mkdir(parents=True)
        for i in range(IMAGES):
            seed = 0 if i == IMAGES - 1 else number * IMAGES + i  # the last one is the same in all folders
            pixels = np.random.default_rng(seed).integers(0, 256, (8, 8), np.uint8)
            (folder / f"{number:05d}-{i:02d}.png").write_bytes(encode_png(pixels))
        (folder / f"{number:05d}-broken.png").write_bytes(b"no image")
    for number in range(count) if kind == "csv" else ():
        folder = base / "csv" / f"{number:05d}"
        folder.mkdir(parents=True)
        for i in range(FILES):
            lines = [f"{key},{number}" for key in csv_keys(number, i)]
            (folder / f"{i}.csv").write_text("\n".join(["id,x", *lines, ""]))


def csv_keys(number: int, file: int) -> list[int]:
    """Return the keys in one CSV file of an ingest: two that the ingest before had too, two new ones."""
    first = (number * FILES + file) * 2
    return [first - 2 * FILES + i for i in range(2)] + [first + i for i in range(2)]


__all__ = ["KINDS", "Killer", "Said", "batch", "csv_keys", "ingest", "make_material", "small_batches"]
