"""Deprecation: readers of one published version are told why they should use another one, or are kept from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from catalog.aggregation import advance_with
from lakehouse.decisions import DatasetVersion, Decision
from lakehouse.errors import InvalidInputError, StateError
from lakehouse.lake import Lake
from lakehouse.ledger import State
from lakehouse.references import Latest, Named, Reference, Version, parse
from lakehouse.resolution import choose_version, find_name, refuse_expired


def deprecate(lake: Lake, reference: str, reason: str, *, withdraw: bool = False) -> DatasetVersion:
    """Put a notice on a published version, which its readers see: a warning, once per process.

    A withdrawn version can't be read any more - but through milestones and named snapshots that pinned it before, with
    the warning -, no milestone takes it, and `latest` and data tags pass over it. It stays pinned: see `undeprecate`.

    Args:
        reference: `photos@v3`, `photos@latest`, `photos@FINAL`, a tag.
        reason: For readers: what is wrong with it, and what to use instead. Never a row's value.
        withdraw: Also keep it from being read; False lifts that again.
    Raises:
        InvalidInputError: no reason (reason-missing).
        NotFoundError: what the reference names does not exist.
        StateError: the state is not published (version-not-published), or was given up (version-expired).
    """
    if not reason.strip():
        raise InvalidInputError("reason-missing", f"A notice on {reference} needs a reason, for those who read it.")

    def noticed(version: DatasetVersion) -> DatasetVersion:
        return replace(
            version,
            notice=reason.strip(),
            withdrawn=withdraw,
            noticed_at=datetime.now(UTC),
            noticed_by=lake.actor,
        )

    action = "version.withdraw" if withdraw else "version.deprecate"
    return _restate(lake, parse(reference), action, noticed, message=reason.strip())


def undeprecate(lake: Lake, reference: str, *, message: str | None = None) -> DatasetVersion:
    """Take the notice on a published version away: it is read as before.

    Args:
        reference: As `deprecate` takes it; a withdrawn version is named by its number.
        message: A person's words, kept with the decision.
    Raises:
        NotFoundError, StateError: as `deprecate`.
    """

    def cleared(version: DatasetVersion) -> DatasetVersion:
        return replace(version, notice="", withdrawn=False, noticed_at=None, noticed_by="")

    return _restate(lake, parse(reference), "version.undeprecate", cleared, message=message)


def _restate(
    lake: Lake,
    ref: Reference,
    action: str,
    change: Callable[[DatasetVersion], DatasetVersion],
    message: str | None,
) -> DatasetVersion:
    selector = ref.selector
    if not isinstance(selector, Version | Latest | Named):
        raise StateError(
            "version-not-published",
            f"{ref} is no published version; notices are about versions. Name one, such as {ref.name}@v1.",
        )
    chosen = selector

    def rule(state: State) -> tuple[DatasetVersion, list[Decision]]:
        version = choose_version(state, find_name(state, ref.name), chosen)
        refuse_expired(state, version)
        value = change(version)
        return value, [] if value == version else [Decision.put(action, value)]

    made = lake.ledger.decide(rule, message=message).result
    advance_with(lake, made.full_name)
    return made


__all__ = ["deprecate", "undeprecate"]
