"""Drift: how the values of each column moved between two states, from their stored statistics."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from catalog.statistics import ColumnStats, statistics_of
from lakehouse.lake import Lake
from lakehouse.snapshots import Snapshot

_B = TypeVar("_B", bound=Hashable)


@dataclass(frozen=True, slots=True)
class ColumnDrift:
    """How one column that two states have moved from the old to the new one."""

    column: str
    old: ColumnStats
    new: ColumnStats
    mean_shift: float | None
    """By how many standard deviations of the old state the mean moved; None without them."""
    std_ratio: float | None
    """The new standard deviation over the old one."""
    divergence: float | None
    """Jensen-Shannon divergence of the two distributions, from 0 (the same) to 1 (nothing in common); None when a
    state has no values, or the type is another one. Of frequent values where both are known to be categories, else
    of the shared histogram."""

    @property
    def null_shift(self) -> float:
        """By how much the share of nulls grew, -1 to 1."""
        return self.new.null_share - self.old.null_share


def drift(lake: Lake, old: Snapshot, new: Snapshot) -> list[ColumnDrift]:
    """Compare the columns that two states have, from statistics that are computed at most once for each state.

    Raises:
        StorageError: a data file is gone or can't be read.
    """
    before = {stats.column: stats for stats in statistics_of(lake, old)}
    return [_drift(before[stats.column], stats) for stats in statistics_of(lake, new) if stats.column in before]


def _drift(old: ColumnStats, new: ColumnStats) -> ColumnDrift:
    shift = ratio = divergence = None
    if old.type == new.type:
        if old.std and new.std is not None:
            ratio = new.std / old.std
            if old.mean is not None and new.mean is not None:
                shift = (new.mean - old.mean) / old.std
        divergence = _divergence(old, new)
    return ColumnDrift(new.column, old, new, shift, ratio, divergence)


def _divergence(old: ColumnStats, new: ColumnStats) -> float | None:
    if all(_is_category(stats) for stats in (old, new)):
        return jensen_shannon(dict(old.top), dict(new.top))
    if old.histogram is None or new.histogram is None:
        return None
    shared = max(old.histogram.exponent, new.histogram.exponent)
    return jensen_shannon(old.histogram.coarser(shared).bins, new.histogram.coarser(shared).bins)


def _is_category(stats: ColumnStats) -> bool:
    """Whether the frequent values are all values."""
    return bool(stats.top) and sum(rows for _, rows in stats.top) == stats.rows - stats.nulls


def jensen_shannon(old: Mapping[_B, int], new: Mapping[_B, int]) -> float | None:
    """Return the Jensen-Shannon divergence of two distributions, given as counts, to the base 2: 0 to 1.

    J. Lin, Divergence measures based on the Shannon entropy, IEEE Transactions on Information Theory 37(1), 1991,
    pages 145-151. Unlike the population stability index it needs no guess for bins that one side leaves empty.
    """
    all_old, all_new = sum(old.values()), sum(new.values())
    if not all_old or not all_new:
        return None
    total = 0.0
    for bin_ in {*old, *new}:
        p, q = old.get(bin_, 0) / all_old, new.get(bin_, 0) / all_new
        middle = (p + q) / 2
        total += sum(part / 2 * math.log2(part / middle) for part in (p, q) if part)
    return min(1.0, max(0.0, total))


__all__ = ["ColumnDrift", "drift", "jensen_shannon"]
