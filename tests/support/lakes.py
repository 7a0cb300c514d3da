"""Lakes for tests, made without the store's proof, which costs a second on S3 and has its own tests."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

import catalog
from lakehouse.lake import Lake
from lakehouse.storage import Storage
from lakehouse.tables import Table

SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.string()), ("size", pa.float64())])


def make_lake(uri: str, actor: str = "tester") -> Lake:
    """Return a fresh lake under a root."""
    lake = Lake(Storage.open(uri), actor)
    lake.ledger.create()
    return lake


def make_table(lake: Lake, name: str, schema: pa.Schema, key: Sequence[str] = (), *, reuse_name: bool = False) -> Table:
    """Create a dataset and return its table."""
    catalog.create_dataset(lake, name, schema, key=key, reuse_name=reuse_name)
    return lake.table(name)


def rows(*values: tuple[Any, ...]) -> pa.Table:
    """Return rows of the common schema."""
    return pa.Table.from_pylist([dict(zip(SCHEMA.names, v, strict=True)) for v in values], schema=SCHEMA)


def read(lake: Lake, reference: str = "t") -> list[tuple[Any, ...]]:
    """Return the rows of a state, in its order."""
    return [tuple(row.values()) for row in lake.read(reference).to_arrow().to_pylist()]


def adds(table: Table) -> list[dict[str, Any]]:
    """Return the files of the newest state as the log tells of them."""
    return pa.table(table.open().get_add_actions(flatten=True)).to_pylist()


def filled(lake: Lake, commits: int = 6, each: int = 50, name: str = "t") -> Table:
    """Return a table of several appends whose keys are shuffled; `id` is the key."""
    table, draw = make_table(lake, name, SCHEMA, key=["id"]), random.Random(commits)
    ids = draw.sample(range(commits * each), commits * each)
    for start in range(0, len(ids), each):
        table.append(rows(*((i, f"n{i % 7}", i / 3) for i in ids[start : start + each])))
    return table
