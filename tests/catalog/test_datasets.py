"""Datasets: a name stands for one table, and keeps its numbering for ever."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

import catalog
from lakehouse.errors import InvalidInputError, LakeError, NotFoundError, StateError
from lakehouse.lake import Lake, connect
from lakehouse.tables import Table
from tests.support.lakes import make_lake, make_table

SCHEMA = pa.schema([("id", pa.int64()), ("label", pa.string())])


def test_create_and_show(lake: Lake) -> None:
    """What was given at creation is what any other process sees."""
    parent = catalog.create_dataset(lake, "vision.photos", SCHEMA, key=["id"], kind="assets")
    made = catalog.create_dataset(
        lake,
        "vision.features",
        SCHEMA,
        key=["id"],
        kind="features",
        parent="vision.photos",
        description="numbers",
        license="CC-BY-4.0",
        owner="eve",
    )
    info = catalog.show_dataset(connect(lake.root), "VISION.Features")
    assert info.dataset == made
    assert (made.full_name, made.parent, made.kind, made.owner) == (
        "vision.features",
        parent.dataset_id,
        "features",
        "eve",
    )
    assert (info.latest_version, info.tags, info.milestones, info.children) == (0, {}, [], [])
    assert catalog.show_dataset(lake, "vision.photos").children == ["vision.features"]
    snapshot = lake.read("vision.features")
    assert (snapshot.table_version, snapshot.num_rows, snapshot.schema) == (0, 0, SCHEMA)
    assert snapshot.to_arrow() == SCHEMA.empty_table()


@pytest.mark.parametrize(
    ("name", "schema", "key", "kind"),
    [
        ("no good", SCHEMA, [], "reference-invalid"),
        ("lake.x", SCHEMA, [], "name-reserved"),
        ("Milestone", SCHEMA, [], "name-reserved"),
        ("x", SCHEMA, ["nothing"], "key-invalid"),
        ("x", SCHEMA, ["id", "id"], "key-invalid"),
        ("x", pa.schema([("a", pa.duration("s"))]), [], "unsupported-type"),
        ("x", pa.schema([("a", pa.int8()), ("A", pa.int8())]), [], "schema-case-conflict"),
        ("x", pa.schema([("a", pa.int8()), ("a", pa.int8())]), [], "duplicate-column"),
    ],
)
def test_refused(lake: Lake, name: str, schema: pa.Schema, key: list[str], kind: str) -> None:
    """What can't be a dataset is refused by kind, and nothing is left behind."""
    with pytest.raises(InvalidInputError) as caught:
        catalog.create_dataset(lake, name, schema, key=key)
    assert caught.value.kind == kind
    assert catalog.list_datasets(lake) == []


def test_unknown_parent(lake: Lake) -> None:
    """A parent that does not exist is named."""
    with pytest.raises(NotFoundError, match="nobody"):
        catalog.create_dataset(lake, "x", SCHEMA, parent="nobody")


def test_names_are_unique_ignoring_case(photos: Table, lake: Lake) -> None:
    """A taken name is refused, in whatever case."""
    for name in ("photos", "PHOTOS", "main.Photos"):
        with pytest.raises(StateError) as caught:
            catalog.create_dataset(lake, name, SCHEMA)
        assert caught.value.kind == "dataset-exists"
    catalog.create_dataset(lake, "other.photos", SCHEMA)


def test_a_namespace_has_one_spelling(lake: Lake) -> None:
    """The first dataset spells its namespace, for created and adopted ones after it, even when it was deleted."""
    first = catalog.create_dataset(lake, "Vision.a", SCHEMA)
    catalog.delete_dataset(lake, "Vision.a")
    second = catalog.create_dataset(lake, "vision.b", SCHEMA)
    assert (second.full_name, second.location.split("/")[0]) == ("Vision.b", "Vision")
    other = catalog.create_dataset(make_lake(f"{lake.root}-other"), "x", SCHEMA)
    adopted = catalog.adopt_dataset(lake, "VISION.c", f"{lake.root}-other/{other.location}")
    assert adopted.namespace == catalog.show_dataset(lake, "vision.c").dataset.namespace == first.namespace


def test_creators_at_once_spell_a_namespace_alike(lake: Lake) -> None:
    """Datasets made at the same time in one namespace, in different case, end up with one spelling."""
    names = ("Vision.a", "vision.b", "VISION.c", "viSion.d")
    with ThreadPoolExecutor(4) as pool:
        made = pool.map(lambda name: catalog.create_dataset(connect(lake.root), name, SCHEMA).namespace, names)
    assert len(set(made)) == len({i.dataset.namespace for i in catalog.list_datasets(lake)}) == 1


def test_one_creator_wins(lake: Lake) -> None:
    """Of many that create one name at the same time exactly one succeeds, and the name stands for its table."""

    def create(n: int) -> str | None:
        try:
            return catalog.create_dataset(connect(lake.root), "x", SCHEMA).dataset_id
        except StateError as error:
            return None if error.kind == "dataset-exists" else error.kind

    with ThreadPoolExecutor(6) as pool:
        made = [one for one in pool.map(create, range(6)) if one]
    assert made == [catalog.show_dataset(lake, "x").dataset.dataset_id]


def test_list(photos: Table, lake: Lake) -> None:
    """Datasets are listed by name, of one namespace if asked for, deleted ones apart."""
    for name in ("b.two", "b.One", "zoo"):
        catalog.create_dataset(lake, name, SCHEMA)
    catalog.delete_dataset(lake, "zoo")
    names = [i.dataset.full_name for i in catalog.list_datasets(lake)]
    assert names == ["b.One", "b.two", "main.photos"]
    assert [i.dataset.full_name for i in catalog.list_datasets(lake, namespace="B")] == ["b.One", "b.two"]
    assert [i.dataset.full_name for i in catalog.list_datasets(lake, deleted=True)] == ["main.zoo"]


def test_delete_and_undrop(photos: Table, lake: Lake) -> None:
    """A deleted dataset is not written and has no head; its versions stay readable; undrop brings all of it back."""
    catalog.publish(lake, "photos")
    deleted = catalog.delete_dataset(lake, "photos", message="clean up")
    assert deleted.deleted_at is not None
    for refused in (
        lambda: lake.read("photos"),
        lambda: lake.read("photos@#1"),
        lambda: lake.table("photos"),
        lambda: catalog.delete_dataset(lake, "photos"),
        lambda: catalog.publish(lake, "photos"),
    ):
        with pytest.raises(NotFoundError, match="undrop") as caught:
            refused()
        assert caught.value.kind == "dataset-deleted"
    assert lake.read("photos@v1").num_rows == 2
    assert catalog.undrop_dataset(lake, "photos").deleted_at is None
    assert lake.read("photos").num_rows == 2


def test_numbering_goes_on(photos: Table, lake: Lake) -> None:
    """A name that is used again goes on at the next number, and old references keep meaning the old rows."""
    catalog.publish(lake, "photos")
    catalog.set_tag(lake, "photos@v1", "prod")
    catalog.delete_dataset(lake, "photos")
    catalog.create_dataset(lake, "Photos", SCHEMA, reuse_name=True)
    assert lake.read("photos").num_rows == 0
    assert catalog.publish(lake, "photos").number == 2
    assert lake.read("photos@v1").num_rows == lake.read("photos@prod").num_rows == 2
    assert lake.read("photos@v2").num_rows == 0
    shown = catalog.show_dataset(lake, "photos").latest_version
    assert shown == 2
    assert lake.sql("select latest_version from datasets").fetchall() == [(shown,), (shown,)]
    with pytest.raises(StateError) as caught:
        catalog.undrop_dataset(lake, "photos")
    assert caught.value.kind == "dataset-exists"


def test_a_deleted_name_is_kept(photos: Table, lake: Lake, tmp_path: Path) -> None:
    """Nothing takes the name of a deleted dataset by accident; each way says how to bring it back or to reuse the name."""
    catalog.publish(lake, "photos")
    catalog.delete_dataset(lake, "photos")
    make_table(lake, "other", SCHEMA)
    catalog.publish(lake, "other")
    write_deltalake(str(tmp_path / "theirs"), pa.table({"id": [1]}))
    for way in (
        lambda: catalog.create_dataset(lake, "Photos", SCHEMA),
        lambda: catalog.adopt_dataset(lake, "photos", str(tmp_path / "theirs")),
        lambda: catalog.fork_dataset(lake, "other@v1", "photos"),
    ):
        with pytest.raises(StateError, match=r"undrop main.photos.*--reuse-name") as caught:
            way()
        assert caught.value.kind == "name-kept"
    assert catalog.undrop_dataset(lake, "photos").name == "photos"


def test_every_deleted_dataset_comes_back(photos: Table, lake: Lake) -> None:
    """Of several that were deleted under one name, each can be chosen; the name has one at a time."""
    photos.append(pa.table({"id": [3], "label": ["emu"]}))
    catalog.delete_dataset(lake, "photos")
    second = catalog.create_dataset(lake, "photos", SCHEMA, reuse_name=True)
    with pytest.raises(StateError, match=f"--id {photos.dataset.dataset_id}"):
        catalog.undrop_dataset(lake, "photos")
    catalog.delete_dataset(lake, "photos")
    assert catalog.undrop_dataset(lake, "photos", dataset_id=photos.dataset.dataset_id).deleted_at is None
    assert lake.read("photos").num_rows == 3
    catalog.rename_dataset(lake, "photos", "pictures")
    catalog.delete_dataset(lake, "pictures")
    assert catalog.undrop_dataset(lake, "pictures", dataset_id=second.dataset_id).full_name == "main.pictures"
    assert lake.read("pictures").num_rows == 0
    with pytest.raises(NotFoundError, match="--deleted"):
        catalog.undrop_dataset(lake, "other", dataset_id="nonsense")


def test_undrop_what_never_was(lake: Lake) -> None:
    """There is nothing to bring back under a name that was never used."""
    with pytest.raises(NotFoundError) as caught:
        catalog.undrop_dataset(lake, "x")
    assert caught.value.kind == "dataset-not-found"


def test_suggestion(photos: Table, lake: Lake) -> None:
    """A mistyped name is answered with the close one."""
    with pytest.raises(LakeError, match="Did you mean 'photos'"):
        lake.read("photo")
