"""The current state of the decisions at one ledger version, and ways to find values in it.

A state never changes: the next one is made from it. What was parsed and what was indexed goes on from state to
state, so that what a decision costs follows what it decides, and not how much was decided before.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from lakehouse.decisions import Value

T = TypeVar("T")
V = TypeVar("V", bound=Value)
Row = tuple[str, str, str | None]
"""One decision: entity, key, JSON value; None removes the thing."""
Buckets = Mapping[Hashable, Mapping[str, None]]
"""Keys of values by a word that those have, in the order in which they came to have it."""


class Kept(Protocol[T]):
    """Something that is made from a state once and then moved on with it; a constant of a module, hashable."""

    def made(self, state: State) -> T:
        """Make it by looking at a whole state."""
        ...

    def moved(self, kept: T, old: State, new: State, changed: Mapping[str, Iterable[str]]) -> T:
        """Return it for the next state, and leave the one of the old state as it is.

        Args:
            changed: Keys of the values that differ, by entity.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Index(Generic[V]):
    """A way to find values of one entity by words that each of them has; made once, as a constant of a module."""

    cls: type[V]
    words: Callable[[V], Iterable[Hashable]]
    """Returns what one value is found by; none: it is found by nothing."""

    def made(self, state: State) -> Buckets:
        """Return the keys of all values by word."""
        buckets: dict[Hashable, dict[str, None]] = {}
        for value in state.all(self.cls):
            for word in self.words(value):
                buckets.setdefault(word, {})[value.key] = None
        return buckets

    def moved(self, kept: Buckets, old: State, new: State, changed: Mapping[str, Iterable[str]]) -> Buckets:
        """Return the keys by word after some values changed; what they share with the old ones is not copied."""
        keys = changed.get(self.cls.ENTITY, ())
        return _moved(kept, self, old, new, keys) if keys else kept


@dataclass(frozen=True, slots=True)
class State:
    """The current state at one ledger version: the last value of every thing. Never changes."""

    seq: int
    """Ledger version; -1 when nothing was folded yet."""
    _values: dict[str, dict[str, str]]
    _parsed: dict[tuple[str, str], tuple[str, Value]] = field(default_factory=dict, compare=False)
    """Values by (entity, key) with the text that they were parsed from; shared by all states that follow each other."""
    _kept: dict[Kept[Any], Any] = field(default_factory=dict, compare=False)
    viewer: str = ""
    """Who sees only these decisions, and there may be more; empty: they are all."""

    def get(self, cls: type[V], key: str) -> V | None:
        """Return the value under a key, or None."""
        text = self.text(cls, key)
        return None if text is None else self._parse(cls, key, text)

    def text(self, cls: type[V], key: str) -> str | None:
        """Return the JSON of the value under a key, or None: for those who look at very many and keep none."""
        return self._values.get(cls.ENTITY, {}).get(key)

    def all(self, cls: type[V]) -> Iterator[V]:
        """Iterate over the current values of one entity, in the order in which their keys were first decided."""
        for key, text in self._values.get(cls.ENTITY, {}).items():
            yield self._parse(cls, key, text)

    def find(self, index: Index[V], word: Hashable) -> Iterator[V]:
        """Iterate over the current values that have a word, in the order in which they came to have it.

        The first call with an index looks at all values of its entity, later ones only at those that they find.
        """
        texts = self._values.get(index.cls.ENTITY, {})
        for key in self.keep(index).get(word, ()):
            yield self._parse(index.cls, key, texts[key])

    def keep(self, what: Kept[T]) -> T:
        """Return what is kept of this state: made by the first call, moved on from state to state from then on."""
        kept: T | None = self._kept.get(what)
        if kept is None:
            kept = self._kept[what] = what.made(self)
        return kept

    def raw(self) -> Iterator[tuple[str, str, str]]:
        """Iterate over (entity, key, JSON value) of everything: what the SQL views read."""
        for entity, values in self._values.items():
            for key, text in values.items():
                yield entity, key, text

    def with_rows(self, seq: int, rows: Sequence[Row]) -> State:
        """Return the state after more decisions (entity, key, value), given in order."""
        changed: dict[str, dict[str, None]] = {}
        for entity, key, _ in rows:
            changed.setdefault(entity, {})[key] = None
        values = self._values | {entity: dict(self._values.get(entity, {})) for entity in changed}
        for entity, key, value in rows:
            if value is None:
                values[entity].pop(key, None)
            else:
                values[entity][key] = value
        new = State(seq, values, self._parsed, viewer=self.viewer)
        for what, kept in list(self._kept.items()):
            new._kept[what] = what.moved(kept, self, new, changed)
        return new

    def seen_by(self, viewer: str, sees: Callable[[str, str], bool]) -> State:
        """Return the state with nothing but what somebody sees.

        Args:
            sees: Whether he sees the value of an entity and key.
        """
        values = {e: {k: text for k, text in values.items() if sees(e, k)} for e, values in self._values.items()}
        return State(self.seq, values, self._parsed, viewer=viewer)

    def _parse(self, cls: type[V], key: str, text: str) -> V:
        slot = (cls.ENTITY, key)
        known = self._parsed.get(slot)
        if known is not None and known[0] is text:
            found = known[1]
        else:
            found = cls.from_json(text)
            self._parsed[slot] = (text, found)
        assert isinstance(found, cls)
        return found


def _moved(buckets: Buckets, index: Index[V], old: State, new: State, keys: Iterable[str]) -> Buckets:
    """Return an index after the values of some keys changed; what it shares with the old one is not copied."""
    moved, own = dict(buckets), set[Hashable]()

    def bucket(word: Hashable) -> dict[str, None]:
        if word not in own:
            own.add(word)
            moved[word] = dict(moved.get(word, {}))
        found = moved[word]
        assert isinstance(found, dict)
        return found

    for key in keys:
        before, after = old.get(index.cls, key), new.get(index.cls, key)
        left = dict.fromkeys(index.words(before)) if before is not None else {}
        come = dict.fromkeys(index.words(after)) if after is not None else {}
        for word in left:
            if word not in come:
                bucket(word).pop(key, None)
        for word in come:
            bucket(word)[key] = None
    for word in own:
        if not moved[word]:
            del moved[word]
    return moved if own else buckets


EMPTY = State(-1, {})


__all__ = ["EMPTY", "Index", "Kept", "State"]
