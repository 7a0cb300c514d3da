"""Parquet: row groups streamed as typed chunks; only casts that keep every value, the others become rejects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.ingest.csv_types import cast_rows
from jobs.ingest.findings import Finding, Severity
from jobs.ingest.table_schema import declared_types, storable, target_schema
from jobs.ingest.table_values import CHUNK_ROWS, Chunk, Misfit, TableOptions, cut, refuse_repeated
from lakehouse.errors import InvalidInputError


class ParquetOrigin:
    """Typed chunks of a Parquet file.

    Raises:
        InvalidInputError: 0 bytes (empty-file), not readable as Parquet (parquet-corrupt), a column that Delta can't
            hold (unsupported-type), a type that can't become the declared one (schema-type-change), and what
            `target_schema` and `declared_types` refuse.
    """

    def __init__(
        self, path: Path, options: TableOptions, schema: pa.Schema | None, *, evolve: bool, partial: bool = False
    ) -> None:
        self._path = path
        self.findings: list[Finding] = []
        if path.stat().st_size == 0:
            raise InvalidInputError("empty-file", f"{path} has 0 bytes.")
        with _readable(path), pq.ParquetFile(path) as file:
            self._source = file.schema_arrow
            if file.metadata.num_rows == 0:
                detail = f"0 rows, {len(self._source)} columns"
                self.findings.append(Finding("no_rows", Severity.WARNING, detail))
        refuse_repeated(self._source.names, path)
        declared = declared_types(options.types, self._source.names, path)
        natural = {column.name: storable(column.type, column.name) for column in self._source}
        self.schema = target_schema({**natural, **declared}, schema, evolve=evolve, partial=partial, path=path)
        for name, plain in natural.items():
            target = self.schema.field(name).type
            fits = pa.types.is_null(self._source.field(name).type) or _castable(plain, target)
            if not fits or declared.get(name, target) != target:
                raise InvalidInputError(
                    "schema-type-change",
                    f"{path} does not fit the dataset: column {name!r} must be {target}, but is {plain} in the file. "
                    "Convert it, or load it into another column or dataset.",
                    column=name,
                    expected=str(target),
                    found=str(plain),
                )
        said = [f"{f.name!r} {f.type} as {target}" for f in self._source if (target := self._cast_to(f)) is not None]
        if said:
            detail = f"read as other types, each value only if that loses nothing: {', '.join(said)}"
            self.findings.append(Finding("type_cast", Severity.WARNING, detail))

    def _cast_to(self, field: pa.Field) -> pa.DataType | None:
        """Return the type that a column is cast to; None when its values are stored as they are."""
        target = self.schema.field(field.name).type
        same = pa.types.is_null(field.type) or (storable(field.type, field.name) == target and not _loses(field.type))
        return None if same or field.type == target else target

    def chunks(self, schema: pa.Schema) -> Iterator[Chunk]:
        """Yield all rows, cast to `schema`; their lines are row numbers from 1."""
        wanted = pa.schema([f.with_nullable(True) for f in schema])
        held = [name for name in schema.names if name in self._source.names]
        # A name with a dot would be taken for a path into a struct.
        columns = None if any("." in name for name in held) else held
        row = 1
        with _readable(self._path), pq.ParquetFile(self._path, pre_buffer=False) as file:
            for source in file.iter_batches(CHUNK_ROWS, columns=columns):
                arrays, misfits = [], dict[int, list[Misfit]]()
                for column in wanted:
                    if column.name not in held:
                        arrays.append(pa.nulls(source.num_rows, column.type))
                        continue
                    given = source.column(column.name)
                    array, failed = cast_rows(_plain(given), column.type)
                    arrays.append(array)
                    reason = f"the value can't be held exactly as {column.type}"
                    for bad in failed:
                        value = cut(str(given[bad].as_py()))
                        misfits.setdefault(bad, []).append(Misfit(column.name, "overflow", reason, value))
                yield Chunk(
                    lines=pa.array(range(row, row + source.num_rows), pa.int64()),
                    batch=pa.RecordBatch.from_arrays(arrays, schema=wanted),
                    misfits=misfits,
                    raw=partial(_raw, source),
                )
                row += source.num_rows


def _plain(array: pa.Array) -> pa.Array:
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _loses(source: pa.DataType) -> bool:
    """Whether Delta has no type for all values of a type, only one that holds some exactly."""
    t = pa.types
    return bool(t.is_uint64(source) or (t.is_timestamp(source) and source.unit == "ns"))


def _raw(source: pa.RecordBatch, row: int) -> str:
    return cut(json.dumps(source.slice(row, 1).to_pylist()[0], default=str, ensure_ascii=False))


def _castable(plain: pa.DataType, target: pa.DataType) -> bool:
    """Whether values of `plain` may become `target`, each if it fits its range and precision."""
    t = pa.types
    ways: tuple[tuple[bool, bool], ...] = (
        (t.is_integer(target), t.is_integer(plain) or t.is_floating(plain)),
        (t.is_float32(target), t.is_integer(plain)),
        (t.is_float64(target), t.is_integer(plain) or t.is_floating(plain)),
        (t.is_decimal(target), t.is_integer(plain) or t.is_decimal(plain)),
        (t.is_timestamp(target), t.is_date(plain) and not getattr(target, "tz", None)),
    )
    return plain == target or any(to and of for to, of in ways) or _castable_inside(plain, target)


def _castable_inside(plain: pa.DataType, target: pa.DataType) -> bool:
    """Whether nested values may become others of the same shape; a struct may lack fields that may be null."""
    t = pa.types
    if t.is_list(plain) and t.is_list(target):
        return _castable(plain.value_type, target.value_type)
    if t.is_map(plain) and t.is_map(target):
        return _castable(plain.key_type, target.key_type) and _castable(plain.item_type, target.item_type)
    if t.is_struct(plain) and t.is_struct(target):
        held, wanted = {f.name: f.type for f in plain}, {f.name: f for f in target}
        return held.keys() <= wanted.keys() and all(
            _castable(held[name], f.type) if name in held else f.nullable for name, f in wanted.items()
        )
    return False


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        first = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise InvalidInputError("parquet-corrupt", f"{path} can't be read as Parquet: {first}") from error
