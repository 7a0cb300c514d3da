"""Results of checks, as facts: counts, and up to 100 failing rows of each. Nothing is computed twice."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from typing import Any, Literal

import pyarrow as pa

from catalog.check_rows import select
from lakehouse.decisions import CheckDefinition
from lakehouse.errors import AccessDeniedError
from lakehouse.facts import SCHEMAS
from lakehouse.lake import Lake
from lakehouse.readers.arrow import literal

log = logging.getLogger(__name__)
Method = Literal["all", "changed", "unchanged"]
Inputs = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """What a check found of one state."""

    result: str
    """Id of the result; the same for what any process finds of the same check, state and inputs."""
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


@dataclass(frozen=True, slots=True)
class Known:
    """Results of some checks on one dataset that are stored already; samples are left out."""

    exact: Mapping[tuple[str, Inputs], CheckResult]
    """Of the very state that was asked about, by digest and inputs: the newest."""
    nearest: Mapping[str, CheckResult]
    """By digest: of the nearest state that could be judged, which may be this one beside other inputs."""


def known_results(lake: Lake, dataset_id: str, table_version: int, definitions: Iterable[CheckDefinition]) -> Known:
    """Return what is stored of some checks about a state, or about the one that is nearest to it."""
    digests = sorted({d.digest for d in definitions})
    # Chosen in SQL: what is read into memory does not grow with the history.
    rank = (
        f"row_number() over (partition by digest, here order by abs(table_version - {table_version}), finished_at desc)"
    )
    found = _stored(
        lake,
        f"select * exclude (here) from (select *, table_version = {table_version} as here from t) "
        f"where dataset_id = {literal(dataset_id)} and digest in ({', '.join(map(literal, digests))}) "
        f"and (here or finding is null) qualify here or {rank} = 1 order by finished_at",
    )
    exact: dict[tuple[str, Inputs], CheckResult] = {}
    near: dict[str, CheckResult] = {}
    here: dict[str, CheckResult] = {}
    for one in found:
        if one.table_version != table_version:
            near[one.digest] = one
            continue
        exact[one.digest, one.inputs] = one
        if one.finding is None:
            here[one.digest] = one
    return Known(exact, near | here)


def results_of(lake: Lake, dataset_id: str, table_version: int) -> list[CheckResult]:
    """Return the newest result of each check on one state, with samples, by name."""
    where = f"dataset_id = {literal(dataset_id)} and table_version = {table_version}"
    found = _stored(lake, f"select * from t where {where} order by finished_at")
    newest = {one.name.casefold(): one for one in found}
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


def identified(found: CheckResult) -> CheckResult:
    """Return a result with its id, which says what it is about; what was fresh, and is no more, is another result."""
    about = [found.dataset_id, found.table_version, found.digest, found.inputs, found.ok_until and found.ok]
    return replace(found, result=sha256(json.dumps(about).encode()).hexdigest()[:32])


def keep(lake: Lake, found: Iterable[CheckResult]) -> None:
    """Store results, each once whoever else found it; samples first, so that no result lacks its own.

    Each is a transaction of its own: two that judge the same state may have others to store beside it. Who may only read
    runs checks unrecorded.
    """
    for one in found:
        row = {name: getattr(one, name) for name in SCHEMAS["check_results"].names} | {"inputs": json.dumps(one.inputs)}
        samples: list[dict[str, Any]] = [
            {"result": one.result, "dataset_id": one.dataset_id, "position": n, "sample": text}
            for n, text in enumerate(one.samples)
        ]
        for name, rows in (("check_samples", samples), ("check_results", [row])):
            if not rows:
                continue
            try:
                lake.facts.append(name, pa.Table.from_pylist(rows, schema=SCHEMAS[name]), (f"check-{one.result}", 0))
            except AccessDeniedError as error:
                log.warning("not recorded", extra={"kind": error.kind})
                return


def _stored(lake: Lake, query: str) -> Iterator[CheckResult]:
    facts = lake.facts.snapshot("check_results")
    if facts is not None:
        for batch in select(facts, facts.schema.names, query):
            yield from map(_result, batch.to_pylist())


def _result(row: Mapping[str, Any]) -> CheckResult:
    inputs = tuple((dataset_id, version) for dataset_id, version in json.loads(row["inputs"]))
    return CheckResult(**(dict(row) | {"inputs": inputs}))


__all__ = [
    "CheckResult",
    "Inputs",
    "Known",
    "Method",
    "identified",
    "keep",
    "known_results",
    "results_of",
    "with_samples",
]
