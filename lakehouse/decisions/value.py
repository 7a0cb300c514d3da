"""What every decision is: a new value of one thing, and the JSON form of values."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from datetime import datetime
from functools import cache, partial
from typing import Any, ClassVar, Self, TypeVar, get_args, get_origin, get_type_hints

_V = TypeVar("_V")


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """Base of all ledger values: an entity name, a key, and JSON both ways."""

    ENTITY: ClassVar[str]

    @property
    def key(self) -> str:
        """The key within the entity; unique ignoring case."""
        raise AssertionError(f"{type(self).__name__} has no key")

    def to_json(self) -> str:
        """Return the value as compact JSON; times as RFC 3339."""
        return json.dumps(asdict(self), default=datetime.isoformat, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the value that `to_json` wrote; fields of a later minor format are left out."""
        loaded: Self = load(cls, json.loads(text))
        return loaded


@dataclass(frozen=True, slots=True)
class Decision:
    """One row of the ledger: an action that gave a thing a new value, or (None) removed it."""

    action: str
    """What was decided, as audit names it: `dataset.create`, `version.publish`, ..."""
    entity: str
    key: str
    value: Value | None = field(default=None)

    @classmethod
    def put(cls, action: str, value: Value) -> Self:
        """Decide a new value."""
        return cls(action, value.ENTITY, value.key, value)

    @classmethod
    def remove(cls, action: str, value: Value) -> Self:
        """Decide that the thing is gone."""
        return cls(action, value.ENTITY, value.key)


@cache
def _names(cls: Any) -> tuple[str, ...]:
    return tuple(f.name for f in fields(cls))


@cache
def _special(cls: Any) -> dict[str, Callable[[Any], Any]]:
    """Return the fields whose JSON form is not the value itself: {name: what makes the value of it}."""
    made: dict[str, Callable[[Any], Any]] = {}
    for name, hint in get_type_hints(cls).items():
        kinds = [kind for kind in get_args(hint) or (hint,) if kind is not type(None) and kind is not Ellipsis]
        if datetime in kinds:
            made[name] = datetime.fromisoformat
        elif get_origin(hint) is tuple:
            made[name] = partial(_tuple, kinds[0]) if is_dataclass(kinds[0]) else tuple
    return {name: how for name, how in made.items() if name in _names(cls)}


def _tuple(cls: Any, parts: list[dict[str, Any]]) -> tuple[Any, ...]:
    return tuple(load(cls, part) for part in parts)


def load(cls: type[_V], data: dict[str, Any]) -> _V:
    """Return a dataclass from its JSON form, also one within another; fields that it has not are left out."""
    kind: Any = cls
    given = {name: data[name] for name in _names(kind) if name in data}
    for name, how in _special(kind).items():
        if given.get(name) is not None:
            given[name] = how(given[name])
    return cls(**given)
