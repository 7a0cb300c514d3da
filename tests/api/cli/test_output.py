"""JSON values, table cells, and figures for people."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.cli.jsonable import SAFE_INTEGER, dumps, jsonable, jsonable_row
from api.cli.output import number, plural, size, when
from api.cli.tables import cell, draw, draw_rows, fit


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (SAFE_INTEGER, SAFE_INTEGER),
        (SAFE_INTEGER + 1, "9007199254740993"),
        (-SAFE_INTEGER - 1, "-9007199254740993"),
        (True, True),
        (Decimal("1.50"), "1.50"),
        (Decimal("1E+3"), "1000"),
        (b"\x00\xff", "AP8="),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        (math.nan, None),
        (datetime(2026, 11, 21, 7, 0, tzinfo=UTC), "2026-11-21T07:00:00Z"),
        (datetime(2026, 11, 21, 7, 0, tzinfo=timezone(timedelta(hours=1))), "2026-11-21T06:00:00Z"),
        (datetime(2026, 11, 21, 7, 0, 0, 5), "2026-11-21T07:00:00.000005"),  # noqa: DTZ001 - has no zone on purpose
        (date(2026, 11, 21), "2026-11-21"),
        (timedelta(seconds=90), 90.0),
        ([(1, {"a": Decimal(2)})], [[1, {"a": "2"}]]),
    ],
)
def test_json_values(value: object, plain: object) -> None:
    """Each kind of value has one form in JSON, which loses nothing that a reader could not see."""
    assert jsonable(value) == plain
    assert type(jsonable(value)) is type(plain)


def test_safe_integers_end_where_doubles_do() -> None:
    """Integers beyond 2^53 are strings, for a reader with doubles would round them."""
    assert float(SAFE_INTEGER) == SAFE_INTEGER
    assert jsonable(SAFE_INTEGER + 1) == str(SAFE_INTEGER + 1)


def test_nan_is_null_and_said() -> None:
    """A row with NaN tells where, also within nested values; a row without has no such key."""
    row = {"a": math.nan, "b": None, "c": {"d": [1.0, math.nan]}}
    assert jsonable_row(row) == {"a": None, "b": None, "c": {"d": [1.0, None]}, "_nan": ["a", "c.d[1]"]}
    assert jsonable_row({"a": 1.0}) == {"a": 1.0}


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.decimals() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(_VALUES)
def test_everything_becomes_strict_json(value: Any) -> None:
    """Whatever a table can hold becomes JSON that a strict parser reads."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads(dumps(value), parse_constant=refuse)


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1.0 kB"),
        (12_345_678, "12.3 MB"),
        (999_999, "1.0 MB"),
        (5 * 10**15, "5000.0 TB"),
    ],
)
def test_sizes(count: int, said: str) -> None:
    """Sizes have one decimal and a unit of 1000 steps."""
    assert size(count) == said


def test_figures() -> None:
    """Counts have separators, times are UTC to the minute, and words agree with their number."""
    assert number(1234567) == "1,234,567"
    assert when(datetime(2026, 11, 21, 8, 0, 59, tzinfo=timezone(timedelta(hours=1)))) == "2026-11-21 07:00"
    assert (plural(1, "row"), plural(1200, "row"), plural(2, "entry", "entries")) == (
        "1 row",
        "1,200 rows",
        "2 entries",
    )


def test_cells_stay_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Line breaks and terminal controls in data are shown as escapes: data never steers a terminal."""
    draw(["a"], [["x\ny\x1b[31mz"]])
    assert capsys.readouterr().out.splitlines() == ["a", r"x\ny\x1b[31mz"]


def test_cells() -> None:
    """Cells are short: nulls are named, bytes counted, floats rounded, long values cut."""
    assert [cell(v) for v in (None, True, 0.1 + 0.2, b"abc", [1, None])] == [
        "null",
        "true",
        "0.3",
        "616263 (3 bytes)",
        "[1, null]",
    ]
    assert cell("x" * 500) == "x" * 199 + "…"


def test_tables_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers stand to the right, text to the left, wide letters count double, and no line ends in blanks."""
    schema = pa.schema([("n", pa.int64()), ("word", pa.string())])
    draw_rows(schema, [(5, "日本"), (1234, "[bold]x[/bold]")])
    assert capsys.readouterr().out.splitlines() == [
        "    n  word",
        "int64  string",
        "    5  日本",
        " 1234  [bold]x[/bold]",
    ]


def test_tables_are_cut_to_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """On a terminal lines are cut to its width, and columns that do not fit are counted."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    draw([f"column{i}" for i in range(9)], [["x" * 30] * 9])
    said = capsys.readouterr()
    assert max(map(len, said.out.splitlines())) <= 40
    assert "…" in said.out
    assert "7 more columns do not fit" in said.err


def test_data_is_cut_when_piped_unless_all_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal data has lines of 120 characters: small columns stay whole; `wide` shows everything."""
    schema = pa.schema([("name", pa.string()), *((f"c{i}", pa.string()) for i in range(20))])
    row = ["label-of-15-char", *["x" * 60] * 20]
    draw_rows(schema, [row])
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert 100 < max(map(len, lines)) <= 120
    assert lines[2].startswith("label-of-15-char  xxxxxxxxxxx")
    assert lines[2].endswith("…")
    assert "--wide" in said.err
    draw_rows(schema, [row], wide=True)
    said = capsys.readouterr()
    assert said.out.splitlines()[2] == "  ".join(row)
    assert said.err == ""


@given(st.lists(st.integers(0, 60), min_size=1, max_size=12), st.integers(20, 150))
def test_tables_keep_to_their_width(widths: list[int], limit: int) -> None:
    """Whatever the widths, a line is never longer than the limit, and nothing is cut that need not be."""
    fitted = fit(widths, limit)
    lost = len(fitted) < len(widths)
    assert 1 <= len(fitted) <= len(widths)
    assert sum(fitted) + 2 * (len(fitted) - 1) + 3 * lost <= limit
    assert all(now <= width for now, width in zip(fitted, widths, strict=False))
    if sum(widths) + 2 * (len(widths) - 1) <= limit:
        assert fitted == widths
