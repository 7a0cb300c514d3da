"""Datasets: create, adopt, list, show, delete, undrop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from catalog.aggregation import advance_with, milestones_of
from catalog.metadata import metadata_of
from catalog.schema_formats import SchemaLike, SchemaSpec, read_schema
from lakehouse.creation import create_table, identify_table
from lakehouse.decisions import Dataset, DatasetVersion, Decision, Hold, Metadata, Name
from lakehouse.delta import table_uri
from lakehouse.errors import InvalidInputError, NotFoundError, StateError
from lakehouse.lake import Lake, new_id
from lakehouse.ledger import State
from lakehouse.pins import held
from lakehouse.references import Latest, check_name, check_namespace, parse_name
from lakehouse.registry import columns_of
from lakehouse.resolution import aliases_of, choose_version, find_dataset, find_name, known_name, tags_of
from lakehouse.state import Index

_BY_NAMESPACE = Index(Dataset, lambda d: (d.namespace.casefold(),))
_BY_LOCATION = Index(Dataset, lambda d: (d.location,))
_BY_PARENT = Index(Dataset, lambda d: (d.parent,) if d.parent and d.deleted_at is None else ())
Kind = Literal["table", "assets", "features"]


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """A dataset as people want to see it."""

    dataset: Dataset
    latest_version: int
    """Number of the version that `latest` means; 0 when none was published."""
    tags: dict[str, int]
    """Movable tags: {tag: version number}."""
    milestones: list[str]
    """Milestones that it is a member of."""
    children: list[str]
    """Datasets derived from it."""
    hold: Hold | None = None
    """The legal hold on it, if there is one."""
    aliases: tuple[str, ...] = ()
    """Former names that still mean it."""
    metadata: tuple[Metadata, ...] = ()
    """What people noted about it, by name."""


def create_dataset(
    lake: Lake,
    name: str,
    schema: SchemaLike,
    *,
    key: Sequence[str] = (),
    kind: Kind = "table",
    parent: str | None = None,
    description: str = "",
    owner: str | None = None,
    license: str = "",
    run: str | None = None,
    reuse_name: bool = False,
) -> Dataset:
    """Make an empty dataset with this schema.

    Args:
        name: `[namespace.]name`.
        schema: Arrow, JSON Schema, a Pydantic model or a file, as `schema_formats.read_schema`; types that Delta lacks are
            widened where that loses nothing. It is the dataset's first schema version.
        key: Columns that identify a row; none: what the schema says.
        parent: Name of the dataset that this one is derived from.
        owner: None means the actor.
        reuse_name: Take the name of a deleted dataset, which is kept for it otherwise. Versions are numbered on, and
            those of the deleted one stay readable.
    Raises:
        InvalidInputError: a name that does not parse (reference-invalid) or is kept (name-reserved); unsupported-type,
            duplicate-column, schema-case-conflict, schema-invalid, type-unknown; a key column that the schema lacks or
            that comes twice (key-invalid).
        StateError: the name is taken (dataset-exists), or kept for a deleted dataset (name-kept).
        NotFoundError: no such parent.
    """
    spec = read_schema(schema)
    dataset = prepare_dataset(
        lake,
        name,
        spec,
        key=key,
        kind=kind,
        parent=find_dataset(lake.state(), _full(parent)).dataset_id if parent else None,
        description=description,
        owner=owner,
        license=license,
        reuse_name=reuse_name,
    )
    return register_dataset(lake, dataset, spec, "dataset.create", run, reuse_name=reuse_name)


def prepare_dataset(
    lake: Lake,
    name: str,
    spec: SchemaSpec,
    *,
    key: Sequence[str],
    kind: Kind,
    parent: str | None,
    description: str,
    owner: str | None,
    license: str,
    reuse_name: bool = False,
) -> Dataset:
    """Make the table of a new dataset, which nobody sees before `register_dataset`.

    Args:
        parent: Id of the dataset that it is derived from; the others, and errors, as `create_dataset`.
    """
    state = lake.state()
    namespace, short = _checked_name(state, name)
    lake.check("dataset.create", f"{namespace}.{short}")
    key = tuple(key) or spec.key or ()
    check_key(key, spec.arrow.names, name)
    _refuse_taken(state, f"{namespace}.{short}", reuse=reuse_name)
    dataset_id = new_id()
    location = f"{namespace}/{short}-{dataset_id[:8]}/g1"
    return Dataset(
        dataset_id=dataset_id,
        namespace=namespace,
        name=short,
        location=location,
        delta_id=create_table(lake.storage, location, spec.arrow, f"{namespace}.{short}", lake.actor),
        key_columns=key,
        kind=kind,
        parent=parent,
        description=description,
        owner=lake.actor if owner is None else owner,
        license=license,
        created_at=datetime.now(UTC),
    )


def adopt_dataset(
    lake: Lake,
    name: str,
    location: str,
    *,
    key: Sequence[str] = (),
    description: str = "",
    owner: str | None = None,
    license: str = "",
    reuse_name: bool = False,
) -> Dataset:
    """Register an existing Delta table in place, written by any engine; nothing is copied or changed.

    Its guarantee is `external`: others may vacuum it, and then its older versions are gone.

    Args:
        location: Folder or URI of the Delta table.
        reuse_name: As in `create_dataset`.
    Raises:
        NotFoundError: no Delta table there (table-missing).
        FormatError: it needs a feature that can't be read here (feature-unsupported).
        StateError: the name is taken (dataset-exists) or kept (name-kept), or the location is a dataset already
            (location-taken): one that is there, or a deleted one whose table we made, which `undrop_dataset` brings back.
        InvalidInputError: reference-invalid, name-reserved, key-invalid.
    """
    namespace, short = _checked_name(lake.state(), name)
    lake.check("dataset.adopt", f"{namespace}.{short}")
    uri, delta_id, schema = identify_table(lake.storage, location, f"{namespace}.{short}")
    check_key(key, schema.names, location)
    dataset = Dataset(
        dataset_id=new_id(),
        namespace=namespace,
        name=short,
        location=uri,
        delta_id=delta_id,
        key_columns=tuple(key),
        guarantee="external",
        description=description,
        owner=lake.actor if owner is None else owner,
        license=license,
        created_at=datetime.now(UTC),
    )
    return register_dataset(lake, dataset, SchemaSpec(columns_of(schema)), "dataset.adopt", None, reuse_name=reuse_name)


def list_datasets(lake: Lake, *, namespace: str | None = None, deleted: bool = False) -> list[DatasetInfo]:
    """Return the datasets by name.

    Args:
        namespace: Only this one.
        deleted: Only those that were deleted, instead of those that are there.
    """
    state = lake.state()
    found = [
        d
        for d in state.all(Dataset)
        if (d.deleted_at is not None) == deleted
        and d.copy_of is None
        and (namespace is None or d.namespace.casefold() == namespace.casefold())
    ]
    return [_info(state, d) for d in sorted(found, key=lambda d: d.full_name.casefold())]


def show_dataset(lake: Lake, name: str) -> DatasetInfo:
    """Return one dataset with its tags, milestones, children and metadata.

    Raises:
        NotFoundError: dataset-not-found, dataset-deleted.
    """
    state = lake.state()
    return _info(state, find_dataset(state, _full(name)))


def delete_dataset(lake: Lake, name: str, *, message: str | None = None) -> Dataset:
    """Hide a dataset; its name keeps its numbering, published versions stay readable, `undrop_dataset` brings it back.

    Raises:
        NotFoundError: dataset-not-found, dataset-deleted.
    """
    full = _full(name)

    def rule(state: State) -> tuple[Dataset, list[Decision]]:
        dataset = replace(find_dataset(state, full), deleted_at=datetime.now(UTC))
        left = replace(find_name(state, dataset.full_name), dataset_id=None)
        return dataset, [Decision.put("dataset.delete", dataset), Decision.put("dataset.delete", left)]

    gone = lake.ledger.decide(rule, message=message).result
    advance_with(lake, gone.full_name)
    return gone


def undrop_dataset(lake: Lake, name: str, *, dataset_id: str | None = None) -> Dataset:
    """Bring back a deleted dataset under its name.

    Args:
        dataset_id: Which, if several of that name were deleted; None: the one that was deleted last.
    Raises:
        NotFoundError: no deleted dataset has that name, or that id (dataset-not-found).
        StateError: the name is in use again (dataset-exists), or the location is (location-taken).
    """

    def rule(state: State) -> tuple[Dataset, list[Decision]]:
        known = known_name(state, _full(name))
        full = known.full_name if known else _full(name)
        named = (d for d in state.all(Dataset) if d.full_name.casefold() == full.casefold() and d.copy_of is None)
        gone = [d for d in named if d.deleted_at is not None and dataset_id in (None, d.dataset_id)]
        gone.sort(key=lambda d: d.deleted_at or d.created_at)
        _refuse_taken(state, full, reuse=True, deleted=gone)
        if not gone:
            which = f"the name {full!r}" + (f" and the id {dataset_id!r}" if dataset_id else "")
            raise NotFoundError(
                "dataset-not-found",
                f"No deleted dataset has {which}. List them with: lakehouse dataset list --deleted",
                dataset=full,
            )
        dataset = replace(gone[-1], deleted_at=None)
        _refuse_location(lake, state, dataset)
        back = replace(find_name(state, full), dataset_id=dataset.dataset_id)
        return dataset, [Decision.put("dataset.undrop", dataset), Decision.put("dataset.undrop", back)]

    found = lake.ledger.decide(rule).result
    advance_with(lake, found.full_name)
    return found


def register_dataset(
    lake: Lake, dataset: Dataset, schema: SchemaSpec, action: str, run: str | None, *, reuse_name: bool = False
) -> Dataset:
    """Give a table its name and its first schema version, in one commit.

    Raises:
        StateError: the name is taken (dataset-exists) or kept (name-kept), or the location is taken (location-taken).
    """

    def rule(state: State) -> tuple[Dataset, list[Decision]]:
        # Spelt again: somebody may have made the namespace meanwhile, and its name is where the bytes of assets lie.
        made = replace(dataset, namespace=_known_spelling(state, dataset.namespace))
        _refuse_taken(state, made.full_name, reuse=reuse_name)
        _refuse_location(lake, state, made)
        known = state.get(Name, made.full_name.casefold())
        name = Name(
            full_name=made.full_name,
            series=(known.series if known else "") or new_id(),
            dataset_id=made.dataset_id,
            last_version=known.last_version if known else 0,
        )
        return made, [Decision.put(action, v) for v in (made, name, schema.first(made, lake.actor))]

    return lake.ledger.decide(rule, run=run).result


def _checked_name(state: State, name: str) -> tuple[str, str]:
    namespace, short = parse_name(name)
    return _known_spelling(state, check_namespace(namespace)), check_name(short)


def _known_spelling(state: State, namespace: str) -> str:
    """Return a namespace as the first of its datasets spells it: `Vision` and `vision` are one."""
    first = next(state.find(_BY_NAMESPACE, namespace.casefold()), None)
    return first.namespace if first else namespace


def check_key(key: Sequence[str], names: Sequence[str], what: str) -> None:
    """Refuse a key that names columns which are not there, or one twice.

    Raises:
        InvalidInputError: it does (key-invalid).
    """
    absent = [k for k in key if k not in names]
    if absent:
        raise InvalidInputError(
            "key-invalid", f"The key column {absent[0]!r} is no column of {what}. Columns: {', '.join(names)}."
        )
    if len(set(key)) != len(key):
        raise InvalidInputError("key-invalid", f"The key {', '.join(key)} of {what} names a column twice.")


def _full(name: str) -> str:
    return ".".join(parse_name(name))


def _refuse_taken(state: State, full_name: str, *, reuse: bool = False, deleted: Sequence[Dataset] = ()) -> None:
    """Refuse a name that a dataset has, had before it was renamed, or, unless it is reused, had before it was deleted.

    Args:
        deleted: Datasets that wait for the name.
    """
    known = state.get(Name, full_name.casefold())
    if known is not None and known.alias_of is not None:
        raise StateError(
            "dataset-exists",
            f"{known.full_name} is a former name of {known.alias_of}, and still means it. Choose another name, or give it "
            f"back with: lakehouse dataset unalias {known.full_name}",
            dataset=known.alias_of,
        )
    if known is not None and known.dataset_id is not None:
        choice = "Choose another name."
        if deleted:
            choice = (
                f"Delete that one first, and bring this one back with: lakehouse dataset undrop {known.full_name} "
                f"--id {deleted[-1].dataset_id}"
            )
        raise StateError(
            "dataset-exists", f"A dataset {known.full_name} exists already. {choice}", dataset=known.full_name
        )
    if known is not None and known.series and not reuse:
        raise StateError(
            "name-kept",
            f"The name {known.full_name} is kept for a deleted dataset. Bring that back with: lakehouse dataset undrop "
            f"{known.full_name}; or give its name to a new one, whose versions are numbered on: lakehouse dataset create "
            f"{known.full_name} --reuse-name",
            dataset=known.full_name,
        )


def _refuse_location(lake: Lake, state: State, dataset: Dataset) -> None:
    uri = table_uri(lake.storage, dataset.location)
    if uri.startswith(lake.storage.uri("_system/")):
        raise StateError("location-taken", f"{uri} belongs to the lakehouse itself.")
    # An own table is known by its key under the root, an adopted one by its full path or URI.
    same = {dataset.location, uri, uri.removeprefix(lake.storage.uri(""))}
    for other in (d for location in same for d in state.find(_BY_LOCATION, location)):
        if other.dataset_id == dataset.dataset_id:
            continue
        if other.deleted_at is None:
            raise StateError(
                "location-taken", f"{uri} is the dataset {other.full_name} already; one location is one dataset."
            )
        if other.guarantee == "own":  # an adopted table is its owner's, and free again after the delete
            raise StateError(
                "location-taken",
                f"{uri} is the deleted dataset {other.full_name}. "
                f"Bring it back with: lakehouse dataset undrop {other.full_name}",
            )


def children_of(state: State, dataset: Dataset) -> Iterator[Dataset]:
    """Iterate over the datasets that are derived from one, and not deleted."""
    return state.find(_BY_PARENT, dataset.dataset_id)


def _info(state: State, dataset: Dataset) -> DatasetInfo:
    name = find_name(state, dataset.full_name)
    published = state.get(DatasetVersion, f"{name.series}/v{name.last_version}") is not None
    return DatasetInfo(
        dataset=dataset,
        latest_version=choose_version(state, name, Latest()).number if published else 0,
        tags=tags_of(state, name.series),
        milestones=[m.full_name for m in milestones_of(state, dataset.full_name)],
        children=[d.full_name for d in children_of(state, dataset)],
        hold=held(state, dataset.dataset_id),
        aliases=tuple(aliases_of(state, name)),
        metadata=tuple(metadata_of(state, dataset.dataset_id)),
    )
