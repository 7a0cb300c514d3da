"""What a job over assets has to do: which assets came, changed or went since it last looked.

Two states of (path, sha256, split, label) are compared: the dataset now and the dataset that the last run read -
only the files in which they differ - or, when that is not known, the dataset now and the features that are there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from lakehouse.readers.duck import connect
from lakehouse.readers.relation import source_sql
from lakehouse.snapshots import Snapshot

KEPT = ("asset_id", "path", "sha256", "split", "label")
"""Columns of an asset that its features repeat."""
_READ = (*KEPT, "uri", "offset", "length")
_BATCH_ROWS = 2_048


@dataclass(frozen=True, slots=True)
class Changes:
    """The difference between the assets now and those that a job has seen, as queries that are run when asked."""

    now: Snapshot
    seen: Snapshot | None
    """With at least the columns path, sha256, split and label; None: nothing was seen."""

    def count(self) -> int:
        """Return how many assets have bytes that were not seen under their path."""
        return sum(batch.num_rows for batch in self._rows(("path",), self._new, order=False))

    def new(self) -> Iterator[pa.RecordBatch]:
        """Yield assets whose bytes were not seen under their path, by path: KEPT, uri, offset, length."""
        return self._rows(_READ, self._new)

    def moved(self) -> Iterator[pa.RecordBatch]:
        """Yield KEPT of assets whose bytes were seen, but whose split or label was another, by path."""
        if self.seen is None:
            return iter(())
        same = "n.path = s.path and n.sha256 = s.sha256"
        other = "(n.split is distinct from s.split or n.label is distinct from s.label)"
        return self._rows(KEPT, f"exists (from seen s where {same} and {other})")

    def gone(self) -> Iterator[pa.RecordBatch]:
        """Yield the path of each asset that was seen and is not there now."""
        if self.seen is None:
            return iter(())
        return self._rows(("path",), "not exists (from now a where a.path = n.path)", source="seen")

    @property
    def _new(self) -> str:
        return "not exists (from seen s where n.path = s.path and n.sha256 = s.sha256)" if self.seen else "true"

    def _rows(
        self, columns: tuple[str, ...], where: str, source: str = "now", *, order: bool = True
    ) -> Iterator[pa.RecordBatch]:
        con = connect()
        try:
            views = [f"now as ({source_sql(con, self.now, list(_READ))})"]
            if self.seen is not None:
                views.append(f"seen as ({source_sql(con, self.seen, ['path', 'sha256', 'split', 'label'])})")
            names = ", ".join(f'n."{name}"' for name in columns)
            query = f"with {', '.join(views)} select {names} from {source} n where {where}"
            schema = pa.schema([self.now.schema.field(name) for name in columns])
            for batch in con.sql(query + (" order by n.path" if order else "")).to_arrow_reader(_BATCH_ROWS):
                yield batch.cast(schema)
        finally:
            con.close()


def since(now: Snapshot, before: Snapshot) -> Changes:
    """Return the changes between two states of one dataset, reading only the files in which they differ."""
    new, old = (set(s.file_list.table.column("path").to_pylist()) for s in (now, before))
    return Changes(now.only(new - old), before.only(old - new))
