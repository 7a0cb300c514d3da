"""Export: the rows of one state as plain Parquet or CSV files, streamed, in the state's fixed order."""

from __future__ import annotations

import base64
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args
from uuid import uuid4

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from jobs.progress import SILENT, Progress
from lakehouse.errors import InvalidInputError, StateError, translated
from lakehouse.lake import Lake

ExportFormat = Literal["parquet", "csv"]

PART_ROWS = 1_000_000
"""Rows of one file; the last has fewer."""


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written."""

    reference: str
    """What was asked for, in its canonical form."""
    table_version: int
    format: str
    folder: str
    files: tuple[str, ...]
    """Names in the folder, in the order of the rows."""
    rows: int
    bytes: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON-compatible values."""
        return asdict(self) | {"files": list(self.files)}


def export(
    lake: Lake,
    reference: str,
    out: str | Path,
    *,
    format: str = "parquet",
    columns: Sequence[str] | None = None,
    where: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ExportReport:
    """Write the rows of one state into a local folder, as `part-00000.parquet` (or `.csv`) and on.

    The folder appears whole or not at all. The same state gives the same files. In CSV, nested values are JSON text,
    bytes are base64, null is an empty cell and empty text is `""`.

    Args:
        reference: The state, such as `vision.photos@v3`.
        out: The folder.
        format: parquet or csv.
        columns: Names to write; None means all.
        where: A SQL condition over the rows.
        overwrite: Replace an earlier export in that folder.
    Raises:
        NotFoundError: the reference does not resolve.
        InvalidInputError: an unknown format (format-unknown), an unknown column (column-not-found), or a condition
            that can't be used (predicate-invalid).
        StateError: the folder is not empty, or is a file (target-exists); it holds something that is no export's, even
            with `overwrite` (target-not-export).
        StorageError: the disk failed.
    """
    began = time.monotonic()
    if format not in get_args(ExportFormat):
        raise InvalidInputError(
            "format-unknown", f"{format!r} is no format of an export. Known are: {', '.join(get_args(ExportFormat))}."
        )
    target, told = Path(out).absolute(), progress or SILENT
    check_target(target, overwrite=overwrite)
    snapshot = lake.read(reference)
    batches = snapshot.batches(columns, where)
    schema = snapshot.schema if columns is None else pa.schema([snapshot.schema.field(name) for name in columns])
    told.total(snapshot.num_rows if where is None else None)
    # Beside the target, so that the last step is a rename on one file system.
    scratch = target.with_name(f".{target.name}-{uuid4().hex[:8]}")
    try:
        with translated(f"writing to {target}"):
            scratch.mkdir(parents=True)
            files, rows = _write(scratch, schema, batches, format, told)
            size = sum((scratch / name).stat().st_size for name in files)
            if target.is_dir():
                shutil.rmtree(target)
            scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return ExportReport(
        reference=snapshot.reference,
        table_version=snapshot.table_version,
        format=format,
        folder=str(target),
        files=files,
        rows=rows,
        bytes=size,
        seconds=round(time.monotonic() - began, 3),
    )


def check_target(out: str | Path, *, overwrite: bool) -> None:
    """Refuse a folder that `export` would not write to.

    Raises:
        StateError: target-exists, target-not-export; as `export`.
    """
    target = Path(out).absolute()
    if target.is_file() or (target.is_dir() and any(target.iterdir()) and not overwrite):
        raise StateError("target-exists", f"{target} exists and is not empty. Choose another folder, or overwrite it.")
    foreign = [p.name for p in target.iterdir() if not p.name.startswith("part-")] if target.is_dir() else []
    if foreign:  # never somebody's home: only what an export wrote is replaced
        raise StateError(
            "target-not-export", f"{target} holds {foreign[0]!r}, which no export wrote. Choose another folder."
        )


def _write(
    folder: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch], format: str, progress: Progress
) -> tuple[tuple[str, ...], int]:
    """Write all batches; return the names of the files and the number of rows."""
    files: list[str] = []
    rows = 0
    plain = schema if format == "parquet" else pa.schema([pa.field(f.name, _csv_type(f.type)) for f in schema])
    for part in _parts(batches):
        name = f"part-{len(files):05d}.{format}"
        files.append(name)
        with _writer(folder / name, plain, format) as writer:
            for group in part:
                writer.write_batch(group if plain is schema else _for_csv(group, plain))
                rows += group.num_rows
                progress.advance(group.num_rows)
    return tuple(files), rows


def _parts(batches: Iterator[pa.RecordBatch]) -> Iterator[Iterator[pa.RecordBatch]]:
    """Cut a stream into files of `PART_ROWS` rows, at least one; each must be used up before the next is asked for."""
    left: pa.RecordBatch | None = next(batches, None)

    def part() -> Iterator[pa.RecordBatch]:
        nonlocal left
        room = PART_ROWS
        while left is not None and room:
            taken, rest = left.slice(0, room), left.slice(room)
            room -= taken.num_rows
            left = rest if rest.num_rows else next(batches, None)
            yield taken

    yield part()
    while left is not None:
        yield part()


def _writer(path: Path, schema: pa.Schema, format: str) -> Any:
    return pc.CSVWriter(path, schema) if format == "csv" else pq.ParquetWriter(path, schema, compression="zstd")


def _csv_type(kind: pa.DataType) -> pa.DataType:
    as_text = pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_decimal(kind)
    return pa.string() if as_text else kind


def _for_csv(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [_csv_array(column, field.type) for column, field in zip(batch.columns, schema, strict=True)], schema=schema
    )


def _csv_array(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if column.type == kind:
        return column
    if pa.types.is_decimal(column.type):
        return column.cast(kind)
    return pa.array([None if value is None else _text(value) for value in column.to_pylist()], kind)


def _text(value: Any) -> str:
    return _plain(value) if isinstance(value, bytes) else json.dumps(value, default=_plain, ensure_ascii=False)


def _plain(value: Any) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value.isoformat()) if hasattr(value, "isoformat") else str(value)


__all__ = ["ExportReport", "export"]
