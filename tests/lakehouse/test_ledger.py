"""The ledger: no decision lost, none doubled, and the fold is nothing but the replay."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import strategies as st

from lakehouse import ledger as ledger_module
from lakehouse import upkeep
from lakehouse.decisions import DATA_TAGS, DataTag, Decision, Format, Tag
from lakehouse.errors import ConflictError, FormatError, LakeError, NotFoundError, StateError, StorageError
from lakehouse.ledger import EMPTY, LEDGER_KEY, SCHEMA, Ledger, State
from lakehouse.storage import Create, Storage
from tests.support.proxy import Action, FaultyProxy
from tests.support.s3 import S3Server

PROCESSES, DECISIONS = 4, 5


@pytest.fixture
def ledger(root_uri: str) -> Ledger:
    """A fresh ledger on each backend."""
    made = Ledger(Storage.open(root_uri), "me")
    assert made.create()
    return made


def tag(name: str, number: int) -> Tag:
    """A small value to decide about."""
    return Tag(series="s", name=name, number=number)


def put(value: Tag) -> Callable[[State], tuple[int, list[Decision]]]:
    """Return the rule that decides a value, whatever is there."""
    return lambda state: (value.number, [Decision.put("tag.set", value)])


def next_number(state: State) -> tuple[int, list[Decision]]:
    """The rule that takes the next number and keeps a row for it: two things that must agree."""
    top = state.get(Tag, "s/top")
    number = (top.number if top else 0) + 1
    return number, [Decision.put("take", tag("top", number)), Decision.put("take", tag(f"n{number}", number))]


def take_numbers(uri: str, count: int) -> list[int]:
    """Take numbers in a process of its own."""
    own = Ledger(Storage.open(uri), "worker")
    return [own.decide(next_number).result for _ in range(count)]


def init_there(uri: str) -> bool:
    """Create the ledger in a process of its own."""
    return Ledger(Storage.open(uri), "worker").create()


def test_first_state(ledger: Ledger) -> None:
    """A new lakehouse knows its format and the three data tags, and creating it again changes nothing."""
    state = ledger.state()
    assert tuple(state.all(DataTag)) == DATA_TAGS
    found = state.get(Format, "format")
    assert found is not None
    assert found.number == 1
    assert not ledger.create()
    assert ledger.state() == state


def test_no_lakehouse(root_uri: str) -> None:
    """Where no lakehouse is, the error names the root and how to make one, and leaves no folder behind."""
    with pytest.raises(NotFoundError, match="lakehouse init") as caught:
        Ledger(Storage.open(root_uri), "me").state()
    assert caught.value.kind == "lakehouse-not-found"
    assert not Path(root_uri).exists()


def test_init_that_died_is_finished(root_uri: str) -> None:
    """When `init` died between making the table and its first decisions, there is no lakehouse, and init makes it."""
    half = Ledger(Storage.open(root_uri), "me")
    half._create_table()
    with pytest.raises(NotFoundError):
        half.state()
    assert Ledger(half._storage, "me").create()
    assert len(list(half.state().all(DataTag))) == len(DATA_TAGS)


def test_decide_and_remove(ledger: Ledger) -> None:
    """A decision is in the returned state, in a fresh reader's, and gone after its removal."""
    decided = ledger.decide(put(tag("a", 1)))
    other = Ledger(ledger._storage, "you")
    for state in (decided.state, ledger.state(), other.state()):
        assert state.get(Tag, "s/a") == tag("a", 1)
    gone = other.decide(lambda state: (None, [Decision.remove("tag.remove", tag("a", 1))]))
    assert gone.state.get(Tag, "s/a") is None
    assert ledger.state().get(Tag, "s/a") is None
    assert decided.state.get(Tag, "s/a") == tag("a", 1)  # a state never changes


def test_rule_may_refuse_or_do_nothing(ledger: Ledger) -> None:
    """A rule that raises or decides nothing commits nothing."""
    before = ledger.state().seq

    def refuse(state: State) -> tuple[None, list[Decision]]:
        raise StateError("no", "Not allowed.")

    with pytest.raises(StateError):
        ledger.decide(refuse)
    assert ledger.decide(lambda state: ("same", [])).result == "same"
    assert ledger.state().seq == before


def test_audit(ledger: Ledger) -> None:
    """The history has every decision in order with who, when, for which run and in whose words."""
    ledger.decide(put(tag("a", 1)), run="run-1", message="why not")
    ledger.decide(next_number)
    history = ledger.history()
    assert history.schema == SCHEMA
    rows = history.to_pylist()
    assert [(r["seq"], r["pos"]) for r in rows] == sorted((r["seq"], r["pos"]) for r in rows)
    assert [(r["action"], r["key"]) for r in rows[-3:]] == [("tag.set", "s/a"), ("take", "s/top"), ("take", "s/n1")]
    assert (rows[-3]["actor"], rows[-3]["run"], rows[-3]["message"]) == ("me", "run-1", "why not")
    assert rows[-2]["commit_id"] == rows[-1]["commit_id"] != rows[-3]["commit_id"]


def test_many_processes(ledger: Ledger) -> None:
    """Processes that take numbers at the same time get consecutive ones: none twice, none lost."""
    uri = ledger._storage.root
    with get_context("spawn").Pool(PROCESSES) as pool:
        taken = [n for part in pool.starmap(take_numbers, [(uri, DECISIONS)] * PROCESSES) for n in part]
    assert sorted(taken) == list(range(1, PROCESSES * DECISIONS + 1))
    state = ledger.state()
    assert {t.number for t in state.all(Tag) if t.name != "top"} == set(taken)
    assert len([r for r in ledger.history().to_pylist() if r["key"] == "s/top"]) == len(taken)


def test_many_threads(ledger: Ledger) -> None:
    """Threads that share one ledger are as safe as processes."""
    with ThreadPoolExecutor(6) as pool:
        taken = list(pool.map(lambda _: ledger.decide(next_number).result, range(12)))
    assert sorted(taken) == list(range(1, 13))
    assert ledger.state() == Ledger(ledger._storage, "me").state()


def test_many_inits(root_uri: str) -> None:
    """Of processes that create one lakehouse at the same time exactly one makes its first decisions."""
    with get_context("spawn").Pool(3) as pool:
        made = pool.map(init_there, [root_uri] * 3)
    assert sum(made) == 1
    rows = Ledger(Storage.open(root_uri), "me").history().to_pylist()
    assert sum(r["entity"] == "format" for r in rows) == 1


@pytest.mark.s3
def test_lost_answers(s3_env: S3Server, s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decision whose answer is lost is recognised as landed: made once, and returned with the number that it took."""

    def drop_first_tries(method: str, path: str, count: int) -> Action:
        commit = method == "PUT" and "/_system/ledger/_delta_log/" in path and path.endswith(".json")
        return "drop_response" if commit and count == 1 else "pass"

    with FaultyProxy(s3_env.endpoint, drop_first_tries) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        ledger = Ledger(Storage.open(s3_uri), "me")
        assert ledger.create()
        taken = [ledger.decide(next_number).result for _ in range(4)]
        assert proxy.count("drop_response") >= 5
    assert taken == [1, 2, 3, 4]
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_env.endpoint)
    rows = Ledger(Storage.open(s3_uri), "me").history().to_pylist()
    assert [r["key"] for r in rows if r["action"] == "take" and r["key"] != "s/top"] == ["s/n1", "s/n2", "s/n3", "s/n4"]


@pytest.mark.s3
def test_refused_store_is_told_at_once(s3_env: S3Server, s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the store refuses the write the caller hears it, and does not wait until patience is over."""
    ledger = Ledger(Storage.open(s3_uri), "me")
    ledger.create()
    monkeypatch.setattr(
        ledger_module, "own_commit", lambda *args, **kwargs: (_ for _ in ()).throw(OSError("Forbidden"))
    )
    with pytest.raises(LakeError) as caught:
        ledger.decide(put(tag("a", 1)))
    assert caught.value.kind == "storage-denied"


def test_patience_ends(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """When others win every time, the caller is told that the ledger is busy."""
    monkeypatch.setattr(ledger_module, "PATIENCE_S", 0.0)
    rival = Ledger(ledger._storage, "rival")

    def overtaken(state: State) -> tuple[int, list[Decision]]:
        rival.decide(next_number)
        return 0, [Decision.put("tag.set", tag("a", 1))]

    with pytest.raises(ConflictError) as caught:
        ledger.decide(overtaken)
    assert caught.value.kind == "ledger-busy"


def test_validated_again_after_losing(ledger: Ledger) -> None:
    """A rule sees the state that won against it, so that what it forbids can't slip through."""
    rival, seen = Ledger(ledger._storage, "rival"), []

    def only_once(state: State) -> tuple[int, list[Decision]]:
        seen.append(state.seq)
        if state.get(Tag, "s/a") is not None:
            raise StateError("taken", "It is taken.")
        if len(seen) == 1:
            rival.decide(put(tag("a", 1)))
        return 0, [Decision.put("tag.set", tag("a", 2))]

    with pytest.raises(StateError):
        ledger.decide(only_once)
    assert len(seen) == 2
    found = ledger.state().get(Tag, "s/a")
    assert found is not None
    assert found.number == 1


def test_compaction_keeps_the_state(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Merging the ledger's files changes neither state nor history, for old readers and new ones."""
    old = Ledger(ledger._storage, "old")
    old.state()
    monkeypatch.setattr(upkeep, "EVERY", 4)
    for number in range(9):
        ledger.decide(put(tag(f"t{number % 3}", number)))
    uri = ledger._storage.uri(LEDGER_KEY)
    table = DeltaTable(uri, storage_options=ledger._storage.options())
    assert len(table.file_uris()) < 6
    new = Ledger(ledger._storage, "new")
    assert {t.name: t.number for t in new.state().all(Tag)} == {"t0": 6, "t1": 7, "t2": 8}
    assert list(old.state().raw()) == list(new.state().raw()) == list(ledger.state().raw())
    history = new.history()
    assert [r["key"] for r in history.to_pylist() if r["entity"] == "tag"] == [f"s/t{n % 3}" for n in range(9)]
    assert ledger.decide(next_number).result == 1


def test_newer_format_is_refused(ledger: Ledger) -> None:
    """A lakehouse of a later format is refused every time it is looked at, by readers and by deciders."""
    found = ledger.state().get(Format, "format")
    assert found is not None
    ledger.decide(lambda state: (None, [Decision.put("lakehouse.upgrade", replace(found, number=2))]))
    reader = Ledger(ledger._storage, "me")
    for _ in range(2):
        with pytest.raises(FormatError) as caught:
            reader.state()
        assert caught.value.kind == "format-too-new"
    with pytest.raises(FormatError):
        reader.decide(next_number)


def test_unknown_fields_and_entities_are_ignored(ledger: Ledger) -> None:
    """What a later minor release adds is no obstacle: fields that we don't know are left out."""
    assert Tag.from_json('{"series":"s","name":"a","number":1,"added_later":[1]}') == tag("a", 1)


class TestFold:
    """The fold, without storage."""

    @given(
        st.lists(
            st.lists(
                st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.none() | st.integers(0, 9)), max_size=4
            ),
            max_size=12,
        )
    )
    def test_fold_is_replay(self, commits: list[list[tuple[str, str, int | None]]]) -> None:
        """Whatever is put and removed in whatever commits, the state is what a plain dict would hold."""
        state, expected = EMPTY, dict[tuple[str, str], str]()
        for seq, rows in enumerate(commits):
            before, known = state, list(state.raw())
            state = state.with_rows(seq, [(e, k, None if v is None else str(v)) for e, k, v in rows])
            for entity, key, value in rows:
                if value is None:
                    expected.pop((entity, key), None)
                else:
                    expected[entity, key] = str(value)
            assert {(e, k): v for e, k, v in state.raw()} == expected
            assert list(before.raw()) == known

    @given(st.lists(st.integers(0, 20), max_size=4))
    def test_fold_does_not_depend_on_steps(self, cuts: list[int]) -> None:
        """Folding in several readings gives what folding at once gives."""
        rows = [("tag", f"k{n % 5}", None if n % 7 == 0 else str(n)) for n in range(20)]
        state, start = EMPTY, 0
        for cut in [*sorted(cuts), len(rows)]:
            state, start = state.with_rows(cut, rows[start:cut]), cut
        assert list(state.raw()) == list(EMPTY.with_rows(20, rows).raw())


@given(when=st.datetimes(timezones=st.just(UTC)), text=st.text())
def test_values_survive_json(when: datetime, text: str) -> None:
    """A value with a time, a null and any text comes back from its JSON form equal."""
    value = Format(number=1, lakehouse_id=text, created_at=when)
    assert Format.from_json(value.to_json()) == value


def test_deleted_lake_is_noticed(tmp_path: Path) -> None:
    """A root that was removed under a running reader gives an error, not the remembered state."""
    ledger = Ledger(Storage.open(str(tmp_path / "lake")), "me")
    ledger.create()
    ledger.state()
    shutil.rmtree(tmp_path / "lake")
    with pytest.raises(LakeError):
        ledger.decide(next_number)


class Blinking(Ledger):
    """A ledger whose store fails once, after a number of good openings."""

    good = 1
    opened = 0

    def _open(self) -> DeltaTable:
        self.opened += 1
        if self.opened == self.good + 1:
            raise StorageError("storage-unavailable", "The store failed while opening the ledger: connection reset")
        return super()._open()


def test_a_failure_after_a_lost_answer(tmp_path: Path) -> None:
    """A store that loses an answer and then fails once more still ends in the decision that landed, made once."""
    assert Ledger(Storage.open(str(tmp_path / "lake")), "me").create()

    class Lossy(Blinking):
        def _commit(self, table: DeltaTable, rows: pa.Table, txn: tuple[str, int], run: Any, message: Any) -> None:
            super()._commit(table, rows, txn, run, message)
            raise OSError("connection reset")

    ledger = Lossy(Storage.open(str(tmp_path / "lake")), "me")
    decided = ledger.decide(next_number)
    assert (decided.result, ledger.opened) == (1, 3)
    assert decided.state.get(Tag, "s/n1") == tag("n1", 1)
    assert decided.state.get(Tag, "s/n2") is None


@pytest.mark.parametrize("left", [None, b"garbage"])
def test_a_file_that_is_lost_or_damaged_is_named(ledger: Ledger, left: bytes | None) -> None:
    """A ledger that lost a file says which, in every way to read it, and decides nothing."""
    ledger.decide(put(tag("a", 1)))
    storage = ledger._storage
    [key, *_] = sorted(info.key for info in storage.list(LEDGER_KEY) if info.key.endswith(".parquet"))
    storage.delete([key])
    if left is not None:
        storage.put(key, left, Create())
    for way in (Ledger.state, Ledger.history, lambda fresh: fresh.decide(put(tag("b", 1)))):
        with pytest.raises(StorageError) as caught:
            way(Ledger(storage, "other"))
        assert caught.value.kind == "ledger-damaged"
