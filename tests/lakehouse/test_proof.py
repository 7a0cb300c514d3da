"""Proof: files are looked at before something rests on them, and only those that nobody looked at before."""

from __future__ import annotations

import pyarrow as pa
import pytest

import catalog
from lakehouse import proof
from lakehouse.errors import StorageError
from lakehouse.lake import Lake
from lakehouse.proof import prove_files
from lakehouse.storage import Overwrite
from tests.support.lakes import make_lake, make_table

SCHEMA = pa.schema([("id", pa.int64())])


@pytest.fixture
def lake(root_uri: str) -> Lake:
    """A lake on each backend with the dataset `t` of three files."""
    made = make_lake(root_uri)
    table = make_table(made, "t", SCHEMA)
    for number in range(3):
        table.append(pa.table({"id": [number]}))
    return made


def test_counts(lake: Lake) -> None:
    """All files are looked at, or those that are not proven; an empty state has none."""
    snapshot = lake.read("t")
    paths = snapshot.file_list.table.column("path").to_pylist()
    assert prove_files(snapshot) == 3
    assert prove_files(snapshot, set(paths[:2])) == 1
    assert prove_files(snapshot, set(paths)) == 0
    assert prove_files(lake.read("t@#0")) == 0


@pytest.mark.parametrize("damage", ["missing", "cut", "same size", "other file"])
def test_damage(lake: Lake, damage: str) -> None:
    """A missing file, a cut one, one of the right size that is no Parquet, and another's file are all found."""
    snapshot = lake.read("t")
    first, second = (
        f"{lake.table('t').dataset.location}/{p}" for p in snapshot.file_list.table["path"].to_pylist()[:2]
    )
    data = lake.storage.get(first)
    lake.table("t").append(pa.table({"id": list(range(1000))}))
    big = lake.read("t").file_list.table["path"].to_pylist()[-1]
    if damage == "missing":
        lake.storage.delete([first])
    else:
        bad = {
            "cut": data[:-1],
            "same size": b"\0" * len(data),
            "other file": lake.storage.get(f"{lake.table('t').dataset.location}/{big}"),
        }[damage]
        lake.storage.put(first, bad, Overwrite())
    with pytest.raises(StorageError, match=first.rpartition("/")[2]) as caught:
        prove_files(snapshot)
    assert caught.value.kind == ("file-missing" if damage == "missing" else "file-damaged")
    assert prove_files(snapshot, {first.rpartition("/")[2]}) == 2
    assert second != first


def test_publication_looks_at_new_files_only(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first version proves all files, the next ones what came since; a damage in old files is `verify`'s to find."""
    looked: list[int] = []
    monkeypatch.setattr(catalog.versions, "prove_files", lambda *args: looked.append(proof.prove_files(*args)))
    catalog.publish(lake, "t")
    lake.table("t").append(pa.table({"id": [7]}))
    catalog.publish(lake, "t")
    catalog.publish(lake, "t")
    lake.table("t").overwrite(pa.table({"id": [8]}))
    catalog.publish(lake, "t")
    assert looked == [3, 1, 0, 1]
