"""Streams of appends: few commits, each exactly once."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest

from lakehouse import InvalidInputError
from lakehouse.streams import Stream
from tests.support.lakes import make_lake, make_table

ROWS = pa.table({"id": pa.array([1, 2, 3], pa.int64()), "name": ["a", "b", "c"]})


def test_small_writes_become_one_commit(root_uri: str) -> None:
    """Many writes are held and committed together when the block ends."""
    lake = make_lake(root_uri)
    table = make_table(lake, "main.events", ROWS.schema)
    before = table.version()
    with lake.stream("events", message="hourly") as out:
        for _ in range(10):
            out.write(ROWS)
        assert table.version() == before
    assert table.version() == before + 1
    assert [c.rows_added for c in out.commits] == [30]
    assert table.log(1)[0].message == "hourly"
    assert lake.read("events").to_arrow(columns=["id"]).column(0).to_pylist() == [1, 2, 3] * 10


def test_a_stream_flushes_by_size_and_by_time(tmp_path: object) -> None:
    """A write that reaches the size or comes after the time is committed at once."""
    lake = make_lake(str(tmp_path))
    table = make_table(lake, "main.events", ROWS.schema)
    with Stream(table, flush_bytes=1) as by_size, Stream(table, flush_seconds=0) as by_time:
        by_size.write(ROWS)
        by_time.write(ROWS)
        assert len(by_size.commits) == len(by_time.commits) == 1
    assert lake.read("events").num_rows == 6


def test_an_error_commits_nothing_more(tmp_path: object) -> None:
    """Leaving the block by an error drops what was not flushed and keeps what was."""
    lake = make_lake(str(tmp_path))
    make_table(lake, "main.events", ROWS.schema)

    def broken() -> None:
        with lake.stream("events") as out:
            out.write(ROWS)
            out.flush()
            out.write(ROWS)
            raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError):
        broken()
    assert lake.read("events").num_rows == 3


def test_rows_that_do_not_fit_are_refused_whole(tmp_path: object) -> None:
    """A write with an unknown column takes nothing of it, and the stream goes on."""
    lake = make_lake(str(tmp_path))
    make_table(lake, "main.events", ROWS.schema)
    with lake.stream("events") as out:
        with pytest.raises(InvalidInputError, match="nme"):
            out.write(ROWS.rename_columns(["id", "nme"]))
        out.write(ROWS)
    assert lake.read("events").num_rows == 3


def test_a_long_reader_is_flushed_on_the_way(tmp_path: object) -> None:
    """One write of many batches commits as it goes; a bad batch takes only what was not flushed with it."""
    lake = make_lake(str(tmp_path))
    table = make_table(lake, "main.events", ROWS.schema)
    batches = ROWS.to_batches()
    seen: list[int] = []

    def endless() -> Iterator[pa.RecordBatch]:
        for _ in range(4):
            seen.append(table.version())
            yield from batches
        raise InvalidInputError("value-invalid", "bad")

    with Stream(table, flush_bytes=2 * batches[0].nbytes) as out:
        out.write(ROWS)
        with pytest.raises(InvalidInputError, match="bad"):
            out.write(pa.RecordBatchReader.from_batches(ROWS.schema, endless()))
    assert seen == [0, 1, 1, 2]
    assert lake.read("events").num_rows == 12
