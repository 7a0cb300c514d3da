"""Renaming: the dataset, its versions and all that points at it stay; the old name goes on meaning it."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

import catalog
from lakehouse.errors import InvalidInputError, LakeError, NotFoundError, StateError
from lakehouse.lake import Lake, connect
from lakehouse.resolution import find_name
from lakehouse.tables import Table
from tests.support.lakes import make_lake, make_table
from tests.support.registered import answers

SCHEMA = pa.schema([("id", pa.int64()), ("label", pa.string())])
ROWS = pa.table({"id": [1, 2], "label": ["cat", "dog"]})


def test_rename(root_uri: str) -> None:
    """On every backend old and new name mean the dataset, with all its versions and tags; output says the new one."""
    lake = make_lake(root_uri)
    make_table(lake, "vision.photos", SCHEMA, key=["id"]).append(ROWS)
    catalog.publish(lake, "vision.photos", data_tag="FINAL")
    catalog.set_tag(lake, "vision.photos@v1", "prod")
    first = catalog.show_dataset(lake, "vision.photos").dataset
    before = lake.state().seq
    made = catalog.rename_dataset(lake, "vision.photos", "vision.Images", message="clearer")
    assert lake.state().seq == before + 1
    assert (made.full_name, made.dataset_id, made.location) == ("vision.Images", first.dataset_id, first.location)
    again = connect(root_uri)
    for selector in ("", "@v1", "@latest", "@prod", "@FINAL", "@#1"):
        old, new = (again.read(f"vision.{name}{selector}") for name in ("photos", "Images"))
        assert old.reference == new.reference == f"vision.Images{selector or '@head'}"
        assert old.to_arrow() == new.to_arrow() == ROWS
        assert old.version == new.version
        assert (old.version.full_name if old.version else "") == "vision.Images"
    assert again.sql("from vision.photos").to_arrow_table() == again.sql('from "vision.images@v1"').to_arrow_table()
    again.table("vision.photos").append(pa.table({"id": [3], "label": ["emu"]}))
    version = catalog.publish(again, "vision.photos")
    assert (version.full_name, version.number) == ("vision.Images", 2)
    info = catalog.show_dataset(again, "vision.photos")
    assert (info.dataset.full_name, info.aliases, info.tags) == ("vision.Images", ("vision.photos",), {"prod": 1})
    assert catalog.restore(again, "vision.photos", "vision.images@v1").rows_added is not None
    with again.lease("vision.photos") as leased:
        assert leased.read("vision.photos").num_rows == leased.read("vision.images").num_rows == 2
    assert answers(again, "select dataset, aliases from datasets") == [("vision.Images", ["vision.photos"])]
    assert answers(again, "select distinct dataset from versions") == [("vision.Images",)]
    assert answers(again, "select distinct dataset from pins where kind = 'version'") == [("vision.Images",)]
    assert catalog.verify(again).ok


def test_names_are_kept(photos: Table, lake: Lake) -> None:
    """Former names lead to a dataset in one step, are refused to others, and a dataset may return to one."""
    dataset = photos.dataset
    for new in ("images", "pictures", "stills"):
        catalog.rename_dataset(lake, "photos", new)
    assert catalog.show_dataset(lake, "stills").aliases == ("main.images", "main.photos", "main.pictures")
    assert [lake.read(n).reference for n in ("photos", "images")] == ["main.stills@head"] * 2
    for name in ("PHOTOS", "pictures", "stills"):
        with pytest.raises(StateError) as caught:
            catalog.create_dataset(lake, name, SCHEMA)
        assert caught.value.kind == "dataset-exists"
    assert catalog.rename_dataset(lake, "pictures", "images").dataset_id == dataset.dataset_id
    assert catalog.show_dataset(lake, "stills").dataset.full_name == "main.images"
    assert catalog.show_dataset(lake, "stills").aliases == ("main.photos", "main.pictures", "main.stills")
    before = lake.state().seq
    catalog.rename_dataset(lake, "stills", "images")
    assert lake.state().seq == before
    catalog.rename_dataset(lake, "images", "Images")
    assert catalog.show_dataset(lake, "images").dataset.full_name == "main.Images"
    catalog.delete_dataset(lake, "photos")
    with pytest.raises(NotFoundError) as gone:
        lake.read("photos")
    assert gone.value.kind == "dataset-deleted"
    assert catalog.undrop_dataset(lake, "photos").full_name == "main.Images"


@pytest.mark.parametrize(
    ("new", "kind"),
    [
        ("other.photos", "rename-namespace"),
        ("Milestone", "name-reserved"),
        ("no good", "reference-invalid"),
        ("taken", "dataset-exists"),
        ("gone", "dataset-exists"),
        ("former", "dataset-exists"),
    ],
)
def test_refused(photos: Table, lake: Lake, new: str, kind: str) -> None:
    """Another namespace, a name that is kept, taken, or under which other versions are read, is refused; nothing changes."""
    for name in ("taken", "gone", "former"):
        catalog.create_dataset(lake, name, SCHEMA)
    catalog.delete_dataset(lake, "gone")
    catalog.rename_dataset(lake, "former", "latter")
    before = lake.state().seq
    with pytest.raises(LakeError) as caught:
        catalog.rename_dataset(lake, photos.name, new)
    assert caught.value.kind == kind
    assert lake.state().seq == before


def test_unalias(photos: Table, lake: Lake) -> None:
    """A former name that was given back can be used anew, and numbers on, so that no old reference means other rows."""
    catalog.publish(lake, "photos")
    catalog.rename_dataset(lake, "photos", "images")
    with pytest.raises(NotFoundError) as caught:
        catalog.unalias_dataset(lake, "images")
    assert caught.value.kind == "alias-not-found"
    assert catalog.unalias_dataset(lake, "photos").full_name == "main.images"
    with pytest.raises(NotFoundError) as gone:
        lake.read("photos@v1")
    assert gone.value.kind == "dataset-not-found"
    make_table(lake, "photos", SCHEMA)
    assert catalog.show_dataset(lake, "photos").latest_version == 0
    assert answers(lake, "select dataset, latest_version from datasets") == [("main.images", 1), ("main.photos", None)]
    with pytest.raises(NotFoundError, match="none was published yet"):
        lake.read("photos@latest")
    assert catalog.publish(lake, "photos").number == 2
    with pytest.raises(NotFoundError, match="has only v2"):
        lake.read("photos@v1")
    assert lake.read("images@v1").num_rows == 2


def test_unalias_of_a_name_in_use(photos: Table, lake: Lake) -> None:
    """A former name that a check reads by is not given back."""
    child = make_table(lake, "scores", SCHEMA)
    child.append(ROWS)
    catalog.add_check(lake, "scores", "foreign_key", ["id"], parameters={"to": "photos", "to_columns": ["id"]})
    catalog.rename_dataset(lake, "photos", "images")
    assert [found.ok for found in catalog.run_checks(lake, "scores")] == [True]
    with pytest.raises(StateError) as caught:
        catalog.unalias_dataset(lake, "photos")
    assert caught.value.kind == "alias-used"
    assert "main.scores: foreign_key_id" in caught.value.message


def test_milestones_follow(lake: Lake) -> None:
    """Definitions follow with their links; published versions stay as they were, and nothing counts as new by its name."""
    for name in ("orders", "items"):
        make_table(lake, name, SCHEMA).append(ROWS)
        catalog.publish(lake, name)
    catalog.define_milestone(lake, "spring", ["orders", "items"], links=["items.id -> orders.id"])
    catalog.rename_dataset(lake, "orders", "sales")
    found = catalog.milestone_status(lake, "spring")
    assert found.milestone.members == ("main.sales", "main.items")
    assert str(found.milestone.links[0]) == "main.items(id) -> main.sales(id)"
    assert found.pending is None
    assert found.published is not None
    assert found.published.number == 1
    assert [m.full_name for m in found.published.members] == ["main.orders", "main.items"]
    assert not catalog.compare_milestones(lake, "spring/v1", "spring/v1")[0].diff
    for name in ("orders", "sales"):
        assert lake.read(f"{name}@spring/v1").reference == "main.sales@main.spring/v1"
        assert lake.sql(f"from {name}", milestone="spring/v1").to_arrow_table() == ROWS
    lake.table("items").append(pa.table({"id": [2], "label": ["again"]}))
    catalog.publish(lake, "items")
    second = catalog.show_milestone(lake, "spring/v2").version
    assert [(m.full_name, m.version) for m in second.members] == [("main.sales", 1), ("main.items", 2)]
    assert len(second.proofs) == 1
    changes = catalog.compare_milestones(lake, "spring/v1", "spring/v2")
    assert [(c.dataset, c.old is None, c.new is None) for c in changes] == [
        ("main.sales", False, False),
        ("main.items", False, False),
    ]
    catalog.unalias_dataset(lake, "orders")
    assert lake.read("orders@spring/v1").to_arrow() == ROWS
    assert lake.sql('from "orders@spring/v1"').to_arrow_table() == ROWS


def test_members_that_must_all_be_new(lake: Lake) -> None:
    """In a milestone that waits for all members, a renamed one is not new either."""
    for name in ("a", "b"):
        make_table(lake, name, SCHEMA).append(ROWS)
        catalog.publish(lake, name)
    catalog.define_milestone(lake, "m", ["a", "b"], advance="all")
    catalog.rename_dataset(lake, "a", "c")
    make = catalog.publish(lake, "b")
    found = catalog.milestone_status(lake, "m")
    assert (make.number, found.published and found.published.number) == (2, 1)
    assert found.pending is not None
    assert [(w.kind, w.dataset) for w in found.pending.waiting] == [("not-new", "main.c")]
    assert catalog.leave_milestone(lake, "m", "a").milestone.members == ("main.b",)


def test_what_else_follows(photos: Table, lake: Lake) -> None:
    """Holds, snapshots, checks, schemas and children stay with the dataset."""
    catalog.set_hold(lake, "photos", "case 1")
    catalog.add_check(lake, "photos", "not_null", ["id"])
    catalog.create_dataset(lake, "labels", SCHEMA, parent="photos")
    lake.snapshot("before", ["photos"])
    catalog.rename_dataset(lake, "photos", "images")
    assert [h.full_name for h in catalog.list_holds(lake)] == ["main.images"]
    assert catalog.release_hold(lake, "photos").full_name == "main.images"
    assert [c.name for c in catalog.list_checks(lake, "images")] == ["not_null_id"]
    assert [s.schema.number for s in catalog.list_schemas(lake, "photos")] == [1]
    assert catalog.show_dataset(lake, "images").children == ["main.labels"]
    assert lake.read("images@snap:before").num_rows == lake.read("photos@snap:before").num_rows == 2


def test_earlier_datasets_of_the_name(photos: Table, lake: Lake) -> None:
    """The numbering moves as a whole: versions of a dataset that was deleted before are read under the new name."""
    catalog.publish(lake, "photos")
    catalog.delete_dataset(lake, "photos")
    make_table(lake, "photos", SCHEMA, reuse_name=True)
    catalog.rename_dataset(lake, "photos", "images")
    assert catalog.publish(lake, "images").number == 2
    assert [lake.read(f"images@v{n}").num_rows for n in (1, 2)] == [2, 0]
    assert {v.full_name for v in catalog.list_versions(lake, "images")} == {"main.images"}


PUBLISH = """
import sys, catalog
from lakehouse.lake import connect
lake = connect(sys.argv[1])
for _ in range(5): catalog.publish(lake, "photos")
"""
RENAME = """
import sys, catalog
from lakehouse.lake import connect
lake = connect(sys.argv[1])
for n in range(5): catalog.rename_dataset(lake, "photos", f"images{n}")
"""


def test_rename_and_publish_at_once(photos: Table, lake: Lake) -> None:
    """Of two processes that rename and publish, neither loses anything: all numbers are there, under the last name."""
    both = [subprocess.Popen([sys.executable, "-c", code, lake.root]) for code in (PUBLISH, RENAME)]
    assert [process.wait(240) for process in both] == [0, 0]
    info = catalog.show_dataset(lake, photos.name)
    assert (info.dataset.full_name, info.latest_version) == ("main.images4", 5)
    assert [v.number for v in catalog.list_versions(lake, "images4")] == [5, 4, 3, 2, 1]
    assert {lake.read(f"photos@v{n}").num_rows for n in range(1, 6)} == {2}


def test_one_of_two_renames_wins(photos: Table, lake: Lake) -> None:
    """Of two datasets that take one name at once one gets it, and the other keeps its own."""
    catalog.create_dataset(lake, "scans", SCHEMA)

    def take(name: str) -> bool:
        try:
            return bool(catalog.rename_dataset(connect(lake.root), name, "images"))
        except StateError as error:
            return error.kind != "dataset-exists"

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(take, [photos.name, "scans"])) == [False, True]


def test_another_namespace_says_what_to_do(lake: Lake) -> None:
    """Whoever forgets the namespace is told the name that was meant."""
    catalog.create_dataset(lake, "vision.photos", SCHEMA)
    with pytest.raises(InvalidInputError, match=r"vision\.images"):
        catalog.rename_dataset(lake, "vision.photos", "images")


def test_decisions_of_earlier_releases(photos: Table, lake: Lake) -> None:
    """Names and versions that know nothing of former names and notices are read as before."""
    made = catalog.publish(lake, photos.name)
    name = find_name(lake.state(), "main.photos")
    for value, since in ((name, {"alias_of"}), (made, {"notice", "noticed_at", "noticed_by", "withdrawn"})):
        old = {key: part for key, part in json.loads(value.to_json()).items() if key not in since}
        assert type(value).from_json(json.dumps(old)) == value
