"""Upkeep of our own tables: they stay small, and nothing that was decided or recorded is lost by it."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse import upkeep
from lakehouse.commits import DATA_PROPERTIES, FACT_PROPERTIES, LEDGER_PROPERTIES
from lakehouse.decisions import Decision, Tag
from lakehouse.errors import NotFoundError, StorageError
from lakehouse.facts import SCHEMAS, Facts
from lakehouse.ledger import LEDGER_KEY, Ledger, State
from lakehouse.logfiles import list_log
from lakehouse.storage import Create, Storage

HOUR_S = 3600
PROCESSES, DECISIONS, EVENTS = 4, 12, 8
TAKER = """
import sys
from tests.lakehouse.test_upkeep import always, next_number
from lakehouse.ledger import Ledger
from lakehouse.storage import Storage
always(1)
ledger = Ledger(Storage.open(sys.argv[1]), "worker")
print("ready", flush=True)
while True:
    print(ledger.decide(next_number).result, flush=True)
"""


@pytest.fixture
def ledger(root_uri: str) -> Ledger:
    """A fresh ledger on each backend."""
    made = Ledger(Storage.open(root_uri), "me")
    assert made.create()
    return made


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Returns a function that makes this process tend every so many commits, and give up at once what was replaced."""
    return lambda every: always(every, monkeypatch.setattr)


def always(every: int, change: Callable[[object, str, Any], None] = setattr) -> None:
    """Tend every so many commits, and give up at once what was replaced."""
    change(upkeep, "EVERY", every)
    change(upkeep, "SAFE_AGE", timedelta(0))


def next_number(state: State) -> tuple[int, list[Decision]]:
    """The rule that takes the next number and keeps a row for it: two things that must agree."""
    top = state.get(Tag, "s/top")
    number = (top.number if top else 0) + 1
    values = [Tag(series="s", name="top", number=number), Tag(series="s", name=f"n{number}", number=number)]
    return number, [Decision.put("take", value) for value in values]


def take_numbers(uri: str, count: int) -> list[int]:
    """Take numbers in a process of its own, tending all the time."""
    always(2)
    own = Ledger(Storage.open(uri), "worker")
    return [own.decide(next_number).result for _ in range(count)]


def watch(uri: str, until: int) -> list[int]:
    """Look at the ledger in a process of its own, through one handle and afresh, until a number was taken."""
    always(2)
    own, seen = Ledger(Storage.open(uri), "reader"), [0]
    while seen[-1] < until:
        for state in (own.state(), Ledger(own._storage, "fresh").state()):
            top = state.get(Tag, "s/top")
            seen.append(top.number if top else 0)
            assert len([t for t in state.all(Tag) if t.name != "top"]) == seen[-1]
        assert len([k for k in own.history().column("key").to_pylist() if k == "s/top"]) >= seen[-1]
    return seen


def add_events(uri: str, worker: int) -> int:
    """Record events in a process of its own, tending all the time, and read what is there."""
    always(2)
    facts = Facts(Storage.open(uri), "worker")
    for number in range(EVENTS):
        facts.append("blobs", event(worker, number), (f"w{worker}", number))
        assert facts.landed("blobs", f"w{worker}") == number
        assert facts.snapshot("blobs") is not None
    return EVENTS


def event(worker: int, number: int) -> pa.Table:
    """Return one row of the facts on stored bytes."""
    row: dict[str, Any] = {f.name: "x" if pa.types.is_string(f.type) else 0 for f in SCHEMAS["blobs"]}
    return pa.Table.from_pylist([row | {"offset": worker, "length": number}], schema=SCHEMAS["blobs"])


def objects(ledger: Ledger) -> list[str]:
    """Return the names of the ledger's objects."""
    return sorted(info.key.removeprefix(f"{LEDGER_KEY}/") for info in ledger._storage.list(LEDGER_KEY))


def age(ledger: Ledger, hours: float) -> None:
    """Make every object of a local ledger older."""
    for path in Path(ledger._storage.uri(LEDGER_KEY)).rglob("*"):
        if path.is_file():
            stamp = path.stat().st_mtime - hours * HOUR_S
            os.utime(path, (stamp, stamp))


def decide_often(ledger: Ledger, count: int) -> None:
    """Take some numbers."""
    for _ in range(count):
        ledger.decide(next_number)


def test_stays_small_and_whole(ledger: Ledger, eager: Callable[[int], None]) -> None:
    """After many decisions few objects are left, and history and state are what they were for readers old and new."""
    old = Ledger(ledger._storage, "old")
    old.state()
    decide_often(ledger, 5)
    before = ledger.history()
    eager(8)
    decide_often(ledger, 30)
    assert len(objects(ledger)) < 3 * 8 + 8
    fresh = Ledger(ledger._storage, "fresh")
    assert fresh.history().slice(0, before.num_rows).equals(before)
    assert [k for k in fresh.history().column("key").to_pylist() if k.startswith("s/n")] == [
        f"s/n{n}" for n in range(1, 36)
    ]
    assert list(old.state().raw()) == list(fresh.state().raw()) == list(ledger.state().raw())
    assert old.decide(next_number).result == 36


def test_nothing_younger_than_the_safe_age_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries and files stay for an hour after they were replaced, then they go; times are the store's own."""
    ledger = Ledger(Storage.open(str(tmp_path / "lake")), "me")
    ledger.create()
    monkeypatch.setattr(upkeep, "EVERY", 8)
    decide_often(ledger, 20)
    young = objects(ledger)
    assert len([name for name in young if name.endswith(".json")]) >= 22
    age(ledger, 0.9)
    decide_often(ledger, 8)
    assert set(young) <= set(objects(ledger))
    age(ledger, 0.2)
    decide_often(ledger, 8)
    left = set(objects(ledger))
    assert list_log(ledger._storage, LEDGER_KEY).entries[0] > 8
    assert len([name for name in young if name.endswith("parquet") and name not in left]) > 8
    assert Ledger(ledger._storage, "fresh").history().num_rows == 4 + 2 * 36


def test_files_of_dead_writers(tmp_path: Path, eager: Callable[[int], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that no commit lists goes when it is a day old, not before; one that is listed stays."""
    ledger = Ledger(Storage.open(str(tmp_path / "lake")), "me")
    ledger.create()
    decide_often(ledger, 3)
    ledger._storage.put(f"{LEDGER_KEY}/part-dead.parquet", b"dead", Create())
    age(ledger, 25)
    ledger._storage.put(f"{LEDGER_KEY}/part-writing.parquet", b"not yet", Create())
    eager(4)
    monkeypatch.setattr(upkeep, "ORPHANS_EVERY", 4)
    decide_often(ledger, 6)
    names = objects(ledger)
    assert "part-dead.parquet" not in names
    assert "part-writing.parquet" in names
    assert Ledger(ledger._storage, "fresh").history().num_rows == 4 + 2 * 9


def test_tables_of_earlier_releases(ledger: Ledger, eager: Callable[[int], None]) -> None:
    """A ledger that was made with other properties gets ours, once; those of datasets keep what was removed."""
    uri, options = ledger._storage.uri(LEDGER_KEY), ledger._storage.options()
    DeltaTable(uri, storage_options=options).alter.set_table_properties(
        {"delta.deletedFileRetentionDuration": "interval 36500 days"}
    )
    eager(4)
    decide_often(ledger, 8)
    configuration = DeltaTable(uri, storage_options=options).metadata().configuration
    assert {k: configuration[k] for k in LEDGER_PROPERTIES} == LEDGER_PROPERTIES
    assert DATA_PROPERTIES["delta.deletedFileRetentionDuration"] == "interval 36500 days"
    assert {p["delta.logRetentionDuration"] for p in (DATA_PROPERTIES, FACT_PROPERTIES)} == {"interval 36500 days"}


def test_ids_do_not_pile_up(ledger: Ledger) -> None:
    """However much one thread decides, the table keeps one transaction id of it."""
    decide_often(ledger, 6)
    table = DeltaTable(ledger._storage.uri(LEDGER_KEY), storage_options=ledger._storage.options())
    table.create_checkpoint()
    found = ledger._storage.get(f"{LEDGER_KEY}/_delta_log/{table.version():020d}.checkpoint.parquet")
    ids = pa.parquet.read_table(pa.BufferReader(found)).column("txn").drop_null()
    assert len(ids) == 1


def test_many_processes(ledger: Ledger) -> None:
    """With upkeep after every second commit no process loses or doubles a decision, and no reader fails or goes back."""
    uri, total = ledger._storage.root, PROCESSES * DECISIONS
    with get_context("spawn").Pool(PROCESSES + 1) as pool:
        watched = pool.apply_async(watch, (uri, total))
        taken = [n for part in pool.starmap(take_numbers, [(uri, DECISIONS)] * PROCESSES) for n in part]
        seen = watched.get(60)
    assert sorted(taken) == list(range(1, total + 1))
    assert max(seen) == total
    assert seen[1::2] == sorted(seen[1::2])
    history = ledger.history().column("key").to_pylist()
    assert [k for k in history if k.startswith("s/n")] == [f"s/n{n}" for n in range(1, total + 1)]
    assert len(list_log(ledger._storage, LEDGER_KEY).entries) < total


def test_facts_of_many_processes(root_uri: str) -> None:
    """With upkeep after every second commit each row recorded is there once."""
    Ledger(Storage.open(root_uri), "me").create()
    with get_context("spawn").Pool(3) as pool:
        assert pool.starmap(add_events, [(root_uri, worker) for worker in range(3)]) == [EVENTS] * 3
    facts = Facts(Storage.open(root_uri), "me")
    found = facts.snapshot("blobs")
    assert found is not None
    rows = [(r["offset"], r["length"]) for r in found.to_arrow(["offset", "length"]).to_pylist()]
    assert sorted(rows) == [(worker, number) for worker in range(3) for number in range(EVENTS)]
    assert len(list_log(facts._storage, "_system/blobs").entries) < 3 * EVENTS


class Sleeper(Ledger):
    """A ledger whose process sleeps before its first commit, while others decide and clean up after themselves."""

    slept = False

    def _commit(self, table: DeltaTable, rows: pa.Table, txn: tuple[str, int], run: Any, message: Any) -> None:
        if self.slept:
            return super()._commit(table, rows, txn, run, message)
        self.slept = True
        entry = f"{LEDGER_KEY}/_delta_log/{table.version() + 1:020d}.json"
        super()._commit(table, rows, txn, run, message)
        commit = self._storage.get(entry)
        # As if it came later: delta-rs looks for the log before it commits, so a sleep has to fall between the two.
        self._storage.delete([entry])
        rival = Ledger(self._storage, "rival")
        for _ in range(4):
            rival.decide(next_number)
        self._storage.put(entry, commit, Create())
        return None


def test_writer_that_slept(tmp_path: Path, eager: Callable[[int], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that lands before the beginning of a log that was cut off meanwhile is no decision: it is made again."""
    for slow_is_noticed in (True, False):
        storage = Storage.open(str(tmp_path / f"lake-{slow_is_noticed}"))
        Ledger(storage, "me").create()
        eager(2)
        reader, sleeper = Ledger(storage, "reader"), Sleeper(storage, "sleeper")
        reader.state()
        if not slow_is_noticed:
            monkeypatch.setattr("lakehouse.ledger.overslept", lambda since: False)
        number = sleeper.decide(next_number).result
        decided = [k for k in reader.history().column("key").to_pylist() if k.startswith("s/n")]
        assert decided == [f"s/n{n}" for n in range(1, len(decided) + 1)]
        assert number == (5 if slow_is_noticed else 1)  # without the rule it returns what a rival got
        assert len(decided) == (5 if slow_is_noticed else 4)
        assert list(reader.state().raw()) == list(Ledger(storage, "fresh").state().raw())


def test_reader_that_slept(ledger: Ledger, eager: Callable[[int], None]) -> None:
    """A reader whose files are gone when it wakes up, and one that has opened the table already, read what is there."""
    sleeping = Ledger(ledger._storage, "sleeping")
    sleeping.state()
    assert sleeping._table is not None
    decide_often(ledger, 2)
    sleeping._table.update_incremental()  # it knows of files that it has not read
    eager(2)
    decide_often(ledger, 8)
    with pytest.raises(NotFoundError):
        sleeping._read(sleeping._table, -1)
    top = sleeping.state().get(Tag, "s/top")
    assert top is not None
    assert top.number == 10


@pytest.mark.parametrize("seed", range(3))
def test_killed_upkeep(tmp_path: Path, seed: int) -> None:
    """Writers that tend after each decision are killed in turn; each time all decisions are there, and the next goes on."""
    root, draw = str(tmp_path / "lake"), random.Random(seed)
    Ledger(Storage.open(root), "me").create()
    said: list[int] = []
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", TAKER, root], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(draw.uniform(0.02, 0.4))
            process.kill()
            said += [int(line) for line in process.stdout.read().splitlines()]
        fresh = Ledger(Storage.open(root), "me")
        keys = [k for k in fresh.history().column("key").to_pylist() if k.startswith("s/n")]
        assert keys == [f"s/n{n}" for n in range(1, len(keys) + 1)]
        assert set(said) <= set(range(1, len(keys) + 1))
        assert fresh.decide(next_number).result == len(keys) + 1
    assert len(said) == len(set(said))


def test_hint_at_a_checkpoint_that_is_gone(ledger: Ledger, eager: Callable[[int], None]) -> None:
    """A writer that wakes up and names its old checkpoint as the last one misleads nobody."""
    eager(4)
    decide_often(ledger, 12)
    hint = f"{LEDGER_KEY}/_delta_log/_last_checkpoint"
    told = json.loads(ledger._storage.get(hint))
    ledger._storage.delete([hint])
    ledger._storage.put(hint, json.dumps(told | {"version": 4}).encode(), Create())
    fresh = Ledger(ledger._storage, "fresh")
    assert fresh.history().num_rows == 4 + 2 * 12
    assert fresh.decide(next_number).result == 13


def test_failing_upkeep_does_not_undo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decision and rows that landed are told as such when the store fails in the upkeep after them."""
    storage, tried = Storage.open(str(tmp_path / "lake")), []

    def failing(*args: Any, **kwargs: Any) -> None:
        tried.append(args[1])
        raise StorageError("storage-unavailable", "The store failed.")

    ledger, facts = Ledger(storage, "me"), Facts(storage, "me")
    ledger.create()
    monkeypatch.setattr(upkeep, "EVERY", 1)
    monkeypatch.setattr(upkeep, "tend", failing)
    assert ledger.decide(next_number).result == 1
    assert facts.append("blobs", event(0, 0), ("a", 1)).rows_added == 1
    assert tried == [LEDGER_KEY, "_system/blobs"]


@settings(max_examples=10)
@given(
    steps=st.lists(
        st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.integers(0, 9)), min_size=1, max_size=3), max_size=9
    ),
    every=st.integers(1, 4),
)
def test_fold_does_not_depend_on_upkeep(
    tmp_path_factory: pytest.TempPathFactory, steps: list[list[tuple[str, int | None]]], every: int
) -> None:
    """Whatever is decided and however often it is tended, history and fold are those of a ledger that never was."""
    folds, histories = [], []
    for chosen in (every, 10**9):
        with pytest.MonkeyPatch.context() as patch:
            always(chosen, patch.setattr)
            ledger = Ledger(Storage.open(str(tmp_path_factory.mktemp("lake"))), "me")
            ledger.create()
            for values in steps:
                ledger.decide(lambda state, values=values: (None, list(decided(values))))
            fresh = Ledger(ledger._storage, "fresh")
            folds.append([row for row in fresh.state().raw() if row[0] not in ("format", "chain")])
            assert list(fresh.state().raw()) == list(ledger.state().raw())
            histories.append(fresh.history().select(["pos", "entity", "key", "action"]).slice(1).to_pylist())
    assert folds[0] == folds[1]
    assert histories[0] == histories[1]


def decided(values: list[tuple[str, int | None]]) -> Iterator[Decision]:
    """Return decisions about small things; None removes one."""
    for name, number in values:
        value = Tag(series="s", name=name, number=number or 0)
        yield Decision.remove("tag.remove", value) if number is None else Decision.put("tag.set", value)
