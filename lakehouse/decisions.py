"""What the ledger decides about: one frozen value per thing, and its JSON form.

A decision puts the new value of one thing (or None to remove it) under its entity and key; the current state is
the last decision of each. Values hold identities (dataset id, table version), names of things and counts, never
values of rows: those must stay erasable.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from functools import cache
from typing import Any, ClassVar, Literal, Self, TypeVar

_V = TypeVar("_V", bound="Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """Base of all ledger values: an entity name, a key, and JSON both ways."""

    ENTITY: ClassVar[str]

    @property
    def key(self) -> str:
        """The key within the entity; unique ignoring case."""
        raise AssertionError(f"{type(self).__name__} has no key")

    def to_json(self) -> str:
        """Return the value as compact JSON; times as RFC 3339."""
        return json.dumps(asdict(self), default=datetime.isoformat, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the value that `to_json` wrote; fields of a later minor format are left out."""
        loaded: Self = _load(cls, json.loads(text))
        return loaded


@dataclass(frozen=True, slots=True, kw_only=True)
class Format(Value):
    """The root's format: written by `init`, read before anything else."""

    ENTITY = "format"
    number: int
    """Raised by a change that older releases can't read."""
    lakehouse_id: str
    created_at: datetime

    @property
    def key(self) -> str:
        return "format"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset(Value):
    """A dataset's identity: what a name stands for until it is dropped."""

    ENTITY = "dataset"
    dataset_id: str
    namespace: str
    name: str
    """Name without the namespace, as first written."""
    location: str
    """Key of the Delta table under the root, or the full URI of an adopted one."""
    delta_id: str
    """The Delta table's own id: a table that was replaced behind our back has another one. Empty: not checked."""
    key_columns: tuple[str, ...] = ()
    kind: Literal["table", "assets", "features"] = "table"
    guarantee: Literal["own", "external"] = "own"
    """`external`: an adopted table, which others may vacuum."""
    parent: str | None = None
    """Id of the dataset that this one is derived from."""
    copy_of: str | None = None
    """Id of the adopted dataset whose published versions are copied here; such a copy has no name of its own."""
    description: str = ""
    owner: str = ""
    license: str = ""
    created_at: datetime
    deleted_at: datetime | None = None

    @property
    def key(self) -> str:
        return self.dataset_id

    @property
    def full_name(self) -> str:
        """`namespace.name`."""
        return f"{self.namespace}.{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Name(Value):
    """A name and its numbering, which goes on when the dataset is dropped and made again."""

    ENTITY = "name"
    full_name: str
    series: str
    """Identity of the numbering: versions and tags are kept under it."""
    dataset_id: str | None
    """What the name stands for now; None after a drop."""
    last_version: int = 0

    @property
    def key(self) -> str:
        return self.full_name.casefold()


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetVersion(Value):
    """A published version: one table version, pinned."""

    ENTITY = "version"
    series: str
    number: int
    dataset_id: str
    full_name: str
    table_version: int
    data_tag: str
    message: str = ""
    rows: int
    files: int
    bytes: int
    committed_at: datetime
    """Time of the commit that made the table version."""
    created_at: datetime
    """Time of the publication."""
    created_by: str = ""
    run: str | None = None
    expired_at: datetime | None = None
    """When it was given up by an explicit `expire`: it then pins nothing, and its number stays used."""
    copied_from: int | None = None
    """Table version of the adopted table that `table_version` is a copy of; None: no copy."""

    @property
    def key(self) -> str:
        return f"{self.series}/v{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag(Value):
    """A movable name for a dataset version."""

    ENTITY = "tag"
    series: str
    name: str
    number: int

    @property
    def key(self) -> str:
        return f"{self.series}/{self.name.casefold()}"


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
    """Who reads."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class DataTag(Value):
    """What a data tag means to consumers: an attribute and a colour."""

    ENTITY = "data_tag"
    name: str
    attribute: str
    color: str

    @property
    def key(self) -> str:
        return self.name.casefold()


DATA_TAGS = (
    DataTag(name="DRAFT", attribute="IS_DRAFT", color="Yellow"),
    DataTag(name="REVIEWED", attribute="IS_REVIEWED", color="Orange"),
    DataTag(name="FINAL", attribute="IS_FINAL", color="Green"),
)
"""The mapping that `init` seeds."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One row of the ledger: an action that gave a thing a new value, or (None) removed it."""

    action: str
    """What was decided, as audit names it: `dataset.create`, `version.publish`, ..."""
    entity: str
    key: str
    value: Value | None = field(default=None)

    @classmethod
    def put(cls, action: str, value: Value) -> Self:
        """Decide a new value."""
        return cls(action, value.ENTITY, value.key, value)

    @classmethod
    def remove(cls, action: str, value: Value) -> Self:
        """Decide that the thing is gone."""
        return cls(action, value.ENTITY, value.key)


def system_dataset(name: str) -> Dataset:
    """Return the stand-in dataset of a system table, so that fact tables are read and written like any other."""
    location = f"_system/{name}"
    return Dataset(
        dataset_id=location,
        namespace="system",
        name=name,
        location=location,
        delta_id="",
        created_at=datetime.fromtimestamp(0, UTC),
    )


@cache
def _names(cls: Any) -> tuple[str, ...]:
    return tuple(f.name for f in fields(cls))


@cache
def _special(cls: Any) -> dict[str, str]:
    """Return the fields whose JSON form is not the value itself: {name: how}."""
    how = {}
    for f in fields(cls):
        text = str(f.type)
        if text == "tuple[Member, ...]":
            how[f.name] = "members"
        elif "datetime" in text:
            how[f.name] = "time"
        elif text.startswith("tuple"):
            how[f.name] = "tuple"
    return how


def _load(cls: type[_V], data: dict[str, Any]) -> _V:
    kind: Any = cls
    special = _special(kind)
    given = {name: data[name] for name in _names(kind) if name in data}
    for name, how in special.items():
        value = given.get(name)
        if value is None:
            continue
        if how == "time":
            given[name] = datetime.fromisoformat(value)
        elif how == "members":
            given[name] = tuple(Member(**m) for m in value)
        else:
            given[name] = tuple(value)
    return cls(**given)
