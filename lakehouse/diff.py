"""The difference of two states of a dataset, as a value.

With a key, rows are matched by it: a row is added, removed or changed. Without one, or when the key can't be used,
the states are compared as multisets of whole rows: a changed row is then one removed and one added.

`diff_schema` says when values are equal. Null equals null, NaN equals NaN, -0.0 equals 0.0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa

from lakehouse.diff_files import FileCounts, count_files
from lakehouse.diff_rows import RowCounts
from lakehouse.diff_schema import ColumnChange, ColumnPair, SchemaDiff, pair_columns, schema_diff
from lakehouse.diff_ways import Cost, Via, Way, choose
from lakehouse.errors import InvalidInputError, suggest
from lakehouse.snapshots import Snapshot


@dataclass(frozen=True)
class Diff:
    """What differs between two states; true when the rows or the schema do.

    The schema and the files are known at once. Rows are compared on first use of anything that needs them, in the
    cheapest way that is there; the counts are kept, the rows are streamed anew each time.
    """

    old: Snapshot
    new: Snapshot
    schema: SchemaDiff
    """Columns added, removed, and changed in type or in the case of their name."""
    files: FileCounts
    """Data files that only the new state lists, only the old one, or both. A rewrite of equal rows changes files only."""
    _pairs: tuple[ColumnPair, ...] = field(repr=False)
    _key: tuple[ColumnPair, ...] = field(repr=False)
    _refused_key: str | None = field(repr=False)

    @cached_property
    def _way(self) -> Way:
        return choose(self.old, self.new, self._pairs, self._key)

    @property
    def via(self) -> Via:
        """How the states are compared: by what publication stored, by the change feed, or by the files that differ."""
        return self._way.via

    @property
    def cost(self) -> Cost:
        """What counting reads, at most; stored counts cost no file. Listing the rows of those reads more."""
        return self._way.cost

    @property
    def why_files(self) -> str | None:
        """Why the files had to be compared, as a clause for a person; None when nothing cheaper can be had anyway."""
        return self._way.why

    def __bool__(self) -> bool:
        return bool(self.schema) or bool(self.counts)

    @property
    def key(self) -> tuple[str, ...] | None:
        """The columns that rows were matched by; None when they were compared as multisets."""
        by_key = bool(self._key) and self._way.outcome.fallback is None
        return tuple(p.name for p in self._key) if by_key else None

    @property
    def fallback(self) -> str | None:
        """Why the key was not used although there is one, as a clause for a person; None otherwise.

        A key that changed its type identifies no row, nor does one that is null or not unique in a row that differs.
        Rows that share a key, or have none, and are the same in both states change no number.
        """
        return self._refused_key or self._way.outcome.fallback

    @property
    def counts(self) -> RowCounts:
        """Rows added, removed and changed; as multisets nothing counts as changed."""
        return self._way.outcome.rows

    @property
    def columns(self) -> dict[str, int]:
        """Changed rows per column that changed anywhere; {} as multisets.

        A column that one side lacks is null there, so an added column counts the matched rows in which it is filled.
        """
        return dict(self._way.outcome.columns)

    def added(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Iterate over the rows that only the new state has, ordered by key (by all columns without one).

        Args:
            columns: Columns of the new state to return, in this order; None means all.
        Raises:
            InvalidInputError: an unknown column (column-not-found).
        """
        return self._way.rows.one_sided("new", _known(columns, self.new.schema.names, self.new.reference))

    def removed(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Iterate over the rows that only the old state has, in the old schema; otherwise as `added`."""
        return self._way.rows.one_sided("old", _known(columns, self.old.schema.names, self.old.reference))

    def changed(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Iterate over the rows that both states have with different values, ordered by key; none as multisets.

        Each row has the key columns; for each compared column `c` its values as `old.c` and `new.c` (null where that
        side lacks the column); and `changed_columns` (list of strings), the names of the columns that differ in it.

        Args:
            columns: Columns to compare: rows in which none of them changed are left out. None means all.
        Raises:
            InvalidInputError: a column that neither state has (column-not-found).
        """
        names = [p.name for p in self._pairs]
        return self._way.rows.changed(
            None if columns is None else _known(columns, names, f"{self.old.reference} or {self.new.reference}")
        )

    def differing(self) -> Iterator[pa.RecordBatch]:
        """Iterate over the keys of all rows that differ, ordered by key; none as multisets.

        Each has the key columns and `change`: added, removed or changed.
        """
        if self.key is None:
            return iter(())
        fields = [pa.field(p.name, p.type("new")) for p in self._key]
        return self._way.keys(pa.schema([*fields, pa.field("change", pa.string())]))

    @property
    def summary(self) -> str:
        """Three or four lines for a person."""
        counts, files = self.counts, self.files
        parts = [f"{self.old.reference} -> {self.new.reference}: "]
        if not self:
            parts.append("no difference")
        else:
            parts.append(f"{counts.added:,} added, {counts.removed:,} removed")
            if self.key is not None:
                parts.append(f", {counts.changed:,} changed")
        if self.columns:
            parts.append(f" ({', '.join(f'{name} {n:,}' for name, n in self.columns.items())})")
        parts.append(
            "\n" + ("matched by " + ", ".join(self.key) if self.key is not None else "compared as multisets of rows")
        )
        if self.fallback:
            parts.append(f": {self.fallback}")
        parts.append(f"; files: {files.added:,} added, {files.removed:,} removed, {files.common:,} common")
        parts.append(f"\ncompared {self.compared}")
        if self.schema:
            parts.append(f"\n{_schema_text(self.schema)}")
        return "".join(parts)

    @property
    def compared(self) -> str:
        """How the states are compared and what that reads, as words for a person."""
        way = {Via.STORED: "by stored changes", Via.FEED: "by the change feed", Via.FILES: "by files"}[self.via]
        why = f" ({self.why_files})" if self.why_files else ""
        cost = self.cost
        if not cost.files:
            return f"{way}{why}: no data read"
        files = "1 file" if cost.files == 1 else f"{cost.files:,} files"
        return f"{way}{why}: {files}, {cost.bytes / 1e6:,.1f} MB at most"

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form that `lakehouse diff --output json` prints."""
        counts, files = self.counts, self.files
        return {
            "old": self.old.reference,
            "new": self.new.reference,
            "key": None if self.key is None else list(self.key),
            "rows": {"added": counts.added, "removed": counts.removed, "changed": counts.changed},
            "columns": self.columns,
            "schema": self.schema.to_json(),
            "files": {"added": files.added, "removed": files.removed, "common": files.common},
            "via": str(self.via),
            "cost": {"files": self.cost.files, "bytes": self.cost.bytes},
        }


def diff(old: Snapshot, new: Snapshot, key: Sequence[str] | None = None) -> Diff:
    """Compare two states, of one dataset or of two.

    Args:
        old: The state before.
        new: The state after.
        key: Columns that identify a row; None means the dataset's own key, () compares as multisets.
    Raises:
        InvalidInputError: a given key column that neither state has (column-not-found).
    """
    pairs = pair_columns(old.schema, new.schema)
    by_name = {p.name.casefold(): p for p in pairs}
    if key is not None:
        _known(
            [k for k in key if k.casefold() not in by_name],
            [p.name for p in pairs],
            f"{old.reference} or {new.reference}",
        )
    names = new.dataset.key_columns or old.dataset.key_columns if key is None else key
    wanted = [(name, by_name.get(name.casefold())) for name in dict.fromkeys(names)]
    refused = _refusal(wanted, old, new)
    usable = () if refused else tuple(pair for _, pair in wanted if pair is not None)
    return Diff(old, new, schema_diff(pairs), count_files(old, new), pairs, usable, refused)


def _refusal(wanted: Sequence[tuple[str, ColumnPair | None]], old: Snapshot, new: Snapshot) -> str | None:
    """Say why the schemas alone rule a key out; None when they don't."""
    for name, pair in wanted:
        if pair is None:
            return f"the key column {name!r} is missing"
        if pair.old is None or pair.new is None:
            return f"the key column {name!r} is missing in {(old if pair.old is None else new).reference}"
        if pair.retyped:
            return f"the key column {name!r} changed its type from {pair.old.type} to {pair.new.type}"
    return None


def _known(columns: Sequence[str] | None, known: Sequence[str], where: str) -> list[str]:
    for name in columns or ():
        if name not in known:
            raise InvalidInputError(
                "column-not-found",
                f"There is no column {name!r} in {where}.{suggest(name, set(known))} Columns: {', '.join(known)}.",
                column=name,
            )
    return list(known if columns is None else columns)


def _schema_text(schema: SchemaDiff) -> str:
    parts = []
    if schema.added:
        parts.append(f"columns added: {', '.join(schema.added)}")
    if schema.removed:
        parts.append(f"columns removed: {', '.join(schema.removed)}")
    if schema.changed:
        parts.append("columns changed: " + ", ".join(map(_change_text, schema.changed)))
    return "; ".join(parts)


def _change_text(change: ColumnChange) -> str:
    spelled = f"{change.old_name} -> {change.name}" if change.old_name != change.name else change.name
    return f"{spelled} ({change.old_type} -> {change.new_type})" if change.old_type != change.new_type else spelled


__all__ = ["ColumnChange", "Cost", "Diff", "FileCounts", "RowCounts", "SchemaDiff", "Via", "diff"]
