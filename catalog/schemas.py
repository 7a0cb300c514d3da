"""Schemas: numbered versions of what the columns of a dataset are, checked against each other before they change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import get_args

from catalog.column_users import ColumnUser, column_users
from catalog.compatibility import Difference, differences
from catalog.datasets import check_key
from catalog.schema_formats import SchemaLike, SchemaSpec, one_of, read_schema, write_schema
from lakehouse.decisions import Column, Compatibility, Dataset, Decision, Misfits, SchemaVersion
from lakehouse.errors import ConflictError, InvalidInputError, NotFoundError
from lakehouse.evolving import change_columns
from lakehouse.lake import Lake
from lakehouse.ledger import State
from lakehouse.references import Head, parse, parse_name
from lakehouse.registry import current, same_columns, versions
from lakehouse.resolution import find_dataset
from lakehouse.snapshots import Snapshot


@dataclass(frozen=True, slots=True)
class SchemaInfo:
    """A schema version as people want to see it."""

    dataset: Dataset
    schema: SchemaVersion
    registered: bool
    """False: the table has these columns, and the next change of the schema will give them this number."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What another schema would mean for a dataset and those who use it."""

    dataset: Dataset
    old: SchemaVersion
    new: SchemaVersion
    """As it would be registered; its rules are those of the change."""
    differences: tuple[Difference, ...]
    users: tuple[ColumnUser, ...]
    """What uses the columns whose difference breaks readers or writers."""

    @property
    def refused(self) -> tuple[Difference, ...]:
        """The differences that the compatibility mode does not allow."""
        return tuple(d for d in self.differences if not d.allowed(self.new.compatibility))

    @property
    def allowed(self) -> bool:
        """Whether the compatibility mode allows the change."""
        return not self.refused

    @property
    def breaks(self) -> bool:
        """Whether the change breaks readers or writers."""
        return any(d.breaks for d in self.differences)

    def __bool__(self) -> bool:
        """Whether anything would change: columns, what they mean, or the rules."""
        return self.new != self.old


def show_schema(lake: Lake, reference: str, *, number: int | None = None) -> SchemaInfo:
    """Return the schema of a state, with what its columns mean.

    Args:
        reference: A dataset, or a state of it: `photos`, `photos@v3`.
        number: The schema version of that number instead.
    Raises:
        NotFoundError: no such schema version (schema-version-not-found); as `Lake.read`.
    """
    state, ref = lake.state(), parse(reference)
    if number is not None:
        dataset = lake.resolve(ref).dataset
        found = state.get(SchemaVersion, f"{dataset.dataset_id}/s{number}")
        if found is None:
            last = len(versions(state, dataset.dataset_id))
            raise NotFoundError(
                "schema-version-not-found",
                f"{dataset.full_name} has no schema version s{number}; it has {last}. "
                f"List them with: lakehouse schema list {dataset.full_name}",
                dataset=dataset.full_name,
            )
        return SchemaInfo(dataset, found, True)
    snapshot = lake.read(ref)
    known = versions(state, snapshot.dataset.dataset_id)
    now = current(state, snapshot.dataset, snapshot.schema, lake.actor)
    if not isinstance(ref.selector, Head):
        same = [s for s in known if same_columns(s.columns, now.columns)]
        now = same[-1] if same else now
    return SchemaInfo(snapshot.dataset, now, now in known)


def list_schemas(lake: Lake, name: str) -> list[SchemaInfo]:
    """Return the schema versions of a dataset, newest first; what the table has now among them.

    Raises:
        NotFoundError: dataset-not-found, dataset-deleted.
    """
    now = show_schema(lake, ".".join(parse_name(name)))
    known = [SchemaInfo(now.dataset, s, True) for s in versions(lake.state(), now.dataset.dataset_id)]
    return [*([] if now.registered else [now]), *reversed(known)]


def export_schema(lake: Lake, reference: str, *, format: str = "json-schema", number: int | None = None) -> bytes:
    """Return the schema of a state as the content of a file that can be given again.

    Args:
        reference, number: As `show_schema`.
        format: json-schema, yaml or arrow.
    Raises:
        InvalidInputError: format-unknown, extra-missing.
        NotFoundError: as `show_schema`.
    """
    found = show_schema(lake, reference, number=number)
    return write_schema(found.schema, format, found.dataset.full_name)


def check_schema(lake: Lake, name: str, schema: SchemaLike) -> Verdict:
    """Say what another schema would mean for a dataset; nothing is changed.

    Args:
        schema: In any form, as `schema_formats.read_schema`. What it does not say - key, rules - stays as it is.
    Raises:
        NotFoundError: dataset-not-found, dataset-deleted.
        InvalidInputError: as `read_schema`; a key that is none (key-invalid).
    """
    return _judge(lake, lake.read(".".join(parse_name(name))), read_schema(schema))


def evolve_schema(
    lake: Lake,
    name: str,
    schema: SchemaLike | None = None,
    *,
    compatibility: Compatibility | None = None,
    misfits: Misfits | None = None,
    message: str | None = None,
    run: str | None = None,
) -> Verdict:
    """Change the schema of a dataset: its columns, what they mean, its key, its rules. It gets the next number.

    New nullable columns cost one commit of the log; other changes of columns write all rows anew, by safe casts, or change
    nothing when a row does not fit.

    Args:
        schema: All columns, in any form, as `schema_formats.read_schema`; None keeps them.
        compatibility: NONE, BACKWARD or FULL, from this change on; None keeps it.
        misfits: What an ingest does with a value that does not fit: block or flag; None keeps it.
    Returns:
        What changed; `new` is registered. False when nothing did.
    Raises:
        NotFoundError: dataset-not-found, dataset-deleted.
        InvalidInputError: a difference that the mode does not allow (schema-incompatible); an unknown mode
            (schema-invalid); as `read_schema` and `evolving.change_columns`.
        ConflictError: somebody wrote (table-changed) or changed the schema (schema-changed) meanwhile.
    """
    one_of(compatibility, get_args(Compatibility), "compatibility")
    one_of(misfits, get_args(Misfits), "misfits")
    before = lake.read(".".join(parse_name(name)))
    lake.check("schema.evolve", before.dataset.full_name)
    spec = read_schema(schema) if schema is not None else SchemaSpec(_now(lake, before).columns)
    verdict = _judge(
        lake,
        before,
        replace(spec, compatibility=compatibility or spec.compatibility, misfits=misfits or spec.misfits),
    )
    refuse_incompatible(verdict)
    if not verdict:
        return verdict
    if not same_columns(verdict.old.columns, verdict.new.columns):
        columns = SchemaSpec(verdict.new.columns).arrow
        change_columns(lake, before, columns, run=run, message=message or "schema evolve")
    return _register(lake, replace(verdict, new=replace(verdict.new, message=message or "")), run)


def refuse_incompatible(verdict: Verdict) -> None:
    """Refuse a change that the dataset's compatibility mode does not allow.

    Raises:
        InvalidInputError: schema-incompatible.
    """
    if verdict.allowed:
        return
    name = verdict.dataset.full_name
    raise InvalidInputError(
        "schema-incompatible",
        f"{name} is {verdict.new.compatibility}, which does not allow: {'; '.join(map(str, verdict.refused))}. "
        f"Make it a dataset of its own with: lakehouse dataset fork {name} NEW --schema FILE; or allow it, which breaks "
        "them, with: --compatibility NONE",
        dataset=name,
        columns=[d.column for d in verdict.refused],
    )


def _now(lake: Lake, snapshot: Snapshot) -> SchemaVersion:
    return current(lake.state(), snapshot.dataset, snapshot.schema, lake.actor)


def _judge(lake: Lake, before: Snapshot, spec: SchemaSpec) -> Verdict:
    old, dataset = _now(lake, before), before.dataset
    columns = _in_order(old.columns, spec.columns)
    key = old.key_columns if spec.key is None else spec.key
    check_key(key, [c.name for c in columns], dataset.full_name)
    new = replace(
        old,
        columns=columns,
        key_columns=key,
        compatibility=spec.compatibility or old.compatibility,
        misfits=spec.misfits or old.misfits,
    )
    if new != old:
        new = replace(new, number=old.number + 1, created_at=datetime.now(UTC), created_by=lake.actor, message="")
    found = differences(old.columns, new.columns, old.key_columns, new.key_columns)
    broken = [d.column for d in found if d.breaks and d.what not in ("added", "key")]
    users = column_users(lake, dataset, list(dict.fromkeys(broken))) if broken else []
    return Verdict(dataset, old, new, found, tuple(users))


def _in_order(old: Sequence[Column], new: Sequence[Column]) -> tuple[Column, ...]:
    """Return the new columns in the order of the old ones, then what is added: another order is no change."""
    place = {c.name: n for n, c in enumerate(old)}
    return tuple(sorted(new, key=lambda c: place.get(c.name, len(place))))


def _register(lake: Lake, verdict: Verdict, run: str | None) -> Verdict:
    old, new = verdict.old, verdict.new

    def rule(state: State) -> tuple[None, list[Decision]]:
        known = versions(state, old.dataset_id)
        # The columns of an older table were never registered: they are now, with what comes after them.
        missing = [] if old in known else [old]
        newest = known[-1].number if known else 0
        if newest != old.number - len(missing):
            raise ConflictError(
                "schema-changed",
                f"Somebody else changed the schema of {verdict.dataset.full_name} meanwhile. Look again and decide again.",
                dataset=verdict.dataset.full_name,
            )
        made: list[Decision] = [Decision.put("schema.evolve", s) for s in (*missing, new)]
        if new.key_columns != verdict.dataset.key_columns:
            dataset = find_dataset(state, verdict.dataset.full_name)
            made.append(Decision.put("schema.evolve", replace(dataset, key_columns=new.key_columns)))
        return None, made

    lake.ledger.decide(rule, run=run, message=new.message or None)
    return verdict
