"""Forks: a new dataset that begins with the rows of another one's state, under a schema of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace

from catalog.datasets import prepare_dataset, register_dataset
from catalog.runs import start_run
from catalog.schema_edits import with_meaning
from catalog.schema_formats import SchemaLike, SchemaSpec, read_schema
from catalog.schemas import show_schema
from lakehouse.decisions import Dataset, SchemaVersion
from lakehouse.errors import InvalidInputError
from lakehouse.evolving import is_addition
from lakehouse.forking import Forked, fork_state
from lakehouse.lake import Lake
from lakehouse.references import parse_name
from lakehouse.snapshots import Snapshot


@dataclass(frozen=True, slots=True)
class Fork:
    """What a fork made."""

    dataset: Dataset
    source: Snapshot
    """The state that it began with."""
    taken: Forked
    """The rows that it took over."""
    run: str


def fork_dataset(
    lake: Lake,
    source: str,
    name: str,
    schema: SchemaLike | None = None,
    *,
    empty: bool = False,
    description: str | None = None,
    owner: str | None = None,
) -> Fork:
    """Make a new dataset from a state of another one, which it remembers as its parent.

    Its data files are copied by the store itself, unless the schema differs by more than new nullable columns: then the
    rows are written anew, by safe casts. The bytes of assets are shared.

    Args:
        source: Any state: `photos`, `photos@v3`.
        name: `[namespace.]name` of the new dataset.
        schema: In any form, as `schema_formats.read_schema`; None: that of the state. What it does not say - key, rules,
            what columns of the same name mean - is taken over.
        empty: Take no rows.
        description, owner: Of the new dataset; None: the source's description, and the actor.
    Raises:
        NotFoundError, StateError: as `Lake.read`.
        InvalidInputError: rows that do not fit the schema, as `evolving.change_columns`; assets in another namespace,
            whose bytes are not shared (fork-namespace); as `create_dataset`.
        StateError: the name is taken (dataset-exists).
    """
    state = lake.read(source)
    origin = state.dataset
    spec = _completed(show_schema(lake, source).schema, schema)
    same = is_addition(state.schema, spec.arrow)
    full_name = ".".join(parse_name(name))
    lake.check("dataset.fork", full_name)
    if origin.kind == "assets" and not empty and parse_name(name)[0].casefold() != origin.namespace.casefold():
        raise InvalidInputError(
            "fork-namespace",
            f"{origin.full_name} holds assets, whose bytes are stored once per namespace. Fork it within {origin.namespace!r}, "
            "or export it and ingest it there.",
            dataset=origin.full_name,
        )
    said = {"source": state.reference, "dataset": full_name, "empty": empty}
    # The run's lease keeps the files and the stored bytes of the state until the fork, too, mentions them.
    with start_run(lake, "fork", parameters=said, inputs=[state], once=True) as run:
        dataset = prepare_dataset(
            lake,
            full_name,
            spec,
            key=spec.key or (),
            kind=origin.kind if same else "table",
            parent=origin.dataset_id,
            description=origin.description if description is None else description,
            owner=owner,
            license=origin.license,
        )
        taken = Forked(0, 0, 0, False) if empty else fork_state(lake, state, dataset, spec.arrow, run=run.run)
        made = register_dataset(lake, dataset, spec, "dataset.fork", run.run)
        run.counts = {"rows": taken.rows, "files": taken.files}
        run.output(made, taken.table_version)
    return Fork(made, state, taken, run.run)


def _completed(old: SchemaVersion, schema: SchemaLike | None) -> SchemaSpec:
    """Return the schema that is given, with what it does not say from the old one."""
    given = SchemaSpec(old.columns) if schema is None else read_schema(schema)
    columns = with_meaning(given.columns, old.columns)
    names = {c.name for c in columns}
    key = old.key_columns if names.issuperset(old.key_columns) else ()
    return replace(
        given,
        columns=columns,
        key=key if given.key is None else given.key,
        compatibility=given.compatibility or old.compatibility,
        misfits=given.misfits or old.misfits,
    )
