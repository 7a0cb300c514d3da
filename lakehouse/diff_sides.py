"""The two sides of a comparison: where the rows that may differ come from, as tables of one DuckDB session.

Rows come from the files that one side alone lists; from such files, but only those with a key that may have changed;
or from the change feed. Whatever row is left out is the same on both sides, so the answer is always the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from lakehouse.delta import open_delta, refuse_fork
from lakehouse.diff_feed import Feed
from lakehouse.diff_schema import OTHER, ColumnPair, Side
from lakehouse.errors import StateError
from lakehouse.merging import candidates
from lakehouse.readers.duck import identifier, sql_type
from lakehouse.readers.relation import source_sql

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from lakehouse.snapshots import Snapshot

MOST_BOUNDED = 100_000
"""Keys up to which files are chosen by their key ranges; more would touch every file anyway."""
_FEW_FILES = 8


class Sides(Protocol):
    """Where the rows of a comparison come from."""

    @property
    def old(self) -> Snapshot:
        """The old state, limited to the files that may be read."""

    @property
    def new(self) -> Snapshot:
        """The new state, so limited."""

    @property
    def empty(self) -> bool:
        """Whether no row can differ."""

    def prepare(self, con: DuckDBPyConnection, pairs: Sequence[ColumnPair], key: Sequence[ColumnPair]) -> None:
        """Make the temporary tables that the queries read."""

    def rows(self, con: DuckDBPyConnection, side: Side, pairs: Sequence[ColumnPair]) -> str:
        """Return what to select from: the columns that `ColumnPair.projection` names, and `here`, true in every row."""

    def others(self, con: DuckDBPyConnection, key: Sequence[ColumnPair]) -> tuple[str, str]:
        """Return what to select keys from that differing rows must not share, and how many of a key are rightly there.

        The number is SQL over `d`, a row of the session's table `differing`.
        """


@dataclass(frozen=True, slots=True)
class FileSides:
    """All rows of the files that may differ."""

    old: Snapshot
    new: Snapshot
    common: Snapshot
    """The new state, limited to the files whose rows are equal on both sides."""

    @property
    def empty(self) -> bool:
        """Whether both sides list the same files."""
        return not len(self.old.file_list) and not len(self.new.file_list)

    def prepare(self, con: DuckDBPyConnection, pairs: Sequence[ColumnPair], key: Sequence[ColumnPair]) -> None:
        """Nothing is needed."""

    def rows(self, con: DuckDBPyConnection, side: Side, pairs: Sequence[ColumnPair]) -> str:
        """Return a derived table over the files of one side."""
        return _projected(con, self.old if side == "old" else self.new, side, pairs)

    def others(self, con: DuckDBPyConnection, key: Sequence[ColumnPair]) -> tuple[str, str]:
        """Return the keys of the common files: none of them is rightly that of a row that differs."""
        return _projected(con, _bounded(con, self.common, "new", key, "differing"), "new", key), "0"


@dataclass(frozen=True, slots=True)
class KeySides:
    """The rows of these files whose key may have changed since the keys of what changed were stored."""

    files: FileSides
    stored: Snapshot
    """Files of keys; its columns are those of the key, in its order."""
    feed: Feed | None
    """Changes that came after those that were stored."""

    @property
    def old(self) -> Snapshot:
        """The old state, limited to the files that may differ."""
        return self.files.old

    @property
    def new(self) -> Snapshot:
        """The new state, so limited."""
        return self.files.new

    @property
    def empty(self) -> bool:
        """Whether both sides list the same files."""
        return self.files.empty

    def prepare(self, con: DuckDBPyConnection, pairs: Sequence[ColumnPair], key: Sequence[ColumnPair]) -> None:
        """Collect the keys and then, once, the rows that have one."""
        names = ", ".join(f"c{p.number}" for p in key)
        stored = self.stored.schema.names
        items = ", ".join(f"{identifier(name)} as c{p.number}" for name, p in zip(stored, key, strict=True))
        sources = [f"select {items} from ({source_sql(con, self.stored, stored)})"]
        if self.feed is not None:
            sources.append(f"select {names} from ({self.feed.rows_sql(con, key)})")
        con.execute(f"create temp table wanted as select distinct {names} from ({' union all '.join(sources)})")
        # The few keys must be what is hashed: they then become filters of the scans.
        con.execute("set disabled_optimizers = 'build_side_probe_side'")
        nulls = " or ".join(f"c{p.number} is null" for p in key)
        has_null = con.execute(f"select exists (from wanted where {nulls})").fetchall()[0][0]
        same = _same_key(key, "x", "k", "is not distinct from" if has_null else "=")
        for side in OTHER:
            snapshot = self.old if side == "old" else self.new
            if not has_null:
                snapshot = _bounded(con, snapshot, side, key, "wanted")
            rows = _projected(con, snapshot, side, pairs)
            items = ", ".join(_typed(p, side) for p in pairs)
            con.execute(
                f"create temp table {side}_rows as select here, {items} from {rows} x semi join wanted k on {same}"
            )

    def rows(self, con: DuckDBPyConnection, side: Side, pairs: Sequence[ColumnPair]) -> str:
        """Return the table of one side's rows."""
        return f"{side}_rows"

    def others(self, con: DuckDBPyConnection, key: Sequence[ColumnPair]) -> tuple[str, str]:
        """Return the keys of the common files, as `FileSides`."""
        return self.files.others(con, key)


@dataclass(frozen=True, slots=True)
class FeedSides:
    """What is left of the change feed when rows that came and went are taken off each other: the rows that differ."""

    feed: Feed
    old: Snapshot
    new: Snapshot
    """The whole state: no differing row may share its key with another row of it."""

    @property
    def empty(self) -> bool:
        """Whether no commit touched a row."""
        return not self.feed.files

    def prepare(self, con: DuckDBPyConnection, pairs: Sequence[ColumnPair], key: Sequence[ColumnPair]) -> None:
        """Sum up the feed."""
        names = ", ".join(f"c{p.number}" for p in pairs)
        net = f"select {names}, sum(sign) as n from ({self.feed.rows_sql(con, pairs)}) group by {names} having sum(sign) <> 0"
        con.execute(f"create temp table net as {net}")
        for side, count in (("old", "-n"), ("new", "n")):
            con.execute(
                f"create temp table {side}_rows as select true as here, {names} "
                f"from net, unnest(range({count}::bigint)) where {count} > 0"
            )

    def rows(self, con: DuckDBPyConnection, side: Side, pairs: Sequence[ColumnPair]) -> str:
        """Return the table of one side's rows."""
        return f"{side}_rows"

    def others(self, con: DuckDBPyConnection, key: Sequence[ColumnPair]) -> tuple[str, str]:
        """Return all keys of the new state: that of a differing row is there once, unless the row was removed."""
        return _projected(con, _bounded(con, self.new, "new", key, "differing"), "new", key), "if(d.removed, 0, 1)"


def _projected(con: DuckDBPyConnection, snapshot: Snapshot, side: Side, pairs: Sequence[ColumnPair]) -> str:
    names = [field.name for p in pairs if (field := p.field(side)) is not None]
    items = ", ".join(item for p in pairs for item in p.projection(side))
    return f"(select true as here, {items} from ({source_sql(con, snapshot, names)}))"


def has_log(snapshot: Snapshot) -> bool:
    """Whether a table's log can be looked into here; a forked process has the files of opened snapshots alone."""
    try:
        refuse_fork(snapshot.reference)
    except StateError:
        return False
    return snapshot.dataset.guarantee == "own"  # of an adopted table others may have cleaned the log away


def _typed(pair: ColumnPair, side: Side) -> str:
    """SELECT items of a table: there a column that the side lacks needs a type."""
    if pair.field(side) is None:
        return f"cast(null as {sql_type(pair.type(side))}) as c{pair.number}"
    return f"x.c{pair.number}" + (f", x.v{pair.number}" if pair.retyped else "")


def _same_key(key: Sequence[ColumnPair], left: str, right: str, operator: str = "=") -> str:
    return " and ".join(f"{left}.c{p.number} {operator} {right}.c{p.number}" for p in key)


def _bounded(
    con: DuckDBPyConnection, snapshot: Snapshot, side: Side, key: Sequence[ColumnPair], wanted: str
) -> Snapshot:
    """Return a snapshot limited to the files whose key range holds one of the keys in a table of the session.

    DuckDB skips what the footers exclude; this spares opening the files.
    """
    first = key[0].field(side)
    if first is None or len(snapshot.file_list) <= _FEW_FILES or not has_log(snapshot):
        return snapshot
    query = f"select distinct c{key[0].number} from {wanted} limit {MOST_BOUNDED + 1}"
    keys = con.sql(query).to_arrow_table()
    if keys.num_rows > MOST_BOUNDED:
        return snapshot
    dataset = snapshot.dataset
    table = open_delta(snapshot.storage, dataset.location, dataset.full_name, snapshot.table_version)
    given = pa.table({first.name: keys.column(0).cast(first.type)})
    return candidates(snapshot, table, given, [first.name])


__all__ = ["FeedSides", "FileSides", "KeySides", "Sides", "has_log"]
