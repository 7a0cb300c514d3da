"""What a job is: a recorded run that commits numbered batches, each exactly once, and keeps what it could not take.

Batch number n of a run is the application transaction (run, n) of the dataset's table, and (run-rejects, n) of the
fact table of rejects. Rejects are written first: so a batch whose rows are there has its rejects too.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from catalog.runs import Run, start_run
from jobs.ingest.findings import Finding, Severity
from lakehouse.decisions import Dataset
from lakehouse.errors import ConflictError, NotFoundError, StateError
from lakehouse.facts import SCHEMAS
from lakehouse.lake import Lake
from lakehouse.readers.arrow import literal
from lakehouse.resolution import find_dataset
from lakehouse.tables import Commit, Table


@dataclass(frozen=True, slots=True)
class Reject:
    """An input item or row that was not taken, or (`severity`) was taken with a warning that must be found again."""

    source: str
    """Where it comes from: a file, a folder, an archive, a dataset."""
    item: str | None
    """The item within the source, such as an asset's path; None for a row of a table."""
    code: str
    """Stable snake_case cause."""
    reason: str
    """For a person. Never a row's values beyond the one that is wrong."""
    line: int | None = None
    """Line or row number within the source, from 1."""
    column: str | None = None
    severity: Severity = Severity.REJECT
    value: str | None = None
    """The value that is wrong, as text."""
    rule: str | None = None
    """What it breaks: `type int64`, `not null`, ..."""

    @classmethod
    def of(cls, source: str, item: str, finding: Finding) -> Reject:
        """Return the record of a finding about one item."""
        return cls(source, item, finding.code, finding.detail, severity=finding.severity)


@dataclass(slots=True)
class Job:
    """One run at work on one dataset: it counts, and keeps rejects until their batch is committed."""

    lake: Lake
    run: Run
    dataset: Dataset
    """The dataset that it writes; rejects are kept under its name."""
    number: int = 0
    """Number of the next batch."""
    counts: Counter[str] = field(default_factory=Counter)
    warnings: Counter[str] = field(default_factory=Counter)
    """Findings that kept nothing out, by code."""
    rejects_by_code: Counter[str] = field(default_factory=Counter)
    table_version: int | None = None
    """The newest version that the run wrote; None before the first."""
    _pending: list[Reject] = field(default_factory=list)

    @property
    def txn(self) -> tuple[str, int]:
        """Application transaction of the next batch."""
        return self.run.run, self.number

    def reject(self, *rejects: Reject) -> None:
        """Keep these with the next batch."""
        self._pending += rejects
        for found in rejects:
            if found.severity is Severity.REJECT:
                self.counts["rejected"] += 1
                self.rejects_by_code[found.code] += 1
            else:
                self.warnings[found.code] += 1

    def pending_items(self) -> set[str]:
        """Return the items that were rejected since the last batch."""
        return {r.item for r in self._pending if r.item is not None and r.severity is Severity.REJECT}

    def save_rejects(self) -> None:
        """Write the rejects of the next batch; to be called before its rows are committed."""
        if self._pending:
            rows = reject_rows(self.run.run, self.dataset, self._pending)
            self.lake.facts.append("rejects", rows, (f"{self.run.run}-rejects", self.number))
            self._pending = []

    def resume(self, table: Table) -> None:
        """Number the next batch after all that an earlier attempt of the run committed."""
        run, facts = self.run.run, self.lake.facts
        seen = (table.landed(run), facts.landed("rejects", f"{run}-rejects"), facts.landed("blobs", run))
        self.number = max(-1 if number is None else number for number in seen) + 1

    def committed(self, commit: Commit | None = None) -> None:
        """Note that a batch is done, and (unless it had no rows) the commit that has it.

        Raises:
            ConflictError: the batch had landed before, so another process works on the same run (run-taken).
        """
        if commit is not None and commit.already:
            raise ConflictError(
                "run-taken",
                f"Another process works on the run {self.run.run}: it wrote batch {self.number} first. "
                "Let it finish, then ingest again: what is there is recognised.",
                run=self.run.run,
            )
        self.number += 1
        if commit is not None:
            self.table_version = commit.table_version
            self.run.output(self.dataset, commit.table_version)
        self.run.counts = dict(self.counts)


def reject_rows(run: str, dataset: Dataset, rejects: Sequence[Reject]) -> pa.Table:
    """Return rejects as rows of the fact table."""
    now = datetime.now(UTC)
    columns = {
        "run": [run] * len(rejects),
        "dataset": [dataset.full_name] * len(rejects),
        "dataset_id": [dataset.dataset_id] * len(rejects),
        "source": [printable(r.source) for r in rejects],
        "at": [now] * len(rejects),
        "code": [r.code for r in rejects],
        "severity": [r.severity.value for r in rejects],
        "item": [None if r.item is None else printable(r.item) for r in rejects],
        "line": [r.line for r in rejects],
        "column_name": [r.column for r in rejects],
        "reason": [printable(r.reason) for r in rejects],
        "value": [None if r.value is None else printable(r.value) for r in rejects],
        "rule": [r.rule for r in rejects],
    }
    return pa.table(columns, schema=SCHEMAS["rejects"])


def rejected_items(job: Job) -> dict[str, str]:
    """Return what an earlier attempt of the run rejected: {item: code}."""
    facts = job.lake.facts.snapshot("rejects")
    if facts is None:
        return {}
    where = f"run = {literal(job.run.run)} and severity = {literal(Severity.REJECT.value)} and item is not null"
    rows = facts.to_arrow(["item", "code"], where)
    return dict(zip(rows.column("item").to_pylist(), rows.column("code").to_pylist(), strict=True))


def printable(text: str) -> str:
    """Return a text that can be stored: bytes of a file name that are not UTF-8 become escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def begin(lake: Lake, job: str, parameters: Mapping[str, Any], resume: str | bool | None, source: str) -> Run:
    """Start a run, or go on with an earlier one of the same parameters that did not finish.

    Args:
        resume: The run to go on with; True means the newest unfinished one; None or False starts a new one.
        source: Where the data comes from.
    Raises:
        NotFoundError: there is no such run, or none that is unfinished (run-not-found).
        StateError: the run is of another job or had other parameters (run-differs), or has finished (run-finished).
    """
    if not resume:
        return start_run(lake, job, parameters=parameters, source=source)
    wanted = {**parameters, "source": source}
    events = _events(lake, job)
    finished = {e["run"] for e in events if e["event"] == "finished"}
    started = [e for e in events if e["event"] == "started"]
    same = [e for e in started if json.loads(e["parameters"] or "{}") == json.loads(json.dumps(wanted, default=str))]
    if resume is True:
        open_runs = [e["run"] for e in same if e["run"] not in finished]
        if not open_runs:
            raise NotFoundError(
                "run-not-found",
                f"No unfinished run of {job} has these parameters. Run it without resuming: what is there is recognised.",
            )
        return Run(lake, job, open_runs[-1])
    if resume not in {e["run"] for e in started}:
        raise NotFoundError("run-not-found", f"There is no run {resume!r} of {job}.", run=resume)
    if resume not in {e["run"] for e in same}:
        raise StateError(
            "run-differs", f"The run {resume} had other parameters. Resume it with the same ones.", run=resume
        )
    if resume in finished:
        raise StateError("run-finished", f"The run {resume} has finished; there is nothing to resume.", run=resume)
    return Run(lake, job, resume)


def known_dataset(lake: Lake, name: str) -> Dataset | None:
    """Return the dataset of a name, None when there never was one.

    Raises:
        NotFoundError: it was deleted (dataset-deleted).
    """
    try:
        return find_dataset(lake.state(), name)
    except NotFoundError as error:
        if error.kind != "dataset-not-found":
            raise
        return None


def last_finished(lake: Lake, job: str, dataset: Dataset) -> Mapping[str, Any] | None:
    """Return inputs and outputs ({dataset id: table version} each) of the newest run of a job that wrote a dataset."""
    for event in reversed(_events(lake, job)):
        if event["event"] != "finished":
            continue
        sides = {
            side: {e["dataset_id"]: e["table_version"] for e in json.loads(event[side] or "[]")}
            for side in ("inputs", "outputs")
        }
        if dataset.dataset_id in sides["outputs"]:
            return sides
    return None


def _events(lake: Lake, job: str) -> list[dict[str, Any]]:
    """Return the events of all runs of a job, oldest first."""
    facts = lake.facts.snapshot("runs")
    if facts is None:
        return []
    columns = ["run", "event", "at", "parameters", "inputs", "outputs"]
    rows = facts.to_arrow(columns, where=f"job = {literal(job)}")
    events: list[dict[str, Any]] = rows.sort_by([("at", "ascending")]).to_pylist()
    return events
