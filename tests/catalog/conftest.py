"""Fixtures of the catalog: a lake in a folder with one dataset."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from lakehouse.lake import Lake
from lakehouse.tables import Table
from tests.support.lakes import make_lake, make_table

SCHEMA = pa.schema([("id", pa.int64()), ("label", pa.string())])


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A fresh lake in a folder."""
    return make_lake(str(tmp_path / "lake"))


@pytest.fixture
def photos(lake: Lake) -> Table:
    """The dataset `photos` with the key `id` and one commit of two rows."""
    table = make_table(lake, "photos", SCHEMA, key=["id"])
    table.append(pa.table({"id": [1, 2], "label": ["cat", "dog"]}))
    return table
