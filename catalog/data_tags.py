"""Data tags: the words for how far a version has come, and what consumers see of them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from lakehouse.decisions import DataTag, Decision
from lakehouse.errors import InvalidInputError, NotFoundError, StateError, suggest
from lakehouse.lake import Lake
from lakehouse.ledger import State
from lakehouse.references import check_tag
from lakehouse.resolution import versions_of

_ATTRIBUTE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_COLUMNS = frozenset(
    {"milestone_id", "milestone_name", "version_number", "attribute", "color", "publish_date", "status"}
)


def set_data_tag(lake: Lake, name: str, attribute: str, color: str) -> DataTag:
    """Say what a data tag means to consumers: the view Milestone has a column of that name.

    Args:
        name: DRAFT, REVIEWED, FINAL or your own word.
        attribute: A column's name, such as IS_FINAL.
        color: How it is shown, such as Green.
    Raises:
        InvalidInputError: tag-invalid, tag-reserved; the attribute is no plain name, or a column that the view has
            anyway (attribute-invalid).
        StateError: another data tag has that attribute (attribute-taken).
    """
    check_tag(name)
    if not _ATTRIBUTE.fullmatch(attribute) or attribute.casefold() in _COLUMNS:
        raise InvalidInputError(
            "attribute-invalid",
            f"{attribute!r} can't be a column of Milestone. Write letters, digits and _, such as IS_{name.upper()}.",
        )
    value = DataTag(name=name, attribute=attribute, color=color)

    def rule(state: State) -> tuple[DataTag, list[Decision]]:
        taken = [t for t in state.all(DataTag) if t.attribute.casefold() == attribute.casefold() and t.key != value.key]
        if taken:
            raise StateError("attribute-taken", f"{attribute} is the attribute of {taken[0].name} already.")
        return value, [] if state.get(DataTag, value.key) == value else [Decision.put("data_tag.set", value)]

    return lake.ledger.decide(rule).result


def remove_data_tag(lake: Lake, name: str) -> DataTag:
    """Forget what a data tag means; versions that have it keep it.

    Raises:
        NotFoundError: no such data tag is mapped (data-tag-not-found).
    """

    def rule(state: State) -> tuple[DataTag, list[Decision]]:
        found = _find_data_tag(state, name)
        return found, [Decision.remove("data_tag.remove", found)]

    return lake.ledger.decide(rule).result


def _find_data_tag(state: State, name: str) -> DataTag:
    """Return the data tag that `remove_data_tag` would forget; errors as there."""
    found = state.get(DataTag, name.casefold())
    if found is None:
        raise NotFoundError(
            "data-tag-not-found", f"No data tag {name!r} is mapped. List them with: lakehouse data-tag list"
        )
    return found


def refuse_unknown(state: State, tags: Iterable[str], series: Iterable[str]) -> None:
    """Refuse data tags that are neither mapped nor on any version of some numberings: they would keep nothing.

    Raises:
        NotFoundError: one is (data-tag-not-found), with close matches.
    """
    wanted = list(tags)
    if not wanted:
        return
    known = {t.key: t.name for t in state.all(DataTag)}
    known |= {v.data_tag.casefold(): v.data_tag for one in series for v in versions_of(state, one)}
    for tag in wanted:
        if tag.casefold() not in known:
            raise NotFoundError(
                "data-tag-not-found",
                f"No version has the data tag {tag!r}, which would keep nothing.{suggest(tag, [*known.values()])} "
                f"Known: {', '.join(sorted(known.values()))}.",
                data_tag=tag,
            )


def list_data_tags(lake: Lake) -> list[DataTag]:
    """Return the data tags that have a meaning, in the order in which they were set."""
    return list(lake.state().all(DataTag))


__all__ = ["list_data_tags", "refuse_unknown", "remove_data_tag", "set_data_tag"]
