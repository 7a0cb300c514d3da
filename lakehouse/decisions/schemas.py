"""Schemas of datasets: what their columns are and mean, in numbered versions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from lakehouse.decisions.value import Value

Compatibility = Literal["NONE", "BACKWARD", "FULL"]
Misfits = Literal["block", "flag"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: its type, and what its values mean."""

    name: str
    type: str
    """Name of the Arrow type, as `type_names.type_text` writes it."""
    nullable: bool = True
    description: str = ""
    unit: str = ""
    """Unit of measurement: `cm`, `EUR`, `m/s`."""
    semantic: str = ""
    """What the values are: id, label, text, image, pii:email, ..."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaVersion(Value):
    """A numbered version of a dataset's schema, with the rules that hold for it."""

    ENTITY = "schema"
    dataset_id: str
    number: int
    columns: tuple[Column, ...]
    key_columns: tuple[str, ...] = ()
    compatibility: Compatibility = "BACKWARD"
    """Which changes are allowed: NONE any, BACKWARD those that keep old rows and writers valid, FULL also readers."""
    misfits: Misfits = "block"
    """What an ingest does with a value that does not fit: block keeps the row out, flag keeps the row without the value."""
    created_at: datetime
    created_by: str = ""
    message: str = ""

    @property
    def key(self) -> str:
        return f"{self.dataset_id}/s{self.number}"
