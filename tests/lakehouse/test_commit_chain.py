"""The hash chain over data commits: what is changed in a log or in the record of a folded one is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import obstore
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

import catalog
from lakehouse import commit_log
from lakehouse.commit_chain import CommitProof, _digest, blanked, check_commits, extension
from lakehouse.commit_log import COMMITS, folded_commits
from lakehouse.decisions import Dataset, DatasetVersion, Decision
from lakehouse.facts import SCHEMAS
from lakehouse.history import LogEntry
from lakehouse.lake import Lake, connect
from lakehouse.resolution import find_dataset
from tests.support.lakes import SCHEMA, make_lake, make_table, rows

Row = dict[str, Any]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A lake with two published tables: `t` has commits #0 to #5 and versions at #2 and #5, `other` has #0 and #1."""
    return made(str(tmp_path / "lake"))


@pytest.fixture
def lake_anywhere(root_uri: str) -> Lake:
    """The same on each store."""
    return made(root_uri)


def made(uri: str) -> Lake:
    """Return that lake."""
    lake = make_lake(uri)
    table = make_table(lake, "t", SCHEMA, key=["id"])
    for name in ("t", "other"):
        if name != "t":
            make_table(lake, name, SCHEMA)
        lake.table(name).append(rows((1, "a", 1.0)), message=f"first of {name}", run="run-1")
    table.merge(rows((1, "b", 2.0), (2, "c", 3.0)))
    catalog.publish(lake, "t")
    catalog.publish(lake, "other")
    table.append(rows((3, "d", 4.0)), message="words about a person")
    table.delete("id = 3")
    table.append(rows((4, "e", 5.0)))
    catalog.publish(lake, "t")
    return lake


def own(lake: Lake, name: str = "t") -> Dataset:
    """Return the dataset."""
    return find_dataset(lake.state(), f"main.{name}")


def proof(lake: Lake) -> CommitProof:
    """Check the chains as a fresh process does."""
    fresh = connect(lake.root)
    return check_commits(fresh.storage, fresh.state(), fresh.facts.snapshot(COMMITS))


def heads(lake: Lake, name: str = "t") -> list[str]:
    """Return the heads that the published versions of a table carry."""
    return [v.commits_head for v in catalog.list_versions(lake, name)][::-1]


def edit_log(lake: Lake, version: int, change: Callable[[Row], Row]) -> None:
    """Change the commit info of one log entry of `t`, as who holds the storage can."""
    store, key = lake.storage.store(), f"{own(lake).location}/_delta_log/{version:020d}.json"
    lines = [json.loads(line) for line in bytes(obstore.get(store, key).bytes()).splitlines()]
    lines = [{"commitInfo": change(a["commitInfo"])} if "commitInfo" in a else a for a in lines]
    obstore.put(store, key, "\n".join(map(json.dumps, lines)).encode())


def pin_and_record(lake: Lake) -> None:
    """Clean up while every state of `t` is pinned: its commits are on record then, and its log is whole."""
    for number in range(6):
        lake.snapshot(f"s{number}", [f"t@#{number}"])
    catalog.vacuum(lake, keep_for="0")
    assert [r["table_version"] for r in record(lake) if r["dataset_id"] == own(lake).dataset_id] == list(range(6))


def append_record(lake: Lake, *added: Row) -> None:
    """Put rows into the record of folded commits."""
    uri, options = lake.storage.uri(f"_system/{COMMITS}"), lake.storage.options()
    table = pa.Table.from_pylist(list(added), schema=SCHEMAS[COMMITS])
    write_deltalake(DeltaTable(uri, storage_options=options), table, mode="append")


def record(lake: Lake) -> list[Row]:
    """Return the record of folded commits, in order."""
    table = DeltaTable(lake.storage.uri(f"_system/{COMMITS}"), storage_options=lake.storage.options())
    return sorted(table.to_pyarrow_table().to_pylist(), key=lambda r: (r["dataset_id"], r["table_version"]))


def edit_record(lake: Lake, change: Callable[[list[Row]], list[Row]]) -> None:
    """Put other rows in the place of the record of folded commits."""
    uri, options = lake.storage.uri(f"_system/{COMMITS}"), lake.storage.options()
    table = pa.Table.from_pylist(change(record(lake)), schema=SCHEMAS[COMMITS])
    write_deltalake(DeltaTable(uri, storage_options=options), table, mode="overwrite")


def test_published_versions_cover_every_commit_before_them(lake: Lake) -> None:
    """Each publication goes on from the one before; commits since the last one are not covered yet."""
    assert proof(lake) == CommitProof(commits=8)
    first, second = heads(lake)
    assert len({first, second, "", *heads(lake, "other")}) == 4
    lake.table("t").append(rows((5, "f", 6.0)))
    assert proof(lake) == CommitProof(commits=8)
    catalog.publish(lake, "t")
    assert proof(lake) == CommitProof(commits=9)
    assert heads(lake)[:2] == [first, second]


def test_a_publication_reads_what_was_committed_since(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log entries that the version before covers are not fetched again."""
    fetched: list[int] = []

    def noting(storage: Any, location: str, versions: Any) -> Any:
        if location == own(lake).location:
            fetched.extend(versions)
        return read_tail(storage, location, versions)

    read_tail = commit_log.read_tail
    monkeypatch.setattr(commit_log, "read_tail", noting)
    lake.table("t").append(rows((5, "f", 6.0)))
    catalog.publish(lake, "t")
    assert fetched == [6]


def test_a_state_that_is_covered_already(lake: Lake) -> None:
    """Publishing an older state, or the same one again, adds nothing to the chain, and the next one goes on from its end."""
    catalog.publish(lake, "t@#1")
    catalog.publish(lake, "t")
    assert [bool(head) for head in heads(lake)] == [True, True, False, False]
    lake.table("t").append(rows((5, "f", 6.0)))
    catalog.publish(lake, "t")
    assert proof(lake) == CommitProof(commits=9)


def test_folding_changes_nothing(lake_anywhere: Lake) -> None:
    """Commits that were folded away are proven by their record, those that were not by the log; clocks may go back."""
    lake = lake_anywhere
    lake.table("t").append(rows((5, "f", 6.0)))
    edit_log(lake, 6, lambda info: info | {"timestamp": info["timestamp"] - 3_600_000})
    catalog.publish(lake, "t")
    log = lake.table("t").log()
    assert [e.created_at for e in log] == sorted((e.created_at for e in log), reverse=True)
    for _ in range(2):
        catalog.vacuum(connect(lake.root), keep_for="0")
        assert proof(lake) == CommitProof(commits=9)
        lake.table("t").append(rows((6, "g", 7.0)))
    assert [c.table_version for c in folded_commits(lake.storage, own(lake).dataset_id, 0, 99)] == list(range(8))
    assert lake.table("t").log()[2:] == log
    catalog.publish(lake, "t")
    assert proof(lake) == CommitProof(commits=11)


def test_a_version_that_expired_or_was_withdrawn_covers_what_it_did(lake: Lake) -> None:
    """Giving versions up, renaming and deleting their dataset leaves the proof as it was."""
    catalog.expire(lake, "t", keep_last=1)
    catalog.deprecate(lake, "t@v2", reason="wrong", withdraw=True)
    catalog.rename_dataset(lake, "t", "renamed")
    catalog.vacuum(lake, keep_for="0")
    assert proof(lake) == CommitProof(commits=8)
    catalog.delete_dataset(lake, "renamed")
    assert proof(lake) == CommitProof(commits=8)


LOGGED: dict[str, Callable[[Row], Row]] = {
    "who": lambda info: info | {"user": "mallory"},
    "who not": lambda info: {k: v for k, v in info.items() if k != "user"},
    "the time": lambda info: info | {"timestamp": info["timestamp"] + 1},
    "the operation": lambda info: info | {"operation": "OPTIMIZE"},
    "the run": lambda info: info | {"run": "run-2"},
    "the rows": lambda info: info | {"rows_added": "7"},
    "the message": lambda info: info | {"message": "other words"},
    "the salt": lambda info: info | {"salt": "00" * 16},
    "the message taken": lambda info: {k: v for k, v in info.items() if k not in ("message", "salt")},
    "a time that is none": lambda info: info | {"timestamp": "noon"},
    "a time too late": lambda info: info | {"timestamp": 1e20},
    "rows that are none": lambda info: info | {"rows_added": "many"},
    "a salt that is none": lambda info: info | {"salt": 7},
    "nothing left": lambda info: {},
}


@pytest.mark.parametrize(
    ("what", "pinned"),
    [*((what, False) for what in LOGGED), *((what, True) for what in ("who", "the rows", "nothing left"))],
)
def test_a_log_entry_that_was_changed_is_found(tmp_path: Path, what: str, pinned: bool) -> None:
    """Whatever the log shows of a commit is covered, on record too or not; the version that does not match is named."""
    lake = made(str(tmp_path / "lake"))
    if pinned:
        pin_and_record(lake)
    edit_log(lake, 3, LOGGED[what])
    found = proof(lake)
    assert found.commits in (3, 5)  # the other table has two
    assert "The log of main.t does not match what was published as v2: a commit between #3 and #5 " in str(
        found.problem
    )
    lake.table("t").log()


def test_a_log_entry_that_is_no_json_any_more_is_found(tmp_path: Path) -> None:
    """Bytes that nobody can read are a commit that does not match, not a failure."""
    lake = made(str(tmp_path / "lake"))
    key = f"{own(lake).location}/_delta_log/{3:020d}.json"
    obstore.put(lake.storage.store(), key, b'{"commitInfo": {"timest')
    assert "a commit between #3 and #5 " in str(proof(lake).problem)


RECORDED: dict[str, Callable[[list[Row]], list[Row]]] = {
    "who": lambda kept: [r | {"user": "mallory"} for r in kept],
    "the time": lambda kept: [r | {"created_at": r["created_at"] + timedelta(milliseconds=1)} for r in kept],
    "a message put in": lambda kept: [r | {"message": "words"} if r["message"] is None else r for r in kept],
    "a message taken": lambda kept: [r | {"message": None} for r in kept],
    "a message for another digest": lambda kept: [r | {"message": None, "erased": "00" * 32} for r in kept],
    "a commit taken": lambda kept: [r for r in kept if r["table_version"] != 1],
    "two exchanged": lambda kept: [
        r | {"table_version": {1: 2, 2: 1}.get(r["table_version"], r["table_version"])} for r in kept
    ],
    "one twice, with other words": lambda kept: [*kept, kept[1] | {"message": "other words"}],
    "one before the first": lambda kept: [*kept, kept[1] | {"table_version": -1}],
}


@pytest.mark.parametrize("what", RECORDED)
def test_a_record_that_was_changed_is_found(tmp_path: Path, what: str) -> None:
    """The record of folded commits is covered as their log entries were."""
    lake = made(str(tmp_path / "lake"))
    catalog.expire(lake, "t", keep_last=1)
    catalog.vacuum(lake, keep_for="0")
    assert proof(lake).problem is None
    assert [r["table_version"] for r in record(lake) if r["dataset_id"] == own(lake).dataset_id] == list(range(6))
    edit_record(lake, RECORDED[what])
    assert "does not match" in (proof(lake).problem or "")


def test_a_commit_that_two_clean_ups_recorded(lake: Lake) -> None:
    """The same commit twice on record is one commit."""
    catalog.vacuum(lake, keep_for="0")
    append_record(lake, *record(lake)[:4])
    assert proof(lake) == CommitProof(commits=8)
    assert [e.table_version for e in lake.table("t").log()] == [5, 4, 3, 2, 1, 0]


def test_publications_at_the_same_time(lake: Lake) -> None:
    """A publication whose chain another one has moved on meanwhile goes on from there; heads follow from the commits."""
    table = lake.table("t")
    for number in (6, 7):
        table.append(rows((number, "x", 0.0)))
    earlier = lake.state()
    before = [extension(lake.storage, earlier, own(lake), version) for version in (6, 7)]
    catalog.publish(lake, "t@#6")
    assert before[0].head(lake.state()) == ""
    catalog.publish(lake, "t@#7")
    assert before[1].head(lake.state()) == ""
    assert before[1].head(earlier) == heads(lake)[-1]
    assert proof(lake) == CommitProof(commits=10)


def test_tampering_is_found_on_every_store(lake_anywhere: Lake) -> None:
    """What a store holds is what is checked, a folder or S3; the audit names it."""
    lake = lake_anywhere
    edit_log(lake, 1, lambda info: info | {"user": "mallory"})
    found = catalog.verify_audit(connect(lake.root))
    assert not found.ok
    assert "as v1: a commit between #0 and #2 was changed, removed or put in." in (found.problem or "")


def test_messages_can_be_erased(lake_anywhere: Lake) -> None:
    """Erased messages leave chains that match and say how many are gone; nobody finds the words by trying."""
    lake = lake_anywhere
    catalog.expire(lake, "t", keep_last=1)
    catalog.vacuum(lake, keep_for="0")
    [told] = [
        c for c in folded_commits(lake.storage, own(lake).dataset_id, 0, 9) if c.message == "words about a person"
    ]
    assert told.salt is not None
    gone = blanked(told)
    assert (gone.message, gone.salt) == (None, None)

    def erase(kept: list[Row]) -> list[Row]:
        taken = {"message": None, "salt": None, "erased": gone.erased}
        return [r | taken if r["message"] == told.message else r for r in kept]

    edit_record(lake, erase)
    assert proof(lake) == CommitProof(commits=8, erased=1)
    assert "words about" not in str(lake.table("t").log())
    whole = record(lake)
    for change in ({"user": "mallory"}, {"message": "approved by the boss"}, {"salt": told.salt}, {"erased": None}):
        edit_record(lake, lambda _, change=change: [r | change if r["erased"] else r for r in whole])  # type: ignore[misc]
        assert proof(lake).problem is not None


def test_messages_can_be_erased_in_the_log(lake: Lake) -> None:
    """The log entry of a state that stays pinned can lose its message too; log and record must say the same."""
    [told] = [e for e in lake.table("t").log() if e.table_version == 3]
    pin_and_record(lake)
    gone = blanked(told)
    edit_log(
        lake, 3, lambda info: {k: v for k, v in info.items() if k not in ("message", "salt")} | {"erased": gone.erased}
    )
    assert lake.table("t").log()[2] == gone
    assert proof(lake) == CommitProof(commits=8, erased=1)
    assert blanked(gone) == gone


def test_equal_messages_have_different_digests(tmp_path: Path) -> None:
    """Each commit with a message has a salt of its own; one without has none."""
    lake = made(str(tmp_path / "lake"))
    salts = [e.salt for e in (*lake.table("t").log(), *lake.table("other").log())]
    assert [salt is not None for salt in salts] == [False, False, True, False, True, False, True, False]
    assert len({*salts} - {None}) == 3


def test_a_lake_of_an_earlier_release_gets_its_chain_with_the_next_publication(lake: Lake) -> None:
    """Versions that carry no head cover nothing; the next one covers the whole log."""
    known = list(lake.state().all(DatasetVersion))
    lake.ledger.decide(lambda _: (None, [Decision.put("version.publish", replace(v, commits_head="")) for v in known]))
    assert proof(lake) == CommitProof()
    lake.table("t").append(rows((5, "f", 6.0)))
    catalog.publish(lake, "t")
    assert proof(lake) == CommitProof(commits=7)


def test_commits_of_other_programs(lake: Lake) -> None:
    """What another program wrote into the table is covered, and words without a salt are not."""
    ours = DeltaTable(lake.storage.uri(own(lake).location), storage_options=lake.storage.options())
    write_deltalake(ours, rows((9, "z", 0.0)), mode="append")
    edit_log(lake, 6, lambda info: info | {"message": "theirs"})
    catalog.publish(lake, "t")
    edit_log(lake, 6, lambda info: info | {"message": "changed"})
    assert proof(lake) == CommitProof(commits=9)
    edit_log(lake, 6, lambda info: {k: v for k, v in info.items() if k != "message"})
    assert proof(lake).problem is not None


def test_commits_that_tell_little(lake: Lake) -> None:
    """Commits without commit info, without a time, and with values of other types match in the log and on record."""
    table = lake.table("t")
    told: list[Row] = [{}, {"operation": "WRITE"}, {"user": 7, "salt": "pepper", "message": "", "rows_added": "2.5"}]
    for number, info in enumerate(told):
        table.append(rows((10 + number, "x", 0.0)), message="")
        edit_log(lake, 6 + number, lambda _, info=info: info)  # type: ignore[misc]
    catalog.publish(lake, "t")
    assert proof(lake) == CommitProof(commits=11)
    edit_log(lake, 7, lambda info: info)  # written anew: another time of the file
    assert proof(lake) == CommitProof(commits=11)
    edit_log(lake, 6, lambda info: {"timestamp": 0})
    assert proof(lake).problem is not None
    edit_log(lake, 6, lambda info: {})
    catalog.expire(lake, "t", keep_last=1)
    table.append(rows((20, "x", 0.0)))
    catalog.publish(lake, "t")
    catalog.expire(lake, "t", keep_last=1)
    catalog.vacuum(lake, keep_for="0")
    assert proof(lake) == CommitProof(commits=12)


def test_a_commit_that_nothing_tells_of(lake: Lake, caplog: pytest.LogCaptureFixture) -> None:
    """A hole is said when it is published over, is no commit that matches, and may not be filled later."""
    known = list(lake.state().all(DatasetVersion))
    lake.ledger.decide(lambda _: (None, [Decision.put("version.publish", replace(v, commits_head="")) for v in known]))
    catalog.expire(lake, "t", keep_last=1)
    catalog.vacuum(lake, keep_for="0")
    [lost] = [r for r in record(lake) if r["dataset_id"] == own(lake).dataset_id and r["table_version"] == 1]
    edit_record(lake, lambda kept: [r for r in kept if r != lost])
    lake.table("t").append(rows((9, "x", 0.0)))
    catalog.publish(lake, "t")
    assert "main.t: nothing tells of commit #1 any more" in caplog.text
    assert proof(lake) == CommitProof(commits=6)
    append_record(lake, lost)
    assert proof(lake).problem is not None


def test_adopted_tables_have_no_chain(lake: Lake, tmp_path: Path) -> None:
    """Others may clean the log of an adopted table; a copy of it is ours and has one."""
    write_deltalake(str(tmp_path / "theirs"), rows((1, "a", 1.0)))
    catalog.adopt_dataset(lake, "theirs", str(tmp_path / "theirs"))
    catalog.publish(lake, "theirs")
    assert heads(lake, "theirs") == [""]
    assert proof(lake) == CommitProof(commits=8)
    catalog.publish(lake, "theirs", copy=True)
    assert heads(lake, "theirs")[1] != ""
    assert proof(lake).commits > 8


def test_what_a_head_stands_for_never_changes() -> None:
    """The digest of a commit is what earlier releases computed; another one would turn every chain into a problem."""
    at = datetime(2026, 11, 26, 12, 30, 15, 123000, UTC)
    commit = LogEntry(7, at, "MERGE", 3, 1, "ann", "my words", "run-1", rows_updated=2, salt="0f" * 16)
    assert _digest(commit).hex() == "e1092c9674a4b661673bbff593db8516fe6c350f6b1ee2bc41457344f225fb79"
    assert _digest(blanked(commit)) == _digest(commit)
    assert _digest(replace(commit, salt=None)) != _digest(commit)
    undated = replace(commit, undated=True)
    assert _digest(undated) == _digest(replace(undated, created_at=at + timedelta(1))) != _digest(commit)
