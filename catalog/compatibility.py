"""Compatibility: what differs between two schemas, and whom each difference breaks.

Writers are those who go on writing rows of the old schema: a difference breaks them when such a row no longer fits.
What is stored is such a row, too. Readers are those who go on reading the old columns: a difference breaks them when a
column is gone, or may hold what it could not hold before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from lakehouse.decisions import Column, Compatibility
from lakehouse.type_names import type_named

What = Literal["added", "removed", "type", "nullable", "case", "key", "unit", "semantic", "description"]
_INTEGER_DIGITS = {pa.int8(): 3, pa.int16(): 5, pa.int32(): 10, pa.int64(): 19}
_EXACT_BITS = {pa.float32(): 24, pa.float64(): 53}


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that differs, in one column."""

    column: str
    """The column's name; of a key, its columns."""
    what: What
    old: str
    new: str
    breaks_readers: bool
    breaks_writers: bool

    @property
    def breaks(self) -> bool:
        """Whether it breaks anybody."""
        return self.breaks_readers or self.breaks_writers

    def allowed(self, mode: Compatibility) -> bool:
        """Whether a compatibility mode allows it."""
        return mode == "NONE" or not (self.breaks_writers or (self.breaks_readers and mode == "FULL"))

    def __str__(self) -> str:
        whom = " and ".join(w for w, b in (("readers", self.breaks_readers), ("writers", self.breaks_writers)) if b)
        said = {
            "added": f"added as {self.new}",
            "removed": f"removed, was {self.old}",
        }.get(self.what, f"{self.what} {self.old or '(none)'} -> {self.new or '(none)'}")
        return f"{self.column}: {said}" + (f" (breaks {whom})" if whom else "")


def differences(
    old: Sequence[Column], new: Sequence[Column], old_key: Sequence[str] = (), new_key: Sequence[str] = ()
) -> tuple[Difference, ...]:
    """Return what differs between two schemas; the order of columns does not count, since columns go by name."""
    found = list(_columns_differ(old, new))
    if [k.casefold() for k in old_key] != [k.casefold() for k in new_key]:  # another spelling is said of the column
        was, now = ", ".join(old_key), ", ".join(new_key)
        # Whoever merges or joins by the key is told apart rows wrongly; a first key only adds a promise to writers.
        found.append(Difference(now or was, "key", was, now, bool(old_key), True))
    return tuple(found)


def _columns_differ(old: Sequence[Column], new: Sequence[Column]) -> Iterator[Difference]:
    before, after = {c.name: c for c in old}, {c.name: c for c in new}
    folded = {c.name.casefold(): c.name for c in new}
    for name, column in before.items():
        if name in after:
            yield from _column_differs(column, after[name])
        elif (other := folded.get(name.casefold())) is not None:
            yield Difference(name, "case", name, other, True, True)
            yield from _column_differs(column, after[other])
        else:
            yield Difference(name, "removed", _described(column), "", True, True)
    known = {name.casefold() for name in before}
    for name, column in after.items():
        if name.casefold() not in known:
            yield Difference(name, "added", "", _described(column), False, not column.nullable)


def _column_differs(old: Column, new: Column) -> Iterator[Difference]:
    was, now = type_named(old.type, old.name), type_named(new.type, new.name)
    if was != now:
        yield Difference(old.name, "type", old.type, new.type, not holds(was, now), not holds(now, was))
    if old.nullable != new.nullable:
        words = ["nullable" if c.nullable else "not null" for c in (old, new)]
        yield Difference(old.name, "nullable", words[0], words[1], new.nullable, old.nullable)
    for what in ("unit", "semantic", "description"):
        said, says = getattr(old, what), getattr(new, what)
        if said != says:
            other_meaning = what == "unit" and bool(said)
            yield Difference(old.name, what, said, says, other_meaning, other_meaning)


def _described(column: Column) -> str:
    return column.type + ("" if column.nullable else " not null")


def holds(target: pa.DataType, source: pa.DataType) -> bool:
    """Whether every value of one plain type can be stored as another and read back the same.

    Integers and floats in wider ones, integers in floats that have all their digits, decimals and integers in decimals with
    room for them, a date in a timestamp without zone (its midnight); lists, maps and structs by what they hold, where a
    struct may gain nullable fields.
    """
    t = pa.types
    if target == source:
        return True
    if t.is_list(target) and t.is_list(source):
        return _field_holds(target.value_field, source.value_field)
    if t.is_map(target) and t.is_map(source):
        return holds(target.key_type, source.key_type) and _field_holds(target.item_field, source.item_field)
    if t.is_struct(target) and t.is_struct(source):
        have, find = {f.name: f for f in source}, {f.name: f for f in target}
        return have.keys() <= find.keys() and all(
            _field_holds(f, have[name]) if name in have else f.nullable for name, f in find.items()
        )
    if t.is_date(source) and t.is_timestamp(target):
        return bool(target.tz is None)
    return _number_holds(target, source)


def _number_holds(target: pa.DataType, source: pa.DataType) -> bool:
    t = pa.types
    if t.is_integer(target):
        return bool(t.is_integer(source) and source.bit_width <= target.bit_width)
    if t.is_floating(target):
        if t.is_floating(source):
            return bool(source.bit_width <= target.bit_width)
        return bool(t.is_integer(source) and source.bit_width <= _EXACT_BITS[target])
    if t.is_decimal(target):
        digits = _digits(source)
        return digits is not None and digits[0] <= target.precision - target.scale and digits[1] <= target.scale
    return False


def _digits(kind: Any) -> tuple[int, int] | None:
    """Return the decimal digits before and after the point of an exact number; None for other types."""
    if pa.types.is_decimal(kind):
        return kind.precision - kind.scale, kind.scale
    return (_INTEGER_DIGITS[kind], 0) if kind in _INTEGER_DIGITS else None


def _field_holds(target: pa.Field, source: pa.Field) -> bool:
    return (target.nullable or not source.nullable) and holds(target.type, source.type)
