"""Lineage as OpenLineage events, in that project's own types.

Each run gives a START event and, when it ended, a COMPLETE or FAIL event. A dataset's namespace is the root's URI and its
version the table version, so that a collector joins events of one lakehouse and tells its states apart.

Source: OpenLineage specification 2-0-2 (https://openlineage.io/docs/spec/object-model)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

from catalog.lineage import Edge, lineage
from lakehouse.errors import StateError
from lakehouse.lake import Lake

if TYPE_CHECKING:
    from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent

PRODUCER = "https://pypi.org/project/lakehouse"
"""What OpenLineage calls the producer: who made the events."""


def openlineage_events(lake: Lake, reference: str, *, forward: bool = False) -> list[RunEvent]:
    """Return the runs that a state was made by, or (`forward`) that made something from it, as OpenLineage events.

    Returns:
        `openlineage.client.event_v2.RunEvent`s by time; `openlineage.client.serde.Serde.to_json` writes them.
    Raises:
        NotFoundError: what the reference names does not exist.
        StateError: the package is not installed (extra-missing).
    """
    if find_spec("openlineage") is None:
        raise StateError(
            "extra-missing", "OpenLineage events need the extra package: pip install 'lakehouse[lineage]'."
        )
    by_run: dict[str, list[Edge]] = {}
    for edge in lineage(lake, reference, forward=forward):
        by_run.setdefault(edge.run, []).append(edge)
    namespace = lake.root if "://" in lake.root else f"file://{lake.root}"
    events = [event for edges in by_run.values() for event in _events(namespace, edges)]
    return sorted(events, key=lambda event: event.eventTime)


def event_json(event: RunEvent) -> str:
    """Return an event as the JSON that OpenLineage's collectors take."""
    from openlineage.client.serde import Serde

    return str(Serde.to_json(event))


def _events(namespace: str, edges: Sequence[Edge]) -> list[RunEvent]:
    from openlineage.client.event_v2 import RunEvent, RunState

    one = edges[0]
    job, run = _job(namespace, one), _run(namespace, one)
    inputs: list[InputDataset] = [_input(namespace, e.input) for e in _distinct(edges, "input") if e.input]
    inputs += [_source(one.source)] if one.source else []
    common: dict[str, Any] = {"run": run, "job": job, "producer": PRODUCER, "inputs": inputs}
    started = RunEvent(eventTime=_time(one.started_at), eventType=RunState.START, outputs=[], **common)
    if one.finished_at is None:
        return [started]
    outputs = [_output(namespace, e.output, e) for e in _distinct(edges, "output") if e.output]
    state = RunState.COMPLETE if one.status == "succeeded" else RunState.FAIL
    return [started, RunEvent(eventTime=_time(one.finished_at), eventType=state, outputs=outputs, **common)]


def _run(namespace: str, edge: Edge) -> Run:
    from openlineage.client.event_v2 import Run
    from openlineage.client.facet_v2 import error_message_run, execution_parameters_run, processing_engine_run

    parameters = [
        execution_parameters_run.ExecutionParameter(key=key, name=key, value=_text(value))
        for key, value in (edge.parameters or {}).items()
    ]
    facets: dict[str, Any] = {
        "processing_engine": processing_engine_run.ProcessingEngineRunFacet(
            version=edge.code_version or "unknown", name="lakehouse", producer=PRODUCER
        ),
        "executionParameters": execution_parameters_run.ExecutionParametersRunFacet(parameters, producer=PRODUCER),
    }
    if edge.error:
        facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(edge.error, "python", producer=PRODUCER)
    return Run(str(uuid5(NAMESPACE_URL, f"{namespace}#{edge.run}")), facets)


def _job(namespace: str, edge: Edge) -> Job:
    from openlineage.client.event_v2 import Job
    from openlineage.client.facet_v2 import job_type_job

    return Job(
        namespace,
        edge.job,
        {"jobType": job_type_job.JobTypeJobFacet("BATCH", "LAKEHOUSE", jobType="JOB", producer=PRODUCER)},
    )


def _version(reference: str) -> tuple[str, dict[str, Any]]:
    from openlineage.client.facet_v2 import dataset_version_dataset

    name, _, version = reference.partition("@#")
    return name, {"version": dataset_version_dataset.DatasetVersionDatasetFacet(version, producer=PRODUCER)}


def _input(namespace: str, reference: str) -> InputDataset:
    from openlineage.client.event_v2 import InputDataset

    name, facets = _version(reference)
    return InputDataset(namespace=namespace, name=name, facets=facets)


def _output(namespace: str, reference: str, edge: Edge) -> OutputDataset:
    from openlineage.client.event_v2 import OutputDataset
    from openlineage.client.facet_v2 import output_statistics_output_dataset

    name, facets = _version(reference)
    rows = _rows_written(edge.counts or {})
    statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=rows, producer=PRODUCER)
    about: dict[str, Any] = {"outputStatistics": statistics} if rows is not None else {}
    return OutputDataset(namespace=namespace, name=name, facets=facets, outputFacets=about)


def _rows_written(counts: Mapping[str, int]) -> int | None:
    """Return how many rows a run wrote, by what its job counts; None when it counts something else."""
    if "added" in counts:  # a refresh writes what changed, too
        return counts["added"] + counts.get("changed", 0)
    return next((counts[name] for name in ("rows_added", "ingested", "rows") if name in counts), None)


def _source(source: str) -> InputDataset:
    """Return where data came from outside: a file, or an object as OpenLineage names those of a bucket."""
    from openlineage.client.event_v2 import InputDataset

    scheme, found, rest = source.partition("://")
    if not found:
        return InputDataset(namespace="file", name=source)
    host, _, path = rest.partition("/")
    return InputDataset(namespace=f"{scheme}://{host}", name=path or "/")


def _text(value: Any) -> str:
    """Return a parameter as JSON; a text is its own."""
    return value if isinstance(value, str) else json.dumps(value)


def _distinct(edges: Sequence[Edge], side: str) -> list[Edge]:
    return list({getattr(edge, side): edge for edge in edges}.values())


def _time(at: datetime | None) -> str:
    return at.isoformat() if at else ""


__all__ = ["event_json", "openlineage_events"]
