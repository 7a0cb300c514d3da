"""Checks: the rules that the states of a dataset must satisfy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any, Literal

from lakehouse.decisions.value import Value

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckDefinition(Value):
    """A rule that the states of one dataset must satisfy.

    Its parameters are what its owner configured, such as the accepted values: they are no values of rows.
    """

    ENTITY = "check"
    dataset_id: str
    name: str
    """Unique among the checks of the dataset, ignoring case."""
    kind: str
    """not_null, unique, foreign_key, ..."""
    columns: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """What else the kind needs to know; JSON values."""
    severity: Severity = "error"
    """What fails an `error` is not published; of a `warning` a record is kept."""
    in_file: bool = False
    """Whether a declaration file named it: it goes when a later file no longer does."""
    created_at: datetime
    created_by: str = ""

    @property
    def key(self) -> str:
        return f"{self.dataset_id}/{self.name.casefold()}"

    @property
    def digest(self) -> str:
        """What the check means, as 64 hexadecimal digits: of two with the same one result is enough."""
        meaning = [self.kind, self.columns, self.parameters]
        return sha256(json.dumps(meaning, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


__all__ = ["CheckDefinition", "Severity"]
