"""Stored changes: what publication leaves for later diffs, and that every way of a diff gives the same answer."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import catalog
from lakehouse import changes
from lakehouse.diff import Cost, RowCounts, Via
from lakehouse.lake import Lake
from tests.support.diff_ways import all_ways, answer, plain_counts
from tests.support.lakes import SCHEMA, make_lake, make_table, rows

KEYS = st.integers(0, 12)
VALUES = st.tuples(st.sampled_from(["a", "b", None]), st.sampled_from([0.5, 1.5, None]))
KEYED = st.dictionaries(KEYS, VALUES, min_size=1, max_size=4).map(lambda d: [(k, *v) for k, v in d.items()])
OPERATIONS = st.one_of(
    st.tuples(st.sampled_from(["append", "merge", "overwrite", "evolve"]), KEYED),
    st.tuples(st.just("merge"), KEYED),
    st.tuples(st.just("delete"), KEYS),
    st.tuples(st.sampled_from(["compact", "publish", "publish"]), st.none()),
)


def apply(lake: Lake, kind: str, given_: Any) -> None:
    """Do one thing to the table `t`."""
    table = lake.table("t")
    if kind == "append":
        table.append(rows(*given_))
    elif kind == "merge":
        table.merge(rows(*given_))
    elif kind == "overwrite":
        table.overwrite(rows(*given_))
    elif kind == "evolve":
        more = pa.array([k if k % 2 else None for k, *_ in given_], pa.int64())
        table.merge(rows(*given_).append_column("more", more), evolve=True)
    elif kind == "delete":
        table.delete(f"id = {given_}")
    elif kind == "compact":
        table.open().optimize.compact()
    else:
        catalog.publish(lake, "t")


@given(history=st.lists(OPERATIONS, min_size=3, max_size=10), first=KEYED, pick=st.data())
@settings(max_examples=settings.default.max_examples // 2)  # type: ignore[union-attr]
def test_every_way_gives_the_same_answer(history: list[Any], first: list[Any], pick: st.DataObject) -> None:
    """Over random histories, stored changes, the feed and the files say what a comparison in plain Python says."""
    with tempfile.TemporaryDirectory() as folder:
        lake = make_lake(str(Path(folder) / "lake"))
        make_table(lake, "t", SCHEMA, key=["id"])
        apply(lake, "append", first)
        apply(lake, "publish", None)
        for kind, argument in history:
            apply(lake, kind, argument)
        states = range(1, lake.table("t").version() + 1)
        published = sorted({v.table_version for v in catalog.list_versions(lake, "t")})
        ends = pick.draw(
            st.tuples(st.sampled_from(published), st.one_of(st.sampled_from(published), st.sampled_from(states)))
        )
        old, new = (lake.read(f"t@#{v}") for v in pick.draw(st.permutations(ends)))
        answers = [(found.via, answer(found)) for found in all_ways(old, new)]
        for via, given_ in answers[1:]:
            assert given_ == answers[0][1], via
        counts = plain_counts(old.to_arrow().to_pylist(), new.to_arrow().to_pylist(), "id")
        found = answers[0][1]
        if counts is not None:
            assert found["key"] == ("id",)
            assert found["counts"] == RowCounts(*counts)
        elif found["counts"]:
            assert found["key"] is None


@pytest.fixture
def lake(root_uri: str) -> Lake:
    """A table of a hundred rows, published, and again after one row was added, one removed, two changed."""
    lake = make_lake(root_uri)
    table = make_table(lake, "t", SCHEMA, key=["id"])
    table.append(rows(*((n, "a", 0.5) for n in range(50))))
    table.append(rows(*((n, "a", 0.5) for n in range(50, 100))))
    catalog.publish(lake, "t")
    table.merge(rows((1, "b", 0.5), (2, "b", 1.5), (100, "n", 0.5)))
    table.delete("id = 5")
    catalog.publish(lake, "t")
    return lake


def keys(found: Any) -> list[tuple[int, str]]:
    """The keys of a diff."""
    return [(r["id"], r["change"]) for batch in found.differing() for r in batch.to_pylist()]


def test_a_diff_of_neighbours_reads_no_data(lake: Lake) -> None:
    """Counts and keys come from what publication stored, also when the data files are out of reach, either way round."""
    found, back = lake.diff("t@v1", "t@v2"), lake.diff("t@v2", "t@v1")
    assert (found.via, found.cost) == (Via.STORED, Cost(0, 0))
    assert "no data read" in found.compared
    lake.storage.delete([f"{found.new.dataset.location}/{path}" for path in _paths(found.old) | _paths(found.new)])
    assert found.counts == RowCounts(1, 1, 2)
    assert found.columns == {"name": 2, "size": 1}
    assert keys(found) == [(1, "changed"), (2, "changed"), (5, "removed"), (100, "added")]
    assert (back.counts, back.columns) == (RowCounts(1, 1, 2), found.columns)
    assert keys(back) == [(1, "changed"), (2, "changed"), (5, "added"), (100, "removed")]
    assert found.to_json()["via"] == "stored"


def _paths(snapshot: Any) -> set[str]:
    return set(snapshot.file_list.table.column("path").to_pylist())


def test_rows_are_found_by_the_stored_keys_after_compaction(lake: Lake) -> None:
    """With the change files gone and the data rewritten, the rows that differ are still found by key."""
    table = lake.table("t")
    table.open().optimize.compact()
    catalog.publish(lake, "t")
    _forget_feed(lake)
    found = lake.diff("t@v1", "t@v3")
    assert found.via is Via.STORED
    assert found.cost.files > 0
    assert found.counts == RowCounts(1, 1, 2)
    assert [r["id"] for b in found.changed() for r in b.to_pylist()] == [1, 2]
    assert [r["id"] for b in found.added() for r in b.to_pylist()] == [100]
    assert [r["id"] for b in found.removed() for r in b.to_pylist()] == [5]


def _forget_feed(lake: Lake) -> None:
    """Take the log's entries away that hold the change feed, as folding does."""
    table = lake.table("t")
    pinned = {v.table_version for v in catalog.list_versions(lake, "t")}
    for version in pinned:
        table.open(version).create_checkpoint()
    gone = [v for v in range(table.version()) if v not in pinned]
    lake.storage.delete([f"{table.dataset.location}/_delta_log/{v:020}.json" for v in gone])


def test_stored_changes_compose_with_the_feed_of_the_tail(lake: Lake) -> None:
    """From a version to head: stored keys up to the last publication, the change feed after it."""
    _forget_feed(lake)
    lake.table("t").merge(rows((1, "a", 0.5), (3, "c", 0.5)))
    found = lake.diff("t@v1", "t")
    assert found.via is Via.STORED
    assert (found.counts, found.columns) == (RowCounts(1, 1, 2), {"name": 2, "size": 1})
    assert keys(found) == [(2, "changed"), (3, "changed"), (5, "removed"), (100, "added")]


def test_a_step_that_was_cleaned_up_is_no_error(lake: Lake) -> None:
    """Where the changes lead by way of a version that was expired and cleaned up, the files are compared."""
    early = lake.read("t@v1").table_version
    lake.snapshot("early", [f"t@#{early}"])
    catalog.publish(lake, f"t@#{early}")
    lake.table("t").merge(rows((1, "z", 0.5)))
    expected = lake.diff("t@v1", "t").counts
    catalog.expire(lake, "t", keep_last=1)
    catalog.vacuum(lake, "t", keep_for="0")
    found = lake.diff("t@snap:early", "t")
    assert found.counts == expected
    assert found.via is Via.FILES


def test_a_lost_file_of_keys_is_no_error(lake: Lake) -> None:
    """Without it the counts are known all the same, and rows are found by the files."""
    stored = changes.stored_changes(lake.storage, lake.table("t").dataset)
    lake.storage.delete([c.keys for c in stored if c.keys])
    found = lake.diff("t@v1", "t@v2")
    assert found.via is Via.STORED
    assert found.counts == RowCounts(1, 1, 2)
    assert keys(found) == [(1, "changed"), (2, "changed"), (5, "removed"), (100, "added")]


def test_another_key_or_none_does_not_use_what_is_stored(lake: Lake) -> None:
    """Stored keys are those of the dataset's key; any other comparison looks at rows."""
    for key in (["id", "name"], []):
        assert lake.diff("t@v1", "t@v2", key=key).via is not Via.STORED
    assert lake.diff("t@v1", "t@v2", key=["id", "name"]).counts == RowCounts(3, 3, 0)


def test_publishing_twice_or_first_stores_nothing_more(lake: Lake) -> None:
    """A first version has nothing before it, and the same state again differs in nothing."""
    dataset = lake.table("t").dataset
    catalog.publish(lake, "t")
    assert [(c.rows.total, c.key, c.complete) for c in changes.stored_changes(lake.storage, dataset)] == [
        (4, ("id",), True)
    ]
    again = changes.store(lake.facts, lake.diff("t@v1", "t@v2"))
    assert [again] == changes.stored_changes(lake.storage, dataset)


def test_only_counts_of_a_large_change_are_stored(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit there is no file of keys, and a diff still answers."""
    monkeypatch.setattr(changes, "MOST_KEYS", 1)
    lake.table("t").merge(rows((1, "z", 0.5), (2, "z", 1.5)))
    catalog.publish(lake, "t")
    found = lake.diff("t@v2", "t@v3")
    assert (found.via, found.counts) == (Via.STORED, RowCounts(changed=2))
    assert keys(found) == [(1, "changed"), (2, "changed")]
    assert lake.sql("select old_version, new_version, rows_changed, has_keys from lake.changes").fetchall() == [
        (1, 2, 2, True),
        (2, 3, 2, False),
    ]


def test_publication_does_not_need_the_comparison(lake: Lake, caplog: pytest.LogCaptureFixture) -> None:
    """When the last version can't be compared with, the next one is published all the same, and the log says so."""
    before = lake.read("t@v2")
    table = lake.table("t")
    table.overwrite(rows((1, "a", 0.5)))
    table.overwrite(rows((2, "a", 0.5)))
    lake.storage.delete([f"{before.dataset.location}/{path}" for path in _paths(before)])
    with caplog.at_level(logging.WARNING):
        assert catalog.publish(lake, "t").number == 3
    assert "was not stored" in caplog.text


def test_duplicate_keys_store_nothing(lake: Lake) -> None:
    """Where the key does not tell the rows apart that differ, there are no keys to store."""
    lake.table("t").append(rows((1, "twice", 0.5)))  # an append asks nobody whether a key is there
    catalog.publish(lake, "t")
    assert len(changes.stored_changes(lake.storage, lake.table("t").dataset)) == 1
    found = lake.diff("t@v2", "t@v3")
    assert found.key is None
    assert found.counts == RowCounts(added=1)
