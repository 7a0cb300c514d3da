"""The rows of a diff: the SQL that compares what two sets of files hold.

Everything runs in DuckDB, one connection per call, within MEMORY_LIMIT and spilling to a temporary folder beyond it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa

from lakehouse.diff_schema import OTHER, ColumnPair, Side
from lakehouse.errors import translated
from lakehouse.readers.duck import connect, string
from lakehouse.readers.relation import conform, source_sql

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from lakehouse.snapshots import Snapshot

MEMORY_LIMIT = "2GB"
"""Memory of one comparison in DuckDB; what does not fit is spilled to disk."""
BATCH_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class RowCounts:
    """Rows by what happened to them; true when anything did. Without a key nothing is `changed`."""

    added: int = 0
    removed: int = 0
    changed: int = 0

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What counting found."""

    rows: RowCounts
    columns: dict[str, int]
    """Rows changed, per column that changed anywhere."""
    fallback: str | None
    """Why the key could not be used; None when it was used, or there is none."""


@dataclass(frozen=True)
class Comparison:
    """Two sets of rows - what two states hold in files that may differ - and how to compare them."""

    old: Snapshot
    """Limited to the files that may differ, as is `new`."""
    new: Snapshot
    common: Snapshot
    """The new state, limited to the files whose rows are equal on both sides."""
    pairs: tuple[ColumnPair, ...]
    key: tuple[ColumnPair, ...]
    """Empty: rows are compared as multisets."""

    @cached_property
    def outcome(self) -> Outcome:
        """Counts; computed once, on first use."""
        if not len(self.old.file_list) and not len(self.new.file_list):
            return Outcome(RowCounts(), {}, None)
        with _session() as con:
            reason = self._key_defect(con)
            if self.key and reason is None:
                con.execute(self._differing_sql(con))
                reason = self._shared_key(con)
                if reason is None:
                    return self._key_outcome(con)
            added, removed = con.execute(
                "select coalesce(sum(greatest(surplus, 0)), 0), coalesce(sum(greatest(-surplus, 0)), 0) "
                f"from ({self._surplus_sql(con, None)})"
            ).fetchall()[0]
            return Outcome(RowCounts(int(added), int(removed)), {}, reason)

    @property
    def by_key(self) -> bool:
        """Whether the key identifies the rows; reads the differing files on first use."""
        return bool(self.key) and self.outcome.fallback is None

    def one_sided(self, side: Side, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Iterate over the rows that only one side has, ordered by key, or by all columns without one."""
        snapshot = self.old if side == "old" else self.new
        shown = {field.name: p for p in self.pairs if (field := p.field(side)) is not None}
        schema = pa.schema([snapshot.schema.field(name) for name in columns])
        if not (self.outcome.rows.removed if side == "old" else self.outcome.rows.added):
            return
        with _session() as con:
            if self.by_key:
                mine, theirs = self._side(con, side), self._side(con, OTHER[side], self.key)
                items = ", ".join(f"m.{shown[name].value}" for name in columns)
                order = ", ".join(f"m.{p.value}" for p in self.key)
                query = (
                    f"select {items} from {mine} m anti join {theirs} t on {_same(self.key, 'm', 't')} order by {order}"
                )
            else:
                items = ", ".join(shown[name].value for name in columns)
                order = ", ".join(p.value for p in shown.values())
                sign = "-" if side == "old" else ""
                query = f"select {items} from ({self._surplus_sql(con, side)}), unnest(range({sign}surplus::bigint)) order by {order}"
            yield from _stream(con, query, schema)

    def changed(self, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        """Iterate over the rows that both sides have with different values, ordered by key; see `Diff.changed`."""
        shown = [p for p in self.pairs if p not in self.key and (columns is None or p.name in columns)]
        if not any(p.name in self.outcome.columns for p in shown):
            return
        fields = [pa.field(p.name, p.type("new")) for p in self.key]
        items = [f"n.{p.value}" for p in self.key]
        for p in shown:
            fields += [pa.field(f"old.{p.name}", p.type("old")), pa.field(f"new.{p.name}", p.type("new"))]
            items += [_own(p, "old"), _own(p, "new")]
        names = ", ".join(f"case when {_differs(p)} then {string(p.name)} end" for p in shown)
        items.append(f"list_filter([{names}], lambda name: name is not null)")
        fields.append(pa.field("changed_columns", pa.list_(pa.field("element", pa.string()))))
        with _session() as con:
            query = (
                f"select {', '.join(items)} from {self._side(con, 'old')} o join {self._side(con, 'new')} n "
                f"on {_same(self.key, 'o', 'n')} where {' or '.join(map(_differs, shown))} "
                f"order by {', '.join(f'n.{p.value}' for p in self.key)}"
            )
            yield from _stream(con, query, pa.schema(fields))

    def _side(self, con: DuckDBPyConnection, side: Side, pairs: Sequence[ColumnPair] | None = None) -> str:
        chosen = self.pairs if pairs is None else pairs
        snapshot = self.old if side == "old" else self.new
        return _projected(con, snapshot, side, chosen)

    def _key_defect(self, con: DuckDBPyConnection) -> str | None:
        """Say why the key does not tell the differing rows of either state apart; None when it does."""
        if not self.key:
            return None
        names = ", ".join(f"c{p.number}" for p in self.key)
        nulls = ", ".join(f"coalesce(bool_or(c{p.number} is null), false)" for p in self.key)
        query = (
            f"select max(o), max(n), {nulls} from (select {names}, sum(o) as o, sum(n) as n from ("
            f"select {names}, 1 as o, 0 as n from {self._side(con, 'old', self.key)} union all "
            f"select {names}, 0, 1 from {self._side(con, 'new', self.key)}) group by {names})"
        )
        most_old, most_new, *null = con.execute(query).fetchall()[0]
        for pair, has_null in zip(self.key, null, strict=True):
            if has_null:
                return f"the key column {pair.name!r} is null in some rows"
        for snapshot, most in ((self.old, most_old), (self.new, most_new)):
            if most is not None and most > 1:
                return f"the key ({', '.join(p.name for p in self.key)}) is not unique in {snapshot.reference}"
        return None

    def _differing_sql(self, con: DuckDBPyConnection) -> str:
        """Keys of the rows that differ, and how: rows that were only moved from file to file are not among them."""
        compared = [p for p in self.pairs if p not in self.key]
        flags = "".join(f", {_differs(p)} as d{p.number}" for p in compared)
        keys = ", ".join(f"coalesce(o.c{p.number}, n.c{p.number}) as c{p.number}" for p in self.key)
        changed = "".join(f" or d{p.number}" for p in compared)
        return (
            f"create temp table differing as select {keys}, o.here is null as added, n.here is null as removed{flags} "
            f"from {self._side(con, 'old')} o full join {self._side(con, 'new')} n on {_same(self.key, 'o', 'n')} "
            f"where o.here is null or n.here is null{changed}"
        )

    def _shared_key(self, con: DuckDBPyConnection) -> str | None:
        """Say whether the key of a differing row occurs in a common file too, which makes it ambiguous.

        With this every key that the diff speaks of is proven unique in both states. Only key columns are read, and
        DuckDB skips the row groups whose statistics exclude the keys looked for, so that for tables clustered by key
        the cost follows the change. Rows of common files that share a key among themselves are not looked for: they
        are equal on both sides, so they change no number, and finding them would cost a scan of all that exists.
        """
        if not len(self.common.file_list) or not con.execute("select exists (from differing)").fetchall()[0][0]:
            return None
        known = _projected(con, self.common, "new", self.key)
        # The few keys looked for must be the side that is hashed: they then become filters of the scan.
        con.execute("set disabled_optimizers = 'build_side_probe_side'")
        found = con.execute(
            f"select 1 from {known} k semi join differing d on {_same(self.key, 'k', 'd')} limit 1"
        ).fetchall()
        if not found:
            return None
        return f"the key ({', '.join(p.name for p in self.key)}) is not unique: a row that differs has the key of one that does not"

    def _key_outcome(self, con: DuckDBPyConnection) -> Outcome:
        compared = [p for p in self.pairs if p not in self.key]
        both = "not added and not removed"
        per_column = "".join(f", count(*) filter ({both} and d{p.number})" for p in compared)
        added, removed, changed, *columns = con.execute(
            f"select count(*) filter (added), count(*) filter (removed), count(*) filter ({both}){per_column} from differing"
        ).fetchall()[0]
        counts = {p.name: int(n) for p, n in zip(compared, columns, strict=True) if n}
        return Outcome(RowCounts(int(added), int(removed), int(changed)), counts, None)

    def _surplus_sql(self, con: DuckDBPyConnection, side: Side | None) -> str:
        """Distinct whole rows with how many more of each the new side has; with own values of one side for output."""
        groups = [f"c{p.number}" for p in self.pairs]
        own = [p.value for p in self.pairs if side is not None and p.retyped]
        parts = []
        for this in OTHER:
            sign = 1 if this == "new" else -1
            values = own if this == side else [f"null as {name}" for name in own]
            parts.append(f"select {', '.join([*groups, *values])}, {sign} as sign from {self._side(con, this)}")
        shown = [*groups, *(f"any_value({name}) as {name}" for name in own)]
        return (
            f"select {', '.join(shown)}, sum(sign) as surplus from ({' union all '.join(parts)}) "
            f"group by {', '.join(groups)} having sum(sign) <> 0"
        )


def _projected(con: DuckDBPyConnection, snapshot: Snapshot, side: Side, pairs: Sequence[ColumnPair]) -> str:
    """A derived table with the columns that `ColumnPair.projection` names, and `here`: true in every row."""
    names = [field.name for p in pairs if (field := p.field(side)) is not None]
    items = ", ".join(item for p in pairs for item in p.projection(side))
    return f"(select true as here, {items} from ({source_sql(con, snapshot, names)}))"


def _same(key: Sequence[ColumnPair], left: str, right: str) -> str:
    return " and ".join(f"{left}.c{p.number} = {right}.c{p.number}" for p in key)


def _differs(pair: ColumnPair) -> str:
    return f"(o.c{pair.number} is distinct from n.c{pair.number})"


def _own(pair: ColumnPair, side: Side) -> str:
    """The own value of one side, typed: a column that the side lacks is null of the other side's type."""
    if pair.field(side) is None:
        return f"if(false, {OTHER[side][0]}.{pair.value}, null)"
    return f"{side[0]}.{pair.value}"


@contextmanager
def _session() -> Iterator[DuckDBPyConnection]:
    with connect() as con, translated("comparing rows"):
        # The order of rows is given by ORDER BY where it matters; keeping the order of files would cost memory.
        con.execute(f"set memory_limit = '{MEMORY_LIMIT}'; set preserve_insertion_order = false")
        yield con


def _stream(con: DuckDBPyConnection, query: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for batch in con.sql(query).to_arrow_reader(BATCH_ROWS):
        if batch.num_rows:
            yield conform(batch, schema)
