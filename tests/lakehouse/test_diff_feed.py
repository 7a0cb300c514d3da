"""The change feed as a way to compare: what nets out, when it is not there, and why a diff then compares files."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from lakehouse import diff_feed
from lakehouse.diff import Diff, RowCounts, Via, diff
from lakehouse.lake import Lake
from lakehouse.tables import Table
from tests.support.delta_lab import Lab
from tests.support.diff_ways import all_ways, answer
from tests.support.lakes import SCHEMA, make_lake, make_table, rows

COUNT = 1_000


@pytest.fixture
def lake(root_uri: str) -> Lake:
    """A table of two files whose key is `id`, at its version 2."""
    lake = make_lake(root_uri)
    table = make_table(lake, "t", SCHEMA, key=["id"])
    for start in (0, COUNT):
        table.append(rows(*((n, f"name {n}", n / 7) for n in range(start, start + COUNT))))
    return lake


@pytest.fixture
def table(lake: Lake) -> Table:
    """The same table, for writing."""
    return lake.table("t")


def keys(found: Diff) -> list[tuple[int, str]]:
    """The keys of a diff."""
    return [(r["id"], r["change"]) for batch in found.differing() for r in batch.to_pylist()]


def test_changes_within_files_are_read_from_the_feed(lake: Lake, table: Table) -> None:
    """A merge and a delete rewrite whole files; the feed has the few rows, and both directions are told."""
    table.merge(rows((1, "other", 1 / 7), (COUNT + 1, "other", 0.0), (5_000, "new", 0.0)))
    table.delete("id = 7")
    found, back = lake.diff("t@#2", "t"), lake.diff("t", "t@#2")
    for one in (found, back):
        assert one.via is Via.FEED
        assert 0 < one.cost.bytes < sum(s.file_list.bytes for s in (one.old, one.new))
    assert (found.counts, back.counts) == (RowCounts(1, 1, 2), RowCounts(1, 1, 2))
    assert found.columns == back.columns == {"name": 2, "size": 1}
    assert keys(found) == [(1, "changed"), (7, "removed"), (COUNT + 1, "changed"), (5_000, "added")]
    assert keys(back) == [(1, "changed"), (7, "added"), (COUNT + 1, "changed"), (5_000, "removed")]
    assert found.compared.startswith("by the change feed: ")
    changed = [r for batch in found.changed() for r in batch.to_pylist()]
    assert [(r["id"], r["old.name"], r["new.name"]) for r in changed] == [
        (1, "name 1", "other"),
        (COUNT + 1, f"name {COUNT + 1}", "other"),
    ]


def test_what_was_undone_is_no_change(lake: Lake, table: Table) -> None:
    """A row that was changed and changed back, or removed and inserted again, does not differ."""
    table.merge(rows((1, "other", 1 / 7)))
    table.delete("id = 2")
    table.merge(rows((1, "name 1", 1 / 7), (2, "name 2", 2 / 7), (3, "kept", 3 / 7)))
    found = lake.diff("t@#2", "t")
    assert found.via is Via.FEED
    assert keys(found) == [(3, "changed")]


def test_compaction_and_restore_agree_with_the_files(lake: Lake, table: Table) -> None:
    """Files that were rewritten, taken out and put back again sum up to what the files say."""
    table.merge(rows((1, "other", 0.0)))
    table.open().optimize.compact()
    table.delete("id >= 1990")
    table.open().restore(3)
    table.append(rows((9_000, "late", None)))
    table.overwrite(rows((1, "alone", 0.0), (9_000, "late", None)))
    newest = table.version()
    for old in range(1, newest + 1):
        answers = [(found.via, answer(found)) for found in all_ways(lake.read(f"t@#{old}"), lake.read("t"))]
        assert {via for via, _ in answers} >= {Via.FEED, Via.FILES}
        assert all(given == answers[0][1] for _, given in answers), (old, answers)


def test_rows_without_a_key_are_compared_by_the_feed_too(lake: Lake, table: Table) -> None:
    """As multisets: a changed row is one that went and one that came."""
    table.merge(rows((1, "other", 0.0)))
    found = lake.diff("t@#2", "t", key=())
    assert (found.via, found.counts, found.key) == (Via.FEED, RowCounts(1, 1), None)


def test_a_key_shared_with_a_row_that_did_not_change_falls_back(lake: Lake, table: Table) -> None:
    """The feed shows only what changed; that the key occurs elsewhere is looked for in the state itself."""
    table.append(rows((5, "twice", 0.0)))
    table.merge(rows((1_500, "other", 0.0)))
    assert lake.diff("t@#3", "t").key == ("id",)
    found = lake.diff("t@#2", "t")
    assert found.key is None
    assert "not unique" in (found.fallback or "")
    assert found.counts == RowCounts(added=2, removed=1)


def test_appended_files_are_read_once_either_way(lake: Lake, table: Table) -> None:
    """Of an append the feed is the files themselves, so nothing is gained and nothing is explained."""
    table.append(rows((9_000, "new", 0.0)))
    found = lake.diff("t@#2", "t")
    assert (found.via, found.why_files, found.cost.files) == (Via.FILES, None, 1)


def test_a_folded_feed_is_told(lake: Lake, table: Table) -> None:
    """Without a log entry in between the files are compared, and the diff says why and what it reads."""
    table.merge(rows((1, "other", 0.0)))
    table.merge(rows((2, "other", 0.0)))
    table.open().create_checkpoint()
    lake.storage.delete([f"{table.dataset.location}/_delta_log/{3:020}.json"])
    found = lake.diff("t@#2", "t")
    assert (found.via, found.counts.changed) == (Via.FILES, 2)
    assert found.compared.startswith("by files (the change feed of #2 to #4 was folded): 2 files, ")
    assert found.compared in found.summary


def test_change_files_that_are_gone_are_told(lake: Lake, table: Table) -> None:
    """A clean-up takes change files away before the log's entries."""
    table.merge(rows((1, "other", 0.0)))
    lake.storage.delete([o.key for o in lake.storage.list(f"{table.dataset.location}/_change_data")])
    found = lake.diff("t@#2", "t")
    assert (found.via, found.why_files) == (Via.FILES, "the change feed of #2 to #3 was cleaned up")
    assert found.counts.changed == 1


def test_a_changed_schema_is_told(lake: Lake, table: Table) -> None:
    """Change files of before have other columns, so the files are compared, also when the schema came back."""
    table.merge(rows((1, "other", 0.0)).append_column("more", pa.array([1])), evolve=True)
    assert lake.diff("t@#2", "t").why_files == "the schema changed in between"
    table.open().restore(2)
    found = lake.diff("t@#2", "t")
    assert (found.via, bool(found)) == (Via.FILES, False)


def test_states_far_apart_are_not_followed(lake: Lake, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is read entry by entry, so only some way."""
    monkeypatch.setattr(diff_feed, "MOST_COMMITS", 1)
    for n in range(2):
        table.merge(rows((n, "other", 0.0)))
    assert lake.diff("t@#2", "t").why_files == "more than 1 commits lie in between"


def test_a_table_without_a_feed_is_compared_all_the_same(tmp_path: Path) -> None:
    """Where no change files are written, whole files came and went: the sum over the commits is as true."""
    lab = Lab(str(tmp_path / "lake"))
    lab.write(pa.table({"id": list(range(100)), "v": [0] * 100}))
    lab.table().update(predicate="id = 3", new_values={"v": 1})
    lab.table().update(predicate="id = 3", new_values={"v": 2})
    lab.table().delete("id = 9")
    answers = [(found.via, answer(found)) for found in all_ways(lab.at(0), lab.at())]
    assert [via for via, _ in answers[:2]] == [Via.FILES, Via.FEED]
    assert answers[0][1] == answers[1][1]
    assert diff(lab.at(0), lab.at()).counts == RowCounts(removed=1, changed=1)
