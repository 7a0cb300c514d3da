"""Replacing all rows: the result is what was given, in one commit, that touches what differs."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa
import pytest

from lakehouse import replacing
from lakehouse.errors import ConflictError, InvalidInputError
from lakehouse.lake import Lake
from lakehouse.replacing import Replacement, replace_rows
from tests.support.lakes import SCHEMA, make_lake, make_table, read, rows


def replace_by(lake: Lake, *values: tuple[Any, ...]) -> Replacement:
    """Give `t` these rows."""
    return replace_rows(lake, lake.read("t"), rows(*values).to_reader(), run="r", message="m")


def counted(done: Replacement) -> tuple[int, int, int]:
    """Return the rows added, removed and changed."""
    return done.rows.added, done.rows.removed, done.rows.changed


@pytest.fixture
def lake(root_uri: str) -> Lake:
    """A lakehouse on each backend with a table `t` whose key is `id`, in two files."""
    lake = make_lake(root_uri)
    table = make_table(lake, "t", SCHEMA, key=["id"])
    table.append(rows(*((i, f"n{i}", None) for i in range(10))))
    table.append(rows(*((i, f"n{i}", i / 2) for i in range(10, 20))))
    return lake


def parquet_files(lake: Lake) -> int:
    """Return how many data files lie in the folder of `t`."""
    location = lake.table("t").dataset.location
    keys = (o.key.removeprefix(f"{location}/") for o in lake.storage.list(location))
    return sum("/" not in key and key.endswith(".parquet") for key in keys)


def test_only_what_differs_is_touched(lake: Lake) -> None:
    """One commit adds, changes and removes rows; the file without a difference stays, and nothing is left lying about."""
    before = lake.read("t")
    wanted = [(i, f"n{i}", None) for i in range(10)] + [(i, f"n{i}", i / 2) for i in range(12, 20)]
    wanted[10] = (12, None, 6.0)
    wanted += [(30, "new", 1.0)]
    done = replace_by(lake, *wanted)
    assert (counted(done), done.table_version, done.committed) == ((1, 2, 1), before.table_version + 1, True)
    assert sorted(read(lake)) == wanted
    after = lake.read("t")
    assert before.files()[0] in after.files()
    assert counted_diff(lake, before.table_version) == (1, 2, 1)
    assert parquet_files(lake) == len({*before.files(), *after.files()})
    [newest] = lake.table("t").log(1)
    assert (newest.run, newest.message, newest.rows_added, newest.rows_removed) == ("r", "m", 1, 2)


def counted_diff(lake: Lake, old: int) -> tuple[int, int, int]:
    """Return what the diff of the head against an older state counts."""
    counts = lake.diff(f"t@#{old}", "t").counts
    return counts.added, counts.removed, counts.changed


def test_equal_rows_are_no_commit(lake: Lake) -> None:
    """In whatever order they come; nothing is left lying about."""
    before = lake.read("t")
    done = replace_by(lake, *reversed(read(lake)))
    assert (counted(done), done.table_version, done.committed) == ((0, 0, 0), before.table_version, False)
    assert lake.table("t").version() == before.table_version
    assert parquet_files(lake) == 2


def test_all_rows_may_go_and_come(lake: Lake) -> None:
    """No rows at all is a state like any other."""
    assert counted(replace_by(lake)) == (0, 20, 0)
    assert read(lake) == []
    assert counted(replace_by(lake, (1, "a", 1.0))) == (1, 0, 0)
    assert read(lake) == [(1, "a", 1.0)]


def test_too_many_differences_write_all_anew(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a merge may hold in memory is one overwrite, with the same rows and the same diff."""
    monkeypatch.setattr(replacing, "MOST_MERGED_BYTES", 100)
    version = lake.table("t").version()
    wanted = [(i, "other", None) for i in range(15)]
    assert counted(replace_by(lake, *wanted)) == (0, 5, 15)
    assert read(lake) == wanted
    assert counted_diff(lake, version) == (0, 5, 15)
    assert [entry.operation for entry in lake.table("t").log(1)] == ["WRITE"]


def test_without_a_key_rows_are_a_multiset(lake: Lake) -> None:
    """Equal rows count; a difference writes all anew."""
    make_table(lake, "bag", SCHEMA).append(rows((1, "a", None), (1, "a", None), (2, "b", None)))

    def given(*values: tuple[Any, ...]) -> Replacement:
        return replace_rows(lake, lake.read("bag"), rows(*values).to_reader())

    assert not given((2, "b", None), (1, "a", None), (1, "a", None)).committed
    assert counted(given((1, "a", None), (2, "c", None))) == (1, 2, 0)
    assert read(lake, "bag") == [(1, "a", None), (2, "c", None)]


def test_new_columns_come_with_their_rows(lake: Lake) -> None:
    """One commit has the column and the rows, and the schema is registered; a column less is refused."""
    version = lake.table("t").version()
    wider = rows((1, "a", 1.0)).append_column("n", pa.array([7]))
    done = replace_rows(lake, lake.read("t"), wider.to_reader())
    assert (done.table_version, read(lake)) == (version + 1, [(1, "a", 1.0, 7)])
    with pytest.raises(InvalidInputError) as error:
        replace_rows(lake, lake.read("t"), rows((1, "a", 1.0)).to_reader())
    assert error.value.kind == "schema-differs"
    with pytest.raises(InvalidInputError) as other:
        replace_rows(lake, lake.read("t"), pa.table({"id": ["x"], "name": ["x"], "size": [1.0], "n": [1]}).to_reader())
    assert other.value.kind == "schema-type-change"
    assert read(lake) == [(1, "a", 1.0, 7)]


@pytest.mark.parametrize("many", [False, True])
def test_another_writer_is_not_overwritten(lake: Lake, many: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that came after the head was looked at stay."""
    if many:
        monkeypatch.setattr(replacing, "MOST_MERGED_BYTES", 0)
    head = lake.read("t")
    lake.table("t").append(rows((99, "late", None)))
    with pytest.raises(ConflictError) as error:
        replace_rows(lake, head, rows((1, "a", 1.0)).to_reader())
    assert error.value.kind == "table-changed"
    assert len(read(lake)) == 21


def test_any_rows_follow_any_others(tmp_path: Any) -> None:
    """After each of many random replacements the dataset has what was given, and the counts are those of the diff."""
    lake, draw = make_lake(str(tmp_path / "lake")), random.Random(4)
    make_table(lake, "t", SCHEMA, key=["id"])
    for _ in range(12):
        version = lake.table("t").version()
        wanted = [
            (i, draw.choice("ab"), draw.choice([None, 1.0])) for i in sorted(draw.sample(range(9), draw.randint(0, 9)))
        ]
        done = replace_by(lake, *wanted)
        assert sorted(read(lake)) == wanted
        assert counted_diff(lake, version) == counted(done)
        assert lake.table("t").version() == version + done.committed
