"""A staged text file as typed chunks: the part that CSV and JSON share.

A reader (`csv_source`, `json_source`) stages the cells as text and counts their forms; here the schema is settled over
the whole file, and the staged text is converted chunk by chunk.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs.ingest.csv_types import Profile, convert, matches, readable
from jobs.ingest.findings import Finding, Severity
from jobs.ingest.table_schema import declared_types, target_schema
from jobs.ingest.table_stage import RawText, Stage, Staged
from jobs.ingest.table_values import Chunk, Misfit, TableOptions, cut
from lakehouse.errors import InvalidInputError

# C0 controls other than tab, newline and carriage return.
_CONTROL_FORM = r"[\x00-\x08\x0B\x0C\x0E-\x1F]"
_CONTROL_BYTES = bytes(b for b in range(32) if b not in b"\t\n\r")


@dataclass(slots=True)
class TextColumn:
    """One column of a staged file: what its values look like, and the type that the reader proposes."""

    profile: Profile
    inferred: Callable[[], pa.DataType]
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class StagedText:
    """A parsed text file: its columns in order, and the UTF-8 text that row offsets point into."""

    stage: Stage
    columns: dict[str, TextColumn]
    text_path: Path
    findings: list[Finding]
    decimal: str = "."
    null_tokens: tuple[str, ...] | None = None
    """Cells that are read as null; None: the format has a null of its own."""


class TextOrigin:
    """Typed chunks of a staged text file.

    Raises:
        InvalidInputError: more than half of the values of a column do not have the form of its declared type
            (schema-type-change), a declared type that text can't be read as (unsupported-type), and what
            `target_schema` and `declared_types` refuse.
    """

    def __init__(
        self,
        staged: StagedText,
        options: TableOptions,
        schema: pa.Schema | None,
        *,
        evolve: bool,
        path: Path,
        partial: bool = False,
    ) -> None:
        self._staged = staged
        declared = declared_types(options.types, list(staged.columns), path)
        self._inferred = {name: column.inferred() for name, column in staged.columns.items()}
        self.schema = target_schema({**self._inferred, **declared}, schema, evolve=evolve, partial=partial, path=path)
        self._ruled = declared.keys() | (set() if schema is None else set(schema.names))
        self.findings = [*staged.findings]
        for name, column in staged.columns.items():
            target = self.schema.field(name).type
            if name in declared and declared[name] != target:
                raise _type_change(path, name, declared[name], target, f"it was declared as {declared[name]}")
            if name in self._ruled:
                self._refuse_other_type(name, column.profile, target, path)
            else:
                self.findings += [*column.findings, *_column_findings(name, column.profile, target)]

    def _refuse_other_type(self, name: str, profile: Profile, target: pa.DataType, path: Path) -> None:
        if not (readable(target) or pa.types.is_struct(target) or pa.types.is_list(target)):
            raise InvalidInputError(
                "unsupported-type", f"Column {name!r} is {target}, which text can't be read as.", column=name
            )
        misfits = profile.values - profile.fitting(target)
        if 2 * misfits > profile.values:
            found = f"{misfits} of {profile.values} values in the file are not of that type"
            advice = self._null_advice(profile.null_word(misfits))
            raise _type_change(path, name, self._inferred[name], target, found, advice)

    def _null_advice(self, word: str | None) -> str:
        if word is None or self._staged.null_tokens is None:
            return ""
        options = " ".join(f"--null {shlex.quote(token)}" for token in (*self._staged.null_tokens, word))
        return f" If {word!r} means null, say so with: {options}."

    def chunks(self, schema: pa.Schema) -> Iterator[Chunk]:
        """Yield all rows, converted to `schema`."""
        with RawText(self._staged.text_path) as raw:
            for staged in self._staged.stage.batches(schema.names):
                yield self._chunk(staged, schema, raw)

    def _chunk(self, staged: Staged, schema: pa.Schema, raw: RawText) -> Chunk:
        misfits: dict[int, list[Misfit]] = {}
        arrays = []
        for name in schema.names:
            cells, target = staged.columns[name], schema.field(name).type
            for row in control_rows(cells):
                reason = "the cell holds a NUL or control character"
                misfits.setdefault(row, []).append(Misfit(name, "control_character", reason, cut(cells[row].as_py())))
            array, failed = _converted(cells, target, self._staged.decimal)
            for row, code in failed.items():
                value = cells[row].as_py()
                reason = self._reason(name, target, code, value)
                misfits.setdefault(row, []).append(Misfit(name, code, reason, cut(value)))
            arrays.append(array)
        return Chunk(
            lines=staged.lines,
            batch=pa.RecordBatch.from_arrays(arrays, schema=pa.schema([f.with_nullable(True) for f in schema])),
            misfits=misfits,
            raw=lambda row: raw.read(staged.offsets[row].as_py(), staged.lengths[row].as_py()),
        )

    def _reason(self, name: str, target: pa.DataType, code: str, value: str) -> str:
        wrong = "does not fit" if code == "overflow" else "is not of type"
        text = f"{value[:60]!r} {wrong} {target}"
        if name in self._ruled:
            return f"{text}, the declared type of the column"
        share = self._staged.columns[name].profile.share(target)
        return (
            f"{text}; the column was read as {target} because {share} look like it. "
            "Declare the column as string to keep such values, or the value as a null token"
        )


def control_rows(cells: pa.StringArray) -> list[int]:
    """Return the rows whose text holds a NUL or another C0 control than tab, newline and carriage return."""
    data = cells.buffers()[2]
    if data is None or len(data.to_pybytes().translate(None, _CONTROL_BYTES)) == len(data):
        return []
    return pc.indices_nonzero(pc.fill_null(matches(cells, _CONTROL_FORM), False)).to_pylist()  # type: ignore[no-any-return]


def _converted(cells: pa.StringArray, target: pa.DataType, decimal: str) -> tuple[pa.Array, dict[int, str]]:
    return _from_json(cells, target) if pa.types.is_nested(target) else convert(cells, target, decimal)


def _from_json(cells: pa.StringArray, target: pa.DataType) -> tuple[pa.Array, dict[int, str]]:
    """Read cells of JSON text as structs and lists; a value that does not fit, or a key too many, is a mismatch."""
    values: list[Any] = []
    failed: dict[int, str] = {}
    for row, text in enumerate(cells.to_pylist()):
        try:
            value = None if text is None else json.loads(text)
        except (ValueError, RecursionError):
            value, failed[row] = None, "type_mismatch"
        if not _covers(target, value):
            value, failed[row] = None, "type_mismatch"
        values.append(value)
    if (whole := _nested_array(values, target)) is not None:
        return whole, failed
    for row, value in enumerate(values):
        if _nested_array([value], target) is None:
            values[row], failed[row] = None, "type_mismatch"
    return pa.array(values, target), failed


def _nested_array(values: list[Any], target: pa.DataType) -> pa.Array | None:
    try:
        return pa.array(values, target)
    except (ValueError, TypeError, OverflowError, pa.ArrowException):
        return None


def _covers(target: pa.DataType, value: Any) -> bool:
    """Whether `target` has a place for every key in `value`, which has all that must not be null; Arrow does not look."""
    if isinstance(value, dict) and pa.types.is_struct(target):
        known = {f.name: f.type for f in target}
        there = all(f.nullable or value.get(f.name) is not None for f in target)
        return there and all(key in known and _covers(known[key], inner) for key, inner in value.items())
    if isinstance(value, list) and pa.types.is_list(target):
        return all(_covers(target.value_type, inner) for inner in value)
    return True


def _column_findings(name: str, profile: Profile, target: pa.DataType) -> Iterator[Finding]:
    """Yield warnings about a column that stayed text although something in it looks typed."""
    if not pa.types.is_string(target) or not profile.values:
        return
    typed = profile.finite + profile.booleans + profile.timestamps + profile.zoned
    if typed and profile.null_words:
        words = ", ".join(sorted(map(repr, profile.null_words)))
        yield Finding(
            "null_tokens",
            Severity.WARNING,
            f"column {name!r} mixes typed values and {words}, so it stays text: nothing of it became null. "
            "Declare the null tokens of the file to type it",
        )
    if profile.wide_integers and profile.finite == profile.values:
        detail = f"column {name!r} stays text: {profile.wide_integers} of its integers have more than 64 bits"
        yield Finding("wide_integers", Severity.WARNING, detail)
    if profile.comma_numbers and profile.comma_numbers + profile.numbers == profile.values:
        detail = f"column {name!r} stays text: its numbers seem to have a decimal comma, which was not declared"
        yield Finding("decimal_comma", Severity.WARNING, detail)


def _type_change(
    path: Path, name: str, found: object, expected: object, why: str, advice: str = ""
) -> InvalidInputError:
    return InvalidInputError(
        "schema-type-change",
        f"{path} does not fit the dataset: column {name!r} must be {expected}, but {why} (they look like {found}). "
        f"Correct the file, or load it into another column or dataset.{advice}",
        column=name,
        expected=str(expected),
        found=str(found),
    )
