"""Versions: numbered, proven, unmoved; tags that move."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

import catalog
from lakehouse.delta import table_uri
from lakehouse.errors import InvalidInputError, LakeError, NotFoundError, StateError, StorageError
from lakehouse.lake import Lake, connect
from lakehouse.tables import Table
from tests.support.lakes import make_lake, make_table


def test_publish(root_uri: str) -> None:
    """On every backend a version says what it pins, and stays the same after every kind of change."""
    lake = make_lake(root_uri, "eve")
    table = make_table(lake, "photos", pa.schema([("id", pa.int64()), ("label", pa.string())]), key=["id"])
    table.append(pa.table({"id": [2, 1], "label": ["a", "b"]}))
    version = catalog.publish(lake, "photos", data_tag="final", message="first", run="run-1")
    assert (version.number, version.table_version, version.data_tag) == (1, 1, "FINAL")
    assert (version.rows, version.files, version.created_by) == (2, 1, "eve")
    assert (version.message, version.run) == ("first", "run-1")
    rows = lake.read("photos@v1").to_arrow()
    table.append(pa.table({"id": [3], "label": ["c"]}))
    table.merge(pa.table({"id": [1], "label": ["B"]}))
    table.delete("id = 2")
    table.append(pa.table({"id": [4], "label": ["d"], "more": [1]}), evolve=True)
    table.overwrite(pa.table({"id": [9], "label": ["z"]}))
    again = connect(root_uri)
    snapshot = again.read("photos@v1")
    assert snapshot.to_arrow() == rows
    assert (snapshot.version, snapshot.created_at) == (version, version.committed_at)
    assert catalog.publish(again, "photos").number == 2
    assert again.read("photos@latest").to_arrow().column("id").to_pylist() == [9]
    assert again.read("photos@FINAL").to_arrow() == rows


def test_publish_an_older_state(photos: Table, lake: Lake) -> None:
    """Any table version can be published, more than once too; numbers go on."""
    photos.append(pa.table({"id": [3], "label": ["x"]}))
    assert catalog.publish(lake, "photos@#0").rows == 0
    assert catalog.publish(lake, "photos@#1").rows == 2
    second = catalog.publish(lake, "photos@v2", data_tag="REVIEWED")
    assert (second.number, second.table_version) == (3, 1)
    assert [v.number for v in catalog.list_versions(lake, "photos")] == [3, 2, 1]
    found = lake.resolve("photos@#1").version
    assert found is not None
    assert found.number == 3


@pytest.mark.parametrize("damage", ["missing", "cut", "replaced"])
def test_damaged_state_is_not_published(photos: Table, lake: Lake, damage: str) -> None:
    """A state with a missing, cut or replaced file is refused by its file's name, and no number is used up."""
    [uri] = lake.read("photos").files()
    data = Path(uri).read_bytes()
    if damage == "missing":
        Path(uri).unlink()
    else:
        Path(uri).write_bytes(data[:-10] if damage == "cut" else b"x" * len(data))
    with pytest.raises(StorageError, match=Path(uri).name) as caught:
        catalog.publish(lake, "photos")
    assert caught.value.kind == ("file-missing" if damage == "missing" else "file-damaged")
    assert catalog.list_versions(lake, "photos") == []
    Path(uri).write_bytes(data)
    assert catalog.publish(lake, "photos").number == 1


def test_tags(photos: Table, lake: Lake) -> None:
    """A tag moves, is found in any case, keeps the case that it was set in last, and can go."""
    catalog.publish(lake, "photos")
    photos.append(pa.table({"id": [3], "label": ["x"]}))
    catalog.publish(lake, "photos")
    catalog.set_tag(lake, "photos@v1", "Prod")
    assert lake.read("photos@prod").table_version == 1
    catalog.set_tag(lake, "photos@latest", "prod")
    assert lake.read("photos@PROD").table_version == 2
    assert catalog.list_tags(lake, "photos") == {"prod": 2}
    catalog.remove_tag(lake, "photos", "PROD")
    assert catalog.list_tags(lake, "photos") == {}
    with pytest.raises(NotFoundError) as caught:
        catalog.remove_tag(lake, "photos", "prod")
    assert caught.value.kind == "tag-not-found"


def test_tags_and_data_tags_share_one_space(photos: Table, lake: Lake) -> None:
    """A word is a tag or a data tag, never both, in whatever order they come."""
    catalog.publish(lake, "photos", data_tag="gold")
    for word in ("GOLD", "final", "DRAFT"):
        with pytest.raises(StateError) as caught:
            catalog.set_tag(lake, "photos@v1", word)
        assert caught.value.kind == "tag-taken"
    catalog.set_tag(lake, "photos@v1", "prod")
    with pytest.raises(StateError) as caught:
        catalog.publish(lake, "photos", data_tag="PROD")
    assert caught.value.kind == "tag-taken"


@pytest.mark.parametrize("word", ["v3", "head", "Latest", "2026-11-01", "a b", ""])
def test_reserved_words(photos: Table, lake: Lake, word: str) -> None:
    """What a selector could mean otherwise is neither a tag nor a data tag."""
    catalog.publish(lake, "photos")
    for refused in (
        lambda: catalog.set_tag(lake, "photos@v1", word),
        lambda: catalog.publish(lake, "photos", data_tag=word),
    ):
        with pytest.raises(InvalidInputError):
            refused()


def test_only_versions_are_tagged(photos: Table, lake: Lake) -> None:
    """A state that was never published gets no tag."""
    with pytest.raises(StateError) as caught:
        catalog.set_tag(lake, "photos", "prod")
    assert caught.value.kind == "version-not-published"
    with pytest.raises(NotFoundError):
        catalog.set_tag(lake, "photos@v1", "prod")


def test_deleted_datasets_get_no_tags(photos: Table, lake: Lake) -> None:
    """A version of a deleted dataset is read, and gets no tag before the dataset is brought back."""
    catalog.publish(lake, "photos")
    catalog.delete_dataset(lake, "photos")
    with pytest.raises(NotFoundError) as caught:
        catalog.set_tag(lake, "photos@v1", "prod")
    assert caught.value.kind == "dataset-deleted"
    catalog.undrop_dataset(lake, "photos")
    assert catalog.set_tag(lake, "photos@v1", "prod").number == 1


def test_deleted_while_published(photos: Table, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the name gets another table between reading and deciding, nothing is published under it."""
    decide = lake.ledger.decide

    def late(*args: object, **kwargs: object) -> object:
        other = connect(lake.root)
        catalog.delete_dataset(other, "photos")
        catalog.create_dataset(other, "photos", photos.schema(), reuse_name=True)
        return decide(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(lake.ledger, "decide", late)
    with pytest.raises(StateError) as caught:
        catalog.publish(lake, "photos")
    assert caught.value.kind == "dataset-replaced"


def test_unreadable_version_says_so(photos: Table, lake: Lake, tmp_path: Path) -> None:
    """A version whose table is gone says so when it is opened, not when rows are missing."""
    catalog.publish(lake, "photos")
    Path(table_uri(lake.storage, photos.dataset.location)).rename(tmp_path / "away")
    with pytest.raises(LakeError) as caught:
        lake.read("photos@v1")
    assert caught.value.kind == "table-missing"
