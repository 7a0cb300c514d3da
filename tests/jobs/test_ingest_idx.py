"""IDX files through the whole ingest: every image with its split and label, as PNG bytes that decode to its pixels."""

from __future__ import annotations

import gzip
import io
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jobs
from catalog.versions import publish
from lakehouse.errors import InvalidInputError, NotFoundError
from lakehouse.lake import Lake


def write_idx(folder: Path, split: str, images: np.ndarray, labels: np.ndarray, *, packed: bool = False) -> None:
    """Write a pair of IDX files."""
    folder.mkdir(exist_ok=True)
    for role, values in (("images-idx3", images), ("labels-idx1", labels)):
        data = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()
        name = folder / f"{split}-{role}-ubyte{'.gz' if packed else ''}"
        name.write_bytes(gzip.compress(data, 1) if packed else data)


def pixels(count: int, seed: int = 0) -> np.ndarray:
    """Random grey images of 28 x 28 pixels."""
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28), np.uint8)


def check(lake: Lake, name: str, split: str, images: np.ndarray, labels: np.ndarray) -> None:
    """Assert that the dataset has these images in order, with their labels."""
    found = list(lake.read(name).assets(["path", "split", "label", "format", "width"], where=f"split = '{split}'"))
    assert [asset.row["path"] for asset in found] == [f"{split}/{i:05d}" for i in range(len(images))]
    assert [asset.row["label"] for asset in found] == [str(label) for label in labels]
    assert {(asset.row["format"], asset.row["width"]) for asset in found} == {("PNG", images.shape[2])}
    for asset, image in zip(found, images, strict=True):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(asset.data))), image)


def test_pairs_of_a_folder_become_labelled_splits(lake_anywhere: Lake, tmp_path: Path) -> None:
    """Train and test images land with split, label and exact pixels on both backends; a second run changes nothing."""
    train, test = pixels(300), pixels(40, seed=1)
    labels = np.arange(300, dtype=np.uint8) % 10
    write_idx(tmp_path / "idx", "train", train, labels)
    write_idx(tmp_path / "idx", "t10k", test, labels[:40], packed=True)
    report = jobs.ingest(lake_anywhere, tmp_path / "idx", dataset="digits")
    assert (report.items, report.ingested, report.rejected) == (340, 340, 0)
    check(lake_anywhere, "digits", "train", train, labels)
    check(lake_anywhere, "digits", "test", test, labels[:40])
    again = jobs.ingest(lake_anywhere, tmp_path / "idx", dataset="digits", format="idx")
    assert (again.unchanged, again.table_version) == (340, report.table_version)


def test_files_named_one_by_one_are_paired(lake: Lake, tmp_path: Path) -> None:
    """Images and labels given as two sources belong together."""
    write_idx(tmp_path / "idx", "train", pixels(5), np.arange(5, dtype=np.uint8))
    report = jobs.ingest(lake, sorted((tmp_path / "idx").iterdir()), dataset="digits")
    assert report.ingested == 5
    assert lake.read("digits").get("train/00003")["label"] == "3"


def test_equal_images_share_their_bytes(lake: Lake, tmp_path: Path) -> None:
    """Equal pixels give equal PNG bytes, which are stored once."""
    write_idx(tmp_path / "idx", "train", np.zeros((7, 28, 28), np.uint8), np.zeros(7, np.uint8))
    report = jobs.ingest(lake, tmp_path / "idx", dataset="digits")
    assert (report.ingested, report.duplicates) == (1, 6)


@pytest.mark.parametrize("damage", ["count", "cut", "magic"])
def test_broken_files_are_refused_before_any_image_lands(lake: Lake, tmp_path: Path, damage: str) -> None:
    """Files that disagree, are cut or are no IDX files raise an error that names the file; no row lands."""
    labels = np.arange(5, dtype=np.uint8)
    write_idx(tmp_path / "idx", "train", pixels(5), labels[:4] if damage == "count" else labels)
    images = tmp_path / "idx" / "train-images-idx3-ubyte"
    if damage == "cut":
        images.write_bytes(images.read_bytes()[:-100])
    if damage == "magic":
        images.write_bytes(b"JUNK" + images.read_bytes())
    with pytest.raises(InvalidInputError) as error:
        jobs.ingest(lake, tmp_path / "idx", dataset="digits")
    assert error.value.kind.startswith("idx-")
    with suppress(NotFoundError):
        assert lake.read("digits").num_rows == 0


def _fashion(shared_data: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    folder = shared_data / "fashion-mnist"
    with gzip.open(folder / f"{split}-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(folder / f"{split}-labels-idx1-ubyte.gz") as file:
        return images, np.frombuffer(file.read(), np.uint8, offset=8)


def test_a_slice_of_fashion_mnist(lake: Lake, shared_data: Path, tmp_path: Path) -> None:
    """2,000 real images land with their labels, and their features follow."""
    images, labels = (values[:2000] for values in _fashion(shared_data, "t10k"))
    write_idx(tmp_path / "idx", "t10k", images, labels, packed=True)
    assert jobs.ingest(lake, tmp_path / "idx", dataset="fashion").ingested == 2000
    check(lake, "fashion", "test", images, labels)
    assert jobs.run_features(lake, "fashion").processed == 2000
    means = lake.read("fashion_features").to_arrow(["mean_r"]).column("mean_r").to_numpy()
    assert np.allclose(means, images.reshape(2000, -1).mean(axis=1))


def publish_two_versions(lake: Lake, tmp_path: Path, images: int, changed: int, removed: int, added: int) -> None:
    """Publish `fashion`, correct labels by a CSV file, delete and add images, publish again, and check the diff."""
    publish(lake, "fashion")
    known = lake.read("fashion").to_arrow(["path", "label"])
    new = [(path, str((int(label) + 1) % 10)) for path, label in zip(*known.to_pydict().values(), strict=True)]
    wrong, gone = new[:changed], [path for path, _ in new[-removed:]]
    table = tmp_path / "labels.csv"
    table.write_text("path,label\n" + "".join(f"{path},{label}\n" for path, label in wrong))
    report = jobs.ingest(lake, table, dataset="fashion", mode="merge", key=["path"])
    assert (report.ingested, report.rejected) == (changed, 0)
    lake.table("fashion").delete("path in (" + ", ".join(f"'{path}'" for path in gone) + ")")
    write_idx(tmp_path / "more", "extra", pixels(added, seed=9), np.zeros(added, np.uint8))
    assert jobs.ingest(lake, tmp_path / "more", dataset="fashion").ingested == added
    publish(lake, "fashion")
    difference = lake.diff("fashion@v1", "fashion@v2")
    assert (difference.counts.added, difference.counts.removed, difference.counts.changed) == (added, removed, changed)
    assert difference.columns == {"label": changed}
    assert lake.read("fashion@v1").num_rows == images
    assert lake.read("fashion@v2").num_rows == images - removed + added


def test_versions_of_a_small_fashion_mnist(lake_anywhere: Lake, shared_data: Path, tmp_path: Path) -> None:
    """Ingest, features, publish, 50 corrected labels, 10 deleted, 5 added: the diff says exactly that, everywhere."""
    images, labels = (values[:200] for values in _fashion(shared_data, "t10k"))
    write_idx(tmp_path / "idx", "t10k", images, labels, packed=True)
    jobs.ingest(lake_anywhere, tmp_path / "idx", dataset="fashion")
    assert jobs.run_features(lake_anywhere, "fashion").processed == 200
    publish_two_versions(lake_anywhere, tmp_path, 200, 50, 10, 5)


@pytest.mark.nightly
def test_the_whole_of_fashion_mnist(lake_anywhere: Lake, shared_data: Path, tmp_path: Path) -> None:
    """All 70,000 images land, labelled, and get features; after 500 corrections the diff is exact; both backends."""
    report = jobs.ingest(lake_anywhere, shared_data / "fashion-mnist", dataset="fashion")
    assert (report.items, report.rejected) == (70_000, 0)
    counted = lake_anywhere.sql("select split, count(*), count(label) from fashion group by 1 order by 1").fetchall()
    assert counted == [("test", 10_000, 10_000), ("train", 60_000, 60_000)]
    assert jobs.run_features(lake_anywhere, "fashion").processed == 70_000
    assert lake_anywhere.read("fashion_features").num_rows == 70_000
    publish_two_versions(lake_anywhere, tmp_path, 70_000, 500, 100, 50)


def test_corrected_labels_in_an_idx_file_are_merged(lake: Lake, tmp_path: Path) -> None:
    """The same images with other labels are no repetition in merge mode: the rows get the new labels."""
    labels = np.zeros(20, np.uint8)
    write_idx(tmp_path / "idx", "train", pixels(20), labels)
    jobs.ingest(lake, tmp_path / "idx", dataset="digits")
    labels[:3] = 7
    write_idx(tmp_path / "idx", "train", pixels(20), labels)
    report = jobs.ingest(lake, tmp_path / "idx", dataset="digits", mode="merge")
    assert (report.ingested, report.duplicates, report.unchanged) == (3, 0, 17)
    check(lake, "digits", "train", pixels(20), labels)
