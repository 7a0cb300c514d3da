"""Edits of a schema: what is to be different, whatever else the schema says by the time the change is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from catalog.schema_formats import SchemaSpec
from lakehouse.decisions import Column
from lakehouse.errors import InvalidInputError

MEANING = ("description", "unit", "semantic")
"""What a column says for people, and no row has to fit."""


@dataclass(frozen=True, slots=True)
class SchemaEdit:
    """Columns more or less, what one column means, another key; all else stays."""

    add: tuple[Column, ...] = ()
    drop: tuple[str, ...] = ()
    """Names of columns to leave out."""
    column: str | None = None
    """The column that `words` says something of."""
    words: Mapping[str, Any] = field(default_factory=dict)
    """`description`, `unit`, `semantic`; an empty text takes away what was said."""
    key: tuple[str, ...] | None = None
    """None keeps the key; empty: no key."""

    def on(self, spec: SchemaSpec) -> SchemaSpec:
        """Return a schema with the edit made.

        Raises:
            InvalidInputError: it has no such column (column-not-found).
        """
        known = [c.name for c in spec.columns]
        absent = [n for n in (*self.drop, *([self.column] if self.column else [])) if n not in known]
        if absent:
            raise InvalidInputError(
                "column-not-found", f"There is no column {absent[0]!r}. Columns: {', '.join(known)}.", column=absent[0]
            )
        kept = (c for c in spec.columns if c.name not in self.drop)
        columns = tuple(replace(c, **self.words) if c.name == self.column else c for c in kept)
        return replace(spec, columns=(*columns, *self.add), key=spec.key if self.key is None else self.key)


def meaning(column: Column) -> dict[str, Any]:
    """Return what a column says for people."""
    return {word: getattr(column, word) for word in MEANING}


def with_meaning(columns: Sequence[Column], old: Sequence[Column]) -> tuple[Column, ...]:
    """Return columns that mean what the old ones of their name, ignoring case, mean, where they say nothing else."""
    meant = {c.name.casefold(): meaning(c) for c in old}
    return tuple(
        replace(
            c, **{word: said or meant.get(c.name.casefold(), {}).get(word, "") for word, said in meaning(c).items()}
        )
        for c in columns
    )
