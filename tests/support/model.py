"""A plain model of a lake: for each table the rows of every version, and what pins which of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import pyarrow as pa

from lakehouse.decisions import Dataset
from lakehouse.leases import Leased
from lakehouse.tables import LogEntry

TYPES = {
    "id": pa.int64(),
    "name": pa.string(),
    "size": pa.float64(),
    "rank": pa.int64(),
    "note": pa.string(),
    "day": pa.date32(),
}
"""Types of all columns that a table may have."""
FIRST = ("id", "name", "size")
"""Columns that a table begins with."""

Row = dict[str, Any]


def extra(column: str, number: int) -> Any:
    """Return the value of a column that came later, in the row with this id."""
    if number % 3 == 0:
        return None
    return {"rank": -number, "note": f"n{number}", "day": date(2026, 1, 1 + number % 28)}[column]


def arrow(columns: Sequence[str], rows: Sequence[Row]) -> pa.Table:
    """Return rows as they are given to the lake."""
    return pa.Table.from_pylist(list(rows), schema=pa.schema([(c, TYPES[c]) for c in columns]))


@dataclass(frozen=True)
class Content:
    """The rows of one table version, in their order."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    @classmethod
    def of(cls, columns: Sequence[str], rows: Sequence[Row]) -> Content:
        """Return rows with these columns; what a row lacks is null."""
        return cls(tuple(columns), tuple(tuple(row.get(c) for c in columns) for row in rows))

    def dicts(self) -> list[Row]:
        """Return the rows by column."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def unordered(self) -> tuple[tuple[str, ...], Counter[tuple[Any, ...]]]:
        """Return what is left of it when the order of rows does not count."""
        return self.columns, Counter(self.rows)


@dataclass(eq=False)
class Line:
    """One table: what a name stands for until it is dropped."""

    dataset: Dataset
    contents: list[Content]
    """By table version."""
    log: list[LogEntry]
    """As it was read last, newest first."""
    next_id: int = 0
    condemned: set[int] = field(default_factory=set)
    before: int = 0
    """The version below which the last clean-up condemned."""
    held: bool = False
    dropped: int | None = None
    """When it was dropped, as a number that grows."""

    @property
    def head(self) -> int:
        """The newest table version."""
        return len(self.contents) - 1

    @property
    def id(self) -> str:
        """The dataset's id."""
        return self.dataset.dataset_id

    @property
    def alive(self) -> list[int]:
        """The versions that can be read."""
        return [v for v in range(len(self.contents)) if v not in self.condemned]

    def version_at(self, time: datetime) -> int:
        """Return the newest version that was there at a time; -1 for none."""
        return next((e.table_version for e in self.log if e.created_at <= time), -1)


@dataclass
class Published:
    """A published version of a name."""

    line: Line
    version: int
    data_tag: str
    expired: bool = False


@dataclass
class Bundle:
    """What a milestone version, a named snapshot or a lease pins."""

    members: dict[str, tuple[Line, int]]
    """Dataset and table version by name."""
    readable: bool = True
    """Whether a reference through it still works."""
    pins: bool = True
    """Whether it still keeps its states."""
    leased: Leased | None = None


@dataclass
class Model:
    """A whole lake."""

    names: dict[str, Line | None] = field(default_factory=dict)
    """What each name stands for; None after a drop."""
    lines: list[Line] = field(default_factory=list)
    published: dict[str, list[Published]] = field(default_factory=dict)
    """By name; the version number is the place, from 1."""
    tags: dict[tuple[str, str], int] = field(default_factory=dict)
    """Movable tags: {(name, tag): number}."""
    milestone: list[Bundle] = field(default_factory=list)
    milestone_of: list[Published] = field(default_factory=list)
    """What the last version of the milestone was made of."""
    """Its versions, from 1."""
    snapshots: dict[str, Bundle] = field(default_factory=dict)
    leases: list[Bundle] = field(default_factory=list)
    cursors: dict[tuple[str, str], tuple[Line, int]] = field(default_factory=dict)
    """What jobs still read changes from, by (target id, source id)."""

    def newest(self, name: str) -> Published | None:
        """Return the newest published version of a name."""
        return self.published[name][-1] if self.published[name] else None

    def references(self) -> Iterator[tuple[str, Line, int]]:
        """Iterate over every reference that is a promise, with what it stands for."""
        for name, versions in self.published.items():
            living = {n: p for n, p in enumerate(versions, 1) if not p.expired}
            for number, p in living.items():
                yield f"{name}@v{number}", p.line, p.version
            if living:
                last = living[max(living)]
                yield f"{name}@latest", last.line, last.version
            for tag in {p.data_tag for p in living.values()}:
                tagged = [p for p in living.values() if p.data_tag == tag][-1]
                yield f"{name}@{tag}", tagged.line, tagged.version
        for (name, tag), number in self.tags.items():
            p = self.published[name][number - 1]
            yield f"{name}@{tag}", p.line, p.version
        for number, bundle in enumerate(self.milestone, 1):
            yield from self._through(bundle, f"m/v{number}")
        for name, bundle in self.snapshots.items():
            yield from self._through(bundle, f"snap:{name}")

    @staticmethod
    def _through(bundle: Bundle, selector: str) -> Iterator[tuple[str, Line, int]]:
        if bundle.readable:
            for name, (line, version) in bundle.members.items():
                yield f"{name}@{selector}", line, version

    def bundles(self) -> list[Bundle]:
        """Return everything that pins several states at once."""
        return [*self.milestone, *self.snapshots.values(), *self.leases]

    def pinned(self, line: Line) -> set[int]:
        """Return the versions of a table that a clean-up has to keep one by one."""
        found = {p.version for ps in self.published.values() for p in ps if p.line is line and not p.expired}
        members = [m for b in self.bundles() if b.pins for m in b.members.values()]
        return found | {version for other, version in members if other is line}

    def needed_from(self, line: Line, head: int | None = None) -> int:
        """Return the version from which on a job still reads changes; the head when there is no such job."""
        newest = line.head if head is None else head
        return min([newest, *(v for source, v in self.cursors.values() if source is line)])

    def condemn(self, line: Line, before: int) -> set[int]:
        """Give up what nothing pins below a version; return what is given up only now."""
        line.before = max(before, line.before)
        given_up = set(range(line.before)) - self.pinned(line)
        fresh = given_up - line.condemned
        line.condemned |= given_up
        return fresh

    def expiring(self, name: str, last: int, tags: set[str]) -> set[int]:
        """Return the numbers of the versions that no rule of retention keeps, and nothing else does."""
        tagged = {number for (other, _), number in self.tags.items() if other == name}
        bound = [m for b in self.bundles() if b.pins for m in b.members.values()]
        living = [(n, p) for n, p in enumerate(self.published[name], 1) if not p.expired][::-1]
        return {
            n
            for newer, (n, p) in enumerate(living)
            if newer >= max(last, 1)
            and p.data_tag not in tags
            and n not in tagged
            and (p.line, p.version) not in bound
            and not p.line.held
        }
