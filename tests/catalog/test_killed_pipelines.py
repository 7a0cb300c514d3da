"""Eight processes publish members and aggregate at once and are killed: each version comes once, whole, and proven."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import pyarrow.compute as pc
import pytest

import catalog
from catalog.aggregation import standing
from lakehouse.decisions import MilestoneVersion
from lakehouse.lake import Lake, connect
from tests.support.pipelines import MEMBERS, MEND, PARENT, Supervisor, make

CHECKS = {"unique_id", "positive", "tidy"}


def storm(root: str, folder: Path, seed: int, kills: int, versions: int) -> None:
    """Let eight processes run and be killed, then finish what they left, and look at everything that they made."""
    make(root)
    folder.mkdir()
    supervisor = Supervisor(root, folder, seed)
    supervisor.run(kills, versions)
    lake = connect(root)
    finish(lake)
    made = sorted(lake.state().all(MilestoneVersion), key=lambda v: v.number)
    check_ledger(lake, made)
    check_stored(lake, made)
    check_rows(lake, made)
    check_acknowledged(lake, supervisor)
    said = list(supervisor.said())
    publications, refused = (sum(key in line for line in said) for key in ("published", "refused"))
    polls = sum("polled" in line for line in said)
    assert refused
    assert polls
    sys.stdout.write(
        f"PIPELINES {root.partition(':')[0] if '://' in root else 'local'}: seed {seed}, {supervisor.kills} kills "
        f"({', '.join(f'{what} {n}' for what, n in supervisor.hit.most_common())}), {publications} publications, "
        f"{refused} refused, {len(made)} milestone versions, {polls} polls\n"
    )


def finish(lake: Lake) -> None:
    """Mend and publish each member: then nothing is pending, and the last version pins the newest of each."""
    for name in MEMBERS:
        lake.table(name).delete(MEND)
        catalog.publish(lake, name, data_tag="FINAL")
    list(catalog.aggregate(lake))
    end = standing(lake, "main.m")
    assert end.pending is None
    assert end.published is not None
    newest = {f"main.{name}": catalog.list_versions(lake, name)[0].number for name in MEMBERS}
    assert {m.full_name: m.version for m in end.published.members} == newest


def check_ledger(lake: Lake, made: list[MilestoneVersion]) -> None:
    """Numbers are 1..N, each was decided once, in one commit with its milestone, and none equals the one before."""
    assert [v.number for v in made] == list(range(1, len(made) + 1))
    assert all(one.members != other.members for one, other in pairwise(made))
    decided = [row for row in lake.ledger.history("milestone_version").to_pylist() if row["action"].endswith("publish")]
    assert [row["key"] for row in decided] == [f"main.m/v{v.number}" for v in made]
    assert len({row["commit_id"] for row in decided}) == len(made)
    raised = {row["commit_id"] for row in lake.ledger.history("milestone").to_pylist()}
    assert {row["commit_id"] for row in decided} <= raised
    shown = lake.sql("select Version_Number, Status from Milestone order by 1").fetchall()
    assert shown == [(v.number, "Published") for v in made]


def check_stored(lake: Lake, made: list[MilestoneVersion]) -> None:
    """At exactly the table versions that are pinned, each check has passed and each link has no orphans."""
    results = lake.sql("select dataset_id, table_version, name, ok from check_results").fetchall()
    passed = {(i, v, name) for i, v, name, ok in results if ok}
    failed = {(i, v, name) for i, v, name, ok in results if not ok}
    counted = lake.facts.snapshot("link_proofs")
    assert counted is not None
    columns = ["child_id", "child_version", "parent_id", "parent_version"]
    proven = {tuple(row.values()) for row in counted.to_arrow(columns, where="orphans = 0").to_pylist()}
    for version in made:
        by_name = {m.full_name.removeprefix("main."): m for m in version.members}
        assert set(by_name) == set(MEMBERS)
        assert {m.data_tag for m in version.members} == {version.data_tag}
        assert version.data_tag in ("FINAL", "REVIEWED")
        for member in version.members:
            wanted = {(member.dataset_id, member.table_version, name) for name in CHECKS}
            assert wanted <= passed
            assert not wanted & failed
        numbers = {(p.link, p.child_version, p.parent_version) for p in version.proofs}
        for child, parent in ((by_name[c], by_name[p]) for c, p in PARENT.items()):
            pair = child.dataset_id, child.table_version, parent.dataset_id, parent.table_version
            assert pair in proven
            link = f"{child.full_name}(ref) -> {parent.full_name}(id)"
            assert (link, child.version, parent.version) in numbers


def check_rows(lake: Lake, made: list[MilestoneVersion]) -> None:
    """What is pinned satisfies the checks and links by its rows, whatever was stored about it."""
    for version in made:
        rows = {n: lake.read(f"{n}@m/v{version.number}").to_arrow() for n in MEMBERS}
        for name, table in rows.items():
            assert pc.count_distinct(table["id"]).as_py() == table.num_rows
            assert 0 <= pc.min(table["x"]).as_py() <= pc.max(table["x"]).as_py() <= 1000
            if name in PARENT:
                assert pc.all(pc.is_in(table["ref"], rows[PARENT[name]]["id"])).as_py()


def check_acknowledged(lake: Lake, supervisor: Supervisor) -> None:
    """Every publication that a process was told of is there as it was told, once."""
    there = {(n, v.number): v.table_version for n in MEMBERS for v in catalog.list_versions(lake, n)}
    told = [line for line in supervisor.said() if "published" in line]
    assert len({(line["published"], line["number"]) for line in told}) == len(told)
    for line in told:
        assert there[line["published"], line["number"]] == line["table_version"]


def test_killed_pipelines(root_uri: str, tmp_path: Path) -> None:
    """A few kills, and all eight processes at the end."""
    storm(root_uri, tmp_path / "said", seed=1, kills=3 if "://" in root_uri else 8, versions=1)


@pytest.mark.nightly
def test_many_killed_pipelines(root_uri: str, tmp_path: Path) -> None:
    """Many kills on one lake, while it gets old."""
    storm(root_uri, tmp_path / "said", seed=2, kills=40 if "://" in root_uri else 100, versions=10)
