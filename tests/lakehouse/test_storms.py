"""Storms: one writer, publishers, clean-ups and rewrites of one table at once, at moments left to chance.

What was pinned reads what the writer wrote, and the head is what it wrote last. Without the rule that nothing pins
what was given up, a storm loses pins.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from threading import Event

import pyarrow as pa
import pytest

import catalog
from lakehouse.compaction import optimize
from lakehouse.decisions import Condemned
from lakehouse.errors import LakeError
from lakehouse.lake import Lake, connect
from lakehouse.restoring import restore
from lakehouse.vacuum import vacuum
from tests.support.lakes import make_lake, make_table

SCHEMA = pa.schema([("id", pa.int64()), ("x", pa.int64())])
LATE = {"version-folded", "vacuum-overtaken", "table-changed"}
"""What may be said to who was too late: nothing was promised."""
Rows = dict[int, int]


@dataclass(slots=True)
class Storm:
    """One storm over one lake."""

    root: str
    seed: int
    attempts: int
    """Pins that each of two publishers tries."""
    careful: bool = True
    """False: whatever error comes is let pass; what was promised counts."""
    over: Event = field(default_factory=Event)
    head: Rows = field(default_factory=dict)
    known: dict[int, Rows] = field(default_factory=dict)
    """What the writer wrote, by table version."""
    pinned: list[tuple[str, int]] = field(default_factory=list)
    """References that were promised, and their table versions."""
    late: list[str] = field(default_factory=list)

    def blow(self) -> None:
        """Let all work at once until the publishers are done."""
        lake = make_lake(self.root)
        self.known[0] = {}
        make_table(lake, "t", SCHEMA, key=["id"])
        with ThreadPoolExecutor(6) as pool:
            publishers = [pool.submit(self._publish, i) for i in range(2)]
            others = [
                pool.submit(self._repeat, step) for step in (self._write, self._clean, self._clean, self._rewrite)
            ]
            try:
                for publisher in publishers:
                    publisher.result()
            finally:
                self.over.set()
            for other in others:
                other.result()

    def lost(self) -> list[str]:
        """Return what does not read as it was written: pinned states, and the head."""
        lake = connect(self.root)
        wrong = [reference for reference, number in self.pinned if not self._reads(lake, reference, number)]
        return wrong + ([] if self._reads(lake, "t", max(self.known)) else ["t"])

    def _reads(self, lake: Lake, reference: str, number: int) -> bool:
        # Between the writer's commits only rewrites come, which change no row.
        expected = self.known[max(n for n in self.known if n <= number)]
        try:
            rows = lake.read(reference).to_arrow()
        except LakeError:
            return False
        return sorted(zip(*(c.to_pylist() for c in rows.columns), strict=True)) == sorted(expected.items())

    def _repeat(self, step: Callable[[Lake, random.Random], None]) -> None:
        lake, draw = connect(self.root), random.Random(f"{self.seed} {step}")
        while not self.over.is_set():
            self._tolerant(lambda: step(lake, draw))

    def _tolerant(self, step: Callable[[], None]) -> None:
        try:
            step()
        except LakeError as error:
            if self.careful and error.kind not in LATE:
                raise
            self.late.append(error.kind)

    def _publish(self, number: int) -> None:
        lake, draw = connect(self.root), random.Random(f"{self.seed} {number}")
        for i in range(self.attempts):
            self._tolerant(lambda i=i: self._pin(lake, draw, f"s{number}-{i}"))  # type: ignore[misc]

    def _pin(self, lake: Lake, draw: random.Random, name: str) -> None:
        version = max(0, lake.table("t").version() - draw.randint(0, 3))
        state, way = f"t@#{version}", draw.randint(0, 2)
        if way == 0:
            self.pinned.append((f"t@v{catalog.publish(lake, state).number}", version))
        elif way == 1:
            lake.snapshot(name, [state])
            self.pinned.append((f"t@snap:{name}", version))
        else:
            lake.lease(state)
            self.pinned.append((state, version))

    def _write(self, lake: Lake, draw: random.Random) -> None:
        table, new = lake.table("t"), dict(self.head)
        ids, x = draw.sample(range(30), 4), draw.randint(1, 1_000_000)
        how = draw.choice(("merge", "merge", "delete", "overwrite", "restore"))
        rows = pa.table({"id": ids, "x": [x] * len(ids)}, schema=SCHEMA)
        if how == "merge":
            new.update(dict.fromkeys(ids, x))
            version = table.merge(rows).table_version
        elif how == "delete":
            new = {k: v for k, v in new.items() if k not in ids}
            version = table.delete(f"id in ({', '.join(map(str, ids))})").table_version
        elif how == "overwrite":
            new = dict.fromkeys(ids, x)
            version = table.overwrite(rows).table_version
        else:
            old = draw.choice(list(self.known)[-3:])
            new = self.known[old]
            version = restore(lake, "t", f"t@#{old}").table_version
        self.head = self.known[version] = new

    def _clean(self, lake: Lake, _: random.Random) -> None:
        vacuum(lake, lake.table("t").dataset, keep_for=timedelta(0))

    def _rewrite(self, lake: Lake, draw: random.Random) -> None:
        way = draw.randint(0, 2)
        optimize(lake, "t", sort=way == 1, zorder=["x", "id"] if way == 2 else (), full=draw.random() < 0.5)


def test_storm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """All that was promised holds."""
    storm = Storm(str(tmp_path_factory.mktemp("storm") / "lake"), 0, 10)
    storm.blow()
    assert not storm.lost()
    assert storm.pinned


def test_storm_without_the_rule(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """When what was given up can be pinned, a few storms at most lose a pin."""
    monkeypatch.setattr(Condemned, "covers", lambda *_: False)
    for seed in range(10):
        storm = Storm(str(tmp_path_factory.mktemp("storm") / "lake"), seed, 10, careful=False)
        storm.blow()
        if storm.lost():
            return
    pytest.fail("ten storms without the rule lost nothing")


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(1, 6))
def test_long_storm(root_uri: str, seed: int) -> None:
    """The same for longer, on both backends."""
    storm = Storm(root_uri, seed, 40 if root_uri.startswith("s3://") else 100)
    storm.blow()
    assert not storm.lost()
    assert storm.pinned
    assert storm.late
