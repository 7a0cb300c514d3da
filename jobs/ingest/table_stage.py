"""Local working storage for one tabular file: its cells as text in Arrow files, and its rejects.

A text file is parsed once, into a temporary folder; types are decided over all of it, then the staged text is read
again and converted. That costs disk (about the size of the file, LZ4-compressed) and saves memory and a second parse,
and a source that changes meanwhile can't make the two passes disagree.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from itertools import chain
from pathlib import Path

import pyarrow as pa

from jobs.ingest.table_values import CHUNK_ROWS, RAW_BYTES, RowReject, cut

_CHUNK_BYTES = 32 << 20
_PLACES = ("line", "offset", "length")


@dataclass(frozen=True, slots=True)
class Places:
    """Where rows start: physical line (from 1), and byte offset and length in the UTF-8 text."""

    lines: list[int]
    offsets: list[int]
    lengths: list[int]


@dataclass(frozen=True, slots=True)
class Staged:
    """Consecutive rows as text."""

    lines: pa.Int64Array
    offsets: pa.Int64Array
    lengths: pa.Int64Array
    columns: dict[str, pa.StringArray]


class RejectLog:
    """Rejects on disk, so that a file of nothing but bad rows does not fill the memory. In order of discovery."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pending: list[str] = []
        self._path.touch()

    def add(self, reject: RowReject) -> None:
        """Append one reject."""
        self._pending.append(json.dumps(astuple(reject)) + "\n")
        if len(self._pending) >= 1000:
            self._flush()

    def mark(self) -> int:
        """Return a position for `rewind`."""
        self._flush()
        return self._path.stat().st_size

    def rewind(self, mark: int) -> None:
        """Forget what was added after `mark`."""
        self._pending.clear()
        with self._path.open("r+b") as file:
            file.truncate(mark)

    def __iter__(self) -> Iterator[RowReject]:
        self._flush()
        with self._path.open(encoding="ascii") as file:
            for line in file:
                yield RowReject(*json.loads(line))

    def _flush(self) -> None:
        with self._path.open("a", encoding="ascii") as file:
            file.writelines(self._pending)
        self._pending.clear()


class Stage:
    """A temporary folder with staged text and rejects; it goes when the stage is closed or forgotten."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lakehouse-ingest-"))
        self.close = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self.rejects = RejectLog(self.folder / "rejects.jsonl")
        self.rows = 0
        """Rows staged so far."""
        self._segments: list[tuple[Path, tuple[str, ...]]] = []
        self._writer: pa.ipc.RecordBatchStreamWriter | None = None

    def append(self, columns: Mapping[str, pa.StringArray], places: Places) -> None:
        """Stage rows; a batch with other columns than the one before is welcome (JSON objects grow keys)."""
        names = tuple(columns)
        arrays = [pa.array(numbers, pa.int64()) for numbers in (places.lines, places.offsets, places.lengths)]
        schema = pa.schema([(name, pa.int64()) for name in _PLACES] + [(name, pa.string()) for name in names])
        if self._writer is None or self._segments[-1][1] != names:
            self.finish()
            path = self.folder / f"{len(self._segments)}.arrows"
            self._segments.append((path, names))
            self._writer = pa.ipc.new_stream(str(path), schema, options=pa.ipc.IpcWriteOptions(compression="lz4"))
        self._writer.write_batch(pa.RecordBatch.from_arrays([*arrays, *columns.values()], schema=schema))
        self.rows += len(places.lines)

    def finish(self) -> None:
        """End writing; must be called before reading."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def batches(self, names: Sequence[str]) -> Iterator[Staged]:
        """Yield the named columns of all rows in order; a column that a row does not have is null."""
        for path, present in self._segments:
            held = [name for name in names if name in present]
            fields = [*range(3), *(3 + present.index(name) for name in held)]
            options = pa.ipc.IpcReadOptions(included_fields=sorted(fields))
            held.sort(key=present.index)
            with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file, options=options) as reader:
                for batch in _regroup(reader):
                    places, cells = batch.columns[:3], dict(zip(held, batch.columns[3:], strict=True))
                    nothing = pa.nulls(batch.num_rows, pa.string())
                    lines, offsets, lengths = places
                    yield Staged(lines, offsets, lengths, {name: cells.get(name, nothing) for name in names})


def _regroup(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """Join small batches up to about `CHUNK_ROWS` rows."""
    pending: list[pa.RecordBatch] = []
    for batch in chain(reader, [None]):
        full = batch is None or sum(b.num_rows for b in pending) + batch.num_rows > CHUNK_ROWS
        if pending and (full or sum(b.nbytes for b in pending) > _CHUNK_BYTES):
            yield pa.concat_batches(pending)
            pending = []
        if batch is not None:
            pending.append(batch)


class RawText:
    """Random access to the source text of rows, for their rejects."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")

    def read(self, offset: int, length: int) -> str:
        """Return the text at `offset`, at most 1 kB, without its line end."""
        self._file.seek(offset)
        data = self._file.read(min(length, RAW_BYTES))
        if length > RAW_BYTES:
            return data.decode("utf-8", "ignore")
        return cut(data.decode("utf-8", "replace").rstrip("\r\n"))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> RawText:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
