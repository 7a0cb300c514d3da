"""Lineage: what was made from what, as a projection of the runs, in both directions."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lakehouse.lake import Lake
from lakehouse.resolution import published_at

_RUN = "r.status, r.started_at, r.finished_at, r.actor, r.parameters, r.code_version, r.counts, r.error"
_INPUTS = '[{"dataset": "VARCHAR", "dataset_id": "VARCHAR", "table_version": "BIGINT"}]'
# What a run made, and what one without an output only read, which is no lineage of any state.
_QUERY = f"""
select l.*, {_RUN} from lake.lineage l join lake.runs r using (run)
union all by name
select r.run, r.job, i.dataset as input_dataset, i.dataset_id as input_dataset_id,
    i.table_version as input_table_version, {_RUN}
from lake.runs r, unnest(from_json(r.inputs, '{_INPUTS}')) as u(i)
where json_array_length(r.outputs) = 0
"""


@dataclass(frozen=True, slots=True)
class Edge:
    """One step of lineage: a run that read one state and wrote another, or read it only."""

    depth: int
    """Steps from the state that was asked for; 1 is the nearest."""
    run: str
    job: str
    input: str | None
    """Reference of what was read (`ns.name@#3`); None when the data came from outside."""
    output: str | None
    """Reference of what was written; None when the run wrote no dataset: it read only."""
    source: str | None
    """Where data from outside came from."""
    input_version: int | None = None
    """Number of the published version that was read; None when it was not published."""
    output_version: int | None = None
    """The same of what was written."""
    status: str = "succeeded"
    """running (or its process died), succeeded or failed."""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    actor: str = ""
    parameters: Mapping[str, Any] | None = None
    code_version: str | None = None
    counts: Mapping[str, int] | None = None
    """What the run counted, such as ingested or rejected."""
    error: str | None = None
    """Why it failed."""


def lineage(lake: Lake, reference: str, *, forward: bool = False) -> list[Edge]:
    """Return what a state was made from, or (`forward`) what was made from it and who else read it, nearest first.

    A run belongs to a state when it wrote the dataset at or before that table version (backward), or read it at or
    after (forward).

    Raises:
        NotFoundError: what the reference names does not exist.
    """
    start = lake.peek(reference)
    here, there = ("input", "output") if forward else ("output", "input")
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in lake.sql(_QUERY).to_arrow_table().to_pylist():
        if row[f"{here}_table_version"] is not None:
            rows[row[f"{here}_dataset_id"]].append(row)
    edges: list[Edge] = []
    seen: set[tuple[str | int | None, ...]] = set()
    front = [(start.dataset.dataset_id, start.table_version)]
    while front:
        depth = edges[-1].depth + 1 if edges else 1
        following = []
        for dataset_id, table_version in front:
            for row in rows[dataset_id]:
                at = row[f"{here}_table_version"]
                step = (row["run"], row["output_dataset_id"], row["input_dataset_id"], row["input_table_version"])
                if step in seen or (at < table_version if forward else at > table_version):
                    continue
                seen.add(step)
                edges.append(_edge(lake, depth, row))
                if row[f"{there}_dataset_id"] is not None:
                    following.append((row[f"{there}_dataset_id"], row[f"{there}_table_version"]))
        front = following
    return edges


def lineage_tree(reference: str, edges: Sequence[Edge], *, forward: bool = False) -> list[str]:
    """Return lineage as the lines of a tree that begins with what was asked for.

    Args:
        reference: What was asked for, as it is shown.
        edges: As `lineage` returns them.
    """
    lines = [reference]
    below: dict[str | None, list[Edge]] = defaultdict(list)
    roots = [edge for edge in edges if edge.depth == 1]
    for edge in edges:
        below[_dataset(edge.input if forward else edge.output)].append(edge)
    shown: set[tuple[str, str | None, str | None]] = set()

    def add(children: Sequence[Edge], indent: str) -> None:
        for n, edge in enumerate(children):
            last = n == len(children) - 1
            end = (edge.output or "(only read)") if forward else edge.input or edge.source or "unknown"
            again = (edge.run, edge.output, edge.input) in shown
            mark = " (shown above)" if again else f"  [{edge.job}, {edge.run}]"
            lines.append(f"{indent}{'└─ ' if last else '├─ '}{end}{mark}")
            if not again:
                shown.add((edge.run, edge.output, edge.input))
                target = _dataset(edge.output if forward else edge.input)
                deeper = [e for e in below[target] if e.depth > edge.depth] if target else []
                add(deeper, indent + ("   " if last else "│  "))

    add(roots, "")
    return lines


def _dataset(reference: str | None) -> str | None:
    return None if reference is None else reference.partition("@")[0]


def _edge(lake: Lake, depth: int, row: Mapping[str, Any]) -> Edge:
    state = lake.state()

    def ref(side: str) -> str | None:
        return None if row[f"{side}_dataset"] is None else f"{row[f'{side}_dataset']}@#{row[f'{side}_table_version']}"

    def number(side: str) -> int | None:
        dataset_id = row[f"{side}_dataset_id"]
        found = published_at(state, dataset_id, row[f"{side}_table_version"]) if dataset_id else None
        return found.number if found else None

    return Edge(
        depth,
        row["run"],
        row["job"],
        ref("input"),
        ref("output"),
        row["source"],
        number("input"),
        number("output"),
        row["status"],
        row["started_at"],
        row["finished_at"],
        row["actor"],
        json.loads(row["parameters"] or "{}"),
        row["code_version"],
        json.loads(row["counts"] or "{}"),
        row["error"],
    )


__all__ = ["Edge", "lineage", "lineage_tree"]
