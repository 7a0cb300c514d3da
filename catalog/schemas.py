"""Schemas: numbered versions of what the columns of a dataset are, checked against each other before they change."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, get_args

from catalog.column_users import ColumnUser, column_users
from catalog.compatibility import Difference, differences
from catalog.datasets import check_key
from catalog.schema_edits import SchemaEdit, meaning, with_meaning
from catalog.schema_formats import SchemaLike, SchemaSpec, one_of, read_schema, write_schema
from lakehouse.commits import backoff
from lakehouse.decisions import Column, Compatibility, Dataset, Decision, Misfits, SchemaVersion
from lakehouse.errors import ConflictError, InvalidInputError, NotFoundError
from lakehouse.evolving import change_columns
from lakehouse.lake import Lake
from lakehouse.ledger import State
from lakehouse.references import Head, parse, parse_name
from lakehouse.registry import columns_of, current, same_columns, versions
from lakehouse.resolution import find_dataset
from lakehouse.snapshots import Snapshot
from lakehouse.tables import PATIENCE_S


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
    registered: bool = True
    """Whether `old` is: not when who changed the table died before, or when others change it."""

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
        """Whether anything would change: columns, what they mean, the rules, or that the schema has a number."""
        return self.new != self.old or not self.registered


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
    snapshot = lake.peek(ref)
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


def check_schema(
    lake: Lake,
    name: str,
    schema: SchemaLike | None = None,
    *,
    edit: SchemaEdit | None = None,
    compatibility: Compatibility | None = None,
    misfits: Misfits | None = None,
) -> Verdict:
    """Say what another schema would mean for a dataset; nothing is changed.

    Args:
        schema, edit, compatibility, misfits: As `evolve_schema`.
    Raises:
        NotFoundError: dataset-not-found, dataset-deleted.
        InvalidInputError: as `read_schema` and `SchemaEdit.on`; a key that is none (key-invalid).
    """
    change = _Change(None if schema is None else read_schema(schema), edit, compatibility, misfits)
    before = lake.peek(".".join(parse_name(name)))
    return _judge(lake, before, change.on(_now(lake, before)))


def evolve_schema(
    lake: Lake,
    name: str,
    schema: SchemaLike | None = None,
    *,
    edit: SchemaEdit | None = None,
    compatibility: Compatibility | None = None,
    misfits: Misfits | None = None,
    message: str | None = None,
    run: str | None = None,
) -> Verdict:
    """Change the schema of a dataset: its columns, what they mean, its key, its rules. It gets the next number.

    New nullable columns cost one commit of the log; other changes of columns write all rows anew, by safe casts, or change
    nothing when a row does not fit. What a writer who died left unregistered is registered, too.

    Args:
        schema: All columns, in any form, as `schema_formats.read_schema`; None keeps them. What it does not say - key,
            rules, what columns mean - stays as it is.
        edit: What is to be different besides. Without `schema` it is made on what is there by then: what others change
            meanwhile stays.
        compatibility: NONE, BACKWARD or FULL, from this change on; None keeps it.
        misfits: What an ingest does with a value that does not fit: block or flag; None keeps it.
    Returns:
        What changed; `new` is registered. False when nothing did.
    Raises:
        NotFoundError: dataset-not-found, dataset-deleted.
        InvalidInputError: a difference that the mode does not allow (schema-incompatible); an unknown mode
            (schema-invalid); as `read_schema`, `SchemaEdit.on` and `evolving.change_columns`.
        ConflictError: somebody wrote (table-changed) or changed the schema (schema-changed) meanwhile; nothing was changed.
    """
    change = _Change(None if schema is None else read_schema(schema), edit, compatibility, misfits)
    deadline, tries = time.monotonic() + PATIENCE_S, 0
    while True:
        try:
            return _evolve(lake, name, change, message, run)
        except ConflictError as error:
            changed = error.kind in ("table-changed", "schema-changed")
            if not change.relative or not changed or time.monotonic() > deadline:
                raise
        tries += 1
        backoff(tries)


@dataclass(frozen=True, slots=True)
class _Change:
    """What somebody wants of a schema; None where nothing was said."""

    schema: SchemaSpec | None
    edit: SchemaEdit | None
    compatibility: Compatibility | None
    misfits: Misfits | None

    @property
    def relative(self) -> bool:
        """Whether it can be made on whatever schema is there."""
        return self.schema is None and self.edit is not None

    def on(self, now: SchemaVersion) -> SchemaSpec:
        """Return the schema that it makes of the one that is there."""
        one_of(self.compatibility, get_args(Compatibility), "compatibility")
        one_of(self.misfits, get_args(Misfits), "misfits")
        spec = self.schema or SchemaSpec(now.columns)
        spec = replace(spec, columns=with_meaning(spec.columns, now.columns))
        spec = spec if self.edit is None else read_schema(self.edit.on(spec))
        return replace(
            spec, compatibility=self.compatibility or spec.compatibility, misfits=self.misfits or spec.misfits
        )


def _evolve(lake: Lake, name: str, change: _Change, message: str | None, run: str | None) -> Verdict:
    before = lake.peek(".".join(parse_name(name)))
    lake.check("schema.evolve", before.dataset.full_name)
    verdict = _judge(lake, before, change.on(_now(lake, before)))
    refuse_incompatible(verdict)
    if not verdict:
        return verdict
    committed = not same_columns(verdict.old.columns, verdict.new.columns)
    if committed:
        columns = SchemaSpec(verdict.new.columns).arrow
        change_columns(lake, before, columns, run=run, message=message or "schema evolve")
    verdict = (
        replace(verdict, new=replace(verdict.new, message=message or "")) if verdict.new != verdict.old else verdict
    )
    return _register(lake, verdict, run, merge=committed or change.relative)


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
    spelt = {c.name.casefold(): c.name for c in columns}
    key = tuple(spelt.get(k.casefold(), k) for k in old.key_columns) if spec.key is None else spec.key
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
    registered = old in versions(lake.state(), dataset.dataset_id)
    return Verdict(dataset, old, new, found, tuple(users), registered)


def _in_order(old: Sequence[Column], new: Sequence[Column]) -> tuple[Column, ...]:
    """Return the new columns in the order of the old ones, then what is added: another order is no change."""
    place = {c.name.casefold(): n for n, c in enumerate(old)}
    return tuple(sorted(new, key=lambda c: place.get(c.name.casefold(), len(place))))


def _register(lake: Lake, verdict: Verdict, run: str | None, *, merge: bool) -> Verdict:
    """Register the new version, and the old one if it is not.

    Args:
        merge: When others changed the schema meanwhile, make the change on top of theirs; else refuse it.
    Raises:
        ConflictError: others did, without `merge` (schema-changed).
    """
    tries = 0
    while True:
        # Looked at before the table: what others register after this may be of columns that the look at it missed.
        seen = versions(lake.state(), verdict.dataset.dataset_id)
        rule = partial(_registration, verdict, lake.peek(verdict.dataset.full_name), seen, merge)
        try:
            made = lake.ledger.decide(rule, run=run, message=verdict.new.message or None).result
            return replace(verdict, new=made)
        except ConflictError as error:
            if not merge or error.kind != "schema-changed":
                raise
        tries += 1
        backoff(tries)


def _registration(
    verdict: Verdict, head: Snapshot, seen: Sequence[SchemaVersion], merge: bool, state: State
) -> tuple[SchemaVersion, list[Decision]]:
    """Return the version that a change makes, and the decisions: a rule of the ledger."""
    old, new, dataset = verdict.old, verdict.new, find_dataset(state, verdict.dataset.full_name)
    known = versions(state, old.dataset_id)
    # The columns of an older table were never registered: they are now, with what comes after them.
    missing = [] if old in known else [old]
    alone = (known[-1].number if known else 0) == old.number - len(missing)
    if alone and same_columns(columns_of(head.schema), new.columns):
        made = [*missing, *([new] if new != old else [])]
    elif merge and known == seen:
        new = _on_top(current(state, dataset, head.schema, new.created_by), verdict)
        newest = known[-1] if known else None
        number = newest.number + 1 if newest else 1
        made = [] if new == newest else [replace(new, number=number, message=verdict.new.message)]
        new = made[-1] if made else new
    else:
        raise ConflictError(
            "schema-changed",
            f"Somebody else changed the schema of {dataset.full_name} meanwhile, and nothing was changed. Look again with: "
            f"lakehouse schema show {dataset.full_name}",
            dataset=dataset.full_name,
        )
    decisions: list[Decision] = [Decision.put("schema.evolve", s) for s in made]
    if new.key_columns != dataset.key_columns:
        decisions.append(Decision.put("schema.evolve", replace(dataset, key_columns=new.key_columns)))
    return new, decisions


def _on_top(now: SchemaVersion, verdict: Verdict) -> SchemaVersion:
    """Return the schema that is there with what a change makes of meaning, key and rules; its columns are there already."""
    old, new = verdict.old, verdict.new
    meant = {c.name: meaning(c) for c in old.columns}
    said: dict[str, Any] = {c.name: meaning(c) for c in new.columns if meaning(c) != meant.get(c.name)}
    rules: dict[str, Any] = {
        rule: getattr(new, rule)
        for rule in ("key_columns", "compatibility", "misfits")
        if getattr(new, rule) != getattr(old, rule)
    }
    made = replace(now, columns=tuple(replace(c, **said.get(c.name, {})) for c in now.columns), **rules)
    return made if made == now else replace(made, created_at=new.created_at, created_by=new.created_by)
