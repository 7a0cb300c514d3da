"""Eight processes that publish the members of one milestone and aggregate at once, and are killed and started again.

What they publish is good or bad by chance: rows that fail a check, rows whose key is nowhere, data tags that differ.
Each process writes what it begins and what it has done to a journal, line by line; a reader polls the views meanwhile.
"""

from __future__ import annotations

import json
import os
import random
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import polars  # noqa: F401 - imported before the processes are forked
import pyarrow as pa

import catalog
from lakehouse.decisions import MilestoneVersion
from lakehouse.errors import StateError
from lakehouse.lake import Lake, connect
from tests.support.lakes import make_lake, make_table

PROCESSES = 8
MEMBERS = ("customers", "orders", "items")
PARENT = {"orders": "customers", "items": "orders"}
TAGS = ("FINAL", "REVIEWED", "DRAFT")
"""Versions with the first two count."""
_MOMENT_S = 0.3
"""Seconds within which a process is killed after another one said something."""
SCHEMA = pa.schema([("id", pa.int64()), ("ref", pa.int64()), ("x", pa.int64())])
_ORPHAN = -1
"""A `ref` that no member has as its `id`."""
_BAD = {"check": -5, "warning": 5000}
"""Values of `x` that fail the check of severity error, and the warning that the milestone insists on."""
MEND = f"x < 0 or x > 1000 or ref = {_ORPHAN}"
"""What rows are bad."""
_SHOWN = """
select Milestone_ID, Version_Number, Status, IS_FINAL, IS_REVIEWED,
    list([Dataset_Name, cast(Dataset_Version as varchar), Data_Tag, Ready_Flag] order by Dataset_Name) as members
from Milestone join Milestone_Dataset using (Milestone_ID) group by all order by Version_Number
"""
_UNLINKED = """
select (select count(*) from orders where ref not in (select id from customers))
    + (select count(*) from items where ref not in (select id from orders))
"""


def make(root: str) -> Lake:
    """Make the three members, their checks and the milestone `m`."""
    lake = make_lake(root)
    for name in MEMBERS:
        make_table(lake, name, SCHEMA, key=["id"])
        catalog.add_check(lake, name, "unique", columns=["id"])
        catalog.add_check(lake, name, "range", columns=["x"], parameters={"min": 0}, name="positive")
        catalog.add_check(lake, name, "range", columns=["x"], parameters={"max": 1000}, name="tidy", severity="warning")
    links = [f"{child}.ref -> {parent}.id" for child, parent in PARENT.items()]
    catalog.define_milestone(lake, "m", MEMBERS, data_tags=TAGS[1::-1], links=links, checks=["tidy"])
    for name in MEMBERS:
        _append(lake, name, random.Random(name))
    return lake


# -- one process --------------------------------------------------------------------------------------------------


def work(root: str, journal: Path, seed: str, environment: dict[str, str]) -> None:
    """Publish members, good and bad, and aggregate until killed."""
    os.environ.update(environment)
    draw, lake = random.Random(seed), connect(root)
    with journal.open("a", buffering=1, encoding="utf-8") as out:

        def said(**what: Any) -> None:
            out.write(json.dumps(what) + "\n")

        try:
            while True:
                turn(lake, draw, said)
        except Exception:  # noqa: BLE001 - the test has to see everything
            said(failed=traceback.format_exc())


def turn(lake: Lake, draw: random.Random, said: Callable[..., None]) -> None:
    """Change a member and publish it, or aggregate."""
    name = draw.choice(MEMBERS)
    what = draw.choices(("good", "check", "warning", "orphan", "promote", "aggregate"), (8, 2, 4, 2, 1, 1))[0]
    if what == "aggregate":
        said(begun=what)
        list(catalog.aggregate(lake))
    elif what == "promote":
        said(begun=what)
        versions = catalog.list_versions(lake, name)
        if versions:
            catalog.promote(lake, f"{name}@v{versions[0].number}", "FINAL")
    elif what == "good":
        lake.table(name).delete(MEND)
        _append(lake, name, draw)
        _publish(lake, name, draw.choices(TAGS, (8, 1, 1))[0], said)
    else:
        _append(lake, name, draw, what)
        _publish(lake, name, "FINAL", said)
        lake.table(name).delete(MEND)
        _publish(lake, name, "FINAL", said)


def _append(lake: Lake, name: str, draw: random.Random, bad: str = "") -> None:
    parent = PARENT.get(name)
    known = _good_ids(lake, parent) if parent else [0]
    rows = [{"id": draw.getrandbits(48), "ref": draw.choice(known), "x": draw.randrange(1000)} for _ in range(3)]
    if bad:
        rows[0] |= {"ref": _ORPHAN} if bad == "orphan" and parent else {"x": _BAD.get(bad, 1)}
    lake.table(name).append(pa.Table.from_pylist(rows, schema=SCHEMA))


def _good_ids(lake: Lake, name: str) -> list[int]:
    """Return the ids of a member's newest version that are no bad rows, which would be mended away."""
    published = catalog.list_versions(lake, name)
    state = lake.read(f"{name}@v{published[0].number}" if published else name)
    ids: list[int] = state.to_arrow(["id"], where=f"not ({MEND})").column("id").to_pylist()
    return ids


def _publish(lake: Lake, name: str, data_tag: str, said: Callable[..., None]) -> None:
    said(begun="publish")
    try:
        made = catalog.publish(lake, name, data_tag=data_tag)
    except StateError as error:
        if error.kind != "check-failed":
            raise
        said(refused=name)
    else:
        said(published=name, number=made.number, table_version=made.table_version)


# -- the reader ---------------------------------------------------------------------------------------------------


def look(root: str, journal: Path, over: Path, environment: dict[str, str]) -> None:
    """Poll the views and the newest version as a consumer does, until told to stop."""
    os.environ.update(environment)
    lake, seen = connect(root), dict[str, Any]()
    with journal.open("a", buffering=1, encoding="utf-8") as out:
        try:
            while not over.exists():
                published = _check_views(lake.sql(_SHOWN).fetchall(), seen)
                if published:
                    (unlinked,) = lake.sql(_UNLINKED, milestone=f"m/v{published}").fetchall()[0]
                    assert unlinked == 0, f"v{published} holds {unlinked} rows without their parent"
                out.write(json.dumps({"polled": published}) + "\n")
        except Exception:  # noqa: BLE001
            out.write(json.dumps({"failed": traceback.format_exc()}) + "\n")


def _check_views(rows: list[tuple[Any, ...]], seen: dict[str, Any]) -> int:
    """Assert that what the views show is whole, and what they showed before; return how many versions are published."""
    published = [row for row in rows if row[2] == "Published"]
    assert [row[1] for row in rows] == list(range(1, len(rows) + 1)), rows
    assert len(rows) - len(published) <= 1, rows
    for identity, _, _, final, reviewed, members in published:
        assert sorted(name for name, *_ in members) == sorted(MEMBERS), members
        tags = {tag for _, _, tag, _ in members}
        assert tags in ({"FINAL"}, {"REVIEWED"}), members
        assert (final, reviewed) == (("Y", "N") if tags == {"FINAL"} else ("N", "Y"))
        assert {ready for *_, ready in members} == {"Y"}, members
        assert seen.setdefault(identity, members) == members
    assert set(seen) == {row[0] for row in published}, "a published version is not shown any more"
    return len(published)


# -- who kills and starts again -----------------------------------------------------------------------------------


@dataclass(slots=True)
class Supervisor:
    """Keeps eight processes running on one root, and kills them at random."""

    root: str
    folder: Path
    """Where the journals are."""
    seed: int
    kills: int = 0
    hit: Counter[str] = field(default_factory=Counter)
    """What the killed processes had begun and not done."""
    _running: list[ForkServerProcess] = field(default_factory=list)
    _started: int = 0

    def run(self, kills: int, versions: int) -> None:
        """Kill until so many were killed, so many milestone versions are there and a publication was refused.

        At the end all are killed.
        """
        draw, lake = random.Random(self.seed), connect(self.root)
        reader = self._start(look, self.folder / "reader", self.folder / "over")
        self._running = [self._worker(slot) for slot in range(PROCESSES)]
        try:
            while self.kills < kills or self._made(lake) < versions or not any("refused" in s for s in self.said()):
                self._wait(draw.randint(4, 16))
                time.sleep(draw.uniform(0, _MOMENT_S))
                slot = draw.randrange(PROCESSES)
                assert all(p.is_alive() for p in (reader, *self._running)), list(self._failures())
                self._kill(slot)
                self._running[slot] = self._worker(slot)
        finally:
            for slot in range(PROCESSES):
                self._kill(slot)
            (self.folder / "over").touch()
            reader.join()
        assert not list(self._failures())

    def said(self, slot: int | str | None = None) -> Iterator[dict[str, Any]]:
        """Iterate over what processes said; a line that one died in is no line."""
        for journal in [self.folder / f"{slot}"] if slot is not None else sorted(self.folder.glob("[0-9r]*")):
            for line in journal.read_text(encoding="utf-8").splitlines(keepends=True) if journal.exists() else ():
                if line.endswith("}\n"):
                    yield json.loads(line)

    def _wait(self, lines: int) -> None:
        """Wait until the processes have said so much more: on a slow machine, or store, they are killed more rarely."""
        wanted = self._lines() + lines
        while self._lines() < wanted:
            time.sleep(0.01)

    def _made(self, lake: Lake) -> int:
        return sum(1 for _ in lake.state().all(MilestoneVersion))

    def _lines(self) -> int:
        journals = [self.folder / f"{slot}" for slot in range(PROCESSES)]
        return sum(journal.read_bytes().count(b"\n") for journal in journals if journal.exists())

    def _failures(self) -> Iterator[str]:
        return (line["failed"] for line in self.said() if "failed" in line)

    def _worker(self, slot: int) -> ForkServerProcess:
        self._started += 1
        return self._start(work, self.folder / f"{slot}", f"{self.seed} {self._started}")

    def _start(self, target: Callable[..., None], journal: Path, *given: Any) -> ForkServerProcess:
        context = get_context("forkserver")
        context.set_forkserver_preload([__name__])
        environment = {k: v for k, v in os.environ.items() if k.startswith("AWS_")}
        process = context.Process(target=target, args=(self.root, journal, *given, environment), daemon=True)
        process.start()
        return process

    def _kill(self, slot: int) -> None:
        self._running[slot].kill()
        self._running[slot].join()
        self.kills += 1
        last = list(self.said(slot))[-1:]
        self.hit[last[0].get("begun", "between") if last else "start"] += 1
        with (self.folder / f"{slot}").open("a", encoding="utf-8") as journal:
            journal.write('\n{"killed": true}\n')
