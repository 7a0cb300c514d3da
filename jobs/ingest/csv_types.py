"""Types of text: which type a column of strings has, and how strings become typed values without losing anything.

What counts as a value of a type is defined here once, by the patterns below, and Arrow only converts what matched.

Inference looks at every non-null value of a column. A type is chosen when at least 90 % of them have its form:

- integer: plain digits, maybe a minus sign. One leading zero or plus sign in the column ("0171", "+49...") makes it
  text: those are codes, and their digits matter. Values beyond 64 bits count, and are rejected later as `overflow`;
  when they are more than a tenth of the column, it holds identifiers and stays text.
- number: also with a decimal mark or exponent, and `nan`/`inf`. Always a double; declare `decimal(p,s)` for money.
- boolean: true or false in any case. 0 and 1 are integers.
- date: YYYY-MM-DD. Timestamp: a date with a time of up to microseconds, with `T` or a blank between. With a zone
  (`Z`, `+01:00`) it becomes UTC, without one it has none; a column that mixes both is text.

Everything else is text, as is a column without values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from math import isinf

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.schema import counted_exactly

MOSTLY = 0.90
"""Share of the values that must have the form of a type for it to be chosen."""
WIDE_SHARE = 0.10
"""Share of integers beyond 64 bits from which on a column is text."""
INT64_DIGITS = 18
"""Any integer of so many characters fits 64 bits."""

_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = r"[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?"
_INTEGER_FORM = r"^[-+]?[0-9]+$"
_WHOLE_FORM = r"^[-+]?[0-9]+(\.0*)?$"
_NUMBER_FORM = r"(?i)^[-+]?(([0-9]+\.?[0-9]*|\.[0-9]+)(e[-+]?[0-9]+)?|nan|inf|infinity)$"
_NOT_FINITE_FORM = r"(?i)^[-+]?[ni]"
_CODE_FORM = r"^(\+|-?0[0-9])"
_BOOLEAN_FORM = r"(?i)^(true|false)$"
_DATE_FORM = f"^{_DATE}$"
_TIMESTAMP_FORM = f"^{_DATE}([ T]{_TIME})?$"
_ZONED_FORM = f"^{_DATE}[ T]{_TIME}(Z|[-+][0-9]{{2}}(:?[0-9]{{2}})?)$"
_COMMA_NUMBER_FORM = r"^[-+]?[0-9]+,[0-9]+$"

# A tuple, because pa.array would import pandas along with this module.
_NULL_WORDS = (
    "",
    "NA",
    "N/A",
    "n/a",
    "na",
    "#N/A",
    "NULL",
    "Null",
    "null",
    "\\N",
    "None",
    "none",
    "-",
    "--",
    "?",
    ".",
    "missing",
)


def matches(text: pa.StringArray, form: str) -> pa.BooleanArray:
    """Return which values match a pattern; null where the value is null."""
    return pc.match_substring_regex(text, form)


@dataclass(slots=True)
class Profile:
    """Counts of the forms of a column's values, over a whole file. `decimal` is the decimal mark."""

    decimal: str = "."
    values: int = 0
    integers: int = 0
    """Integer form, whatever their size."""
    wide_integers: int = 0
    """Integers beyond 64 bits."""
    whole: int = 0
    """Decimals without a fraction, such as `-5.0`."""
    numbers: int = 0
    """Number form, the above included."""
    finite: int = 0
    wide_numbers: int = 0
    """Numbers beyond a double."""
    codes: int = 0
    """Numbers with a leading zero or a plus sign."""
    booleans: int = 0
    dates: int = 0
    timestamps: int = 0
    """Timestamps without zone, dates included."""
    zoned: int = 0
    comma_numbers: int = 0
    null_words: Counter[str] = field(default_factory=Counter)
    """Unspecified values that often stand for null, and how many cells are such."""

    def update(self, cells: pa.StringArray) -> None:
        """Count the values of one more batch."""
        text = cells.drop_null()
        if not len(text):
            return
        self.values += len(text)
        text = pc.ascii_trim_whitespace(text)
        dotted = _with_dots(text, self.decimal)
        is_number = matches(dotted, _NUMBER_FORM)
        self._count_numbers(dotted.filter(is_number))
        if len(rest := text.filter(pc.invert(is_number))):
            self._count_others(rest)

    def _count_others(self, text: pa.StringArray) -> None:
        self._count_words(text.filter(pc.is_in(text, pa.array(_NULL_WORDS))))
        self.booleans += _count(text, _BOOLEAN_FORM)
        text = text.filter(matches(text, r"^[-+0-9]"))
        if not len(text):
            return
        if self.decimal == ".":
            self.comma_numbers += _count(text, _COMMA_NUMBER_FORM)
        self.dates += _count(text, _DATE_FORM)
        self.timestamps += _count(text, _TIMESTAMP_FORM)
        self.zoned += _count(text, _ZONED_FORM)

    def _count_numbers(self, numbers: pa.StringArray) -> None:
        if not len(numbers):
            return
        self.numbers += len(numbers)
        is_integer = matches(numbers, _INTEGER_FORM)
        integers, others = numbers.filter(is_integer), numbers.filter(pc.invert(is_integer))
        self.integers += len(integers)
        self.codes += _count(numbers, _CODE_FORM)
        long = integers.filter(pc.greater(pc.utf8_length(integers), INT64_DIGITS))
        self.wide_integers += sum(map(_beyond_int64, long.to_pylist()))
        finite = others.filter(pc.invert(matches(others, _NOT_FINITE_FORM)))
        if len(finite) < len(others):
            self._count_words(others.filter(matches(others, "(?i)^nan$")))
        self.finite += len(integers) + len(finite)
        self.whole += _count(finite, _WHOLE_FORM)
        self.wide_numbers += pc.sum(pc.is_inf(pc.cast(finite, pa.float64()))).as_py() or 0

    def _count_words(self, text: pa.StringArray) -> None:
        self.null_words.update({pair["values"]: pair["counts"] for pair in pc.value_counts(text).to_pylist()})

    def null_word(self, misfits: int) -> str | None:
        """Return the word that may stand for null and is (nearly) all of so many values that do not fit, if one is."""
        [(word, count)] = self.null_words.most_common(1) or [("", 0)]
        return word if count >= MOSTLY * misfits > 0 else None

    def fitting(self, target: pa.DataType) -> int:
        """Return how many values can be read as `target`; an upper bound, since details are left to `convert`."""
        t = pa.types
        if t.is_integer(target):
            return self.integers - self.wide_integers + self.whole
        if t.is_floating(target) or t.is_decimal(target):
            return self.numbers - self.wide_numbers
        if t.is_boolean(target):
            return self.booleans + self.integers
        if t.is_date(target):
            return self.dates
        if t.is_timestamp(target):
            return self.zoned if target.tz else self.timestamps
        return self.values

    def infer(self) -> pa.DataType:
        """Return the type of the column, see the module's text."""
        need = MOSTLY * self.values
        if self.finite and self.numbers >= need and not self.codes:
            if self.wide_integers > WIDE_SHARE * self.numbers:
                return pa.string()
            # A number beyond a double says nothing about whether its column has fractions.
            return pa.int64() if self.integers + self.wide_numbers == self.numbers else pa.float64()
        if self.booleans and self.booleans >= need:
            return pa.bool_()
        if self.timestamps and self.timestamps >= need:
            return pa.date32() if self.dates == self.timestamps else pa.timestamp("us")
        if self.zoned and self.zoned >= need:
            return pa.timestamp("us", "UTC")
        return pa.string()

    def share(self, target: pa.DataType) -> str:
        """Return the share of the values that have the form of `target`, for people: `38 of 40 values (95.0 %)`."""
        forms = self.numbers if pa.types.is_integer(target) or pa.types.is_floating(target) else self.fitting(target)
        return f"{forms} of {self.values} values ({100 * forms / max(self.values, 1):.1f} %)"


def readable(target: pa.DataType) -> bool:
    """Whether `convert` can read text as `target`."""
    t = pa.types
    return _numeric(target) or bool(
        t.is_string(target) or t.is_boolean(target) or t.is_date(target) or t.is_timestamp(target)
    )


def convert(cells: pa.StringArray, target: pa.DataType, decimal: str = ".") -> tuple[pa.Array, dict[int, str]]:
    """Convert text to `target`; what can't be converted exactly is null in the result and named.

    Blanks around numbers, booleans and times are ignored. A declared integer may have a plus sign, leading zeros or a
    fraction of zeros (`-5.0`), a declared boolean may be 1 or 0.

    Returns:
        The typed array, and row -> code of the rows that do not fit: `type_mismatch` (another form, or no such day)
        or `overflow` (the right form, but beyond the range or precision of the type).
    """
    if pa.types.is_string(target):
        return cells, {}
    text = _with_dots(pc.ascii_trim_whitespace(cells), decimal) if _numeric(target) else pc.ascii_trim_whitespace(cells)
    fits = matches(text, _form(target))
    misfits = dict.fromkeys(_rows(pc.invert(fits)), "type_mismatch")
    if misfits:
        if pa.types.is_integer(target):
            misfits.update(dict.fromkeys(_beyond_double(text, fits), "overflow"))
        text = pc.if_else(fits, text, None)
    if pa.types.is_integer(target) and pc.any(matches(text, r"[+.]")).as_py():
        text = pc.replace_substring_regex(text, r"^\+|\.0*$", "")
    array, failed = cast_rows(text, target)
    misfits.update(dict.fromkeys(failed, "overflow" if _numeric(target) else "type_mismatch"))
    if pa.types.is_floating(target):
        inexact = list(_inexact(text, array))
        misfits.update(dict.fromkeys(inexact, "overflow"))
        array = without(array, inexact)
    return array, dict(sorted(misfits.items()))


def cast_rows(array: pa.Array, target: pa.DataType) -> tuple[pa.Array, list[int]]:
    """Cast safely; return the result with null for the rows that could not be cast, and those rows.

    The failing rows are found by halving, so that a batch with few of them costs few casts.
    """
    failed: list[int] = []
    array = counted_exactly(array, target)

    def attempt(start: int, length: int) -> Iterator[pa.Array]:
        part = array.slice(start, length)
        if pa.types.is_nested(array.type) and length < len(array):
            part = part.take(pa.array(range(length), pa.int64()))  # a slice is cast with all that lies under it
        try:
            yield pc.cast(part, target)
        except pa.ArrowInvalid:
            if length == 1:
                failed.append(start)
                yield pa.nulls(1, target)
            else:
                yield from attempt(start, length // 2)
                yield from attempt(start + length // 2, length - length // 2)

    pieces = list(attempt(0, len(array)))
    return pieces[0] if len(pieces) == 1 else pa.concat_arrays(pieces), failed


def without(array: pa.Array, rows: list[int]) -> pa.Array:
    """Return `array` with null in `rows`."""
    if not rows:
        return array
    mask = pc.is_in(pa.array(range(len(array)), pa.int64()), pa.array(rows, pa.int64()))
    return pc.if_else(mask, pa.scalar(None, array.type), array)


def _inexact(text: pa.StringArray, numbers: pa.Array) -> Iterator[int]:
    """Yield rows whose number became infinite, or whose integer has more digits than the float can hold."""
    for row in _rows(pc.and_(pc.is_inf(numbers), pc.invert(matches(text, _NOT_FINITE_FORM)))):
        yield row
    limit = 7 if pa.types.is_float32(numbers.type) else 15
    for row in _rows(pc.and_(pc.greater(pc.utf8_length(text), limit), matches(text, _INTEGER_FORM))):
        value = numbers[row].as_py()
        if not isinf(value) and Decimal(text[row].as_py()) != Decimal(value):
            yield row


def _beyond_int64(digits: str) -> bool:
    significant = digits.lstrip("+-0")
    if len(significant) > INT64_DIGITS + 1:
        return True
    return int(significant or "0") > 2**63 - (not digits.startswith("-"))


def _beyond_double(text: pa.StringArray, fits: pa.BooleanArray) -> list[int]:
    """Return the rows outside `fits` that are finite numbers too large for any of our number types (`1e400`)."""
    number = pc.and_(matches(text, _NUMBER_FORM), pc.invert(matches(text, _NOT_FINITE_FORM)))
    rows = _rows(pc.and_(number, pc.invert(fits)))
    return [row for row in rows if isinf(float(text[row].as_py()))]


def _form(target: pa.DataType) -> str:
    t = pa.types
    if t.is_integer(target):
        return _WHOLE_FORM
    if t.is_floating(target):
        return _NUMBER_FORM
    if t.is_decimal(target):
        return r"(?i)^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[-+]?[0-9]+)?$"
    if t.is_boolean(target):
        return r"(?i)^(true|false|1|0)$"
    if t.is_date(target):
        return _DATE_FORM
    return _ZONED_FORM if target.tz else _TIMESTAMP_FORM


def _numeric(target: pa.DataType) -> bool:
    t = pa.types
    return bool(t.is_integer(target) or t.is_floating(target) or t.is_decimal(target))


def _with_dots(text: pa.StringArray, decimal: str) -> pa.StringArray:
    """Turn decimal commas into dots; a dot becomes something that is in no number, so that 1.234,5 is none."""
    if decimal == ".":
        return text
    return pc.replace_substring(pc.replace_substring(text, ".", "_"), decimal, ".")


def _count(text: pa.StringArray, form: str) -> int:
    return pc.sum(matches(text, form)).as_py() or 0


def _rows(mask: pa.BooleanArray) -> list[int]:
    return pc.indices_nonzero(pc.fill_null(mask, False)).to_pylist()  # type: ignore[no-any-return]
