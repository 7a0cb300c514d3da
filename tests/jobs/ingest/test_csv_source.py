"""CSV structure and the types of its text: lines, encodings, inference, conversion; random files never crash."""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from jobs.ingest.csv_types import Profile, convert
from jobs.ingest.tabular import RowReject, TableOptions, open_table
from lakehouse.errors import InvalidInputError, LakeError
from lakehouse.type_names import type_named

same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
# What a cell may hold: any text without surrogates and control characters; a bare carriage return only inside quotes.
CELLS = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\n\r\t,\"'; "), max_size=12)


def read(path: Path, text: str | bytes, options: TableOptions | None = None) -> tuple[pa.Table, list[RowReject]]:
    """Write a file; return its good rows and its rejects by line."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with open_table(path, options) as source:
        table = pa.Table.from_batches(source.batches(), source.schema)
        return table, sorted(source.rejects(), key=lambda reject: reject.line)


@same_folder
@given(rows=st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=30), quote_all=st.booleans())
def test_rows_written_by_csv_come_back_equal(tmp_path: Path, rows: list[tuple[str, ...]], quote_all: bool) -> None:
    """Any text that Python's writer writes is read back, character for character, none missing."""
    # With LF as line end the writer of Python 3.11 leaves bare carriage returns unquoted, so everything is quoted then.
    ending, quoting = ("\n", csv.QUOTE_ALL) if quote_all else ("\r\n", csv.QUOTE_MINIMAL)
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator=ending, quoting=quoting)
    writer.writerows([("a", "b", "c"), *rows])
    options = TableOptions(null_tokens=(), types=dict.fromkeys("abc", "text"))
    table, rejects = read(tmp_path / "t.csv", out.getvalue(), options)
    assert rejects == []
    assert [tuple(row.values()) for row in table.to_pylist()] == rows


@same_folder
@given(data=st.binary(max_size=200) | st.text('a1,"\n\r;\t.-\0', max_size=60).map(str.encode))
@example(b"a\n" + b"9" * 5000)
@example(b"a\n1.5\n" + b"0" * 5000 + b"1\n")
def test_random_bytes_are_read_or_refused(tmp_path: Path, data: bytes) -> None:
    """No input raises anything but our own errors, and every record is a row or a reject."""
    try:
        table, rejects = read(tmp_path / "t.csv", data, TableOptions(header=True))
    except LakeError:
        return
    records = [row for row in csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True) if row]
    assert table.num_rows + len(rejects) == len(records) - 1


@same_folder
@given(numbers=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1))
def test_integers_of_64_bits_keep_every_digit(tmp_path: Path, numbers: list[int]) -> None:
    """All of int64 is inferred and read exactly."""
    table, rejects = read(tmp_path / "t.csv", "n\n" + "".join(f"{n}\n" for n in numbers))
    assert table.schema.types == [pa.int64()]
    assert (table.column("n").to_pylist(), rejects) == (numbers, [])


@same_folder
@given(numbers=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_doubles_are_read_back_equal(tmp_path: Path, numbers: list[float]) -> None:
    """The shortest text of any finite double gives the same double."""
    table, rejects = read(tmp_path / "t.csv", "n\n" + "".join(f"{n!r}\n" for n in numbers))
    assert table.schema.types == [pa.float64()]
    assert (table.column("n").to_pylist(), rejects) == (numbers, [])


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1", "-2", " 3 "], pa.int64()),
        (["1", "2.5"], pa.float64()),
        (["1", "nan"], pa.float64()),
        (["nan", "nan"], pa.string()),
        (["0171", "70174"], pa.string()),
        (["-007"], pa.string()),
        (["+4930123456"], pa.string()),
        (["0", "0.5"], pa.float64()),
        (["1e400", *"123456789"], pa.int64()),
        (["18446744073709551615", "9223372036854775808", "1"], pa.string()),
        (["0x10"], pa.string()),
        (["1_000"], pa.string()),
        (["true", "FALSE"], pa.bool_()),
        (["0", "1"], pa.int64()),
        (["2024-01-01"], pa.date32()),
        (["2024-01-01", "2024-01-01 10:00"], pa.timestamp("us")),
        (["2024-01-01T10:00:00Z", "2024-01-01 10:00:00.5+01:00"], pa.timestamp("us", "UTC")),
        (["2024-01-01T10:00:00Z", "2024-01-01T10:00:00"], pa.string()),
        (["2024-01-01T10:00:00.123456789"], pa.string()),
        (["x"] * 2 + ["1"] * 18, pa.int64()),
        (["x"] * 3 + ["1"] * 18, pa.string()),
        ([None, None], pa.string()),
        ([], pa.string()),
    ],
    ids=str,
)
def test_type_follows_the_forms_of_nine_tenths_of_the_values(cells: list[str | None], expected: pa.DataType) -> None:
    """Each form has its type; codes, mixtures and what would lose digits stay text."""
    profile = Profile()
    profile.update(pa.array(cells, pa.string()))
    assert profile.infer() == expected


@pytest.mark.parametrize(
    ("type_name", "good", "bad"),
    [
        ("tinyint", {"127": 127, "+5": 5, "007": 7, "-5.0": -5}, {"128": "overflow", "5.5": "type_mismatch"}),
        ("bigint", {str(2**63 - 1): 2**63 - 1}, {str(2**63): "overflow", "1e400": "overflow", "0x1": "type_mismatch"}),
        ("double", {"1e5": 1e5, "inf": float("inf"), ".5": 0.5}, {"1e400": "overflow", str(2**53 + 1): "overflow"}),
        ("real", {"0.1": pytest.approx(0.1)}, {"1e39": "overflow", "123456789": "overflow"}),
        (
            "numeric(5, 2)",
            {"1.5": Decimal("1.50"), "-999.99": Decimal("-999.99")},
            {"1.555": "overflow", "1000": "overflow"},
        ),
        ("boolean", {"True": True, "0": False}, {"yes": "type_mismatch", "": "type_mismatch"}),
        ("date", {"2024-02-29": date(2024, 2, 29)}, {"2023-02-29": "type_mismatch", "29.2.2024": "type_mismatch"}),
        ("datetime", {"2024-01-01": datetime(2024, 1, 1)}, {"2024-01-01T25:00": "type_mismatch"}),  # noqa: DTZ001
        (
            "timestamptz",
            {"2024-01-01T01:00+01:00": datetime(2024, 1, 1, tzinfo=UTC)},
            {"2024-01-01T00:00": "type_mismatch"},
        ),
        ("varchar(3)", {"long text": "long text"}, {}),
    ],
)
def test_declared_types_take_exact_values_only(type_name: str, good: dict[str, Any], bad: dict[str, str]) -> None:
    """A value is converted exactly or named with its code, and null stays null."""
    cells = [None, *good, *bad]
    array, misfits = convert(pa.array(cells, pa.string()), type_named(type_name, "c"))
    assert array.to_pylist() == [None, *good.values(), *(None for _ in bad)]
    assert {cells[row]: code for row, code in misfits.items()} == bad


def test_decimal_comma_is_read_where_declared() -> None:
    """With a decimal comma a dot is no part of a number."""
    array, misfits = convert(pa.array(["1,5", "-2", "1.5", "1.000,5"]), pa.float64(), ",")
    assert array.to_pylist() == [1.5, -2.0, None, None]
    assert misfits == {2: "type_mismatch", 3: "type_mismatch"}


@pytest.mark.parametrize(
    ("data", "kind", "named"),
    [
        (b"\n\n\r\n", "empty-file", "header"),
        (b"\xef\xbb\xbf", "empty-file", "header"),
        (b"a,b\n1,2\n3,\xff\n", "encoding", "line 3"),
        (b"a\0b,c\n1,2\n", "encoding", "utf-16-le"),
        (b"a|b|c\n1|2|3\n", "dialect", "'|'"),
        (b"a,b\n1\n2\n", "dialect", "none of its 2 rows"),
        (b"a,,c\n1,2,3\n", "header-missing", "cell 2 is empty"),
        (b"a,2024-01-01\nb,2024-01-02\n", "header-missing", "2024-01-01"),
        (b"Name,name\n1,2\n", "duplicate-column", "'name'"),
        (b'a,b\n1,"x"y\n', "csv-syntax", "line 2"),
        (b"a,b\r1,2\r3,4", "csv-syntax", "carriage return"),
    ],
)
def test_untrustworthy_files_are_refused_whole(tmp_path: Path, data: bytes, kind: str, named: str) -> None:
    """The error's kind is exact and its message names the place or the choice that is left."""
    with pytest.raises(InvalidInputError) as error:
        read(tmp_path / "t.csv", data)
    assert error.value.kind == kind
    assert named in error.value.message


def test_lines_are_physical_lines_across_breaks_and_blanks(tmp_path: Path) -> None:
    """Line numbers stay those of a text editor after quoted line breaks, CRLF and blank lines."""
    text = 'a,b\r\n1,"x\r\ny\nz"\r\n\r\n2\r\n3,w\r\n4,v,u\r\n'
    table, rejects = read(tmp_path / "t.csv", text)
    assert table.to_pylist() == [{"a": 1, "b": "x\r\ny\nz"}, {"a": 3, "b": "w"}]
    assert [(reject.line, reject.raw) for reject in rejects] == [(6, "2"), (8, "4,v,u")]


def test_reject_keeps_one_kilobyte_of_text(tmp_path: Path) -> None:
    """The source of a long bad row is cut between characters."""
    _, rejects = read(tmp_path / "t.csv", "a,b\n1,2\n" + "é" * 2000 + "\n")
    assert rejects[0].raw == "é" * 512


def test_headers_can_be_declared(tmp_path: Path) -> None:
    """Numbers are names when the first row is declared a header; without one, names come from the schema."""
    table, _ = read(tmp_path / "t.csv", "2020,2021\n1,2\n", TableOptions(header=True))
    assert table.to_pylist() == [{"2020": 1, "2021": 2}]
    schema = pa.schema([("x", pa.int64()), ("y", pa.int64())])
    with open_table(tmp_path / "t.csv", TableOptions(header=False), schema) as source:
        assert [batch.num_rows for batch in source.batches()] == [2]
    with pytest.raises(InvalidInputError, match="can't be matched"):
        open_table(tmp_path / "t.csv", TableOptions(header=False), pa.schema([("x", pa.int64())]))


def test_tab_separated_files_need_no_declaration(tmp_path: Path) -> None:
    """The suffix .tsv, in any case, means tabs; commas are then part of the cells."""
    table, _ = read(tmp_path / "T.TSV", "a\tb\n1\tx, y\n")
    assert table.to_pylist() == [{"a": 1, "b": "x, y"}]


def test_a_column_of_identifiers_beyond_64_bits_stays_text_with_a_warning(tmp_path: Path) -> None:
    """Numbers that a 64-bit integer can't hold are not rejected row by row when they are many."""
    path = tmp_path / "t.csv"
    path.write_text("id\n" + "\n".join(str(2**64 - n) for n in range(1, 9)) + "\n")
    with open_table(path) as source:
        assert source.schema.types == [pa.string()]
        assert [finding.code for finding in source.findings] == ["wide_integers"]
