"""Copies: published versions of adopted datasets that are ours, whatever their owners do with the original.

A copy has an identity and a table, and no name: versions of the adopted dataset's name point at it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from lakehouse.copying import copy_id, copy_state, ensure_table
from lakehouse.decisions import Dataset, Decision
from lakehouse.errors import InvalidInputError
from lakehouse.lake import Lake
from lakehouse.ledger import State
from lakehouse.pins import is_condemned
from lakehouse.snapshots import Snapshot, open_snapshot


def copied(lake: Lake, source: Snapshot, *, run: str | None = None) -> tuple[Snapshot, int | None]:
    """Return the state of our own that has the rows of a state of an adopted dataset, and the original's table version.

    It is copied unless that was done before.

    Raises:
        InvalidInputError: the dataset's table is ours (copy-own); as `copying.copy_state`.
        StorageError, ConflictError: as `copying.copy_state`.
    """
    if source.dataset.copy_of is not None:
        return source, source.version.copied_from if source.version else None
    if source.dataset.guarantee == "own":
        raise InvalidInputError(
            "copy-own",
            f"{source.dataset.full_name} is a table of this lakehouse, so its versions are kept without a copy. Only "
            f"versions of adopted tables are copied: publish it without --copy.",
            dataset=source.dataset.full_name,
        )
    copy = _copy_of(lake, source)
    version = copy_state(
        lake.storage,
        copy,
        source,
        lake.actor,
        given_up=lambda number: is_condemned(lake.state(), copy.dataset_id, number),
        run=run,
    )
    opened = open_snapshot(lake.storage, copy, source.reference, version, None)
    return replace(opened, created_at=source.created_at), source.table_version


def _copy_of(lake: Lake, source: Snapshot) -> Dataset:
    """Return the dataset that holds the copies, made with the first of them."""
    original, own = source.dataset, copy_id(source.dataset)
    known = lake.state().get(Dataset, own)
    if known is not None:
        return known
    copy = replace(
        original,
        dataset_id=own,
        location=f"{original.namespace}/{original.name}-{own[:8]}/g1",
        guarantee="own",
        copy_of=original.dataset_id,
        created_at=datetime.now(UTC),
    )
    made = replace(copy, delta_id=ensure_table(lake.storage, replace(copy, delta_id=""), source.schema, lake.actor))

    def rule(state: State) -> tuple[Dataset, list[Decision]]:
        there = state.get(Dataset, own)
        if there is not None:
            return there, []
        now = state.get(Dataset, original.dataset_id) or original  # it may have been renamed meanwhile
        named = replace(made, name=now.name)
        return named, [Decision.put("dataset.copy", named)]

    return lake.ledger.decide(rule).result


__all__ = ["copied"]
