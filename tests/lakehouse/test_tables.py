"""Writing a table: each call one commit, each commit exactly once, and what is in the log is true."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import catalog
from lakehouse.delta import table_uri
from lakehouse.errors import ConflictError, FormatError, InvalidInputError, LakeError, StorageError
from lakehouse.lake import Lake
from tests.support.lakes import SCHEMA, adds, make_lake, make_table, read, rows

NAN = float("nan")


@pytest.fixture
def lake(root_uri: str) -> Lake:
    """A fresh lake on each backend."""
    return make_lake(root_uri)


@pytest.fixture
def local(tmp_path: Path) -> Lake:
    """A fresh lake in a folder, for what does not depend on the backend."""
    return make_lake(str(tmp_path / "lake"))


class TableContract:
    """What every backend promises."""

    def test_append_keeps_order(self, lake: Lake) -> None:
        """Rows come back exactly in the order in which they were given, append after append."""
        table = make_table(lake, "t", SCHEMA)
        expected = []
        for start in (5, 0, 9):
            part = [(start - i, f"n{i}", float(i)) for i in range(4)]
            commit = table.append(rows(*part))
            assert (commit.rows_added, commit.already) == (4, False)
            expected += part
        assert commit.table_version == table.version() == 3
        assert read(lake) == expected
        assert read(lake, "t@#1") == expected[:4]

    def test_overwrite(self, lake: Lake) -> None:
        """An overwrite leaves its own rows only, earlier versions keep theirs, and the counts say both."""
        table = make_table(lake, "t", SCHEMA)
        table.append(rows((1, "a", 1.0), (2, "b", 2.0)))
        commit = table.overwrite(rows((3, "c", 3.0)), expected_version=1)
        assert (commit.table_version, commit.rows_added, commit.rows_removed) == (2, 1, 2)
        assert read(lake) == [(3, "c", 3.0)]
        assert read(lake, "t@#1") == [(1, "a", 1.0), (2, "b", 2.0)]
        emptied = table.overwrite(SCHEMA.empty_table())
        assert (emptied.table_version, emptied.rows_removed) == (3, 1)
        assert read(lake) == []

    def test_merge(self, lake: Lake) -> None:
        """A merge updates what differs, inserts what is new, and leaves the rest alone."""
        table = make_table(lake, "t", SCHEMA, key=["id"])
        table.append(rows((1, "a", 1.0), (2, "b", 2.0), (3, "c", 3.0)))
        commit = table.merge(rows((2, "b", 2.0), (3, "C", 3.5), (4, "d", None)))
        assert (commit.rows_added, commit.rows_updated, commit.rows_unchanged) == (1, 1, 1)
        assert sorted(read(lake)) == [(1, "a", 1.0), (2, "b", 2.0), (3, "C", 3.5), (4, "d", None)]
        again = table.merge(rows((2, "b", 2.0), (3, "C", 3.5), (4, "d", None)))
        assert (again.table_version, again.rows_unchanged) == (commit.table_version, 3)
        assert table.version() == commit.table_version

    def test_delete(self, lake: Lake) -> None:
        """A delete removes exactly the rows of the condition; deleting nothing commits nothing."""
        table = make_table(lake, "t", SCHEMA)
        table.append(rows((1, "a", 1.0), (2, "b", None), (3, None, 3.0)))
        commit = table.delete("size > 2 or name = 'a'")
        assert commit.rows_removed == 2
        assert read(lake) == [(2, "b", None)]
        assert table.delete("id = 77").table_version == table.version() == commit.table_version
        assert table.delete("true").rows_removed == 1
        assert read(lake) == []

    def test_transactions(self, lake: Lake) -> None:
        """A transaction that landed is not applied again, by whatever kind of write; a later number is."""
        table = make_table(lake, "t", SCHEMA, key=["id"])
        one = rows((1, "a", 1.0))
        assert not table.append(one, txn=("job", 0)).already
        for write in (table.append, table.overwrite, table.merge):
            assert write(rows((9, "x", 9.0)), txn=("job", 0)).already
        assert table.delete("true", txn=("job", 0)).already
        assert read(lake) == [(1, "a", 1.0)]
        assert table.landed("job") == 0
        assert table.landed("other") is None
        assert not table.append(rows((2, "b", 2.0)), txn=("job", 1)).already
        assert len(read(lake)) == 2

    def test_add_files(self, lake: Lake) -> None:
        """Files that were written into the folder become rows in one commit, with statistics."""
        table = make_table(lake, "t", SCHEMA)
        paths = ["part-b.parquet", "my file.parquet", "sub/part-a.parquet"]
        for number, path in enumerate(paths):
            uri = f"{table_uri(lake.storage, table.dataset.location)}/{path}"
            files = lake.storage.filesystem()
            files.makedirs(uri.rpartition("/")[0], exist_ok=True)
            with files.open(uri, "wb") as file:
                pq.write_table(rows((number, "x", 1.0), (number + 10, "y", None)), file)
        commit = table.add_files(paths, txn=("load", 0))
        assert (commit.table_version, commit.rows_added) == (1, 6)
        assert sorted(r[0] for r in read(lake)) == [0, 1, 2, 10, 11, 12]
        assert sorted((a["min.id"], a["max.id"]) for a in adds(table)) == [(0, 10), (1, 11), (2, 12)]
        assert table.add_files(paths, txn=("load", 0)).already

    def test_evolve(self, lake: Lake) -> None:
        """A new column is refused without consent; with it, old rows have null there."""
        table = make_table(lake, "t", SCHEMA, key=["id"])
        table.append(rows((1, "a", 1.0)))
        wider = rows((2, "b", 2.0)).append_column("extra", pa.array(["e"]))
        with pytest.raises(InvalidInputError) as caught:
            table.append(wider)
        assert caught.value.kind == "schema-added-column"
        table.append(wider, evolve=True)
        assert sorted(read(lake)) == [(1, "a", 1.0, None), (2, "b", 2.0, "e")]
        table.merge(pa.table({"id": [1], "more": [True]}), evolve=True)
        assert lake.read("t").schema.names == ["id", "name", "size", "extra", "more"]
        assert min(read(lake)) == (1, "a", 1.0, None, True)
        assert lake.read("t@#1").schema == SCHEMA

    def test_log(self, lake: Lake) -> None:
        """The log tells newest first who did what, for which run, in whose words, and how many rows."""
        table = make_table(lake, "t", SCHEMA, key=["id"])
        table.append(rows((1, "a", 1.0), (2, "b", 2.0)), run="run-1", message="first")
        table.merge(rows((2, "B", 2.0), (3, "c", 3.0)))
        table.merge(rows((4, "d", 4.0)))
        table.delete("id = 1")
        table.overwrite(rows((7, "z", 7.0)))
        log = table.log()
        assert [e.table_version for e in log] == [5, 4, 3, 2, 1, 0]
        assert {e.user for e in log} == {"tester"}
        assert [(e.rows_added, e.rows_removed, e.rows_updated) for e in log[:5]] == [
            (1, 3, None),
            (None, 1, None),
            (1, None, None),
            (1, 0, 1),
            (2, None, None),
        ]
        assert (log[4].run, log[4].message) == ("run-1", "first")
        assert all(newer.created_at >= older.created_at for newer, older in pairwise(log))
        assert table.log(2) == log[:2]


class TestTable(TableContract):
    """The contract, on each backend in turn."""


def test_overwrite_is_compare_and_swap(local: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """An overwrite, an empty one too, that somebody else overtook loses, and their rows stay."""
    table = make_table(local, "t", SCHEMA)
    table.append(rows((1, "a", 1.0)))
    with pytest.raises(ConflictError) as caught:
        table.overwrite(rows((9, "z", 9.0)), expected_version=0)
    assert caught.value.kind == "table-changed"

    def overtaken() -> Iterator[pa.RecordBatch]:
        local.table("t").append(rows((2, "b", 2.0)))
        yield from rows((9, "z", 9.0)).to_batches()

    def overtaken_by_nothing() -> Iterator[pa.RecordBatch]:
        local.table("t").append(rows((3, "c", 3.0)))
        yield from ()

    for data in (overtaken(), overtaken_by_nothing()):
        with pytest.raises(ConflictError) as caught:
            table.overwrite(pa.RecordBatchReader.from_batches(SCHEMA, data))
        assert caught.value.kind == "table-changed"
    assert [r[0] for r in read(local)] == [1, 2, 3]


def test_statistics_are_true(local: Lake) -> None:
    """Bounds in the log hold for every value, null counts are exact, and NaN makes no bound."""
    count = 200
    data = pa.table(
        {
            "i": pa.array([n if n % 7 else None for n in range(count)], pa.int64()),
            "text": [f"{'long' * 20}{n:03d}" for n in range(count)],
            "high": ["\U0010ffff" * (n % 40) for n in range(count)],
            "day": pa.array(range(count), pa.int32()).cast(pa.date32()),
            "at": pa.array([n * 1_000_001 - 5 for n in range(count)], pa.timestamp("us", tz="UTC")),
            "far": pa.array([2**62] * count, pa.timestamp("us")),
            "dec": pa.array([Decimal(n) / 100 for n in range(count)], pa.decimal128(10, 2)),
            "fine": pa.array([Decimal("0.123456789012345678901234")] * count, pa.decimal128(38, 24)),
            "f": [NAN if n == 3 else float(n) for n in range(count)],
            "none": pa.nulls(count, pa.string()),
            "l": [[n] for n in range(count)],
        }
    )
    table = make_table(local, "t", data.schema)
    table.append(data)
    [add] = adds(table)
    assert add["num_records"] == count
    for name in ("i", "text", "day", "at", "dec"):
        ends = pc.min_max(data.column(name)).as_py()
        assert add[f"min.{name}"] <= ends["min"]
        assert add[f"max.{name}"] >= ends["max"]
    assert len(add["max.text"]) < 40
    assert add["null_count.i"] == data.column("i").null_count
    assert add["null_count.none"] == count
    for name in ("f", "far", "fine", "high", "none"):
        assert add.get(f"max.{name}") is None
    log = (Path(table_uri(local.storage, table.dataset.location)) / "_delta_log" / f"{1:020d}.json").read_text()
    stats = json.loads(next(json.loads(x)["add"]["stats"] for x in log.splitlines() if '"add"' in x))
    assert stats["minValues"]["at"] == "1969-12-31T23:59:59.999995Z"
    # Every reader that skips by these bounds finds the rows at both ends.
    for where in ("i = 199", f"text = '{data.column('text')[199].as_py()}'", "dec = 1.99", "day = '1970-07-19'"):
        assert local.read("t").to_arrow(columns=["i"], where=where).column("i").to_pylist() == [199]


def test_files_are_plain(local: Lake) -> None:
    """Whatever the data came as, files hold plain strings and lists of `element`, with bloom filters on the key."""
    schema = pa.schema([("k", pa.string()), ("l", pa.list_(pa.string())), ("n", pa.int64())])
    table = make_table(local, "t", schema, key=["k"])
    table.append(
        pa.table(
            {
                "k": pa.array(["a"]).dictionary_encode(),
                "l": pa.array([["x"]], pa.large_list(pa.string_view())),
                "n": pa.array([7], pa.uint8()),
            }
        )
    )
    table.append(pl.DataFrame({"k": ["b"], "l": [["y"]], "n": [8]}))
    table.append(pl.LazyFrame({"k": ["c"], "l": [["z"]], "n": [9]}))
    table.append(pl.DataFrame({"k": ["d"], "l": [["z"]], "n": [9]}).to_pandas())
    assert [r[0] for r in read(local)] == ["a", "b", "c", "d"]
    for uri in table.open().file_uris():
        found = pq.ParquetFile(uri.removeprefix("file://"))
        assert found.schema_arrow.field("k").type == pa.string()
        assert found.schema_arrow.field("l").type == pa.list_(pa.field("element", pa.string()))
        chunk = found.metadata.row_group(0).column(0)
        assert (chunk.path_in_schema, chunk.bloom_filter_offset is not None) == ("k", True)


def test_change_feed(local: Lake) -> None:
    """The change feed tells of every commit from version 0 on, overwrites and merges too."""
    table = make_table(local, "t", SCHEMA, key=["id"])
    table.append(rows((1, "a", 1.0), (2, "b", 2.0)))
    table.merge(rows((2, "B", 2.0), (3, "c", 3.0)))
    table.delete("id = 1")
    table.overwrite(rows((9, "z", 9.0)))
    feed = pa.table(table.open().load_cdf(starting_version=0).read_all()).to_pylist()
    seen = sorted((r["_commit_version"], r["_change_type"], r["id"]) for r in feed)
    assert seen == [
        (1, "insert", 1),
        (1, "insert", 2),
        (2, "insert", 3),
        (2, "update_postimage", 2),
        (2, "update_preimage", 2),
        (3, "delete", 1),
        (4, "delete", 2),
        (4, "delete", 3),
        (4, "insert", 9),
    ]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({"id": ["x"]}, "schema-type-change"),
        ({"id": [1.5]}, "value-invalid"),
        ({"ID": [1]}, "schema-case-conflict"),
        ({"size": [True]}, "schema-type-change"),
        ({"id": pa.array([2**63], pa.uint64())}, "value-invalid"),
        ({"id": pa.array([1], pa.time32("s"))}, "unsupported-type"),
    ],
)
def test_data_that_does_not_fit(local: Lake, data: dict[str, Any], kind: str) -> None:
    """What does not fit the schema is refused by kind, without a value in the message, and nothing is committed."""
    table = make_table(local, "t", SCHEMA)
    with pytest.raises(InvalidInputError) as caught:
        table.append(pa.table(data))
    assert caught.value.kind == kind
    assert str(2**63) not in str(caught.value)
    assert table.version() == 0


def test_errors_of_the_source_pass_through(local: Lake) -> None:
    """When the stream of rows fails half way, its own error comes out, and nothing is committed."""
    table = make_table(local, "t", SCHEMA)

    def failing() -> Iterator[pa.RecordBatch]:
        yield from rows((1, "a", 1.0)).to_batches()
        raise ValueError("the source broke")

    for data in (failing(), pa.RecordBatchReader.from_batches(SCHEMA, failing())):
        with pytest.raises(ValueError, match="the source broke"):
            table.append(data)
    assert table.version() == 0


@pytest.mark.parametrize("data", [5, "text", {"id": [1]}, [1, 2], None])
def test_unknown_data(local: Lake, data: Any) -> None:
    """What is no table of any kind is refused by name."""
    with pytest.raises(InvalidInputError) as caught:
        make_table(local, "t", SCHEMA).append(data)
    assert caught.value.kind == "data-unknown"


def test_nothing_to_append(local: Lake) -> None:
    """No rows, in whatever form, make no commit."""
    table = make_table(local, "t", SCHEMA)
    for data in (SCHEMA.empty_table(), pl.DataFrame(schema={"id": pl.Int64}), pl.LazyFrame(schema={"id": pl.Int64})):
        assert table.append(data).table_version == 0


BAD_FILES: list[tuple[str, Callable[[], pa.Table], str]] = [
    ("../outside.parquet", lambda: rows((1, "a", 1.0)), "path-invalid"),
    ("/abs.parquet", lambda: rows((1, "a", 1.0)), "path-invalid"),
    ("type.parquet", lambda: pa.table({"id": ["x"]}), "schema-mismatch"),
    ("view.parquet", lambda: pa.table({"name": pa.array(["x"], pa.string_view())}), "schema-mismatch"),
    ("extra.parquet", lambda: pa.table({"id": [1], "must": [1], "more": [1]}), "schema-mismatch"),
    ("lacks.parquet", lambda: pa.table({"id": [1]}), "column-missing"),
    ("null.parquet", lambda: pa.table({"id": [1], "must": pa.array([None], pa.int64())}), "null-in-required"),
]


@pytest.mark.parametrize(("path", "made", "kind"), BAD_FILES, ids=[p for p, _, _ in BAD_FILES])
def test_add_files_checks(local: Lake, path: str, made: Callable[[], pa.Table], kind: str) -> None:
    """A file that does not hold what the table promises is not committed."""
    schema = pa.schema([("id", pa.int64()), ("name", pa.string()), pa.field("must", pa.int64(), nullable=False)])
    table = make_table(local, "t", schema)
    if kind != "path-invalid":
        pq.write_table(made(), Path(table_uri(local.storage, table.dataset.location)) / path)
    with pytest.raises(InvalidInputError) as caught:
        table.add_files([path])
    assert caught.value.kind == kind
    assert table.version() == 0


def test_add_files_that_are_none(local: Lake) -> None:
    """A missing file, a file that is no Parquet and no file at all are refused."""
    table = make_table(local, "t", SCHEMA)
    (Path(table_uri(local.storage, table.dataset.location)) / "text.parquet").write_text("no parquet")
    for path in ("missing.parquet", "text.parquet"):
        with pytest.raises(StorageError):
            table.add_files([path])
    with pytest.raises(InvalidInputError) as caught:
        table.add_files([])
    assert caught.value.kind == "files-missing"
    assert table.version() == 0


def test_tables_that_ask_for_more_are_only_read(local: Lake, tmp_path: Path) -> None:
    """An adopted table with partitions or constraints is not written: its rules would not be kept."""
    for name, make in (("parts", {"partition_by": ["name"]}), ("rules", {})):
        write_deltalake(str(tmp_path / name), rows((1, "a", 1.0)), **make)  # type: ignore[call-overload]
    DeltaTable(str(tmp_path / "rules")).alter.add_constraint({"positive": "id > 0"})
    for name, kind in (("parts", "table-partitioned"), ("rules", "table-constrained")):
        catalog.adopt_dataset(local, name, str(tmp_path / name), key=["id"])
        for write in (local.table(name).append, local.table(name).overwrite, local.table(name).merge):
            with pytest.raises(InvalidInputError) as caught:
                write(rows((-1, "b", 1.0)))
            assert caught.value.kind == kind
        assert read(local, name) == [(1, "a", 1.0)]


def test_replaced_table_is_noticed(local: Lake, tmp_path: Path) -> None:
    """When another table lies where ours was, nothing is written to it."""
    write_deltalake(str(tmp_path / "x"), rows((1, "a", 1.0)))
    catalog.adopt_dataset(local, "t", str(tmp_path / "x"))
    (tmp_path / "x").rename(tmp_path / "old")
    write_deltalake(str(tmp_path / "x"), rows((2, "b", 2.0)))
    with pytest.raises(FormatError) as caught:
        local.table("t").append(rows((3, "c", 3.0)))
    assert caught.value.kind == "table-replaced"


def test_missing_versions_and_tables(local: Lake, tmp_path: Path) -> None:
    """A version that never was and a table that is gone are two errors."""
    table = make_table(local, "t", SCHEMA)
    with pytest.raises(LakeError) as caught:
        table.open(57)
    assert caught.value.kind == "version-not-found"
    Path(table_uri(local.storage, table.dataset.location)).rename(tmp_path / "away")
    with pytest.raises(LakeError) as caught:
        table.append(rows((1, "a", 1.0)))
    assert caught.value.kind == "table-missing"


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["append", "merge", "delete", "overwrite"]),
        st.dictionaries(st.integers(0, 5), st.sampled_from(["a", "b", None]), max_size=4),
    ),
    max_size=6,
)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(operations=OPERATIONS)
def test_table_is_what_a_dict_would_be(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[str, dict[int, str | None]]]
) -> None:
    """Whatever is done in whatever order, every version holds what a plain dict held at that moment."""
    lake = make_lake(str(tmp_path_factory.mktemp("model")))
    table = make_table(lake, "t", pa.schema([("k", pa.int64()), ("v", pa.string())]), key=["k"])
    model: dict[int, str | None] = {}
    at_version = {0: dict(model)}
    for kind, given_rows in operations:
        data = pa.table(
            {"k": pa.array(list(given_rows), pa.int64()), "v": pa.array(list(given_rows.values()), pa.string())}
        )
        if kind == "append":
            new = {k: v for k, v in given_rows.items() if k not in model}
            data = data.filter(pc.is_in(data.column("k"), value_set=pa.array(list(new), pa.int64())))
            commit = table.append(data)
            model |= new
        elif kind == "merge":
            commit = table.merge(data)
            assert commit.rows_added == len(given_rows.keys() - model.keys())
            assert commit.rows_updated == sum(k in model and model[k] != v for k, v in given_rows.items())
            model |= given_rows
        elif kind == "delete":
            gone = ", ".join(map(str, given_rows)) or "-1"
            commit = table.delete(f"k in ({gone})")
            assert commit.rows_removed == len(given_rows.keys() & model.keys())
            model = {k: v for k, v in model.items() if k not in given_rows}
        else:
            commit = table.overwrite(data)
            assert commit.rows_removed == len(model)
            model = dict(given_rows)
        at_version[commit.table_version] = dict(model)
    for version, expected in at_version.items():
        assert dict(read(lake, f"t@#{version}")) == expected
        assert lake.read(f"t@#{version}").num_rows == len(expected)
