"""Snapshots: a state that never moves, and the named ones that pin what a run reads."""

from __future__ import annotations

import pickle
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

import catalog
from lakehouse.errors import InvalidInputError, LakeError, NotFoundError, StateError
from lakehouse.lake import Lake, connect
from tests.support.lakes import make_lake, make_table

SCHEMA = pa.schema([("id", pa.int64()), ("split", pa.string())])


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A lake with the datasets `a` (one published version, two commits) and `b` (empty)."""
    made = make_lake(str(tmp_path / "lake"), "eve")
    table = make_table(made, "a", SCHEMA, key=["id"])
    make_table(made, "b", SCHEMA)
    table.append(pa.table({"id": [1, 2], "split": ["train", "test"]}))
    catalog.publish(made, "a", data_tag="FINAL")
    table.append(pa.table({"id": [3], "split": ["train"]}))
    return made


def test_named_snapshot(root_uri: str) -> None:
    """On every backend a snapshot pins all its states in one commit, and they stay what they were."""
    lake = make_lake(root_uri, "eve")
    tables = [make_table(lake, name, SCHEMA) for name in ("a", "ns.b")]
    for table in tables:
        table.append(pa.table({"id": [1]}))
    before = lake.state().seq
    value = lake.snapshot("run-20-nov", ["a", "ns.b@#0"], message="training", run="run-1")
    assert lake.state().seq == before + 1
    assert [(m.full_name, m.table_version, m.version) for m in value.members] == [
        ("main.a", 1, None),
        ("ns.b", 0, None),
    ]
    assert (value.created_by, value.message, value.expires_at) == ("eve", "training", None)
    tables[0].append(pa.table({"id": [2]}))
    other = connect(root_uri)
    assert other.read("a@snap:RUN-20-nov").to_arrow().column("id").to_pylist() == [1]
    assert other.read("ns.b@snap:run-20-nov").num_rows == 0


def test_snapshot_of_a_version(lake: Lake) -> None:
    """A member that is a published version says so, and reads as that version."""
    [member] = lake.snapshot("s", ["a@FINAL"]).members
    assert (member.version, member.data_tag, member.table_version) == (1, "FINAL", 1)
    version = lake.read("a@snap:s").version
    assert version is not None
    assert version.number == 1


def test_refused_snapshots(lake: Lake) -> None:
    """A bad or taken name, no dataset, one given twice, or a missing one: nothing is pinned."""
    lake.snapshot("taken", ["a"])
    for name, references, kind in (
        ("Taken", ["a"], "snapshot-exists"),
        ("no good", ["a"], "name-invalid"),
        ("s", [], "member-repeated"),
        ("s", ["a", "A@v1"], "member-repeated"),
        ("s", ["a", "zzz"], "dataset-not-found"),
        ("s", ["a@v7"], "version-not-found"),
    ):
        with pytest.raises(LakeError) as caught:
            lake.snapshot(name, references)
        assert caught.value.kind == kind
    assert [s.name for s in catalog.list_snapshots(lake)] == ["taken"]


def test_expiry(lake: Lake) -> None:
    """Spans and aware times are taken, anything that could mean something else is not."""
    now = datetime.now(UTC)
    for number, (span, delta) in enumerate(
        {
            "30m": timedelta(minutes=30),
            "12h": timedelta(hours=12),
            "90d": timedelta(days=90),
            "4w": timedelta(weeks=4),
        }.items()
    ):
        expires = lake.snapshot(f"s{number}", ["a"], expires=span).expires_at
        assert expires is not None
        assert abs(expires - now - delta) < timedelta(minutes=1)
    assert lake.snapshot("exact", ["a"], expires=now + timedelta(days=1)).expires_at == now + timedelta(days=1)
    for bad in ("90", "d", "0d", "-1d", "1y", "9999999d", "tomorrow"):
        with pytest.raises(InvalidInputError) as caught:
            lake.snapshot("bad", ["a"], expires=bad)
        assert caught.value.kind == "expires-invalid"
    with pytest.raises(InvalidInputError) as caught:
        lake.snapshot("bad", ["a"], expires=datetime(2030, 1, 1))  # noqa: DTZ001
    assert caught.value.kind == "time-naive"


def test_far_expiry(lake: Lake) -> None:
    """A span beyond the end of time is refused, not a crash."""
    with pytest.raises(InvalidInputError) as caught:
        lake.snapshot("bad", ["a"], expires="999999w")
    assert caught.value.kind == "expires-invalid"


def test_delete(lake: Lake) -> None:
    """A deleted snapshot is gone, an expired one can be deleted too, and the name is free again."""
    lake.snapshot("s", ["a"])
    assert lake.delete_snapshot("S").name == "s"
    with pytest.raises(NotFoundError):
        lake.read("a@snap:s")
    with pytest.raises(NotFoundError):
        lake.delete_snapshot("s")
    with pytest.raises(InvalidInputError) as caught:
        lake.snapshot("s", ["a"], expires=datetime.now(UTC) - timedelta(seconds=1))
    assert caught.value.kind == "expires-invalid"
    until = datetime.now(UTC) + timedelta(seconds=0.2)
    lake.snapshot("s", ["a"], expires=until)
    time.sleep(max(0.0, (until - datetime.now(UTC)).total_seconds() + 0.01))
    with pytest.raises(StateError):
        lake.read("a@snap:s")
    lake.delete_snapshot("s")
    lake.snapshot("s", ["b"])
    assert lake.read("b@snap:s").num_rows == 0


def test_opened_state_never_moves(lake: Lake) -> None:
    """A snapshot opened at head keeps its rows, its count and its files whatever is committed afterwards."""
    snapshot = lake.read("a")
    rows, files = snapshot.to_arrow(), snapshot.files()
    lake.table("a").overwrite(pa.table({"id": [9]}))
    assert snapshot.to_arrow() == rows
    assert (snapshot.num_rows, snapshot.files(), snapshot.table_version) == (3, files, 2)
    copy = pickle.loads(pickle.dumps(snapshot))
    assert copy.to_arrow() == rows
    assert (copy.reference, copy.created_at) == ("main.a@head", snapshot.created_at)


def test_created_at_is_the_commits(lake: Lake) -> None:
    """A state tells the time of its commit, the same as the log, whether it is published or not."""
    times = {e.table_version: e.created_at for e in lake.table("a").log()}
    assert lake.read("a").created_at == times[2]
    assert lake.read("a@#0").created_at == times[0]
    assert lake.read("a@v1").created_at == lake.read("a@#1").created_at == times[1]


def test_one_row(lake: Lake) -> None:
    """A row is found by its key, rows by values; wrong keys and columns are refused by kind."""
    snapshot = lake.read("a")
    assert snapshot.get(2) == {"id": 2, "split": "test"}
    assert [r["id"] for r in snapshot.find(split="train")] == [1, 3]
    assert snapshot.find(split=None) == []
    for refused, kind in (
        (lambda: snapshot.get(7), "row-not-found"),
        (lambda: snapshot.get(1, 2), "key-invalid"),
        (lambda: lake.read("b").get(1), "key-invalid"),
        (lambda: snapshot.find(splt="x"), "column-not-found"),
        (lambda: snapshot.to_arrow(columns=["splt"]), "column-not-found"),
        (lambda: snapshot.assets(), "assets-missing"),
        (lambda: snapshot.metadata, "version-not-published"),
    ):
        with pytest.raises(LakeError) as caught:
            refused()
        assert caught.value.kind == kind


def test_split(lake: Lake) -> None:
    """A split reads like the snapshot, with its own rows only."""
    train = lake.read("a").split("train")
    assert train.num_rows == 2
    assert train.to_arrow(columns=["id"]).column("id").to_pylist() == [1, 3]
    assert lake.read("a").split("it's").num_rows == 0
