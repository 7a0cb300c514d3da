"""A lakehouse whose ledger was filled by hand, with all that views and SQL can speak of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

import lakehouse
from lakehouse import Lake
from lakehouse.decisions import (
    Dataset,
    DatasetVersion,
    Decision,
    Member,
    Milestone,
    MilestoneVersion,
    Name,
    NamedSnapshot,
    Tag,
    Value,
)

NOW = datetime(2026, 11, 20, 12, 0, 0, 5, UTC)
SCHEMA = pa.schema([("id", pa.int64()), ("label", pa.string()), ("photos", pa.int64())])


def rows(*ids: int) -> pa.Table:
    """Return one row per id; a column is called like a dataset."""
    return pa.table({"id": ids, "label": [f"l{i % 2}" for i in ids], "photos": [i * 10 for i in ids]}, schema=SCHEMA)


def put(lake: Lake, *values: Value) -> None:
    """Decide values as the catalog would."""
    lake.ledger.decide(lambda _: (None, [Decision.put("test", v) for v in values]))


def add_dataset(lake: Lake, name: str, *commits: pa.Table, **more: Any) -> Dataset:
    """Make a dataset with one commit per table of rows, each a published version with the data tag DRAFT."""
    namespace, short = name.split(".")
    table = Path(lake.root) / namespace / short
    for rows in commits:
        write_deltalake(table, rows, mode="append")
    found = Dataset(
        dataset_id=f"id-{short}",
        namespace=namespace,
        name=short,
        location=f"{namespace}/{short}",
        delta_id=DeltaTable(table).metadata().id,
        created_at=NOW,
        **more,
    )
    series = f"series-{short}"
    versions = [
        DatasetVersion(
            series=series,
            number=n + 1,
            dataset_id=found.dataset_id,
            full_name=name,
            table_version=n,
            data_tag="DRAFT",
            rows=1,
            files=1,
            bytes=100,
            created_at=NOW,
            committed_at=NOW,
        )
        for n in range(len(commits))
    ]
    named = Name(full_name=name, series=series, dataset_id=found.dataset_id, last_version=len(commits))
    put(lake, found, named, *versions)
    return found


def registered_lake(root: Path) -> Lake:
    """Two datasets, one of them in a namespace, with versions, a tag, a milestone and snapshots."""
    lake = lakehouse.init(root, actor="ann")
    photos = add_dataset(lake, "vision.photos", rows(1, 2), rows(3), rows(4, 5), key_columns=("id",))
    labels = add_dataset(lake, "main.labels", rows(1, 3), kind="features", parent=photos.dataset_id)
    add_dataset(lake, "main.my-data", rows(7))
    members = (
        Member(dataset_id=photos.dataset_id, full_name="vision.photos", table_version=1, version=2, data_tag="DRAFT"),
        Member(dataset_id=labels.dataset_id, full_name="main.labels", table_version=0, version=1, data_tag="DRAFT"),
    )
    put(
        lake,
        Tag(series="series-photos", name="prod", number=2),
        Tag(series="series-photos", name="best", number=2),
        Milestone(full_name="main.spring", members=("vision.photos", "main.labels"), last_version=1, created_at=NOW),
        Milestone(full_name="main.autumn", members=("main.labels",), created_at=NOW),
        MilestoneVersion(
            full_name="main.spring", number=1, data_tag="DRAFT", members=members, published_at=NOW, published_by="ann"
        ),
        NamedSnapshot(name="run-20", members=members[:1], created_at=NOW, expires_at=NOW + timedelta(days=36500)),
        NamedSnapshot(name="gone", members=members, created_at=NOW, expires_at=NOW),
    )
    return lake


def answers(lake: Lake, sql: str, **more: Any) -> list[tuple[Any, ...]]:
    """Return the rows of a query."""
    found: list[tuple[Any, ...]] = lake.sql(sql, **more).fetchall()
    return found


def records(lake: Lake, sql: str) -> list[dict[str, Any]]:
    """Return the rows of a query as dicts."""
    found: list[dict[str, Any]] = lake.sql(sql).to_arrow_table().to_pylist()
    return found
