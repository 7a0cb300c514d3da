"""Metadata of datasets, and the history of tags."""

from __future__ import annotations

import pytest

import catalog
from lakehouse import Lake, LakeError
from lakehouse.tables import Table
from tests.support.lakes import SCHEMA, make_table
from tests.support.registered import answers


def test_metadata(photos: Table, lake: Lake) -> None:
    """Values are set in one commit, changed under a name in any case, listed by name, seen in SQL, and removed."""
    before = lake.state().seq
    catalog.set_metadata(lake, "photos", {"Sensor": "Mk II", "cost-center": "4711"})
    assert lake.state().seq == before + 1
    catalog.set_metadata(lake, "photos", {"sensor": "Mk III"})
    found = [(m.name, m.value, m.created_by) for m in catalog.list_metadata(lake, "photos")]
    assert found == [("cost-center", "4711", "tester"), ("sensor", "Mk III", "tester")]
    assert answers(lake, "select dataset, name, value from metadata") == [
        ("main.photos", "cost-center", "4711"),
        ("main.photos", "sensor", "Mk III"),
    ]
    gone = catalog.remove_metadata(lake, "photos", ["SENSOR"])
    assert [m.value for m in gone] == ["Mk III"]
    assert [m.name for m in catalog.list_metadata(lake, "photos")] == ["cost-center"]


def test_the_same_metadata_is_no_decision(photos: Table, lake: Lake) -> None:
    """Setting what is there already decides nothing, and keeps since when it is there."""
    first = catalog.set_metadata(lake, "photos", {"a": "1"})
    seq = lake.state().seq
    assert catalog.set_metadata(lake, "photos", {"a": "1"}) == first
    assert lake.state().seq == seq


def test_metadata_belongs_to_the_dataset(photos: Table, lake: Lake) -> None:
    """It comes back with a dataset that was deleted, and does not pass to another one of that name."""
    catalog.set_metadata(lake, "photos", {"a": "1"})
    catalog.delete_dataset(lake, "photos")
    with pytest.raises(LakeError) as error:
        catalog.list_metadata(lake, "photos")
    assert error.value.kind == "dataset-deleted"
    catalog.undrop_dataset(lake, "photos")
    assert [m.value for m in catalog.list_metadata(lake, "photos")] == ["1"]
    catalog.delete_dataset(lake, "photos")
    make_table(lake, "photos", SCHEMA, reuse_name=True)
    assert catalog.list_metadata(lake, "photos") == []


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"": "x"}, "metadata-name-invalid"),
        ({"a b": "x"}, "metadata-name-invalid"),
        ({"-a": "x"}, "metadata-name-invalid"),
        ({"a" * 129: "x"}, "metadata-name-invalid"),
        ({"a": "1", "A": "2"}, "metadata-name-invalid"),
        ({"a": "ä" * 2049}, "metadata-too-long"),
    ],
)
def test_metadata_that_is_refused(photos: Table, lake: Lake, values: dict[str, str], kind: str) -> None:
    """Names that are none and values that are too long are refused, and nothing is set; no message has the value."""
    with pytest.raises(LakeError) as error:
        catalog.set_metadata(lake, "photos", {"good": "1"} | values)
    assert error.value.kind == kind
    assert "ää" not in str(error.value)
    assert catalog.list_metadata(lake, "photos") == []


def test_the_longest_metadata(photos: Table, lake: Lake) -> None:
    """4 KiB are allowed, in any script."""
    catalog.set_metadata(lake, "photos", {"größe/κ": "ä" * 2048})
    assert len(catalog.list_metadata(lake, "photos")[0].value) == 2048


def test_unknown_metadata(photos: Table, lake: Lake) -> None:
    """Removing what is not there names what is close, and removes nothing."""
    catalog.set_metadata(lake, "photos", {"sensor": "x"})
    with pytest.raises(LakeError, match="'sensor'") as error:
        catalog.remove_metadata(lake, "photos", ["sensor", "senser"])
    assert error.value.kind == "metadata-not-found"
    assert len(catalog.list_metadata(lake, "photos")) == 1


def test_tag_history(photos: Table, lake: Lake) -> None:
    """Each move is told with where from and where to, newest first; also of tags that are gone, and after a delete."""
    make_table(lake, "other", SCHEMA)
    catalog.publish(lake, "other")
    catalog.set_tag(lake, "other@v1", "prod")
    catalog.publish(lake, "photos")
    photos.delete("id = 1")
    catalog.publish(lake, "photos")
    catalog.set_tag(lake, "photos@v1", "Prod")
    catalog.set_tag(lake, "photos@v1", "best")
    catalog.set_tag(lake, "photos@v1", "prod")  # where it was
    catalog.set_tag(Lake(lake.storage, "bea"), "photos@v2", "prod")
    catalog.remove_tag(lake, "photos", "prod")
    catalog.set_tag(lake, "photos@v2", "prod")
    catalog.delete_dataset(lake, "photos")
    moves = catalog.tag_history(lake, "photos")
    assert [(m.tag, m.old, m.new, m.actor) for m in moves] == [
        ("prod", None, 2, "tester"),
        ("prod", 2, None, "tester"),
        ("prod", 1, 2, "bea"),
        ("best", None, 1, "tester"),
        ("Prod", None, 1, "tester"),
    ]
    assert [m.at for m in moves] == sorted((m.at for m in moves), reverse=True)
    assert [m.new for m in catalog.tag_history(lake, "photos", "BEST")] == [1]
    assert catalog.tag_history(lake, "photos", "none") == []
    with pytest.raises(LakeError) as error:
        catalog.tag_history(lake, "nothing")
    assert error.value.kind == "dataset-not-found"
