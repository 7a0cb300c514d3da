"""The image feature job: right features, and only for what changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import jobs
from catalog.datasets import create_dataset
from jobs.features import job as job_module
from jobs.features.image import FEATURE_SCHEMA, compute_batch
from lakehouse.errors import InvalidInputError, NotFoundError, StateError
from lakehouse.lake import Lake

Folder = Callable[..., Path]

BROKEN_PIXELS = (
    b"\xff\xd8\xff\xc0\x00\x0b\x08\x00\x10\x00\x10\x01\x01\x11\x00\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00junk\xff\xd9"
)
"""A JPEG whose structure is good and whose pixels are not: the ingest takes it, decoding fails."""


def rows(lake: Lake, name: str = "photos_features") -> dict[str, dict[str, Any]]:
    """The rows of a dataset by path."""
    return {row["path"]: row for row in lake.read(name).to_arrow().to_pylist()}


def label(lake: Lake, labels: dict[str, str]) -> None:
    """Correct labels of assets."""
    lake.table("photos").merge(pa.table({"path": list(labels), "label": list(labels.values())}))


def test_features_are_those_of_the_bytes(lake_anywhere: Lake, folder: Folder) -> None:
    """Each asset has one row with its identity and the features of its bytes, on both backends."""
    jobs.ingest(lake_anywhere, folder({f"train/{i:02d}.png": i for i in range(20)}), dataset="photos")
    report = jobs.run_features(lake_anywhere, "photos")
    assert (report.processed, report.skipped, report.rejected) == (20, 0, 0)
    assert report.features == "main.photos_features"
    found = rows(lake_anywhere)
    for asset in lake_anywhere.read("photos").assets():
        row = found[asset.row["path"]]
        expected = compute_batch([asset.data]).rows.to_pylist()[0]
        assert {name: row[name] for name in FEATURE_SCHEMA.names} == expected
        assert {n: row[n] for n in ("asset_id", "sha256", "split")} == {
            n: asset.row[n] for n in ("asset_id", "sha256", "split")
        }
        assert row["run"] == report.run
    dataset = lake_anywhere.read("photos_features").dataset
    assert (dataset.kind, dataset.key_columns) == ("features", ("path",))
    assert dataset.parent == lake_anywhere.read("photos").dataset.dataset_id


def test_a_second_run_touches_only_new_assets(lake: Lake, folder: Folder) -> None:
    """Without changes nothing is written; after an append only the new images are decoded."""
    jobs.ingest(lake, folder({"a.png": 1, "b.png": 2}), dataset="photos")
    first = jobs.run_features(lake, "photos")
    again = jobs.run_features(lake, "photos")
    assert (again.processed, again.skipped, again.table_version) == (0, 2, first.table_version)
    jobs.ingest(lake, folder({"c.png": 3}, "more"), dataset="photos")
    third = jobs.run_features(lake, "photos")
    assert (third.processed, third.skipped) == (1, 2)
    assert {path: row["run"] for path, row in rows(lake).items()} == {
        "a.png": first.run,
        "b.png": first.run,
        "c.png": third.run,
    }


def test_labels_and_splits_are_taken_over_without_decoding(lake: Lake, folder: Folder) -> None:
    """A corrected label reaches the features even when the bytes can't be read any more."""
    source = folder({"a.png": 1, "b.png": 2})
    jobs.ingest(lake, source, dataset="photos", in_place=True)
    jobs.run_features(lake, "photos")
    label(lake, {"a.png": "cat"})
    for path in source.iterdir():
        path.unlink()
    report = jobs.run_features(lake, "photos")
    assert (report.processed, report.skipped, report.relabelled, report.rejected) == (0, 2, 1, 0)
    assert {path: row["label"] for path, row in rows(lake).items()} == {"a.png": "cat", "b.png": None}


def test_changed_bytes_are_decoded_again_and_gone_assets_leave(lake: Lake, folder: Folder) -> None:
    """A replaced image gets the features of its new bytes; features of a deleted asset are removed."""
    jobs.ingest(lake, folder({"a.png": 1, "b.png": 2, "c.png": 3}), dataset="photos")
    jobs.run_features(lake, "photos")
    before = rows(lake)
    jobs.ingest(lake, folder({"a.png": 9}, "new"), dataset="photos", mode="merge")
    lake.table("photos").delete("path = 'b.png'")
    report = jobs.run_features(lake, "photos")
    assert (report.processed, report.removed, report.skipped) == (1, 1, 1)
    after = rows(lake)
    assert after.keys() == {"a.png", "c.png"}
    assert after["c.png"] == before["c.png"]
    assert after["a.png"]["phash"] != before["a.png"]["phash"]


def test_what_can_not_be_decoded_is_a_reject_once(lake: Lake, folder: Folder) -> None:
    """An image with good structure and bad pixels is set aside with its reason, and not tried at every run."""
    jobs.ingest(lake, folder({"a.png": 1, "b.jpg": BROKEN_PIXELS}), dataset="photos")
    report = jobs.run_features(lake, "photos")
    assert (report.processed, report.rejected) == (1, 1)
    [reject] = lake.sql(f"select item, dataset from lake.rejects where run = '{report.run}'").fetchall()
    assert reject == ("b.jpg", "main.photos_features")
    jobs.ingest(lake, folder({"c.png": 3}, "more"), dataset="photos")
    label(lake, {"b.jpg": "cat"})
    again = jobs.run_features(lake, "photos")
    assert (again.processed, again.rejected) == (1, 0)
    assert rows(lake).keys() == {"a.png", "c.png"}


def test_features_of_replaced_bytes_do_not_outlive_them(lake: Lake, folder: Folder) -> None:
    """When an image is replaced by one that can't be decoded, its old features go."""
    jobs.ingest(lake, folder({"a.jpg": 1, "b.png": 2}), dataset="photos")
    jobs.run_features(lake, "photos")
    jobs.ingest(lake, folder({"a.jpg": BROKEN_PIXELS}, "new"), dataset="photos", mode="merge")
    report = jobs.run_features(lake, "photos")
    assert (report.rejected, report.removed) == (1, 1)
    assert rows(lake).keys() == {"b.png"}


def test_bytes_that_are_gone_are_rejects(lake: Lake, folder: Folder) -> None:
    """A file in place that vanished is set aside; the others get their features."""
    source = folder({"a.png": 1, "b.png": 2})
    jobs.ingest(lake, source, dataset="photos", in_place=True)
    (source / "a.png").unlink()
    report = jobs.run_features(lake, "photos")
    assert (report.processed, report.rejects_by_code) == (1, {"unreadable": 1})


def test_a_broken_run_is_made_good_by_the_next(
    lake: Lake,
    folder: Folder,
    monkeypatch: pytest.MonkeyPatch,
    interrupting: Any,
    interrupted: type[Exception],
) -> None:
    """After a run that broke off between batches, the next does the rest, and no asset twice."""
    monkeypatch.setattr(job_module, "BATCH_ROWS", 3)
    monkeypatch.setattr(job_module, "_LOAD_ITEMS", 3)
    jobs.ingest(lake, folder({f"{i:02d}.png": i for i in range(12)}), dataset="photos")
    with pytest.raises(interrupted):
        jobs.run_features(lake, "photos", progress=interrupting(7))
    done = len(rows(lake))
    assert 0 < done < 12
    label(lake, {"00.png": "cat"})
    report = jobs.run_features(lake, "photos")
    assert (report.processed, report.relabelled) == (12 - done, 1)
    paths = lake.read("photos_features").to_arrow(["path"]).column("path").to_pylist()
    assert sorted(paths) == [f"{i:02d}.png" for i in range(12)]


def test_an_unchanged_file_is_not_looked_at(lake: Lake, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cost follows the change: only files in which two states of the dataset differ are compared."""
    jobs.ingest(lake, folder({"a.png": 1, "b.png": 2}), dataset="photos")
    jobs.run_features(lake, "photos")
    jobs.ingest(lake, folder({"c.png": 3}, "more"), dataset="photos")
    compared: list[int] = []
    since = job_module.since

    def watched(*args: Any) -> Any:
        changes = since(*args)
        compared.append(len(changes.now.file_list))
        return changes

    monkeypatch.setattr(job_module, "since", watched)
    assert jobs.run_features(lake, "photos").processed == 1
    assert compared == [1]
    assert len(lake.read("photos").file_list) == 2


def test_full_decodes_everything_again(lake: Lake, folder: Folder) -> None:
    """A full run makes every row anew, and removes what is gone."""
    jobs.ingest(lake, folder({"a.png": 1, "b.png": 2}), dataset="photos")
    jobs.run_features(lake, "photos")
    lake.table("photos").delete("path = 'b.png'")
    report = jobs.run_features(lake, "photos", full=True)
    assert (report.processed, report.removed) == (1, 1)
    assert {row["run"] for row in rows(lake).values()} == {report.run}


def test_worker_processes_give_the_same_features(lake: Lake, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoded in several processes, the rows are the same and in the same order."""
    jobs.ingest(lake, folder({f"{i:02d}.png": i for i in range(30)}), dataset="photos")
    jobs.run_features(lake, "photos")
    alone = lake.read("photos_features").to_arrow().drop_columns(["run"])
    monkeypatch.setattr(job_module, "_ALONE", 0)
    monkeypatch.setattr(job_module, "_LOAD_ITEMS", 4)
    lake.table("photos_features").delete("true")
    assert jobs.run_features(lake, "photos", workers=2, full=True).processed == 30
    assert lake.read("photos_features").to_arrow().drop_columns(["run"]).equals(alone)


def test_lineage_leads_from_features_to_the_source(lake: Lake, folder: Folder) -> None:
    """The run says which state of the assets its features came from."""
    source = folder({"a.png": 1})
    taken = jobs.ingest(lake, source, dataset="photos")
    report = jobs.run_features(lake, "photos")
    [run] = lake.sql(f"select * from lake.runs where run = '{report.run}'").to_arrow_table().to_pylist()
    assert [e["table_version"] for e in json.loads(run["inputs"])] == [taken.table_version]
    assert [e["dataset"] for e in json.loads(run["outputs"])] == ["main.photos_features"]
    assert json.loads(run["counts"])["processed"] == 1


def test_wrong_calls_are_refused(lake: Lake, folder: Folder) -> None:
    """No such dataset, one without assets, one in the way, an unknown feature, no workers: each says what it is."""
    schema = pa.schema([("n", pa.int64())])
    create_dataset(lake, "numbers", schema)
    create_dataset(lake, "photos_features", schema)
    jobs.ingest(lake, folder({"a.png": 1}), dataset="photos")
    wrong: list[tuple[str, dict[str, Any], str]] = [
        ("nothing", {}, "dataset-not-found"),
        ("numbers", {}, "dataset-kind"),
        ("photos", {}, "dataset-kind"),
        ("photos", {"feature": "sound"}, "feature-unknown"),
        ("photos", {"workers": 0}, "workers-invalid"),
    ]
    for dataset, arguments, kind in wrong:
        with pytest.raises((NotFoundError, StateError, InvalidInputError)) as error:
            jobs.run_features(lake, dataset, **arguments)
        assert error.value.kind == kind


def test_bytes_are_read_some_at_a_time(lake: Lake, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large images are read in parts: bytes that vanish before their part is due are missed, those read are not."""
    source = folder({f"{i}.png": i for i in range(4)})
    jobs.ingest(lake, source, dataset="photos", in_place=True)
    monkeypatch.setattr(job_module, "_READ_BYTES", 2 * (source / "0.png").stat().st_size)
    monkeypatch.setattr(job_module, "_LOAD_ITEMS", 1)
    readable = job_module._readable

    def vanishing(*args: Any) -> Any:
        for number, asset in enumerate(readable(*args)):
            if number == 0:
                for path in source.iterdir():
                    path.unlink()
            yield asset

    monkeypatch.setattr(job_module, "_readable", vanishing)
    report = jobs.run_features(lake, "photos")
    assert (report.processed, report.rejects_by_code) == (2, {"unreadable": 2})
    assert rows(lake).keys() == {"0.png", "1.png"}
