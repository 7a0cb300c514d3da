"""Links of milestones: counted at exactly the members' versions, once for each pair."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

import catalog
from catalog.foreign_keys import find_orphans
from catalog.milestones import parse_link
from lakehouse.decisions import MilestoneVersion
from lakehouse.errors import InvalidInputError, NotFoundError, StateError
from lakehouse.lake import Lake
from tests.support.lakes import make_lake, make_table

PARENT = pa.schema([("id", pa.int64()), ("name", pa.string())])
CHILD = pa.schema([("id", pa.int64()), ("parent", pa.int64())])
LINK = "child.parent -> parent.id"


@pytest.fixture
def lake(root_uri: str) -> Lake:
    """A child with two keys of its parent and a null."""
    lake = make_lake(root_uri)
    make_table(lake, "parent", PARENT).append(pa.table({"id": [1, 2], "name": ["a", "b"]}))
    make_table(lake, "child", CHILD).append(pa.table({"id": [1, 2, 3], "parent": [1, 2, None]}))
    return lake


def detail(lake: Lake) -> list[tuple[str, str]]:
    """Return what the milestone waits for: (kind, words)."""
    pending = catalog.milestone_status(lake, "m").pending
    return [(w.kind, w.detail) for w in pending.waiting] if pending else []


def publish(lake: Lake, *names: str) -> None:
    """Publish datasets."""
    for name in names:
        catalog.publish(lake, name, data_tag="FINAL")


def test_orphans_keep_it_pending(lake: Lake) -> None:
    """Keys without a parent are counted and sampled; no value of a row is in the ledger; mended, it goes on."""
    lake.table("child").append(pa.table({"id": [4, 5, 6], "parent": [77_077, 77_077, 88_088]}))
    catalog.define_milestone(lake, "m", ["parent", "child"], links=[LINK])
    publish(lake, "parent", "child")
    [(kind, words)] = detail(lake)
    assert kind == "link-orphans"
    assert "3 of 5 rows have keys in parent that main.parent@v1 has not in id" in words
    [found] = catalog.milestone_orphans(lake, "m")
    assert (found.rows, found.orphans, found.sample[0]) == (5, 3, {"parent": 77_077, "rows": 2})
    assert not any("77077" in value for _, _, value in lake.state().raw())
    lake.table("parent").append(pa.table({"id": [77_077, 88_088], "name": ["c", "d"]}))
    publish(lake, "parent")
    assert detail(lake) == []
    assert lake.milestone("m").version.number == 1
    assert catalog.milestone_orphans(lake, "m") == []


def test_proofs_are_cited(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new version of one member verifies only the links that touch it; the proof of the others is cited."""
    make_table(lake, "other", CHILD).append(pa.table({"id": [1], "parent": [2]}))
    counted: list[str] = []

    def count(child: Any, *rest: Any) -> Any:
        counted.append(child.dataset.name)
        return find_orphans(child, *rest)

    monkeypatch.setattr("catalog.linkage.find_orphans", count)
    catalog.define_milestone(lake, "m", ["parent", "child", "other"], links=[LINK, "other.parent -> parent.id"])
    publish(lake, "parent", "child", "other")
    assert sorted(counted) == ["child", "other"]
    counted.clear()
    lake.table("child").append(pa.table({"id": [9], "parent": [1]}))
    publish(lake, "child")
    assert counted == ["child"]
    one, other = (lake.state().get(MilestoneVersion, f"main.m/v{n}") for n in (1, 2))
    assert one is not None
    assert other is not None
    assert one.proofs[1] == other.proofs[1]
    assert (one.proofs[0].child_version, other.proofs[0].child_version) == (1, 2)


def test_a_key_of_another_type(lake: Lake) -> None:
    """A key whose type differs is not compared by a cast: it is said, and nothing is published."""
    make_table(lake, "texts", pa.schema([("parent", pa.string())])).append(pa.table({"parent": ["1"]}))
    catalog.define_milestone(lake, "m", ["parent", "texts"], links=["texts.parent -> parent.id"])
    publish(lake, "parent", "texts")
    [(kind, words)] = detail(lake)
    assert kind == "link-type"
    assert "main.texts@v1 has string in 'parent', main.parent@v1 has int64 in 'id'" in words
    with pytest.raises(StateError, match="string in 'parent'") as caught:
        catalog.publish_milestone(lake, "m")
    assert caught.value.kind == "milestone-not-ready"


def remake(lake: Lake, name: str, column: str) -> None:
    """Make a dataset anew with one column of integers; its numbering goes on."""
    catalog.delete_dataset(lake, name)
    make_table(lake, name, pa.schema([(column, pa.int64())]), reuse_name=True).append(pa.table({column: [1, 2]}))


def test_a_lost_column(lake: Lake) -> None:
    """A member that lost a column since the last version keeps it pending, until somebody accepts that."""
    catalog.define_milestone(lake, "m", ["parent", "child"], links=[LINK])
    publish(lake, "parent", "child")
    remake(lake, "parent", "id")
    publish(lake, "parent")
    [(kind, words)] = detail(lake)
    assert kind == "schema-changed"
    assert "main.parent@v2 has no column 'name', which v1 had" in words
    assert catalog.publish_milestone(lake, "m", accept_schema=True).version.number == 2
    remake(lake, "child", "id")
    publish(lake, "child")
    assert [kind for kind, _ in detail(lake)] == ["schema-changed", "link-column"]


def test_several_columns(lake: Lake) -> None:
    """A key of several columns is compared as one; a row in which one of them is null refers to nothing."""
    schema = pa.schema([("a", pa.int64()), ("b", pa.string())])
    make_table(lake, "p", schema).append(pa.table({"a": [1, 1], "b": ["x", "y"]}))
    make_table(lake, "c", schema).append(pa.table({"a": [1, 1, 2, None], "b": ["x", "z", None, "y"]}))
    catalog.define_milestone(lake, "m", ["p", "c"], links=["c.(a, b) -> p.(a, b)"])
    publish(lake, "p", "c")
    [(_, words)] = detail(lake)
    assert "1 of 2 rows have keys in a, b that" in words
    assert catalog.milestone_orphans(lake, "m")[0].sample == [{"a": 1, "b": "z", "rows": 1}]


@pytest.mark.parametrize(
    "text", ["child.parent", "child -> parent.id", "child.parent -> parent.(id, name)", "child.parent -> gone.id", "a"]
)
def test_wrong_links(lake: Lake, text: str) -> None:
    """A link that does not parse, or is not between members, is refused, and nothing is defined."""
    with pytest.raises(InvalidInputError) as caught:
        catalog.define_milestone(lake, "m", ["parent", "child"], links=[text])
    assert caught.value.kind == "link-invalid"
    assert catalog.list_milestones(lake) == []


def test_checks_that_nobody_has(lake: Lake) -> None:
    """A milestone can't name a check that no member has; when its last one goes, it waits, and says for what."""
    catalog.add_check(lake, "child", "row_count", parameters={"min": 1}, name="enough", severity="warning")
    with pytest.raises(
        NotFoundError, match=r"No member of main.m has a check 'enuogh'\. Did you mean 'enough'\?"
    ) as caught:
        catalog.define_milestone(lake, "m", ["parent", "child"], checks=["enuogh"])
    assert (caught.value.kind, catalog.list_milestones(lake)) == ("check-not-found", [])
    catalog.define_milestone(lake, "m", ["parent", "child"], checks=["enough"])
    catalog.remove_check(lake, "child", "enough")
    publish(lake, "parent", "child")
    [(kind, words)] = detail(lake)
    assert kind == "no-check"
    assert "no member has a check 'enough'" in words
    catalog.define_milestone(lake, "m", ["parent", "child"], checks=[])
    assert detail(lake) == []


def test_links_as_text() -> None:
    """A link reads back as it is shown."""
    link = parse_link("ns.items.(order_id, shop) -> orders.(id, shop)")
    assert str(link) == "ns.items(order_id,shop) -> main.orders(id,shop)"


def test_failed_checks(lake: Lake) -> None:
    """A check that came after the publication of a member keeps the milestone pending, as does a warning that it names."""
    catalog.add_check(lake, "child", "not_null", ["parent"], name="filled", severity="warning")
    catalog.define_milestone(lake, "m", ["parent", "child"], links=[LINK], checks=["FILLED"], policy="manual")
    publish(lake, "parent", "child")
    [(kind, words)] = detail(lake)
    assert kind == "check-failed"
    assert "main.child@v1 fails its check filled: 1 failing of 3 rows" in words
    catalog.define_milestone(lake, "m", ["parent", "child"], checks=[])
    assert detail(lake) == []
    catalog.add_check(lake, "parent", "accepted_values", ["name"], name="named", parameters={"values": ["a"]})
    with pytest.raises(StateError, match="fails its check named"):
        catalog.publish_milestone(lake, "m")
    catalog.remove_check(lake, "parent", "named")
    assert catalog.publish_milestone(lake, "m").version.number == 1
