"""The history of tags: who moved which one when, as the ledger has kept it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from lakehouse.decisions import Tag
from lakehouse.lake import Lake
from lakehouse.references import parse_name
from lakehouse.resolution import find_name


@dataclass(frozen=True, slots=True)
class TagMove:
    """One move of a movable tag."""

    tag: str
    old: int | None
    """Number of the version that it named before; None: it was new."""
    new: int | None
    """Number of the version that it names since; None: it was removed."""
    at: datetime
    actor: str
    """Who moved it."""


def tag_history(lake: Lake, dataset: str, tag: str | None = None) -> list[TagMove]:
    """Return how the movable tags of a name moved, newest first, also those that were removed.

    The whole ledger is read for it, file by file; memory follows the moves.

    Args:
        dataset: `[namespace.]name`; deleted ones have their history too.
        tag: Only this one, in any case.
    Raises:
        NotFoundError: the name was never used (dataset-not-found).
    """
    name = find_name(lake.state(), ".".join(parse_name(dataset)))
    last: dict[str, Tag] = {}
    moves = []
    for row in lake.ledger.history(Tag.ENTITY, under=f"{name.series}/").to_pylist():
        before = last.pop(row["key"], None)
        after = Tag.from_json(row["value"]) if row["value"] is not None else None
        if after is not None:
            last[row["key"]] = after
        named = after or before
        if named is None or (before and after and before.number == after.number):
            continue  # set again where it was
        if tag is None or named.name.casefold() == tag.casefold():
            moved = TagMove(
                named.name, before.number if before else None, after.number if after else None, row["at"], row["actor"]
            )
            moves.append(moved)
    return moves[::-1]


__all__ = ["TagMove", "tag_history"]
