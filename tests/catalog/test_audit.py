"""The audit: decisions and data commits under the names of today, reads by state, and the proof."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import catalog
from catalog.audit import AuditEntry
from lakehouse.errors import LakeError
from lakehouse.lake import Lake, connect
from tests.support.lakes import SCHEMA, make_lake, make_table, rows


@pytest.fixture
def lake(root_uri: str) -> Lake:
    """A lake in which two people did things to two datasets."""
    lake = make_lake(root_uri, "ann")
    table = make_table(lake, "photos", SCHEMA, key=["id"])
    table.append(rows((1, "a", 1.0), (2, "b", 2.0)), message="first rows", run="run-1")
    make_table(lake, "other", SCHEMA)
    catalog.publish(lake, "photos", message="good")
    bob = connect(root_uri, actor="bob")
    bob.table("photos").merge(rows((2, "c", 2.0), (3, "d", 3.0)))
    catalog.set_tag(bob, "photos@v1", "prod")
    catalog.publish(bob, "photos")
    catalog.set_tag(bob, "photos@v2", "prod")
    catalog.remove_tag(bob, "photos", "prod")
    return lake


def told(entries: list[AuditEntry]) -> list[tuple[str | None, str, str]]:
    """Return who did what to what."""
    return [(e.actor, e.action, e.resource) for e in entries]


def in_order(entries: list[AuditEntry]) -> list[AuditEntry]:
    """Return entries in an order of their own: many have the same time."""
    return sorted(entries, key=lambda e: (e.at, e.action, e.resource, str(e.after)))


def test_the_log_of_a_dataset(lake: Lake) -> None:
    """Decisions and commits of one dataset come newest first, each with its actor; those of others do not."""
    found = catalog.audit_log(lake, "photos")
    assert [e.at for e in found] == sorted((e.at for e in found), reverse=True)
    assert {e.resource.partition("@")[0] for e in found} == {"main.photos"}
    assert told(found)[:3] == [
        ("bob", "tag.remove", "main.photos@prod"),
        ("bob", "tag.set", "main.photos@prod"),
        ("bob", "version.publish", "main.photos"),
    ]
    assert [(e.actor, e.action, e.resource) for e in found if e.kind == "commit"] == [
        ("bob", "data.merge", "main.photos@#2"),
        ("ann", "data.write", "main.photos@#1"),
        ("ann", "data.create_table", "main.photos@#0"),
    ]


def test_before_and_after(lake: Lake) -> None:
    """A decision shows the thing before and after it; a commit its numbers of rows, its run and its message."""
    gone, moved, *_, first = catalog.audit_log(lake, "photos@prod")
    assert (first.before, first.after["number"]) == (None, 1)
    assert (moved.before["number"], moved.after["number"]) == (1, 2)
    assert (gone.before["number"], gone.after) == (2, None)
    [written] = catalog.audit_log(lake, "photos@#1")
    assert (written.run, written.message, written.commit_id) == ("run-1", "first rows", None)
    assert written.after == {"rows_added": 2, "rows_removed": None, "rows_updated": None}
    together = [e for e in catalog.audit_log(lake, "photos", action="version.publish") if e.actor == "ann"]
    assert len(together) == 2
    assert len({e.commit_id for e in together}) == 1


def test_the_view_has_what_the_call_gives(lake: Lake) -> None:
    """The view over everything agrees with the log of each dataset, entry by entry."""
    everything = catalog.audit_log(lake)
    for name in ("photos", "other"):
        own = [e for e in everything if e.resource.partition("@")[0] == f"main.{name}"]
        assert in_order(catalog.audit_log(lake, name)) == in_order(own)
    assert any(e.action == "lakehouse.init" for e in everything)
    assert len(everything) == len(lake.ledger.history()) + 4


def test_commits_that_were_folded_stay(lake: Lake) -> None:
    """A clean-up that folds the log takes no commit out of the audit."""
    before = {(e.actor, e.action, e.resource, e.at) for e in catalog.audit_log(lake) if e.kind == "commit"}
    catalog.vacuum(lake, keep_for="0")
    after = {(e.actor, e.action, e.resource, e.at) for e in catalog.audit_log(lake) if e.kind == "commit"}
    assert before <= after


def test_filters(lake: Lake) -> None:
    """Actor, action, time and number narrow what is listed, of a dataset and of everything."""
    for name in ("photos", None):
        assert {e.actor for e in catalog.audit_log(lake, name, actor="bob")} == {"bob"}
        assert {e.action for e in catalog.audit_log(lake, name, action="tag")} == {"tag.set", "tag.remove"}
        assert {e.action for e in catalog.audit_log(lake, name, action="data.merge")} == {"data.merge"}
        assert catalog.audit_log(lake, name, action="ver") == []
        assert len(catalog.audit_log(lake, name, limit=2)) == 2
        assert catalog.audit_log(lake, name, limit=2) == catalog.audit_log(lake, name)[:2]
        some = catalog.audit_log(lake, name)[3]
        assert all(e.at >= some.at for e in catalog.audit_log(lake, name, since=some.at))
        assert catalog.audit_log(lake, name, since=datetime.now(UTC) + timedelta(days=1)) == []
        assert catalog.audit_log(lake, name, since="1d") == catalog.audit_log(lake, name, since="2026-01-01")


def test_names_of_today_and_of_the_past(lake: Lake) -> None:
    """After a rename resources have the new name, and the old one finds them; a deleted dataset has its log."""
    catalog.rename_dataset(lake, "photos", "pictures")
    assert {e.resource.partition("@")[0] for e in catalog.audit_log(lake, "photos")} == {"main.pictures"}
    assert told(catalog.audit_log(lake, "photos", action="tag")) == told(
        catalog.audit_log(lake, "pictures", action="tag")
    )
    catalog.delete_dataset(lake, "other")
    assert ("ann", "dataset.delete", "main.other") in told(catalog.audit_log(lake, "other"))


def test_milestones(lake: Lake) -> None:
    """A milestone and its versions have a log too."""
    catalog.define_milestone(lake, "spring", ["photos"])
    catalog.publish_milestone(lake, "spring")
    assert "main.spring/v1" in {e.resource for e in catalog.audit_log(lake, "spring")}
    assert {e.resource for e in catalog.audit_log(lake, "spring/v1")} == {"main.spring/v1"}


def test_one_state_that_is_several_versions(lake: Lake) -> None:
    """A read counts for the version as which it was read, whatever else the same state is or becomes."""
    catalog.publish(lake, "photos", data_tag="FINAL")  # v3: the state of v2
    bob = connect(lake.root, actor="bob")
    bob.read("photos@v2")
    bob.read("photos@v3")
    bob.read("photos@#2")
    bob.reads.flush()
    catalog.publish(lake, "photos", batch="W5")
    told = {(r.reference, r.version) for r in catalog.audit_reads(bob, "photos@#2")}
    assert told == {("main.photos@v2", 2), ("main.photos@v3", 3), ("main.photos@#2", 3)}
    assert [r.reference for r in catalog.audit_reads(bob, "photos@v2")] == ["main.photos@v2"]
    assert {r.reference for r in catalog.audit_reads(bob, "photos@FINAL")} == {"main.photos@v3", "main.photos@#2"}
    assert catalog.audit_reads(bob, "photos@v4") == []
    assert [(f.version, f.opens) for f in catalog.audit_fetches(bob, "photos@v3")] == [(3, 2)]


def test_who_read_a_version(lake: Lake) -> None:
    """Reads are found by the state that was read, whatever it was called; also of a version that was withdrawn since."""
    bob = connect(lake.root, actor="bob")
    bob.read("photos@v1")
    bob.read("photos@v2")
    lake.read("photos@latest")
    bob.reads.flush()
    catalog.deprecate(lake, "photos@v1", reason="wrong", withdraw=True)
    assert [(r.actor, r.reference, r.version) for r in catalog.audit_reads(bob, "photos@v1")] == [
        ("bob", "main.photos@v1", 1)
    ]
    lake.reads.flush()
    for name in ("photos@v2", "photos@latest", "photos@#2"):
        assert {(r.actor, r.version, r.dataset) for r in catalog.audit_reads(lake, name)} == {
            ("ann", 2, "main.photos"),
            ("bob", 2, "main.photos"),
        }
    assert len(catalog.audit_reads(lake, "photos")) == 3
    assert catalog.audit_reads(lake, "photos", limit=1) == catalog.audit_reads(lake)[:1]
    assert catalog.audit_reads(lake, "other") == []
    [first, second] = catalog.audit_fetches(lake, "photos")
    size = lake.peek("photos@v2").file_list.bytes
    assert (first.version, first.opens, first.actors) == (1, 1, ["bob"])
    assert (second.version, second.opens, second.actors, second.bytes) == (2, 2, ["ann", "bob"], 2 * size)


def test_the_audit_reads_without_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may only read is noted nowhere, reads all the same, and sees the spool where it lies."""
    with TemporaryDirectory() as folder:
        monkeypatch.setenv("LAKEHOUSE_PROFILES", f"{folder}/profiles.toml")  # the home may be closed
        lake = make_lake(f"{folder}/lake", "ann")
        make_table(lake, "t", SCHEMA).append(rows((1, "a", 1.0)))
        lake.read("t")
        lake.reads.flush()
        with read_only(Path(folder)):
            guest = connect(lake.root, actor="guest")
            assert guest.read("t").num_rows == 1
            guest.reads.flush()
            assert [r.actor for r in catalog.audit_reads(guest, "t")] == ["ann"]


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let this process read what is below a folder, and change nothing."""
    everything = [folder, *folder.rglob("*")]
    for path in everything:
        path.chmod(0o555 if path.is_dir() else 0o444)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # the superuser may write everywhere
    try:
        yield
    finally:
        os.seteuid(user)
        for path in everything:
            path.chmod(0o755)


def test_the_proof(lake: Lake) -> None:
    """The chain covers every decision of the lake; a head that is none is refused."""
    found = catalog.verify_audit(lake)
    assert (found.ok, found.entries, found.uncovered) == (True, len(lake.ledger.history()), 0)
    catalog.set_tag(lake, "photos@v1", "old")
    assert catalog.verify_audit(lake, head=found.head).ok
    with pytest.raises(LakeError) as caught:
        catalog.verify_audit(lake, head="nonsense")
    assert caught.value.kind == "head-invalid"


@pytest.mark.parametrize(
    ("name", "more", "kind"),
    [
        ("nothing", {}, "dataset-not-found"),
        ("photos@@", {}, "reference-invalid"),
        ("photos", {"since": "soon"}, "span-invalid"),
        ("photos", {"since": datetime(2026, 1, 1)}, "time-naive"),  # noqa: DTZ001
        ("photos", {"since": "2026-01-01T00:00"}, "time-naive"),
    ],
)
def test_what_is_refused(lake: Lake, name: str, more: dict[str, str], kind: str) -> None:
    """Names and times that mean nothing are refused."""
    with pytest.raises(LakeError) as caught:
        catalog.audit_log(lake, name, **more)  # type: ignore[arg-type]
    assert caught.value.kind == kind


def test_who_may_not_read_a_dataset_sees_nothing_of_its_audit(lake: Lake) -> None:
    """Under access control the audit tells only of what the actor may read: decisions, commits and reads, spooled or not."""
    lake.read("photos@v1")
    lake.read("other")
    lake.reads.flush()
    catalog.set_access(lake, True)
    catalog.add_principal(lake, "eve")
    catalog.grant(lake, "eve", "admin", "main.other")
    eve = connect(lake.root, actor="eve")
    for _ in range(2):
        about = {e.resource.partition("@")[0] for e in catalog.audit_log(eve)}
        assert "main.other" in about
        assert "main.photos" not in about
        assert eve.sql("select dataset from reads").fetchall() == [("main.other",)]
        catalog.audit_reads(lake)  # folds the spool
    with pytest.raises(LakeError):
        catalog.audit_log(eve, "photos")
    with pytest.raises(LakeError) as caught:
        catalog.verify_audit(eve)
    assert caught.value.kind == "access-denied"
