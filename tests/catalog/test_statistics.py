"""Statistics of columns: what they say, that they are computed once, and what drift follows from them."""

from __future__ import annotations

import math
from collections import Counter
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib import import_module
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import catalog
from catalog.drift import jensen_shannon
from catalog.statistics import ColumnStats, Histogram
from lakehouse.lake import Lake
from lakehouse.snapshots import Snapshot
from tests.support.lakes import make_lake, make_table


def stats(lake: Lake, table: pa.Table, name: str = "t") -> dict[str, ColumnStats]:
    """Return the statistics of a new dataset with these rows."""
    make_table(lake, name, table.schema).append(table)
    return {found.column: found for found in catalog.statistics(lake, name)}


def test_every_type(root_uri: str) -> None:
    """On every backend each type has the statistics that make sense for it, and the stored ones are the same."""
    lake = make_lake(root_uri)
    times = [datetime(2026, 1, n + 1, tzinfo=UTC) for n in range(4)]
    table = pa.table(
        {
            "n": pa.array([1, 2, 2, None], pa.int32()),
            "x": pa.array([0.5, float("nan"), float("inf"), -1.5]),
            "money": pa.array([Decimal("1.10"), Decimal("2.20"), None, None], pa.decimal128(9, 2)),
            "text": ["a", "bcd", "a", None],
            "flag": [True, False, True, True],
            "day": pa.array([date(2026, 1, 1), date(2026, 1, 3), None, None]),
            "at": pa.array(times, pa.timestamp("us", tz="UTC")),
            "raw": [b"a", b"b", None, b"b"],
            "list": pa.array([[1], [], None, [2, 3]], pa.list_(pa.field("element", pa.int64()))),
            "none": pa.array([None] * 4, pa.float64()),
        }
    )
    found = stats(lake, table)
    assert list(found) == table.column_names
    assert {s.rows for s in found.values()} == {4}
    assert [s.nulls for s in found.values()] == [1, 0, 2, 1, 0, 2, 0, 1, 1, 4]
    n = found["n"]
    assert (n.distinct, n.min, n.max, n.top) == (2, 1, 2, ((2, 2), (1, 1)))
    assert (n.mean, n.std) == (pytest.approx(5 / 3), pytest.approx(math.sqrt(2) / 3))
    assert (found["x"].min, found["x"].max, found["x"].mean) == (-1.5, 0.5, -0.5)
    assert (found["money"].min, found["money"].mean) == ("1.10", pytest.approx(1.65))
    text = found["text"]
    assert (text.length_min, text.length_max, text.length_mean) == (1, 3, pytest.approx(5 / 3))
    assert (text.top, text.mean, text.max) == ((("a", 2), ("bcd", 1)), None, "bcd")
    assert (found["flag"].mean, found["flag"].top) == (0.75, ((True, 3), (False, 1)))
    assert (found["day"].min, found["at"].max) == ("2026-01-01", "2026-01-04T00:00:00+00:00")
    assert (found["raw"].distinct, found["raw"].min, found["list"].distinct) == (2, None, None)
    none = found["none"]
    assert (none.min, none.mean, none.histogram, none.distinct) == (None, None, None, 0)
    assert {s.column: s for s in catalog.statistics(lake, "t")} == found


def test_no_more_values_than_rows(lake: Lake) -> None:
    """The estimate of distinct values, which may be too high, is never above the number of values; types have our names."""
    found = stats(lake, pa.table({"n": [*range(100), None], "xs": pa.array([[0.5]] * 101, pa.list_(pa.float64()))}))
    assert found["n"].distinct == 100
    assert (found["n"].type, found["xs"].type) == ("int64", "list<double>")


def test_computed_once(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time nothing of the state is read; another state is computed by itself, an empty one too."""
    make_table(lake, "t", pa.schema([("n", pa.int64())]))
    assert [(s.rows, s.nulls, s.min) for s in catalog.statistics(lake, "t")] == [(0, 0, None)]
    lake.table("t").append(pa.table({"n": [1, 2]}))
    first = catalog.statistics(lake, "t")
    monkeypatch.setattr(import_module("catalog.statistics"), "_measured", None)
    assert catalog.statistics(lake, "t@#1") == first
    assert catalog.statistics(lake, "t@#0")[0].rows == 0


def test_against_numpy(lake: Lake) -> None:
    """Means, deviations and bins are exact, quantiles and distinct counts near."""
    draw = np.random.default_rng(7)
    values = draw.normal(100, 15, 20_000)
    codes = draw.integers(0, 30, 20_000)
    found = stats(lake, pa.table({"x": values, "code": codes}))
    x = found["x"]
    assert (x.mean, x.std) == (pytest.approx(values.mean()), pytest.approx(values.std()))
    for share, value in x.quantiles:
        assert abs((values < value).mean() - share) < 0.01
    assert x.distinct == pytest.approx(20_000, rel=0.1)
    assert x.histogram is not None
    width = 2.0**x.histogram.exponent
    assert x.histogram.bins == Counter(np.floor(values / width).astype(int).tolist())
    assert 32 <= np.ptp(values) / width <= 64
    counts = Counter(codes.tolist())
    assert all(rows == counts[value] for value, rows in found["code"].top)
    assert len(found["code"].top) == 10


@pytest.mark.parametrize("value", [0, 1, -1, 2**53, 2**62, 1e-300, -1e300])
def test_one_value(lake: Lake, value: float) -> None:
    """A column with one value, however large or small, has one bin."""
    kind = pa.int64() if isinstance(value, int) else pa.float64()
    found = stats(lake, pa.table({"x": pa.array([value] * 3, kind)}))["x"]
    assert found.histogram is not None
    assert list(found.histogram.bins.values()) == [3]


def test_wide_tables(lake: Lake) -> None:
    """More columns than one pass takes are all there, in order."""
    found = stats(lake, pa.table({f"c{n}": [n] for n in range(120)}))
    assert [s.max for s in found.values()] == list(range(120))


@given(values=st.lists(st.integers(-1_000, 1_000), min_size=1), narrow=st.integers(-3, 3), more=st.integers(0, 5))
def test_coarser_bins_are_exact(values: list[int], narrow: int, more: int) -> None:
    """Widening bins gives what counting into wide bins gives."""

    def binned(exponent: int) -> Histogram:
        return Histogram(exponent, Counter(math.floor(v / 2.0**exponent) for v in values))

    assert binned(narrow).coarser(narrow + more) == binned(narrow + more)


COUNTS = st.dictionaries(st.integers(0, 5), st.integers(1, 50), min_size=1)


@given(old=COUNTS, new=COUNTS, times=st.integers(1, 9))
def test_divergence(old: dict[int, int], new: dict[int, int], times: int) -> None:
    """It lies between 0 and 1, is symmetric, 0 for the same shares, 1 for nothing in common."""
    found = jensen_shannon(old, new)
    assert found is not None
    assert 0 <= found <= 1
    assert found == pytest.approx(jensen_shannon(new, old))
    assert jensen_shannon(old, {k: v * times for k, v in old.items()}) == pytest.approx(0, abs=1e-9)
    assert jensen_shannon(old, {k + 10: v for k, v in new.items()}) == pytest.approx(1)
    assert jensen_shannon(old, {}) is None


def moved(lake: Lake, old: dict[str, Any], new: dict[str, Any]) -> dict[str, catalog.ColumnDrift]:
    """Return the drift between two datasets."""
    snapshots: list[Snapshot] = []
    for name, columns in (("old", old), ("new", new)):
        table = pa.table(columns)
        make_table(lake, name, table.schema).append(table)
        snapshots.append(lake.read(name))
    return {d.column: d for d in catalog.drift(lake, *snapshots)}


def test_drift(lake: Lake) -> None:
    """What moved shows, what stayed does not, and what can't be compared has no number."""
    draw = np.random.default_rng(3)
    same = draw.normal(0, 1, 5_000)
    old = {"same": same, "shift": same, "nulls": ["a"] * 5_000, "label": ["cat", "dog"] * 2_500, "type": [1] * 5_000}
    new = {
        "same": draw.permutation(same),
        "shift": same * 2 + 3,
        "nulls": ["a", None] * 2_500,
        "label": ["cat"] * 4_000 + ["emu"] * 1_000,
        "type": ["1"] * 5_000,
        "more": [1] * 5_000,
    }
    found = moved(lake, old, new)
    assert set(found) == {"same", "shift", "nulls", "label", "type"}
    assert found["same"].divergence == 0
    assert found["shift"].mean_shift == pytest.approx(3, abs=0.1)
    assert found["shift"].std_ratio == pytest.approx(2)
    assert (found["shift"].divergence or 0) > 0.3
    assert (found["nulls"].null_shift, found["nulls"].divergence) == (0.5, 0)
    assert found["label"].divergence == pytest.approx(
        jensen_shannon({"cat": 2_500, "dog": 2_500}, {"cat": 4_000, "emu": 1_000})
    )
    assert (found["type"].divergence, found["type"].mean_shift) == (None, None)


def test_long_texts_drift_by_length(lake: Lake) -> None:
    """Texts that are no categories are compared by their lengths."""
    found = moved(
        lake, {"text": [f"{n:05d}" for n in range(500)]}, {"text": [f"{n:05d}" * (1 + n % 2) for n in range(500)]}
    )
    assert 0.2 < (found["text"].divergence or 0) < 0.5
