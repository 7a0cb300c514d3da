"""What an inspection found: a stable code, how bad it is, and a sentence for a person."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Severity(Enum):
    """What the ingest does with an item that has such a finding."""

    WARNING = "warning"
    """The item lands and the finding is recorded beside it."""
    REJECT = "reject"
    """The item is kept out of the dataset and kept as a reject with this reason."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One observation about one item."""

    code: str
    """Stable snake_case cause, such as `image_truncated`: programs compare it."""
    severity: Severity
    detail: str
    """For a person: what was found. Never the item's content."""
