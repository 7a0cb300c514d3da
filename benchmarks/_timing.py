"""Compare two or more ways of doing the same thing in one run: ratios that hold on a noisy machine."""

from __future__ import annotations

import gc
import operator
import re
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Result:
    """One figure: the median ratio of the rounds, with its spread."""

    name: str
    ratio: float
    low: float
    high: float
    limit: str
    seconds: Mapping[str, float]
    """Median seconds of each way; "ours" first."""

    @property
    def ok(self) -> bool:
        """Whether the median meets the limit; true when there is none."""
        match = re.fullmatch(r"(>=|<=) ?([\d.]+)x?", self.limit)
        if match is None:
            return True
        meets = operator.ge if match[1] == ">=" else operator.le
        return bool(meets(self.ratio, float(match[2])))

    def __str__(self) -> str:
        verdict = f"   target {self.limit}   {'ok' if self.ok else 'MISSED'}" if self.limit else ""
        times = ", ".join(f"{way} {seconds * 1000:,.1f} ms" for way, seconds in self.seconds.items())
        return f"{self.name:<44} {self.ratio:6.2f}x ({self.low:.2f}-{self.high:.2f}){verdict}   [{times}]"


def compare(
    name: str, ours: Callable[[], object], peers: Mapping[str, Callable[[], object]], repeat: int = 5, limit: str = ""
) -> Result:
    """Run ours and each peer alternately, `repeat` rounds of each, and print one line.

    Each round gives one ratio against the fastest peer of that round; the figure is their median with min and max. The
    first round starts with ours, the next with the peers, and so on. Nothing is warmed up here.

    Args:
        name: What is compared, such as `features vs plain loop`.
        ours: One run of our way.
        peers: Name -> one run of that way.
        repeat: Rounds.
        limit: `>= 3x`: the ratio is how many times faster than the peer we are, at least 3. `<= 1.05x`: the ratio is
            how many times the peer's time we take, at most 1.05. Empty: as `<=`, without a target.
    """
    ways = {"ours": ours, **peers}
    times: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(repeat):
        for way in list(ways) if turn % 2 == 0 else list(ways)[::-1]:
            gc.collect()
            start = time.perf_counter()
            ways[way]()
            times[way].append(time.perf_counter() - start)
    ratios = []
    for turn in range(repeat):
        cost = times["ours"][turn] / min(times[peer][turn] for peer in peers)
        ratios.append(1 / cost if limit.startswith(">=") else cost)
    seconds = {way: statistics.median(taken) for way, taken in times.items()}
    result = Result(name, statistics.median(ratios), min(ratios), max(ratios), limit, seconds)
    print(result, flush=True)
    return result
