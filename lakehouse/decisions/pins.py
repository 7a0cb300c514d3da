"""What keeps states readable, and what gave them up."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from datetime import datetime

from lakehouse.decisions.value import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One table of a snapshot or a milestone version."""

    dataset_id: str
    full_name: str
    table_version: int
    version: int | None = None
    data_tag: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedSnapshot(Value):
    """An immutable, named set {dataset -> table version}, written in one commit."""

    ENTITY = "snapshot"
    name: str
    members: tuple[Member, ...]
    created_at: datetime
    created_by: str = ""
    expires_at: datetime | None = None
    message: str = ""

    @property
    def key(self) -> str:
        return self.name.casefold()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease(Value):
    """What a running reader holds: these states stay readable until it ends, or until the time when it must have."""

    ENTITY = "lease"
    name: str
    """Id of the run, or a random one."""
    members: tuple[Member, ...]
    holder: str
    """Who reads, for people."""
    created_by: str = ""
    created_at: datetime
    expires_at: datetime

    @property
    def key(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor(Value):
    """How far a job has read a dataset: this state and the changes after it stay, for its next run."""

    ENTITY = "cursor"
    job: str
    target: str
    """Id of the dataset that the job keeps up to date."""
    dataset_id: str
    """Id of the dataset that it reads."""
    table_version: int
    expires_at: datetime
    """A job that did not come back by then reads everything again."""

    @property
    def key(self) -> str:
        return f"{self.job}/{self.target}/{self.dataset_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold(Value):
    """A legal hold: nothing of the dataset may be erased, expired or cleaned up."""

    ENTITY = "hold"
    dataset_id: str
    full_name: str
    reason: str
    created_at: datetime
    created_by: str = ""

    @property
    def key(self) -> str:
        return self.dataset_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Condemned(Value):
    """Which table versions of a dataset are given up: nothing may pin one any more, and their files go."""

    ENTITY = "condemned"
    dataset_id: str
    before: int
    """Every table version below this one is condemned ..."""
    kept: tuple[int, ...]
    """... but these, which something pinned when it was decided; ascending."""
    decided_at: datetime

    @property
    def key(self) -> str:
        return self.dataset_id

    def covers(self, table_version: int) -> bool:
        """Whether a table version is condemned."""
        if table_version >= self.before:
            return False
        at = bisect_left(self.kept, table_version)
        return at == len(self.kept) or self.kept[at] != table_version
