"""The audit: who decided, wrote and read what, and the proof that no decision was changed since."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from lakehouse.chain import Proof, check
from lakehouse.commit_chain import check_commits
from lakehouse.commit_log import COMMITS
from lakehouse.decisions import Dataset, DatasetVersion, Milestone
from lakehouse.errors import InvalidInputError, LakeError, NotFoundError
from lakehouse.lake import Lake
from lakehouse.ledger import State
from lakehouse.progress import SILENT, Progress
from lakehouse.read_spool import fold_reads
from lakehouse.readers.duck import literal
from lakehouse.references import AsOf, Head, TableVersion, Version, parse, parse_milestone_ref
from lakehouse.resolution import find_dataset, find_name
from lakehouse.spans import parse_span
from lakehouse.tables import Table

log = logging.getLogger(__name__)
_E = TypeVar("_E", "AuditEntry", "ReadEvent", "Fetch")


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One decision, or one data commit; the view `audit` says what each field is."""

    at: datetime
    actor: str | None
    kind: str
    """decision or commit."""
    action: str
    resource: str
    before: Any
    """The thing before, as its JSON says; None: it was not there."""
    after: Any
    """The thing since; None: it was removed. Of a commit: its numbers of rows."""
    run: str | None
    message: str | None
    commit_id: str | None
    seq: int | None
    """Number of the ledger commit; None of data commits."""


@dataclass(frozen=True, slots=True)
class ReadEvent:
    """Openings of one state by one process within a minute; the view `reads` says what each field is."""

    at: datetime
    actor: str
    consumer: str
    dataset: str | None
    version: int | None
    table_version: int
    reference: str
    opens: int
    bytes: int
    rows: int | None
    host: str
    process: int


@dataclass(frozen=True, slots=True)
class Fetch:
    """What one consumer read of one state; the view `fetches` says what each field is."""

    dataset: str | None
    version: int | None
    table_version: int
    consumer: str
    opens: int
    actors: list[str]
    first_at: datetime
    last_at: datetime
    bytes: int


def audit_log(
    lake: Lake,
    name: str | None = None,
    *,
    actor: str | None = None,
    action: str | None = None,
    since: str | datetime | None = None,
    limit: int | None = None,
) -> list[AuditEntry]:
    """Return decisions and data commits, newest first.

    Args:
        name: Only what is about this dataset or milestone, its versions and its tags; or about one of those:
            `photos@v3`, `spring/v2`. None: everything, for which the log of every dataset is read.
        actor: Only what this one did.
        action: Only such actions: `version.publish`, or all that begin so: `version`.
        since: Only what came since: a time with its zone, a date (UTC), or a span before now such as `7d`.
        limit: At most so many.
    Raises:
        NotFoundError: nothing has or had that name (dataset-not-found).
        InvalidInputError: reference-invalid, span-invalid, time-naive.
    """
    start = None if since is None else _since(since)
    wanted = [
        f"actor = {literal(actor)}" if actor else "",
        f"(action = {literal(action)} or starts_with(action, {literal(action + '.')}))" if action else "",
        f""""at" >= {literal(start)}""" if start else "",
    ]
    resource, datasets = _about(lake.state(), name) if name else ("", [])
    if resource:
        begins = " or ".join(f"starts_with(lower(resource), {literal(resource + mark)})" for mark in "@/")
        wanted.append(f"(lower(resource) = {literal(resource)} or {begins})")
    select = "select *, 'decision' as kind from lake.decisions" if resource else "from lake.audit"
    entries = _queried(lake, AuditEntry, select, wanted, limit)
    entries += (
        entry
        for dataset in datasets
        for entry in _commits(lake, dataset)
        if f"{entry.resource.casefold()}@".startswith(f"{resource}@")
        and actor in (None, entry.actor)
        and (action is None or f"{entry.action}.".startswith(f"{action}."))
        and (start is None or entry.at >= start)
    )
    return sorted(entries, key=lambda e: e.at, reverse=True)[:limit]


def audit_reads(lake: Lake, reference: str | None = None, *, limit: int | None = None) -> list[ReadEvent]:
    """Return who opened which state, newest first; see the view `reads`.

    Args:
        reference: Only what was read as this version, `photos@v3`, or of this state, `photos@#57`; or all states of a
            dataset, `photos`; None: of all datasets.
        limit: At most so many.
    Raises:
        NotFoundError: the dataset or the state does not exist (dataset-not-found, version-not-found, ...).
        InvalidInputError: the reference does not parse (reference-invalid).
    """
    return _noted(lake, ReadEvent, "reads", reference, limit)


def audit_fetches(lake: Lake, reference: str | None = None) -> list[Fetch]:
    """Return how often which consumer opened which state; arguments and errors as `audit_reads`."""
    return _noted(lake, Fetch, "fetches", reference, None)


def verify_audit(lake: Lake, *, head: str | None = None, progress: Progress = SILENT) -> Proof:
    """Check the hash chain over all decisions, and that over the data commits up to the last published version of each table.

    Args:
        head: A head that an earlier check gave: it must still be part of the chain.
        progress: Counts tables.
    Raises:
        AccessDeniedError: the actor is no admin of the lakehouse (access-denied).
        InvalidInputError: that is no head (head-invalid).
        StorageError: the store failed.
    """
    lake.check("audit.verify")
    if head is not None and not re.fullmatch(r"[0-9a-f]{64}", head):
        raise InvalidInputError(
            "head-invalid", "The head is not 64 hexadecimal digits, as `lakehouse audit verify` prints them."
        )
    decisions = check(lake.ledger.replay(), head)
    if decisions.problem:  # the heads of the tables are decisions too
        return decisions
    commits = check_commits(lake.storage, lake.unguarded().state(), lake.facts.snapshot(COMMITS), progress)
    return replace(decisions, data_commits=commits.commits, data_erased=commits.erased, problem=commits.problem)


def _since(text: str | datetime) -> datetime:
    if isinstance(text, datetime):
        return AsOf(text).time
    try:
        selector = parse(f"audit@{text}").selector
    except InvalidInputError as error:
        if error.kind == "time-naive":
            raise
        selector = Head()
    return selector.time if isinstance(selector, AsOf) else datetime.now(UTC) - parse_span(text, "since")


def _about(state: State, name: str) -> tuple[str, list[Dataset]]:
    """Return how the resources are called that are meant, case folded, and the datasets that have or had that name."""
    if "/" in name and "@" not in name:
        return str(parse_milestone_ref(name)).casefold(), []
    ref = parse(name)
    try:
        known = find_name(state, ref.name).key
    except NotFoundError:
        if isinstance(ref.selector, Head) and state.get(Milestone, ref.key) is not None:
            return ref.key, []
        raise
    selector = "" if isinstance(ref.selector, Head) else f"@{ref.selector}"
    return f"{known}{selector}".casefold(), _named(state, known)


def _named(state: State, key: str) -> list[Dataset]:
    """Return the datasets that have or had a name: deleted ones and copies, too."""
    return [d for d in state.all(Dataset) if d.full_name.casefold() == key]


def _commits(lake: Lake, dataset: Dataset) -> Iterator[AuditEntry]:
    """Iterate over a dataset's commits, as the view `audit` shows them."""
    try:
        log = Table(lake.storage, dataset, lake.actor).log()
    except NotFoundError:  # its table is gone
        return
    for commit in log:
        yield AuditEntry(
            at=commit.created_at,
            actor=commit.user,
            kind="commit",
            action=f"data.{commit.operation.lower().replace(' ', '_')}",
            resource=f"{dataset.full_name}@#{commit.table_version}",
            before=None,
            after={name: getattr(commit, name) for name in ("rows_added", "rows_removed", "rows_updated")},
            run=commit.run,
            message=commit.message,
            commit_id=None,
            seq=None,
        )


def _noted(lake: Lake, shape: type[_E], view: str, reference: str | None, limit: int | None) -> list[_E]:
    wanted = [] if reference is None else _of_state(lake, reference)
    try:
        fold_reads(lake.storage, lake.facts)
    except LakeError as error:  # who may only read sees the spool where it is
        log.debug("the spool was not folded", extra={"error": error.kind})
    return _queried(lake, shape, f"from lake.{view}", wanted, limit)


def _of_state(lake: Lake, reference: str) -> list[str]:
    """Return the conditions that choose the reads of a state, or of a dataset; also of what can be read no more."""
    state, ref = lake.state(), parse(reference)
    name = find_name(state, ref.name)
    if isinstance(ref.selector, Head):
        return [f"dataset_id in ({', '.join(literal(d.dataset_id) for d in _named(state, name.key))})"]
    if isinstance(ref.selector, TableVersion):
        dataset_id, number = find_dataset(state, ref.name).dataset_id, ref.selector.number
        return [f"dataset_id = {literal(dataset_id)}", f"table_version = {number:d}"]
    version = state.get(DatasetVersion, f"{name.series}/{ref.selector}") if isinstance(ref.selector, Version) else None
    if version is None:
        opened = lake.peek(ref)
        version, dataset_id, number = opened.version, opened.dataset.dataset_id, opened.table_version
    else:
        dataset_id, number = version.dataset_id, version.table_version
    chosen = [f"dataset_id = {literal(dataset_id)}", f"table_version = {number:d}"]
    # One state may be several versions: only what was read as this one.
    return chosen if version is None else [*chosen, f"version = {version.number:d}"]


def _queried(lake: Lake, shape: type[_E], select: str, wanted: Sequence[str], limit: int | None) -> list[_E]:
    """Return rows of a view as values of a class with some of its columns as fields."""
    conditions = " and ".join(filter(None, wanted)) or "true"
    limited = "" if limit is None else f" limit {limit:d}"
    rows = lake.sql(f"{select} where {conditions}{limited}").to_arrow_table().to_pylist()
    return [shape(**{f.name: _plain(f.name, row[f.name]) for f in fields(shape)}) for row in rows]


def _plain(name: str, value: Any) -> Any:
    return json.loads(value) if name in ("before", "after") and value is not None else value


__all__ = ["AuditEntry", "Fetch", "ReadEvent", "audit_fetches", "audit_log", "audit_reads", "verify_audit"]
