"""Command: `lakehouse stats`, and the table of drift that `lakehouse diff --stats` shows."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

import catalog
from api.cli.call import call_of
from api.cli.command import command, commands, open_lake
from api.cli.output import Column, counted, print_json, print_rows
from catalog.drift import ColumnDrift
from catalog.statistics import ColumnStats

app = commands()


@command(app, "stats", example="stats vision.photos@v3", python='catalog.statistics(lake, "vision.photos@v3")')
def stats(
    ctx: typer.Context,
    reference: Annotated[str, typer.Argument(metavar="REF", help="[namespace.]dataset[@selector]")],
) -> None:
    """Show statistics of each column: nulls, range, mean, quantiles.

    They are computed once for each state, and then read. JSON has top values and histograms too.
    """
    rows = [stats_json(found) for found in catalog.statistics(open_lake(ctx), reference)]
    if call_of(ctx).json:
        print_json(rows)
        return
    shown = [row | {"median": dict(row["quantiles"]).get(0.5), "frequent": _frequent(row["top"])} for row in rows]
    columns = [
        Column("column"),
        Column("type"),
        counted("rows"),
        counted("nulls"),
        counted("distinct", "distinct ~"),
        Column("min", shown=_short, right=True),
        Column("median", "median ~", _short, right=True),
        Column("max", shown=_short, right=True),
        Column("mean", shown=_short, right=True),
        Column("std", shown=_short, right=True),
        Column("length_mean", "length", _short, right=True),
        Column("frequent"),
    ]
    print_rows(call_of(ctx), shown, columns, empty="No columns.")


def stats_json(value: ColumnStats) -> dict[str, Any]:
    """Return the JSON form of a column's statistics; of a histogram each bin's lower edge, its width and rows."""
    histogram = value.histogram
    bins: dict[str, Any] | None = None
    if histogram is not None:
        width = 2.0**histogram.exponent
        bins = {"width": width, "bins": [[number * width, rows] for number, rows in sorted(histogram.bins.items())]}
    return asdict(value) | {"null_share": value.null_share, "histogram": bins}


def drift_json(value: ColumnDrift) -> dict[str, Any]:
    """Return the JSON form of how a column moved."""
    pairs = {
        name: [getattr(value.old, name), getattr(value.new, name)]
        for name in ("null_share", "distinct", "mean", "std", "min", "max")
    }
    return {
        "column": value.column,
        "divergence": value.divergence,
        "null_shift": value.null_shift,
        "mean_shift": value.mean_shift,
        "std_ratio": value.std_ratio,
    } | pairs


def print_drift(ctx: typer.Context, found: list[ColumnDrift]) -> None:
    """Print how columns moved, those that moved most first."""
    rows = [drift_json(d) for d in sorted(found, key=lambda d: -(d.divergence or 0.0))]
    columns = [
        Column("column"),
        Column("divergence", shown=_short, right=True),
        Column("null_share", "nulls", lambda pair: _arrow(pair, "{:.1%}"), right=True),
        Column("mean", shown=_arrow, right=True),
        Column("mean_shift", "shift (std)", _short, right=True),
        Column("std", shown=_arrow, right=True),
        Column("distinct", "distinct ~", lambda pair: _arrow(pair, "{:,}"), right=True),
    ]
    typer.echo("\ndrift (divergence: Jensen-Shannon, 0 the same, 1 nothing in common)")
    print_rows(call_of(ctx), rows, columns, empty="The states share no column.")


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = "" if value is None else str(value)
    return text if len(text) <= 24 else f"{text[:23]}…"


def _arrow(pair: list[Any], form: str = "{:.4g}") -> str:
    if any(value is None for value in pair):
        return ""
    old, new = (form.format(value) for value in pair)
    return old if old == new else f"{old} -> {new}"


def _frequent(top: tuple[tuple[Any, int], ...]) -> str:
    return ", ".join(f"{_short(value)} {rows:,}" for value, rows in top[:3])


__all__ = ["app", "drift_json", "print_drift", "stats_json"]
