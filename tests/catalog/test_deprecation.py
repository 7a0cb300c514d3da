"""Deprecation: readers of a version are told why not to use it; a withdrawn one is read only by what pinned it before."""

from __future__ import annotations

import logging
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

import catalog
from lakehouse.errors import InvalidInputError, LakeError, NotFoundError, StateError
from lakehouse.lake import Lake, connect
from lakehouse.tables import Table
from tests.support.lakes import make_lake, make_table
from tests.support.registered import records

SCHEMA = pa.schema([("id", pa.int64()), ("label", pa.string())])


def publish_three(lake: Lake, name: str = "photos") -> None:
    """Publish v1 FINAL, v2 FINAL and v3 DRAFT of a dataset, with as many rows."""
    table = make_table(lake, name, SCHEMA, key=["id"])
    for number, tag in ((1, "FINAL"), (2, "FINAL"), (3, "DRAFT")):
        table.append(pa.table({"id": [number], "label": ["x"]}))
        catalog.publish(lake, name, data_tag=tag)


@pytest.fixture
def three(lake: Lake) -> Lake:
    """A lake with three versions of `photos`."""
    publish_three(lake)
    return lake


def refusal(lake: Lake, reference: str) -> str:
    """Return the kind of error that reading gives."""
    with pytest.raises(LakeError) as caught:
        lake.read(reference)
    return caught.value.kind


def test_deprecate(three: Lake, caplog: pytest.LogCaptureFixture) -> None:
    """Reading a deprecated version warns once per process, with the reason; who said so is on record, in one decision."""
    before = three.state().seq
    made = catalog.deprecate(three, "photos@v2", " labels are shifted ")
    assert three.state().seq == before + 1
    assert (made.number, made.notice, made.withdrawn, made.noticed_by) == (2, "labels are shifted", False, three.actor)
    with caplog.at_level(logging.WARNING, "lakehouse"):
        for reference in ("photos@v3", "photos@v2", "photos@v2", "photos@FINAL"):
            three.read(reference)
    assert [r.getMessage() for r in caplog.records] == [
        f"main.photos@v2 was deprecated on {made.noticed_at:%Y-%m-%d} by {three.actor}: labels are shifted"
    ]
    sql = "select version, notice, withdrawn, noticed_by from versions where notice <> ''"
    assert records(three, sql) == [
        {"version": 2, "notice": "labels are shifted", "withdrawn": False, "noticed_by": three.actor}
    ]
    catalog.deprecate(three, "photos@v2", "shifted by two rows")
    three.sql('from "photos@v2"')
    assert caplog.records[-1].getMessage().endswith("shifted by two rows")
    catalog.undeprecate(three, "photos@v2")
    assert not three.read("photos@v2").version.notice
    before = three.state().seq
    catalog.undeprecate(three, "photos@v2")
    assert three.state().seq == before


def test_withdraw(root_uri: str, caplog: pytest.LogCaptureFixture) -> None:
    """On every backend a withdrawn version is refused with the reason, but for milestones and snapshots that pinned it."""
    lake = make_lake(root_uri)
    publish_three(lake)
    catalog.set_tag(lake, "photos@v3", "prod")
    catalog.define_milestone(lake, "spring", ["photos"])
    lake.snapshot("run", ["photos@v3"])
    catalog.deprecate(lake, "photos@v3", "faces are not blurred", withdraw=True)
    again = connect(root_uri)
    for reference in ("photos@v3", "photos@prod", "photos@DRAFT"):
        assert refusal(again, reference) == "version-withdrawn"
    with pytest.raises(StateError, match="faces are not blurred"):
        again.read("photos@v3")
    assert [again.read(f"photos@{s}").num_rows for s in ("latest", "FINAL", "v1")] == [2, 2, 1]
    with caplog.at_level(logging.WARNING, "lakehouse"):
        assert again.read("photos@spring/v1").num_rows == again.read("photos@snap:run").num_rows == 3
        assert again.read("photos@#3").num_rows == again.read("photos").num_rows == 3
    assert [r.getMessage().split(": ")[1] for r in caplog.records] == ["faces are not blurred"]
    for refused in (catalog.set_tag, catalog.promote):
        with pytest.raises(StateError) as caught:
            refused(again, "photos@v3", "other")
        assert caught.value.kind == "version-withdrawn"
    assert catalog.verify(again).ok
    catalog.undeprecate(again, "photos@v3")
    assert lake.read("photos@latest").num_rows == lake.read("photos@prod").num_rows == 3


def test_milestones_do_not_take_it(three: Lake) -> None:
    """A milestone that waits takes the newest version that is not withdrawn, and says what it lacks without one."""
    catalog.define_milestone(three, "final", ["photos"], data_tags=["FINAL"])
    catalog.deprecate(three, "photos@v2", "wrong", withdraw=True)
    newest = catalog.show_milestone(three, "final/latest").version
    assert [m.version for m in newest.members] == [1]
    assert three.read("photos@final/v1").num_rows == 2
    catalog.deprecate(three, "photos@v1", "wrong too", withdraw=True)
    pending = catalog.milestone_status(three, "final").pending
    assert pending is not None
    assert [w.kind for w in pending.waiting] == ["no-version"]
    catalog.publish(three, "photos", data_tag="FINAL")
    assert [m.version for m in catalog.show_milestone(three, "final/latest").version.members] == [4]


def test_publication_goes_on(three: Lake) -> None:
    """After the newest version was withdrawn, the next one is published and measured against an older one."""
    catalog.deprecate(three, "photos@v3", "wrong", withdraw=True)
    three.table("photos").append(pa.table({"id": [4], "label": ["y"]}))
    assert catalog.publish(three, "photos").number == 4
    assert three.read("photos@latest").num_rows == 4


def test_what_was_withdrawn_is_not_published_again(three: Lake) -> None:
    """The state of a withdrawn version gets no other number, until the notice is taken back."""
    catalog.deprecate(three, "photos@v3", "wrong labels", withdraw=True)
    with pytest.raises(
        StateError, match=r"v3 was withdrawn .* wrong labels\. .*deprecate main\.photos@v3 --undo"
    ) as caught:
        catalog.publish(three, "photos")
    assert caught.value.kind == "version-withdrawn"
    catalog.undeprecate(three, "photos@v3")
    assert catalog.publish(three, "photos").number == 4


def test_copies_of_what_was_withdrawn_are_not_published(lake: Lake, tmp_path: Path) -> None:
    """Of an adopted table the next copy of a withdrawn state is that state again."""
    write_deltalake(tmp_path / "theirs", pa.table({"id": [1]}))
    catalog.adopt_dataset(lake, "theirs", str(tmp_path / "theirs"))
    catalog.publish(lake, "theirs", copy=True)
    catalog.deprecate(lake, "theirs@v1", "wrong", withdraw=True)
    with pytest.raises(StateError) as caught:
        catalog.publish(lake, "theirs", copy=True)
    assert caught.value.kind == "version-withdrawn"
    write_deltalake(tmp_path / "theirs", pa.table({"id": [2]}), mode="append")
    assert catalog.publish(lake, "theirs", copy=True).number == 2


def test_what_is_shown_agrees_with_latest(three: Lake) -> None:
    """The latest version that a dataset, the list and the view show is the one that `latest` means."""
    catalog.publish(three, "photos@#2")
    for number, latest in ((4, 3), (3, 2)):
        catalog.deprecate(three, f"photos@v{number}", "wrong", withdraw=True)
        found = three.resolve("photos@latest").version
        assert found is not None
        shown = [catalog.show_dataset(three, "photos").latest_version, catalog.list_datasets(three)[0].latest_version]
        assert [found.number, *shown] == [latest] * 3
        assert three.sql("select latest_version from datasets where name = 'photos'").fetchall() == [(latest,)]


def test_milestones_tell_of_their_members_notices(three: Lake) -> None:
    """A milestone version shows which of its members' versions were deprecated or withdrawn since."""
    catalog.define_milestone(three, "spring", ["photos"])
    assert catalog.show_milestone(three, "spring").notices == ()
    catalog.deprecate(three, "photos@v3", "wrong", withdraw=True)
    (noticed,) = catalog.show_milestone(three, "spring/v1").notices
    assert (noticed.number, noticed.notice, noticed.withdrawn) == (3, "wrong", True)


def test_retention_keeps_the_newest_that_can_be_read(three: Lake) -> None:
    """Neither the newest version, nor the newest that was not withdrawn, expires."""
    catalog.deprecate(three, "photos@v3", "wrong", withdraw=True)
    assert [v.number for v in catalog.expire(three, "photos", keep_last=1).expired] == [1]
    assert three.read("photos@latest").num_rows == 2


def test_all_withdrawn(photos: Table, lake: Lake) -> None:
    """When no version is left, `latest` says that it was withdrawn."""
    catalog.publish(lake, photos.name)
    catalog.deprecate(lake, "photos@latest", "wrong", withdraw=True)
    assert refusal(lake, "photos@latest") == refusal(lake, "photos@DRAFT") == "version-withdrawn"


@pytest.mark.parametrize(
    ("reference", "reason", "error", "kind"),
    [
        ("photos@v1", " ", InvalidInputError, "reason-missing"),
        ("photos@v9", "x", NotFoundError, "version-not-found"),
        ("photos@nothing", "x", NotFoundError, "tag-not-found"),
        ("photos", "x", StateError, "version-not-published"),
        ("photos@#1", "x", StateError, "version-not-published"),
    ],
)
def test_refused(three: Lake, reference: str, reason: str, error: type[LakeError], kind: str) -> None:
    """Without a reason, or a published version, nothing is decided."""
    before = three.state().seq
    with pytest.raises(error) as caught:
        catalog.deprecate(three, reference, reason)
    assert caught.value.kind == kind
    assert three.state().seq == before
