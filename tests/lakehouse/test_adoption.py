"""Adopted tables: read and written in place, never taken over."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

import catalog
from lakehouse.errors import FormatError, InvalidInputError, LakeError, NotFoundError, StateError, StorageError
from lakehouse.lake import Lake
from tests.support.lakes import make_lake, make_table

ROWS = pa.table({"id": [1, 2], "name": ["a", "b"]})


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A fresh lake in a folder."""
    return make_lake(str(tmp_path / "lake"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A Delta table that somebody else made, with two versions."""
    path = tmp_path / "their table"
    write_deltalake(str(path), ROWS)
    write_deltalake(str(path), pa.table({"id": [3], "name": ["c"]}), mode="append")
    return path


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Return every file below a folder with its size and time."""
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in folder.rglob("*")}


def test_adopt(lake: Lake, folder: Path) -> None:
    """An adopted table is read at every version, published and tagged, and nothing is written into its folder."""
    before = listing(folder)
    dataset = catalog.adopt_dataset(lake, "theirs", str(folder), key=["id"], description="d", license="MIT")
    assert (dataset.guarantee, dataset.location, dataset.key_columns) == ("external", str(folder.resolve()), ("id",))
    assert dataset.delta_id == str(DeltaTable(str(folder)).metadata().id)
    assert sorted(lake.read("theirs").to_arrow().column("id").to_pylist()) == [1, 2, 3]
    assert lake.read("theirs@#0").to_arrow() == ROWS
    assert lake.read("theirs").get(3) == {"id": 3, "name": "c"}
    version = catalog.publish(lake, "theirs", data_tag="FINAL")
    catalog.set_tag(lake, "theirs@v1", "prod")
    assert (version.table_version, version.rows) == (1, 3)
    assert lake.read("theirs@prod").metadata.rows == 3
    assert lake.sql('select count(*) from "theirs@FINAL"').fetchall() == [(3,)]
    assert len(lake.table("theirs").log()) == 2
    assert listing(folder) == before


@pytest.mark.s3
def test_adopt_across_backends(lake: Lake, folder: Path, s3_uri: str) -> None:
    """A table on S3 is adopted by a lake in a folder, and a folder by a lake on S3, written to as well."""
    write_deltalake(f"{s3_uri}/theirs", ROWS)
    elsewhere = make_lake(f"{s3_uri}/lake")
    for own, location in ((lake, f"{s3_uri}/theirs"), (elsewhere, str(folder))):
        catalog.adopt_dataset(own, "theirs", location, key=["id"])
        own.table("theirs").append(pa.table({"id": [7], "name": ["x"]}))
        assert own.table("theirs").merge(pa.table({"id": [7], "name": ["y"]})).rows_updated == 1
        assert own.read("theirs").get(7) == {"id": 7, "name": "y"}
        assert catalog.publish(own, "theirs").number == 1
        assert own.read("theirs@v1").scan().collect().height == own.read("theirs@v1").num_rows


def test_write_and_changes_by_others(lake: Lake, folder: Path) -> None:
    """We may write to it, others may too, and both see each other's rows."""
    catalog.adopt_dataset(lake, "theirs", str(folder), key=["id"])
    lake.table("theirs").merge(pa.table({"id": [1, 9], "name": ["A", "z"]}))
    write_deltalake(str(folder), pa.table({"id": [10], "name": ["w"]}), mode="append")
    assert dict(lake.read("theirs").to_polars().sort("id").iter_rows()) == {1: "A", 2: "b", 3: "c", 9: "z", 10: "w"}
    assert DeltaTable(str(folder)).version() == 3


def test_one_location_is_one_dataset(lake: Lake, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A location is adopted once, however its path is written; after a delete it is free again."""
    catalog.adopt_dataset(lake, "theirs", str(folder))
    link = folder.parent / "link"
    link.symlink_to(folder)
    monkeypatch.chdir(folder.parent)
    ways = [str(folder), f"{folder}/", f"{folder.parent}/x/../{folder.name}", folder.name, folder.as_uri(), str(link)]
    for way in ways:
        with pytest.raises(StateError) as caught:
            catalog.adopt_dataset(lake, "again", way)
        assert caught.value.kind == "location-taken"
    catalog.delete_dataset(lake, "theirs")
    catalog.adopt_dataset(lake, "again", str(link))
    with pytest.raises(StateError) as caught:
        catalog.undrop_dataset(lake, "theirs")
    assert caught.value.kind == "location-taken"


def test_own_tables_are_not_adopted(lake: Lake) -> None:
    """Neither a dataset's own table, deleted or not, nor the lakehouse's own ledger becomes a second dataset."""
    table = make_table(lake, "mine", ROWS.schema)
    gone = make_table(lake, "gone", ROWS.schema)
    catalog.delete_dataset(lake, "gone")
    with pytest.raises(StateError, match=r"undrop main\.gone") as caught:
        catalog.adopt_dataset(lake, "again", lake.storage.uri(gone.dataset.location))
    assert caught.value.kind == "location-taken"
    assert catalog.undrop_dataset(lake, "gone").dataset_id == gone.dataset.dataset_id
    for location in (table.dataset.location, "_system/ledger"):
        with pytest.raises(StateError) as caught:
            catalog.adopt_dataset(lake, "again", lake.storage.uri(location))
        assert caught.value.kind == "location-taken"


def test_refused(lake: Lake, folder: Path, tmp_path: Path) -> None:
    """No table there, a key that it lacks, a taken or bad name: nothing is registered."""
    make_table(lake, "mine", ROWS.schema)
    (tmp_path / "empty").mkdir()
    for name, location, key, kind in (
        ("x", tmp_path / "nothing", [], "table-missing"),
        ("x", tmp_path / "empty", [], "table-missing"),
        ("x", folder, ["nope"], "key-invalid"),
        ("x", folder, ["id", "id"], "key-invalid"),
        ("mine", folder, [], "dataset-exists"),
        ("lake.x", folder, [], "name-reserved"),
    ):
        with pytest.raises((InvalidInputError, NotFoundError, StateError)) as caught:
            catalog.adopt_dataset(lake, name, str(location), key=key)
        assert isinstance(caught.value, LakeError)
        assert caught.value.kind == kind
    assert not (tmp_path / "nothing").exists()
    assert [i.dataset.full_name for i in catalog.list_datasets(lake)] == ["main.mine"]


def test_replaced(lake: Lake, folder: Path) -> None:
    """When somebody puts another table there, reading head and versions says so instead of giving other rows."""
    catalog.adopt_dataset(lake, "theirs", str(folder))
    catalog.publish(lake, "theirs")
    folder.rename(folder.with_name("old"))
    write_deltalake(str(folder), pa.table({"id": [5], "name": ["q"]}))
    write_deltalake(str(folder), pa.table({"id": [6], "name": ["q"]}), mode="append")
    for reference in ("theirs", "theirs@v1", "theirs@#0"):
        with pytest.raises(FormatError) as caught:
            lake.read(reference)
        assert caught.value.kind == "table-replaced"


def test_vacuumed_by_others(lake: Lake, folder: Path) -> None:
    """A version whose files its owner vacuumed says so when it is read, and can't be published again."""
    catalog.adopt_dataset(lake, "theirs", str(folder))
    catalog.publish(lake, "theirs")
    write_deltalake(str(folder), pa.table({"id": [5], "name": ["q"]}), mode="overwrite")
    DeltaTable(str(folder)).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    with pytest.raises(StorageError, match=r"publish main\.theirs --copy") as caught:
        lake.read("theirs@v1")
    assert caught.value.kind == "file-missing"
    assert catalog.publish(lake, "theirs").rows == 1
    with pytest.raises(LakeError) as caught:
        catalog.publish(lake, "theirs@v1")
    assert caught.value.kind == "file-missing"


@pytest.mark.s3
def test_diff_across_backends(lake: Lake, s3_uri: str) -> None:
    """A lake in a folder compares versions of a table on S3, also where that takes the footers of common files."""
    write_deltalake(f"{s3_uri}/theirs", ROWS)
    catalog.adopt_dataset(lake, "theirs", f"{s3_uri}/theirs", key=["id"])
    wider = pa.table({"id": [3], "name": ["c"], "more": [1]})
    write_deltalake(f"{s3_uri}/theirs", wider, mode="append", schema_mode="merge")
    found = lake.diff("theirs@#0", "theirs@#1")
    assert found.counts.added == 1
    assert found.counts.removed == found.counts.changed == 0
