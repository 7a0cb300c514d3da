"""What dead writers left behind goes, and a slow writer that comes back is refused, never half committed."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pytest

import catalog
import jobs
from lakehouse import fences, sweep_bytes
from lakehouse.creation import create_table
from lakehouse.datafiles import DataFile, write_files
from lakehouse.decisions import Dataset
from lakehouse.errors import ConflictError, InvalidInputError, NotFoundError
from lakehouse.lake import Lake
from lakehouse.packs import PackWriter
from lakehouse.storage import Storage
from lakehouse.sweep import find_orphans, sweep
from lakehouse.sweep_bytes import find_unused_bytes
from lakehouse.tables import Table
from tests.support.lakes import make_lake, make_table

SCHEMA = pa.schema([("id", pa.int64())])
DAY = 86_400


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A lake in a folder, where files can be made old."""
    made = make_lake(str(tmp_path / "lake"))
    make_table(made, "t", SCHEMA, key=["id"]).append(pa.table({"id": [1, 2]}))
    return made


def own(lake: Lake, name: str = "t") -> Dataset:
    """Return a dataset."""
    return catalog.show_dataset(lake, name).dataset


def age(lake: Lake, key: str, seconds: float) -> None:
    """Make a file look as old as that."""
    then = time.time() - seconds
    os.utime(lake.storage.uri(key), (then, then))


def age_all(lake: Lake, prefix: str) -> None:
    """Make all files below a key two days old."""
    for info in list(lake.storage.list(prefix)):
        age(lake, info.key, 2 * DAY)


def written(lake: Lake, *ids: int) -> list[DataFile]:
    """Write a data file that is not committed."""
    rows = pa.table({"id": list(ids)}, schema=SCHEMA).to_reader()
    return write_files(lake.storage, own(lake).location, rows)


def test_orphans(lake: Lake) -> None:
    """A file that no commit mentions goes when it is older than a day; younger ones and all others stay."""
    table = lake.table("t")
    table.merge(pa.table({"id": [2, 3]}))
    table.delete("id = 1")
    location = own(lake).location
    orphan, young = written(lake, 7), written(lake, 8)
    age_all(lake, location)
    age(lake, f"{location}/{young[0].path}", DAY / 2)
    assert find_orphans(lake, own(lake)).keys == (f"{location}/{orphan[0].path}",)
    before = table.version()
    assert sweep(lake, own(lake)).keys == (f"{location}/{orphan[0].path}",)
    assert table.version() == before + 1
    assert not sweep(lake, own(lake))
    assert table.version() == before + 1, "nothing left behind, no fence"
    assert sorted(lake.read("t").to_arrow().column("id").to_pylist()) == [2, 3]
    assert lake.read("t@#1").num_rows == 2
    assert Path(lake.storage.uri(f"{location}/{young[0].path}")).exists()


def test_orphans_must_be_old(lake: Lake) -> None:
    """An age that a slow writer could not keep to is refused."""
    with pytest.raises(InvalidInputError, match="24 hours"):
        sweep(lake, own(lake), timedelta(hours=1))


def test_slow_writer_after_the_sweep(lake: Lake) -> None:
    """A writer whose files were swept before it committed is refused, and nothing of it shows."""
    files = written(lake, 7)
    old = [DataFile(f.path, f.size, f.rows, f.stats, f.modified - 2 * DAY * 1000) for f in files]
    age_all(lake, own(lake).location)
    assert sweep(lake, own(lake))
    with pytest.raises(ConflictError) as caught:
        lake.table("t")._commit_files(old, "append", None, None, None)
    assert caught.value.kind == "files-swept"
    assert lake.read("t").to_arrow().num_rows == 2


@pytest.mark.parametrize("careful", [True, False], ids=["rule", "without the rule"])
def test_slow_writer_during_the_sweep(lake: Lake, monkeypatch: pytest.MonkeyPatch, *, careful: bool) -> None:
    """A slow commit before the fence is seen by the sweep's second look; one after that is refused.

    Without the writer's look for fences the latter lands over a missing file.
    """
    location = own(lake).location
    first, second = written(lake, 7), written(lake, 8)
    slow = {
        name: [DataFile(f.path, f.size, f.rows, f.stats, f.modified - 2 * DAY * 1000) for f in files]
        for name, files in (("first", first), ("second", second))
    }
    age_all(lake, location)
    mark, delete, outcome = Table.mark, Storage.delete, dict[str, str]()
    if not careful:
        monkeypatch.setattr(fences, "refuse_swept", lambda *_: None)

    def commit(name: str) -> None:
        try:
            lake.table("t")._commit_files(slow[name], "append", None, None, None)
            outcome[name] = "landed"
        except ConflictError as error:
            outcome[name] = error.kind

    def before_fence(table: Table, app: str, number: int) -> object:
        commit("first")
        return mark(table, app, number)

    def before_delete(storage: Storage, keys: Sequence[str], uri: str | None = None) -> None:
        commit("second")
        delete(storage, keys, uri)

    monkeypatch.setattr(Table, "mark", before_fence)
    monkeypatch.setattr(Storage, "delete", before_delete)
    gone = sweep(lake, own(lake))
    there = {Path(f).name for f in lake.read("t").files()}
    lost = {name for name in there if not Path(lake.storage.uri(f"{location}/{name}")).exists()}
    assert outcome["first"] == "landed"
    assert gone.keys == (f"{location}/{second[0].path}",)
    assert outcome["second"] == ("files-swept" if careful else "landed")
    assert lost == (set() if careful else {second[0].path})
    if careful:
        assert sorted(lake.read("t").to_arrow().column("id").to_pylist()) == [1, 2, 7]


def images(folder: Path, count: int, first: int = 0) -> Path:
    """Write small PNG files."""
    from PIL import Image

    folder.mkdir(exist_ok=True)
    for n in range(first, first + count):
        Image.new("RGB", (4, 4), (n, n, n)).save(folder / f"{n}.png")
    return folder


def test_stored_bytes(lake: Lake, tmp_path: Path) -> None:
    """Bytes that no row of any state points at go; those of pinned and of deleted datasets stay, and can be reused."""
    jobs.ingest(lake, images(tmp_path / "a", 3), dataset="kept")
    catalog.publish(lake, "kept")
    lake.table("kept").delete("true")
    jobs.ingest(lake, images(tmp_path / "b", 3, 10), dataset="dropped")
    catalog.delete_dataset(lake, "dropped")
    jobs.ingest(lake, images(tmp_path / "c", 3, 20), dataset="gone")
    lake.table("gone").delete("true")
    with PackWriter(lake.storage, "main") as left:
        left.add(b"x" * 100, "bin")
    part = Path(lake.storage.uri("_blobs/main/pack-dead.tar.part"))
    part.write_bytes(b"half")
    assert not find_unused_bytes(lake), "all of it is young"
    age_all(lake, "_blobs")
    assert len(find_unused_bytes(lake).keys) == 2, "the history of `gone` still points at its pack"
    catalog.vacuum(lake, keep_for="0")
    assert not find_unused_bytes(lake)
    assert not part.exists()
    assert len(list(lake.storage.list("_blobs"))) == 2
    assert [a.data[:4] for a in lake.read("kept@v1").assets()] == [b"\x89PNG"] * 3
    catalog.undrop_dataset(lake, "dropped")
    assert len(list(lake.read("dropped").assets())) == 3
    again = jobs.ingest(lake, tmp_path / "c", dataset="gone")
    assert (again.ingested, again.duplicates) == (3, 0), "forgotten bytes are stored anew"
    assert len(list(lake.read("gone").assets())) == 3
    reused = jobs.ingest(lake, tmp_path / "a", dataset="other")
    assert (reused.ingested, reused.duplicates) == (0, 3)


def test_reuse_during_the_sweep(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ingest that looked bytes up before they were swept is refused; run again it stores them anew."""
    jobs.ingest(lake, images(tmp_path / "a", 3), dataset="first")
    lake.table("first").delete("true")
    age_all(lake, "_blobs")
    flush = PackWriter.flush
    swept: list[object] = []

    def sweep_first(writer: PackWriter) -> None:
        if not swept:
            swept.append(catalog.vacuum(lake, keep_for="0"))
        flush(writer)

    monkeypatch.setattr(PackWriter, "flush", sweep_first)
    with pytest.raises(ConflictError) as caught:
        jobs.ingest(lake, tmp_path / "a", dataset="first")
    assert caught.value.kind == "bytes-swept"
    assert jobs.ingest(lake, tmp_path / "a", dataset="first", resume=True).ingested == 3
    assert len(list(lake.read("first").assets())) == 3


def test_lost_tables(lake: Lake) -> None:
    """A table that its maker did not live to register goes when it is a day old; registered ones, deleted too, stay."""
    create_table(lake.storage, "main/lost-0123abcd/g1", SCHEMA, "main.lost", "me")
    make_table(lake, "dropped", SCHEMA)
    catalog.delete_dataset(lake, "dropped")
    assert not catalog.vacuum(lake).lost
    age_all(lake, "main")
    Path(lake.root, "main", "notes-of-mine.txt").write_text("not ours")
    assert {Path(k).name for k in catalog.vacuum(lake, dry_run=True).lost.keys} == {f"{0:020d}.json"}
    assert len(catalog.vacuum(lake).lost.keys) == 1
    assert not Path(lake.storage.uri("main/lost-0123abcd/g1/_delta_log"), f"{0:020d}.json").exists()
    catalog.undrop_dataset(lake, "dropped")
    assert lake.read("dropped").num_rows == 0
    assert lake.read("t").num_rows == 2


def test_one_broken_table(lake: Lake) -> None:
    """A dataset that can't be cleaned up is told of, and the others are cleaned up; stored bytes stay, it may need them."""
    make_table(lake, "broken", SCHEMA)
    with PackWriter(lake.storage, "main") as left:
        left.add(b"x" * 100, "bin")
    age_all(lake, "_blobs")
    lake.table("t").overwrite(pa.table({"id": [3]}))
    shutil.rmtree(lake.storage.uri(own(lake, "broken").location))
    done = catalog.vacuum(lake, keep_for="0")
    assert {name: error.kind for name, error in done.problems.items()} == {
        "main.broken": "table-missing",
        "stored bytes": "table-missing",
    }
    assert done.files == 1
    assert len(list(lake.storage.list("_blobs"))) == 1
    with pytest.raises(NotFoundError):
        catalog.vacuum(lake, "broken")


@pytest.mark.s3
def test_unfinished_uploads(s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload that a dead writer began on S3 is ended; a younger one goes on."""
    lake = make_lake(s3_uri)
    files = lake.storage.filesystem()
    bucket, _, prefix = s3_uri.removeprefix("s3://").partition("/")
    key = f"{prefix}/_blobs/main/{uuid4().hex}"
    files.call_s3("create_multipart_upload", Bucket=bucket, Key=key)

    def count() -> int:
        found = files.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=key)
        return len(found.get("Uploads") or ())

    sweep_bytes.sweep_bytes(lake)
    assert count() == 1
    monkeypatch.setattr(sweep_bytes, "check_age", lambda _: None)
    sweep_bytes.sweep_bytes(lake, timedelta(seconds=-60))
    assert count() == 0
