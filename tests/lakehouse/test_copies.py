"""Copies of adopted tables' versions: the same rows for ever, whatever happens to the original."""

from __future__ import annotations

import multiprocessing
import random
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from multiprocessing.synchronize import Event
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

import catalog
from lakehouse import copying
from lakehouse.decisions import Dataset
from lakehouse.errors import FormatError, InvalidInputError, NotFoundError, StateError, StorageError
from lakehouse.lake import Lake, connect
from lakehouse.vacuum import vacuum
from tests.lakehouse.test_foreign_tables import deletion_vector, field, write_table
from tests.support.lakes import make_lake, make_table

ROWS = pa.table({"id": [3, 1, 2], "name": ["c", None, "b"]})


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A fresh lake in a folder."""
    return make_lake(str(tmp_path / "lake"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A Delta table that somebody else made, with two versions."""
    path = tmp_path / "their table"
    write_deltalake(str(path), ROWS)
    write_deltalake(str(path), pa.table({"id": [4], "name": ["d"]}), mode="append")
    return path


def adopt(lake: Lake, folder: Path, **options: object) -> Dataset:
    """Adopt a table as `theirs`."""
    return catalog.adopt_dataset(lake, "theirs", str(folder), **options)  # type: ignore[arg-type]


def rewrite(folder: Path, rows: pa.Table = ROWS) -> None:
    """Do what its owner may do: other rows, and no history."""
    write_deltalake(str(folder), rows, mode="overwrite", schema_mode="overwrite")
    DeltaTable(str(folder)).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)


def check_reads(lake: Lake, reference: str, expected: pa.Table) -> None:
    """A state reads the same through every engine."""
    snapshot = lake.read(reference)
    assert snapshot.to_arrow() == expected
    assert snapshot.scan().collect().equals(pl.DataFrame(expected))
    assert lake.sql(f'from "{reference}"').to_arrow_table().to_pylist() == expected.to_pylist()


def copies(lake: Lake) -> list[Dataset]:
    """Return the datasets that hold copies."""
    return [d for d in lake.state().all(Dataset) if d.copy_of is not None]


def test_survives(root_uri: str, folder: Path) -> None:
    """A copied version reads as the original did - rows, order, schema - after that was rewritten, vacuumed, deleted."""
    lake = make_lake(root_uri)
    adopt(lake, folder, key=["id"])
    original = lake.read("theirs")
    expected = original.to_arrow()
    made = catalog.publish(lake, "theirs", data_tag="FINAL", copy=True)
    assert (made.number, made.rows, made.committed_at, made.copied_from) == (1, 4, original.created_at, 1)
    for change in (lambda: rewrite(folder), lambda: shutil.rmtree(folder)):
        change()
        for reference in ("theirs@v1", "theirs@FINAL", "theirs@latest"):
            check_reads(lake, reference, expected)
    assert lake.read("theirs@v1").schema == original.schema
    assert lake.read("theirs@v1").metadata.rows == 4
    assert connect(root_uri).read("theirs@v1").get(1) == {"id": 1, "name": None}
    assert catalog.verify(lake, deep=True).ok
    with pytest.raises(NotFoundError):
        lake.read("theirs")


def test_versions_follow_each_other(lake: Lake, folder: Path) -> None:
    """Each copied version is one version of one table, with columns of its own; versions are compared by the key."""
    adopt(lake, folder, key=["id"])
    first = lake.read("theirs").to_arrow()
    catalog.publish(lake, "theirs", copy=True)
    wider = pa.table({"id": ["1", "9"], "more": [[1], None]})
    rewrite(folder, wider)
    catalog.publish(lake, "theirs", copy=True)
    rewrite(folder, wider.slice(0, 0))
    catalog.publish(lake, "theirs", copy=True)
    rewrite(folder)
    catalog.publish(lake, "theirs", copy=True)
    check_reads(lake, "theirs@v1", first)
    assert lake.read("theirs@v2").to_arrow().to_pylist() == wider.to_pylist()
    assert lake.read("theirs@v3").num_rows == 0
    assert lake.read("theirs@v3").schema == lake.read("theirs@v2").schema
    check_reads(lake, "theirs@v4", ROWS)
    assert [v.table_version for v in catalog.list_versions(lake, "theirs")] == [4, 3, 2, 1]
    assert len(copies(lake)) == 1
    found = lake.diff("theirs@v4", "theirs@v1")
    assert (found.key, found.counts.added, found.counts.removed, found.counts.changed) == (("id",), 1, 0, 0)
    vacuum(lake, copies(lake)[0], keep_for=timedelta(0))
    check_reads(lake, "theirs@v1", first)
    catalog.define_milestone(lake, "m", ["theirs"], policy="manual")
    catalog.publish_milestone(lake, "m")
    check_reads(lake, "theirs@m/v1", ROWS)


def test_copied_once(lake: Lake, folder: Path) -> None:
    """A state that was copied is not copied again: not by name, not by its version, not where a publication died."""
    adopt(lake, folder)
    versions = [catalog.publish(lake, reference, copy=True) for reference in ("theirs", "theirs@#1", "theirs@v1")]
    versions.append(catalog.publish(lake, "theirs@v1", data_tag="FINAL"))
    assert [(v.number, v.table_version, v.copied_from) for v in versions] == [(n, 1, 1) for n in (1, 2, 3, 4)]
    catalog.publish(lake, "theirs@#0", copy=True)
    assert lake.read("theirs@v5").to_arrow() == ROWS
    assert catalog.publish(lake, "theirs", copy=True).table_version == 1


def test_died_on_the_way(lake: Lake, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that died at any step publishes nothing, and the next one is whole."""
    adopt(lake, folder)
    expected = lake.read("theirs").to_arrow()

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for module, step in (
        (copying, "create_table"),
        (copying, "write_files"),
        (copying, "list_files"),
        (catalog.versions, "prove_files"),
        (catalog.versions, "_store_metrics"),
    ):
        with monkeypatch.context() as broken:
            broken.setattr(module, step, die)
            with pytest.raises(KeyboardInterrupt):
                catalog.publish(lake, "theirs", copy=True)
        assert catalog.list_versions(lake, "theirs") == []
    made = catalog.publish(lake, "theirs", copy=True)
    assert (made.number, made.table_version) == (1, 1)
    check_reads(lake, "theirs@v1", expected)


def publish_for_ever(root: str, ready: Event) -> None:
    """What the killed process does."""
    lake = connect(root)
    ready.set()
    while True:
        rewrite_quietly(lake)
        catalog.publish(lake, "theirs", copy=True)


def rewrite_quietly(lake: Lake) -> None:
    """Make the original's next version: other rows, one more each time."""
    table = lake.table("theirs")
    count = table.version()
    table.overwrite(pa.table({"id": list(range(count)), "name": [str(count)] * count}))


def test_killed_at_any_moment(lake: Lake, folder: Path) -> None:
    """After a kill all that was published reads whole, nothing is half there, and the next publication goes on."""
    adopt(lake, folder)
    draw, context = random.Random(7), multiprocessing.get_context("spawn")
    for _ in range(3):
        ready = context.Event()
        process = context.Process(target=publish_for_ever, args=(lake.root, ready), daemon=True)
        process.start()
        assert ready.wait(60)
        time.sleep(draw.uniform(0.02, 0.6))
        process.kill()
        process.join()
        fresh = connect(lake.root)
        made = catalog.publish(fresh, "theirs", copy=True)
        assert fresh.read(f"theirs@v{made.number}").to_arrow() == fresh.read("theirs").to_arrow()
        versions = catalog.list_versions(fresh, "theirs")
        assert [v.number for v in versions] == list(range(len(versions), 0, -1))
        for version in versions:
            rows = fresh.read(f"theirs@v{version.number}").to_arrow()
            # The rows of one version tell which one of the original it is, and how many there must be.
            assert set(rows["name"].to_pylist()) == {str(rows.num_rows)} or version.copied_from == 1
            assert rows.num_rows == version.rows
        assert catalog.verify(fresh, deep=True).ok


def test_several_at_once(lake: Lake, folder: Path) -> None:
    """Copies of the same and of other states at the same time: one table, one version for each state."""
    adopt(lake, folder)
    expected = {number: lake.read(f"theirs@#{number}").to_arrow() for number in (0, 1)}

    def publish(number: int) -> tuple[int, int]:
        made = catalog.publish(connect(lake.root), f"theirs@#{number % 2}", copy=True)
        return number % 2, made.number

    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(publish, range(6)))
    assert sorted(number for _, number in made) == [1, 2, 3, 4, 5, 6]
    for source, number in made:
        check_reads(lake, f"theirs@v{number}", expected[source])
    assert len({v.table_version for v in catalog.list_versions(lake, "theirs")}) == 2
    assert len(copies(lake)) == 1


def test_cleaned_up_before_it_was_published(lake: Lake, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh copy that a clean-up gave up before the publication is made again."""
    adopt(lake, folder)
    expected = lake.read("theirs@#0").to_arrow()
    catalog.publish(lake, "theirs", copy=True)
    real: Callable[..., object] = catalog.versions._publish
    times = []

    def late(*args: object) -> object:
        if not times:
            times.append(1)
            catalog.publish(lake, "theirs", copy=True)
            table = lake.table("theirs")
            table.append(pa.table({"id": [5], "name": ["e"]}))
            catalog.copies.copied(lake, lake.read("theirs"))
            vacuum(lake, copies(lake)[0], keep_for=timedelta(0))
        return real(*args)

    monkeypatch.setattr(catalog.versions, "_publish", late)
    catalog.publish(lake, "theirs@#0", copy=True)
    newest = catalog.list_versions(lake, "theirs")[0]
    check_reads(lake, f"theirs@v{newest.number}", expected)
    assert catalog.verify(lake).ok


def test_shows_nowhere(lake: Lake, folder: Path) -> None:
    """A copy is no dataset that anybody lists, counts, drops or adopts; it goes with its versions."""
    made = adopt(lake, folder, description="d", license="MIT")
    catalog.publish(lake, "theirs", copy=True)
    assert [i.dataset for i in catalog.list_datasets(lake)] == [made]
    assert catalog.status(lake).datasets == 1
    assert lake.sql("select dataset_id, guarantee from datasets").fetchall() == [(made.dataset_id, "external")]
    assert all(check.ok for check in catalog.doctor(lake.root))
    with pytest.raises(StateError, match="already"):
        catalog.adopt_dataset(lake, "again", lake.storage.uri(copies(lake)[0].location))
    catalog.delete_dataset(lake, "theirs")
    assert catalog.list_datasets(lake) == []
    assert lake.read("theirs@v1").num_rows == 4
    adopt(lake, folder, reuse_name=True)
    assert catalog.publish(lake, "theirs", copy=True).number == 2
    assert len(copies(lake)) == 2
    assert [i.dataset.guarantee for i in catalog.list_datasets(lake)] == ["external"]


def test_hold(lake: Lake, folder: Path) -> None:
    """A legal hold on an adopted dataset covers its copies."""
    adopt(lake, folder)
    catalog.publish(lake, "theirs", copy=True)
    catalog.set_hold(lake, "theirs", reason="case 7")
    with pytest.raises(StateError) as caught:
        vacuum(lake, copies(lake)[0], keep_for=timedelta(0))
    assert caught.value.kind == "dataset-held"


def test_refused(lake: Lake, folder: Path) -> None:
    """Our own tables are not copied; a replaced table or one with missing files is not published."""
    make_table(lake, "mine", ROWS.schema).append(ROWS)
    with pytest.raises(InvalidInputError, match="without --copy") as caught:
        catalog.publish(lake, "mine", copy=True)
    assert caught.value.kind == "copy-own"
    adopt(lake, folder)
    Path(lake.read("theirs@#0").files()[0]).unlink()
    with pytest.raises(StorageError) as missing:
        catalog.publish(lake, "theirs", copy=True)
    assert missing.value.kind == "file-missing"
    shutil.rmtree(folder)
    write_deltalake(str(folder), ROWS)
    with pytest.raises(FormatError) as replaced:
        catalog.publish(lake, "theirs", copy=True)
    assert replaced.value.kind == "table-replaced"
    assert copies(lake) == []


def test_partitions_and_types(lake: Lake, tmp_path: Path) -> None:
    """A partitioned table with nested columns and values that need escapes becomes a plain one with the same rows."""
    folder = tmp_path / "theirs"
    rows = pa.table(
        {
            "k": pa.array(["a b", "é%20", None, "x=y"]),
            "when": pa.array([date(2026, 1, 1)] * 4),
            "nested": pa.array(
                [{"a": [1], "b": {"c": "x"}}, None, {"a": None, "b": None}, {"a": [], "b": {"c": None}}]
            ),
            "with space": pa.array([1.5, None, float("inf"), -0.0]),
        }
    )
    write_deltalake(str(folder), rows, partition_by=["k", "when"])
    adopt(lake, folder)
    expected = lake.read("theirs").to_arrow()
    catalog.publish(lake, "theirs", copy=True)
    shutil.rmtree(folder)
    check_reads(lake, "theirs@v1", expected)
    assert lake.read("theirs@v1").file_list.partition_columns == ()


def test_deletion_vectors(lake: Lake, tmp_path: Path) -> None:
    """Rows that a deletion vector marks are not in the copy, which needs no vectors."""
    folder = tmp_path / "theirs"
    files = [("0.parquet", pa.table({"id": [1, 2, 3, 4]}), deletion_vector([1, 3], folder))]
    write_table(folder, [field("id", "long")], files, ["deletionVectors"])
    adopt(lake, folder)
    catalog.publish(lake, "theirs", copy=True)
    check_reads(lake, "theirs@v1", pa.table({"id": [1, 3]}))
    assert catalog.verify(lake, deep=True).ok
