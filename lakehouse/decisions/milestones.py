"""Milestones: what they are made of, their published versions, and the one that is being got ready."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from lakehouse.decisions.pins import Member
from lakehouse.decisions.value import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A foreign key between two members: each key of the child that is not null is one of the parent's."""

    child: str
    """Full name of the member whose rows refer to others."""
    child_columns: tuple[str, ...]
    parent: str
    """Full name of the member that they refer to."""
    parent_columns: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.child}({','.join(self.child_columns)}) -> {self.parent}({','.join(self.parent_columns)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Milestone(Value):
    """A named group of datasets that are published together."""

    ENTITY = "milestone"
    full_name: str
    members: tuple[str, ...]
    """Full names, in the order given."""
    data_tags: tuple[str, ...] = ()
    """Versions count that have one of these; empty: every version counts."""
    links: tuple[Link, ...] = ()
    checks: tuple[str, ...] = ()
    """Names of members' checks that must pass although they are warnings; errors must pass anyway."""
    advance: Literal["any", "all"] = "any"
    """`any`: one new member gives the next version, with the others as they are; `all`: every member must be new."""
    policy: Literal["automatic", "manual"] = "automatic"
    """Whether a version that is ready is published at once, or by hand."""
    protected: bool = False
    """Whether its versions can't be archived."""
    description: str = ""
    last_version: int = 0
    created_at: datetime

    @property
    def key(self) -> str:
        return self.full_name.casefold()


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """That a link held between two published versions when it was counted."""

    link: str
    child_version: int
    parent_version: int
    verified_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MilestoneVersion(Value):
    """A published version of a milestone; its membership never changes."""

    ENTITY = "milestone_version"
    full_name: str
    number: int
    status: Literal["Published", "Archived"] = "Published"
    data_tag: str | None
    """The data tag that all members share; None in versions of earlier releases, where they could differ."""
    members: tuple[Member, ...]
    proofs: tuple[Proof, ...] = ()
    """The links, each counted at exactly the members' versions; those of members that did not change are cited."""
    published_at: datetime
    published_by: str = ""
    message: str = ""

    @property
    def key(self) -> str:
        return f"{self.full_name.casefold()}/v{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """One thing that keeps a milestone from its next version."""

    kind: str
    """Such as no-version, tags-differ, link-orphans."""
    dataset: str
    """Full name of the member that has to change."""
    detail: str
    """A sentence for people, without values of rows."""
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingVersion(Value):
    """The version that a milestone gets next: what was chosen for it so far, and what it waits for."""

    ENTITY = "milestone_pending"
    full_name: str
    number: int
    status: Literal["Pending", "Ready"]
    """`Ready`: nothing is missing, and somebody publishes it by hand."""
    data_tag: str | None
    """The data tag that the chosen versions share; None when they differ, or none was chosen."""
    members: tuple[Member, ...]
    """The chosen versions; a member without one is missing here."""
    waiting: tuple[Waiting, ...]
    since: datetime
    """When it began to wait."""

    @property
    def key(self) -> str:
        return self.full_name.casefold()
