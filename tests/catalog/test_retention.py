"""Retention: versions that no rule keeps are given up, but for what something still points at or a hold covers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

import catalog
from lakehouse.decisions import DatasetVersion, Decision, Hold
from lakehouse.errors import InvalidInputError, LakeError, NotFoundError, StateError
from lakehouse.lake import Lake, connect
from lakehouse.tables import Table
from lakehouse.vacuum import plan_vacuum
from lakehouse.vacuum import vacuum as vacuum_dataset
from tests.support.lakes import make_lake, make_table

SCHEMA = pa.schema([("id", pa.int64()), ("label", pa.string())])


@pytest.fixture
def six(photos: Table, lake: Lake) -> Table:
    """The dataset `photos` with v1 to v6, each with one row; v2 and v5 are FINAL."""
    return publish_six(photos, lake)


def publish_six(photos: Table, lake: Lake) -> Table:
    """Publish v1 to v6 of a table, each with rows of its own."""
    for number in range(1, 7):
        photos.overwrite(pa.table({"id": [number], "label": ["x"]}))
        catalog.publish(lake, photos.name, data_tag="FINAL" if number in (2, 5) else "DRAFT")
    return photos


def numbers(found: catalog.Expiry) -> list[int]:
    """Return the numbers of the expired versions."""
    return [v.number for v in found.expired]


def why(found: catalog.Expiry) -> dict[int, tuple[str, ...]]:
    """Return what keeps versions that no rule keeps."""
    return {k.version.number: k.why for k in found.kept}


def test_expire(root_uri: str) -> None:
    """On every backend expired versions are unpinned in one decision, say so, and a clean-up frees what was told."""
    lake = make_lake(root_uri)
    photos = publish_six(make_table(lake, "photos", SCHEMA, key=["id"]), lake)
    dry = catalog.expire(lake, "photos", keep_last=2, dry_run=True)
    assert (numbers(dry), dry.rows, dry.files) == ([1, 2, 3, 4], 4, 4)
    assert dry.bytes == sum(v.bytes for v in dry.expired)
    before = lake.state().seq
    done = catalog.expire(lake, "photos", keep_last=2, message="old")
    assert lake.state().seq == before + 1
    assert numbers(done) == [1, 2, 3, 4]
    again = connect(root_uri)
    with pytest.raises(StateError) as caught:
        again.read("photos@v2")
    assert caught.value.kind == "version-expired"
    assert [v.number for v in catalog.list_versions(again, "photos") if v.expired_at is None] == [6, 5]
    assert again.read("photos@latest").table_version == 6
    assert again.read("photos@FINAL").table_version == 5
    assert again.read("photos@#2").version is None
    plan = plan_vacuum(again, photos.dataset, keep_for=timedelta())
    assert dry.files <= plan.files
    freed = vacuum_dataset(again, photos.dataset, keep_for=timedelta())
    assert sum(f.bytes for f in freed.dead) >= dry.bytes
    with pytest.raises(NotFoundError):
        again.read("photos@#2")
    assert again.read("photos@v5").to_arrow().column("id").to_pylist() == [5]
    assert not catalog.expire(again, "photos", keep_last=2)
    assert lake.state().seq == again.state().seq


@pytest.mark.parametrize(
    ("rules", "expired"),
    [
        ({"keep_last": 1}, [1, 2, 3, 4, 5]),
        ({"keep_last": 6}, []),
        ({"keep_tags": ["final"]}, [1, 3, 4]),
        ({"keep_tags": ["FINAL", "draft"]}, []),
        ({"keep_last": 3, "keep_tags": ["FINAL"]}, [1, 3]),
        ({"keep_for": "30d"}, [1, 2, 3]),
        ({"keep_for": timedelta(days=50)}, [1]),
        ({"keep_for": "0"}, [1, 2, 3, 4, 5]),
        ({"keep_for": "30d", "keep_tags": ["FINAL"]}, [1, 3]),
    ],
)
def test_rules(six: Table, lake: Lake, rules: dict[str, object], expired: list[int]) -> None:
    """A version stays when any rule keeps it; here v1 to v3 are 60, 40 and 31 days old, and the newest always stays."""
    ages = {1: 60, 2: 40, 3: 31}

    def age(state: object) -> tuple[None, list[Decision]]:
        found = [v for v in lake.state().all(DatasetVersion) if v.number in ages]
        return None, [
            Decision.put("test", replace(v, created_at=datetime.now(UTC) - timedelta(days=ages[v.number])))
            for v in found
        ]

    lake.ledger.decide(age)
    assert numbers(catalog.expire(lake, "photos", **rules, dry_run=True)) == expired  # type: ignore[arg-type]
    assert numbers(catalog.expire(lake, "photos", **rules)) == expired  # type: ignore[arg-type]


def test_pins_win(six: Table, lake: Lake) -> None:
    """What a tag, a milestone, a snapshot or a lease points at stays, and it is said what that is."""
    catalog.set_tag(lake, "photos@v1", "prod")
    lake.snapshot("s", ["photos@v3"])
    lake.snapshot("over", ["photos@v4"], expires="30m")
    catalog.define_milestone(lake, "spring", ["photos"], policy="manual")
    catalog.publish_milestone(lake, "spring")
    with lake.lease("photos@v2") as leased:
        found = catalog.expire(lake, "photos", keep_for="0")
        assert why(found) == {
            1: ("tag prod",),
            2: (f"lease {leased.lease.name}",),
            3: ("snap:s",),
            4: ("snap:over",),
            6: ("newest version", "milestone main.spring/v1"),
        }
    assert numbers(found) == [5]
    lake.delete_snapshot("over")
    assert numbers(catalog.expire(lake, "photos", keep_for="0")) == [2, 4]


def test_holds_win(six: Table, lake: Lake) -> None:
    """Under a legal hold nothing expires, and `--all` goes on with the other datasets."""
    other = publish_six(make_table(lake, "other", SCHEMA), lake)
    catalog.set_hold(lake, "photos", "case 7")
    found = catalog.expire(lake, None, keep_last=4, dry_run=True)
    assert [(v.full_name, v.number) for v in found.expired] == [(other.name, 1), (other.name, 2)]
    assert why(found) == {1: ("legal hold: case 7",), 2: ("legal hold: case 7",)}
    assert found.files == 2
    catalog.release_hold(lake, "photos")
    assert len(catalog.expire(lake, None, keep_last=4).expired) == 4


def test_only_what_nothing_else_needs_is_freed(photos: Table, lake: Lake) -> None:
    """Files that a kept version or the head also has are not counted."""
    for number in range(3, 6):
        catalog.publish(lake, "photos")
        photos.append(pa.table({"id": [number], "label": ["x"]}))
    catalog.publish(lake, "photos")
    found = catalog.expire(lake, "photos", keep_last=1, dry_run=True)
    assert (numbers(found), found.files, found.bytes) == ([1, 2, 3], 0, 0)


def test_a_name_that_was_used_again(six: Table, lake: Lake) -> None:
    """Versions of a dropped dataset expire under the name that they have, and its own files are counted."""
    catalog.delete_dataset(lake, "photos")
    make_table(lake, "photos", SCHEMA, reuse_name=True).append(pa.table({"id": [7], "label": ["x"]}))
    catalog.publish(lake, "photos")
    found = catalog.expire(lake, "photos", keep_last=2, dry_run=True)
    assert (numbers(found), found.files) == ([1, 2, 3, 4, 5], 5)
    catalog.expire(lake, "photos", keep_last=1)
    catalog.delete_dataset(lake, "photos")


def test_data_tags_whose_versions_are_gone(six: Table, lake: Lake) -> None:
    """A data tag all of whose versions were expired is told to be that, and is not among those that are known."""
    gold = catalog.promote(lake, "photos@v1", "gold")
    catalog.expire(lake, "photos", keep_last=1)
    with pytest.raises(StateError, match=rf"data tag gold was expired, the last of them v{gold.number}\.") as caught:
        lake.read("photos@GOLD")
    assert caught.value.kind == "version-expired"
    with pytest.raises(NotFoundError) as unknown:
        lake.read("photos@nothing")
    assert "gold" not in unknown.value.message


def test_publishing_goes_on(six: Table, lake: Lake) -> None:
    """After an expiry versions are published, measured and diffed as before, and numbers go on."""
    catalog.expire(lake, "photos", keep_last=1)
    six.append(pa.table({"id": [9], "label": ["z"]}))
    assert catalog.publish(lake, "photos").number == 7
    assert lake.read("photos@v7").metadata.rows == 2
    assert lake.diff("photos@v6", "photos@v7").counts.added == 1


def test_the_newest_version_of_a_dropped_dataset_may_be_gone(six: Table, lake: Lake) -> None:
    """A dataset that came back, and whose own versions all expired, is published anew."""
    catalog.delete_dataset(lake, "photos")
    catalog.create_dataset(lake, "photos", SCHEMA, reuse_name=True)
    catalog.publish(lake, "photos")
    catalog.expire(lake, "photos", keep_last=1)
    catalog.delete_dataset(lake, "photos")
    catalog.undrop_dataset(lake, "photos")
    with pytest.raises(LakeError):
        lake.read("photos@v6")
    assert catalog.publish(lake, "photos").number == 8


@pytest.mark.parametrize("way", ["tag", "snapshot", "milestone"])
def test_a_pin_that_comes_first_wins(six: Table, lake: Lake, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """What is pinned between the look and the decision does not expire."""
    decide, other = lake.ledger.decide, connect(lake.root)
    if way == "milestone":
        catalog.define_milestone(lake, "spring", ["photos"], policy="manual")

    def late(*args: object, **kwargs: object) -> object:
        if way == "tag":
            catalog.set_tag(other, "photos@v5", "prod")
        elif way == "snapshot":
            other.snapshot("s", ["photos@v5"])
        else:
            catalog.publish_milestone(other, "spring")
            catalog.publish(other, "photos")
        return decide(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(lake.ledger, "decide", late)
    found = catalog.expire(lake, "photos", keep_last=1)
    assert lake.read("photos@v6" if way == "milestone" else "photos@v5")
    assert (6 if way == "milestone" else 5) in why(found)


@pytest.mark.parametrize("way", ["tag", "snapshot"])
def test_an_expiry_that_comes_first_wins(six: Table, lake: Lake, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """A tag or a snapshot that was on its way to a version which expired meanwhile is refused."""
    decide, other = lake.ledger.decide, connect(lake.root)

    def late(*args: object, **kwargs: object) -> object:
        catalog.expire(other, "photos", keep_last=1)
        return decide(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(lake.ledger, "decide", late)
    with pytest.raises(StateError) as caught:
        catalog.set_tag(lake, "photos@v2", "prod") if way == "tag" else lake.snapshot("s", ["photos@v2"])
    assert caught.value.kind == "version-expired"
    assert catalog.list_tags(lake, "photos") == {}
    assert catalog.list_snapshots(lake) == []


@pytest.mark.parametrize(
    ("rules", "kind"),
    [
        ({}, "rule-missing"),
        ({"keep_last": 0}, "keep-invalid"),
        ({"keep_for": "soon"}, "span-invalid"),
        ({"keep_last": 1, "keep_for": timedelta(days=-1)}, "span-invalid"),
    ],
)
def test_wrong_rules(six: Table, lake: Lake, rules: dict[str, object], kind: str) -> None:
    """Without a rule, or with one that makes no sense, nothing expires."""
    with pytest.raises(InvalidInputError) as caught:
        catalog.expire(lake, "photos", **rules)  # type: ignore[arg-type]
    assert caught.value.kind == kind
    with pytest.raises(NotFoundError):
        catalog.expire(lake, "nothing", keep_last=1)


def test_views(six: Table, lake: Lake) -> None:
    """The views tell what expired and is pinned no longer, what is leased, and what is held."""
    catalog.expire(lake, "photos", keep_last=2)
    catalog.set_hold(lake, "photos", "case 7")
    query = "select version, expired_at is null from versions order by version"
    assert lake.sql(query).fetchall() == [*((n, False) for n in (1, 2, 3, 4)), (5, True), (6, True)]
    with lake.lease("photos@#3") as leased:
        pins = lake.sql("select table_version, pinned_by, kind, expires_at is null from pins").fetchall()
        assert pins == [
            (3, f"lease {leased.lease.name}", "lease", False),
            (6, "main.photos@v5", "version", True),
            (7, "main.photos@v6", "version", True),
        ]
    assert lake.sql("select dataset, reason, created_by from holds").fetchall() == [("main.photos", "case 7", "tester")]


def test_hold(photos: Table, lake: Lake) -> None:
    """A hold is set, listed and shown, stops clean-ups, and ends; the same once more changes nothing."""
    hold = catalog.set_hold(lake, "Photos", "case 8")
    before = lake.state().seq
    assert catalog.set_hold(lake, "photos", " case 8 ") == hold
    assert lake.state().seq == before
    assert catalog.list_holds(lake) == [hold]
    assert (hold.full_name, hold.reason, hold.created_by) == ("main.photos", "case 8", "tester")
    assert catalog.show_dataset(lake, "photos").hold == hold
    with pytest.raises(StateError) as caught:
        vacuum_dataset(lake, photos.dataset)
    assert caught.value.kind == "dataset-held"
    assert catalog.release_hold(lake, "photos") == hold
    assert catalog.show_dataset(lake, "photos").hold is None
    with pytest.raises(NotFoundError) as missing:
        catalog.release_hold(lake, "photos")
    assert missing.value.kind == "hold-not-found"
    with pytest.raises(InvalidInputError):
        catalog.set_hold(lake, "photos", " ")
    with pytest.raises(NotFoundError):
        catalog.set_hold(lake, "nothing", "x")


def test_no_hold_takes_the_place_of_another(photos: Table, lake: Lake) -> None:
    """A second hold is refused with the reason of the first and the way to release that, and the first stays."""
    hold = catalog.set_hold(lake, "photos", "case 1")
    with pytest.raises(StateError, match=r"case 1\. .*lakehouse hold release main\.photos") as caught:
        catalog.set_hold(lake, "photos", "case 2")
    assert caught.value.kind == "hold-exists"
    assert catalog.list_holds(lake) == [hold]


def test_a_hold_outlives_the_name(photos: Table, lake: Lake) -> None:
    """A hold stays on a dataset that was dropped, beside one on the next of that name, and ends after that."""
    catalog.set_hold(lake, "photos", "first")
    catalog.delete_dataset(lake, "photos")
    make_table(lake, "photos", SCHEMA, reuse_name=True)
    assert catalog.show_dataset(lake, "photos").hold is None
    catalog.set_hold(lake, "photos", "second")
    assert [h.reason for h in catalog.list_holds(lake)] == ["first", "second"]
    assert [catalog.release_hold(lake, "photos").reason for _ in range(2)] == ["second", "first"]
    assert list(lake.state().all(Hold)) == []
