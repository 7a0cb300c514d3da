"""Datasets made by a query: filtered snapshots of published states, with rows, versions and lineage of their own.

The SQL is kept in the parameters of the run, a fact: it may hold values of rows, which the ledger never does. There the
dataset has the id of the run that made it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

import pyarrow as pa

from catalog.datasets import Kind, check_key, prepare_dataset, register_dataset
from catalog.runs import start_run
from catalog.schema_formats import SchemaSpec
from lakehouse.decisions import Dataset
from lakehouse.errors import InvalidInputError, StateError
from lakehouse.lake import Lake
from lakehouse.pinned import PinnedQuery, pin_query
from lakehouse.readers.duck import literal
from lakehouse.references import parse_name
from lakehouse.registry import columns_of
from lakehouse.replacing import replace_rows
from lakehouse.resolution import find_dataset
from lakehouse.snapshots import Snapshot
from lakehouse.tables import Table

JOB = "query"
_RUNS = """
select run, started_at, parameters, inputs, outputs from lake.runs where job = 'query' order by started_at desc, run
"""
_RECENT = 20
"""Commits in which the run is looked for that was killed before it could say what it wrote."""


@dataclass(frozen=True, slots=True)
class QueryInput:
    """A reference of a query, and what it meant."""

    reference: str
    """As it stands in the SQL, in its canonical form: `main.photos@latest`."""
    resolved: str
    """The state that it meant: `main.photos@v3`, `main.photos@#7` of one that is not published."""
    before: str | None = None
    """What it meant when the dataset was filled last; None: the query did not have it."""


@dataclass(frozen=True, slots=True)
class DatasetQuery:
    """The query that makes a dataset, as it was run last."""

    sql: str | None
    """None: it was erased, or the actor may not see all that it read."""
    inputs: tuple[QueryInput, ...]
    run: str
    refreshed_at: datetime | None
    """When the run began; None with the SQL."""


@dataclass(frozen=True, slots=True)
class QueryReport:
    """What making or refreshing a dataset by a query did."""

    dataset: str
    table_version: int
    run: str | None
    """None: nothing was new, so nothing was run."""
    inputs: tuple[QueryInput, ...]
    rows: int
    """In the dataset now."""
    added: int
    removed: int
    changed: int
    """Without a key nothing counts as changed: such a row is removed and added."""

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON-compatible values."""
        return asdict(self) | {"inputs": [asdict(entry) for entry in self.inputs]}


@dataclass(frozen=True, slots=True)
class _Filled:
    """The newest run that filled a dataset."""

    query: DatasetQuery
    inputs: frozenset[tuple[str, int]]
    """What it read: (dataset id, table version)."""
    table_version: int | None
    """What it wrote; None: it did not come to say so."""


def create_from_query(
    lake: Lake,
    name: str,
    sql: str,
    *,
    key: Sequence[str] | None = None,
    description: str = "",
    owner: str | None = None,
    license: str | None = None,
    reuse_name: bool = False,
) -> QueryReport:
    """Make a dataset of the rows that a query over published states gives: a subset, an aggregate, a join.

    It has rows of its own, so no clean-up of what it was made from can take them; from there it is a dataset like any
    other, until `refresh_from_query` runs the query again. Until the last step nobody sees it.

    Args:
        name: `[namespace.]name` of the new dataset.
        sql: As `pin_query`.
        key: Columns that identify a row; () means none. None: the key of the dataset that is read, if it is one and the
            result has its columns.
        description, owner: Of the new dataset; None is the actor.
        license: None: that of the dataset that is read, if it is one.
        reuse_name: As in `catalog.create_dataset`.
    Raises:
        InvalidInputError: as `pin_query`; a key that the result lacks (key-invalid), that is null (key-null) or not unique
            (key-not-unique); assets in another namespace, whose bytes are not shared (query-namespace); as
            `create_dataset`.
        NotFoundError, StateError: as `pin_query`.
        StateError: the name is taken (dataset-exists) or kept (name-kept).
        AccessDeniedError: the actor may not (access-denied).
        StorageError: the store failed.
    """
    full_name = ".".join(parse_name(name))
    lake.check("dataset.query", full_name)
    pinned = pin_query(lake, sql)
    only = _only(pinned)
    chosen = _default_key(pinned, only) if key is None else tuple(key)
    _check_key(chosen, pinned.schema)
    _refuse_other_namespace(pinned, parse_name(name)[0])
    with start_run(lake, JOB, parameters=_said(full_name, pinned), inputs=pinned.states, once=True) as run:
        spec = SchemaSpec(columns_of(pinned.schema))
        dataset = prepare_dataset(
            lake,
            full_name,
            spec,
            key=chosen,
            kind=_kind(pinned),
            parent=only.dataset_id if only else None,
            description=description,
            owner=owner,
            license=(only.license if only else "") if license is None else license,
            reuse_name=reuse_name,
        )
        commit = Table(lake.storage, dataset, lake.actor).append(pinned.rows(chosen), run=run.run)
        made = register_dataset(
            lake, replace(dataset, query_run=run.run), spec, "dataset.query", run.run, reuse_name=reuse_name
        )
        run.counts = {"rows": commit.rows_added}
        run.output(made, commit.table_version)
    added = commit.rows_added
    return QueryReport(made.full_name, commit.table_version, run.run, _meant(pinned, None), added, added, 0, 0)


def refresh_from_query(lake: Lake, name: str, sql: str | None = None) -> QueryReport:
    """Run the query of a dataset again, over what its references mean now, in one commit that touches what differs.

    `@latest`, tags and data tags are looked up again; `@v3` stays. Rows that others wrote into the dataset since go. When
    nothing is new nothing is run.

    Args:
        sql: Another query, from now on; None: the one that it has. It may add columns.
    Raises:
        NotFoundError: dataset-not-found, dataset-deleted; as `pin_query`.
        StateError: it was not made by a query (query-missing); as `pin_query`.
        InvalidInputError: the SQL is not there for the actor and none is given (query-missing); as `pin_query`; a key that is missing,
            null or not unique, as `create_from_query`; columns that are gone (schema-differs) or of another kind
            (schema-type-change).
        AccessDeniedError: the actor may not overwrite it (access-denied).
        ConflictError: somebody wrote into it meanwhile (table-changed).
        StorageError: the store failed.
    """
    dataset = find_dataset(lake.state(), ".".join(parse_name(name)))
    lake.check("rows.overwrite", dataset.full_name)
    filled = _filled(lake, dataset)
    if filled is None:
        raise StateError(
            "query-missing",
            f"{dataset.full_name} was not made by a query. Make such a dataset with: lakehouse dataset create NAME --query SQL",
            dataset=dataset.full_name,
        )
    text = filled.query.sql if sql is None else sql
    if text is None:
        raise InvalidInputError(
            "query-missing",
            f"The query of {dataset.full_name} was erased, or reads what you may not. Give one: "
            f"lakehouse dataset refresh {dataset.full_name} --query SQL",
            dataset=dataset.full_name,
        )
    pinned, head = pin_query(lake, text), lake.peek(dataset.full_name)
    inputs = _meant(pinned, filled.query)
    _check_key(dataset.key_columns, pinned.schema)
    _refuse_other_namespace(pinned, dataset.namespace)
    read = frozenset((s.dataset.dataset_id, s.table_version) for s in pinned.states)
    same = text == filled.query.sql and read == filled.inputs
    if same and head.table_version == filled.table_version:
        return QueryReport(dataset.full_name, head.table_version, None, inputs, head.num_rows, 0, 0, 0)
    said = _said(dataset.full_name, pinned)
    with start_run(lake, JOB, parameters=said, inputs=pinned.states, once=True) as run:
        message = f"refreshed from {', '.join(entry.resolved for entry in inputs)}"
        done = replace_rows(lake, head, pinned.rows(dataset.key_columns), run=run.run, message=message)
        counts = done.rows
        run.counts = {"added": counts.added, "removed": counts.removed, "changed": counts.changed}
        run.output(dataset, done.table_version)
    rows = head.num_rows + counts.added - counts.removed
    return QueryReport(
        dataset.full_name, done.table_version, run.run, inputs, rows, counts.added, counts.removed, counts.changed
    )


def query_of(lake: Lake, name: str) -> DatasetQuery | None:
    """Return the query that makes a dataset, and what it read when it was run last; None when no query does.

    Raises:
        NotFoundError: dataset-not-found, dataset-deleted.
    """
    filled = _filled(lake, find_dataset(lake.state(), ".".join(parse_name(name))))
    return None if filled is None else filled.query


def _filled(lake: Lake, dataset: Dataset) -> _Filled | None:
    """Return the newest run that filled a dataset: that made it, finished, or was killed after its commit."""
    if dataset.query_run is None:
        return None
    runs = lake.unguarded().sql(_RUNS).to_arrow_table().to_pylist()
    written = {entry.run: entry.table_version for entry in reversed(Table(lake.storage, dataset, "").log(_RECENT))}
    written |= {
        run["run"]: entry["table_version"]
        for run in runs
        for entry in json.loads(run["outputs"] or "[]")
        if entry["dataset_id"] == dataset.dataset_id
    }
    newest = next((run for run in runs if run["run"] in {dataset.query_run, *written}), None)
    if newest is None or not _is_seen(lake, newest["run"]):
        return _Filled(DatasetQuery(None, (), dataset.query_run, None), frozenset(), None)
    said = json.loads(newest["parameters"] or "{}")
    query = DatasetQuery(
        sql=said.get("query"),
        inputs=tuple(QueryInput(reference, meant) for reference, meant in said.get("references", {}).items()),
        run=newest["run"],
        refreshed_at=newest["started_at"],
    )
    inputs = frozenset((e["dataset_id"], e["table_version"]) for e in json.loads(newest["inputs"] or "[]"))
    return _Filled(query, inputs, written.get(newest["run"]))


def _is_seen(lake: Lake, run: str) -> bool:
    """Whether the actor may see a run, with all that it read."""
    if not lake.state().viewer:
        return True
    return bool(lake.sql(f"from lake.runs where run = {literal(run)}").fetchall())


def _said(full_name: str, pinned: PinnedQuery) -> dict[str, Any]:
    """Return the parameters of a run."""
    references = {reference: _resolved(state) for reference, state in pinned.inputs.items()}
    return {"dataset": full_name, "query": pinned.sql, "references": references}


def _meant(pinned: PinnedQuery, before: DatasetQuery | None) -> tuple[QueryInput, ...]:
    known = {entry.reference: entry.resolved for entry in before.inputs} if before else {}
    return tuple(QueryInput(ref, _resolved(state), known.get(ref)) for ref, state in pinned.inputs.items())


def _resolved(state: Snapshot) -> str:
    version = f"v{state.version.number}" if state.version else f"#{state.table_version}"
    return f"{state.dataset.full_name}@{version}"


def _only(pinned: PinnedQuery) -> Dataset | None:
    """Return the dataset that a query reads, if it is one."""
    found = {state.dataset.dataset_id: state.dataset for state in pinned.states}
    return next(iter(found.values())) if len(found) == 1 else None


def _default_key(pinned: PinnedQuery, only: Dataset | None) -> tuple[str, ...]:
    key = only.key_columns if only else ()
    return key if set(key) <= set(pinned.schema.names) else ()


def _check_key(key: Sequence[str], schema: pa.Schema) -> None:
    check_key(key, schema.names, "the query")
    nested = next((name for name in key if pa.types.is_nested(schema.field(name).type)), None)
    if nested is not None:
        raise InvalidInputError(
            "key-invalid",
            f"The key column {nested!r} holds lists, structs or maps. Name one with simple values.",
            column=nested,
        )


def _kind(pinned: PinnedQuery) -> Kind:
    """Return assets if every row still says all that is known of an asset."""
    types = {field.name: field.type for field in pinned.schema}
    of_assets = [s for s in pinned.states if s.dataset.kind == "assets"]
    whole = any(all(types.get(field.name) == field.type for field in state.schema) for state in of_assets)
    return "assets" if whole else "table"


def _refuse_other_namespace(pinned: PinnedQuery, namespace: str) -> None:
    if "uri" not in pinned.schema.names:
        return
    for state in pinned.states:
        own = state.dataset
        if own.kind == "assets" and own.namespace.casefold() != namespace.casefold():
            raise InvalidInputError(
                "query-namespace",
                f"{own.full_name} holds assets, whose bytes are stored once per namespace. Make the dataset within "
                f"{own.namespace!r}, or leave the column 'uri' out.",
                dataset=own.full_name,
            )


__all__ = ["DatasetQuery", "QueryInput", "QueryReport", "create_from_query", "query_of", "refresh_from_query"]
