"""Restoring: head equals an earlier state again - rows, order, schema - and the history goes on."""

from __future__ import annotations

from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

import catalog
from lakehouse.decisions import Lease
from lakehouse.errors import ConflictError, InvalidInputError, LakeError, NotFoundError, StateError, StorageError
from lakehouse.lake import Lake, connect
from lakehouse.restoring import plan_restore, restore
from lakehouse.tables import Table
from lakehouse.vacuum import vacuum
from tests.support.lakes import SCHEMA, make_lake, make_table, read, rows
from tests.support.proxy import Action, FaultyProxy
from tests.support.s3 import S3Server

A, B, C = (1, "a", 1.0), (2, "b", 2.0), (3, "c", 3.0)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A lake with the dataset `t`: v1 (#2) has the rows 2, 1; head (#4) other values and no row 1."""
    return fill(make_lake(str(tmp_path / "lake")))


def fill(lake: Lake) -> Lake:
    """Make the dataset `t`."""
    table = make_table(lake, "t", SCHEMA, key=["id"])
    table.append(rows(B))
    table.append(rows(A))
    catalog.publish(lake, "t", data_tag="FINAL")
    table.merge(rows((2, "bb", 2.0)))
    table.delete("id = 1")
    return lake


def test_restore(root_uri: str) -> None:
    """On every backend a restored head equals its source in every engine, and everything goes on from there."""
    lake = fill(make_lake(root_uri))
    commit = restore(lake, "t", "t@v1", message="back")
    assert (commit.table_version, commit.rows_added, commit.rows_removed) == (5, 2, 1)
    assert lake.read("t").to_arrow() == lake.read("t@v1").to_arrow() == rows(B, A)
    assert lake.read("t").to_polars().rows() == [B, A]
    assert lake.sql("select id, name from t").fetchall() == [(2, "b"), (1, "a")]
    assert read(lake, "t@#4") == [(2, "bb", 2.0)]
    entry = lake.table("t").log(1)[0]
    assert (entry.operation, entry.message, entry.user) == ("RESTORE", "back", "tester")
    assert (entry.rows_added, entry.rows_removed) == (2, 1)
    assert list(lake.state().all(Lease)) == []
    lake.table("t").append(rows(C))
    lake.table("t").merge(rows((1, "aa", 1.0)))
    assert sorted(read(lake)) == [(1, "aa", 1.0), B, C]
    counts = connect(root_uri).diff("t@v1", "t").counts
    assert (counts.added, counts.removed, counts.changed) == (1, 0, 1)
    feed = DeltaTable(lake.storage.uri(lake.table("t").dataset.location), storage_options=lake.storage.options())
    kinds = pa.table(feed.load_cdf(starting_version=5, ending_version=5)).column("_change_type").to_pylist()
    assert sorted(kinds) == ["delete", "insert", "insert"]


@pytest.mark.parametrize("selector", ["v1", "#2", "FINAL", "latest", "prod", "spring/v1", "snap:s"])
def test_any_reference(lake: Lake, selector: str) -> None:
    """A state is restored by whatever names it; the dataset's name may be left out."""
    catalog.set_tag(lake, "t@v1", "prod")
    catalog.define_milestone(lake, "spring", ["t"], policy="manual")
    catalog.publish_milestone(lake, "spring")
    lake.snapshot("s", ["t@v1"])
    assert catalog.restore(lake, "T", f"@{selector}").table_version == 5
    assert read(lake) == [B, A]
    assert restore(lake, "t", f"main.t@{selector}").table_version == 5


def test_by_time(lake: Lake) -> None:
    """A time is a reference too."""
    at = lake.table("t").log()[2].created_at
    restore(lake, "t", f"@{at.isoformat().replace('+00:00', 'Z')}")
    assert read(lake) in ([B, A], [B])


def test_the_head_is_not_restored(lake: Lake) -> None:
    """Restoring what head is already makes no commit and no decision."""
    before = lake.state().seq
    for reference in ("t", "@head", "@#4"):
        assert not plan_restore(lake, "t", reference)
        assert restore(lake, "t", reference).table_version == 4
    assert lake.table("t").version() == 4
    assert lake.state().seq == before


def test_schema_comes_back(lake: Lake) -> None:
    """A column that was added since is gone again, and may be added again."""
    table = lake.table("t")
    table.append(pa.table({"id": [5], "more": [1]}), evolve=True)
    plan = plan_restore(lake, "t", "@v1")
    assert plan.before.schema.names == [*plan.source.schema.names, "more"]
    restore(lake, "t", "@v1")
    assert lake.read("t").schema == lake.read("t@v1").schema == SCHEMA
    table.append(pa.table({"id": [6], "more": ["text"]}), evolve=True)
    assert lake.read("t").to_arrow().column("more").to_pylist() == [None, None, "text"]
    restore(lake, "t", "@#6")
    assert lake.read("t").to_arrow().column("more").to_pylist() == [None, 1]


def test_an_empty_state(lake: Lake) -> None:
    """The empty beginning can be restored, and left again."""
    assert restore(lake, "t", "@#0").rows_removed == 1
    assert read(lake) == []
    restore(lake, "t", "@v1")
    assert read(lake) == [B, A]


def test_after_compaction(lake: Lake) -> None:
    """A state from before a compaction comes back, file by file."""
    restore(lake, "t", "@v1")
    lake.table("t").open().optimize.compact()
    assert len(lake.read("t").file_list) == 1
    restore(lake, "t", "@v1")
    assert len(lake.read("t").file_list) == 2
    assert read(lake) == [B, A]


def test_a_clean_up_spares_what_came_back(lake: Lake) -> None:
    """After a restore a clean-up deletes what neither the head nor a pin needs, and nothing else."""
    restore(lake, "t", "@v1")
    vacuum(lake, lake.table("t").dataset, keep_for=timedelta())
    assert read(lake) == read(lake, "t@v1") == [B, A]


def test_another_writer_wins(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """What somebody wrote between the look and the commit is not overwritten."""
    original = Table.retried

    def late(self: Table, *given: Any) -> Any:
        monkeypatch.undo()
        connect(lake.root).table("t").append(rows(C))
        return original(self, *given)

    monkeypatch.setattr(Table, "retried", late)
    with pytest.raises(ConflictError) as caught:
        restore(lake, "t", "@v1")
    assert caught.value.kind == "table-changed"
    assert read(lake) == [(2, "bb", 2.0), C]
    assert list(lake.state().all(Lease)) == []


def test_a_state_that_lost_a_file(lake: Lake) -> None:
    """A state with a missing file is not restored."""
    Path(lake.read("t@v1").files()[0]).unlink()
    with pytest.raises(StorageError) as caught:
        restore(lake, "t", "@v1")
    assert caught.value.kind == "file-missing"
    assert lake.table("t").version() == 4


def test_wrong_references(lake: Lake) -> None:
    """A state of another dataset, and one that does not exist, are refused."""
    make_table(lake, "other", SCHEMA)
    for reference, kind in (("other", "dataset-differs"), ("@v9", "version-not-found"), ("t@@", "reference-invalid")):
        with pytest.raises(LakeError) as caught:
            restore(lake, "t", reference)
        assert caught.value.kind == kind


def test_an_earlier_dataset_of_that_name(root_uri: str) -> None:
    """On every backend the rows of a dropped dataset's version are copied into the one that has its name now."""
    lake = fill(make_lake(root_uri))
    catalog.delete_dataset(lake, "t")
    make_table(lake, "t", SCHEMA, key=["id"], reuse_name=True).append(rows(C))
    assert plan_restore(lake, "t", "@v1").copies
    commit = restore(lake, "t", "@v1")
    assert (commit.table_version, commit.rows_added, commit.rows_removed) == (2, 2, 1)
    assert read(lake) == read(lake, "t@v1") == [B, A]
    assert read(lake, "t@#1") == [C]


def test_an_earlier_dataset_with_other_columns(lake: Lake) -> None:
    """Rows are not copied into other columns than they had."""
    catalog.delete_dataset(lake, "t")
    make_table(lake, "t", pa.schema([("id", pa.int64())]), reuse_name=True)
    with pytest.raises(StateError) as caught:
        restore(lake, "t", "@v1")
    assert caught.value.kind == "schema-differs"


def test_adopted_tables(lake: Lake, tmp_path: Path) -> None:
    """An adopted table is restored like it is written; one that is partitioned is refused."""
    for name, by in (("plain", None), ("parted", ["name"])):
        write_deltalake(tmp_path / name, rows(A), partition_by=by)
        write_deltalake(tmp_path / name, rows(B), mode="overwrite")
        catalog.adopt_dataset(lake, name, str(tmp_path / name))
    restore(lake, "plain", "@#0")
    assert read(lake, "plain") == [A]
    with pytest.raises(InvalidInputError) as caught:
        restore(lake, "parted", "@#0")
    assert caught.value.kind == "table-partitioned"


def test_a_clean_up_that_looked_before(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A restore that comes between a clean-up's look and its decision keeps the files that it listed again."""
    lake.table("t").overwrite(rows(C))
    decide, other = lake.ledger.decide, connect(lake.root)

    def late(*given: Any, **more: Any) -> Any:
        monkeypatch.undo()
        restore(other, "t", "@#4")
        return decide(*given, **more)

    monkeypatch.setattr(lake.ledger, "decide", late)
    vacuum(lake, lake.table("t").dataset, keep_for=timedelta())
    assert read(lake) == [(2, "bb", 2.0)]
    vacuum(lake, lake.table("t").dataset, keep_for=timedelta())
    assert read(lake) == [(2, "bb", 2.0)]
    assert read(lake, "t@v1") == [B, A]


def restore_there(uri: str) -> int:
    """Restore v1 and return the table version that it made."""
    return restore(connect(uri), "t", "@v1").table_version


@pytest.mark.s3
def test_lost_answers(s3_env: S3Server, s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the first answer to every commit is lost, a restore is still recognised, and done once."""
    seen: set[str] = set()

    def drop(method: str, path: str, count: int) -> Action:
        commit = method == "PUT" and "/_delta_log/" in path and path.endswith(".json")
        lost = commit and path not in seen
        seen.add(path)
        return "drop_response" if lost else "pass"

    lake = fill(make_lake(s3_uri))
    with FaultyProxy(s3_env.endpoint, drop) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        # In a process of its own: delta-rs holds Python's lock while it restores, which the proxy needs to answer.
        with get_context("spawn").Pool(1) as pool:
            assert pool.apply_async(restore_there, (s3_uri,)).get(120) == 5
        assert proxy.count("drop_response") >= 3
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_env.endpoint)
    lake = connect(s3_uri)
    assert lake.table("t").version() == 5
    assert read(lake) == [B, A]
    assert list(lake.state().all(Lease)) == []


def clean_up(uri: str, times: int) -> None:
    """Give up all history that nothing needs, again and again."""
    lake = connect(uri)
    for _ in range(times):
        vacuum(lake, lake.table("t").dataset, keep_for=timedelta())


def go_back(uri: str, times: int) -> int:
    """Write, and go back to what was before, again and again; return how often a clean-up was faster."""
    lake, late = connect(uri), 0
    table = lake.table("t")
    for number in range(times):
        before = read(lake)
        version = table.version()
        table.overwrite(rows((number, "x", 0.0)))
        try:
            restore(lake, "t", f"@#{version}")
        except NotFoundError as error:
            assert error.kind == "version-folded"  # noqa: PT017
            late += 1
            continue
        assert read(lake) == before
    return late


def race(uri: str, times: int) -> None:
    """Let two processes clean up while a third one goes back and forth; every head must be whole."""
    lake = fill(make_lake(uri))
    with get_context("spawn").Pool(3) as pool:
        cleaners = [pool.apply_async(clean_up, (uri, 2 * times)) for _ in range(2)]
        assert pool.apply_async(go_back, (uri, times)).get() <= times
        for cleaner in cleaners:
            cleaner.get()
    assert read(lake)
    assert read(lake, "t@v1") == [B, A]


def test_restores_beside_clean_ups(root_uri: str) -> None:
    """On every backend a state is restored whole or refused, whatever clean-ups do meanwhile."""
    race(root_uri, 5)


@pytest.mark.nightly
def test_many_restores_beside_clean_ups(root_uri: str) -> None:
    """100 rounds."""
    race(root_uri, 100)
