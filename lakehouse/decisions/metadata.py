"""Metadata: what people note about a dataset under names of their own."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from lakehouse.decisions.value import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata(Value):
    """One named note about a dataset."""

    ENTITY = "metadata"
    dataset_id: str
    name: str
    """Unique among those of the dataset, ignoring case."""
    value: str
    """Text of its owner's; never a value of rows."""
    created_at: datetime
    created_by: str = ""

    @property
    def key(self) -> str:
        return f"{self.dataset_id}/{self.name.casefold()}"


__all__ = ["Metadata"]
