"""A snapshot: one table version of one dataset, opened once, that never moves.

It carries its list of files, so a forked or a remote worker reads it without opening the Delta log again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from lakehouse import blobs
from lakehouse.decisions import Dataset, DatasetVersion, system_dataset
from lakehouse.delta import FileList, list_files, open_delta, table_schema
from lakehouse.errors import FormatError, InvalidInputError, NotFoundError, StateError, suggest
from lakehouse.history import commit_time
from lakehouse.metrics import Metadata
from lakehouse.presence import refuse_incomplete
from lakehouse.readers import arrow as arrow_reader
from lakehouse.readers import lazy as lazy_reader
from lakehouse.storage import Storage

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


@dataclass(frozen=True, repr=False)
class Snapshot:
    """One dataset at one table version. Reading it gives the same rows in the same order for ever."""

    reference: str
    """The reference that was asked for, in its canonical form."""
    dataset: Dataset
    """The dataset that it resolved to."""
    table_version: int
    """Delta's version number."""
    version: DatasetVersion | None
    """The published version, if this state is one."""
    created_at: datetime
    """Time of the commit that made this table version, UTC."""
    schema: pa.Schema
    """Arrow schema: plain strings, list elements named `element`, partition columns included."""
    file_list: FileList
    storage: Storage

    def __repr__(self) -> str:
        return f"Snapshot({self.reference!r}, table version {self.table_version}, {len(self.file_list)} files)"

    @property
    def num_rows(self) -> int:
        """Number of rows: from statistics where they are complete, else counted."""
        known = self.file_list.rows
        return arrow_reader.count(self) if known is None else known

    def files(self) -> list[str]:
        """Return the full paths or URIs of the data files, in reading order."""
        return list(self.file_list.uris)

    def scan(self) -> pl.LazyFrame:
        """Return a Polars LazyFrame; columns and predicates are pushed down to the files."""
        return lazy_reader.scan(self)

    def batches(
        self, columns: Sequence[str] | None = None, where: str | None = None, batch_rows: int = 65_536
    ) -> Iterator[pa.RecordBatch]:
        """Iterate over record batches in the fixed order of the snapshot; memory is bounded by a few batches.

        Args:
            columns: Names to read, in this order; None means all.
            where: A SQL condition over the snapshot's columns (DuckDB's dialect), pushed down to the files.
            batch_rows: Rows a batch, at most.
        Raises:
            InvalidInputError: an unknown column (column-not-found), or a condition that does not parse (predicate-invalid).
        """
        return arrow_reader.batches(self, self._known(columns), where, batch_rows)

    def to_arrow(self, columns: Sequence[str] | None = None, where: str | None = None) -> pa.Table:
        """Return the rows as one Arrow table; arguments and errors as in `batches`."""
        names = self._known(columns)
        schema = pa.schema([self.schema.field(n) for n in names]) if names is not None else self.schema
        return pa.Table.from_batches(arrow_reader.batches(self, names, where), schema=schema)

    def to_polars(self, columns: Sequence[str] | None = None, where: str | None = None) -> pl.DataFrame:
        """Return the rows as a Polars DataFrame; arguments and errors as in `batches`."""
        import polars as pl

        frame = pl.from_arrow(self.to_arrow(columns, where))
        assert isinstance(frame, pl.DataFrame)
        return frame

    def to_pandas(self, columns: Sequence[str] | None = None, where: str | None = None) -> pd.DataFrame:
        """Return the rows as a pandas DataFrame; arguments and errors as in `batches`."""
        return self.to_arrow(columns, where).to_pandas()

    def get(self, *key: Any) -> dict[str, Any]:
        """Return the one row with this key, found through file and row-group statistics.

        Args:
            key: One value per key column of the dataset, in their order.
        Raises:
            InvalidInputError: the dataset has no key, or another number of key columns (key-invalid).
            NotFoundError: no row has this key (row-not-found).
        """
        names = self.dataset.key_columns
        if len(key) != len(names) or not names:
            raise InvalidInputError(
                "key-invalid",
                f"{self.dataset.full_name} has the key ({', '.join(names)}), {len(key)} values were given.",
            )
        rows = self.find(**dict(zip(names, key, strict=True)))
        if not rows:
            raise NotFoundError(
                "row-not-found", f"{self.reference} has no row with {', '.join(names)} = the values given."
            )
        return rows[0]

    def find(self, **equal: Any) -> list[dict[str, Any]]:
        """Return the rows whose columns equal the given values, skipping what statistics and bloom filters exclude.

        Raises:
            InvalidInputError: an unknown column (column-not-found).
        """
        self._known(list(equal))
        return arrow_reader.find(self, equal)

    def split(self, name: str) -> arrow_reader.Rows:
        """Return the rows of one split (`train`, `test`, ...), readable like the snapshot itself.

        Raises:
            InvalidInputError: the dataset has no column `split` (column-not-found).
        """
        self._known(["split"])
        return arrow_reader.Rows(self, "split = " + arrow_reader.literal(name))

    def assets(
        self, columns: Sequence[str] | None = None, where: str | None = None, parallel: int = 16
    ) -> Iterator[blobs.Asset]:
        """Iterate over rows with their bytes, read in parallel by byte range, in the snapshot's order.

        Args:
            columns: Row columns to carry besides the location; None means all.
            where: A SQL condition as in `batches`.
            parallel: Objects read at once.
        Raises:
            InvalidInputError: the dataset holds no assets (assets-missing).
        """
        missing = {"uri", "offset", "length"} - set(self.schema.names)
        if missing:
            raise InvalidInputError(
                "assets-missing", f"{self.reference} has no column {min(missing)!r}: its rows point at no assets."
            )
        names = self._known(columns)
        wanted = None if names is None else list(dict.fromkeys([*names, "uri", "offset", "length"]))
        rows = arrow_reader.batches(self, wanted, where, 2_048)
        return blobs.read_assets(self.storage, rows, names, parallel, namespace=self.dataset.namespace)

    @property
    def metadata(self) -> Metadata:
        """Row counts, per-split metrics and class counts of this published version, read without touching its data.

        Raises:
            StateError: this state is not a published version (version-not-published).
        """
        if self.version is None:
            raise StateError(
                "version-not-published",
                f"{self.reference} is not a published version, so it has no stored metadata. Publish it first.",
            )
        facts = open_snapshot(self.storage, system_dataset("metrics"), "system.metrics", None, None)
        own = f"dataset_id = {arrow_reader.literal(self.dataset.dataset_id)} and table_version = {self.table_version}"
        return Metadata.from_rows(facts.to_arrow(where=own), self.num_rows)

    def only(self, paths: set[str]) -> Snapshot:
        """Return the snapshot limited to the data files with these paths."""
        listed = self.file_list
        kept = listed.table.filter(
            pc.is_in(listed.table.column("path"), value_set=pa.array(sorted(paths), pa.string()))
        )
        return replace(self, file_list=replace(listed, table=kept))

    def _known(self, columns: Sequence[str] | None) -> list[str] | None:
        if columns is None:
            return None
        known = set(self.schema.names)
        for name in columns:
            if name not in known:
                raise InvalidInputError(
                    "column-not-found",
                    f"{self.reference} has no column {name!r}.{suggest(name, known)} Columns: {', '.join(self.schema.names)}.",
                    column=name,
                )
        return list(columns)


def open_snapshot(
    storage: Storage, dataset: Dataset, reference: str, table_version: int | None, version: DatasetVersion | None
) -> Snapshot:
    """Open one table version of a dataset (None: the newest).

    Raises:
        NotFoundError: the table or the version is gone (table-missing, version-not-found).
        FormatError: the table was replaced (table-replaced), or a feature is not supported (feature-unsupported).
        StorageError: files of an adopted table are gone (file-missing).
    """
    table = open_delta(storage, dataset.location, dataset.full_name, table_version)
    check_identity(str(table.metadata().id), dataset)
    opened = snapshot_of(storage, dataset, table, reference, version)
    if dataset.guarantee != "own":
        refuse_incomplete(storage, dataset, opened.table_version, opened.file_list)
    return opened


def snapshot_of(
    storage: Storage, dataset: Dataset, table: DeltaTable, reference: str = "", version: DatasetVersion | None = None
) -> Snapshot:
    """Return the snapshot of an opened table version.

    Raises:
        FormatError: the table needs a feature that can't be read (feature-unsupported).
    """
    return Snapshot(
        reference=reference or f"{dataset.full_name}@#{table.version()}",
        dataset=dataset,
        table_version=table.version(),
        version=version,
        created_at=version.committed_at if version else commit_time(storage, dataset.location, table),
        schema=table_schema(table),
        file_list=list_files(table, dataset.full_name),
        storage=storage,
    )


def check_identity(found: str, dataset: Dataset) -> None:
    """Refuse a table that was replaced since it was registered.

    Raises:
        FormatError: another Delta table id (table-replaced).
    """
    if dataset.delta_id and found != dataset.delta_id:
        raise FormatError(
            "table-replaced",
            f"{dataset.full_name}: the Delta table at {dataset.location} has the id {found}, expected {dataset.delta_id}. "
            f"It was replaced by somebody else; register the new one under another name.",
            dataset=dataset.full_name,
        )
