"""The registry of schemas: which versions the ledger knows of a dataset, and how a table's schema becomes one.

The table says which columns there are; the registry numbers their history and keeps what they mean. Nothing else
writes columns, so the two agree, but for a moment: a writer that dies between its commit and the registration, a restored
state, a table of an older release or of somebody else. Then the table is right, and the next decision registers it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pyarrow as pa

from lakehouse.decisions import Column, Dataset, Decision, SchemaVersion
from lakehouse.ledger import Ledger
from lakehouse.state import Index, State
from lakehouse.type_names import type_named, type_text

_BY_DATASET = Index(SchemaVersion, lambda s: (s.dataset_id,))
_META = ("description", "unit", "semantic")


def columns_of(schema: pa.Schema) -> tuple[Column, ...]:
    """Return the columns of an Arrow schema of plain types; the metadata of its fields says what they mean."""
    return tuple(
        Column(name=f.name, type=type_text(f.type), nullable=f.nullable, **_meaning(f.metadata or {})) for f in schema
    )


def _meaning(metadata: dict[bytes, bytes]) -> dict[str, str]:
    return {name: metadata[name.encode()].decode() for name in _META if name.encode() in metadata}


def arrow_schema(columns: Sequence[Column]) -> pa.Schema:
    """Return the Arrow schema of columns; what they mean is in the metadata of the fields.

    Raises:
        InvalidInputError: a type that is none (type-unknown).
    """
    return pa.schema(
        [
            pa.field(
                c.name,
                type_named(c.type, c.name),
                c.nullable,
                metadata={name: said for name in _META if (said := getattr(c, name))} or None,
            )
            for c in columns
        ]
    )


def versions(state: State, dataset_id: str) -> list[SchemaVersion]:
    """Return the registered schema versions of a dataset, oldest first."""
    return sorted(state.find(_BY_DATASET, dataset_id), key=lambda s: s.number)


def current(state: State, dataset: Dataset, schema: pa.Schema, actor: str) -> SchemaVersion:
    """Return the schema version that a table has now: the newest one, or the one that it would be registered as.

    Args:
        schema: What the table has.
        actor: Who would register it.
    """
    known = versions(state, dataset.dataset_id)
    newest = known[-1] if known else None
    found = columns_of(schema)
    if newest is None:
        return SchemaVersion(
            dataset_id=dataset.dataset_id,
            number=1,
            columns=found,
            key_columns=dataset.key_columns,
            created_at=datetime.now(UTC),
            created_by=actor,
        )
    if newest.columns and same_columns(newest.columns, found):
        return newest
    meant = {c.name: c for c in newest.columns}
    columns = tuple(replace(meant[c.name], type=c.type, nullable=c.nullable) if c.name in meant else c for c in found)
    return replace(
        newest,
        number=newest.number + 1,
        columns=columns,
        created_at=datetime.now(UTC),
        created_by=actor,
        message="as the table has it",
    )


def same_columns(one: Sequence[Column], other: Sequence[Column]) -> bool:
    """Whether columns are the same to the table, whatever they mean."""
    return [(c.name, c.type, c.nullable) for c in one] == [(c.name, c.type, c.nullable) for c in other]


def register(
    ledger: Ledger, dataset: Dataset, schema: pa.Schema, *, run: str | None = None, message: str | None = None
) -> SchemaVersion:
    """Make what a table has now the newest schema version, unless it is.

    Raises:
        ConflictError: others kept winning (ledger-busy).
    """

    def rule(state: State) -> tuple[SchemaVersion, list[Decision]]:
        now = current(state, dataset, schema, ledger.actor)
        if state.get(SchemaVersion, now.key) == now:
            return now, []
        made = replace(now, message=message or "")
        return made, [Decision.put("schema.evolve", made)]

    return ledger.decide(rule, run=run, message=message).result
