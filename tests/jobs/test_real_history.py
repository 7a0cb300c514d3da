"""Real data through a whole history: v1 reads the same for every reader, whatever was cleaned up since."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable

import catalog
import jobs
import lakehouse
from lakehouse.compaction import optimize
from lakehouse.restoring import restore

CHINOOK = {
    "Album": ["AlbumId"],
    "Artist": ["ArtistId"],
    "Customer": ["CustomerId"],
    "Employee": ["EmployeeId"],
    "Genre": ["GenreId"],
    "Invoice": ["InvoiceId"],
    "InvoiceLine": ["InvoiceLineId"],
    "MediaType": ["MediaTypeId"],
    "Playlist": ["PlaylistId"],
    "PlaylistTrack": ["PlaylistId", "TrackId"],
    "Track": ["TrackId"],
}


def checked(lake: lakehouse.Lake, reference: str) -> pa.Table:
    """Return the rows of a state after reading them by Arrow, Polars, DuckDB, and deltalake without us."""
    snap = lake.read(reference)
    rows = snap.to_arrow()
    assert rows.num_rows == snap.num_rows
    assert snap.scan().collect().equals(pl.DataFrame(rows))
    assert lake.sql(f'select * from "{reference}"').to_arrow_table().cast(rows.schema).equals(rows)
    uri, options = lake.storage.uri(snap.dataset.location), lake.storage.options()
    table = DeltaTable(uri, version=snap.table_version, storage_options=options)
    assert len(table.file_uris()) == len(snap.files())
    direct = pl.scan_delta(uri, version=snap.table_version, storage_options=options).collect()
    key = list(snap.dataset.key_columns)
    assert direct.sort(key).equals(pl.DataFrame(rows).sort(key))
    return rows


def clean_up(lake: lakehouse.Lake, name: str, **layout: Any) -> None:
    """Compact, sort or z-order a dataset, then give up all history that nothing pins."""
    optimize(lake, name)
    optimize(lake, name, full=True, **layout)
    catalog.vacuum(lake, name, keep_for="0")


def check_history(lake: lakehouse.Lake, name: str, **layout: Any) -> None:
    """Give up the history of a dataset with v1 and v2, restore v1, and go on."""
    before = {ref: checked(lake, f"{name}@{ref}") for ref in ("v1", "v2")}
    diff = lake.diff(f"{name}@v1", f"{name}@v2").to_json()
    log = lake.table(name).log()
    clean_up(lake, name, **layout)
    fresh = lakehouse.connect(lake.root)
    assert {ref: checked(fresh, f"{name}@{ref}") for ref in before} == before
    assert fresh.table(name).log()[-len(log) :] == log
    again = fresh.diff(f"{name}@v1", f"{name}@v2").to_json()
    assert {k: again[k] for k in ("rows", "columns", "key")} == {k: diff[k] for k in ("rows", "columns", "key")}
    restore(fresh, name, f"{name}@v1")
    assert fresh.read(name).to_arrow().equals(before["v1"])
    clean_up(fresh, name)
    assert checked(fresh, f"{name}@v1").equals(before["v1"])


@pytest.mark.s3
def test_chinook_on_s3(s3_uri: str, shared_data: Path) -> None:
    """Chinook's eleven tables in two revisions, on S3."""
    lake = lakehouse.init(s3_uri)
    for table, key in CHINOOK.items():
        for revision in ("v1.4.5", "2025-10"):
            path = shared_data / "tables-chinook" / revision / f"{table}.csv"
            jobs.ingest(lake, path, dataset=table, key=key, mode="merge")
            catalog.publish(lake, table)
    for table, key in CHINOOK.items():
        check_history(lake, table, **({"zorder": key} if len(key) > 1 else {"sort": True}))
    report = catalog.verify(lake, deep=True)
    # Nine tables are the same in both revisions, so there v1 and v2 are one state.
    assert (report.ok, report.checked) == (True, len(CHINOOK) + 2)


@pytest.mark.nightly
def test_fashion_mnist(tmp_path: Path, shared_data: Path) -> None:
    """70,000 images: merge, delete and append, then everything is cleaned up."""
    lake = lakehouse.init(tmp_path / "lake")
    jobs.ingest(lake, shared_data / "fashion-mnist", dataset="fashion", format="idx")
    catalog.publish(lake, "fashion")
    table = lake.table("fashion")
    corrected = lake.read("fashion").to_arrow(["path", "label"], "path between 'train/00200' and 'train/00699'")
    labels = pa.array([str((int(label) + 1) % 10) for label in corrected.column("label").to_pylist()], pa.string())
    table.merge(corrected.set_column(1, "label", labels))
    table.delete("path between 'train/00100' and 'train/00199'")
    catalog.publish(lake, "fashion")
    diff = lake.diff("fashion@v1", "fashion@v2")
    assert (diff.counts.added, diff.counts.removed, diff.counts.changed) == (0, 100, 500)
    check_history(lake, "fashion", zorder=["path", "label"])
    assert catalog.verify(lake, deep=True).ok
