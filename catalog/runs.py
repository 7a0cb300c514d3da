"""Runs: executions of jobs, recorded before their first commit.

A run leases what it reads. When it ends well, a cursor takes the place of the lease: the state that it read and the
changes since stay, for the job's next run.
"""

from __future__ import annotations

import json
import logging
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType
from typing import Any, Literal, Self
from uuid import uuid4

import pyarrow as pa

from lakehouse.decisions import Condemned, Cursor, Dataset, Decision
from lakehouse.errors import LakeError
from lakehouse.facts import SCHEMAS
from lakehouse.lake import Lake
from lakehouse.leases import leasing, new_lease, releasing
from lakehouse.ledger import State
from lakehouse.pins import SKEW
from lakehouse.snapshots import Snapshot

log = logging.getLogger(__name__)

LEASE_HOURS = 72.0
"""How long the inputs of a run stay readable that neither finishes nor fails."""
CURSOR_FOR = timedelta(days=90)
"""How long changes are kept for a job that does not come back."""


@dataclass(slots=True)
class Run:
    """One execution of a job. Used as a context: leaving it records success, or failure with the error.

    Its row is written when it is made, before the job's first commit, and every commit carries its id.
    """

    lake: Lake
    job: str
    run: str
    """The run's id: the job's name, the time, and a random part."""
    inputs: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    once: bool = False
    """Whether the job does not come back for what changes in its inputs, so that no cursor keeps it."""

    def output(self, dataset: Dataset, table_version: int) -> None:
        """Note the newest table version that this run wrote."""
        entry = {"dataset": dataset.full_name, "dataset_id": dataset.dataset_id, "table_version": table_version}
        self.outputs = [o for o in self.outputs if o["dataset_id"] != dataset.dataset_id] + [entry]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None:
            self._record("finished")
        else:
            # Only our own messages are known to hold no row values.
            said = f"{error.kind}: {error.message}" if isinstance(error, LakeError) else type(error).__name__
            self._record("failed", error=said)
        self._let_go(finished=error is None)

    def _let_go(self, *, finished: bool) -> None:
        """End the lease on the inputs; a run that finished leaves cursors on them."""
        if not self.inputs:
            return

        def rule(state: State) -> tuple[None, list[Decision]]:
            return None, releasing(state, self.run) + (self._cursors(state) if finished and not self.once else [])

        try:
            self.lake.ledger.decide(rule, run=self.run)
        except LakeError as failure:  # the lease ends by itself, and without a cursor the next run reads everything
            log.warning("the lease of %s was not released: %s", self.run, failure.message)

    def _cursors(self, state: State) -> list[Decision]:
        """Return the decisions that set a cursor for each pair of output and input, and remove those that ended."""
        made = []
        for source in self.inputs:
            condemned = state.get(Condemned, source["dataset_id"])
            if condemned is not None and source["table_version"] < condemned.before:
                continue  # the changes since are gone already
            made += [
                Cursor(
                    job=self.job,
                    target=output["dataset_id"],
                    dataset_id=source["dataset_id"],
                    table_version=source["table_version"],
                    expires_at=datetime.now(UTC) + CURSOR_FOR,
                )
                for output in self.outputs
            ]
        keys, late = {cursor.key for cursor in made}, datetime.now(UTC) - SKEW
        ended = [old for old in state.all(Cursor) if old.expires_at <= late and old.key not in keys]
        return [
            *(Decision.put("cursor.set", cursor) for cursor in made),
            *(Decision.remove("cursor.end", old) for old in ended),
        ]

    def _record(self, event: Literal["started", "finished", "failed"], **values: str) -> None:
        row = {
            "run": self.run,
            "event": event,
            "at": datetime.now(UTC),
            "job": self.job,
            "actor": self.lake.actor,
            "inputs": json.dumps(self.inputs),
            "outputs": json.dumps(self.outputs),
            "counts": json.dumps(self.counts),
            **values,
        }
        self.lake.facts.append("runs", pa.Table.from_pylist([row], schema=SCHEMAS["runs"]), (f"{self.run}-{event}", 0))


def start_run(
    lake: Lake,
    job: str,
    *,
    parameters: Mapping[str, Any],
    inputs: Sequence[Snapshot] = (),
    source: str | None = None,
    once: bool = False,
) -> Run:
    """Record that a job starts, with what it reads, and return the run.

    What it reads stays readable until the run ends, for three days at most.

    Args:
        job: `ingest`, `features.image`, ...
        parameters: JSON-compatible; never secrets. Of what may hold values of rows only the SQL of a query: a fact can be
            erased.
        inputs: The states that it reads.
        source: Where data from outside the lakehouse comes from.
        once: The job does not come back for what changes in its inputs.
    Raises:
        NotFoundError: a clean-up has given up one of the inputs (version-folded).
    """
    now = datetime.now(UTC)
    run = Run(lake, job, f"{job}-{now:%Y%m%dT%H%M%S}-{uuid4().hex[:8]}", once=once)
    run.inputs = [
        {"dataset": s.dataset.full_name, "dataset_id": s.dataset.dataset_id, "table_version": s.table_version}
        for s in inputs
    ]
    if inputs:
        lease = new_lease(run.run, inputs, LEASE_HOURS, lake.actor, lake.actor)
        lake.ledger.decide(lambda state: (None, leasing(state, lease)), run=run.run)
    known = dict(parameters) | ({"source": source} if source else {})
    run._record("started", parameters=json.dumps(known, default=str), code_version=code_version())
    return run


def code_version() -> str:
    """Return what runs: `$LAKEHOUSE_CODE_VERSION` if set (a commit of the user's own code), and our release."""
    try:
        release = version("lakehouse")
    except PackageNotFoundError:
        release = "source"
    own = os.environ.get("LAKEHOUSE_CODE_VERSION")
    return f"{own + ' ' if own else ''}lakehouse {release} python {platform.python_version()}"
