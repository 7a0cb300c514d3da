"""CSV and TSV: from bytes to staged text cells, without dropping, replacing or guessing anything.

The structure is read by Python's csv module in strict mode, fed line by line, so that every record has its exact
physical line and byte range, also after line breaks inside quotes. (DuckDB 2.0's rejects number records: after a quoted
line break that is another line.) Bytes are decoded strictly; NUL bytes arrive as they are.
Source: RFC 4180.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from jobs.ingest.csv_types import Profile, convert
from jobs.ingest.findings import Finding, Severity
from jobs.ingest.table_stage import Places, RawText, Stage
from jobs.ingest.table_values import RowReject, TableOptions, refuse_repeated
from jobs.ingest.text_table import StagedText, TextColumn
from lakehouse.errors import InvalidInputError

MAX_CELL = 16 << 20
"""Characters in one cell: a quote that is never closed is noticed at the latest after so many."""

_PARSE_ROWS = 8192
_PARSE_BYTES = 8 << 20
_DELIMITERS = {",": "','", ";": "';'", "\t": "a tab", "|": "'|'"}
_SYNTAX = {
    "end of data": "a quote is opened and never closed",
    "new-line character": "a carriage return stands outside quotes (lines must end with LF or CRLF)",
    "field larger": f"a cell has more than {MAX_CELL} characters: a quote may be opened and never closed",
}
_BOMS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


class _Lines:
    """Decoded lines of a UTF-8 file, and how far they were read."""

    def __init__(self, path: Path, skip: int) -> None:
        self.path = path
        self.line = 0
        self.offset = skip

    def __iter__(self) -> Iterator[str]:
        with self.path.open("rb") as file:
            file.seek(self.offset)
            for raw in file:
                text = raw.decode()
                self.line += 1
                self.offset += len(raw)
                yield text


@dataclass(slots=True)
class _Blanks:
    """Blank lines: how many, and the first few of them."""

    count: int = 0
    first: list[int] = field(default_factory=list)

    def add(self, line: int) -> None:
        self.count += 1
        if len(self.first) < 5:
            self.first.append(line)


def stage_csv(path: Path, options: TableOptions, schema: pa.Schema | None, stage: Stage) -> StagedText:
    """Parse a CSV or TSV file into `stage`.

    Rows with another number of cells than the header become rejects (column_count); blank lines are skipped.

    Raises:
        InvalidInputError: the file as a whole can't be trusted: empty-file, encoding, dialect, header-missing,
            duplicate-column, csv-syntax.
    """
    text_path, skip = utf8_text(path, options.encoding, stage.folder)
    lines = _Lines(text_path, skip)
    delimiter = options.delimiter or ("\t" if path.suffix.lower() in {".tsv", ".tab"} else ",")
    csv.field_size_limit(max(MAX_CELL, csv.field_size_limit()))
    try:
        return _stage(path, options, schema, stage, lines, delimiter)
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            "encoding",
            f"{path} is not UTF-8: line {lines.line + 1} has the byte 0x{error.object[error.start]:02x}. "
            "Declare its encoding, for example --encoding latin-1 or cp1252.",
            line=lines.line + 1,
        ) from error


def _stage(
    path: Path, options: TableOptions, schema: pa.Schema | None, stage: Stage, lines: _Lines, delimiter: str
) -> StagedText:
    blanks = _Blanks()
    records = _records(path, lines, delimiter, blanks)
    first = next(records, None)
    if first is None:
        raise InvalidInputError("empty-file", f"{path} has no rows, not even a header.")
    cells, *_ = first
    with RawText(lines.path) as raw:
        _check_dialect(path, cells, raw.read(*first[2:]), options)
        if options.header is False:
            names = _names_without_header(path, len(cells), schema)
            records = chain([first], records)
        else:
            names = _names_of_header(path, cells, options)
        refuse_repeated(names, path)
        columns = {name: _column(options.decimal) for name in names}
        refused = _stage_records(records, columns, options, stage, raw)
    if refused and not stage.rows:
        raise InvalidInputError(
            "dialect",
            f"{path}: none of its {refused} rows has as many cells as the header ({len(names)}). "
            "Declare the delimiter that the file uses with --delimiter.",
        )
    findings = []
    if blanks.count:
        where = ", ".join(map(str, blanks.first)) + (", ..." if blanks.count > len(blanks.first) else "")
        findings.append(Finding("blank_lines", Severity.WARNING, f"{blanks.count} blank lines skipped: line {where}"))
    if not stage.rows:
        findings.append(Finding("no_rows", Severity.WARNING, f"0 rows, {len(names)} columns"))
    return StagedText(stage, columns, lines.path, findings, options.decimal, options.null_tokens)


def _column(decimal: str) -> TextColumn:
    profile = Profile(decimal)
    return TextColumn(profile, profile.infer)


_Record = tuple[list[str], int, int, int]  # cells, first physical line, byte offset, bytes


def _records(path: Path, lines: _Lines, delimiter: str, blanks: _Blanks) -> Iterator[_Record]:
    """Yield the records that are not blank."""
    line, offset = 1, lines.offset
    try:
        for cells in csv.reader(lines, delimiter=delimiter, strict=True):
            if cells:
                yield cells, line, offset, lines.offset - offset
            else:
                blanks.add(line)
            line, offset = lines.line + 1, lines.offset
    except csv.Error as error:
        what = next((text for part, text in _SYNTAX.items() if part in str(error)), str(error))
        raise InvalidInputError(
            "csv-syntax",
            f"{path} is not correct CSV: in the record that starts on line {line}, {what} (noticed on line "
            f"{lines.line}). Correct the file: what follows can't be trusted.",
            line=line,
        ) from error


def _stage_records(
    records: Iterator[_Record], columns: dict[str, TextColumn], options: TableOptions, stage: Stage, raw: RawText
) -> int:
    """Stage all records; return how many were rejected for their number of cells."""
    width, refused = len(columns), 0
    flat: list[str] = []  # Cells of many rows in one list: a list for each would keep the garbage collector busy.
    places = Places([], [], [])
    for cells, line, offset, length in records:
        if len(cells) != width:
            refused += 1
            reason = f"the row has {len(cells)} cells where {width} are expected"
            stage.rejects.add(RowReject(line, None, "column_count", reason, raw.read(offset, length)))
            continue
        flat.extend(cells)
        places.lines.append(line)
        places.offsets.append(offset)
        places.lengths.append(length)
        if len(places.lines) >= _PARSE_ROWS or offset - places.offsets[0] > _PARSE_BYTES:
            _append(flat, places, columns, options, stage)
            flat, places = [], Places([], [], [])
    if flat:
        _append(flat, places, columns, options, stage)
    stage.finish()
    return refused


def _append(
    flat: list[str], places: Places, columns: dict[str, TextColumn], options: TableOptions, stage: Stage
) -> None:
    tokens = pa.array(options.null_tokens, pa.string())
    staged = {}
    for number, (name, column) in enumerate(columns.items()):
        text = pa.array(flat[number :: len(columns)], pa.string())
        staged[name] = pc.if_else(pc.is_in(text, tokens), None, text) if len(tokens) else text
        column.profile.update(staged[name])
    stage.append(staged, places)


def utf8_text(path: Path, encoding: str | None, folder: Path) -> tuple[Path, int]:
    """Return a file with the text as UTF-8 (the file itself, or a copy in `folder`), and its bytes of BOM to skip.

    Raises:
        InvalidInputError: the file has no bytes (empty-file), is UTF-16 though not declared, or the declared
            encoding is unknown or wrong (encoding).
    """
    with path.open("rb") as file:
        start = file.read(4)
    if not start:
        raise InvalidInputError("empty-file", f"{path} has 0 bytes.")
    bom, found = next(((bom, name) for bom, name in _BOMS.items() if start.startswith(bom)), (b"", "utf-8"))
    if encoding is None or encoding.lower().replace("_", "-") in {"utf-8", "utf8", "utf-8-sig"}:
        if found != "utf-8":
            raise InvalidInputError(
                "encoding", f"{path} is not UTF-8 but starts like UTF-16. Declare it with --encoding utf-16."
            )
        return path, len(bom)
    copy = folder / "utf8.txt"
    try:
        with path.open(encoding=encoding, newline="") as source, copy.open("w", encoding="utf-8", newline="") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    except LookupError as error:
        raise InvalidInputError("encoding", f"There is no text encoding {encoding!r}.") from error
    except UnicodeError as error:
        raise InvalidInputError(
            "encoding", f"{path} is not {encoding}: {error}. Declare the one that it has with --encoding."
        ) from error
    with copy.open("rb") as file:
        return copy, 3 if file.read(3) == b"\xef\xbb\xbf" else 0


def _check_dialect(path: Path, cells: list[str], first_line: str, options: TableOptions) -> None:
    """Refuse a first row that is one cell but has several with another delimiter."""
    if any("\0" in cell for cell in cells):
        raise InvalidInputError(
            "encoding", f"The first row of {path} has NUL bytes. If it is UTF-16, declare it with --encoding utf-16-le."
        )
    if options.delimiter is not None or len(cells) > 1:
        return
    for delimiter, shown in _DELIMITERS.items():
        parts = next(csv.reader([first_line], delimiter=delimiter), [])
        if len(parts) > 1:
            raise InvalidInputError(
                "dialect",
                f"{path} has one column when read as its suffix says, and {len(parts)} with {shown} as delimiter. "
                f"Declare it with --delimiter (and --decimal , if numbers have a comma).",
                delimiter=delimiter,
            )


def _names_of_header(path: Path, cells: list[str], options: TableOptions) -> list[str]:
    nameless = next((number for number, cell in enumerate(cells, 1) if not cell.strip()), None)
    if nameless is not None:
        problem = f"cell {nameless} is empty"
    elif options.header or not (value := next((cell for cell in cells if _looks_like_data(cell)), None)):
        return cells
    else:
        problem = f"{value[:60]!r} looks like data"
    raise InvalidInputError(
        "header-missing",
        f"The first row of {path} is no header: {problem}. Declare --no-header, "
        "or --header if every cell is meant as a name.",
    )


def _looks_like_data(cell: str) -> bool:
    text = pa.array([cell])
    kinds = (pa.float64(), pa.bool_(), pa.timestamp("us"), pa.timestamp("us", "UTC"))
    return any(not convert(text, kind)[1] for kind in kinds)


def _names_without_header(path: Path, width: int, schema: pa.Schema | None) -> list[str]:
    if schema is None:
        return [f"column_{number}" for number in range(1, width + 1)]
    if len(schema) != width:
        raise InvalidInputError(
            "header-missing",
            f"{path} has {width} columns without names, and the dataset has {len(schema)}: they can't be matched. "
            "Give the file a header.",
        )
    return list(schema.names)
