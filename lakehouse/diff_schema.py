"""What a diff compares: the columns of two schemas, paired by name, and when two values count as equal.

Names are paired ignoring case, as Delta and DuckDB do. Values are compared after widening: integers with integers,
floats with floats, decimals with decimals and integers, a date with a timestamp without zone (its midnight), integers
with floats by their exact mathematical value, a decimal of at most 15 digits with a double through the nearest
double. Nested values are compared whole, a field that one side lacks being null. Other types are not comparable: such
a value differs from every value of the other type, and only null equals null. A missing column is null in every row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from lakehouse.readers.duck import identifier

Side = Literal["old", "new"]
OTHER: dict[Side, Side] = {"old": "new", "new": "old"}

_INTEGER_DIGITS = {pa.int8(): 3, pa.int16(): 5, pa.int32(): 10, pa.int64(): 19}
_MAX_DECIMAL_DIGITS = 38
_DOUBLE_DIGITS = 15
"""Decimals of so many digits map one to one onto doubles (C's DBL_DIG)."""


class ColumnChange(NamedTuple):
    """A column that both schemas have, under another type or another spelling."""

    name: str
    """Name in the new schema."""
    old_type: str
    new_type: str
    old_name: str
    """Name in the old schema: the same but for its case."""


@dataclass(frozen=True, slots=True)
class SchemaDiff:
    """What changed in the columns; true when anything did."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[ColumnChange, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; types are Arrow's names."""
        return {
            "added": list(self.added),
            "removed": list(self.removed),
            "changed": [c._asdict() for c in self.changed],
        }


@dataclass(frozen=True, slots=True)
class ColumnPair:
    """One compared column: what stands for it on either side. At least one side has it."""

    number: int
    """Position among all pairs; names the column in the SQL of a comparison, whatever it is called in the tables."""
    old: pa.Field | None
    new: pa.Field | None

    @property
    def name(self) -> str:
        """The column's name: as the new side spells it, where it has the column."""
        name: str = self._described("new").name
        return name

    def field(self, side: Side) -> pa.Field | None:
        """Return the field on one side; None when that side lacks the column."""
        return self.old if side == "old" else self.new

    def type(self, side: Side) -> pa.DataType:
        """Return the type on one side; a column that it lacks is null of the other side's type."""
        return self._described(side).type

    def _described(self, side: Side) -> pa.Field:
        own = self.field(side)
        return self.field(OTHER[side]) if own is None else own

    @property
    def retyped(self) -> bool:
        """Whether both sides have the column, under different types."""
        return self.old is not None and self.new is not None and self.old.type != self.new.type

    @property
    def widened(self) -> bool:
        """Whether every value keeps its meaning when a file of one side is read with the other side's schema."""
        return self.old is None or self.new is None or _widens(self.old.type, self.new.type)

    def projection(self, side: Side) -> list[str]:
        """Return SELECT items of one side: `c<n>`, the value to compare, and for a retyped column `v<n>`, its own value."""
        field, other = self.field(side), self.field(OTHER[side])
        if field is None:
            return [f"null as c{self.number}"]
        own = identifier(field.name)
        if not self.retyped or other is None:
            return [f"{own} as c{self.number}"]
        return [f"{_comparable(own, field.type, other.type, side)} as c{self.number}", f"{own} as v{self.number}"]

    @property
    def value(self) -> str:
        """The name, in a projection, of the column's own value."""
        return f"v{self.number}" if self.retyped else f"c{self.number}"


def pair_columns(old: pa.Schema, new: pa.Schema) -> tuple[ColumnPair, ...]:
    """Pair the columns of two schemas by name, ignoring case: in the new order, then what only the old one has."""
    before = {field.name.casefold(): field for field in old}
    after = {field.name.casefold(): field for field in new}
    folded = dict.fromkeys([*after, *before])
    return tuple(ColumnPair(number, before.get(name), after.get(name)) for number, name in enumerate(folded))


def schema_diff(pairs: Sequence[ColumnPair]) -> SchemaDiff:
    """Return what the pairs say about the change of the schema."""
    return SchemaDiff(
        added=tuple(p.name for p in pairs if p.old is None),
        removed=tuple(p.name for p in pairs if p.new is None),
        changed=tuple(
            ColumnChange(p.new.name, str(p.old.type), str(p.new.type), p.old.name)
            for p in pairs
            if p.old is not None and p.new is not None and (p.retyped or p.old.name != p.new.name)
        ),
    )


def one_sided_names(old: pa.Schema, new: pa.Schema) -> set[str]:
    """Return the case-folded names of columns and nested fields that only one of two schemas has."""
    return {path[-1] for path in set(_paths(old)) ^ set(_paths(new))}


def file_names(schema: pa.Schema) -> set[str]:
    """Return the case-folded names of all columns and nested fields of a file's schema."""
    return {path[-1] for path in _paths(schema)}


def _paths(fields: Any, parent: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for field in fields:
        path = (*parent, field.name.casefold())
        yield path
        # Fields below lists and maps are children of the type as well, under the names that Arrow gives them.
        yield from _paths([field.type.field(n) for n in range(field.type.num_fields)], path)


def _widens(a: pa.DataType, b: pa.DataType) -> bool:
    """Whether DuckDB's implicit cast to a common type keeps all values of both types apart."""
    t = pa.types
    if a == b or (t.is_floating(a) and t.is_floating(b)):
        return True
    if (digits_a := _digits(a)) and (digits_b := _digits(b)):
        return sum(map(max, digits_a, digits_b)) <= _MAX_DECIMAL_DIGITS
    if t.is_struct(a) and t.is_struct(b):
        return _fields_widen({f.name: f.type for f in a}, {f.name: f.type for f in b})
    if t.is_list(a) and t.is_list(b):
        return _widens(a.value_type, b.value_type)
    if t.is_map(a) and t.is_map(b):
        return _widens(a.key_type, b.key_type) and _widens(a.item_type, b.item_type)
    naive = {pa.date32(), pa.timestamp("us")}
    return {a, b} == naive or any(
        t.is_decimal(x) and x.precision <= _DOUBLE_DIGITS and t.is_float64(y) for x, y in ((a, b), (b, a))
    )


def _fields_widen(a: dict[str, pa.DataType], b: dict[str, pa.DataType]) -> bool:
    if len({name.casefold() for name in a | b}) < len(a | b):
        return False  # spelled differently: no cast pairs such fields
    return all(_widens(a[name], b[name]) for name in a.keys() & b.keys())


def _digits(kind: pa.DataType) -> tuple[int, int] | None:
    """Return the decimal digits before and after the point of an exact numeric type; None for others."""
    if pa.types.is_decimal(kind):
        return kind.precision - kind.scale, kind.scale
    return (_INTEGER_DIGITS[kind], 0) if kind in _INTEGER_DIGITS else None


def _comparable(column: str, own: pa.DataType, other: pa.DataType, side: Side) -> str:
    """Return SQL that is equal on both sides exactly where the values are."""
    t = pa.types
    if _widens(own, other):
        return column
    # An integer beyond 2^53 may have no double of its own: what rounding takes away is compared too.
    if t.is_integer(own) and t.is_floating(other):
        form = f"{{'near': {column}::double, 'rest': {column}::hugeint - {column}::double::hugeint}}"
    elif t.is_floating(own) and t.is_integer(other):
        form = f"{{'near': {column}::double, 'rest': 0::hugeint}}"
    else:
        form = f"'{side}'"
    return f"case when {column} is not null then {form} end"
