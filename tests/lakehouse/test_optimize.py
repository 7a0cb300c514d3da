"""Optimize: the same rows in better files, beside writers, whatever dies."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

import catalog
from lakehouse import compaction, layout, rewriting
from lakehouse.compaction import optimize
from lakehouse.errors import InternalError, InvalidInputError, StorageError
from lakehouse.key_ranges import key_ranges
from lakehouse.lake import Lake
from lakehouse.tables import Table
from tests.support.lakes import SCHEMA, adds, filled, make_lake, make_table, read, rows


@pytest.fixture
def lake(root_uri: str) -> Lake:
    """A lake on each backend."""
    return make_lake(root_uri)


@pytest.fixture
def local(tmp_path: Path) -> Lake:
    """A lake in a folder."""
    return make_lake(str(tmp_path / "lake"))


def by_engines(lake: Lake, reference: str) -> list[list[Any]]:
    """Return the rows of a state in its order, as Arrow, Polars and DuckDB read them."""
    snapshot = lake.read(reference)
    frame = snapshot.scan().collect()
    assert isinstance(frame, pl.DataFrame)
    return [
        snapshot.to_arrow().to_pylist(),
        frame.to_arrow().to_pylist(),
        lake.sql(f'from "{reference}"').to_arrow_table().to_pylist(),
    ]


def test_compaction_keeps_rows_and_order(lake: Lake) -> None:
    """Small files become one with the same rows in the same order for every engine; published versions stay."""
    table = filled(lake)
    catalog.publish(lake, "t")
    table.merge(rows((3, "merged", 0.0), (9_999, "new", 0.0)))
    table.delete("id = 4")
    head, published = by_engines(lake, "t"), by_engines(lake, "t@v1")
    before = len(lake.read("t").file_list)
    report = optimize(lake, "t", message="tidy", run="r1")
    assert (report.commits, report.files_before, report.files_after, report.left) == (1, before, 1, ())
    assert report.table_version == table.version() == 9
    assert by_engines(lake, "t") == head
    assert by_engines(lake, "t@v1") == published
    newest = table.log(1)[0]
    assert (newest.operation, newest.rows_added, newest.rows_removed) == ("OPTIMIZE", 0, 0)
    assert (newest.message, newest.run, newest.user) == ("tidy", "r1", "tester")
    assert pa.table(table.open().load_cdf(starting_version=9, ending_version=9)).num_rows == 0
    assert not lake.diff("t@#8", "t@#9")
    # Readers that know nothing of us agree.
    assert Counter(
        map(str, pl.scan_delta(str(table.open().table_uri), storage_options=lake.storage.options()).collect().rows())
    ) == Counter(str(tuple(r.values())) for r in head[0])


def test_publishing_afterwards(local: Lake) -> None:
    """A version published after an optimize says what the one before said, and differs from it in nothing."""
    filled(local)
    catalog.publish(local, "t")
    optimize(local, "t", sort=True)
    version = catalog.publish(local, "t")
    assert (version.rows, version.files) == (300, 1)
    assert local.read("t@v2").metadata == local.read("t@v1").metadata
    assert not local.diff("t@v1", "t@v2")


def test_nothing_to_do(lake: Lake) -> None:
    """An empty table, one file, and a table that was optimized need no commit."""
    table = make_table(lake, "t", SCHEMA, key=["id"])
    for wish in ({}, {"sort": True}, {"zorder": ["id", "name"]}, {"full": True}, {"full": True, "sort": True}):
        report = optimize(lake, "t", **wish)
        assert (report.commits, report.table_version, report.files_after) == (0, 0, 0)
    table.append(rows((1, "a", 1.0)))
    assert optimize(lake, "t").commits == optimize(lake, "t", sort=True).commits == 0
    assert optimize(lake, "t", full=True).rewritten == 1
    for number in range(3):
        table.append(rows((number + 2, "a", 1.0)))
    assert optimize(lake, "t", sort=True).rewritten == 4
    assert optimize(lake, "t", sort=True).table_version == optimize(lake, "t").table_version == table.version()


def test_files_of_one_time_keep_their_order(local: Lake) -> None:
    """Files that one commit listed with one time are joined in their place, whatever their names."""
    table = make_table(local, "t", pa.schema([("n", pa.int64())]))
    folder = Path(local.root) / table.dataset.location
    names = ["a b.parquet", "a%20c.parquet", "sub/x.parquet", "sub/xy.parquet", "ü.parquet", "z.parquet", "zz.parquet"]
    sizes = [1, 1, 60_000, 1, 1, 60_000, 1]
    for at, (name, size) in enumerate(zip(names, sizes, strict=True)):
        (folder / name).parent.mkdir(exist_ok=True)
        noise = np.random.default_rng(at).integers(0, 1 << 60, size)
        noise[0] = at
        pq.write_table(pa.table({"n": noise}), folder / name)
    table.add_files(names)
    before = by_engines(local, "t")
    assert optimize(local, "t", target_bytes=300_000).rewritten == 4
    assert len(local.read("t").file_list) == 5
    assert by_engines(local, "t") == before


ALL_TYPES = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        ("flag", pa.bool_()),
        ("tiny", pa.int8()),
        ("single", pa.float32()),
        ("double", pa.float64()),
        ("text", pa.string()),
        ("raw", pa.binary()),
        ("day", pa.date32()),
        ("at", pa.timestamp("us")),
        ("at_utc", pa.timestamp("us", tz="UTC")),
        ("price", pa.decimal128(38, 4)),
        (
            "items",
            pa.list_(
                pa.field("element", pa.struct([("a", pa.string()), ("b", pa.list_(pa.field("element", pa.int32())))]))
            ),
        ),
        ("pairs", pa.map_(pa.string(), pa.float64())),
        ("box", pa.struct([("x", pa.float64()), ("inner", pa.struct([("y", pa.string())]))])),
    ]
)


def row_of_all_types(number: int) -> dict[str, Any]:
    """Return a row; every third has nothing but its key."""
    if number % 3 == 0:
        return {"id": number}
    odd = number % 2
    return {
        "id": number,
        "flag": bool(odd),
        "tiny": number - 100,
        "single": float("nan") if odd else -0.0,
        "double": float("inf") if odd else 1 / number,
        "text": "" if odd else f"é{number}\0\U0001f600",
        "raw": bytes([number, 0]),
        "day": date(1600, 1, 1) + timedelta(days=number * 5_000),
        "at": datetime(2026, 1, 1, microsecond=number),  # noqa: DTZ001 - a column without zone
        "at_utc": datetime(1969, 12, 31, tzinfo=UTC) + timedelta(microseconds=number),
        "price": Decimal(number) / 10_000 - 10**30,
        "items": [] if odd else [None, {"a": None, "b": [number, None]}, {"a": "", "b": None}],
        "pairs": [] if odd else [("k", None), ("", float(number))],
        "box": {"x": None, "inner": None} if odd else {"x": 1.5, "inner": {"y": None}},
    }


@pytest.mark.parametrize(
    "wish", [{}, {"full": True}, {"sort": True}, {"zorder": ["id", "text", "at_utc", "price"]}], ids=str
)
def test_all_types(lake: Lake, wish: dict[str, Any]) -> None:
    """Every type and null comes through unchanged, bit by bit, as the files themselves say."""
    table = make_table(lake, "t", ALL_TYPES, key=["id"])
    for start in (0, 40, 80):
        table.append(pa.Table.from_pylist([row_of_all_types(n) for n in range(start, start + 40)], ALL_TYPES))

    def stored() -> str:
        found = [pq.read_table(uri, filesystem=lake.storage.filesystem(uri)) for uri in lake.read("t").files()]
        return str(pa.concat_tables(found).cast(ALL_TYPES).sort_by("id").to_pylist())

    before = stored()
    assert optimize(lake, "t", **wish).files_after == 1
    assert stored() == before
    assert table.schema().equals(ALL_TYPES)


def test_columns_added_later(local: Lake) -> None:
    """Files from before a column was added are joined with later ones; its values are null there, as before."""
    table = filled(local, 2)
    table.append(pa.table({"id": [10_000], "name": ["x"], "size": [1.0], "extra": [{"a": 1}]}), evolve=True)
    before = by_engines(local, "t")
    assert optimize(local, "t").files_after == 1
    assert by_engines(local, "t") == before


def test_plain_text_after_merges(lake: Lake) -> None:
    """Files that merges and deletes wrote with views hold plain text afterwards, also when they are large or alone."""
    table = filled(lake, 1)
    table.merge(rows((1, "merged", 0.0)))

    def types() -> set[str]:
        snapshot = lake.read("t")
        read_types = [
            pq.read_schema(u, filesystem=lake.storage.filesystem(u)).field("name").type for u in snapshot.files()
        ]
        return {str(t) for t in read_types}

    assert types() == {"string_view"}
    before = by_engines(lake, "t")
    assert optimize(lake, "t", target_bytes=1).rewritten == 1
    assert types() == {"string"}
    assert by_engines(lake, "t") == before
    assert optimize(lake, "t", target_bytes=1).commits == 0


def test_new_files_are_like_ours(local: Lake) -> None:
    """Rewritten files have statistics, bloom filters on looked-up columns, and say by what they are sorted."""
    table = make_table(local, "t", pa.schema([("sha256", pa.string()), ("n", pa.int64())]), key=["sha256"])
    for n in range(3):
        table.append(pa.table({"sha256": [f"{n}", f"{9 - n}"], "n": [n, n]}))
    optimize(local, "t", sort=True)
    (file,) = local.read("t").files()
    group = pq.read_metadata(file).row_group(0)
    assert group.column(0).bloom_filter_offset is not None
    assert [c.column_index for c in group.sorting_columns] == [0]
    assert (adds(table)[0]["min.sha256"], adds(table)[0]["max.sha256"], adds(table)[0]["num_records"]) == ("0", "9", 6)
    assert local.read("t").find(sha256="8") == [{"sha256": "8", "n": 1}]


# -- order ------------------------------------------------------------------------------------------------------------


def test_sort(lake: Lake) -> None:
    """Overlapping files are sorted by key; what is appended beyond them stays, what overlaps is sorted in."""
    table = filled(lake)
    expected = sorted(read(lake))
    report = optimize(lake, "t", sort=True)
    assert (report.commits, report.files_after) == (1, 1)
    assert read(lake) == expected
    table.append(rows((20_000, "far", 0.0), (10_000, "away", 0.0)))
    assert optimize(lake, "t", sort=True, target_bytes=1).commits == 0
    table.append(rows((-1, "a", 0.0), (15_000, "b", 0.0)))
    optimize(lake, "t", sort=True)
    assert read(lake) == sorted(read(lake))
    assert len(read(lake)) == len(expected) + 4


@pytest.mark.parametrize(
    "column",
    [
        pa.array([i / 7 for i in range(3_000)]),
        pa.array([f"https://storage.example.com/a/long/prefix/{i:06}" for i in range(3_000)]),
        pa.array([Decimal(i) / 100 for i in range(3_000)], pa.decimal128(20, 2)),
        pa.array([datetime(2026, 1, 1, tzinfo=UTC) + timedelta(microseconds=i) for i in range(3_000)]),
        pa.array([bytes([i // 256, i % 256]) for i in range(3_000)]),
    ],
    ids=["float", "long text", "decimal", "time", "bytes"],
)
def test_sorting_comes_to_an_end(local: Lake, column: pa.Array, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the key's type, and where statistics say little about it: once sorted, nothing is left to do."""
    monkeypatch.setattr("lakehouse.datafiles.ROW_GROUP_ROWS", 500)
    data = pa.table({"k": column, "n": pa.array(range(3_000))})
    table = make_table(local, "t", data.schema, key=["k"])
    shuffled = data.take(np.random.default_rng(1).permutation(3_000))
    for start in range(0, 3_000, 1_000):
        table.append(shuffled.slice(start, 1_000))
    assert optimize(local, "t", sort=True, target_bytes=1).files_after == 6
    assert local.read("t").to_arrow().equals(data.cast(table.schema()))
    assert optimize(local, "t", sort=True, target_bytes=1).commits == 0


def test_key_ranges(local: Lake) -> None:
    """Ranges come from statistics, or from footers where those cut text or say nothing; a null makes them unknown."""
    table = make_table(local, "t", pa.schema([("url", pa.string()), ("x", pa.float64()), ("n", pa.int64())]))
    long = "https://storage.example.com/a/long/prefix/"
    for a, b in (("1", "2"), ("3", "4"), (None, "5")):
        table.append(pa.table({"url": [a and long + a, long + b], "x": [0.5, 1.5], "n": [1, 2]}))
    table.merge(pa.table({"url": [long + "3"], "x": [1.0], "n": [7]}), key=["url"])

    def found(*key: str) -> list[Any]:
        state = compaction._open(local, table, adopted=False)
        return sorted(key_ranges(state.snapshot, state.adds, key).values())

    assert found("url", "n") == [((long + "1", 1), (long + "2", 2)), ((long + "3", 2), (long + "4", 7))]
    assert found("x", "url") == [((0.5,), (1.5,)), ((0.5,), (1.5,)), ((1.0,), (1.5,))]
    assert set(found("n", "x")) >= {((1,), (2,)), ((2,), (7,))}


def test_more_than_a_commit_takes(local: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is larger than one commit may replace is done in several; with `full` and an order in one."""
    filled(local, 8)
    size = local.read("t").file_list.bytes
    monkeypatch.setattr(layout, "PART_BYTES", size // 3)
    before = sorted(read(local))
    assert optimize(local, "t", sort=True).commits == 4
    assert sorted(read(local)) == before
    report = optimize(local, "t", sort=True, full=True)
    assert (report.commits, report.files_after) == (1, 1)
    assert read(local) == before


def touched(table: Table, column: str, low: int, high: int) -> int:
    """Return how many files may hold a value between two, by their statistics."""
    return sum(f[f"min.{column}"] <= high and f[f"max.{column}"] >= low for f in adds(table))


def test_z_order(local: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a z-order a range of any of its columns lies in fewer files, and the rows are the same."""
    monkeypatch.setattr("lakehouse.datafiles.ROW_GROUP_ROWS", 1_000)
    draw, count = np.random.default_rng(7), 32_000
    data = pa.table(
        {
            "x": draw.integers(0, 1_000, count),
            "y": draw.normal(0, 100, count).astype("int64"),
            "z": pa.array([None if i % 100 == 0 else f"t{i:05}" for i in draw.permutation(count).tolist()]),
        }
    )
    table = make_table(local, "t", data.schema)
    for start in range(0, count, 8_000):
        table.append(data.slice(start, 8_000))
    optimize(local, "t", full=True, target_bytes=1)
    assert touched(table, "x", 0, 100) == touched(table, "y", -100, -90) == 32
    report = optimize(local, "t", zorder=["x", "y", "z"], target_bytes=1)
    assert report.files_after == 32
    assert touched(table, "x", 0, 100) <= 16
    assert touched(table, "y", -100, -90) <= 16
    order = [(name, "ascending") for name in data.column_names]
    assert local.read("t").to_arrow().sort_by(order).equals(data.sort_by(order))
    monkeypatch.setattr(layout, "SMALL", 0)
    assert optimize(local, "t", zorder=["x", "y", "z"], target_bytes=1).commits == 0
    assert optimize(local, "t", zorder=["y", "x"], target_bytes=1).rewritten == 32


@pytest.mark.parametrize("value", [None, float("nan"), 7.0])
def test_z_order_by_a_column_of_one_value(local: Lake, value: float | None) -> None:
    """A column that is null, NaN or the same everywhere orders nothing, and breaks nothing."""
    table = make_table(local, "t", SCHEMA)
    for n in range(3):
        table.append(rows((n, None, value), (n, "it's", value)))
    before = sorted(map(str, read(local)))
    assert optimize(local, "t", zorder=["size", "name", "id"]).files_after == 1
    assert sorted(map(str, read(local))) == before


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "kind"),
    [
        ({"sort": True, "zorder": ["id"]}, "order-ambiguous"),
        ({"sort": True}, "key-missing"),
        ({"zorder": ["nothing"]}, "column-not-found"),
        ({"zorder": ["tags"]}, "column-unordered"),
        ({"zorder": ["id", "id"]}, "zorder-invalid"),
        ({"zorder": list("abcdefgh")}, "zorder-invalid"),
    ],
)
def test_wrong_wishes(local: Lake, wish: dict[str, Any], kind: str) -> None:
    """An order that makes no sense is refused before anything is read."""
    make_table(local, "t", pa.schema([("id", pa.int64()), ("tags", pa.list_(pa.string()))]))
    with pytest.raises(InvalidInputError) as caught:
        optimize(local, "t", **wish)
    assert caught.value.kind == kind


def test_adopted_tables_are_asked_for(local: Lake, tmp_path: Path) -> None:
    """An adopted table is rewritten only when that is said; a partitioned one never."""
    for n in range(3):
        write_deltalake(tmp_path / "plain", pa.table({"n": [n]}), mode="append")
        write_deltalake(tmp_path / "parts", pa.table({"n": [n], "p": ["x"]}), mode="append", partition_by=["p"])
    catalog.adopt_dataset(local, "plain", str(tmp_path / "plain"))
    catalog.adopt_dataset(local, "parts", str(tmp_path / "parts"))
    with pytest.raises(InvalidInputError, match="--adopted") as caught:
        optimize(local, "plain")
    assert caught.value.kind == "table-adopted"
    assert optimize(local, "plain", adopted=True).files_after == 1
    assert sorted(read(local, "plain")) == [(0,), (1,), (2,)]
    with pytest.raises(InvalidInputError) as caught:
        optimize(local, "parts", adopted=True)
    assert caught.value.kind == "table-partitioned"


def test_oddly_spelled_paths_of_adopted_tables_stay(local: Lake, tmp_path: Path) -> None:
    """A file whose path another engine spelled in its own way is left alone: its removal might not be recognised."""
    for n in range(3):
        write_deltalake(tmp_path / "plain", pa.table({"n": [n]}), mode="append")
    log = tmp_path / "plain" / "_delta_log" / "00000000000000000001.json"
    (file,) = (p for p in (tmp_path / "plain").glob("*.parquet") if p.name in log.read_text())
    file.rename(file.with_name("x=y.parquet"))
    log.write_text(log.read_text().replace(file.name, "x%3Dy.parquet"))
    catalog.adopt_dataset(local, "plain", str(tmp_path / "plain"))
    assert optimize(local, "plain", adopted=True, full=True).rewritten == 2
    assert sorted(read(local, "plain")) == [(0,), (1,), (2,)]


def test_rows_that_vanish_stop_it(local: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """When fewer rows were read than the log promises, nothing is committed."""
    table = filled(local)
    before = table.version()
    real = rewriting._rows
    monkeypatch.setattr(rewriting, "_rows", lambda *args: (batch.slice(1) for batch in real(*args)))
    with pytest.raises(InternalError) as caught:
        optimize(local, "t")
    assert caught.value.kind == "rows-differ"
    assert table.version() == before


def test_a_missing_file_is_an_error(local: Lake) -> None:
    """A data file that is gone though the table did not go on is told, not skipped."""
    table = filled(local)
    Path(local.read("t").files()[2]).unlink()
    with pytest.raises(StorageError):
        optimize(local, "t")
    assert table.version() == 6


def test_plain_readers(local: Lake) -> None:
    """A table version from before, and the newest one, open in deltalake itself."""
    table = filled(local)
    optimize(local, "t")
    location = table.open().table_uri
    counts = [DeltaTable(location, version=v).to_pyarrow_dataset().count_rows() for v in (6, 7)]
    assert counts == [300, 300]
