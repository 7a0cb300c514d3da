"""Milestones and their versions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from lakehouse.decisions.pins import Member
from lakehouse.decisions.value import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Milestone(Value):
    """A named group of datasets that are published together."""

    ENTITY = "milestone"
    full_name: str
    members: tuple[str, ...]
    """Full names, in the order given."""
    description: str = ""
    last_version: int = 0
    created_at: datetime

    @property
    def key(self) -> str:
        return self.full_name.casefold()


@dataclass(frozen=True, slots=True, kw_only=True)
class MilestoneVersion(Value):
    """A published version of a milestone; its membership never changes."""

    ENTITY = "milestone_version"
    full_name: str
    number: int
    status: Literal["Pending", "Ready", "Published", "Archived"] = "Published"
    data_tag: str | None
    """The data tag that all members share; None when they differ."""
    members: tuple[Member, ...]
    published_at: datetime
    published_by: str = ""
    message: str = ""

    @property
    def key(self) -> str:
        return f"{self.full_name.casefold()}/v{self.number}"
