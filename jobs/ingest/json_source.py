"""JSON: one object a line (.jsonl, .ndjson), or one array of objects (.json), to staged text.

Every value is staged as text: strings as they are, numbers with the digits of the file (so that none is lost), objects
and lists as JSON. The type of a column follows the kinds of its values over the whole file: a column of strings stays
text and is not searched for dates; values of several kinds without a clear majority become text.
Source: RFC 8259; a key that is repeated in an object is refused, since readers disagree about which one counts.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from jobs.ingest.csv_source import utf8_text
from jobs.ingest.csv_types import MOSTLY, Profile
from jobs.ingest.findings import Finding, Severity
from jobs.ingest.table_schema import storable
from jobs.ingest.table_stage import Places, RawText, Stage
from jobs.ingest.table_values import RowReject, TableOptions, refuse_repeated
from jobs.ingest.text_table import StagedText, TextColumn
from lakehouse.errors import InvalidInputError

MAX_OBJECT = 16 << 20
"""Characters of one element in a JSON array."""

MAX_DEPTH = 64
MAX_KEYS = 2000
"""Different keys of the objects of one file: more are a sign of keys that are data."""

_PARSE_ROWS = 8192
_PARSE_BYTES = 8 << 20
_READ = 1 << 20


class _Number(str):
    """A decimal number as it was written."""

    __slots__ = ()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key is repeated in one object")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_Number, parse_constant=_Number)


@dataclass(slots=True)
class _Column:
    """What one key's values are, over the file."""

    profile: Profile = field(default_factory=Profile)
    kinds: Counter[str] = field(default_factory=Counter)
    nested: pa.DataType | None = None
    mergeable: bool = True
    findings: list[Finding] = field(default_factory=list)

    def add(self, values: list[Any], texts: pa.StringArray) -> None:
        """Count the values of one batch (null where an object has no such key)."""
        for kind, number in Counter(map(type, values)).items():
            self.kinds[_KINDS[kind]] += number
        self.profile.update(texts)
        nested = [_plain(value) for value in values if isinstance(value, (dict, list))]
        if nested and self.mergeable:
            self._merge(nested)

    def _merge(self, values: list[Any]) -> None:
        try:
            types = [pa.infer_type(values), *([] if self.nested is None else [self.nested])]
            merged = pa.unify_schemas([pa.schema([("x", t)]) for t in types], promote_options="permissive")
            self.nested = merged.field("x").type
        except (pa.ArrowException, OverflowError):
            self.mergeable = False

    def infer(self, name: str) -> pa.DataType:
        """Return the type of the column; when it holds several kinds and becomes text, say so in `findings`."""
        kinds = {kind: number for kind, number in self.kinds.items() if kind != "null"}
        total = sum(kinds.values())
        if kinds.get("nested", 0) >= MOSTLY * total > 0 and self.mergeable and self.nested is not None:
            try:
                return storable(self.nested, name)
            except InvalidInputError:  # An object without keys, which Parquet can't hold.
                return pa.string()
        if kinds.keys() == {"string"}:
            return pa.string()
        inferred = self.profile.infer() if kinds.get("string", 0) <= (1 - MOSTLY) * total else pa.string()
        if pa.types.is_string(inferred) and len(kinds) > 1:
            found = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
            detail = f"key {name!r} holds values of several kinds ({found}), so it became text"
            self.findings.append(Finding("mixed_types", Severity.WARNING, detail))
        return inferred


_KINDS = {
    type(None): "null",
    bool: "boolean",
    int: "number",
    _Number: "number",
    str: "string",
    dict: "nested",
    list: "nested",
}


def stage_json(path: Path, options: TableOptions, stage: Stage) -> StagedText:
    """Parse JSON objects into `stage`.

    In the line form a line that is no object becomes a reject (json_syntax). An array can't be read on after an error.

    Raises:
        InvalidInputError: nothing in the file (empty-file), not UTF-8 and not declared (encoding), a broken array
            (json-syntax), keys that differ only in case (duplicate-column), more than 2,000 keys (too-many-columns).
    """
    text_path, skip = utf8_text(path, options.encoding, stage.folder)
    columns: dict[str, _Column] = {}
    parse = _array_objects if path.suffix.lower() == ".json" else _line_objects
    rows: list[dict[str, Any]] = []
    places = Places([], [], [])
    with RawText(text_path) as raw:
        for value, line, offset, length in parse(path, text_path, skip):
            problem = value if isinstance(value, _Problem) else _problem(value)
            if problem is not None:
                stage.rejects.add(RowReject(line, None, "json_syntax", problem, raw.read(offset, length)))
                continue
            rows.append(value)
            places.lines.append(line)
            places.offsets.append(offset)
            places.lengths.append(length)
            if len(rows) >= _PARSE_ROWS or offset - places.offsets[0] > _PARSE_BYTES:
                _append(rows, places, columns, stage)
                rows, places = [], Places([], [], [])
    if rows:
        _append(rows, places, columns, stage)
    stage.finish()
    if not columns:
        raise InvalidInputError("empty-file", f"{path} holds no JSON object with a key, so it has no columns.")
    refuse_repeated(list(columns), path)
    return StagedText(stage, {name: _text_column(name, column) for name, column in columns.items()}, text_path, [])


def _text_column(name: str, column: _Column) -> TextColumn:
    return TextColumn(column.profile, lambda: column.infer(name), column.findings)


def _append(rows: list[dict[str, Any]], places: Places, columns: dict[str, _Column], stage: Stage) -> None:
    for row in rows:
        if not row.keys() <= columns.keys():
            for name in row:
                columns.setdefault(name, _Column())
    if len(columns) > MAX_KEYS:
        raise InvalidInputError(
            "too-many-columns",
            f"The objects up to line {places.lines[-1]} have more than {MAX_KEYS} different keys. "
            "Put keys that are data into a list of key and value.",
        )
    staged = {}
    for name, column in columns.items():
        values = [row.get(name) for row in rows]
        staged[name] = pa.array([_text(value) for value in values], pa.string())
        column.add(values, staged[name])
    stage.append(staged, places)


def _text(value: Any) -> str | None:
    if value is None or type(value) is str:
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return json.dumps(_plain(value), ensure_ascii=False)


def _plain(value: Any) -> Any:
    """Return a nested value with its numbers as floats."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return float(value) if isinstance(value, _Number) else value


class _Problem(str):
    """Why a line is no JSON value."""

    __slots__ = ()


_Parsed = tuple[Any, int, int, int]  # value or _Problem, first physical line, byte offset, bytes


def _problem(value: Any) -> str | None:
    if not isinstance(value, dict):
        return f"an object is expected, found {type(value).__name__}"
    return None


def _line_objects(path: Path, text_path: Path, skip: int) -> Iterator[_Parsed]:
    offset = skip
    with text_path.open("rb") as file:
        file.seek(skip)
        for line, data in enumerate(file, 1):
            try:
                text = data.decode()
            except UnicodeDecodeError as error:
                raise _not_utf8(path, line) from error
            if text.strip():
                yield _parsed(text), line, offset, len(data)
            offset += len(data)


def _parsed(text: str) -> Any:
    try:
        return _checked(_DECODER.decode(text), text)
    except (ValueError, RecursionError) as error:
        return _Problem(f"not JSON: {error}"[:200])


def _checked(value: Any, text: str) -> Any:
    """Return the value, or the problem that no parser reports. The tests of `text` spare most values the search."""
    if text.count("{") + text.count("[") > MAX_DEPTH and _deeper(value, MAX_DEPTH):
        return _Problem(f"nested more than {MAX_DEPTH} deep")
    if "\\ud" in text or "\\uD" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return _Problem("half of a surrogate pair stands alone")
    return value


def _deeper(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels < 0 or any(_deeper(item, levels - 1) for item in inner)


def _array_objects(path: Path, text_path: Path, skip: int) -> Iterator[_Parsed]:
    """Yield the elements of one top-level array, reading about 1 MiB ahead."""
    scan = _ArrayScan(path, text_path, skip)
    try:
        yield from scan.elements()
    except UnicodeDecodeError as error:
        raise _not_utf8(path, scan.line) from error
    finally:
        scan.close()


class _ArrayScan:
    """A window of text over a file with one JSON array."""

    def __init__(self, path: Path, text_path: Path, skip: int) -> None:
        self.path, self.line, self.offset = path, 1, skip
        self._file = text_path.open(encoding="utf-8-sig" if skip else "utf-8", newline="")
        self._text, self._at, self._ended = "", 0, False

    def close(self) -> None:
        self._file.close()

    def elements(self) -> Iterator[_Parsed]:
        if self._peek() != "[":
            raise self._broken("it does not start with '['; name a file with one object a line .jsonl")
        self._skip(1)
        while self._peek() != "]":
            value, end = self._element()
            line, offset = self.line, self.offset
            self._skip(end - self._at)
            yield value, line, offset, self.offset - offset
            if (mark := self._peek()) == ",":
                self._skip(1)
                if self._peek() == "]":
                    raise self._broken("a comma stands before the closing bracket")
            elif mark != "]":
                raise self._broken(f"',' or ']' is expected after an element, found {mark or 'the end of the file'!r}")
        self._skip(1)
        if rest := self._peek():
            raise self._broken(f"{rest!r} follows the closing bracket")

    def _element(self) -> tuple[Any, int]:
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
                if end < len(self._text) or self._ended:
                    break
            except (ValueError, RecursionError) as error:
                if self._ended or len(self._text) - self._at > MAX_OBJECT:
                    raise self._broken(getattr(error, "msg", str(error))) from error
            self._more()
        return _checked(value, self._text[self._at : end]), end

    def _peek(self) -> str:
        """Skip blanks; return the next character, or nothing at the end of the file."""
        while True:
            rest = len(self._text)
            while self._at < rest and self._text[self._at] in " \t\r\n":
                self._skip(1)
            if self._at < rest or self._ended:
                return self._text[self._at : self._at + 1]
            self._more()

    def _skip(self, characters: int) -> None:
        passed = self._text[self._at : self._at + characters]
        self._at += characters
        self.line += passed.count("\n")
        self.offset += len(passed.encode())

    def _more(self) -> None:
        # The window grows with what it holds, so that a large element is parsed few times.
        more = self._file.read(max(_READ, len(self._text) - self._at))
        self._text, self._at, self._ended = self._text[self._at :] + more, 0, not more

    def _broken(self, what: str) -> InvalidInputError:
        return InvalidInputError(
            "json-syntax",
            f"{self.path} is not a JSON array of objects: near line {self.line}, {what}. Correct the file.",
            line=self.line,
        )


def _not_utf8(path: Path, line: int) -> InvalidInputError:
    return InvalidInputError("encoding", f"{path} is not UTF-8 near line {line}. Declare its encoding.", line=line)
