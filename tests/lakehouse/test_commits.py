"""Commits in bad moments: lost answers, failing reopens, rivals, and what delta-rs writes in our name."""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

import catalog
from lakehouse.errors import ConflictError, InvalidInputError, StorageError
from lakehouse.lake import Lake
from lakehouse.tables import Table
from tests.support.lakes import SCHEMA, make_lake, make_table, read, rows


@pytest.fixture
def local(tmp_path: Path) -> Lake:
    """A fresh lake in a folder."""
    return make_lake(str(tmp_path / "lake"))


class Shaky(Table):
    """A table whose store fails once, right after the first commit landed."""

    def __init__(self, like: Table) -> None:
        super().__init__(like._storage, like.dataset, like._actor)
        self.failed = False

    def _find(self, table: DeltaTable, app: str, number: int) -> int:
        if not self.failed:
            self.failed = True
            raise StorageError("storage-unavailable", "The store failed while reading the log: connection reset")
        return super()._find(table, app, number)


def test_a_failure_after_the_commit_landed_is_no_error(local: Lake) -> None:
    """When the store fails between a commit and the question for its version, rows are there once and it is told so."""
    table = Shaky(make_table(local, "t", SCHEMA))
    assert table.append(rows((1, "a", 1.0))).table_version == 1
    assert table.failed
    assert read(local) == [(1, "a", 1.0)]


def test_an_unreachable_store_is_told_at_once(local: Lake) -> None:
    """Before anything was tried nothing is in doubt: the error comes without waiting."""

    class Gone(Table):
        def open(self, version: int | None = None) -> DeltaTable:
            if opened:
                raise StorageError("storage-unavailable", "The store failed")
            opened.append(True)
            return super().open(version)

    opened: list[bool] = []
    made = make_table(local, "t", SCHEMA)
    with pytest.raises(StorageError):
        Gone(made._storage, made.dataset, "me").append(rows((1, "a", 1.0)))


def test_append_on_an_expected_version(local: Lake) -> None:
    """An append that expects a version lands on exactly that, with new columns too, or not at all."""
    table = make_table(local, "t", SCHEMA)
    assert table.append(rows((1, "a", 1.0)), expected_version=0).table_version == 1
    with pytest.raises(ConflictError) as caught:
        table.append(rows((2, "b", 2.0)), expected_version=0)
    assert caught.value.kind == "table-changed"
    wider = rows((3, "c", 3.0)).append_column("more", pa.array([1], pa.int64()))
    assert table.append(wider, expected_version=1, evolve=True).table_version == 3
    assert read(local) == [(1, "a", 1.0, None), (3, "c", 3.0, 1)]


@pytest.mark.parametrize("write", ["overwrite", "append"])
def test_a_rival_between_new_columns_and_rows(local: Lake, write: str) -> None:
    """Who writes after the columns were added and before the rows come is noticed, and nothing of theirs is lost."""
    made = make_table(local, "t", SCHEMA)

    class Raced(Table):
        def _find(self, table: DeltaTable, app: str, number: int) -> int:
            found = super()._find(table, app, number)
            if made.version() == 1:
                made.append(rows((7, "rival", 7.0)))
            return found

    wider = rows((1, "a", 1.0)).append_column("more", pa.array([1], pa.int64()))
    with pytest.raises(ConflictError) as caught:
        getattr(Raced(made._storage, made.dataset, "me"), write)(wider, evolve=True, expected_version=0)
    assert caught.value.kind == "table-changed"
    assert read(local) == [(7, "rival", 7.0, None)]


@pytest.mark.parametrize("write", ["append", "overwrite", "merge"])
def test_a_foreign_table_is_refused_before_it_is_altered(local: Lake, tmp_path: Path, write: str) -> None:
    """A write that a partitioned table refuses adds no column to it first."""
    folder = tmp_path / "theirs"
    write_deltalake(str(folder), pa.table({"id": [1], "part": ["x"]}), partition_by=["part"])
    catalog.adopt_dataset(local, "theirs", str(folder), key=["id"])
    with pytest.raises(InvalidInputError) as caught:
        getattr(local.table("theirs"), write)(pa.table({"id": [2], "part": ["x"], "new": [1]}), evolve=True)
    assert caught.value.kind == "table-partitioned"
    assert DeltaTable(str(folder)).version() == 0


def test_merge_finds_rows_in_files_with_escaped_names(local: Lake, tmp_path: Path) -> None:
    """A file that the log names with escapes is compared too: its keys are updated, never inserted again."""
    folder = tmp_path / "theirs"
    for start in (0, 100):
        write_deltalake(str(folder), pa.table({"id": [start, start + 1], "name": ["a", "b"]}), mode="append")
    for number in range(2):
        log = folder / f"_delta_log/{number:020d}.json"
        path = DeltaTable(str(folder), version=number).get_add_actions(flatten=True)
        for name in pa.table(path).column("path").to_pylist():
            if "%20" not in name and (folder / name).exists() and name in log.read_text():
                (folder / name).rename(folder / f"of {name}")
                log.write_text(log.read_text().replace(name, quote(f"of {name}")))
    catalog.adopt_dataset(local, "theirs", str(folder), key=["id"])
    commit = local.table("theirs").merge(pa.table({"id": [100, 200], "name": ["A", "z"]}))
    assert (commit.rows_updated, commit.rows_added) == (1, 1)
    assert local.read("theirs").num_rows == 5


@pytest.mark.parametrize("write", ["merge", "delete"])
@pytest.mark.parametrize("column", ["path", "a.b", "with space"])
def test_rewritten_files_keep_their_bloom_filters(local: Lake, write: str, column: str) -> None:
    """Files that delta-rs writes for a merge or a delete have filters on the lookup columns and zstd, as ours have."""
    schema = pa.schema([(column, pa.string()), ("n", pa.int64())])
    table = make_table(local, "t", schema, key=[column])
    table.append(pa.table({column: ["x", "y", "z"], "n": [1, 2, 3]}))
    if write == "merge":
        table.merge(pa.table({column: ["x"], "n": [9]}))
    else:
        table.delete("n = 1")
    for file in local.read("t").files():
        chunk = pq.read_metadata(file).row_group(0).column(0)
        assert chunk.compression == "ZSTD"
        assert chunk.bloom_filter_offset is not None
    assert local.read("t").find(**{column: "y"}) == [{column: "y", "n": 2}]


def test_a_store_that_fails_in_a_delete_is_not_the_condition(local: Lake) -> None:
    """A missing data file is told as the store's fault, not as a condition that can't be used."""
    table = make_table(local, "t", SCHEMA)
    table.append(rows((1, "a", 1.0), (2, "b", 2.0)))

    class Torn(Table):
        def lookup_columns(self, schema: pa.Schema) -> list[str]:
            for file in files:
                Path(file).unlink()
            return super().lookup_columns(schema)

    files = local.read("t").files()
    with pytest.raises(StorageError) as caught:
        Torn(table._storage, table.dataset, "me").delete("id = 1")
    assert caught.value.kind == "data-missing"


def test_log_entries_without_commit_info_and_with_gaps(local: Lake) -> None:
    """Each entry has the version of its own file, also below a commit without info and below a gap."""
    table = make_table(local, "t", SCHEMA)
    for number in range(1, 6):
        table.append(rows((number, "x", 1.0)), message=f"m{number}")
    folder = Path(local.storage.uri(table.dataset.location)) / "_delta_log"
    bare = folder / f"{4:020d}.json"
    bare.write_text("".join(s for s in bare.read_text().splitlines(True) if not s.startswith('{"commitInfo"')))
    assert [(e.table_version, e.message) for e in table.log()][:3] == [(5, "m5"), (4, None), (3, "m3")]
    assert [(e.table_version, e.message) for e in table.log(3)] == [(5, "m5"), (4, None), (3, "m3")]
    table.open().create_checkpoint()
    (folder / f"{2:020d}.json").unlink()
    assert [(e.table_version, e.message) for e in table.log()][3:] == [(1, "m1"), (0, None)]
    shutil.copy(bare, folder / "notes.json")  # not a commit
    assert len(table.log()) == 5
