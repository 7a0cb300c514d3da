"""Retention policies: which published versions stay, for a dataset or a namespace."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from lakehouse.decisions.value import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPolicy(Value):
    """Which published versions `expire` leaves alone: those that one of these rules keeps."""

    ENTITY = "retention"
    namespace: str
    """The namespace that it is about, or that of the dataset."""
    series: str | None = None
    """Numbering of the only dataset that it is about, whatever its name; None: every dataset of the namespace without
    a policy of its own."""
    keep_last: int | None = None
    """How many of the newest versions stay."""
    keep_for: str | None = None
    """The span within which published versions stay: `90d`."""
    keep_tags: tuple[str, ...] = ()
    """Data tags whose versions stay."""
    created_at: datetime
    created_by: str = ""

    @property
    def key(self) -> str:
        return self.series or f"{self.namespace.casefold()}.*"


__all__ = ["RetentionPolicy"]
