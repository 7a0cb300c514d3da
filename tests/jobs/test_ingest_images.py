"""Image folders, archives and files in place, through the whole ingest on real storage."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import jobs
from catalog.datasets import create_dataset
from jobs.ingest import asset_id, assets, items
from lakehouse.errors import InvalidInputError, NotFoundError, StateError
from lakehouse.lake import Lake
from lakehouse.storage import Overwrite, Storage

Folder = Callable[..., Path]
Image = Callable[[int], bytes]

# Modules whose constants tests lower; `jobs.ingest` as an attribute is the function of that name.
ASSETS, ITEMS = assets, items


def rows(lake: Lake, name: str = "photos") -> dict[str, dict[str, Any]]:
    """The rows of a dataset by path."""
    return {row["path"]: row for row in lake.read(name).to_arrow().to_pylist()}


def rejects(lake: Lake, run: str) -> list[tuple[str, str]]:
    """(item, code) of all rejects of a run."""
    found = lake.facts.snapshot("rejects")
    table = found.to_arrow(["item", "code"], f"run = '{run}'").to_pylist() if found else []
    return sorted((row["item"], row["code"]) for row in table)


def packs(lake: Lake) -> list[str]:
    """Keys of all stored blobs."""
    return [info.key for info in lake.storage.list("_blobs")]


def small_batches(monkeypatch: pytest.MonkeyPatch, rows: int = 4) -> None:
    """Commit every few items, so that little data makes many batches."""
    monkeypatch.setattr(ASSETS, "BATCH_ROWS", rows)
    monkeypatch.setattr(ASSETS, "_GROUP_ITEMS", rows)
    monkeypatch.setattr(ITEMS, "_LOAD_ITEMS", max(1, rows // 2))


def test_a_folder_becomes_rows_whose_bytes_are_the_files(lake_anywhere: Lake, folder: Folder) -> None:
    """Every image has one row, found by its path, with its sha256, and reads back byte for byte on both backends."""
    source = folder({"a.png": 1, "sub/b.PNG": 2, "sub/ünï 卵 c.png": 3, "notes.txt": b"no image"})
    report = jobs.ingest(lake_anywhere, source, dataset="photos", license="CC0-1.0")
    assert (report.items, report.ingested, report.rejected) == (3, 3, 0)
    snap = lake_anywhere.read("photos")
    for asset in snap.assets():
        data = (source / asset.row["path"]).read_bytes()
        assert asset.data == data
        assert asset.row["sha256"] == hashlib.sha256(data).hexdigest()
        assert asset.row["asset_id"] == asset_id(asset.row["path"])
        assert (asset.row["width"], asset.row["height"], asset.row["format"]) == (16, 16, "PNG")
        assert (asset.row["license"], asset.row["run"], asset.row["modality"]) == ("CC0-1.0", report.run, "image")
    assert snap.table_version == report.table_version
    assert snap.get("sub/ünï 卵 c.png")["length"] == (source / "sub/ünï 卵 c.png").stat().st_size
    assert snap.dataset.kind == "assets"


def test_the_report_has_the_documented_keys_and_adds_up(lake: Lake, folder: Folder) -> None:
    """The JSON of a report has the keys that others rely on, and items are what became of them."""
    source = folder({"a.png": 1, "b.png": 1, "c.png": b"", "d.jpg": 2})
    report = jobs.ingest(lake, source, dataset="photos").to_json()
    promised = [
        "dataset",
        "table_version",
        "run",
        "items",
        "ingested",
        "unchanged",
        "duplicates",
        "rejected",
        "bytes",
        "seconds",
    ]
    assert set(report) == {*promised, "warnings", "rejects_by_code"}
    assert report["items"] == 4 == sum(report[k] for k in ("ingested", "unchanged", "duplicates", "rejected"))
    assert (report["ingested"], report["duplicates"], report["rejected"]) == (2, 1, 1)
    assert report["rejects_by_code"] == {"empty_file": 1}
    assert report["warnings"] == {"suffix_mismatch": 1}
    assert json.loads(rows(lake)["d.jpg"]["metadata"]) == {"findings": ["suffix_mismatch"]}


def test_a_second_run_changes_nothing(lake: Lake, folder: Folder) -> None:
    """Ingesting the same folder again writes no row and no byte, and says so."""
    source = folder({f"{i}.png": i for i in range(5)})
    first = jobs.ingest(lake, source, dataset="photos")
    stored = packs(lake)
    again = jobs.ingest(lake, source, dataset="photos")
    assert (again.unchanged, again.ingested, again.table_version) == (5, 0, first.table_version)
    assert again.run != first.run
    assert packs(lake) == stored


def test_append_refuses_other_bytes_under_a_known_path_and_merge_takes_them(lake: Lake, folder: Folder) -> None:
    """A changed file is a reject in append, and a new row content in merge, which keeps what was set since."""
    jobs.ingest(lake, folder({"a.png": 1, "b.png": 2}), dataset="photos")
    lake.table("photos").merge(_labels({"a.png": "cat"}))
    source = folder({"a.png": 7, "c.png": 3})
    appended = jobs.ingest(lake, source, dataset="photos")
    assert (appended.unchanged, appended.ingested, appended.rejects_by_code) == (1, 1, {"path_exists": 1})
    merged = jobs.ingest(lake, source, dataset="photos", mode="merge")
    assert (merged.unchanged, merged.ingested) == (2, 1)
    found = rows(lake)
    assert found["a.png"]["sha256"] == hashlib.sha256((source / "a.png").read_bytes()).hexdigest()
    assert found["a.png"]["label"] == "cat"
    assert len(found) == 3


def _labels(labels: dict[str, str]) -> Any:
    import pyarrow as pa

    return pa.table({"path": list(labels), "label": list(labels.values())})


def test_overwrite_replaces_all_rows_in_one_commit(lake: Lake, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an overwrite the dataset has the rows of the new folder only, one version later, from stored bytes."""
    small_batches(monkeypatch)
    first = jobs.ingest(lake, folder({f"{i:02d}.png": i for i in range(10)}), dataset="photos")
    other = folder({f"{i:02d}.png": i for i in range(5, 20)}, "other")
    report = jobs.ingest(lake, other, dataset="photos", mode="overwrite")
    assert report.table_version == first.table_version + 1
    assert (report.ingested, report.duplicates, report.unchanged) == (10, 5, 0)
    assert sorted(rows(lake)) == [f"{i:02d}.png" for i in range(5, 20)]


def test_equal_bytes_are_stored_once_per_namespace(lake: Lake, folder: Folder, image: Image) -> None:
    """Copies within a folder and in another dataset of the namespace share one place; another namespace does not."""
    source = folder({"a.png": 1, "copy/a.png": 1})
    jobs.ingest(lake, source, dataset="one.photos")
    jobs.ingest(lake, source, dataset="one.more")
    jobs.ingest(lake, source, dataset="two.photos")
    here = {(r["uri"], r["offset"]) for name in ("one.photos", "one.more") for r in rows(lake, name).values()}
    assert len(here) == 1
    assert {r["uri"] for r in rows(lake, "two.photos").values()}.isdisjoint(uri for uri, _ in here)


def test_hidden_files_and_other_files_are_no_items(lake: Lake, folder: Folder) -> None:
    """Dot files, what macOS adds and files without an image's suffix are left alone."""
    source = folder({"a.png": 1, ".b.png": 2, ".git/c.png": 3, "__MACOSX/d.png": 4, "e.csv": b"x\n1\n"})
    assert jobs.ingest(lake, source, dataset="photos").items == 1


def test_an_explicit_file_is_taken_whatever_its_suffix(lake: Lake, folder: Folder) -> None:
    """A file that the caller names is an item; with no known suffix, its format must be said."""
    source = folder({"scan.dat": 1}) / "scan.dat"
    with pytest.raises(InvalidInputError) as error:
        jobs.ingest(lake, source, dataset="photos")
    assert error.value.kind == "source-empty"
    assert jobs.ingest(lake, source, dataset="photos", format="images").ingested == 1


def test_links_to_files_are_followed_and_broken_ones_are_rejects(lake: Lake, folder: Folder) -> None:
    """A link to an image is an image, one to nothing is a reject, one to a folder (or a loop) is not followed."""
    source = folder({"a.png": 1})
    (source / "link.png").symlink_to(source / "a.png")
    (source / "gone.png").symlink_to(source / "nowhere.png")
    (source / "loop.png").symlink_to(source)
    report = jobs.ingest(lake, source, dataset="photos")
    assert rejects(lake, report.run) == [("gone.png", "unreadable")]
    assert sorted(rows(lake)) == ["a.png", "link.png"]


def test_a_name_that_is_not_utf8_is_a_reject(lake: Lake, folder: Folder, image: Image) -> None:
    """A file name of other bytes can't be kept as text, so the item is set aside and can be found again."""
    source = folder({"a.png": 1})
    with open(os.fsencode(source) + b"/b\xff.png", "wb") as file:  # noqa: PTH123
        file.write(image(2))
    report = jobs.ingest(lake, source, dataset="photos")
    assert rejects(lake, report.run) == [("b\\udcff.png", "path_encoding")]
    assert report.ingested == 1


def test_splits_and_labels_come_from_folders(lake: Lake, folder: Folder) -> None:
    """A first folder named like a split is one; the label is the next folder, when asked for."""
    names = ["train/cat/1.png", "valid/dog/2.png", "Test/3.png", "cat/4.png", "5.png"]
    source = folder({name: i for i, name in enumerate(names)})
    jobs.ingest(lake, source, dataset="plain")
    assert [rows(lake, "plain")[n]["split"] for n in names] == ["train", "val", "test", None, None]
    assert {row["label"] for row in rows(lake, "plain").values()} == {None}
    jobs.ingest(lake, source, dataset="labelled", labels="folder", split="all")
    found = rows(lake, "labelled")
    assert [found[n]["label"] for n in names] == ["cat", "dog", None, "cat", None]
    assert {row["split"] for row in found.values()} == {"all"}


def _zip(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def test_archives_in_a_folder_are_read_and_a_bad_one_is_one_reject(lake: Lake, folder: Folder, image: Image) -> None:
    """Images in a ZIP file get its path and theirs; of a damaged archive nothing is taken; the rest lands."""
    good = _zip({"in/a.png": image(1), "in/b.png": b"broken", ".x.png": image(3), "readme.md": b"#"})
    bad = _zip({"a.png": image(4), "../b.png": image(5)})
    source = folder({"0.png": 9, "bad.zip": bad, "good.zip": good, "z.png": 8})
    report = jobs.ingest(lake, source, dataset="photos")
    assert sorted(rows(lake)) == ["0.png", "good.zip/in/a.png", "z.png"]
    assert rejects(lake, report.run) == [("bad.zip", "archive_path_escape"), ("good.zip/in/b.png", "not_an_image")]
    assert report.items == 5
    alone = jobs.ingest(lake, source / "bad.zip", dataset="nothing")
    assert (alone.items, alone.rejected, alone.rejects_by_code) == (1, 1, {"archive_path_escape": 1})


def test_one_path_from_two_sources_is_taken_once(lake: Lake, folder: Folder) -> None:
    """Two folders with a file of the same path: the second is a reject, since the path is the key."""
    sources = [folder({"a.png": 1, "b.png": 2}, "one"), folder({"a.png": 3}, "two")]
    report = jobs.ingest(lake, sources, dataset="photos")
    assert (report.ingested, report.rejects_by_code) == (2, {"path_repeated": 1})


def test_files_in_place_are_not_copied(lake: Lake, folder: Folder) -> None:
    """A registered file is read from where it is, under a percent-encoded URI; nothing is stored."""
    source = folder({"a b#.png": 1, "c.png": 1})
    report = jobs.ingest(lake, source, dataset="photos", in_place=True)
    assert (report.ingested, report.duplicates) == (2, 0)
    assert packs(lake) == []
    row = rows(lake)["a b#.png"]
    assert row["uri"] == (source / "a b#.png").as_uri()
    assert [asset.data for asset in lake.read("photos").assets(where="path = 'a b#.png'")] == [
        (source / "a b#.png").read_bytes()
    ]


@pytest.mark.s3
@pytest.mark.parametrize("in_place", [False, True])
def test_a_prefix_on_s3_is_a_source(lake: Lake, s3_uri: str, image: Image, in_place: bool) -> None:
    """Objects below a prefix are taken in order of their keys, copied or registered where they are."""
    store = Storage.open(s3_uri)
    for name in ("train/b c.png", "a.png", ".hidden.png", "notes.txt"):
        store.put(name, image(len(name)), Overwrite())
    report = jobs.ingest(lake, s3_uri, dataset="photos", in_place=in_place)
    assert report.ingested == 2
    found = {asset.row["path"]: asset for asset in lake.read("photos").assets()}
    assert {name: asset.data for name, asset in found.items()} == {
        "a.png": image(5),
        "train/b c.png": image(13),
    }
    assert found["train/b c.png"].row["split"] == "train"
    assert found["a.png"].row["uri"].startswith("s3://") == in_place
    assert found["a.png"].row["source_url"] == f"{s3_uri}/a.png"
    assert found["train/b c.png"].row["source_url"] == f"{s3_uri}/train/b%20c.png"


def test_many_batches_land_all_rows_once(lake: Lake, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut into many commits, the dataset has every item once, in order of the paths."""
    small_batches(monkeypatch)
    source = folder({f"{i:02d}.png": i if i % 5 else b"broken" for i in range(30)})
    report = jobs.ingest(lake, source, dataset="photos")
    paths = lake.read("photos").to_arrow(["path"]).column("path").to_pylist()
    assert paths == [f"{i:02d}.png" for i in range(30) if i % 5]
    assert report.table_version >= 5
    assert [item for item, _ in rejects(lake, report.run)] == [f"{i:02d}.png" for i in range(0, 30, 5)]


def test_a_broken_run_is_resumed_without_reading_what_landed(
    lake: Lake,
    folder: Folder,
    monkeypatch: pytest.MonkeyPatch,
    interrupting: Any,
    interrupted: type[Exception],
) -> None:
    """Under the same run, what landed is left alone (even unread), and every other item lands once, rejects too."""
    small_batches(monkeypatch)
    source = folder({f"{i:02d}.png": i if i % 4 else b"broken" for i in range(24)})
    with pytest.raises(interrupted):
        jobs.ingest(lake, source, dataset="photos", progress=interrupting(13))
    landed = list(rows(lake))
    assert 0 < len(landed) < 18
    for path in landed:
        (source / path).write_bytes(b"changed, so that reading it would show")
    (source / "000-new.png").write_bytes((source / "23.png").read_bytes())
    report = jobs.ingest(lake, source, dataset="photos", resume=True)
    assert report.items == 25
    assert (report.ingested, report.duplicates, report.unchanged) == (18 - len(landed), 1, len(landed))
    paths = sorted(lake.read("photos").to_arrow(["path"]).column("path").to_pylist())
    assert paths == sorted(["000-new.png", *(f"{i:02d}.png" for i in range(24) if i % 4)])
    assert {row["run"] for row in rows(lake).values()} == {report.run}
    assert [item for item, _ in rejects(lake, report.run)] == [f"{i:02d}.png" for i in range(0, 24, 4)]
    assert report.rejected == 6


def test_only_an_unfinished_run_of_the_same_call_is_resumed(
    lake: Lake, folder: Folder, interrupting: Any, interrupted: type[Exception]
) -> None:
    """Resuming names what is wrong: nothing unfinished, no such run, other arguments, or finished already."""
    source = folder({"a.png": 1})
    with pytest.raises(interrupted):
        jobs.ingest(lake, source, dataset="broken", progress=interrupting(1))
    broken = lake.facts.snapshot("runs").to_arrow(["run"]).column("run").to_pylist()[0]
    done = jobs.ingest(lake, source, dataset="done")

    def kind(dataset: str, resume: str | bool, **more: Any) -> str:
        with pytest.raises((NotFoundError, StateError, InvalidInputError)) as error:
            jobs.ingest(lake, source, dataset=dataset, resume=resume, **more)
        return str(error.value.kind)

    assert kind("done", True) == "run-not-found"
    assert kind("done", "ingest-nothing") == "run-not-found"
    assert kind("done", done.run) == "run-finished"
    assert kind("done", broken) == "run-differs"
    assert kind("broken", broken, mode="overwrite") == "resume-overwrite"
    assert jobs.ingest(lake, source, dataset="broken", resume=broken).items == 1


_KILLED = """
import sys
import jobs, lakehouse
from jobs.ingest import assets, items
assets.BATCH_ROWS = assets._GROUP_ITEMS = 4
items._LOAD_ITEMS = 2

class Telling:
    def total(self, items): pass
    def message(self, text): pass
    def advance(self, items): sys.stdout.write(f"{items}\\n"); sys.stdout.flush()

jobs.ingest(lakehouse.connect(sys.argv[1]), sys.argv[2], dataset="photos", progress=Telling())
"""


def test_a_killed_ingest_is_resumed_exactly(lake: Lake, folder: Folder) -> None:
    """After SIGKILL in the middle, each item is there once or not at all, and the resumed run completes it."""
    source = folder({f"{i:03d}.png": i if i % 10 else b"broken" for i in range(120)})
    command = [sys.executable, "-c", _KILLED, lake.root, str(source)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(7):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    before = lake.read("photos").to_arrow(["path"]).column("path").to_pylist()
    assert 0 < len(before) == len(set(before)) < 108
    report = jobs.ingest(lake, source, dataset="photos", resume=True)
    paths = lake.read("photos").to_arrow(["path"]).column("path").to_pylist()
    assert sorted(paths) == [f"{i:03d}.png" for i in range(120) if i % 10]
    assert [item for item, _ in rejects(lake, report.run)] == [f"{i:03d}.png" for i in range(0, 120, 10)]
    assert [len(asset.data) for asset in lake.read("photos").assets()] == [
        (source / path).stat().st_size for path in paths
    ]


def test_runs_and_lineage_know_the_ingest(lake: Lake, folder: Folder) -> None:
    """The run is recorded with its source, its counts and the state that it wrote; a failed one with its error."""
    source = folder({"a.png": 1, "b.png": b""})
    report = jobs.ingest(lake, source, dataset="photos", message="first delivery")
    [run] = lake.sql("select * from lake.runs").to_arrow_table().to_pylist()
    assert (run["run"], run["job"], run["status"]) == (report.run, "ingest", "succeeded")
    assert json.loads(run["counts"])["rejected"] == 1
    assert json.loads(run["parameters"])["source"] == str(source)
    assert json.loads(run["outputs"])[0]["table_version"] == report.table_version
    newest = lake.table("photos").log(1)[0]
    assert (newest.run, newest.message) == (report.run, "first delivery")


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"format": "parket"}, "format-unknown"),
        ({"mode": "upsert"}, "mode-unknown"),
        ({"labels": "file"}, "labels-unknown"),
        ({"key": ["path"]}, "option-not-for-format"),
        ({"evolve": True}, "option-not-for-format"),
        ({"format": "idx"}, "idx-not-found"),
        ({"format": "csv"}, "source-empty"),
        ({"dataset": "no name"}, "reference-invalid"),
    ],
)
def test_a_wrong_call_is_refused_before_anything_is_made(
    lake: Lake, folder: Folder, arguments: dict[str, Any], kind: str
) -> None:
    """Arguments that make no sense are named, and no dataset appears."""
    with pytest.raises(InvalidInputError) as error:
        jobs.ingest(lake, folder({"a.png": 1}), **{"dataset": "photos", **arguments})
    assert error.value.kind == kind
    with pytest.raises(NotFoundError):
        lake.read("photos")


def test_sources_that_are_not_there_are_named(lake: Lake, tmp_path: Path) -> None:
    """A missing path, no path at all, an empty folder: each says what it is."""
    (tmp_path / "empty").mkdir()
    for source, kind in (
        (tmp_path / "nowhere", "source-not-found"),
        ([], "source-missing"),
        (tmp_path / "empty", "source-empty"),
    ):
        with pytest.raises((NotFoundError, InvalidInputError)) as error:
            jobs.ingest(lake, source, dataset="photos")
        assert error.value.kind == kind


def test_images_do_not_go_into_a_table(lake: Lake, folder: Folder) -> None:
    """A dataset that holds rows of another kind refuses assets."""
    import pyarrow as pa

    create_dataset(lake, "numbers", pa.schema([("n", pa.int64())]))
    with pytest.raises(StateError) as error:
        jobs.ingest(lake, folder({"a.png": 1}), dataset="numbers")
    assert error.value.kind == "dataset-kind"


def test_too_large_files_are_not_read(lake: Lake, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file over the limit is a reject, found by its size alone."""
    monkeypatch.setattr(ITEMS, "MAX_BYTES", 100_000)
    source = folder({"a.png": 1, "b.png": bytes(100_001)})
    assert jobs.ingest(lake, source, dataset="photos").rejects_by_code == {"file_too_large": 1}


def test_large_files_are_read_ahead_in_order(lake: Lake, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that pay for threads come out in order, like small ones."""
    monkeypatch.setattr(ITEMS, "_LARGE_BYTES", 1)
    monkeypatch.setattr(ITEMS, "_LOAD_ITEMS", 1)
    source = folder({f"{i:02d}.png": i for i in range(50)})
    assert jobs.ingest(lake, source, dataset="photos").ingested == 50
    assert list(rows(lake)) == [f"{i:02d}.png" for i in range(50)]


def test_folders_may_be_nested_deeper_than_calls(lake: Lake, tmp_path: Path, image: Image) -> None:
    """An image below 1,100 folders is found, in its place among the others."""
    top = deepest = tmp_path / "deep"
    top.mkdir()
    made = []
    for _ in range(1_100):
        deepest = deepest / "d"
        deepest.mkdir()
        made.append(deepest)
    (deepest / "a.png").write_bytes(image(1))
    (top / "e.png").write_bytes(image(2))
    try:
        jobs.ingest(lake, top, dataset="photos")
    finally:  # what cleans up after tests descends by calls
        (deepest / "a.png").unlink()
        for folder in reversed(made):
            folder.rmdir()
    assert list(rows(lake)) == ["d/" * 1_100 + "a.png", "e.png"]


def test_a_merge_takes_corrected_labels_of_the_same_bytes(lake: Lake, folder: Folder) -> None:
    """What the source knows better replaces split, label and license; what it does not know stays; bytes stay put."""
    names = {"train/cat/a.png": 1, "train/b.png": 2, "train/dog/c.png": 3}
    source = folder(names)
    jobs.ingest(lake, source, dataset="photos", license="CC0-1.0")
    lake.table("photos").merge(_labels({"train/b.png": "bird", "train/dog/c.png": "dog"}))
    before = rows(lake)
    (source / "train/b.png").write_bytes((folder({"x.png": 7}, "new") / "x.png").read_bytes())
    report = jobs.ingest(lake, source, dataset="photos", mode="merge", labels="folder")
    assert (report.ingested, report.duplicates, report.unchanged) == (2, 0, 1)
    found = rows(lake)
    assert {p: found[p]["label"] for p in names} == {
        "train/cat/a.png": "cat",
        "train/b.png": "bird",
        "train/dog/c.png": "dog",
    }
    assert {row["license"] for row in found.values()} == {"CC0-1.0"}
    assert all(found["train/cat/a.png"][n] == before["train/cat/a.png"][n] for n in ("uri", "offset", "sha256"))
    again = jobs.ingest(lake, source, dataset="photos", mode="merge", labels="folder", split="test", license="MIT")
    assert (again.ingested, again.unchanged) == (3, 0)
    assert {(row["split"], row["license"]) for row in rows(lake).values()} == {("test", "MIT")}
