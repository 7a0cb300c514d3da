"""What must be true of a root after the one process that wrote to it was killed."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import catalog
import jobs
from lakehouse.decisions import Condemned, Dataset
from lakehouse.delta import list_files
from lakehouse.errors import NotFoundError
from lakehouse.lake import Lake, connect
from lakehouse.pins import pinned_versions
from lakehouse.sweep import ORPHAN_AGE, sweep
from lakehouse.sweep_bytes import sweep_bytes
from lakehouse.vacuum import plan_vacuum, survey, vacuum
from tests.support.kills import BATCH_IMAGES, FILES, IMAGES, ROWS, ZERO, Said, csv_keys, ingest

Row = tuple[Any, ...]
Rows = dict[int, Row]
"""The rows of a table by their id."""
LOOKS = 4
"""Pinned states that are read again after each kill, besides the new ones."""


@dataclass(slots=True)
class Tables:
    """The tables `t` and `u`, and the milestone `m` of both: what they hold, and what every pinned state reads."""

    root: str
    draw: random.Random
    heads: dict[str, Rows] = field(default_factory=lambda: {"t": {}, "u": {}})
    versions: dict[str, list[Rows]] = field(default_factory=lambda: {"t": [], "u": []})
    """Of each table, the rows of v1, v2, ..."""
    milestones: list[dict[str, int]] = field(default_factory=list)
    """Of each version of the milestone, the versions of its members."""
    snapshots: dict[str, Rows] = field(default_factory=dict)
    read: dict[str, list[Row]] = field(default_factory=dict)
    """What each pinned reference read first, in its order."""
    logs: dict[str, dict[int, tuple[datetime, str]]] = field(default_factory=lambda: {"t": {}, "u": {}})

    def follow(self, said: list[Said]) -> None:
        """Take over what was acknowledged, and of an operation that was not either all of it or nothing."""
        lake = connect(self.root)
        for one in said:
            if one.done or self._landed(lake, one):
                self._apply(one)

    def _landed(self, lake: Lake, one: Said) -> bool:
        name = "t" if not one.given or one.given[0] not in self.heads else one.given[0]
        if one.what == "publish":
            return len(catalog.list_versions(lake, name)) > len(self.versions[name])
        if one.what == "milestone":
            return catalog.list_milestones(lake)[0].last_version > len(self.milestones)
        if one.what == "snapshot":
            return any(s.name == one.given[0] for s in catalog.list_snapshots(lake))
        return _by_id(_rows(lake, name)) != self.heads[name]

    def _apply(self, one: Said) -> None:
        given = one.given
        if one.what == "milestone":
            members = {name: len(known) for name, known in self.versions.items()}
            if self.milestones[-1:] != [members]:  # without anything new the last one is told again
                self.milestones.append(members)
            assert one.result in (None, len(self.milestones))
            return
        if one.what == "snapshot":
            self.snapshots[given[0]] = dict(self.heads["t"])
            return
        head = self.heads[given[0]]
        if one.what == "append":
            head.update(_made(given[1]))
        elif one.what == "merge":
            head.update({**_made(given[2]), **_made(given[1], given[2])})
        elif one.what == "delete":
            self.heads[given[0]] = {k: row for k, row in head.items() if row[1] != given[1]}
        elif one.what == "restore":
            self.heads[given[0]] = dict(self.versions[given[0]][given[1] - 1])
        elif one.what == "publish":
            self.versions[given[0]].append(dict(head))
            assert one.result in (None, len(self.versions[given[0]]))

    def check(self, *, all_of_it: bool = False) -> None:
        """Look at the root as a fresh process does: heads, pinned states, the milestone, the log."""
        lake = connect(self.root)
        for name, head in self.heads.items():
            assert _by_id(_rows(lake, name)) == head
            numbers = [v.number for v in catalog.list_versions(lake, name)]
            assert numbers == list(range(len(self.versions[name]), 0, -1))
            self._check_log(lake, name)
        assert catalog.list_milestones(lake)[0].last_version == len(self.milestones)
        for number, members in enumerate(self.milestones, 1):
            assert {n: m.version for n, m in lake.milestone(f"m/v{number}").datasets.items()} == {
                f"main.{name}": version for name, version in members.items()
            }
        assert {s.name for s in catalog.list_snapshots(lake)} == self.snapshots.keys()
        pinned = dict(self._pinned())
        old = [reference for reference in pinned if reference in self.read]
        again = old if all_of_it else self.draw.sample(old, min(LOOKS, len(old)))
        for reference in [*(r for r in pinned if r not in self.read), *again]:
            rows = _rows(lake, reference)
            assert rows == self.read.setdefault(reference, rows), reference
            assert _by_id(rows) == pinned[reference], reference

    def _pinned(self) -> Iterable[tuple[str, Rows]]:
        for name, versions in self.versions.items():
            yield from ((f"{name}@v{number}", rows) for number, rows in enumerate(versions, 1))
        for number, members in enumerate(self.milestones, 1):
            yield from ((f"{n}@m/v{number}", self.versions[n][version - 1]) for n, version in members.items())
        yield from ((f"t@snap:{name}", rows) for name, rows in self.snapshots.items())

    def _check_log(self, lake: Lake, name: str) -> None:
        """The log has every commit, in order, and tells what it told before."""
        log = lake.table(name).log()
        assert [e.table_version for e in log] == list(range(len(log) - 1, -1, -1))
        assert [e.created_at for e in log] == sorted((e.created_at for e in log), reverse=True)
        told = {e.table_version: (e.created_at, e.operation) for e in log}
        assert self.logs[name].items() <= told.items()
        self.logs[name] = told


def _made(number: int, stamp: int | None = None) -> Rows:
    ids = range(number * ROWS, number * ROWS + ROWS)
    return {i: (i, number, number if stamp is None else stamp) for i in ids}


def _rows(lake: Lake, reference: str) -> list[Row]:
    table = lake.read(reference).to_arrow()
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def _by_id(rows: list[Row]) -> Rows:
    found = {row[0]: row for row in rows}
    assert len(found) == len(rows), "a row is there twice"
    return found


# -- ingests and features -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Ingested:
    """The datasets `photos` and `rows`, filled by ingests: each folder is there whole, or its batches so far."""

    root: str
    folders: list[Path] = field(default_factory=list)

    def follow(self, said: list[Said]) -> None:
        """Check what a killed worker left of its last ingest, and finish it."""
        lake = connect(self.root)
        for one in said:
            if one.what not in ("ingest", "csv"):
                continue
            folder = one.given[0]
            if not one.done:
                (self._check_images if one.what == "ingest" else self._check_rows)(lake, folder)
                resume(lake, folder)
            if folder not in self.folders:
                self.folders.append(folder)

    def check(self, *, all_of_it: bool = False) -> None:
        """Every item of every folder is there once, with its bytes."""
        lake = connect(self.root)
        images = [f for f in self.folders if f.parent.name == "ingest"]
        if images:
            there = lake.read("photos").to_arrow(["path"]).column("path").to_pylist()
            good = [file.name for folder in images for file in folder.iterdir() if "broken" not in file.name]
            assert sorted(there) == sorted(good)
            for folder in images if all_of_it else images[-2:]:
                found = list(lake.read("photos").assets(["path", "sha256"], f"path like '{folder.name}-%'"))
                assert len(found) == IMAGES
                for asset in found:
                    content = (folder / asset.row["path"]).read_bytes()
                    assert asset.data == content
                    assert asset.row["sha256"] == sha256(content).hexdigest()
        numbers = [int(f.name) for f in self.folders if f.parent.name == "csv"]
        if numbers:
            expected = {key: number for number in numbers for i in range(FILES) for key in csv_keys(number, i)}
            rows = _rows(lake, "rows")
            assert {row[0]: row[1] for row in rows} == expected
            assert len(rows) == len(expected)

    def _check_images(self, lake: Lake, folder: Path) -> None:
        """Of an ingest that died whole batches are there."""
        try:
            paths = lake.read("photos").to_arrow(["path"]).column("path").to_pylist()
        except NotFoundError:  # it died before it made the dataset
            return
        own = sorted(path for path in paths if path.startswith(folder.name))
        assert len(own) % BATCH_IMAGES == 0
        assert own == [f"{folder.name}-{i:02d}.png" for i in range(len(own))]

    def _check_rows(self, lake: Lake, folder: Path) -> None:
        try:
            rows = {row[0]: row[1] for row in _rows(lake, "rows")}
        except NotFoundError:
            return
        number = int(folder.name)
        landed = [[rows.get(key) == number for key in csv_keys(number, i)] for i in range(FILES)]
        assert all(all(file) or not any(file) for file in landed)
        assert [any(file) for file in landed] == sorted((any(file) for file in landed), reverse=True)


def resume(lake: Lake, folder: Path) -> None:
    """Finish an ingest that died, or run it if it died before it had a run."""
    try:
        ingest(lake, folder, resume=True)
    except NotFoundError as error:
        if error.kind != "run-not-found":
            raise
        ingest(lake, folder, resume=False)


def check_features(root: str, *, finished: bool) -> None:
    """Features are of assets that are there, each once; after a run that finished, of all of them."""
    lake = connect(root)
    try:
        assets = lake.read("photos").to_arrow(["path", "sha256"]).to_pylist()
        features = lake.read("photos_features").to_arrow(["path", "sha256"]).to_pylist()
    except NotFoundError:
        assert not finished
        return
    known = {row["path"]: row["sha256"] for row in assets}
    found = {row["path"]: row["sha256"] for row in features}
    assert len(found) == len(features)
    assert found.items() <= known.items()
    assert not finished or found == known


def finish_features(root: str) -> None:
    """Run the features again; the run makes good what the dead one left."""
    check_features(root, finished=False)
    jobs.run_features(connect(root), "photos", workers=1)
    check_features(root, finished=True)


# -- clean-up -----------------------------------------------------------------------------------------------------


def check_cleaned(root: str, names: Iterable[str]) -> None:
    """After a vacuum and a sweep the folder of a table has the files of the states that stay, and no others.

    The sweep only sees orphans of an age, so they are made that old, which works on a local disk only; elsewhere what
    is left is what no commit mentions.
    """
    lake = connect(root)
    for name in names:
        try:
            dataset = lake.table(name).dataset
        except NotFoundError:
            continue
        vacuum(lake, dataset, keep_for=ZERO)
        assert not plan_vacuum(lake, dataset, keep_for=ZERO)
        there, needed = _there(lake, dataset), _needed(lake, dataset)
        assert needed <= there
        mentioned = survey(lake, lake.state(), dataset, ZERO).mentioned()
        if lake.storage.is_local:
            _age(lake.storage.root, dataset.location)
            sweep(lake, dataset)
            assert {p for p in _there(lake, dataset) - needed if not p.startswith("_change")} == set()
        assert {p for p in (there - needed) & mentioned if not p.startswith("_change")} == set()


def check_bytes(root: str) -> None:
    """After a sweep of stored bytes there are those that rows point at, and no others (local disks only)."""
    lake = connect(root)
    if lake.storage.is_local:
        _age(lake.storage.root, "_blobs")
        sweep_bytes(lake)
        uris = set(lake.read("photos").to_arrow(["uri"]).column("uri").to_pylist())
        assert {o.key for o in lake.storage.list("_blobs")} == uris


def _there(lake: Lake, dataset: Dataset) -> set[str]:
    found = {o.key.removeprefix(f"{dataset.location}/") for o in lake.storage.list(dataset.location)}
    return {path for path in found if not path.startswith("_delta_log/")}


def _needed(lake: Lake, dataset: Dataset) -> set[str]:
    """Return the files of every state that stays, by opening each."""
    state, table = lake.state(), lake.table(dataset.full_name)
    condemned = state.get(Condemned, dataset.dataset_id)
    first = 0 if condemned is None else condemned.before
    stay = {*pinned_versions(state, dataset.dataset_id), *range(first, table.version() + 1)}
    return {p for v in stay for p in list_files(table.open(v), "").table.column("path").to_pylist()}


def _age(root: str, folder: str) -> None:
    """Make files older than the age of an orphan."""
    old = time.time() - ORPHAN_AGE.total_seconds() - 60
    for file in (Path(root) / folder).rglob("*"):
        if file.is_file() and "_delta_log" not in file.parts:
            os.utime(file, (old, old))


__all__ = ["Ingested", "Tables", "check_bytes", "check_cleaned", "finish_features"]
