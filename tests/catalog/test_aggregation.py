"""Milestones move on when their members do: what is chosen, what is waited for, and that each version comes once."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pyarrow as pa
import pytest

import catalog
from lakehouse.decisions import DatasetVersion, MilestoneVersion, PendingVersion
from lakehouse.errors import InvalidInputError, StateError
from lakehouse.lake import Lake, connect
from tests.support.lakes import make_lake, make_table

IDS = pa.schema([("id", pa.int64()), ("ref", pa.int64())])


@pytest.fixture
def trio(root_uri: str) -> Lake:
    """Three datasets and a milestone over them, of FINAL versions."""
    lake = make_lake(root_uri)
    for name in ("d1", "d2", "d3"):
        grow(lake, name, make=True)
    catalog.define_milestone(lake, "MILESTONE_A", ["d1", "d2", "d3"], data_tags=["FINAL"])
    return lake


@pytest.fixture
def pair(tmp_path: Any) -> Lake:
    """Two datasets in a folder."""
    lake = make_lake(str(tmp_path / "lake"))
    for name in ("d1", "d2"):
        grow(lake, name, make=True)
    return lake


def grow(lake: Lake, name: str, *pairs: tuple[int, int | None], make: bool = False) -> None:
    """Append rows to a dataset, by default one."""
    if make:
        make_table(lake, name, IDS)
    ids, refs = zip(*(pairs or ((1, 1),)), strict=True)
    lake.table(name).append(pa.table([pa.array(ids), pa.array(refs, pa.int64())], schema=IDS))


def final(lake: Lake, name: str, **more: Any) -> DatasetVersion:
    """Publish a dataset as FINAL."""
    return catalog.publish(lake, name, data_tag="FINAL", **more)


def members(lake: Lake, number: int, name: str = "main.milestone_a") -> dict[str, int | None]:
    """Return the members of a published milestone version: {name: version}."""
    version = lake.state().get(MilestoneVersion, f"{name}/v{number}")
    assert version is not None
    return {m.full_name.removeprefix("main."): m.version for m in version.members}


def waits(lake: Lake, name: str = "milestone_a") -> list[tuple[str, str]]:
    """Return what the next version waits for: (kind, dataset)."""
    pending = catalog.milestone_status(lake, name).pending
    return [(w.kind, w.dataset.removeprefix("main.")) for w in pending.waiting] if pending else []


def test_the_last_member_publishes(trio: Lake) -> None:
    """The third publication makes version 1, a correction version 2 that reuses the others; both stay readable."""
    final(trio, "d1")
    assert waits(trio) == [("no-version", "d2"), ("no-version", "d3")]
    final(trio, "d2")
    before = trio.state().seq
    final(trio, "d3")
    assert trio.state().seq == before + 2  # the dataset's version, then the milestone's in one commit
    assert members(trio, 1) == {"d1": 1, "d2": 1, "d3": 1}
    assert catalog.milestone_status(trio, "milestone_a").pending is None
    grow(trio, "d2", (2, 1))
    final(trio, "d2")
    assert members(trio, 2) == {"d1": 1, "d2": 2, "d3": 1}
    other = connect(trio.root)
    assert [other.read(f"d2@MILESTONE_A/v{n}").num_rows for n in (1, 2)] == [1, 2]
    found = other.sql("select Milestone_ID from Milestone where IS_FINAL = 'Y' order by 1").fetchall()
    assert found == [("MILESTONE_A/v1",), ("MILESTONE_A/v2",)]
    assert other.sql("select distinct IS_DRAFT, IS_REVIEWED from Milestone").fetchall() == [("N", "N")]
    sql = "select Dataset_Name, Dataset_Version from Milestone_Dataset where Milestone_ID = 'MILESTONE_A/v2'"
    assert other.sql(sql).fetchall() == [("d1", 1), ("d2", 2), ("d3", 1)]


def test_other_data_tags_do_not_count(trio: Lake) -> None:
    """A version without a data tag that counts is passed over, also when it is newer."""
    for name in ("d1", "d2", "d3"):
        final(trio, name)
        catalog.publish(trio, name)
    assert members(trio, 1) == {"d1": 1, "d2": 1, "d3": 1}
    assert catalog.milestone_status(trio, "milestone_a").pending is None
    catalog.promote(trio, "d2@v2", "FINAL")
    assert members(trio, 2) == {"d1": 1, "d2": 2, "d3": 1}


def test_promotion(pair: Lake) -> None:
    """Promotion writes no row; when all members agree, a version comes, and published ones keep what they say."""
    catalog.define_milestone(pair, "m", ["d1", "d2"])
    for name in ("d1", "d2"):
        catalog.publish(pair, name)
    heads = [pair.table(name).version() for name in ("d1", "d2")]
    catalog.promote(pair, "d1@v1", "final")
    assert waits(pair, "m") == [("tags-differ", "d2")]
    pending = catalog.milestone_status(pair, "m").pending
    assert pending is not None
    assert "lakehouse promote main.d2@v1 FINAL" in pending.waiting[0].detail
    catalog.promote(pair, "d2@DRAFT", "FINAL")
    shown = [catalog.show_milestone(pair, f"m/v{n}") for n in (1, 2)]
    assert [(i.version.data_tag, i.attribute) for i in shown] == [("DRAFT", "IS_DRAFT"), ("FINAL", "IS_FINAL")]
    assert members(pair, 1, "main.m") == members(pair, 2, "main.m") == {"d1": 1, "d2": 1}
    assert [pair.table(name).version() for name in ("d1", "d2")] == heads
    assert pair.resolve("d1@FINAL").table_version == 1
    seq = pair.state().seq
    catalog.promote(pair, "d1@v1", "FINAL")
    assert pair.state().seq == seq  # nothing to decide
    catalog.set_tag(pair, "d1@v1", "prod")
    with pytest.raises(StateError) as caught:
        catalog.promote(pair, "d1@v1", "prod")
    assert caught.value.kind == "tag-taken"
    with pytest.raises(StateError) as caught:
        catalog.promote(pair, "d1@#0", "FINAL")
    assert caught.value.kind == "version-not-published"


def test_all_members_new(pair: Lake) -> None:
    """A milestone that waits for all members makes a version only when each is new; a correction overrides that once."""
    catalog.define_milestone(pair, "m", ["d1", "d2"], advance="all")
    final(pair, "d1")
    final(pair, "d2")
    assert members(pair, 1, "main.m") == {"d1": 1, "d2": 1}
    final(pair, "d1")
    assert waits(pair, "m") == [("not-new", "d2")]
    final(pair, "d1", correction=True)
    assert members(pair, 2, "main.m") == {"d1": 3, "d2": 1}
    final(pair, "d2")
    assert waits(pair, "m") == [("not-new", "d1")]
    final(pair, "d1")
    assert members(pair, 3, "main.m") == {"d1": 4, "d2": 2}


def test_a_correction_takes_only_itself(pair: Lake) -> None:
    """A correction does not pull in a member whose cycle has only begun."""
    catalog.define_milestone(pair, "m", ["d1", "d2"], advance="all")
    final(pair, "d1")
    final(pair, "d2")
    final(pair, "d2")
    final(pair, "d1", correction=True)
    assert members(pair, 2, "main.m") == {"d1": 2, "d2": 1}


def test_batches_are_not_mixed(pair: Lake) -> None:
    """Versions of one batch make a version, also when one member is a week ahead, and no week is mixed."""
    catalog.define_milestone(pair, "m", ["d1", "d2"], advance="all")
    final(pair, "d1", batch="W47")
    final(pair, "d1", batch="W48")
    assert waits(pair, "m") == [("no-version", "d2")]
    final(pair, "d2", batch="W47")
    assert members(pair, 1, "main.m") == {"d1": 1, "d2": 1}
    final(pair, "d2", batch="W47")  # again: still one batch
    assert members(pair, 2, "main.m") == {"d1": 1, "d2": 2}
    final(pair, "d2", batch="W49")
    assert waits(pair, "m") == [("batches-differ", "d1")]
    final(pair, "d1", batch="W49")
    assert members(pair, 3, "main.m") == {"d1": 3, "d2": 3}


def test_one_decision_completes_several(pair: Lake) -> None:
    """A promotion that completes two versions publishes both at once, and whoever asks is told of both."""
    catalog.define_milestone(pair, "m", ["d1", "d2"], data_tags=["FINAL"], advance="all")
    final(pair, "d1", batch="W5")
    final(pair, "d2", batch="W5")
    catalog.publish(pair, "d1", batch="W6", correction=True)
    final(pair, "d2", batch="W6")
    assert waits(pair, "m") == [("not-new", "d1")]
    told = list[catalog.Standing]()
    catalog.promote(pair, "d1@latest", "FINAL", told=told.append)
    assert (members(pair, 2, "main.m"), members(pair, 3, "main.m")) == ({"d1": 2, "d2": 1}, {"d1": 2, "d2": 2})
    assert [([v.number for v in found.new], found.pending) for found in told] == [([2, 3], None)]
    assert waits(pair, "m") == []


def test_by_hand(pair: Lake) -> None:
    """Where a person publishes, a version becomes ready and is published once; asked again, it is the same one."""
    catalog.define_milestone(pair, "m", ["d1", "d2"], policy="manual")
    final(pair, "d1")
    final(pair, "d2")
    pending = pair.state().get(PendingVersion, "main.m")
    assert pending is not None
    assert (pending.status, pending.number, pending.waiting) == ("Ready", 1, ())
    assert pair.sql("select Status, IS_FINAL from Milestone").fetchall() == [("Ready", "N")]
    assert pair.sql("select Ready_Flag from Milestone_Dataset").fetchall() == [("Y",), ("Y",)]
    numbers = [catalog.publish_milestone(pair, "m").version.number for _ in range(2)]
    assert numbers == [1, 1]
    assert pair.state().get(PendingVersion, "main.m") is None


def test_waiting_keeps_its_time(trio: Lake) -> None:
    """What was missing already keeps the time since when; what is not missing any more is gone."""
    first = catalog.milestone_status(trio, "milestone_a").pending
    assert first is not None
    final(trio, "d1")
    then = catalog.milestone_status(trio, "milestone_a").pending
    assert then is not None
    assert then.since == first.since
    assert {w.dataset: w.since for w in then.waiting} == {
        w.dataset: w.since for w in first.waiting if w.dataset != "main.d1"
    }
    sql = "select dataset, ready from lake.milestone_datasets"
    assert trio.sql(sql).fetchall() == [("main.d1", True), ("main.d2", False), ("main.d3", False)]
    assert all(isinstance(w.since, datetime) for w in then.waiting)


def test_a_dead_aggregation_is_made_up_for(trio: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process that died after its publication left undone, the next look does; status says so before."""
    final(trio, "d1")
    final(trio, "d2")
    monkeypatch.setattr("catalog.versions.advance_with", lambda *_, **__: [])
    final(trio, "d3")
    assert waits(trio) == [("not-aggregated", "")]
    [found] = catalog.aggregate(trio)
    assert found.made
    assert members(trio, 1) == {"d1": 1, "d2": 1, "d3": 1}
    [again] = catalog.aggregate(trio)
    assert (again.made, again.published and again.published.number) == (False, 1)


def test_registering_itself(pair: Lake) -> None:
    """A publication can make its dataset a member, and names the numbers that it expects; wrong ones change nothing."""
    catalog.define_milestone(pair, "m", ["d1"], policy="manual")
    for wrong in ({"version": 7}, {"milestone": "m/v2"}, {"milestone": "m/v2", "version": 1}):
        with pytest.raises(StateError) as caught:
            final(pair, "d2", **wrong)
        assert caught.value.kind == "version-mismatch"
    assert catalog.list_versions(pair, "d2") == []
    final(pair, "d2", milestone="m/v1", version=1)
    assert catalog.show_dataset(pair, "d2").milestones == ["main.m"]
    assert waits(pair, "m") == [("no-version", "d1")]
    catalog.leave_milestone(pair, "m", "d1")
    assert catalog.publish_milestone(pair, "m").version.members[0].full_name == "main.d2"
    with pytest.raises(InvalidInputError) as refused:
        catalog.leave_milestone(pair, "m", "d2")
    assert refused.value.kind == "member-repeated"


def test_a_deleted_member(pair: Lake) -> None:
    """A milestone waits for a member that was deleted, and goes on when it is back."""
    catalog.define_milestone(pair, "m", ["d1", "d2"])
    final(pair, "d1")
    catalog.delete_dataset(pair, "d2")
    assert waits(pair, "m") == [("deleted", "d2")]
    catalog.undrop_dataset(pair, "d2")
    final(pair, "d2")
    assert members(pair, 1, "main.m") == {"d1": 1, "d2": 1}


def test_archive_and_protect(pair: Lake) -> None:
    """An archived version is not read and comes back; a protected milestone refuses; archiving makes nothing new."""
    catalog.define_milestone(pair, "m", ["d1"])
    final(pair, "d1")
    catalog.archive_milestone(pair, "m/v1")
    assert pair.sql("select Status, IS_FINAL from Milestone").fetchall() == [("Archived", "N")]
    assert [s.made for s in catalog.aggregate(pair)] == [False]
    with pytest.raises(StateError, match="archived"):
        pair.read("d1@m/v1")
    catalog.unarchive_milestone(pair, "m/v1")
    assert pair.read("d1@m/v1").num_rows == 1
    catalog.protect_milestone(pair, "m")
    with pytest.raises(StateError) as caught:
        catalog.archive_milestone(pair, "m/v1")
    assert caught.value.kind == "milestone-protected"
    catalog.protect_milestone(pair, "m", False)
    assert catalog.archive_milestone(pair, "m/v1").status == "Archived"


def test_compare_and_roll_back(pair: Lake) -> None:
    """Two versions are compared member by member; rolling back makes the heads equal to a version, and loses nothing."""
    catalog.define_milestone(pair, "m", ["d1", "d2"])
    final(pair, "d1")
    final(pair, "d2")
    grow(pair, "d1", (2, 2), (3, None))
    final(pair, "d1")
    one, other = catalog.compare_milestones(pair, "m/v1", "m/v2")
    assert (one.dataset, one.diff and one.diff.counts.added, other.diff) == ("main.d1", 2, None)
    heads = catalog.roll_back_milestone(pair, "m/v1")
    assert pair.read("d1").to_arrow().equals(pair.read("d1@m/v1").to_arrow())
    assert heads == {"main.d1": 3, "main.d2": 1}
    assert pair.read("d1@m/v2").num_rows == 3


def test_data_tags(pair: Lake) -> None:
    """A data tag of one's own gets a column of Milestone; attributes are unique and plain."""
    catalog.define_milestone(pair, "m", ["d1"])
    catalog.set_data_tag(pair, "GOLD", "IS_GOLD", "Gold")
    catalog.publish(pair, "d1", data_tag="gold")
    assert pair.sql("select IS_GOLD, IS_FINAL, Color from Milestone").fetchall() == [("Y", "N", "Gold")]
    with pytest.raises(StateError) as caught:
        catalog.set_data_tag(pair, "OTHER", "is_gold", "Red")
    assert caught.value.kind == "attribute-taken"
    for wrong in ("IS GOLD", "status", '"x'):
        with pytest.raises(InvalidInputError) as refused:
            catalog.set_data_tag(pair, "OTHER", wrong, "Red")
        assert refused.value.kind == "attribute-invalid"
    catalog.remove_data_tag(pair, "GOLD")
    assert "IS_GOLD" not in pair.sql("from Milestone").columns
    assert [tag.name for tag in catalog.list_data_tags(pair)] == ["DRAFT", "REVIEWED", "FINAL"]


def test_one_decision_for_many(trio: Lake) -> None:
    """Of many that aggregate at once one publishes; the number is not skipped, and all see the same version."""
    final(trio, "d1")
    final(trio, "d2")
    version = final(trio, "d3")
    grow(trio, "d1", (5, 5))
    catalog.define_milestone(trio, "MILESTONE_A", ["d1", "d2", "d3"], policy="manual")
    final(trio, "d1")
    catalog.define_milestone(trio, "other", ["d1"])
    lakes = [connect(trio.root) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda lake: catalog.publish_milestone(lake, "MILESTONE_A").version, lakes))
    assert {v.number for v in found} == {2}
    assert len({v.published_at for v in found}) == 1
    assert version.number == 1


PIPELINE = """
import sys
import pyarrow as pa
import catalog, lakehouse
lake = lakehouse.connect(sys.argv[1])
name, number = sys.argv[2], int(sys.argv[3])
while True:
    number += 1
    lake.table(name).append(pa.table({"id": [number], "ref": [number]}))
    print(catalog.publish(lake, name, data_tag="FINAL").number, flush=True)
"""


def test_killed_pipelines(trio: Lake) -> None:
    """Pipelines that are killed while they publish leave no number twice, skipped or half there; the next look ends it."""
    for turn in range(2):
        line = [sys.executable, "-c", PIPELINE, trio.root]
        running = [subprocess.Popen([*line, n, str(turn * 100)], stdout=subprocess.PIPE) for n in ("d1", "d2", "d3")]
        for process in running:
            assert process.stdout is not None
            process.stdout.readline()
        for process in running:
            process.kill()
            process.communicate()
    fresh = connect(trio.root)
    list(catalog.aggregate(fresh))
    versions = sorted(fresh.state().all(MilestoneVersion), key=lambda v: v.number)
    assert [v.number for v in versions] == list(range(1, len(versions) + 1))
    assert len({v.members for v in versions}) == len(versions)
    newest = {name: catalog.list_versions(fresh, name)[0].number for name in ("d1", "d2", "d3")}
    assert members(fresh, len(versions)) == newest
    for version in versions:
        for member in version.members:
            assert fresh.read(f"{member.full_name}@MILESTONE_A/v{version.number}").num_rows >= 1
