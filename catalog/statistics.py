"""Statistics of a state's columns: two passes over the data, once for each table version, then kept as facts.

Histograms have bins whose width is a power of two and whose edges are multiples of it, so that two of them share a
histogram exactly: neighbouring bins of the finer one are added up.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa

from catalog.check_rows import plain
from lakehouse.errors import AccessDeniedError
from lakehouse.facts import SCHEMAS
from lakehouse.lake import Lake
from lakehouse.readers import relation
from lakehouse.readers.duck import close, identifier, literal, reading
from lakehouse.snapshots import Snapshot
from lakehouse.type_names import type_text

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
MOST_TOP = 10
_BINS = 64
"""Bins of a histogram, at most; half as many at least, unless the values are few or equal."""
_TOGETHER = 50
"""Columns of one pass, which bounds its memory: so many sketches, and so many expressions of one query."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Rows by the value of a column, of times in seconds since 1970, of texts by their length in characters."""

    exponent: int
    """Bins are 2**exponent wide."""
    bins: Mapping[int, int]
    """Rows by the bin's number n, which has the values from n * 2**exponent up to the next bin's."""

    def coarser(self, exponent: int) -> Histogram:
        """Return the same with wider bins; exact, since each narrow bin lies within one wide bin."""
        bins: dict[int, int] = {}
        for number, rows in self.bins.items():
            wide = number >> (exponent - self.exponent)
            bins[wide] = bins.get(wide, 0) + rows
        return Histogram(exponent, bins)


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnStats:
    """What is known of one column of a state. NaN and infinities count as rows, and as nothing else."""

    column: str
    type: str
    rows: int
    nulls: int
    distinct: int | None = None
    """Distinct values, approximately (HyperLogLog); None of nested columns, as all that follows."""
    min: Any = None
    """As JSON has it, as is `max`: times are ISO texts."""
    max: Any = None
    mean: float | None = None
    """Of numbers, of booleans the share of true; None for other types."""
    std: float | None = None
    """Population standard deviation."""
    quantiles: tuple[tuple[float, Any], ...] = ()
    """(share, value) for `QUANTILES`, approximately (t-digest), of numbers and times."""
    top: tuple[tuple[Any, int], ...] = ()
    """The most frequent values of texts, booleans and integers, and their rows: which ones is approximate."""
    histogram: Histogram | None = None
    length_min: int | None = None
    """Of texts, in characters, as are the other two."""
    length_max: int | None = None
    length_mean: float | None = None

    @property
    def null_share(self) -> float:
        """Share of the rows that are null; 0 of none."""
        return self.nulls / self.rows if self.rows else 0.0


def statistics(lake: Lake, reference: str) -> list[ColumnStats]:
    """Return the statistics of a state's columns, in their order; they are computed once and then read from facts.

    Raises:
        NotFoundError, InvalidInputError, FormatError: as `Lake.read`.
        StorageError: a data file is gone or can't be read.
    """
    return statistics_of(lake, lake.read(reference))


def statistics_of(lake: Lake, snapshot: Snapshot) -> list[ColumnStats]:
    """Return the statistics of an opened state, as `statistics`."""
    stored = _stored(lake, snapshot)
    if stored is not None:
        return stored
    found = _measured(snapshot)
    now, own = datetime.now(UTC), {"dataset_id": snapshot.dataset.dataset_id, "table_version": snapshot.table_version}
    rows = [_row(stats) | own | {"position": n, "at": now} for n, stats in enumerate(found)]
    transaction = f"stats-{snapshot.dataset.dataset_id}-{snapshot.table_version}"
    with suppress(AccessDeniedError):  # who may only read computes them without a record
        lake.facts.append("column_stats", pa.Table.from_pylist(rows, schema=SCHEMAS["column_stats"]), (transaction, 0))
    return found


# -- measuring --------------------------------------------------------------------------------------------------------


def _measured(snapshot: Snapshot) -> list[ColumnStats]:
    found: list[ColumnStats] = []
    for start in range(0, len(snapshot.schema), _TOGETHER):
        columns = [snapshot.schema.field(i) for i in range(start, min(start + _TOGETHER, len(snapshot.schema)))]
        con = relation.connect()
        try:
            with reading(snapshot.reference):
                source = relation.source_sql(con, snapshot, [f.name for f in columns])
                first = _first(con, source, columns)
                found += _second(con, source, columns, first)
        finally:
            close(con)
    return found


def _first(con: Any, source: str, columns: Sequence[pa.Field]) -> list[dict[str, Any]]:
    """Return the aggregates that need to know nothing before, by column."""
    terms: list[str] = ["count(*)"]
    asked: list[tuple[int, str]] = []
    for position, field in enumerate(columns):
        for name, term in _aggregates(field).items():
            asked.append((position, name))
            terms.append(term)
    (row,) = con.sql(f"select {', '.join(terms)} from ({source})").fetchall()
    found: list[dict[str, Any]] = [{"rows": row[0]} for _ in columns]
    for (position, name), value in zip(asked, row[1:], strict=True):
        found[position][name] = value
    return found


def _aggregates(field: pa.Field) -> dict[str, str]:
    own, kind = identifier(field.name), field.type
    finite = f"case when isfinite({own}) then {own} end" if _has_infinity(kind) else own
    terms = {"filled": f"count({own})"}
    if pa.types.is_nested(kind):
        return terms
    terms |= {"distinct": f"approx_count_distinct({own})"}
    if pa.types.is_binary(kind):
        return terms
    terms |= {"min": f"min({finite})", "max": f"max({finite})"}
    if _is_number(kind) or pa.types.is_boolean(kind):
        value = (
            f"cast({finite} as double)" if not pa.types.is_boolean(kind) else f"cast(cast({own} as tinyint) as double)"
        )
        terms |= {"mean": f"avg({value})", "std": f"stddev_pop({value})"}
    if _is_number(kind) or _is_time(kind):
        terms["quantiles"] = f"approx_quantile({finite}, {list(QUANTILES)})"
    if pa.types.is_string(kind):
        terms |= {f"length_{f}": f"{aggregate}(length({own}))" for f, aggregate in _LENGTHS.items()}
    if pa.types.is_string(kind) or pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        terms["top"] = f"approx_top_k({own}, {MOST_TOP})"
    return terms


_LENGTHS = {"min": "min", "max": "max", "mean": "avg"}


def _second(con: Any, source: str, columns: Sequence[pa.Field], first: list[dict[str, Any]]) -> list[ColumnStats]:
    """Return the statistics, after a pass that counts the bins and the frequent values that the first one chose."""
    terms: list[str] = ["count(*)"]
    exponents: list[int | None] = []
    for field, known in zip(columns, first, strict=True):
        own = identifier(field.name)
        exponent = _exponent(*_bounds(field.type, known))
        exponents.append(exponent)
        if exponent is not None:
            number = f"cast(floor({_position(field)} / {literal(2.0**exponent)}) as bigint)"
            terms.append(f"histogram({number})")
        terms += [f"count(*) filter (where {own} = {literal(value)})" for value in known.get("top") or ()]
    (row,) = con.sql(f"select {', '.join(terms)} from ({source})").fetchall()
    counted, found = iter(row[1:]), []
    for field, known, exponent in zip(columns, first, exponents, strict=True):
        bins = None if exponent is None else Histogram(exponent, next(counted) or {})
        top = sorted(((value, next(counted)) for value in known.get("top") or ()), key=lambda pair: -pair[1])
        found.append(_stats(field, known, bins, top))
    return found


def _stats(
    field: pa.Field, known: Mapping[str, Any], bins: Histogram | None, top: Sequence[tuple[Any, int]]
) -> ColumnStats:
    return ColumnStats(
        column=field.name,
        type=type_text(field.type),
        rows=known["rows"],
        nulls=known["rows"] - known["filled"],
        # The estimate may be above what there can be.
        distinct=None if known.get("distinct") is None else min(known["distinct"], known["filled"]),
        min=plain(known.get("min")),
        max=plain(known.get("max")),
        mean=_finite(known.get("mean")),
        std=_finite(known.get("std")),
        quantiles=tuple(zip(QUANTILES, map(plain, known.get("quantiles") or ()), strict=False)),
        top=tuple((plain(value), rows) for value, rows in top),
        histogram=bins,
        length_min=known.get("length_min"),
        length_max=known.get("length_max"),
        length_mean=known.get("length_mean"),
    )


def _position(field: pa.Field) -> str:
    """Return SQL for where a value lies on the axis of its column's histogram; null where it lies nowhere."""
    own, kind = identifier(field.name), field.type
    if pa.types.is_string(kind):
        return f"cast(length({own}) as double)"
    value = f"epoch({own})" if _is_time(kind) else f"cast({own} as double)"
    return f"case when isfinite({own}) then {value} end" if _has_infinity(kind) else value


def _bounds(kind: pa.DataType, known: Mapping[str, Any]) -> tuple[float, float] | tuple[None, None]:
    """Return the ends of a column's axis; None without a value, or for types without an axis."""
    low, high = ("length_min", "length_max") if pa.types.is_string(kind) else ("min", "max")
    if known.get(low) is None or not (_is_number(kind) or _is_time(kind) or pa.types.is_string(kind)):
        return None, None
    return _seconds(known[low]), _seconds(known[high])


def _seconds(value: Any) -> float:
    """Return a number as it is, a date or time as seconds since 1970."""
    if isinstance(value, date):
        time = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)  # noqa: DTZ001
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    return float(value)


def _exponent(low: float | None, high: float | None) -> int | None:
    """Return the width of bins, as a power of two, with which the range has at most `_BINS` of them.

    Bins are numbered from zero, so their width is also such that the numbers stay below 2**52, where doubles are exact.
    """
    if low is None or high is None:
        return None
    widest = max(high - low, max(abs(low), abs(high), 2.0**-900) * 2.0**-46)
    return None if math.isinf(widest) else math.ceil(math.log2(widest / (_BINS - 1)))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_time(kind: pa.DataType) -> bool:
    return bool(pa.types.is_date(kind) or pa.types.is_timestamp(kind))


def _has_infinity(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or _is_time(kind))


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


# -- facts ------------------------------------------------------------------------------------------------------------

_PLAIN = ("rows", "nulls", "distinct", "mean", "std", "length_min", "length_max", "length_mean", "type")


def _row(stats: ColumnStats) -> dict[str, Any]:
    histogram = stats.histogram
    values: dict[str, Any] = {
        "min": stats.min,
        "max": stats.max,
        "quantiles": stats.quantiles or None,
        "top": stats.top or None,
        "histogram": None
        if histogram is None
        else {"exponent": histogram.exponent, "bins": sorted(histogram.bins.items())},
    }
    texts = {name: None if value is None else json.dumps(value, ensure_ascii=False) for name, value in values.items()}
    return texts | {name: getattr(stats, name) for name in _PLAIN} | {"column_name": stats.column}


def _stored(lake: Lake, snapshot: Snapshot) -> list[ColumnStats] | None:
    facts = lake.facts.snapshot("column_stats")
    if facts is None:
        return None
    where = f"dataset_id = {literal(snapshot.dataset.dataset_id)} and table_version = {snapshot.table_version}"
    rows = {row["position"]: row for row in facts.to_arrow(where=where).to_pylist()}
    return [_loaded(row) for _, row in sorted(rows.items())] or None


def _loaded(row: Mapping[str, Any]) -> ColumnStats:
    texts = {n: None if row[n] is None else json.loads(row[n]) for n in ("min", "max", "quantiles", "top", "histogram")}
    bins = texts["histogram"]
    return ColumnStats(
        **{name: row[name] for name in _PLAIN},
        column=row["column_name"],
        min=texts["min"],
        max=texts["max"],
        quantiles=tuple((share, value) for share, value in texts["quantiles"] or ()),
        top=tuple((value, rows) for value, rows in texts["top"] or ()),
        histogram=None if bins is None else Histogram(bins["exponent"], dict(bins["bins"])),
    )


__all__ = ["MOST_TOP", "QUANTILES", "ColumnStats", "Histogram", "statistics", "statistics_of"]
