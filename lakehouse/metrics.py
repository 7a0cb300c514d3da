"""Metrics of published versions: rows, classes and pixel statistics per split, stored so that no data is touched.

What is stored are sums over rows, so the next version's metrics are the last one's, plus the sums over the files
that came, minus those over the files that went: the cost follows the change.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.readers import relation
from lakehouse.readers.duck import reading

if TYPE_CHECKING:
    from lakehouse.snapshots import Snapshot

MAX_CLASSES = 1_000
"""A label column with more distinct values is no class, and is left out."""
_CHANNELS = ("r", "g", "b")
_SCHEMA = pa.schema([("split", pa.string()), ("name", pa.string()), ("label", pa.string()), ("value", pa.float64())])


@dataclass(frozen=True, slots=True)
class SplitMetrics:
    """Metrics of one split of one version."""

    rows: int
    classes: dict[str, int] = field(default_factory=dict)
    """Rows by the value of the column `label`, as text; empty without such a column."""
    pixel_mean: tuple[float, float, float] | None = None
    """Mean of all pixels per channel (red, green, blue), 0..255; None without image features."""
    pixel_std: tuple[float, float, float] | None = None
    """Population standard deviation of all pixels per channel, 0..255."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is known of a published version without reading it."""

    rows: int
    splits: dict[str, SplitMetrics]
    """By split; rows without one count under the empty name."""

    @classmethod
    def from_rows(cls, rows: pa.Table, total: int) -> Metadata:
        """Return the metrics that stored sums stand for."""
        sums: dict[str, dict[tuple[str, str | None], float]] = {}
        for split, name, label, value in zip(*(rows.column(n).to_pylist() for n in _SCHEMA.names), strict=True):
            sums.setdefault(split, {})[name, label] = value
        return cls(rows=total, splits={split: _split(found) for split, found in sorted(sums.items())})


def _split(sums: dict[tuple[str, str | None], float]) -> SplitMetrics:
    classes = {label or "": int(v) for (name, label), v in sorted(sums.items(), key=str) if name == "class"}
    pixels = sums.get(("pixels", None), 0.0)
    mean = std = None
    if pixels > 0:
        means = [sums.get((f"sum_{c}", None), 0.0) / pixels for c in _CHANNELS]
        squares = [sums.get((f"squares_{c}", None), 0.0) / pixels for c in _CHANNELS]
        mean = (means[0], means[1], means[2])
        stds = [math.sqrt(max(0.0, s - m * m)) for s, m in zip(squares, means, strict=True)]
        std = (stds[0], stds[1], stds[2])
    return SplitMetrics(int(sums.get(("rows", None), 0)), classes, mean, std)


def measure(snapshot: Snapshot) -> pa.Table:
    """Return the sums over a snapshot's rows: columns split, name, label, value.

    Names: `rows`; `labels` (rows with a label); `class` (one row per label, none when there are too many); and of
    image features `pixels`, `sum_<c>`, `squares_<c>` per channel.

    Raises:
        StorageError: a data file is gone or can't be read, as `reading`.
    """
    types = {f.name: f.type for f in snapshot.schema}
    split = "coalesce(cast(split as varchar), '')" if "split" in types else "''"
    parts = [f"select {split} as split, 'rows' as name, null as label, count(*) as value from t group by 1"]
    used = [c for c in ("split",) if c in types]
    if "label" in types and not pa.types.is_nested(types["label"]):
        used.append("label")
        parts.append(f"select {split}, 'labels', null, count(label) from t group by 1")
        parts.append(
            f"select {split}, 'class', cast(label as varchar), count(*) from t where label is not null group by 1, 3 "
            f"qualify count(*) over () <= {MAX_CLASSES}"
        )
    if {"pixels", *(f"mean_{c}" for c in _CHANNELS), *(f"std_{c}" for c in _CHANNELS)} <= set(types):
        used += ["pixels", *(f"{m}_{c}" for m in ("mean", "std") for c in _CHANNELS)]
        parts.append(f"select {split}, 'pixels', null, coalesce(sum(pixels), 0) from t group by 1")
        for c in _CHANNELS:
            parts.append(f"select {split}, 'sum_{c}', null, coalesce(sum(pixels * mean_{c}), 0) from t group by 1")
            parts.append(
                f"select {split}, 'squares_{c}', null, coalesce(sum(pixels * (std_{c}**2 + mean_{c}**2)), 0) "
                "from t group by 1"
            )
    with relation.connect() as con:
        source = relation.source_sql(con, snapshot, used or snapshot.schema.names[:1])
        query = f"with t as ({source}) " + " union all ".join(parts)
        with reading(snapshot.reference):
            measured: pa.Table = con.sql(query).to_arrow_table().cast(_SCHEMA)
        return measured


def combine(terms: Sequence[tuple[int, pa.Table]]) -> pa.Table:
    """Return the signed sum of measurements, without entries that came to nothing.

    Classes that one of them left out, or that became too many, are left out.

    Args:
        terms: (+1 or -1, measurement) each.
    """
    totals: dict[tuple[str, str, str | None], float] = {}
    for sign, rows in terms:
        for split, name, label, value in zip(*(rows.column(n).to_pylist() for n in _SCHEMA.names), strict=True):
            totals[split, name, label] = totals.get((split, name, label), 0.0) + sign * (value or 0.0)
    gone = {split for (split, name, _), value in totals.items() if name == "rows" and value <= 0}
    kept = [
        (*key, value) for key, value in totals.items() if key[0] not in gone and not (key[1] == "class" and value <= 0)
    ]
    complete = all(_labelled(rows, "labels") == _labelled(rows, "class") for _, rows in terms)
    if not complete or sum(name == "class" for _, name, _, _ in kept) > MAX_CLASSES:
        kept = [entry for entry in kept if entry[1] != "class"]
    return (
        pa.table(
            [pa.array(column, f.type) for column, f in zip(zip(*kept, strict=True), _SCHEMA, strict=True)],
            schema=_SCHEMA,
        )
        if kept
        else _SCHEMA.empty_table()
    )


def _labelled(rows: pa.Table, name: str) -> float:
    chosen = rows.filter(pc.equal(rows.column("name"), name))
    return float(pc.sum(chosen.column("value")).as_py() or 0)
