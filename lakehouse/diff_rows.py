"""The rows of a diff: which were added, removed and changed, as counts and as streams."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import pyarrow as pa

from lakehouse.diff_schema import OTHER, ColumnPair, Side
from lakehouse.diff_session import Session, differs, open_session, same
from lakehouse.diff_sides import Sides
from lakehouse.readers.duck import string
from lakehouse.readers.relation import conform

MOST_HELD = 100_000
"""Keys up to which counting keeps them, so that listing them compares no row again."""


@dataclass(frozen=True, slots=True)
class RowCounts:
    """Rows by what happened to them; true when anything did. Without a key nothing is `changed`."""

    added: int = 0
    removed: int = 0
    changed: int = 0

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    @property
    def total(self) -> int:
        """Rows to which anything happened."""
        return self.added + self.removed + self.changed


@dataclass(frozen=True, slots=True)
class Outcome:
    """What counting found."""

    rows: RowCounts
    columns: dict[str, int]
    """Rows changed, per column that changed anywhere."""
    fallback: str | None
    """Why the key could not be used; None when it was used, or there is none."""
    set_apart: bool = False
    """Whether some rows share a key, or have none, and are the same on both sides."""
    keys: pa.Table | None = field(default=None, compare=False, repr=False)
    """Keys of the rows that differ, in order, and what happened to each; None for too many, or without a key."""


@dataclass(frozen=True)
class Comparison:
    """Two sets of rows that may differ, and how to compare them."""

    sides: Sides
    pairs: tuple[ColumnPair, ...]
    key: tuple[ColumnPair, ...]
    """Empty: rows are compared as multisets."""
    known: Outcome | None = None
    """What counting would find, where that is known already."""

    @cached_property
    def outcome(self) -> Outcome:
        """Counts; computed once, on first use."""
        if self.known is not None:
            return self.known
        if self.sides.empty:
            return Outcome(RowCounts(), {}, None)
        with open_session(self.sides, self.pairs, self.key) as session:
            reason = session.key_defect()
            if self.key and reason is None:
                session.find_differing()
                reason = session.shared_key()
                if reason is None:
                    return self._count_by_key(session)
            session.set_apart = False
            added, removed = session.con.execute(
                "select coalesce(sum(greatest(surplus, 0)), 0), coalesce(sum(greatest(-surplus, 0)), 0) "
                f"from ({session.surplus(None)})"
            ).fetchall()[0]
            return Outcome(RowCounts(int(added), int(removed)), {}, reason)

    def _count_by_key(self, session: Session) -> Outcome:
        compared = [p for p in self.pairs if p not in self.key]
        both = "not added and not removed"
        per_column = "".join(f", count(*) filter ({both} and d{p.number})" for p in compared)
        added, removed, changed, *columns = session.con.execute(
            f"select count(*) filter (added), count(*) filter (removed), count(*) filter ({both}){per_column} from differing"
        ).fetchall()[0]
        counts = {p.name: int(n) for p, n in zip(compared, columns, strict=True) if n}
        rows = RowCounts(int(added), int(removed), int(changed))
        keys = session.con.sql(self._keys_sql).to_arrow_table() if rows.total <= MOST_HELD else None
        return Outcome(rows, counts, None, session.set_apart, keys)

    @property
    def by_key(self) -> bool:
        """Whether the key identifies the rows; reads what may differ on first use."""
        return bool(self.key) and self.outcome.fallback is None

    def one_sided(self, side: Side, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Iterate over the rows that only one side has, ordered by key, or by all columns without one."""
        snapshot = self.sides.old if side == "old" else self.sides.new
        shown = {field.name: p for p in self.pairs if (field := p.field(side)) is not None}
        schema = pa.schema([snapshot.schema.field(name) for name in columns])
        if not (self.outcome.rows.removed if side == "old" else self.outcome.rows.added):
            return
        with self._session() as session:
            if self.by_key:
                mine, theirs = session.rows(side), session.rows(OTHER[side], self.key)
                items = ", ".join(f"m.{shown[name].value}" for name in columns)
                order = ", ".join(f"m.{p.value}" for p in self.key)
                query = (
                    f"select {items} from {mine} m anti join {theirs} t on {same(self.key, 'm', 't')} order by {order}"
                )
            else:
                items = ", ".join(shown[name].value for name in columns)
                order = ", ".join(p.value for p in shown.values())
                sign = "-" if side == "old" else ""
                query = f"select {items} from ({session.surplus(side)}), unnest(range({sign}surplus::bigint)) order by {order}"
            yield from session.stream(query, schema)

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
        names = ", ".join(f"case when {differs(p)} then {string(p.name)} end" for p in shown)
        items.append(f"list_filter([{names}], lambda name: name is not null)")
        fields.append(pa.field("changed_columns", pa.list_(pa.field("element", pa.string()))))
        with self._session() as session:
            query = (
                f"select {', '.join(items)} from {session.rows('old')} o join {session.rows('new')} n "
                f"on {same(self.key, 'o', 'n')} where {' or '.join(map(differs, shown))} "
                f"order by {', '.join(f'n.{p.value}' for p in self.key)}"
            )
            yield from session.stream(query, pa.schema(fields))

    def keys(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Iterate over the keys of the rows that differ and what happened to each, ordered by key; see `Diff.differing`."""
        if not self.outcome.rows:
            return
        if self.outcome.keys is not None:
            yield from (conform(batch, schema) for batch in self.outcome.keys.to_batches())
            return
        with self._session() as session:
            session.find_differing()
            yield from session.stream(self._keys_sql, schema)

    @property
    def _keys_sql(self) -> str:
        names = ", ".join(f"c{p.number}" for p in self.key)
        kind = "case when added then 'added' when removed then 'removed' else 'changed' end"
        return f"select {names}, {kind} from differing order by {names}"

    @contextmanager
    def _session(self) -> Iterator[Session]:
        with open_session(self.sides, self.pairs, self.key) as session:
            if self.outcome.set_apart:
                session.leave_out()
            yield session


def _own(pair: ColumnPair, side: Side) -> str:
    """The own value of one side, typed: a column that the side lacks is null of the other side's type."""
    if pair.field(side) is None:
        return f"if(false, {OTHER[side][0]}.{pair.value}, null)"
    return f"{side[0]}.{pair.value}"
