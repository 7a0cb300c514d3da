"""Giving up history: what is pinned stays whole for every reader, what is not goes, and the log stays truthful."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import obstore
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

import catalog
from lakehouse import folding, lifetimes
from lakehouse.commit_log import folded_commits
from lakehouse.decisions import Condemned, Cursor, Dataset, Decision, Hold, Lease, Member
from lakehouse.errors import LakeError, NotFoundError, StateError
from lakehouse.lake import Lake, connect
from lakehouse.lifetimes import Lifetimes
from lakehouse.logfiles import Entry, LogFiles, list_log
from lakehouse.references import AsOf, Reference
from lakehouse.vacuum import Plan, plan_vacuum, vacuum
from tests.support.lakes import make_lake, make_table

SCHEMA = pa.schema([("id", pa.int64()), ("v", pa.string())])
NOW = timedelta(0)


def some(first: int, last: int, value: str = "a") -> pa.Table:
    """Return rows with the ids from `first` to the one before `last`."""
    return pa.table({"id": range(first, last), "v": [value] * (last - first)}, schema=SCHEMA)


def filled(uri: str) -> Lake:
    """Return a lake with `t`: v1 at #3, then a merge, a delete and appends up to #8."""
    made = make_lake(uri)
    table = make_table(made, "t", SCHEMA, key=["id"])
    for start in (0, 10, 20):
        table.append(some(start, start + 10))
    catalog.publish(made, "t")
    table.merge(some(5, 15, "b"))
    table.delete("id between 20 and 24")
    for start in (30, 40, 50):
        table.append(some(start, start + 10))
    return made


@pytest.fixture
def lake(root_uri: str) -> Lake:
    """The same on each backend."""
    return filled(root_uri)


def own(lake: Lake) -> Dataset:
    """Return the dataset `t`."""
    return catalog.show_dataset(lake, "t").dataset


def stored(lake: Lake) -> set[str]:
    """Return the data and change files in the folder of `t`."""
    prefix = own(lake).location + "/"
    keys = {o.key.removeprefix(prefix) for o in lake.storage.list(own(lake).location)}
    return {k for k in keys if not k.startswith(("_delta_log/", "_changes/"))}


def decide(lake: Lake, *values: Any) -> None:
    """Put values into the ledger as they are."""
    lake.ledger.decide(lambda _: (None, [Decision.put("test", v) for v in values]))


def directly(lake: Lake, version: int) -> list[dict[str, Any]]:
    """Return the rows of a table version as Polars reads them through deltalake, without us."""
    uri, options = lake.storage.uri(own(lake).location), lake.storage.options()
    assert DeltaTable(uri, version=version, storage_options=options).version() == version
    rows = pl.scan_delta(uri, version=version, storage_options=options).collect()
    return sorted(rows.to_dicts(), key=lambda row: row["id"])


def test_pinned_state_survives(lake: Lake) -> None:
    """After everything else is given up, v1 and the head read the same in every way, and others open them directly."""
    before = {ref: lake.read(ref).to_arrow() for ref in ("t@v1", "t@head")}
    log = lake.table("t").log()
    done = vacuum(lake, own(lake), keep_for=NOW)
    assert (done.before, done.kept, done.versions) == (8, (3,), 7)
    fresh = connect(lake.root)
    for ref, rows in before.items():
        assert fresh.read(ref).to_arrow().equals(rows)
        assert fresh.read(ref).scan().collect().to_arrow().cast(SCHEMA).equals(rows)
        assert fresh.sql(f'select * from "{ref}"').to_arrow_table().cast(SCHEMA).equals(rows)
    for version, ref in ((3, "t@v1"), (8, "t@head")):
        assert directly(lake, version) == sorted(before[ref].to_pylist(), key=lambda row: row["id"])
    assert fresh.table("t").log() == log
    assert fresh.table("t").log(3) == log[:3]
    listed = {Path(f).name for ref in before for f in fresh.read(ref).files()}
    assert {Path(p).name for p in stored(lake)} == listed
    assert not plan_vacuum(lake, own(lake), keep_for=NOW)


def test_given_up_versions_say_so(lake: Lake) -> None:
    """A version or time that was given up is version-folded, never its neighbour; it can't be pinned any more."""
    times = {e.table_version: e.created_at for e in lake.table("t").log()}
    vacuum(lake, own(lake), keep_for=NOW)
    for version in (0, 2, 5, 7):
        for act in (lake.read, lambda ref: catalog.publish(lake, ref), lambda ref: lake.snapshot("s", [ref])):
            with pytest.raises(NotFoundError, match="cleaned up") as caught:
                act(f"t@#{version}")
            assert caught.value.kind == "version-folded"
        if times[version + 1] > times[version]:
            at = lake.resolve  # the state at that time is the last of those that are as early
            with pytest.raises(NotFoundError) as caught:
                at(Reference("main", "t", AsOf(times[version])))
            assert caught.value.kind == "version-folded"
    assert lake.resolve(Reference("main", "t", AsOf(times[8]))).table_version == 8
    assert lake.read("t@#3").num_rows == 30


def test_younger_history_stays(lake: Lake) -> None:
    """History that is younger than the span stays, unpinned too, with its change feed."""
    assert not plan_vacuum(lake, own(lake))
    done = vacuum(lake, own(lake), keep_for=timedelta(days=1))
    assert (done.before, done.versions, done.files) == (0, 0, 0)
    assert lake.read("t@#4").num_rows == 30


def test_span_cuts_between_commits(lake: Lake, tmp_path: Path) -> None:
    """A version is history since the commit after it, so the cut keeps the state that was current at its time."""
    entries = {e.table_version: e.created_at for e in lake.table("t").log()}
    found = plan_vacuum(lake, own(lake), keep_for=datetime.now(UTC) - entries[5])
    assert 5 <= found.before <= 8
    assert all(entries[v] <= entries[5] + timedelta(seconds=1) for v in range(found.before))


def test_leases_cursors_and_holds(lake: Lake) -> None:
    """A lease keeps its state, a cursor all from its state on, a hold everything; what they end frees the rest."""
    dataset = own(lake)
    later, now = datetime.now(UTC) + timedelta(hours=1), datetime.now(UTC)
    member = Member(dataset_id=dataset.dataset_id, full_name=dataset.full_name, table_version=1)
    lease = Lease(name="reader", members=(member,), holder="me", created_at=now, expires_at=later)
    cursor = Cursor(job="copy", target="x", dataset_id=dataset.dataset_id, table_version=5, expires_at=later)
    hold = Hold(dataset_id=dataset.dataset_id, full_name=dataset.full_name, reason="case 7", created_at=now)
    decide(lake, lease, cursor, hold)
    for act in (plan_vacuum, vacuum):
        with pytest.raises(StateError, match="case 7") as caught:
            act(lake, dataset, keep_for=NOW)
        assert caught.value.kind == "dataset-held"
    lake.ledger.decide(lambda _: (None, [Decision.remove("test", hold)]))
    done = vacuum(lake, dataset, keep_for=NOW)
    assert (done.before, done.kept, done.limited_by) == (5, (1, 3), "copy")
    assert lake.read("t@#1").num_rows == 10
    feed = DeltaTable(lake.storage.uri(dataset.location), storage_options=lake.storage.options()).load_cdf(6, 8)
    assert pa.table(feed).num_rows == 30
    lake.ledger.decide(lambda _: (None, [Decision.remove("test", lease), Decision.remove("test", cursor)]))
    done = vacuum(lake, dataset, keep_for=NOW)
    assert (done.before, done.kept, done.limited_by) == (8, (3,), None)
    with pytest.raises(LakeError, match="cleaned up"):
        lake.read("t@#1")


def test_unpinned_later(lake: Lake) -> None:
    """Files that an earlier clean-up spared for a pin go when the pin is gone, although their log entries are not there."""
    dataset = own(lake)
    lake.snapshot("s", ["t@#5"])
    vacuum(lake, dataset, keep_for=NOW)
    rows = lake.read("t@snap:s").to_arrow()
    lake.table("t").overwrite(some(0, 3))
    vacuum(lake, dataset, keep_for=NOW)
    assert connect(lake.root).read("t@snap:s").to_arrow().equals(rows)
    size = len(stored(lake))
    lake.delete_snapshot("s")
    done = vacuum(lake, dataset, keep_for=NOW)
    assert done.versions == 1
    assert done.files > 0
    assert len(stored(lake)) == size - done.files
    assert lake.read("t@v1").num_rows == 30


def test_restored_files_stay(lake: Lake) -> None:
    """A file that a restore lists again is not deleted for its first lifetime."""
    dataset = own(lake)
    rows = sorted(lake.read("t@#5").to_arrow().to_pylist(), key=lambda row: row["id"])
    lake.table("t").overwrite(some(0, 3))
    lake.table("t").open().restore(5)
    vacuum(lake, dataset, keep_for=NOW)
    found = connect(lake.root).read("t").to_arrow().to_pylist()
    assert sorted(found, key=lambda row: row["id"]) == rows


def test_death_between_steps(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clean-up that dies after its decision, or half way through deleting, is finished by the next one."""
    log, rows = lake.table("t").log(), lake.read("t@v1").to_arrow()

    class DeathError(Exception):
        pass

    def die(*_: object, **__: object) -> None:
        raise DeathError

    for step in ("lakehouse.vacuum._delete", "lakehouse.vacuum.record", "lakehouse.vacuum.fold"):
        lake.table("t").append(some(100, 101))
        log = [lake.table("t").log(1)[0], *log]
        with monkeypatch.context() as patch:
            patch.setattr(step, die)
            with pytest.raises(DeathError):
                vacuum(connect(lake.root), own(lake), keep_for=NOW)
        assert connect(lake.root).table("t").log() == log
        assert connect(lake.root).read("t@v1").to_arrow().equals(rows)
    vacuum(lake, own(lake), keep_for=NOW)
    assert not plan_vacuum(lake, own(lake), keep_for=NOW)
    assert connect(lake.root).table("t").log() == log
    recorded = folded_commits(lake.storage, own(lake).dataset_id, 0, 100)
    assert [c.table_version for c in recorded] == list(range(len(log)))
    listed = {Path(f).name for ref in ("t@v1", "t") for f in lake.read(ref).files()}
    assert {Path(p).name for p in stored(lake)} == listed


def test_writers_with_old_handles(lake: Lake) -> None:
    """A table object opened before a clean-up goes on writing, and its commits are there."""
    table = lake.table("t")
    handle = table.open()
    vacuum(lake, own(lake), keep_for=NOW)
    assert handle.version() == 8
    assert table.append(some(60, 61)).table_version == 9
    assert table.merge(some(0, 2, "c")).rows_updated == 2
    assert lake.read("t").to_arrow().num_rows == 56


def test_two_clean_ups(lake: Lake) -> None:
    """Whoever decides second plans anew on what the first decided."""
    other = connect(lake.root)
    first = plan_vacuum(lake, own(lake), keep_for=NOW)
    assert vacuum(other, own(lake), keep_for=NOW).files == first.files
    assert not vacuum(lake, own(lake), keep_for=NOW)
    condemned = lake.state().get(Condemned, own(lake).dataset_id)
    assert condemned is not None
    assert (condemned.before, condemned.kept) == (8, (3,))


def test_slow_clean_up(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clean-up that is overtaken between its decision and its fold leaves the rest to the one that went further."""
    fold = folding.fold
    overtaken: list[Plan] = []

    def slowly(*given: Any) -> None:
        if not overtaken:
            overtaken.append(plan_vacuum(lake, own(lake)))
            lake.table("t").append(some(200, 201))
            overtaken.append(vacuum(connect(lake.root), own(lake), keep_for=NOW))
        fold(*given)

    monkeypatch.setattr("lakehouse.vacuum.fold", slowly)
    log = lake.table("t").log()
    assert vacuum(lake, own(lake), keep_for=NOW).before == 8
    assert overtaken[1].before == 9
    assert not plan_vacuum(lake, own(lake), keep_for=NOW)
    assert lake.table("t").log()[1:] == log
    assert lake.read("t@v1").num_rows == 30


def test_removed_files_leave_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint with many removed files is slimmed; every reader opens it as before."""
    monkeypatch.setattr(folding, "_MANY_REMOVED", 1)
    lake = filled(str(tmp_path / "lake"))
    rows = lake.read("t").to_arrow()
    vacuum(lake, own(lake), keep_for=NOW)
    (checkpoint,) = Path(lake.storage.uri(own(lake).location), "_delta_log").glob("*.checkpoint.parquet")
    actions = pq.read_table(checkpoint)
    assert actions.column("remove").null_count == actions.num_rows
    assert connect(lake.root).read("t").to_arrow().equals(rows)
    assert directly(lake, 8) == sorted(rows.to_pylist(), key=lambda row: row["id"])
    assert lake.table("t").merge(some(0, 2, "z")).rows_updated == 2


def test_adopted_tables_only_by_name(tmp_path: Path) -> None:
    """An adopted table is left alone unless it is named; named, its unpinned history goes too."""
    lake = filled(str(tmp_path / "lake"))
    uri = str(tmp_path / "theirs")
    DeltaTable.create(uri, SCHEMA)
    theirs = DeltaTable(uri)
    catalog.adopt_dataset(lake, "theirs", uri)
    for start in range(3):
        write_deltalake(theirs, some(start, start + 1), mode="overwrite")
    assert [p.dataset.full_name for p in catalog.vacuum(lake, keep_for="0", dry_run=True).plans] == ["main.t"]
    assert catalog.vacuum(lake, "theirs", keep_for="0", dry_run=True).files == 2
    assert catalog.vacuum(lake, "theirs", keep_for="0").files == 2
    assert lake.read("theirs").num_rows == 1


def test_logs_that_others_cleaned(tmp_path: Path) -> None:
    """Where a log begins with a checkpoint nobody knows since when files are listed, so older pins keep them."""
    lake = filled(str(tmp_path / "lake"))
    store = obstore.store.LocalStore(lake.storage.uri(own(lake).location))
    table = DeltaTable(lake.storage.uri(own(lake).location), version=5)
    table.create_checkpoint()
    rows = lake.read("t@v1").to_arrow()
    obstore.delete(store, [f"_delta_log/{v:020d}.json" for v in (0, 1, 2, 4)])
    lake.table("t").overwrite(some(0, 3))
    found = plan_vacuum(lake, own(lake), keep_for=NOW)
    assert not {f.path for f in found.dead} & {Path(f).name for f in lake.read("t@#5").files()}
    assert rows.num_rows == 30


def test_surplus_of_a_log() -> None:
    """A version needs the last checkpoint at or before it, the entries up to it, and its own; the rest is surplus."""
    found = LogFiles(tuple(range(10, 31)), {v: (f"c{v}",) for v in (10, 15, 20, 25, 30)})
    gone = found.surplus([12, 20], 28)
    assert {k for k in gone if k.startswith("c")} == {"c15"}
    entries = [int(k[11:31]) for k in gone if k.startswith("_delta")]
    assert entries == [10, *range(13, 20), *range(21, 25)]
    assert found.surplus([], 9) == []
    assert LogFiles((0, 1, 2), {}).surplus([], 2) == []
    assert (found.newest, LogFiles((), {}).newest) == (30, -1)


def test_lifetimes(tmp_path: Path) -> None:
    """A lifetime is half open; a file that is listed again is alive; what was replayed comes back from the store."""
    at = datetime.now(UTC)
    found = Lifetimes(-1)
    for entry in (
        Entry(0, {}, at, {"a": 1, "b": 2}, (), {}),
        Entry(1, {}, at, {"c": 3}, ("a",), {"_change_data/x": 4}),
        Entry(2, {}, at, {"a": 1}, ("b",), {}),
        Entry(3, {}, at, {}, ("c", "unknown"), {}),
    ):
        found.replay(entry)
    dead = {kept: {f.path for f in found.split(kept)[1]} for kept in ((), (0,), (1,), (2,))}
    assert dead[()] == {"b", "c", "_change_data/x", "unknown"}
    assert dead[0,] == {"c", "_change_data/x"}
    assert dead[1,] == {"_change_data/x"}
    assert dead[2,] == {"b", "_change_data/x"}
    storage = make_lake(str(tmp_path / "lake")).storage
    lifetimes.save(storage, "id", found)
    assert lifetimes.load(storage, "id", 3) == found
    assert lifetimes.load(storage, "id", 2) is None
    assert list(lifetimes.outdated(storage, "id", 3)) == []
    assert len(list(lifetimes.outdated(storage, "id", 4))) == 1


def test_log_stays_short(lake: Lake) -> None:
    """After a clean-up the log holds what the pins need, one checkpoint, and the newest entry."""
    for n in range(60):
        lake.table("t").append(some(100 + n, 101 + n))
    vacuum(lake, own(lake), keep_for=NOW)
    found = list_log(lake.storage, own(lake).location)
    assert found.entries == (0, 1, 2, 3, 68)
    assert list(found.checkpoints) == [68]
    assert len(lake.table("t").log()) == 69
