"""The values that the readers of tabular files exchange: options, chunks of typed rows, rejects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

from lakehouse.errors import InvalidInputError

CHUNK_ROWS = 65_536
"""Rows in a record batch: the last one of a file has fewer, and batches with rejected rows too."""

RAW_BYTES = 1024
"""A reject keeps this much of its source text."""


@dataclass(frozen=True, slots=True)
class TableOptions:
    """What the caller declares about a tabular file. Nothing here is ever guessed from the data.

    Raises:
        InvalidInputError: a delimiter that is not one character, or a decimal mark other than `.` and `,`
            (option-invalid).
    """

    delimiter: str | None = None
    """One character; None means what the suffix says: a comma for .csv, a tab for .tsv and .tab."""
    encoding: str | None = None
    """A Python codec name; None means strict UTF-8, with or without a byte order mark."""
    header: bool | None = None
    """Whether the first row names the columns; None means that it does and must look like it."""
    null_tokens: tuple[str, ...] = ("",)
    """Cells of CSV that are null when they equal one of these exactly; quoted and bare cells are alike."""
    types: Mapping[str, str] = field(default_factory=dict)
    """Column -> Arrow or SQL type name, for columns that must not be inferred."""
    decimal: str = "."
    """The decimal mark of numbers."""

    def __post_init__(self) -> None:
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '"\r\n\0'):
            raise InvalidInputError(
                "option-invalid",
                f"The delimiter {self.delimiter!r} is not one character, such as ';' or a tab.",
                option="delimiter",
            )
        if self.decimal not in {".", ","}:
            raise InvalidInputError(
                "option-invalid", f"The decimal mark {self.decimal!r} is neither '.' nor ','.", option="decimal"
            )


@dataclass(frozen=True, slots=True)
class RowReject:
    """A row that was not taken.

    `line` is the physical line on which the row starts, counted from 1 with the header, or the row number counted
    from 1 in Parquet. `column` is None when the row as a whole is wrong, and all columns of a repeated key. `raw` is the
    source text, cut to 1 kB, and so is `value`, the one that breaks the `rule`. A flagged row was taken, without the value.
    """

    line: int
    column: str | None
    code: str
    reason: str
    raw: str
    value: str | None = None
    rule: str | None = None
    flagged: bool = False


@dataclass(frozen=True, slots=True)
class Misfit:
    """Why one row of a chunk can't be taken as it is."""

    column: str
    code: str
    reason: str
    value: str | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive rows, typed; cells that could not be read are null, and in `misfits` (row in the chunk -> why)."""

    lines: pa.Int64Array
    """Where each row starts, as in `RowReject.line`; ascending."""
    batch: pa.RecordBatch
    misfits: dict[int, list[Misfit]]
    raw: Callable[[int], str]
    """Row number in the chunk -> its source text."""


class Origin(Protocol):
    """A file that can be read more than once as typed chunks, in file order, in bounded memory."""

    def chunks(self, schema: pa.Schema) -> Iterator[Chunk]:
        """Yield all rows; `schema` is the target schema or a part of it (key columns only, for a first look)."""
        ...


def cut(text: str) -> str:
    """Return `text` cut to `RAW_BYTES` bytes of UTF-8."""
    data = text.encode("utf-8", "replace")
    return text if len(data) <= RAW_BYTES else data[:RAW_BYTES].decode("utf-8", "ignore")


def refuse_repeated(names: Sequence[str], path: object) -> None:
    """Refuse column names that are equal, also ignoring case: Delta and DuckDB fold them.

    Raises:
        InvalidInputError: two columns share a name (duplicate-column).
    """
    seen: dict[str, str] = {}
    for name in names:
        if (other := seen.get(name.casefold())) is not None:
            raise InvalidInputError(
                "duplicate-column",
                f"{path} has two columns of the same name: {other!r} and {name!r} (case does not tell columns apart). "
                "Rename one of them.",
                columns=[other, name],
            )
        seen[name.casefold()] = name
