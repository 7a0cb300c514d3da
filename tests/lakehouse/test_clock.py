"""Clocks that jump: the order of commits is that of their versions, whatever time their writers believed it was."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import catalog
from lakehouse import upkeep
from lakehouse.decisions import Decision, NamedSnapshot
from lakehouse.errors import NotFoundError
from lakehouse.lake import Lake, connect
from lakehouse.ledger import LEDGER_KEY, Ledger, State
from lakehouse.logfiles import list_log
from lakehouse.storage import Storage
from lakehouse.vacuum import vacuum
from tests.lakehouse.test_upkeep import decide_often
from tests.support.lakes import SCHEMA, make_lake, make_table, read, rows

DAY_S = 24 * 3600
_TIMES = re.compile(r'"(timestamp|modificationTime|deletionTimestamp)":(\d+)')


class Clock:
    """The clock of a writer: ours is shifted, and so are afterwards the times that delta-rs took from its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
        self._draw, self.off_s, real = random.Random(seed), 0, time.time_ns
        monkeypatch.setattr(time, "time_ns", lambda: real() + self.off_s * 1_000_000_000)

    def jump(self) -> None:
        """Go forth or back by up to ten days."""
        self.off_s = self._draw.randint(-10 * DAY_S, 10 * DAY_S)

    def stamp(self, lake: Lake, name: str, write: Callable[[], object]) -> None:
        """Write under this clock: of what one commit tells, times near the true one are moved by as much."""
        folder = Path(lake.storage.uri(lake.table(name).dataset.location)) / "_delta_log"
        before = set(folder.glob("*.json"))
        write()

        def moved(found: re.Match[str]) -> str:
            told = int(found[2])
            near = abs(told / 1000 - time.time()) < 60
            return f'"{found[1]}":{told + self.off_s * 1000 if near else told}'

        for entry in set(folder.glob("*.json")) - before:
            entry.write_text(_TIMES.sub(moved, entry.read_text()))


def history(lake: Lake) -> dict[int, datetime]:
    """Return the time of each table version as the log shows it, oldest first."""
    return {e.table_version: e.created_at for e in reversed(lake.table("t").log())}


@pytest.mark.parametrize("seed", range(4))
def test_commits_under_jumping_clocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Times of the log never go back, `@time` agrees with the log, published rows keep their order; also when folded."""
    lake, clock = make_lake(str(tmp_path / "lake")), Clock(monkeypatch, seed)
    table = make_table(lake, "t", SCHEMA, key=["id"])
    published = {}
    for n in range(6):
        for write in (
            lambda n=n: table.append(rows((n, "a", 1.0), (100 + n, "a", 1.0))),
            lambda n=n: table.merge(rows((n, "b", 2.0), (200 + n, "new", 2.0))),
            lambda n=n: table.delete(f"id = {100 + n}"),
        ):
            clock.jump()
            clock.stamp(lake, "t", write)
        if n % 2 == 0:
            clock.jump()
            published[catalog.publish(connect(lake.root), "t").number] = read(connect(lake.root), "t")
    lake = connect(lake.root)
    times = history(lake)
    assert list(times) == list(range(len(times)))
    assert list(times.values()) == sorted(times.values())
    newest = {at: version for version, at in times.items()}
    for at, version in newest.items():
        assert lake.resolve(f"t@{at.isoformat()}").table_version == version
    assert {n: read(lake, f"t@v{n}") for n in published} == published
    vacuum(lake, lake.table("t").dataset, keep_for=timedelta())
    fresh = connect(lake.root)
    assert history(fresh) == times
    kept = {fresh.resolve(f"t@v{n}").table_version for n in published} | {len(times) - 1}
    for at, version in newest.items():
        if version in kept:
            assert fresh.resolve(f"t@{at.isoformat()}").table_version == version
        else:
            with pytest.raises(NotFoundError) as caught:
                fresh.resolve(f"t@{at.isoformat()}")
            assert caught.value.kind == "version-folded"
    assert {n: read(fresh, f"t@v{n}") for n in published} == published


@pytest.mark.parametrize(("minutes", "kept"), [(1, True), (60, False)])
def test_expiry_tolerates_another_clock(tmp_path: Path, minutes: int, kept: bool) -> None:
    """What expired a moment ago by this machine's clock is still kept for readers whose clock is behind."""
    lake = make_lake(str(tmp_path / "lake"))
    table = make_table(lake, "t", SCHEMA)
    version = table.append(rows((1, "a", 1.0))).table_version
    lake.snapshot("s", ["t"], expires="1h")
    table.overwrite(rows((2, "b", 1.0)))

    def expire(state: State) -> tuple[None, list[Decision]]:
        found = state.get(NamedSnapshot, "s")
        assert found is not None
        over = datetime.now(UTC) - timedelta(minutes=minutes)
        return None, [Decision.put("test", replace(found, expires_at=over))]

    lake.ledger.decide(expire)
    assert (version in vacuum(lake, table.dataset, keep_for=timedelta()).kept) is kept


def test_upkeep_asks_the_stores_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the clocks of deciders jump, nothing of the ledger goes before it is an hour old, and nothing is lost."""
    ledger, clock = Ledger(Storage.open(str(tmp_path / "lake")), "me"), Clock(monkeypatch, 7)
    ledger.create()
    monkeypatch.setattr(upkeep, "EVERY", 4)
    for _ in range(12):
        clock.jump()
        decide_often(ledger, 2)
    entries = list_log(ledger._storage, LEDGER_KEY).entries
    assert entries == tuple(range(entries[-1] + 1))
    assert Ledger(ledger._storage, "fresh").history().num_rows == 4 + 2 * 24
