"""The kinds of checks: what each may be given, and the rule that it stands for."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from catalog import check_images, check_rules
from catalog.check_rules import PARENT, Asked, Rows, by_condition
from lakehouse.decisions import CheckDefinition
from lakehouse.errors import InvalidInputError, NotFoundError, suggest
from lakehouse.lake import Lake
from lakehouse.readers.duck import connect
from lakehouse.references import Head, parse
from lakehouse.resolution import known_name, living_names
from lakehouse.session import names_in
from lakehouse.snapshots import Snapshot
from lakehouse.spans import parse_span
from lakehouse.type_names import type_named

Others = Callable[[Lake, CheckDefinition, Snapshot], dict[str, Snapshot]]
_ANY = 1_000


@dataclass(frozen=True, slots=True)
class Parameter:
    """What a parameter may be."""

    said: str
    """For people: `a number`."""
    fits: Callable[[Any], bool]
    why: Callable[[Any], str] = lambda _value: ""
    """Says, of what does not fit, what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of check."""

    said: str
    """What it asks for, for people."""
    rule: Callable[[Asked, Snapshot], Rows] | None
    """Gives what fails of a state, or of some of its files; None: the kind is about time, see `until`."""
    columns: tuple[int, int]
    """How many columns it takes: the fewest and the most."""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    any_of: tuple[str, ...] = ()
    """At least one of these is required."""
    others: Others = lambda _lake, _definition, _snapshot: {}
    """Opens the other states that it reads."""
    by_row: bool = False
    """Whether each row is judged by itself, so that the rows that came and went are enough."""
    expensive: bool = False
    """Whether looking at a row costs so much that one which was only rewritten is left out, see `Asked.known`."""
    until: Callable[[Asked], Any] | None = None
    """Returns when a state stops to pass."""
    counts: tuple[str, str] = ("row", "rows")
    """What of it fails: one, and many."""


def _number(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**100


_TEXT = Parameter("a text", lambda v: isinstance(v, str) and bool(v))
_BOUND = Parameter("a number, or an ISO date or time", lambda v: _number(v) or isinstance(v, str))
_ROWS = Parameter("a number of rows", lambda v: _number(v) and isinstance(v, int) and v >= 0)
_RATIO = Parameter("a ratio, as 0.9", lambda v: _number(v) and v >= 0)
_SHARE = Parameter("a share from 0 to 1", lambda v: _number(v) and 0 <= v <= 1)
_SPAN = Parameter("a span of time, as 12h or 7d", lambda v: isinstance(v, str) and _parses(parse_span, v, "max_age"))
_PATTERN = Parameter(
    "a regular expression (RE2)",
    lambda v: isinstance(v, str) and not _pattern_error(v),
    lambda v: _pattern_error(v) if isinstance(v, str) else "",
)
_REFERENCE = Parameter("a reference, as vision.photos@latest", lambda v: isinstance(v, str) and _parses(parse, v))
_NAMES = Parameter("a list of column names", lambda v: _is_list(v) and all(isinstance(n, str) for n in v))
_VALUES = Parameter("a list of texts, numbers or booleans", lambda v: _is_list(v) and all(map(_is_scalar, v)))
_TYPES = Parameter(
    "an object of column names and types, as {id: int64}",
    lambda v: isinstance(v, dict) and bool(v) and not _types_error(v),
    lambda v: _types_error(v) if isinstance(v, dict) else "",
)
_FLAG = Parameter("true or false", lambda v: isinstance(v, bool))


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | bool) or _number(value)


def _parses(parser: Callable[..., object], *given: Any) -> bool:
    try:
        parser(*given)
    except InvalidInputError:
        return False
    return True


def _pattern_error(value: str) -> str:
    """Return what is wrong with a pattern, which is its owner's own; nothing when it is one."""
    import duckdb

    con = connect()
    try:
        con.execute("select regexp_full_match('', ?)", [value])
    except duckdb.Error as error:
        return f"{value!r}: {str(error).splitlines()[0].removeprefix('Invalid Input Error: ')}"
    finally:
        con.close()
    return ""


def _types_error(types: Mapping[Any, Any]) -> str:
    for column, kind in types.items():
        if not isinstance(column, str) or not isinstance(kind, str):
            return f"{column!r} and its type are not both texts"
        try:
            type_named(kind, column)
        except InvalidInputError as error:
            return error.message.rstrip(".")
    return ""


def _parent(lake: Lake, definition: CheckDefinition, snapshot: Snapshot) -> dict[str, Snapshot]:
    return {PARENT: _open(lake, definition.parameters["to"], snapshot)}


def _tables(lake: Lake, definition: CheckDefinition, snapshot: Snapshot) -> dict[str, Snapshot]:
    """Open every state that a query may read: whatever in it is a dataset's name, or a reference."""
    found = {}
    known = {name.casefold() for name in living_names(lake.state())}
    for name in names_in(definition.parameters["query"]):
        text = ".".join(name)
        if "@" in text or text.casefold() in known or f"main.{text.casefold()}" in known:
            try:
                found[text.casefold()] = _open(lake, text, snapshot)
            except (InvalidInputError, NotFoundError):  # a column's name perhaps; else DuckDB misses the table
                continue
    return found


def _open(lake: Lake, reference: str, snapshot: Snapshot) -> Snapshot:
    """Open a state that a check names; its own dataset without a selector is the state that is looked at."""
    ref = parse(reference)
    if isinstance(ref.selector, Head):
        name = known_name(lake.state(), ref.name)
        if name is not None and name.key == snapshot.dataset.full_name.casefold():
            return snapshot
    return lake.peek(ref)


KINDS: dict[str, Kind] = {
    "not_null": Kind("columns without nulls", by_condition(check_rules.is_null), (1, _ANY), by_row=True),
    "unique": Kind(
        "columns whose values, taken together, come once", check_rules.repeated, (1, _ANY), counts=("value", "values")
    ),
    "foreign_key": Kind(
        "columns whose values, taken together, another dataset's state has",
        check_rules.without_parent,
        (1, _ANY),
        {"to": _REFERENCE, "to_columns": _NAMES},
        required=("to",),
        others=_parent,
        by_row=True,
    ),
    "accepted_values": Kind(
        "a column with some values only",
        by_condition(check_rules.not_accepted),
        (1, 1),
        {"values": _VALUES},
        required=("values",),
        by_row=True,
    ),
    "range": Kind(
        "a column between two bounds, which count as inside",
        by_condition(check_rules.out_of_range),
        (1, 1),
        {"min": _BOUND, "max": _BOUND},
        any_of=("min", "max"),
        by_row=True,
    ),
    "regex": Kind(
        "a text column that a pattern matches whole",
        by_condition(check_rules.no_match),
        (1, 1),
        {"pattern": _PATTERN},
        required=("pattern",),
        by_row=True,
    ),
    "row_count": Kind(
        "a number of rows, or its ratio to the last version's",
        check_rules.miscounted,
        (0, 0),
        {"min": _ROWS, "max": _ROWS, "min_ratio": _RATIO, "max_ratio": _RATIO},
        any_of=("min", "max", "min_ratio", "max_ratio"),
        counts=("bound", "bounds"),
    ),
    "freshness": Kind(
        "a newest value, or without a column a commit, that is not too old",
        None,
        (0, 1),
        {"max_age": _SPAN},
        required=("max_age",),
        until=check_rules.fresh_until,
    ),
    "schema": Kind(
        "columns of some types; with `exact` no others",
        check_rules.other_schema,
        (0, 0),
        {"types": _TYPES, "exact": _FLAG},
        required=("types",),
        counts=("column", "columns"),
    ),
    "image_decodes": Kind(
        "assets that are images and decode", check_images.undecodable, (0, 0), by_row=True, expensive=True
    ),
    "class_balance": Kind(
        "a column in which no value is too rare or too frequent",
        check_rules.out_of_balance,
        (1, 1),
        {"min_share": _SHARE, "max_share": _SHARE},
        any_of=("min_share", "max_share"),
        counts=("class", "classes"),
    ),
    "sql": Kind(
        "a query that returns no row; the dataset's own name means the state that is looked at",
        check_rules.returned,
        (0, 0),
        {"query": _TEXT},
        required=("query",),
        others=_tables,
        counts=("result row", "result rows"),
    ),
}


def check_kind(definition: CheckDefinition) -> None:
    """Refuse a definition that makes no sense, whatever the data.

    Raises:
        InvalidInputError: an unknown kind (check-kind-unknown), a name that is no name, or columns or parameters that
            the kind does not take or that are missing or malformed (check-invalid).
    """
    name, kind = definition.name, KINDS.get(definition.kind)
    if kind is None:
        raise unknown_kind(definition.kind)
    if not re.fullmatch(r"[\w.\-]{1,100}", name):
        raise _invalid(definition, "the name of a check has letters, digits, `_`, `-` and `.`, at most 100")
    fewest, most = kind.columns
    if not fewest <= len(definition.columns) <= most:
        takes = "no column" if not most else "one column" if most == 1 else "at least one column"
        raise _invalid(definition, f"it takes {takes}, {len(definition.columns)} were given")
    given = definition.parameters
    for parameter, value in given.items():
        known = kind.parameters.get(parameter)
        if known is None:
            takes = ", ".join(kind.parameters) or "none"
            raise _invalid(definition, f"it has no parameter {parameter!r}; it takes {takes}")
        if not known.fits(value):
            why = known.why(value)
            raise _invalid(definition, f"{parameter!r} is not {known.said}" + (f"; {why}" if why else ""))
    missing = [p for p in kind.required if p not in given]
    if missing or (kind.any_of and not any(p in given for p in kind.any_of)):
        raise _invalid(definition, f"it needs {missing[0] if missing else ' or '.join(kind.any_of)}")
    for low, high in (("min", "max"), ("min_ratio", "max_ratio"), ("min_share", "max_share")):
        if low in given and high in given and _is_above(given[low], given[high]):
            raise _invalid(definition, f"{low!r} is above {high!r}, so nothing can pass")


def _is_above(low: Any, high: Any) -> bool:
    """Whether a lower bound is above an upper one; what can't be compared is not, and is refused for its column."""
    try:
        return bool(_placed(low) > _placed(high))
    except TypeError:
        return False


def _placed(bound: Any) -> Any:
    """Return an ISO date or time as that, and other bounds as they are."""
    try:
        return datetime.fromisoformat(bound) if isinstance(bound, str) else bound
    except ValueError:
        return bound


def counted_by(kind: str, count: int) -> str:
    """Return the word for so much of what fails a kind of check: `values`."""
    one, many = KINDS[kind].counts if kind in KINDS else ("row", "rows")
    return one if count == 1 else many


def unknown_kind(name: str) -> InvalidInputError:
    """Return the error for a kind that there is not, or not in this release."""
    return InvalidInputError(
        "check-kind-unknown",
        f"There is no kind of check {name!r}.{suggest(name, list(KINDS))} Kinds: {', '.join(KINDS)}.",
    )


def _invalid(definition: CheckDefinition, what: str) -> InvalidInputError:
    return InvalidInputError(
        "check-invalid",
        f"The check {definition.name!r} ({definition.kind}) can't be used: {what}.",
        check=definition.name,
    )


def jsonable(value: Any) -> Any:
    """Return a parameter as JSON has it: YAML reads unquoted dates as dates."""
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return [jsonable(entry) for entry in value]
    if isinstance(value, dict):
        return {str(name): jsonable(entry) for name, entry in value.items()}
    return value


__all__ = ["KINDS", "Kind", "check_kind", "counted_by", "jsonable", "unknown_kind"]
