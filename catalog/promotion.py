"""Promotion: a published version gets another data tag, as a recorded fact; no row is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from catalog.aggregation import Standing, advance_with
from lakehouse.decisions import DatasetVersion, DataTag, Decision, Tag
from lakehouse.errors import StateError
from lakehouse.lake import Lake
from lakehouse.ledger import State
from lakehouse.notices import refuse_withdrawn
from lakehouse.references import check_tag, parse
from lakehouse.resolution import named_now, refuse_expired


def promote(
    lake: Lake,
    reference: str,
    data_tag: str,
    *,
    message: str | None = None,
    told: Callable[[Standing], object] | None = None,
) -> DatasetVersion:
    """Give a published version another data tag: DRAFT -> REVIEWED -> FINAL, or back.

    Published milestone versions keep the data tag that it had; milestones that wait for it move on.

    Args:
        reference: A published version: `photos@v3`, `photos@latest`, `photos@DRAFT`.
        data_tag: DRAFT, REVIEWED, FINAL or your own word.
        told: Is called with where each of its milestones stands afterwards.
    Raises:
        InvalidInputError: tag-invalid, tag-reserved.
        NotFoundError: what the reference names does not exist.
        StateError: the state is not published (version-not-published), was given up (version-expired) or withdrawn
            (version-withdrawn); the word is a movable tag of this dataset (tag-taken).
    """
    check_tag(data_tag)
    ref = parse(reference)
    version = lake.resolve(ref).version
    if version is None:
        raise StateError(
            "version-not-published",
            f"{ref} is no published version; data tags belong to versions. Publish it: lakehouse publish {ref.name}",
        )
    chosen = version

    def rule(state: State) -> tuple[DatasetVersion, list[Decision]]:
        refuse_expired(state, chosen)
        refuse_withdrawn(state, chosen)
        current = named_now(state, state.get(DatasetVersion, chosen.key) or chosen)
        if state.get(Tag, f"{current.series}/{data_tag.casefold()}") is not None:
            raise StateError(
                "tag-taken",
                f"{data_tag!r} is a movable tag of {current.full_name}; tags and data tags share one space.",
            )
        known = state.get(DataTag, data_tag.casefold())
        promoted = replace(current, data_tag=known.name if known else data_tag)
        return promoted, [] if promoted == current else [Decision.put("version.promote", promoted)]

    promoted = lake.ledger.decide(rule, message=message).result
    advance_with(lake, promoted.full_name, told=told)
    return promoted
