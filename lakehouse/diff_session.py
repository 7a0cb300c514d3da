"""The SQL of one comparison, in one DuckDB session: it stays within MEMORY_LIMIT and spills to a temporary folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from lakehouse.diff_schema import OTHER, ColumnPair, Side
from lakehouse.diff_sides import Sides
from lakehouse.errors import translated
from lakehouse.readers.duck import connect
from lakehouse.readers.relation import conform

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MEMORY_LIMIT = "2GB"
"""Memory of one comparison in DuckDB; what does not fit is spilled to disk."""
BATCH_ROWS = 65_536


@dataclass(slots=True)
class Session:
    """A connection that can select from both sides."""

    con: DuckDBPyConnection
    sides: Sides
    pairs: tuple[ColumnPair, ...]
    key: tuple[ColumnPair, ...]
    set_apart: bool = False
    """Whether rows with a key in the table `doubtful` are left out: they are the same on both sides."""

    def rows(self, side: Side, pairs: Sequence[ColumnPair] | None = None) -> str:
        """Return what to select one side's rows from."""
        found = self.sides.rows(self.con, side, self.pairs if pairs is None else pairs)
        return (
            f"(select x.* from {found} x anti join doubtful u on {self._same('x', 'u')})" if self.set_apart else found
        )

    def key_defect(self) -> str | None:
        """Say why the key does not tell the differing rows of either state apart; None when it does.

        Rows that share a key, or have none, and are the same on both sides change no number: they are set apart.
        """
        if not self.key or not self._doubt():
            return None
        names = _names(self.key)
        differing = self.surplus(None, "semi join doubtful u on " + self._same("x", "u"))
        nulls = ", ".join(f"bool_or(c{p.number} is null)" for p in self.key)
        query = f"select max(o), {nulls} from doubtful u semi join (select {names} from ({differing})) x on "
        most_old, *null = self.con.execute(query + self._same("x", "u")).fetchall()[0]
        if most_old is None:
            self.set_apart = True
            return None
        for pair, has_null in zip(self.key, null, strict=True):
            if has_null:
                return f"the key column {pair.name!r} is null in some rows"
        snapshot = self.sides.old if most_old > 1 else self.sides.new
        return f"the key ({_words(self.key)}) is not unique in {snapshot.reference}"

    def _doubt(self) -> bool:
        """Collect keys that are null or occur twice on a side; return whether there are any."""
        names, nulls = _names(self.key), " or ".join(f"c{p.number} is null" for p in self.key)
        self.con.execute(
            f"create temp table doubtful as select {names}, sum(o) as o, sum(n) as n from ("
            f"select {names}, 1 as o, 0 as n from {self.rows('old', self.key)} union all "
            f"select {names}, 0, 1 from {self.rows('new', self.key)}) "
            f"group by {names} having sum(o) > 1 or sum(n) > 1 or {nulls}"
        )
        return bool(self.con.execute("select exists (from doubtful)").fetchall()[0][0])

    def leave_out(self) -> None:
        """Set rows apart that an earlier session of the same comparison set apart."""
        self.set_apart = self._doubt()

    def find_differing(self) -> None:
        """Make the table `differing`: the keys of rows that differ, and how; rows that only moved are not among them."""
        compared = [p for p in self.pairs if p not in self.key]
        flags = "".join(f", {differs(p)} as d{p.number}" for p in compared)
        keys = ", ".join(f"coalesce(o.c{p.number}, n.c{p.number}) as c{p.number}" for p in self.key)
        changed = "".join(f" or d{p.number}" for p in compared)
        self.con.execute(
            f"create temp table differing as select {keys}, o.here is null as added, n.here is null as removed{flags} "
            f"from {self.rows('old')} o full join {self.rows('new')} n on {same(self.key, 'o', 'n')} "
            f"where o.here is null or n.here is null{changed}"
        )

    def shared_key(self) -> str | None:
        """Say whether the key of a differing row occurs in a row that was not compared, which makes it ambiguous.

        With this every key that the diff speaks of is proven unique in both states. Only key columns are read, and
        DuckDB skips the row groups whose statistics exclude the keys looked for, so that for tables clustered by key
        the cost follows the change.
        """
        if not self.con.execute("select exists (from differing)").fetchall()[0][0]:
            return None
        others, rightly = self.sides.others(self.con, self.key)
        names = ", ".join(f"k.c{p.number}" for p in self.key)
        # The few keys looked for must be the side that is hashed: they then become filters of the scan.
        self.con.execute("set disabled_optimizers = 'build_side_probe_side'")
        found = self.con.execute(
            f"select 1 from (select {names}, count(*) as times from {others} k semi join differing d "
            f"on {same(self.key, 'k', 'd')} group by all) k join differing d on {same(self.key, 'k', 'd')} "
            f"where times > {rightly} limit 1"
        ).fetchall()
        if not found:
            return None
        return f"the key ({_words(self.key)}) is not unique: a row that differs has the key of one that does not"

    def surplus(self, side: Side | None, only: str = "") -> str:
        """Return a query of distinct whole rows with how many more of each the new side has.

        Args:
            side: Side whose own values are given too, for output.
            only: A join that limits the rows, called `x`.
        """
        groups = [f"c{p.number}" for p in self.pairs]
        own = [p.value for p in self.pairs if side is not None and p.retyped]
        parts = []
        for this in OTHER:
            sign = 1 if this == "new" else -1
            values = own if this == side else [f"null as {name}" for name in own]
            parts.append(f"select {', '.join([*groups, *values])}, {sign} as sign from {self.rows(this)} x {only}")
        shown = [*groups, *(f"any_value({name}) as {name}" for name in own)]
        return (
            f"select {', '.join(shown)}, sum(sign) as surplus from ({' union all '.join(parts)}) "
            f"group by {', '.join(groups)} having sum(sign) <> 0"
        )

    def stream(self, query: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Run a query and iterate over its batches, with exactly this schema."""
        for batch in self.con.sql(query).to_arrow_reader(BATCH_ROWS):
            if batch.num_rows:
                yield conform(batch, schema)

    def _same(self, left: str, right: str) -> str:
        """Match keys, null with null: only for the few that are in doubt."""
        return " and ".join(f"{left}.c{p.number} is not distinct from {right}.c{p.number}" for p in self.key)


@contextmanager
def open_session(sides: Sides, pairs: tuple[ColumnPair, ...], key: tuple[ColumnPair, ...]) -> Iterator[Session]:
    """Open a session over the two sides of a comparison."""
    with connect() as con, translated("comparing rows"):
        # The order of rows is given by ORDER BY where it matters; keeping the order of files would cost memory.
        con.execute(f"set memory_limit = '{MEMORY_LIMIT}'; set preserve_insertion_order = false")
        sides.prepare(con, pairs, key)
        yield Session(con, sides, pairs, key)


def same(key: Sequence[ColumnPair], left: str, right: str) -> str:
    """Return the condition that two rows have the same key."""
    return " and ".join(f"{left}.c{p.number} = {right}.c{p.number}" for p in key)


def differs(pair: ColumnPair) -> str:
    """Return the condition that a column differs between a row `o` of the old side and `n` of the new one."""
    return f"(o.c{pair.number} is distinct from n.c{pair.number})"


def _names(key: Sequence[ColumnPair]) -> str:
    return ", ".join(f"c{p.number}" for p in key)


def _words(key: Sequence[ColumnPair]) -> str:
    return ", ".join(p.name for p in key)
