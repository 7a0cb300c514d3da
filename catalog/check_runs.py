"""Running checks: what is stored is not computed again, and of what changed only the change is looked at."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from catalog.check_kinds import KINDS, Kind, counted_by, unknown_kind
from catalog.check_rows import Failing, tally, without
from catalog.check_rules import PARENT, Asked, UnfitError, too_old
from catalog.check_store import CheckResult, Inputs, Known, Method, identified, keep, known_results, with_samples
from lakehouse.decisions import CheckDefinition, Dataset, DatasetVersion
from lakehouse.delta import Route
from lakehouse.errors import ConflictError, InvalidInputError, NotFoundError, StateError, StorageError, suggest
from lakehouse.lake import Lake
from lakehouse.ledger import State
from lakehouse.pins import is_condemned
from lakehouse.resolution import known_name, versions_of
from lakehouse.snapshots import Snapshot, open_snapshot
from lakehouse.state import Index

log = logging.getLogger(__name__)
_CHECKS = Index(CheckDefinition, lambda c: (c.dataset_id,))


def definitions_of(state: State, dataset: Dataset) -> list[CheckDefinition]:
    """Return the checks of a dataset by name; the copies of an adopted one have the checks of the original."""
    return sorted(state.find(_CHECKS, dataset.copy_of or dataset.dataset_id), key=lambda c: c.name.casefold())


def run_checks(lake: Lake, reference: str, names: Sequence[str] | None = None) -> list[CheckResult]:
    """Judge a state by its dataset's checks, and keep the results.

    A result is computed once for each check and table version, and versions of what else the check reads. Kinds that
    judge row by row look only at the data files that came and went since an earlier result.

    Args:
        names: Only these checks; None means all.
    Returns:
        The results by name, with samples. A check that can't run, as its parent is gone, fails with a finding, and no
        record is kept of that.
    Raises:
        NotFoundError: what the reference names does not exist, or there is no such check (check-not-found).
        StorageError: the store failed, or a data file is gone.
    """
    snapshot = lake.peek(reference)
    definitions = definitions_of(lake.state(), snapshot.dataset)
    if names is not None:
        definitions = [find_check(definitions, name, snapshot.dataset.full_name) for name in names]
    return _run(lake, snapshot, definitions)


def find_check(definitions: Sequence[CheckDefinition], name: str, dataset: str) -> CheckDefinition:
    """Return the check of a name.

    Raises:
        NotFoundError: there is none (check-not-found).
    """
    for definition in definitions:
        if definition.name.casefold() == name.casefold():
            return definition
    raise NotFoundError(
        "check-not-found",
        f"{dataset} has no check {name!r}.{suggest(name, [d.name for d in definitions])} "
        f"List them with: lakehouse check list {dataset}",
        dataset=dataset,
        check=name,
    )


@dataclass(frozen=True, slots=True)
class Passed:
    """The checks that a state passed before it is published."""

    dataset: Dataset
    digests: frozenset[str]

    def refuse_new(self, state: State) -> None:
        """Refuse to publish past a check that came meanwhile.

        Raises:
            ConflictError: the state was not judged by an error-severity check of the dataset (checks-changed).
        """
        for definition in definitions_of(state, self.dataset):
            if definition.severity == "error" and definition.digest not in self.digests:
                raise ConflictError(
                    "checks-changed",
                    f"The check {definition.name!r} was added to {self.dataset.full_name} while it was published. "
                    "Publish it again.",
                    dataset=self.dataset.full_name,
                )


def gate(lake: Lake, snapshot: Snapshot) -> Passed:
    """Run the checks of a state that is about to be published; of one that may be, warnings are logged.

    Raises:
        StateError: checks of severity `error` fail (check-failed).
    """
    failed, warnings, passed = [], [], set()
    for found in _run(lake, snapshot, definitions_of(lake.state(), snapshot.dataset)):
        if found.ok:
            passed.add(found.digest)
        elif found.severity == "error":
            failed.append(found)
        else:
            warnings.append(found)
    if failed:
        name, at = snapshot.dataset.full_name, f"{snapshot.dataset.full_name}@#{snapshot.table_version}"
        raise StateError(
            "check-failed",
            f"{at} was not published, since it fails {len(failed)} of its checks: "
            f"{_listed(failed)}. {f'Warnings: {_listed(warnings)}. ' if warnings else ''}"
            f"See failing rows with: lakehouse check results '{at}' --samples",
            dataset=name,
            table_version=snapshot.table_version,
            checks={found.name: found.failures for found in failed},
        )
    for found in warnings:
        log.warning("%s: warning: the check %s failed: %s", snapshot.reference, found.name, said(found))
    return Passed(snapshot.dataset, frozenset(passed))


def said(found: CheckResult) -> str:
    """Return what a failing result says, for people."""
    if found.finding is not None:
        return found.finding.rstrip(".")
    if found.ok_until is not None:
        return f"fresh until {found.ok_until:%Y-%m-%d %H:%M} UTC only"
    counted = counted_by(found.kind, found.failures)
    if counted in ("row", "rows"):
        return f"{found.failures:,} failing of {found.rows:,} rows"
    return f"{found.failures:,} failing {counted} in {found.rows:,} rows"


def _listed(failed: Sequence[CheckResult]) -> str:
    return "; ".join(f"{found.name}: {said(found)}" for found in failed)


def _run(lake: Lake, snapshot: Snapshot, definitions: Sequence[CheckDefinition]) -> list[CheckResult]:
    if not definitions:
        return []
    known = known_results(lake, snapshot.dataset.dataset_id, snapshot.table_version, definitions)
    found = [_judge(lake, snapshot, definition, known) for definition in definitions]
    keep(lake, [result for result, new in found if new])
    stored = with_samples(lake, [result for result, new in found if not result.samples])
    samples = {result.result: result.samples for result in stored}
    return [replace(result, samples=samples.get(result.result, result.samples)) for result, _ in found]


def _judge(lake: Lake, snapshot: Snapshot, definition: CheckDefinition, known: Known) -> tuple[CheckResult, bool]:
    """Return a check's result, and whether it has to be kept."""
    started = datetime.now(UTC)
    new = CheckResult(
        result="",
        dataset_id=snapshot.dataset.dataset_id,
        table_version=snapshot.table_version,
        name=definition.name,
        kind=definition.kind,
        digest=definition.digest,
        severity=definition.severity,
        ok=False,
        failures=0,
        rows=0,
        method="all",
        started_at=started,
        finished_at=started,
    )
    try:
        kind = KINDS.get(definition.kind)
        if kind is None:
            raise unknown_kind(definition.kind)
        others = kind.others(lake, definition, snapshot)
        last = _last_version(lake.state(), snapshot) if definition.kind == "row_count" else None
        inputs = _inputs(others, last)
        stored = known.exact.get((definition.digest, inputs))
        if stored is not None and not _is_over(stored):
            return replace(stored, name=definition.name, severity=definition.severity), False
        asked = Asked(definition, snapshot, others, last)
        new = replace(new, inputs=inputs, rows=snapshot.num_rows)
        measured = _measured(lake, kind, asked, new, stored or known.nearest.get(definition.digest))
    except (InvalidInputError, NotFoundError) as error:  # nothing that the state has to answer for, or can keep
        return identified(replace(new, finding=error.message, finished_at=datetime.now(UTC))), False
    return identified(replace(measured, finished_at=datetime.now(UTC))), True


def _is_over(found: CheckResult) -> bool:
    """Whether a state that was fresh is not any more."""
    return found.ok and found.ok_until is not None and found.ok_until < datetime.now(UTC)


def _measured(lake: Lake, kind: Kind, asked: Asked, new: CheckResult, prior: CheckResult | None) -> CheckResult:
    try:
        if kind.rule is None:
            assert kind.until is not None, "a kind has a rule or is about time"
            same = prior is not None and prior.table_version == new.table_version
            until = prior.ok_until if same and prior and prior.ok_until else kind.until(asked)
            failing = tally(too_old(until) if until < datetime.now(UTC) else ())
            return _with(replace(new, ok_until=until), failing, "unchanged" if same else "all")
        if prior is not None:
            found = _from_prior(lake, kind, asked, new.inputs, prior)
            if found is not None:
                return _with(new, *found)
        return _with(new, tally(kind.rule(asked, asked.snapshot)), "all")
    except UnfitError as error:
        return replace(new, finding=str(error))


def _with(new: CheckResult, failing: Failing, method: Method) -> CheckResult:
    return replace(new, ok=not failing.count, failures=failing.count, samples=failing.samples, method=method)


# -- from what changed ------------------------------------------------------------------------------------------------


def _from_prior(
    lake: Lake, kind: Kind, asked: Asked, inputs: Inputs, prior: CheckResult
) -> tuple[Failing, Method] | None:
    """Return what fails from an earlier result and the files that came and went; None when that is no way."""
    assert kind.rule is not None, "what is about time has no rows to come and go"
    new = asked.snapshot
    try:
        old = _open(lake, new.dataset, prior.table_version)
        if old is None or not _comparable(old, new):
            return None
        came, gone = _paths(new) - _paths(old), _paths(old) - _paths(new)
        if not came and not gone and inputs == prior.inputs:
            (known,) = with_samples(lake, [prior])
            return Failing(known.failures, known.samples), "unchanged"
        if not kind.by_row or not _parent_allows(lake, asked, inputs, prior, old):
            return None
        added, removed = new.only(came), old.only(gone)
        failed = removed if prior.failures else old.only(set())
        if not kind.expensive and added.file_list.bytes + failed.file_list.bytes >= new.file_list.bytes:
            return None
        (known,) = with_samples(lake, [prior])
        more = tally(kind.rule(replace(asked, known=removed), added))
        less = without(known.samples, kind.rule(replace(asked, snapshot=old, known=added), failed))
    except (NotFoundError, StorageError) as error:
        if error.kind == "storage-unavailable":
            raise
        return None  # the earlier state was cleaned up
    count = known.failures + more.count - less.count
    samples = (*less.samples, *more.samples)[:100]
    return None if count and not samples else (Failing(count, samples), "changed")


def _parent_allows(lake: Lake, asked: Asked, inputs: Inputs, prior: CheckResult, old: Snapshot) -> bool:
    """Whether rows that stayed are judged as before: their parent is the same, or only gained rows and none lacked one."""
    parent = asked.others.get(PARENT)
    if parent is None or inputs == prior.inputs:
        return True
    ((dataset_id, version),) = prior.inputs
    if prior.failures or dataset_id != parent.dataset.dataset_id:
        return False
    same = (dataset_id, version) == (old.dataset.dataset_id, old.table_version)
    before = old if same else _open(lake, parent.dataset, version)
    return before is not None and _comparable(before, parent) and _paths(before) <= _paths(parent)


def _open(lake: Lake, dataset: Dataset, table_version: int) -> Snapshot | None:
    if is_condemned(lake.state(), dataset.dataset_id, table_version):
        return None
    return open_snapshot(lake.storage, dataset, f"{dataset.full_name}@#{table_version}", table_version, None)


def _comparable(old: Snapshot, new: Snapshot) -> bool:
    """Whether the same file has the same rows in both states: nothing marks rows of it as deleted."""
    routes = {old.file_list.route, new.file_list.route}
    return routes == {Route.FILES} and old.schema == new.schema


def _paths(snapshot: Snapshot) -> set[str]:
    return set(snapshot.file_list.table.column("path").to_pylist())


def _inputs(others: dict[str, Snapshot], last: DatasetVersion | None) -> Inputs:
    found = {(s.dataset.dataset_id, s.table_version) for s in others.values()}
    return tuple(sorted(found | ({(last.dataset_id, last.table_version)} if last else set())))


def _last_version(state: State, snapshot: Snapshot) -> DatasetVersion | None:
    """Return the version published before a state: before its own, or the newest for one that is not published."""
    name = known_name(state, snapshot.dataset.full_name)
    published = list(versions_of(state, name.series)) if name else []
    own = [v for v in published if v.expired_at is None and v.dataset_id == snapshot.dataset.dataset_id]
    at = min((v.number for v in own if v.table_version == snapshot.table_version), default=None)
    before = [v for v in own if v.table_version != snapshot.table_version and (at is None or v.number < at)]
    return max(before, key=lambda v: v.number, default=None)


__all__ = ["CheckResult", "Passed", "definitions_of", "find_check", "gate", "run_checks", "said"]
