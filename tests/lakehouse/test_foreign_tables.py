"""Tables that other engines wrote: every reader gives the same right rows, or refuses by name."""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
import uuid
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from polars.testing import assert_frame_equal

from lakehouse.decisions import Dataset
from lakehouse.delta import Route
from lakehouse.errors import FormatError, StorageError
from lakehouse.profiles import Profile
from lakehouse.readers.relation import connect, source_sql
from lakehouse.snapshots import Snapshot, open_snapshot
from lakehouse.storage import Storage

ROOT = Path(__file__).parents[2]


def opened(folder: Path, version: int | None = None) -> Snapshot:
    """Open a table as an adopted dataset is opened."""
    dataset = Dataset(
        dataset_id="d1",
        namespace="main",
        name="foreign",
        location=str(folder),
        delta_id=DeltaTable(folder).metadata().id,
        created_at=datetime.now(UTC),
    )
    return open_snapshot(Storage(Profile(root=str(folder.parent))), dataset, "main.foreign@head", version, None)


def check_readers(snapshot: Snapshot, expected: pa.Table) -> None:
    """Assert that Arrow, Polars and DuckDB give exactly these rows, in this order, with the snapshot's types."""
    rows = snapshot.to_arrow()
    assert rows.schema.equals(snapshot.schema)
    assert rows.equals(expected.cast(snapshot.schema))
    frame = pl.from_arrow(rows)
    assert isinstance(frame, pl.DataFrame)
    lazy = snapshot.scan()
    assert lazy.collect_schema() == frame.schema
    assert_frame_equal(lazy.collect(), frame)
    con = connect()
    found = con.sql(source_sql(con, snapshot)).to_arrow_table()
    con.close()
    assert found.column_names == rows.column_names
    assert found.cast(rows.schema).equals(rows)
    assert snapshot.num_rows == rows.num_rows
    for name in rows.column_names:
        assert snapshot.to_arrow([name]).equals(rows.select([name]))
        assert_frame_equal(lazy.select(name).collect(), frame.select(name))


# -- tables written with delta-rs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (pa.int32(), [2, 1, None, -7]),
        (pa.date32(), [date(2026, 1, 31), None, date(1969, 12, 31), date(2026, 2, 1)]),
        (pa.string(), ["a b/c", "é=%20", None, "it's [x]*?"]),
        (pa.bool_(), [True, False, None, True]),
    ],
    ids=["int", "date", "string", "bool"],
)
def test_partition_values_are_read_with_their_types(tmp_path: Path, kind: pa.DataType, values: list[Any]) -> None:
    """A partition column has the Delta type, nulls and special characters included, and predicates on it work."""
    schema = pa.schema([("id", pa.int64()), ("p", kind), ("v", pa.string())])
    for at, value in enumerate(values):
        rows = pa.table({"id": [at, at + 10], "p": pa.array([value] * 2, kind), "v": ["x", None]}, schema=schema)
        write_deltalake(tmp_path / "t", rows, mode="append", partition_by=["p"])
    snapshot = opened(tmp_path / "t")
    expected = [{"id": i, "p": v, "v": x} for at, v in enumerate(values) for i, x in ((at, "x"), (at + 10, None))]
    by_id = snapshot.to_arrow().sort_by("id")
    assert by_id.equals(pa.Table.from_pylist(sorted(expected, key=lambda r: r["id"]), schema=snapshot.schema))
    check_readers(snapshot, snapshot.to_arrow())
    assert snapshot.to_arrow(["id"], "p is null").column(0).to_pylist() == [values.index(None), values.index(None) + 10]
    assert {r["id"] for r in snapshot.find(p=values[3])} >= {3, 13}
    assert snapshot.scan().filter(pl.col("p") == values[3]).collect().height == 2 * values.count(values[3])


def test_partition_values_of_other_types_take_the_scan_route(tmp_path: Path) -> None:
    """Partition values that a path can't be trusted to tell are read from the log."""
    rows = pa.table({"id": [1, 2, 3], "p": [0.5, None, 1e30]})
    write_deltalake(tmp_path / "t", rows, partition_by=["p"])
    snapshot = opened(tmp_path / "t")
    assert snapshot.file_list.route is Route.SCAN
    assert snapshot.to_arrow().sort_by("id").to_pylist() == rows.to_pylist()
    check_readers(snapshot, snapshot.to_arrow())


def test_a_table_in_a_folder_with_pattern_characters_is_read(tmp_path: Path) -> None:
    """Folders called `x=1` or with characters of patterns mean just themselves."""
    folder = tmp_path / "v=1" / "a*b? 'c' #ü"
    write_deltalake(folder, pa.table({"id": [1], "v": ["own"]}))
    write_deltalake(folder, pa.table({"id": [2], "v": ["own"]}), mode="append")
    check_readers(opened(folder), pa.table({"id": [1, 2], "v": ["own", "own"]}))


@pytest.mark.parametrize("partition_by", [None, ["p"]])
def test_columns_added_later_are_null_in_older_files(tmp_path: Path, partition_by: list[str] | None) -> None:
    """Files that lack a column, also within a struct, give nulls; a column that no file has is null throughout."""
    first = pa.table({"p": [1], "id": pa.array([1], pa.int64()), "s": [{"a": 1}]})
    second = pa.table({"id": pa.array([2], pa.int64()), "p": [1], "s": [{"a": 2, "b": "x"}], "new": ["y"]})
    never = pa.schema([*second.schema, pa.field("never", pa.list_(pa.int32()))])
    table = tmp_path / "t"
    write_deltalake(table, first, partition_by=partition_by)
    write_deltalake(table, second, mode="append", schema_mode="merge", partition_by=partition_by)
    DeltaTable(table).alter.add_columns(_delta_fields(table, never))
    rows = [
        {"p": 1, "id": 1, "s": {"a": 1, "b": None}, "new": None, "never": None},
        {"p": 1, "id": 2, "s": {"a": 2, "b": "x"}, "new": "y", "never": None},
    ]
    snapshot = opened(table)
    check_readers(snapshot, pa.Table.from_pylist(rows, schema=snapshot.schema))
    assert snapshot.to_arrow(["id"], "new is null").column(0).to_pylist() == [1]
    assert snapshot.find(new="y")[0]["id"] == 2


def _delta_fields(table: Path, schema: pa.Schema) -> list[Any]:
    from deltalake import Schema

    return [f for f in Schema.from_arrow(schema).fields if f.name == "never"]


def test_every_type_comes_back_as_delta_says(tmp_path: Path) -> None:
    """Times with and without zone, decimals, bytes and nested types survive each route exactly."""
    schema = pa.schema(
        [
            ("i8", pa.int8()),
            ("i16", pa.int16()),
            ("f", pa.float32()),
            ("b", pa.bool_()),
            ("bin", pa.binary()),
            ("dec", pa.decimal128(38, 10)),
            ("d", pa.date32()),
            ("ntz", pa.timestamp("us")),
            ("utc", pa.timestamp("us", tz="UTC")),
            ("list", pa.list_(pa.field("element", pa.struct([("x", pa.int64()), ("select", pa.string())])))),
            ("map", pa.map_(pa.string(), pa.list_(pa.field("element", pa.int32())))),
            ("from", pa.struct([("it's", pa.timestamp("us", tz="UTC")), ("n", pa.struct([("m", pa.binary())]))])),
            ('q"uo.te', pa.string()),
            ("größe €", pa.float64()),
        ]
    )
    now = datetime(2026, 10, 25, 2, 30, 0, 123456, UTC).replace(tzinfo=None)
    row = {
        "i8": -128,
        "i16": 32767,
        "f": 1.5,
        "b": True,
        "bin": b"\x00\xff",
        "dec": Decimal("-1234567890123456789012345678.0123456789"),
        "d": date(1, 1, 1),
        "ntz": now,
        "utc": now.replace(tzinfo=UTC),
        "list": [{"x": 2**62, "select": "é"}, None, {"x": None, "select": ""}],
        "map": [("k", [1, None]), ("", None)],
        "from": {"it's": now.replace(tzinfo=UTC), "n": {"m": b""}},
        'q"uo.te': "x",
        "größe €": float("-inf"),
    }
    empty = {"list": [], "map": [], "from": {"it's": None, "n": None}, "bin": b"", "größe €": -0.0}
    rows = pa.Table.from_pylist([row, {}, empty, row], schema=schema)
    write_deltalake(tmp_path / "t", rows)
    snapshot = opened(tmp_path / "t")
    check_readers(snapshot, rows)
    assert snapshot.find(**{k: row[k] for k in ("bin", "dec", "d", "ntz", "utc", 'q"uo.te')}) == [row, row]


def test_a_table_without_rows_has_its_schema(tmp_path: Path) -> None:
    """An empty table reads as no rows with all columns."""
    schema = pa.schema([("id", pa.int64()), ("tags", pa.list_(pa.field("element", pa.string())))])
    DeltaTable.create(tmp_path / "t", schema)
    snapshot = opened(tmp_path / "t")
    check_readers(snapshot, schema.empty_table())
    assert list(snapshot.batches()) == []
    assert snapshot.find(id=1) == []


def test_rows_keep_the_order_of_the_file_list(tmp_path: Path) -> None:
    """Rows come file by file, row by row, whatever the number of threads and row groups."""
    for start in range(0, 60_000, 20_000):
        rows = pa.table({"id": pa.array(range(start, start + 20_000), pa.int64())})
        write_deltalake(tmp_path / "t", rows, mode="append")
    snapshot = opened(tmp_path / "t")
    ids = snapshot.to_arrow().column("id").to_pylist()
    assert ids == list(range(60_000))
    assert snapshot.to_arrow(where="id % 7 = 0").column("id").to_pylist() == list(range(0, 60_000, 7))
    assert snapshot.scan().collect().get_column("id").to_list() == ids
    assert max(b.num_rows for b in snapshot.batches(batch_rows=7_000)) <= 7_000


def test_a_vacuumed_version_says_that_files_are_gone(tmp_path: Path) -> None:
    """Reading a state whose file was deleted is an error that names the state and the file."""
    write_deltalake(tmp_path / "t", pa.table({"id": [1]}))
    snapshot = opened(tmp_path / "t")
    Path(snapshot.files()[0]).unlink()
    with pytest.raises(StorageError, match=r"main\.foreign@head is gone.*\.parquet") as raised:
        snapshot.to_arrow()
    assert raised.value.kind == "data-missing"


# -- tables written by hand, as the Delta protocol describes them ------------------------------------------------------


def write_table(
    folder: Path,
    fields: Sequence[Mapping[str, Any]],
    files: Sequence[tuple[str, pa.Table, Mapping[str, Any]]],
    features: Sequence[str],
    properties: Mapping[str, str] | None = None,
) -> None:
    """Write a Delta table with reader features: Parquet files, and one commit that adds them (with more per file)."""
    log = folder / "_delta_log"
    log.mkdir(parents=True, exist_ok=True)
    protocol = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features, "writerFeatures": features}
    metadata = {
        "id": str(uuid.uuid4()),
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps({"type": "struct", "fields": fields}),
        "partitionColumns": [],
        "configuration": properties or {},
        "createdTime": 1_700_000_000_000,
    }
    actions: list[dict[str, Any]] = [{"protocol": protocol}, {"metaData": metadata}]
    for at, (path, rows, more) in enumerate(files):
        pq.write_table(rows, folder / path)
        add = {
            "path": path,
            "partitionValues": {},
            "size": (folder / path).stat().st_size,
            "modificationTime": 1_700_000_000_000 + at,
            "dataChange": True,
            "stats": json.dumps({"numRecords": rows.num_rows}),
        }
        actions.append({"add": add | more})
    (log / f"{0:020}.json").write_text("\n".join(map(json.dumps, actions)))


def field(name: str, kind: Any, **metadata: Any) -> dict[str, Any]:
    """Return a field of a Delta schema in its JSON form."""
    return {"name": name, "type": kind, "nullable": True, "metadata": metadata}


_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


def z85(data: bytes) -> str:
    """Return bytes (a multiple of four) in the base-85 code of the Delta protocol."""
    return "".join(_Z85[n // 85**k % 85] for (n,) in struct.iter_unpack(">I", data) for k in (4, 3, 2, 1, 0))


def deletion_vector(rows: Sequence[int], folder: Path | None = None) -> dict[str, Any]:
    """Return the action's part that marks rows as deleted, inline or as a file in a folder (an even number of rows)."""
    bitmap = struct.pack("<IIHHI", 12346, 1, 0, len(rows) - 1, 16) + struct.pack(f"<{len(rows)}H", *rows)
    data = struct.pack("<IQI", 1681511377, 1, 0) + bitmap
    common = {"sizeInBytes": len(data), "cardinality": len(rows)}
    if folder is None:
        return {"deletionVector": {"storageType": "i", "pathOrInlineDv": z85(data), **common}}
    name = uuid.uuid4()
    folder.mkdir(exist_ok=True)
    stored = b"\x01" + struct.pack(">I", len(data)) + data + struct.pack(">I", zlib.crc32(data))
    (folder / f"deletion_vector_{name}.bin").write_bytes(stored)
    return {"deletionVector": {"storageType": "u", "pathOrInlineDv": z85(name.bytes), "offset": 1, **common}}


def test_deleted_rows_of_deletion_vectors_are_left_out(tmp_path: Path) -> None:
    """Rows that a vector marks, inline or in a file, do not appear; the others keep their order."""
    folder = tmp_path / "t"
    parts = [pa.table({"id": list(range(n * 10, n * 10 + 10)), "s": ["x"] * 10}) for n in range(3)]
    marks = [deletion_vector([1, 3]), {}, deletion_vector([0, 9], folder)]
    files = [(f"{n}.parquet", part, mark) for n, (part, mark) in enumerate(zip(parts, marks, strict=True))]
    write_table(folder, [field("id", "long"), field("s", "string")], files, ["deletionVectors"])
    snapshot = opened(folder)
    assert snapshot.file_list.route is Route.SCAN
    kept = [i for i in range(30) if i not in (1, 3, 20, 29)]
    check_readers(snapshot, pa.table({"id": kept, "s": ["x"] * 26}))
    assert snapshot.num_rows == 26
    assert snapshot.to_arrow(["s", "id"], "id between 18 and 22").column("id").to_pylist() == [18, 19, 21, 22]
    assert snapshot.scan().filter(pl.col("id") > 27).select("s", "id").collect().rows() == [("x", 28)]
    assert snapshot.scan().select(pl.len()).collect().item() == 26
    assert snapshot.scan().head(3).collect().get_column("id").to_list() == [0, 2, 4]


def test_a_deletion_vector_feature_without_vectors_costs_nothing(tmp_path: Path) -> None:
    """A table that may have deletion vectors but has none is read from its files."""
    files = [("a.parquet", pa.table({"id": [1, 2]}), {})]
    write_table(tmp_path / "t", [field("id", "long")], files, ["deletionVectors"])
    snapshot = opened(tmp_path / "t")
    assert snapshot.file_list.route is Route.FILES
    check_readers(snapshot, pa.table({"id": [1, 2]}))


def test_mapped_columns_are_read_by_their_logical_names(tmp_path: Path) -> None:
    """With column mapping the files' physical names never show, within structs either."""

    def mapped(name: str, kind: Any, number: int) -> dict[str, Any]:
        return field(name, kind, **{"delta.columnMapping.id": number, "delta.columnMapping.physicalName": f"c{number}"})

    fields = [
        mapped("the id", "long", 1),
        mapped("s", {"type": "struct", "fields": [mapped("k", "string", 3)]}, 2),
        mapped("later", "double", 4),
    ]
    parts = [pa.table({"c1": [n, n + 1], "c2": [{"c3": "v"}, None]}) for n in (0, 10)]
    files = [(f"{n}.parquet", part, {}) for n, part in enumerate(parts)]
    properties = {"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": "4"}
    write_table(tmp_path / "t", fields, files, ["columnMapping"], properties)
    snapshot = opened(tmp_path / "t")
    assert snapshot.file_list.route is Route.SCAN
    rows = [{"the id": i, "s": {"k": "v"} if i % 10 == 0 else None, "later": None} for i in (0, 1, 10, 11)]
    check_readers(snapshot, pa.Table.from_pylist(rows, schema=snapshot.schema))


def test_narrower_files_of_a_widened_table_are_read_as_the_wide_type(tmp_path: Path) -> None:
    """After type widening old files hold a narrower type; values and predicates are those of the wide one."""
    fields = [field("n", "long"), field("x", "double"), field("at", "timestamp")]
    now = [datetime(2026, 1, 1, 12, tzinfo=UTC).replace(tzinfo=None)]
    old = {"n": pa.array([1], pa.int32()), "x": pa.array([1.5], pa.float32()), "at": pa.array(now, pa.timestamp("ns"))}
    new = {"n": [2**40], "x": [2.5], "at": pa.array(now, pa.timestamp("us", tz="UTC"))}
    files = [("a.parquet", pa.table(old), {}), ("b.parquet", pa.table(new), {})]
    write_table(tmp_path / "t", fields, files, ["typeWidening"])
    snapshot = opened(tmp_path / "t")
    at = now[0].replace(tzinfo=UTC)
    rows = [{"n": 1, "x": 1.5, "at": at}, {"n": 2**40, "x": 2.5, "at": at}]
    check_readers(snapshot, pa.Table.from_pylist(rows, schema=snapshot.schema))
    assert snapshot.find(n=2**40)[0]["x"] == 2.5
    assert snapshot.to_arrow(["n"], "x < 2").column(0).to_pylist() == [1]


def test_times_of_old_spark_files_are_read(tmp_path: Path) -> None:
    """The 96-bit times that Spark writes by default are the same times, with the zone that Delta says."""
    times = pa.array([datetime(2026, 1, 1, 12, 0, 0, 5, UTC), None]).cast(pa.timestamp("us"))
    folder = tmp_path / "t"
    write_table(folder, [field("at", "timestamp")], [("a.parquet", pa.table({"at": times}), {})], [])
    pq.write_table(pa.table({"at": times}), folder / "a.parquet", use_deprecated_int96_timestamps=True)
    check_readers(opened(folder), pa.table({"at": times.cast(pa.timestamp("us", tz="UTC"))}))


def test_a_v2_checkpoint_is_read(tmp_path: Path) -> None:
    """A table with the v2 checkpoint feature is read from its files."""
    folder = tmp_path / "t"
    files = [("a.parquet", pa.table({"id": [1]}), {})]
    write_table(folder, [field("id", "long")], files, ["v2Checkpoint"], {"delta.checkpointPolicy": "v2"})
    _write_v2_checkpoint(folder / "_delta_log")
    check_readers(opened(folder), pa.table({"id": [1]}))


def _write_v2_checkpoint(log: Path) -> None:
    """Replace the only commit by a v2 checkpoint in JSON, so that nothing else can be what is read."""
    commit = log / f"{0:020}.json"
    actions = [json.dumps({"checkpointMetadata": {"version": 0}}), *commit.read_text().splitlines()]
    (log / f"{0:020}.checkpoint.{uuid.uuid4()}.json").write_text("\n".join(actions))
    (log / "_last_checkpoint").write_text(json.dumps({"version": 0, "size": len(actions)}))


@pytest.mark.parametrize("feature", ["variantType", "catalogManaged", "somethingNew"])
def test_an_unknown_reader_feature_is_refused_by_name(tmp_path: Path, feature: str) -> None:
    """A feature that no route reads is refused when the table is opened, never half read."""
    files = [("a.parquet", pa.table({"id": [1]}), {})]
    write_table(tmp_path / "t", [field("id", "long")], files, [feature])
    dataset = Dataset(
        dataset_id="d1",
        namespace="main",
        name="foreign",
        location=str(tmp_path / "t"),
        delta_id="",
        created_at=datetime.now(UTC),
    )
    with pytest.raises(FormatError, match=feature) as raised:
        open_snapshot(Storage(Profile(root=str(tmp_path))), dataset, "main.foreign@head", None, None)
    assert raised.value.kind == "feature-unsupported"


def test_columns_that_differ_only_in_case_are_refused(tmp_path: Path) -> None:
    """SQL can't tell such columns apart, so that reading them says so instead of mixing them up."""
    write_deltalake(tmp_path / "t", pa.table({"id": [1]}))
    snapshot = opened(tmp_path / "t")
    both = replace(snapshot, schema=pa.schema([("id", pa.int64()), ("ID", pa.int64())]))
    with pytest.raises(FormatError, match="'id' and 'ID'") as raised:
        both.to_arrow()
    assert raised.value.kind == "columns-ambiguous"


# -- processes --------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["files", "partitioned", "scan"])
def any_route(request: pytest.FixtureRequest, tmp_path: Path) -> Snapshot:
    """A table of four rows for each way of reading."""
    folder = tmp_path / "t"
    rows = pa.table({"id": [1, 2, 3, 4], "p": [1, 1, 2, 2]})
    if request.param == "scan":
        more = deletion_vector([4, 5])
        longer = pa.table({"id": [1, 2, 3, 4, 0, 0], "p": [1, 1, 2, 2, 0, 0]})
        write_table(
            folder, [field("id", "long"), field("p", "long")], [("a.parquet", longer, more)], ["deletionVectors"]
        )
    else:
        write_deltalake(folder, rows, partition_by=["p"] if request.param == "partitioned" else None)
    return opened(folder)


def run_python(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a fresh interpreter that imports from this repository."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)


def test_a_snapshot_pickles_with_its_files(any_route: Snapshot) -> None:
    """The copy reads the same rows."""
    copy = pickle.loads(pickle.dumps(any_route))
    assert copy.files() == any_route.files()
    assert copy.to_arrow().equals(any_route.to_arrow())


@pytest.mark.parametrize(
    "reading",
    [
        "kept = snapshot.to_arrow()",
        "kept = snapshot.batches(batch_rows=1); next(kept)",
        "kept = snapshot.scan(); rows = kept.collect()",
        "kept = snapshot.to_pandas()",
        "kept = connect(); relation = kept.sql(source_sql(kept, snapshot)); relation.fetchall()",
        "kept = connect(); kept.execute('create view v as ' + source_sql(kept, snapshot)); r = kept.sql('from v').to_arrow_reader(1)",
    ],
)
def test_the_interpreter_ends_quietly_after_reading(any_route: Snapshot, tmp_path: Path, reading: str) -> None:
    """Whatever is still open at exit, the process neither crashes nor writes to stderr."""
    (tmp_path / "snapshot").write_bytes(pickle.dumps(any_route))
    script = (
        "import pickle, sys; from pathlib import Path\n"
        "from lakehouse.readers.relation import connect, source_sql\n"
        f"snapshot = pickle.loads(Path(sys.argv[1]).read_bytes())\n{reading}\n"
    )
    done = run_python(script, str(tmp_path / "snapshot"))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_forked_process_reads_a_snapshot(any_route: Snapshot, tmp_path: Path) -> None:
    """After a fork the files are read as before; what only delta-rs can read is refused, never a crash."""
    (tmp_path / "snapshot").write_bytes(pickle.dumps(any_route))
    script = """
import os, pickle, sys
from pathlib import Path
snapshot = pickle.loads(Path(sys.argv[1]).read_bytes())
before = snapshot.to_arrow()
open_one = snapshot.batches(batch_rows=1); next(open_one)
child = os.fork()
if child == 0:
    from lakehouse.errors import StateError
    del open_one
    try:
        same = snapshot.to_arrow().equals(before) and len(list(snapshot.batches(where="id > 2"))) == 1
        os._exit(0 if same else 3)
    except StateError as error:
        os._exit(4 if error.kind == "fork-unsupported" else 5)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = run_python(script, str(tmp_path / "snapshot"))
    expected = 4 if any_route.file_list.route is Route.SCAN else 0
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, str(expected), "")
