"""Datasets, their names, their published versions, and the words for these."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from lakehouse.decisions.value import Value


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
    query_run: str | None = None
    """Id of the run that made it by a query; None: no query makes its rows. The SQL is in the run's parameters, since it
    may hold values of rows."""
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
    """A name and its numbering, which goes on when the dataset is dropped, made again or renamed."""

    ENTITY = "name"
    full_name: str
    series: str
    """Identity of the numbering: versions and tags are kept under it. Empty: an alias that was given back; a new dataset
    of that name numbers on from `last_version`, so that no old reference gets another meaning."""
    dataset_id: str | None
    """What the name stands for now; None after a drop, and of an alias."""
    last_version: int = 0
    alias_of: str | None = None
    """Full name of the dataset that was renamed from this one; never an alias itself."""

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
    """Name under which it was published; `resolution.versions_of` gives it the name that its dataset has now."""
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
    batch: str | None = None
    """Key of the cycle that it belongs to, such as `2026-W48`: a milestone that waits for all members mixes none."""
    correction: bool = False
    """Whether it corrects the version before: a milestone that waits for all members then takes it at once."""
    notice: str = ""
    """Why it should not be used any more, for its readers; empty: nothing is against it."""
    noticed_at: datetime | None = None
    noticed_by: str = ""
    withdrawn: bool = False
    """Whether only that reads it which pinned it before; it stays pinned, so that this can be taken back."""
    commits_head: str = ""
    """Head of the chain over the table's commits up to `table_version`, in hex; empty: an earlier publication covers
    those, or it is a version of an adopted table or of an earlier release. `lakehouse.commit_chain` computes it."""

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
