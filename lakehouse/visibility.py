"""Visibility: the state of the ledger as somebody sees it who may not read everything.

What he may not read is not there for him: no name of it in a list, a search, a view or the hint of an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa

import lakehouse.decisions as ledger_values
from lakehouse.access import EVERYWHERE, Role, Scope, is_controlled, role_in, scopes_of
from lakehouse.decisions import (
    AccessControl,
    CheckDefinition,
    Condemned,
    Dataset,
    DatasetVersion,
    DataTag,
    Format,
    Grant,
    Hold,
    Lease,
    Metadata,
    Milestone,
    MilestoneVersion,
    Name,
    NamedSnapshot,
    PendingVersion,
    Principal,
    SchemaVersion,
    Subscription,
    Tag,
    Token,
    Value,
)
from lakehouse.readers.duck import string
from lakehouse.state import State

_CLASSES: dict[str, type[Value]] = {
    cls.ENTITY: cls
    for cls in (getattr(ledger_values, name) for name in ledger_values.__all__)
    if isinstance(cls, type) and issubclass(cls, Value) and cls is not Value
}
_PUBLIC: tuple[type[Value], ...] = (AccessControl, DataTag, Format)
_PERSONAL = frozenset(cls.ENTITY for cls in (Grant, Principal, Subscription, Token))
# Of the many values the key tells what they are about, so that they need not be parsed.
_BY_SERIES = frozenset(cls.ENTITY for cls in (DatasetVersion, Tag))
# What may be about several datasets, and about others than it was.
_SHARED = frozenset(cls.ENTITY for cls in (Lease, Milestone, MilestoneVersion, NamedSnapshot, PendingVersion))
_BY_ID = frozenset(cls.ENTITY for cls in (CheckDefinition, Condemned, Hold, Metadata, SchemaVersion))


@dataclass(frozen=True, slots=True)
class _Visible:
    """The state as one actor sees it, kept and moved on with the state itself."""

    actor: str

    def made(self, state: State) -> State:
        return state.seen_by(self.actor, _Eyes(state, self.actor).see)

    def moved(self, kept: State, old: State, new: State, changed: Mapping[str, Iterable[str]]) -> State:
        if _changes_sight(old, new, changed):
            return self.made(new)
        see = _Eyes(new, self.actor).see
        rows = [
            (entity, key, new.text(_CLASSES[entity], key) if see(entity, key) else None)
            for entity, keys in changed.items()
            for key in keys
            if entity in _CLASSES
        ]
        return kept.with_rows(new.seq, rows)


class _Eyes:
    """What one actor sees of one state.

    Args:
        state: All of it.
    """

    def __init__(self, state: State, actor: str) -> None:
        self._state, self._actor = state, actor
        self._roles: dict[Scope, int] = {}
        self._known: dict[str, bool] = {}

    def see(self, entity: str, key: str) -> bool:
        """Whether he sees the value of an entity and key."""
        if entity not in _PERSONAL and self.role(EVERYWHERE) >= Role.READER:
            return entity in _CLASSES
        if entity in _BY_SERIES or entity in _BY_ID:
            owner = key.partition("/")[0]
            if owner not in self._known:
                self._known[owner] = self._sees_value(entity, key)
            return self._known[owner]
        return self._sees_value(entity, key)

    def _sees_value(self, entity: str, key: str) -> bool:
        cls = _CLASSES.get(entity)
        value = None if cls is None else self._state.get(cls, key)
        return value is not None and self.sees(value)

    def sees(self, value: Value) -> bool:
        """Whether he sees a value, which may be one that is no more."""
        if isinstance(value, Principal):
            return value.key == self._actor.casefold()
        mine = isinstance(value, Grant | Token) and value.principal.casefold() == self._actor.casefold()
        if mine or isinstance(value, _PUBLIC):
            return True
        needed = {Grant.ENTITY: Role.ADMIN, Token.ENTITY: Role.ADMIN, Subscription.ENTITY: Role.PUBLISHER}
        first, *others = scopes_of(self._state, value) or [EVERYWHERE]
        own = needed.get(value.ENTITY, Role.READER)
        return self.role(first) >= own and all(self.role(s) >= Role.READER for s in others)

    def role(self, scope: Scope) -> int:
        """Return his role there, 0 for none."""
        if scope not in self._roles:
            self._roles[scope] = role_in(self._state, self._actor, scope) or 0
        return self._roles[scope]


def _changes_sight(old: State, new: State, changed: Mapping[str, Iterable[str]]) -> bool:
    """Whether something changed that decides who sees what was there before."""
    if AccessControl.ENTITY in changed or Grant.ENTITY in changed:
        return True
    for key in changed.get(Name.ENTITY, ()):
        name, now = old.get(Name, key), new.get(Name, key)
        if name and (now is None or (name.series, name.alias_of) != (now.series, now.alias_of)):
            return True
    for key in changed.get(Dataset.ENTITY, ()):
        dataset, later = old.get(Dataset, key), new.get(Dataset, key)
        if dataset and (later is None or dataset.full_name != later.full_name):
            return True
    for key in changed.get(Milestone.ENTITY, ()):  # subscriptions to it tell of its members
        milestone, after = old.get(Milestone, key), new.get(Milestone, key)
        if milestone and (after is None or milestone.members != after.members):
            return True
    return False


def visible(state: State, actor: str) -> State:
    """Return the state as somebody sees it: all of it for admins of the lakehouse, and without access control."""
    if not is_controlled(state) or role_in(state, actor, EVERYWHERE) is Role.ADMIN:
        return state
    return state.keep(_Visible(actor))


def history_seen(state: State, decisions: pa.Table) -> pa.Table:
    """Return the decisions ever made about what somebody sees now, without those that tell of something else, too.

    Args:
        state: As he sees it.
        decisions: Columns as `ledger.SCHEMA`.
    """
    if not state.viewer:
        return decisions
    eyes, things = _Eyes(state, state.viewer), {(entity, key) for entity, key, _ in state.raw()}

    def sees(entity: str, key: str, text: str | None) -> bool:
        if (entity, key) not in things:
            return False
        return text is None or entity not in _SHARED or eyes.sees(_CLASSES[entity].from_json(text))

    rows = zip(*(decisions.column(name).to_pylist() for name in ("entity", "key", "value")), strict=True)
    return decisions.filter(pa.array([sees(*row) for row in rows], pa.bool_()))


def reads_seen(state: State, reads: pa.Table) -> pa.Table:
    """Return the notes of who read what that somebody sees: his own, and those on datasets that he is an admin of.

    Args:
        state: As he sees it.
        reads: Columns `dataset_id` and `actor` among others.
    """
    if not state.viewer:
        return reads
    kept, pairs = (
        _looked_after(state),
        zip(*(reads.column(n).to_pylist() for n in ("dataset_id", "actor")), strict=True),
    )
    seen = [dataset_id in kept or actor.casefold() == state.viewer.casefold() for dataset_id, actor in pairs]
    return reads.filter(pa.array(seen, pa.bool_()))


def _looked_after(state: State) -> set[str]:
    """Return the ids of the datasets that the viewer is an admin of."""
    eyes = _Eyes(state, state.viewer)
    return {d.dataset_id for d in state.all(Dataset) if eyes.role(scopes_of(state, d)[0]) >= Role.ADMIN}


def facts_seen(state: State, fact: str, schema: pa.Schema) -> str:
    """Return the SQL condition on a fact table's rows that say nothing but of what is seen; "" for all of them.

    Args:
        state: As somebody sees it; `{rows}` in the condition stands for the table.
    """
    if not state.viewer:
        return ""
    ids = ", ".join(string(d.dataset_id) for d in state.all(Dataset))
    seen = f"[{ids}]::VARCHAR[]"
    match fact:
        case "runs":  # a run is seen whole, with all that it read and wrote, or not at all
            read, written = (f"json_extract_string({side}, '$[*].dataset_id')" for side in ("inputs", "outputs"))
            known = f"{read} || {written}"
            # One that wrote nothing yet, or failed, may name in its parameters and its error what it was to write.
            mine = f"bool_or(len({written}) > 0) or bool_or(lower(actor) = {string(state.viewer.lower())})"
            return f"run in (select run from {{rows}} group by run having bool_and(list_has_all({seen}, {known})) and ({mine}))"
        case "blobs":
            namespaces = ", ".join({string(d.namespace) for d in state.all(Dataset)})
            return f"list_contains([{namespaces}]::VARCHAR[], namespace)"
        case "reads":  # who reads what is for him and for those who look after it
            kept = ", ".join(string(i) for i in _looked_after(state))
            return f"list_contains([{kept}]::VARCHAR[], dataset_id) or lower(actor) = {string(state.viewer.lower())}"
        case "deliveries":
            names = ", ".join(string(s.name) for s in state.all(Subscription))
            return f"list_contains([{names}]::VARCHAR[], subscription)"
    columns = [name for name in ("dataset_id", "child_id", "parent_id") if name in schema.names]
    return " and ".join(f"list_contains({seen}, {name})" for name in columns) or "false"


__all__ = ["facts_seen", "history_seen", "reads_seen", "visible"]
