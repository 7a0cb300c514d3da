"""Retention policies: rules that are kept with a dataset or a namespace, for whoever expires versions."""

from __future__ import annotations

from datetime import timedelta

import pyarrow as pa
import pytest

import catalog
from lakehouse.errors import InvalidInputError, LakeError, NotFoundError
from lakehouse.lake import Lake, connect
from lakehouse.vacuum import vacuum as vacuum_dataset
from tests.support.lakes import make_lake, make_table

SCHEMA = pa.schema([("id", pa.int64())])


def publish_four(lake: Lake, name: str) -> None:
    """Publish v1 to v4 of a new dataset; v2 is FINAL."""
    table = make_table(lake, name, SCHEMA)
    for number in range(1, 5):
        table.overwrite(pa.table({"id": [number]}))
        catalog.publish(lake, name, data_tag="FINAL" if number == 2 else "DRAFT")


def expired(lake: Lake, name: str | None = None) -> list[str]:
    """Return what the policies would give up."""
    found = catalog.expire(lake, name, dry_run=True).expired
    return [f"{v.full_name}@v{v.number}" for v in found]


def test_policies(root_uri: str) -> None:
    """On every backend a dataset's policy stands in place of its namespace's, and the dry run names what a clean-up frees."""
    lake = make_lake(root_uri)
    for name in ("vision.a", "vision.b", "other.c"):
        publish_four(lake, name)
    before = lake.state().seq
    made = catalog.set_retention(lake, "Vision", keep_last=3, message="storage is dear")
    assert (made.scope, made.policy.created_by, lake.state().seq) == ("vision.*", lake.actor, before + 1)
    catalog.set_retention(lake, "vision.b", keep_last=1, keep_tags=["final"])
    again = connect(root_uri)
    assert expired(again) == ["vision.a@v1", "vision.b@v1", "vision.b@v3"]
    assert expired(again, "vision.a") == ["vision.a@v1"]
    assert [(r.scope, r.policy.keep_last) for r in catalog.list_retention(again)] == [("vision.*", 3), ("vision.b", 1)]
    dry = catalog.expire(again, None, dry_run=True)
    assert (dry.files, dry.bytes) == (3, sum(v.bytes for v in dry.expired))
    assert catalog.expire(again, None).expired != ()
    assert sum(f.bytes for f in vacuum_dataset(again, again.table("vision.a").dataset, keep_for=timedelta()).dead) > 0
    assert [again.read(f"vision.b@v{n}").to_arrow().column("id").to_pylist() for n in (2, 4)] == [[2], [4]]
    assert again.read("other.c@v1").num_rows == 1
    assert expired(again) == []


def test_pins_and_holds_win(lake: Lake) -> None:
    """What a tag, a milestone or a hold keeps stays, whatever the policy says."""
    publish_four(lake, "a")
    catalog.set_tag(lake, "a@v1", "prod")
    lake.snapshot("run", ["a@v2"])
    catalog.set_retention(lake, "a", keep_for="0")
    found = catalog.expire(lake, "a", dry_run=True)
    assert [v.number for v in found.expired] == [3]
    assert {k.version.number: k.why for k in found.kept} == {
        1: ("tag prod",),
        2: ("snap:run",),
        4: ("newest version",),
    }
    catalog.set_hold(lake, "a", "case 1")
    assert expired(lake) == []


def test_rules_given_go_first(lake: Lake) -> None:
    """Rules that are given stand in place of the policies."""
    publish_four(lake, "a")
    catalog.set_retention(lake, "a", keep_last=1)
    assert [v.number for v in catalog.expire(lake, "a", keep_last=3, dry_run=True).expired] == [1]


def test_a_policy_goes_with_the_name(lake: Lake) -> None:
    """A dataset's policy stays when that is renamed, and when it is dropped and made again."""
    publish_four(lake, "a")
    catalog.set_retention(lake, "a", keep_last=2)
    catalog.rename_dataset(lake, "a", "b")
    assert [r.scope for r in catalog.list_retention(lake)] == ["main.b"]
    assert expired(lake, "a") == ["main.b@v1", "main.b@v2"]
    catalog.delete_dataset(lake, "b")
    make_table(lake, "b", SCHEMA, reuse_name=True)
    catalog.publish(lake, "b")
    assert expired(lake) == ["main.b@v1", "main.b@v2", "main.b@v3"]
    catalog.remove_retention(lake, "a")
    assert catalog.list_retention(lake) == []


def test_names_given_back_have_no_policy(lake: Lake) -> None:
    """A namespace's policy is listed as that, also when a name of it was given back."""
    publish_four(lake, "vision.a")
    catalog.set_retention(lake, "vision", keep_last=3)
    catalog.rename_dataset(lake, "vision.a", "vision.b")
    catalog.unalias_dataset(lake, "vision.a")
    assert [r.scope for r in catalog.list_retention(lake)] == ["vision.*"]
    assert lake.sql("select scope from retention").fetchall() == [("vision.*",)]


def test_without_policies(lake: Lake) -> None:
    """Where neither a rule nor a policy says what to keep, nothing expires; a dataset's own policy alone can be removed."""
    publish_four(lake, "vision.a")
    publish_four(lake, "b")
    for name in (None, "b"):
        with pytest.raises(InvalidInputError) as caught:
            catalog.expire(lake, name)
        assert caught.value.kind == "rule-missing"
    catalog.set_retention(lake, "vision", keep_last=1)
    assert len(expired(lake)) == 3
    with pytest.raises(NotFoundError) as none:
        catalog.remove_retention(lake, "vision.a")
    assert none.value.kind == "retention-not-found"
    assert catalog.remove_retention(lake, "vision.*").policy.keep_last == 1


def test_data_tags_of_the_scope_count(lake: Lake) -> None:
    """A data tag is known where it is mapped, or a version of the scope has it; another one would keep nothing."""
    publish_four(lake, "vision.a")
    catalog.publish(lake, "vision.a", data_tag="gold")
    publish_four(lake, "other.b")
    assert catalog.set_retention(lake, "vision", keep_tags=["Gold", "reviewed"]).policy.keep_tags == (
        "Gold",
        "reviewed",
    )
    with pytest.raises(NotFoundError, match=r"data tag 'gold'.* Known: DRAFT, FINAL, REVIEWED\."):
        catalog.set_retention(lake, "other", keep_tags=["gold"])
    for name in (None, "vision.a"):
        with pytest.raises(NotFoundError, match=r"'FNAL'.*Did you mean 'FINAL'"):
            catalog.expire(lake, name, keep_tags=["FNAL"])


def test_neither_namespace_nor_dataset(lake: Lake) -> None:
    """A word that names nothing is told to be neither, with what it may have meant."""
    catalog.create_dataset(lake, "vision.a", SCHEMA)
    with pytest.raises(NotFoundError, match=r"neither a namespace nor a dataset 'visoin'\. Did you mean 'vision'"):
        catalog.set_retention(lake, "visoin", keep_last=1)


@pytest.mark.parametrize(
    ("scope", "rules", "kind"),
    [
        ("vision", {}, "rule-missing"),
        ("vision", {"keep_last": 0}, "keep-invalid"),
        ("vision", {"keep_for": "soon"}, "span-invalid"),
        ("vision", {"keep_tags": ["v1"]}, "tag-reserved"),
        ("nothing", {"keep_last": 1}, "dataset-not-found"),
        ("vision.nothing", {"keep_last": 1}, "dataset-not-found"),
        ("vision", {"keep_tags": ["FNAL"]}, "data-tag-not-found"),
        ("vision.a", {"keep_tags": ["gold"]}, "data-tag-not-found"),
        ("system.*", {"keep_last": 1}, "name-reserved"),
        ("both", {"keep_last": 1}, "scope-ambiguous"),
    ],
)
def test_refused(lake: Lake, scope: str, rules: dict[str, object], kind: str) -> None:
    """A policy without a rule, with a wrong one, or about nothing, is refused."""
    for name in ("vision.a", "both", "both.a"):
        catalog.create_dataset(lake, name, SCHEMA)
    with pytest.raises(LakeError) as caught:
        catalog.set_retention(lake, scope, **rules)  # type: ignore[arg-type]
    assert caught.value.kind == kind
    assert catalog.list_retention(lake) == []
    assert catalog.set_retention(lake, "both.*", keep_last=1).scope == "both.*"
    assert catalog.set_retention(lake, "main.both", keep_last=1).scope == "main.both"
