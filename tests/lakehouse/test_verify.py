"""Verification: every pinned state, every file once, each damage told for every state that needs the file."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

import catalog
from lakehouse import verify as core
from lakehouse.errors import AccessDeniedError, InvalidInputError, NotFoundError, StorageError
from lakehouse.facts import Facts
from lakehouse.lake import Lake
from lakehouse.pins import pins
from lakehouse.storage import Overwrite
from lakehouse.vacuum import vacuum
from tests.lakehouse.test_foreign_tables import deletion_vector, field, write_table
from tests.support.lakes import make_lake, make_table

SCHEMA = pa.schema([("id", pa.int64())])
ASSETS = pa.schema(
    [
        ("path", pa.string()),
        ("uri", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("sha256", pa.string()),
    ]
)


@pytest.fixture
def lake(root_uri: str) -> Lake:
    """A lake on each backend; `t` has v1, v2 and v3, each with one file more."""
    made = make_lake(root_uri)
    table = make_table(made, "t", SCHEMA, key=["id"])
    for number in range(3):
        table.append(pa.table({"id": [number]}))
        catalog.publish(made, "t")
    return made


@pytest.fixture
def local(tmp_path: Path) -> Lake:
    """A lake in a folder."""
    return make_lake(str(tmp_path / "lake"))


def key_of(lake: Lake, reference: str, at: int) -> str:
    """Return the key of a state's data file."""
    snapshot = lake.read(reference)
    return f"{snapshot.dataset.location}/{snapshot.file_list.table['path'][at]}"


def found(lake: Lake, *references: str, deep: bool = False) -> set[tuple[str, str]]:
    """Return (reference, kind) of all problems."""
    report = catalog.verify(lake, references or None, deep=deep)
    assert report.ok == (not report.problems)
    return {(p.reference, p.kind) for p in report.problems}


def readable(lake: Lake) -> list[tuple[Any, ...]]:
    """Return what the view says: (pinned by, status, deep, problems)."""
    return lake.sql("select pinned_by, status, deep, problems from readable").fetchall()


def test_all_is_well(lake: Lake) -> None:
    """Every pinned state is looked at and each file once, or the states that are named; a state pinned twice is one."""
    catalog.define_milestone(lake, "m", ["t"], policy="manual")
    catalog.publish_milestone(lake, "m")
    lake.snapshot("s", ["t@v1"])
    lake.table("t").append(pa.table({"id": [9]}))
    for deep in (False, True, True):
        report = catalog.verify(lake, deep=deep)
        assert (report.ok, report.checked, report.files, report.deep) == (True, 3, 3, deep)
        assert report.bytes == lake.read("t@v3").file_list.bytes
    assert catalog.verify(lake, ["t", "t@v1", "t@#1", "t@snap:s"]).checked == 2
    assert catalog.verify(make_lake(f"{lake.root}/empty")).checked == 0


def test_files_are_looked_at_once(local: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many states pin a file, it is looked at once, also where the folder is listed first."""
    looked: list[str] = []

    def look(storage: Any, row: dict[str, Any], what: str, size: int | None = None) -> int:
        looked.append(row["path"])
        assert (size is not None) == (len(paths) > 16)
        return real(storage, row, what, size)

    real = core.look
    monkeypatch.setattr(core, "look", look)
    table = make_table(local, "t", SCHEMA)
    for number in range(20):
        table.append(pa.table({"id": [number]}))
        if number in (3, 4, 18, 19):
            catalog.publish(local, "t")
            local.snapshot(f"s{number}", ["t"])
            paths = local.read("t").file_list.table["path"].to_pylist()
            looked.clear()
            assert catalog.verify(local).ok
            assert sorted(looked) == sorted(paths)


@pytest.mark.parametrize("damage", ["missing", "cut", "same size", "other file"])
def test_damage_is_told_for_every_state(lake: Lake, damage: str) -> None:
    """A missing or damaged file is a problem of each state that lists it, of no other, and the rest is still looked at."""
    lake.table("t").append(pa.table({"id": list(range(1000))}))
    catalog.publish(lake, "t")
    key = key_of(lake, "t@v2", 1)
    data = lake.storage.get(key)
    if damage == "missing":
        lake.storage.delete([key])
    else:
        other = lake.storage.get(key_of(lake, "t@v4", 3))
        bad = {"cut": data[:-1], "same size": b"\0" * len(data), "other file": other}[damage]
        lake.storage.put(key, bad, Overwrite())
    lake.storage.delete([key_of(lake, "t@v4", 3)])
    kind = "file-missing" if damage == "missing" else "file-damaged"
    for deep in (False, True):
        assert found(lake, deep=deep) == {
            *((f"main.t@v{n}", kind) for n in (2, 3, 4)),
            ("main.t@v4", "file-missing"),
        }
    assert found(lake, "t@v1") == set()
    assert found(lake, "t@v2") == {("main.t@v2", kind)}
    told = {p.reference: p.detail for p in catalog.verify(lake).problems if p.kind == "file-missing"}
    assert ("2 such problems" in told["main.t@v4"]) == (damage == "missing")


def test_deep_finds_what_sizes_do_not_show(lake: Lake) -> None:
    """One changed byte within a page is found by its checksum, one elsewhere by the sha256 that was recorded before."""
    keys = [key_of(lake, "t@v3", at) for at in range(3)]
    assert catalog.verify(lake, deep=True).ok
    data = bytearray(lake.storage.get(keys[0]))
    with pq.ParquetFile(pa.BufferReader(bytes(data))) as file:
        start = file.metadata.row_group(0).column(0).data_page_offset
        size = file.metadata.row_group(0).column(0).total_compressed_size
    data[start + size - 1] ^= 1
    lake.storage.put(keys[0], bytes(data), Overwrite())
    whole = bytearray(lake.storage.get(keys[1]))
    at = whole.index(b"parquet-cpp-arrow")
    whole[at] ^= 1
    lake.storage.put(keys[1], bytes(whole), Overwrite())
    assert found(lake) == set()
    assert found(lake, deep=True) == {(f"main.t@v{n}", "file-damaged") for n in (1, 2, 3)}
    details = {p.reference: p.detail for p in catalog.verify(lake, ["t@v1", "t@v2"], deep=True).problems}
    assert "can't be read" in details["main.t@v1"]
    assert "2 such problems" in details["main.t@v2"]
    # A shallow look that finds nothing does not take back what a deep one found.
    assert {status for _, status, *_ in readable(lake)} == {"damaged"}
    data[start + size - 1] ^= 1
    whole[at] ^= 1
    lake.storage.put(keys[0], bytes(data), Overwrite())
    lake.storage.put(keys[1], bytes(whole), Overwrite())
    assert found(lake) == set()
    assert {status for _, status, *_ in readable(lake)} == {"damaged"}
    assert found(lake, deep=True) == set()
    assert {status for _, status, *_ in readable(lake)} == {"readable"}


def test_state_that_does_not_open(lake: Lake) -> None:
    """A state whose log entry is gone, and a dataset whose table is gone, are problems; the others are looked at."""
    table = make_table(lake, "gone", SCHEMA)
    table.append(pa.table({"id": [1]}))
    catalog.publish(lake, "gone")
    lake.storage.delete([o.key for o in lake.storage.list(table.dataset.location)])
    log = f"{lake.table('t').dataset.location}/_delta_log/{3:020d}.json"
    lake.storage.delete([log])
    assert found(lake) == {("main.t@v3", "version-not-found"), ("main.gone@v1", "table-missing")}
    assert found(lake, "gone", "t@v1") == {("gone", "table-missing")}


def test_names_that_never_were(lake: Lake) -> None:
    """A name that means nothing is the caller's mistake and raises; a state that was cleaned up is a problem."""
    with pytest.raises(NotFoundError):
        catalog.verify(lake, ["t@v1", "nothing"])
    with pytest.raises(InvalidInputError):
        catalog.verify(lake, ["t@@"])
    lake.table("t").append(pa.table({"id": [7]}))
    lake.table("t").append(pa.table({"id": [8]}))
    vacuum(lake, lake.table("t").dataset, keep_for=timedelta(0))
    assert found(lake, "t@#4", "t@v3") == {("t@#4", "version-folded")}
    assert found(lake, deep=True) == set()


def test_view(lake: Lake) -> None:
    """The view has each pinned state once: unverified, then readable or damaged with the kinds of what was found."""
    lake.snapshot("s", ["t@v1"])
    assert readable(lake)[0] == (["main.t@v1", "snap:s"], "unverified", None, None)
    catalog.verify(lake, ["t@v1"])
    assert [row[1] for row in readable(lake)] == ["readable", "unverified", "unverified"]
    lake.storage.delete([key_of(lake, "t@v3", 2)])
    catalog.verify(lake, deep=True)
    assert readable(lake)[0][1:] == ("readable", True, None)
    assert readable(lake)[2][1:] == ("damaged", True, '{"file-missing": 1}')


def test_unpinned_meanwhile(local: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state that was unpinned and cleaned up while it was looked at is no problem."""
    table = make_table(local, "t", SCHEMA)
    table.append(pa.table({"id": [1]}))
    local.snapshot("s", ["t"])
    before = list(pins(local.state()))
    local.storage.delete([key_of(local, "t@snap:s", 0)])
    assert found(local) == {("main.t@snap:s", "file-missing")}
    local.delete_snapshot("s")
    monkeypatch.setattr(catalog.verification, "pins", lambda *_, **__: iter(calls.pop(0)))
    calls = [before, []]
    assert catalog.verify(local).ok
    assert not calls


def test_cleaned_up_meanwhile(local: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A named state that nothing pins and that is cleaned up while it is looked at is told as such."""
    table = make_table(local, "t", SCHEMA)
    table.append(pa.table({"id": [1]}))
    table.overwrite(pa.table({"id": [2]}))

    def late(*args: Any) -> Any:
        vacuum(local, table.dataset, keep_for=timedelta(0))
        return real(*args)

    real = core.look
    monkeypatch.setattr(core, "look", late)
    assert found(local, "t@#1") == {("main.t@#1", "version-folded")}


def test_rows_differ(local: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state whose log tells other rows than it was published with is found."""
    table = make_table(local, "t", SCHEMA)
    table.append(pa.table({"id": [1, 2]}))
    catalog.publish(local, "t")
    monkeypatch.setattr(core, "open_snapshot", lambda *args: local.read("t"))
    table.append(pa.table({"id": [3]}))
    assert found(local) == {("main.t@v1", "rows-differ")}


def test_outage_is_no_damage(local: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the store can't be reached that is raised, and nothing is recorded."""
    table = make_table(local, "t", SCHEMA)
    table.append(pa.table({"id": [1, 2]}))
    catalog.publish(local, "t")

    def fail(*_: object) -> int:
        raise StorageError("storage-unavailable", "The store failed.")

    monkeypatch.setattr(core, "look", fail)
    with pytest.raises(StorageError, match="failed"):
        catalog.verify(local)
    assert [row[1] for row in readable(local)] == ["unverified"]


def test_without_the_right_to_write(local: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may only read verifies too; it is just not recorded."""
    table = make_table(local, "t", SCHEMA)
    table.append(pa.table({"id": [1, 2]}))
    catalog.publish(local, "t")

    def refuse(*_: object) -> None:
        raise AccessDeniedError("storage-denied", "The store refused.")

    monkeypatch.setattr(Facts, "append", refuse)
    assert catalog.verify(local, deep=True).ok


# -- assets -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def assets(lake: Lake) -> Lake:
    """A lake with two packs of ten assets: `a` v1 points at the first, v2 also at the second, by one file each."""
    catalog.create_dataset(lake, "a", ASSETS, key=["path"], kind="assets")
    for pack in range(2):
        items = [bytes([pack, n]) * 100 for n in range(10)]
        uri = f"_blobs/main/pack{pack}.tar"
        lake.storage.put(uri, b"".join(items), Overwrite())
        rows = [
            {
                "path": f"{pack}/{n}",
                "uri": uri,
                "offset": 200 * n,
                "length": 200,
                "sha256": hashlib.sha256(d).hexdigest(),
            }
            for n, d in enumerate(items)
        ]
        lake.table("a").append(pa.Table.from_pylist(rows, schema=ASSETS))
        catalog.publish(lake, "a")
    return lake


def test_packs(assets: Lake) -> None:
    """A missing pack and one that is too short are problems of the states whose rows point there, and only there."""
    both = {("main.a@v1", "pack-missing"), ("main.a@v2", "pack-missing"), ("main.a@v2", "pack-short")}
    assert found(assets) == found(assets, deep=True) == set()
    whole = assets.storage.get("_blobs/main/pack1.tar")
    assets.storage.put("_blobs/main/pack1.tar", whole[:-1], Overwrite())
    assert found(assets) == found(assets, deep=True) == {("main.a@v2", "pack-short")}
    assets.storage.delete(["_blobs/main/pack0.tar"])
    assert found(assets) == found(assets, deep=True) == both
    assert found(assets, "a@v1") == {("main.a@v1", "pack-missing")}


def test_asset_bytes(assets: Lake) -> None:
    """A changed byte in a pack is found by a deep verification, for the states whose rows point at that asset."""
    whole = bytearray(assets.storage.get("_blobs/main/pack1.tar"))
    whole[777] ^= 1
    assets.storage.put("_blobs/main/pack1.tar", bytes(whole), Overwrite())
    assert found(assets) == set()
    assert found(assets, deep=True) == {("main.a@v2", "asset-corrupt")}
    moved = {"path": "0/3", "uri": "_blobs/main/pack1.tar", "offset": 600, "length": 200, "sha256": "0" * 64}
    assets.table("a").merge(pa.Table.from_pylist([moved], schema=ASSETS))
    catalog.publish(assets, "a")
    problems = {p.reference: p.detail for p in catalog.verify(assets, deep=True).problems}
    assert problems.keys() == {"main.a@v2", "main.a@v3"}
    assert "2 such problems" in problems["main.a@v3"]


def test_assets_in_place(local: Lake, tmp_path: Path) -> None:
    """Files in place elsewhere are looked at as well, and one whose location makes no sense does not stop the rest."""
    catalog.create_dataset(local, "a", ASSETS, kind="assets")
    files = [tmp_path / f"f {n}.bin" for n in range(4)]
    for n, file in enumerate(files):
        file.write_bytes(bytes([n]) * 10)
    rows = [
        {
            "path": f.name,
            "uri": f.as_uri(),
            "offset": 0,
            "length": 10,
            "sha256": hashlib.sha256(f.read_bytes()).hexdigest(),
        }
        for f in files
    ]
    local.table("a").append(pa.Table.from_pylist(rows, schema=ASSETS))
    catalog.publish(local, "a")
    assert found(local, deep=True) == set()
    files[0].unlink()
    files[1].write_bytes(b"x")
    files[2].write_bytes(b"y" * 10)
    kinds = {"object-missing", "object-short"}
    assert {kind for _, kind in found(local)} == kinds
    assert {kind for _, kind in found(local, deep=True)} == kinds | {"asset-corrupt"}
    local.table("a").append(pa.Table.from_pylist([rows[3] | {"offset": -1}], schema=ASSETS))
    assert "asset-location-invalid" in {kind for _, kind in found(local, "a", deep=True)}


# -- adopted tables ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stats", [True, False])
def test_adopted(local: Lake, tmp_path: Path, stats: bool) -> None:
    """Adopted tables are verified too: partitioned, with names that need escapes, with and without statistics."""
    folder = str(tmp_path / "theirs")
    data = pa.table({"k": ["a b", "c/d", "é%20", "x=y", None, "#[x]*?~"] * 4, "v": range(24)})
    options: dict[str, Any] = {"configuration": {} if stats else {"delta.dataSkippingNumIndexedCols": "0"}}
    write_deltalake(folder, data, partition_by=["k"], **options)
    for _ in range(3):
        write_deltalake(folder, data, mode="append")
    catalog.adopt_dataset(local, "theirs", folder)
    catalog.publish(local, "theirs")
    for deep in (False, True, True):
        assert found(local, deep=deep) == set()
    gone = local.read("theirs").files()[5]
    Path(gone).unlink()
    report = catalog.verify(local)
    assert [(p.reference, p.kind) for p in report.problems] == [("main.theirs@v1", "file-missing")]
    assert "=" not in report.problems[0].detail


@pytest.mark.s3
def test_adopted_on_s3(local: Lake, s3_uri: str) -> None:
    """The same on S3, from a lake in a folder: one listing, also below a prefix that needs escapes."""
    folder = f"{s3_uri}/their t%20ble"
    data = pa.table({"k": ["a b", "c/d", "é%20", "x=y", None, "#[x]*?~"] * 4, "v": range(24)})
    for _ in range(4):
        write_deltalake(folder, data, mode="append", partition_by=["k"])
    catalog.adopt_dataset(local, "theirs", folder)
    catalog.publish(local, "theirs")
    assert found(local) == found(local, deep=True) == set()
    expected = local.read("theirs").to_polars()
    assert catalog.publish(local, "theirs", copy=True).number == 2
    gone = local.read("theirs").files()[5]
    local.storage.filesystem(gone).rm_file(gone)
    assert found(local) == {("main.theirs@v1", "file-missing")}
    with pytest.raises(StorageError, match=r"the data file part-\S+ is missing"):
        local.read("theirs")
    assert local.read("theirs@v2").to_polars().equals(expected)


def test_adopted_and_replaced(local: Lake, tmp_path: Path) -> None:
    """A table that somebody else put in the place of an adopted one is a problem of each of its states."""
    folder = tmp_path / "theirs"
    write_deltalake(str(folder), pa.table({"id": [1]}))
    catalog.adopt_dataset(local, "theirs", str(folder))
    catalog.publish(local, "theirs")
    folder.rename(tmp_path / "old")
    write_deltalake(str(folder), pa.table({"id": [1]}))
    assert found(local) == {("main.theirs@v1", "table-replaced")}


def test_deletion_vectors(local: Lake, tmp_path: Path) -> None:
    """Rows of a table with deletion vectors are counted without those that are marked deleted."""
    folder = tmp_path / "theirs"
    parts, marks = [pa.table({"id": [1, 2, 3, 4]}), pa.table({"id": [5, 6]})], [deletion_vector([1, 3], folder), {}]
    files = [(f"{n}.parquet", part, mark) for n, (part, mark) in enumerate(zip(parts, marks, strict=True))]
    write_table(folder, [field("id", "long")], files, ["deletionVectors"])
    catalog.adopt_dataset(local, "theirs", str(folder))
    assert catalog.publish(local, "theirs").rows == 4
    for deep in (False, True):
        assert found(local, deep=deep) == set()
    for vector in folder.glob("*.bin"):
        vector.unlink()
    assert found(local) == {("main.theirs@v1", "file-missing")}
