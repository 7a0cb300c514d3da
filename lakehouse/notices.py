"""Notices: what readers are told about a published version that should not be used any more, or was withdrawn."""

from __future__ import annotations

import logging
from dataclasses import replace

from lakehouse.decisions import DatasetVersion
from lakehouse.errors import StateError
from lakehouse.ledger import State

log = logging.getLogger(__name__)
_told: set[tuple[str, str, bool]] = set()
"""What this process said already."""


def tell(version: DatasetVersion | None) -> None:
    """Log a warning when a version that is read has a notice; once per process for each notice."""
    if version is None or not version.notice:
        return
    notice = (version.key, version.notice, version.withdrawn)
    if notice not in _told:
        _told.add(notice)
        log.warning("%s", sentence(version))


def sentence(version: DatasetVersion) -> str:
    """Return what the notice on a version says: which version, what became of it, why, who said so and when."""
    state = "withdrawn" if version.withdrawn else "deprecated"
    at = f" on {version.noticed_at:%Y-%m-%d}" if version.noticed_at else ""
    by = f" by {version.noticed_by}" if version.noticed_by else ""
    return f"{version.full_name}@v{version.number} was {state}{at}{by}: {version.notice}"


def refuse_withdrawn(state: State, version: DatasetVersion) -> None:
    """Refuse a published version that was withdrawn; every decision that names a version anew calls this in its rule.

    Raises:
        StateError: it was withdrawn (version-withdrawn); the message says why.
    """
    current = state.get(DatasetVersion, version.key) or version
    if current.withdrawn:
        said = sentence(replace(current, full_name=version.full_name)).rstrip(".")
        raise StateError(
            "version-withdrawn",
            f"{said}. Milestones and snapshots that pinned it before still read it. "
            f"Other versions: lakehouse log {version.full_name}",
            dataset=version.full_name,
            version=version.number,
        )


__all__ = ["refuse_withdrawn", "sentence", "tell"]
