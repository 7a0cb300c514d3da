"""Checks of a dataset: declared one by one or in a file, listed, removed; `check_runs` runs them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from catalog.aggregation import advance_with
from catalog.check_files import Declared, parse_declarations
from catalog.check_images import refuse_assetless
from catalog.check_kinds import KINDS, check_kind, jsonable
from catalog.check_rules import Asked, UnfitError, bound, fields, refuse_timeless
from catalog.check_runs import definitions_of, find_check
from catalog.check_store import CheckResult, results_of
from catalog.milestones import joining
from lakehouse.decisions import CheckDefinition, Decision, Milestone
from lakehouse.decisions.checks import Severity
from lakehouse.errors import InvalidInputError, StateError
from lakehouse.lake import Lake
from lakehouse.ledger import State
from lakehouse.references import parse, parse_name
from lakehouse.resolution import find_dataset
from lakehouse.snapshots import Snapshot


def add_check(
    lake: Lake,
    dataset: str,
    kind: str,
    columns: Sequence[str] = (),
    *,
    parameters: Mapping[str, Any] | None = None,
    name: str | None = None,
    severity: Severity = "error",
) -> CheckDefinition:
    """Declare a rule that the states of a dataset must satisfy.

    Args:
        dataset: `[namespace.]name`.
        kind: not_null, unique, foreign_key, accepted_values, range, regex, row_count, freshness, schema,
            image_decodes, class_balance or sql; docs/checks.md says what each takes.
        columns: What it looks at.
        parameters: What else the kind needs, as {"min": 0}; JSON values.
        name: Unique among the dataset's checks; None means the kind and the columns: `range_price`.
        severity: `error` keeps what fails from being published, `warning` only tells.
    Raises:
        InvalidInputError: an unknown kind (check-kind-unknown), columns or parameters that it does not take, or that the
            dataset's head does not fit (check-invalid); a mistake in the SQL of a check (sql-invalid).
        NotFoundError: no such dataset, or a foreign key's parent does not exist.
        StateError: another check has this name (check-exists).
    """
    full = ".".join(parse_name(dataset))
    declared = Declared(name or default_name(kind, columns), kind, tuple(columns), dict(parameters or {}), severity)
    new = _definition(lake, full, declared, in_file=False)

    def rule(state: State) -> tuple[CheckDefinition, list[Decision]]:
        owner = find_dataset(state, full)
        found = replace(new, dataset_id=owner.dataset_id)
        if state.get(CheckDefinition, found.key) is not None:
            raise StateError(
                "check-exists",
                f"{full} has a check {found.name!r} already. Choose another name, or remove that one with: "
                f"lakehouse check remove {full} {found.name}",
                dataset=full,
                check=found.name,
            )
        return found, [Decision.put("check.add", found)]

    return lake.ledger.decide(rule).result


def remove_check(lake: Lake, dataset: str, name: str) -> CheckDefinition:
    """Remove a check; its results stay on record.

    Raises:
        NotFoundError: no such dataset, or no such check (check-not-found).
    """
    full = ".".join(parse_name(dataset))

    def rule(state: State) -> tuple[CheckDefinition, list[Decision]]:
        found = find_check(definitions_of(state, find_dataset(state, full)), name, full)
        return found, [Decision.remove("check.remove", found)]

    return lake.ledger.decide(rule).result


def list_checks(lake: Lake, dataset: str) -> list[CheckDefinition]:
    """Return the checks of a dataset, by name.

    Raises:
        NotFoundError: dataset-not-found, dataset-deleted.
    """
    state = lake.state()
    return definitions_of(state, find_dataset(state, ".".join(parse_name(dataset))))


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a declaration file changed, by names of checks."""

    dataset: str
    added: tuple[str, ...]
    changed: tuple[str, ...]
    """Those that were declared otherwise before."""
    removed: tuple[str, ...]
    """Those that an earlier file declared and this one does not."""
    unchanged: tuple[str, ...]
    joined: tuple[str, ...] = ()
    """Milestones that the dataset became a member of."""


def load_checks(lake: Lake, path: str | Path) -> Loaded:
    """Declare the checks that a YAML file lists, and the milestones that the dataset is a member of, in one decision.

    Checks that an earlier file declared and this one does not are removed; those that `add_check` made stay, unless the
    file has one of the same name. A milestone that the file names no more is left by `leave_milestone` alone.

    Args:
        path: A local file; docs/checks.md shows one, and `check list DATASET --yaml` writes one.
    Raises:
        NotFoundError: no such file (file-not-found), dataset, milestone, or parent of a foreign key.
        InvalidInputError: the file is no YAML or has other keys (checks-file-invalid); a check as `add_check` says.
    """
    file = parse_declarations(Path(path), default_name)
    full = ".".join(parse_name(file.dataset))
    wanted = [_definition(lake, full, one, in_file=True) for one in file.checks]

    def rule(state: State) -> tuple[Loaded, list[Decision]]:
        owner = find_dataset(state, full)
        before = {c.key: c for c in definitions_of(state, owner)}
        now = {c.key: c for c in (replace(c, dataset_id=owner.dataset_id) for c in wanted)}
        gone = [c for key, c in before.items() if c.in_file and key not in now]
        same = [key for key, c in now.items() if key in before and _same(before[key], c)]
        puts = [Decision.put("check.add", c) for key, c in now.items() if key not in same]
        joins = [decision for name in file.milestones for decision in joining(state, name, owner.full_name)]
        loaded = Loaded(
            full,
            added=tuple(c.name for key, c in now.items() if key not in before),
            changed=tuple(c.name for key, c in now.items() if key in before and key not in same),
            removed=tuple(c.name for c in gone),
            unchanged=tuple(now[key].name for key in same),
            joined=tuple(j.value.full_name for j in joins if isinstance(j.value, Milestone)),
        )
        return loaded, [*puts, *(Decision.remove("check.remove", c) for c in gone), *joins]

    loaded = lake.ledger.decide(rule).result
    if loaded.joined:
        advance_with(lake, full)
    return loaded


def check_results(lake: Lake, reference: str) -> list[CheckResult]:
    """Return what checks found of a state, with samples: the newest result of each, by name; nothing is run.

    Raises:
        NotFoundError: what the reference names does not exist.
    """
    snapshot = lake.peek(parse(reference))
    return results_of(lake, snapshot.dataset.dataset_id, snapshot.table_version)


def default_name(kind: str, columns: Sequence[str]) -> str:
    """Return the name of a check that was given none."""
    return re.sub(r"[^\w.\-]+", "_", "_".join([kind, *columns]))[:100]


def _definition(lake: Lake, full_name: str, declared: Declared, *, in_file: bool) -> CheckDefinition:
    """Return a definition that makes sense and fits the dataset's head."""
    snapshot = lake.peek(parse(full_name))
    found = CheckDefinition(
        dataset_id=snapshot.dataset.dataset_id,
        name=declared.name,
        kind=declared.kind,
        columns=declared.columns,
        parameters=jsonable(declared.parameters),
        severity=declared.severity,
        in_file=in_file,
        created_at=datetime.now(UTC),
        created_by=lake.actor,
    )
    if found.severity not in ("error", "warning"):
        raise InvalidInputError(
            "check-invalid",
            f"The check {found.name!r} has the severity {found.severity!r}; write error or warning.",
            check=found.name,
        )
    check_kind(found)
    _refuse_unfit(lake, found, snapshot)
    return found


def _refuse_unfit(lake: Lake, definition: CheckDefinition, snapshot: Snapshot) -> None:
    """Refuse what could only fail, without looking at a row."""
    kind = KINDS[definition.kind]
    asked = Asked(definition, snapshot, kind.others(lake, definition, snapshot))
    try:
        fields(asked)
        if definition.kind == "sql":
            with bound(asked):
                pass
        elif definition.kind == "image_decodes":
            refuse_assetless(snapshot)
        elif definition.kind == "freshness":
            refuse_timeless(asked)
        elif kind.by_row and kind.rule is not None:
            kind.rule(asked, snapshot.only(set()))
    except UnfitError as error:
        raise InvalidInputError(
            "check-invalid",
            f"The check {definition.name!r} does not fit {snapshot.reference}: {error}",
            dataset=snapshot.dataset.full_name,
            check=definition.name,
        ) from error


def _same(one: CheckDefinition, other: CheckDefinition) -> bool:
    return replace(one, created_at=other.created_at, created_by=other.created_by) == other


__all__ = ["Loaded", "add_check", "check_results", "default_name", "list_checks", "load_checks", "remove_check"]
