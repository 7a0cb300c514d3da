"""Visibility: the state of the ledger as somebody sees it who may not read everything.

What he may not read is not there for him: no name of it in a list, a search, a view or the hint of an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa

import lakehouse.decisions as ledger_values
from lakehouse.access import EVERYWHERE, Role, Scope, is_controlled, role_in, scopes_of
from lakehouse.decisions import (
    AccessControl,
    Dataset,
    DataTag,
    Format,
    Grant,
    Name,
    Principal,
    Subscription,
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
_MOVING = frozenset(cls.ENTITY for cls in (AccessControl, Dataset, Grant, Name))
"""Entities whose values decide what else is seen."""


@dataclass(frozen=True, slots=True)
class _Visible:
    """The state as one actor sees it, kept and moved on with the state itself."""

    actor: str

    def made(self, state: State) -> State:
        return state.seen_by(self.actor, self._sees(state))

    def moved(self, kept: State, old: State, new: State, changed: Mapping[str, Iterable[str]]) -> State:
        if not _MOVING.isdisjoint(changed):
            return self.made(new)
        sees = self._sees(new)
        rows = [
            (entity, key, new.text(_CLASSES[entity], key) if sees(entity, key) else None)
            for entity, keys in changed.items()
            for key in keys
            if entity in _CLASSES
        ]
        return kept.with_rows(new.seq, rows)

    def _sees(self, state: State) -> Callable[[str, str], bool]:
        roles: dict[Scope, int] = {}

        def role(scope: Scope) -> int:
            if scope not in roles:
                roles[scope] = role_in(state, self.actor, scope) or 0
            return roles[scope]

        def sees(entity: str, key: str) -> bool:
            cls = _CLASSES.get(entity)
            value = None if cls is None else state.get(cls, key)
            return value is not None and _sees(state, value, self.actor, role)

        return sees


def visible(state: State, actor: str) -> State:
    """Return the state as somebody sees it: all of it for admins of the lakehouse, and without access control."""
    if not is_controlled(state) or role_in(state, actor, EVERYWHERE) is Role.ADMIN:
        return state
    return state.keep(_Visible(actor))


def history_seen(state: State, decisions: pa.Table) -> pa.Table:
    """Return the decisions ever made about what somebody sees now.

    Args:
        state: As he sees it.
        decisions: Columns as `ledger.SCHEMA`.
    """
    if not state.viewer:
        return decisions
    things = {(entity, key) for entity, key, _ in state.raw()}
    pairs = zip(decisions.column("entity").to_pylist(), decisions.column("key").to_pylist(), strict=True)
    return decisions.filter(pa.array([pair in things for pair in pairs], pa.bool_()))


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
            known = " || ".join(f"json_extract_string({side}, '$[*].dataset_id')" for side in ("inputs", "outputs"))
            mine = f"bool_or(len({known}) > 0) or bool_or(lower(actor) = {string(state.viewer.lower())})"
            return f"run in (select run from {{rows}} group by run having bool_and(list_has_all({seen}, {known})) and ({mine}))"
        case "blobs":
            namespaces = ", ".join({string(d.namespace) for d in state.all(Dataset)})
            return f"list_contains([{namespaces}]::VARCHAR[], namespace)"
        case "deliveries":
            names = ", ".join(string(s.name) for s in state.all(Subscription))
            return f"list_contains([{names}]::VARCHAR[], subscription)"
    columns = [name for name in ("dataset_id", "child_id", "parent_id") if name in schema.names]
    return " and ".join(f"list_contains({seen}, {name})" for name in columns) or "false"


def _sees(state: State, value: Value, actor: str, role: Callable[[Scope], int]) -> bool:
    match value:
        case Principal():
            return value.key == actor.casefold()
        case Token():
            return value.principal.casefold() == actor.casefold()
        case Grant():
            mine = value.principal.casefold() == actor.casefold()
            return mine or role(scopes_of(state, value)[0]) >= Role.ADMIN
        case Subscription():
            return role(scopes_of(state, value)[0]) >= Role.PUBLISHER
    return isinstance(value, _PUBLIC) or all(role(scope) >= Role.READER for scope in scopes_of(state, value))


__all__ = ["facts_seen", "history_seen", "visible"]
