"""Results of checks, as facts: counts, and up to 100 failing rows of each. Nothing is computed twice."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal
from uuid import uuid4

import pyarrow as pa

from lakehouse.decisions import CheckDefinition
from lakehouse.errors import AccessDeniedError
from lakehouse.facts import SCHEMAS
from lakehouse.lake import Lake
from lakehouse.readers.arrow import literal

Method = Literal["all", "changed", "unchanged"]
Inputs = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """What a check found of one state."""

    result: str
    """Id of the result."""
    dataset_id: str
    table_version: int
    name: str
    kind: str
    digest: str
    """What the check means; see `CheckDefinition.digest`."""
    inputs: Inputs = ()
    """The other states that it read: (dataset id, table version) each."""
    severity: str
    ok: bool
    failures: int
    """What fails: rows; of `unique` values, of `class_balance` classes, of `schema` columns."""
    rows: int
    """Rows of the state."""
    method: Method
    """`all` rows were looked at, or only those that `changed` since an earlier result, or none: it is `unchanged`."""
    started_at: datetime
    finished_at: datetime
    finding: str | None = None
    """Why the state can't be judged, which counts as a failure: a column is missing, types differ."""
    ok_until: datetime | None = None
    """Of `freshness`: when the state stops to pass."""
    samples: tuple[str, ...] = ()
    """Up to 100 of what fails, as JSON objects."""


@dataclass(slots=True)
class Known:
    """Results of some checks on one dataset that are stored already."""

    table_version: int
    exact: dict[tuple[str, Inputs], CheckResult]
    """Of this very state, by digest and inputs."""
    nearest: dict[str, CheckResult]
    """Of another state, by digest: the nearest one that could be judged."""

    def add(self, found: CheckResult) -> None:
        """Note a result."""
        if found.table_version == self.table_version:
            before = self.exact.get((found.digest, found.inputs))
            if before is None or before.finished_at < found.finished_at:
                self.exact[found.digest, found.inputs] = found
        elif found.finding is None:
            before = self.nearest.get(found.digest)
            if before is None or self._distance(found) < self._distance(before):
                self.nearest[found.digest] = found

    def _distance(self, found: CheckResult) -> tuple[int, float]:
        return abs(found.table_version - self.table_version), -found.finished_at.timestamp()


def known_results(lake: Lake, dataset_id: str, table_version: int, definitions: Iterable[CheckDefinition]) -> Known:
    """Return what is stored of some checks; samples are left out."""
    known = Known(table_version, {}, {})
    digests = sorted({d.digest for d in definitions})
    if digests:
        where = f"dataset_id = {literal(dataset_id)} and digest in ({', '.join(map(literal, digests))})"
        for found in _stored(lake, where):
            known.add(found)
    return known


def results_of(lake: Lake, dataset_id: str, table_version: int) -> list[CheckResult]:
    """Return the newest result of each check on one state, with samples, by name."""
    newest: dict[str, CheckResult] = {}
    for found in _stored(lake, f"dataset_id = {literal(dataset_id)} and table_version = {table_version}"):
        before = newest.get(found.name.casefold())
        if before is None or before.finished_at <= found.finished_at:
            newest[found.name.casefold()] = found
    return with_samples(lake, [newest[name] for name in sorted(newest)])


def with_samples(lake: Lake, found: Sequence[CheckResult]) -> list[CheckResult]:
    """Return results with what was kept of the failing rows."""
    wanted = [r.result for r in found if r.failures]
    facts = lake.facts.snapshot("check_samples") if wanted else None
    samples: dict[str, dict[int, str]] = {}
    if facts is not None:
        where = f"result in ({', '.join(map(literal, wanted))})"
        for batch in facts.batches(["result", "position", "sample"], where):
            for result, position, sample in zip(*(c.to_pylist() for c in batch.columns), strict=True):
                samples.setdefault(result, {})[position] = sample
    return [replace(r, samples=tuple(text for _, text in sorted(samples.get(r.result, {}).items()))) for r in found]


def keep(lake: Lake, found: Sequence[CheckResult]) -> None:
    """Store results; the samples first, so that no result lacks its own. Who may only read runs checks unrecorded."""
    samples: list[dict[str, Any]] = [
        {"result": r.result, "dataset_id": r.dataset_id, "position": n, "sample": text}
        for r in found
        for n, text in enumerate(r.samples)
    ]
    results = [{name: getattr(r, name) for name in SCHEMAS["check_results"].names} for r in found]
    rows = [row | {"inputs": json.dumps(row["inputs"])} for row in results]
    transaction = f"checks-{uuid4().hex}"
    for name, own in (("check_samples", samples), ("check_results", rows)):
        if own:
            try:
                lake.facts.append(name, pa.Table.from_pylist(own, schema=SCHEMAS[name]), (transaction, 0))
            except AccessDeniedError:
                return


def _stored(lake: Lake, where: str) -> Iterator[CheckResult]:
    facts = lake.facts.snapshot("check_results")
    if facts is not None:
        for batch in facts.batches(where=where):
            yield from map(_result, batch.to_pylist())


def _result(row: Mapping[str, Any]) -> CheckResult:
    inputs = tuple((dataset_id, version) for dataset_id, version in json.loads(row["inputs"]))
    return CheckResult(**(dict(row) | {"inputs": inputs}))


__all__ = ["CheckResult", "Inputs", "Known", "Method", "keep", "known_results", "results_of", "with_samples"]
