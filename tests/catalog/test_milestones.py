"""Milestones: several datasets, one version, one commit."""

from __future__ import annotations

import pyarrow as pa
import pytest

import catalog
from lakehouse.decisions import MilestoneVersion
from lakehouse.errors import InvalidInputError, NotFoundError, StateError
from lakehouse.lake import Lake, connect
from lakehouse.tables import Table
from tests.support.lakes import make_lake, make_table

SCHEMA = pa.schema([("id", pa.int64())])


@pytest.fixture
def labels(lake: Lake) -> Table:
    """A second dataset, `labels`."""
    return make_table(lake, "labels", SCHEMA)


def test_publish(root_uri: str) -> None:
    """On every backend a milestone version pins what its members had published, in one commit, for ever."""
    lake = make_lake(root_uri)
    tables = [make_table(lake, name, SCHEMA) for name in ("a", "ns.b")]
    catalog.define_milestone(lake, "spring", ["a", "ns.b"], policy="manual", description="both")
    for table in tables:
        table.append(pa.table({"id": [1]}))
        catalog.publish(lake, table.name, data_tag="FINAL")
    before = lake.state().seq
    info = catalog.publish_milestone(lake, "spring", message="go")
    assert lake.state().seq == before + 1
    assert (info.version.number, info.version.status, info.attribute, info.color) == (
        1,
        "Published",
        "IS_FINAL",
        "Green",
    )
    for table in tables:
        table.append(pa.table({"id": [2]}))
    catalog.publish(lake, "a")
    with pytest.raises(StateError, match=r"main\.a@v2 is DRAFT, ns\.b@v1 is FINAL") as caught:
        catalog.publish_milestone(lake, "SPRING")
    assert (caught.value.kind, caught.value.context["waiting"]) == ("milestone-not-ready", ["main.a"])
    catalog.publish(lake, "ns.b")
    assert catalog.publish_milestone(lake, "SPRING").version.data_tag == "DRAFT"
    other = connect(root_uri)
    assert other.read("a@spring/v1").num_rows == other.read("ns.b@main.spring/v1").num_rows == 1
    assert other.read("a@spring/latest").num_rows == 2
    assert other.read("ns.b@main.spring/v2").num_rows == 2
    assert other.read("a@spring/FINAL").num_rows == 1
    bundle = other.milestone("spring/v1")
    assert list(bundle.datasets) == ["main.a", "ns.b"]
    assert bundle.sql("select (select count(*) from a) + (select count(*) from ns.b)").fetchall() == [(2,)]


def test_not_ready(photos: Table, labels: Table, lake: Lake) -> None:
    """A milestone waits for members without a version, and names them; nothing is published."""
    catalog.define_milestone(lake, "m", ["photos", "labels"])
    catalog.publish(lake, "photos")
    with pytest.raises(StateError, match=r"main\.labels") as caught:
        catalog.publish_milestone(lake, "m")
    assert (caught.value.kind, caught.value.context["waiting"]) == ("milestone-not-ready", ["main.labels"])
    assert list(lake.state().all(MilestoneVersion)) == []
    catalog.publish(lake, "labels")
    catalog.delete_dataset(lake, "labels")
    with pytest.raises(StateError, match=r"main\.labels was deleted: .* undrop main\.labels") as caught:
        catalog.publish_milestone(lake, "m")
    assert (caught.value.kind, caught.value.context["waiting"]) == ("milestone-not-ready", ["main.labels"])


@pytest.mark.parametrize("name", ["m/v7", "main.m/FINAL", "m/latest"])
def test_a_version_is_not_chosen_in_advance(photos: Table, lake: Lake, name: str) -> None:
    """Where the milestone itself is meant, a name that chooses a version is refused, and nothing is decided."""
    catalog.define_milestone(lake, "m", ["photos"])
    catalog.publish(lake, "photos")
    before = lake.state().seq
    for refused in (lambda: catalog.publish_milestone(lake, name), lambda: catalog.define_milestone(lake, name, ["x"])):
        with pytest.raises(InvalidInputError, match=r"main\.m\.") as caught:
            refused()
        assert caught.value.kind == "reference-invalid"
    assert lake.state().seq == before


def test_archived_versions_are_not_read(photos: Table, lake: Lake) -> None:
    """An archived version is refused by its number; `latest` and a data tag mean the newest that is not archived."""
    catalog.define_milestone(lake, "m", ["photos"])
    for _ in range(2):
        catalog.publish(lake, "photos")
    catalog.archive_milestone(lake, "m/v2")
    assert lake.milestone("m").version.number == catalog.show_milestone(lake, "m/DRAFT").version.number == 1
    catalog.archive_milestone(lake, "m/v1")
    for refused in (
        lambda: lake.read("photos@m/v2"),
        lambda: lake.milestone("m"),
        lambda: catalog.show_milestone(lake, "m/DRAFT"),
    ):
        with pytest.raises(StateError, match="archived") as caught:
            refused()
        assert caught.value.kind == "milestone-archived"


def test_membership_of_a_version_never_changes(photos: Table, labels: Table, lake: Lake) -> None:
    """A milestone that gets other members gives its next version to them; old versions keep theirs, and the count."""
    for name in ("photos", "labels"):
        catalog.publish(lake, name)
    first = catalog.define_milestone(lake, "m", ["photos"], description="d")
    catalog.publish_milestone(lake, "m")
    changed = catalog.define_milestone(lake, "M", ["labels"])
    assert (changed.full_name, changed.description, changed.created_at) == ("main.m", "d", first.created_at)
    assert catalog.publish_milestone(lake, "m").version.number == 2
    assert set(lake.milestone("m/v1").datasets) == {"main.photos"}
    assert set(lake.milestone("m").datasets) == {"main.labels"}
    with pytest.raises(NotFoundError) as caught:
        lake.read("photos@m/v2")
    assert caught.value.kind == "not-a-member"
    assert catalog.show_dataset(lake, "labels").milestones == ["main.m"]
    assert [m.full_name for m in catalog.list_milestones(lake)] == ["main.m"]


def test_deleted_member_stays_readable(photos: Table, lake: Lake) -> None:
    """What a milestone pinned can be read after the dataset was deleted and its name used again."""
    catalog.publish(lake, "photos")
    catalog.define_milestone(lake, "m", ["photos"])
    catalog.publish_milestone(lake, "m")
    catalog.delete_dataset(lake, "photos")
    assert lake.read("photos@m/v1").num_rows == 2
    make_table(lake, "photos", SCHEMA, reuse_name=True)
    assert lake.read("photos@m/v1").num_rows == 2
    assert lake.read("photos").num_rows == 0


@pytest.mark.parametrize(
    ("name", "members", "kind"),
    [
        ("m", [], "member-repeated"),
        ("m", ["photos", "main.PHOTOS"], "member-repeated"),
        ("no good", ["photos"], "reference-invalid"),
    ],
)
def test_refused_definitions(photos: Table, lake: Lake, name: str, members: list[str], kind: str) -> None:
    """A milestone needs a good name and at least one member, each once."""
    with pytest.raises(InvalidInputError) as caught:
        catalog.define_milestone(lake, name, members)
    assert caught.value.kind == kind


def test_unknown(photos: Table, lake: Lake) -> None:
    """An unknown member, milestone or version is named, with what is close."""
    with pytest.raises(NotFoundError) as caught:
        catalog.define_milestone(lake, "m", ["photo"])
    assert caught.value.kind == "dataset-not-found"
    catalog.define_milestone(lake, "spring", ["photos"])
    with pytest.raises(NotFoundError, match="spring") as caught:
        catalog.publish_milestone(lake, "sprin")
    assert caught.value.kind == "milestone-not-found"
    with pytest.raises(NotFoundError, match="none was published") as caught:
        catalog.show_milestone(lake, "spring")
    assert caught.value.kind == "milestone-version-not-found"
