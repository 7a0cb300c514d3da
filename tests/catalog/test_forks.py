"""Forks: rows, order, schema, parent, lineage, shared bytes of assets."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

import catalog
import jobs
from catalog.schema_formats import SchemaSpec
from jobs.ingest.idx import encode_png
from lakehouse import sweep_bytes
from lakehouse.decisions import Column, Cursor
from lakehouse.errors import InvalidInputError, NotFoundError, StateError
from lakehouse.lake import Lake
from tests.support.lakes import filled, make_lake, read, rows

ID, NAME, SIZE = (Column(name=n, type=t) for n, t in (("id", "int64"), ("name", "string"), ("size", "double")))


@pytest.fixture
def lake(root_uri: str) -> Lake:
    """A lakehouse on each backend with a table of several commits, whose middle has a merge."""
    lake = make_lake(root_uri, actor="ada")
    table = filled(lake, 3)
    table.merge(rows((7, "new name", 0.5), (1000, "added", None)))
    table.append(rows((2000, "last", 1.0)))
    return lake


def test_a_fork_has_the_rows_in_their_order(lake: Lake) -> None:
    """Files are copied as they are; from there both go their own way, and lineage knows."""
    catalog.evolve_schema(lake, "t", SchemaSpec((ID, NAME, Column(name="size", type="double", unit="kB"))))
    before = read(lake)
    made = catalog.fork_dataset(lake, "t", "other", owner="ben")
    assert (made.taken.copied, made.taken.rows, made.dataset.owner) == (True, len(before), "ben")
    assert read(lake, "other") == before
    shown = catalog.show_dataset(lake, "t")
    assert shown.children == ["main.other"]
    found = catalog.show_schema(lake, "other").schema
    assert (found.number, found.columns[2].unit, found.key_columns) == (1, "kB", ("id",))
    assert [f.rsplit("/", 1)[1] for f in lake.read("other").files()] == [
        f.rsplit("/", 1)[1] for f in lake.read("t").files()
    ]
    lake.table("t").delete("id < 100")
    lake.table("other").append(rows((3000, "own", None)))
    catalog.vacuum(lake, "t", keep_for=timedelta(0))
    assert read(lake, "other") == [*before, (3000, "own", None)]
    assert lake.read("other").get(7) == {"id": 7, "name": "new name", "size": 0.5}
    [edge] = catalog.lineage(lake, "other@#1")
    assert (edge.job, edge.input) == ("fork", f"main.t@#{made.source.table_version}")
    assert list(lake.state().all(Cursor)) == []
    assert lake.table("other").log()[-2].operation == "FORK"
    assert catalog.verify(lake).ok


def test_a_fork_of_a_version_has_its_rows(lake: Lake) -> None:
    """Any state can be forked; columns that are only added leave the files as they are."""
    catalog.publish(lake, "t")
    before = read(lake)
    lake.table("t").append(rows((4000, "later", None)))
    made = catalog.fork_dataset(lake, "t@v1", "old", SchemaSpec((ID, NAME, SIZE, Column(name="n", type="int32"))))
    assert made.taken.copied
    assert read(lake, "old") == [(*row, None) for row in before]
    lake.table("old").append(pa.table({"id": [5], "n": pa.array([7], pa.int32())}))
    assert lake.read("old").to_arrow(where="n is not null").to_pylist() == [
        {"id": 5, "name": None, "size": None, "n": 7}
    ]


def test_a_fork_with_other_columns_writes_the_rows_anew(lake: Lake) -> None:
    """Numbers become text, columns are left out, and the key stays where its columns do."""
    before = read(lake)
    made = catalog.fork_dataset(lake, "t", "text", SchemaSpec((Column(name="id", type="string"), NAME)))
    assert (made.taken.copied, made.dataset.key_columns) == (False, ("id",))
    assert read(lake, "text") == [(str(i), name) for i, name, _ in before]
    assert catalog.fork_dataset(lake, "t", "keyless", SchemaSpec((NAME,))).dataset.key_columns == ()


def test_rows_that_do_not_fit_leave_no_dataset(lake: Lake) -> None:
    """Nothing is made; an empty fork is, and takes the rows that follow."""
    small = SchemaSpec((Column(name="id", type="int8"), NAME, SIZE))
    with pytest.raises(InvalidInputError) as error:
        catalog.fork_dataset(lake, "t", "small", small)
    assert error.value.kind == "value-invalid"
    with pytest.raises(NotFoundError):
        lake.read("small")
    assert catalog.fork_dataset(lake, "t", "small", small, empty=True).taken.rows == 0
    assert lake.read("small").num_rows == 0
    with pytest.raises(StateError) as taken:
        catalog.fork_dataset(lake, "t", "small")
    assert taken.value.kind == "dataset-exists"


def test_an_adopted_table_becomes_ours(lake: Lake, tmp_path: Path) -> None:
    """Its rows are written anew, so that its owner can't take them away."""
    write_deltalake(tmp_path / "foreign", pa.table({"a": [1, 2]}))
    catalog.adopt_dataset(lake, "foreign", str(tmp_path / "foreign"))
    made = catalog.fork_dataset(lake, "foreign", "ours")
    assert (made.taken.copied, made.dataset.guarantee, read(lake, "ours")) == (False, "own", [(1,), (2,)])


def test_a_fork_of_assets_shares_their_bytes(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No byte is stored again; they stay while one of the two mentions them; another namespace has its own."""
    (tmp_path / "images").mkdir()
    for seed in range(3):
        image = encode_png(np.random.default_rng(seed).integers(0, 256, (16, 16), np.uint8))
        (tmp_path / "images" / f"{seed}.png").write_bytes(image)
    jobs.ingest(lake, tmp_path / "images", dataset="vision.photos")
    stored = {o.key for o in lake.storage.list("_blobs/")}
    made = catalog.fork_dataset(lake, "vision.photos", "vision.mine")
    assert (made.dataset.kind, made.taken.copied) == ("assets", True)
    assert {o.key for o in lake.storage.list("_blobs/")} == stored
    lake.table("vision.photos").delete("true")
    catalog.vacuum(lake, "vision.photos", keep_for=timedelta(0))
    monkeypatch.setattr(sweep_bytes, "check_age", lambda _: None)
    sweep_bytes.sweep_bytes(lake, timedelta(seconds=-60))
    assert {o.key for o in lake.storage.list("_blobs/")} == stored
    for asset in lake.read("vision.mine").assets(["path"]):
        assert asset.data == (tmp_path / "images" / asset.row["path"]).read_bytes()
    with pytest.raises(InvalidInputError) as error:
        catalog.fork_dataset(lake, "vision.mine", "elsewhere.photos")
    assert error.value.kind == "fork-namespace"
