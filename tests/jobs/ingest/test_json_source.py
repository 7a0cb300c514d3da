"""JSON lines and JSON arrays as tables: kinds, nesting, broken lines, growing keys; random text never crashes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from jobs.ingest.tabular import RowReject, TableOptions, open_table
from lakehouse.errors import InvalidInputError, LakeError

same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
SCALARS = st.fixed_dictionaries(
    {
        "i": st.integers(-(2**63), 2**63 - 1),
        "f": st.floats(allow_nan=False, allow_infinity=False),
        "b": st.booleans(),
        "s": st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=10),
        "l": st.lists(st.integers(-100, 100), max_size=3),
        "o": st.fixed_dictionaries({"x": st.integers(0, 9), "y": st.text('abc{}[],\\"', max_size=3)}),
    }
)


def read(path: Path, text: str | bytes, *args: Any, **kwargs: Any) -> tuple[pa.Table, list[RowReject], list[str]]:
    """Write a file; return its good rows, its rejects and the codes of its findings."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with open_table(path, *args, **kwargs) as source:
        table = pa.Table.from_batches(source.batches(), source.schema)
        return table, list(source.rejects()), [finding.code for finding in source.findings]


@same_folder
@given(rows=st.lists(SCALARS, min_size=1, max_size=20), indent=st.sampled_from([None, 1]))
def test_objects_come_back_equal_from_lines_and_from_an_array(
    tmp_path: Path, rows: list[dict[str, Any]], indent: int | None
) -> None:
    """Scalars, lists and objects keep every value in both forms of file."""
    lines, *_ = read(tmp_path / "t.jsonl", "\n".join(map(json.dumps, rows)))
    array, *_ = read(tmp_path / "t.json", json.dumps(rows, indent=indent))
    assert lines.to_pylist() == rows
    assert array.to_pylist() == rows
    assert lines.schema.field("i").type == pa.int64()


@same_folder
@given(text=st.text('{}[]":,a1.-e \n\\u\ud83d'.encode("utf-8", "ignore").decode(), max_size=60))
@example("[" * 5000)
@example('{"a": ' * 3000)
@example('{"a": ' + "[" * 200 + "]" * 200 + "}")
@example('{"a": 1' + "0" * 5000 + "}")
@example('{"a": {"b": 1' + "0" * 400 + "}}")
@example('{"a": "\\ud800"}')
@example('{"a": {}}')
@example('{"": 1}')
def test_random_text_is_read_or_refused(tmp_path: Path, text: str) -> None:
    """No input raises anything but our own errors, in either form."""
    for name in ("t.jsonl", "t.json"):
        try:
            read(tmp_path / name, text)
        except LakeError:
            continue


def test_broken_lines_are_rejects_with_their_line(tmp_path: Path) -> None:
    """A line that is no object is set aside with its text; the lines around it land."""
    text = '{"a": 1}\n{"a": \n\n[1]\n{"a": 1, "a": 2}\n{"a": "\\ud800"}\n{"a": 3}'
    table, rejects, _ = read(tmp_path / "t.ndjson", text)
    assert table.column("a").to_pylist() == [1, 3]
    assert [(reject.line, reject.code) for reject in rejects] == [(n, "json_syntax") for n in (2, 4, 5, 6)]
    assert rejects[1].raw == "[1]"


def test_keys_that_appear_late_become_columns(tmp_path: Path) -> None:
    """A key first seen far down is null above it, also across batches."""
    rows = [{"a": n} for n in range(20_000)] + [{"a": 1, "b": {"x": 1}}, {"a": 2, "b": {"x": 2.5, "y": "z"}}]
    table, rejects, _ = read(tmp_path / "t.jsonl", "\n".join(map(json.dumps, rows)))
    assert rejects == []
    assert table.column("b").null_count == 20_000
    assert table.slice(20_000).column("b").to_pylist() == [{"x": 1.0, "y": None}, {"x": 2.5, "y": "z"}]


def test_values_of_several_kinds(tmp_path: Path) -> None:
    """A clear majority rules and the rest are rejects; without one the column is text, with a warning."""
    mostly = [{"a": n} for n in range(20)] + [{"a": "n/a"}]
    table, rejects, findings = read(tmp_path / "t.jsonl", "\n".join(map(json.dumps, mostly)))
    assert table.schema.types == [pa.int64()]
    assert [(reject.line, reject.code) for reject in rejects] == [(21, "type_mismatch")]
    assert findings == []
    mixed = [{"a": 1}, {"a": "x"}, {"a": [1, 2]}, {"a": None}]
    table, rejects, findings = read(tmp_path / "t.jsonl", "\n".join(map(json.dumps, mixed)))
    assert table.column("a").to_pylist() == ["1", "x", "[1, 2]", None]
    assert (rejects, findings) == ([], ["mixed_types"])


def test_strings_stay_strings(tmp_path: Path) -> None:
    """JSON says what is a string: digits, dates and empty strings in quotes are neither typed nor null."""
    table, *_ = read(tmp_path / "t.jsonl", '{"a": "1", "b": "2024-01-01", "c": ""}')
    assert table.to_pylist() == [{"a": "1", "b": "2024-01-01", "c": ""}]


def test_numbers_beyond_64_bits_are_overflow(tmp_path: Path) -> None:
    """No digit is lost on the way through the parser."""
    text = "\n".join(['{"a": 1, "b": 0.5}'] * 20) + '\n{"a": 9223372036854775808}\n{"b": 1e400}'
    table, rejects, _ = read(tmp_path / "t.jsonl", text)
    assert table.num_rows == 20
    assert [(r.line, r.column, r.code) for r in rejects] == [(21, "a", "overflow"), (22, "b", "overflow")]


def test_nested_values_must_fit_the_dataset(tmp_path: Path) -> None:
    """A key that a struct of the dataset does not have is a reject, not silently dropped."""
    schema = pa.schema([("o", pa.struct([("x", pa.int64())]))])
    text = '{"o": {"x": 1}}\n{"o": {"x": 1, "y": 2}}\n{"o": {"x": "1"}}\n{"o": null}\n{"o": 5}'
    table, rejects, _ = read(tmp_path / "t.jsonl", text, schema=schema)
    assert table.column("o").to_pylist() == [{"x": 1}, None]
    assert [(reject.line, reject.code) for reject in rejects] == [(n, "type_mismatch") for n in (2, 3, 5)]


def test_array_is_read_across_windows_with_exact_places(tmp_path: Path) -> None:
    """Elements larger than the read window, blanks and non-ASCII text keep lines and raw text exact."""
    rows = ['{"a": "%s"}' % ("é" * 700_000), "5", '  {"a": "ü"}', '"x"']
    table, rejects, _ = read(tmp_path / "t.json", "\ufeff[\n" + ",\n".join(rows) + "\n]\n")
    assert [len(text) for text in table.column("a").to_pylist()] == [700_000, 1]
    assert [(reject.line, reject.raw) for reject in rejects] == [(3, "5"), (5, '"x"')]


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("t.json", b"", "empty-file"),
        ("t.json", b"[]", "empty-file"),
        ("t.jsonl", b"\n", "empty-file"),
        ("t.json", b'{"a": 1}\n{"a": 2}', "json-syntax"),
        ("t.json", b'[{"a": 1}', "json-syntax"),
        ("t.json", b'[{"a": 1},]', "json-syntax"),
        ("t.json", b'[{"a": 1} {"a": 2}]', "json-syntax"),
        ("t.json", b'[{"a": 1}] x', "json-syntax"),
        ("t.json", b'[{"a": "\xff"}]', "encoding"),
        ("t.jsonl", b'{"a": "\xff"}', "encoding"),
        ("t.jsonl", '{"a": 1}'.encode("utf-16"), "encoding"),
        ("t.jsonl", b'{"a": 1}\n{"A": 1}', "duplicate-column"),
        ("t.jsonl", json.dumps({str(n): n for n in range(3000)}).encode(), "too-many-columns"),
    ],
)
def test_untrustworthy_files_are_refused_whole(tmp_path: Path, name: str, data: bytes, kind: str) -> None:
    """What can't be read on with certainty is refused by kind."""
    with pytest.raises(InvalidInputError) as error:
        read(tmp_path / name, data)
    assert error.value.kind == kind


def test_declared_encoding_is_honoured(tmp_path: Path) -> None:
    """UTF-16 JSON is read when it is declared."""
    table, *_ = read(tmp_path / "t.jsonl", '{"a": "é"}'.encode("utf-16"), TableOptions(encoding="utf-16"))
    assert table.to_pylist() == [{"a": "é"}]
