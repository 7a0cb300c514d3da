"""IDX files are streamed, their counts compared with their bytes, and their images packed as PNG."""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as arrays
from PIL import Image

from jobs.ingest.idx import IdxPair, Rows, encode_png, pair_idx, read_idx
from jobs.ingest.images import inspect_image
from lakehouse.errors import InvalidInputError

IMAGES = np.arange(7 * 4 * 3, dtype=np.uint8).reshape(7, 4, 3)
LABELS = np.arange(7, dtype=np.uint8)


def idx(rows: Rows, count: int | None = None, kind: int = 0x08) -> bytes:
    """The bytes of an IDX file, with a true or another declared count."""
    shape = (rows.shape[0] if count is None else count, *rows.shape[1:])
    return struct.pack(f">HBB{rows.ndim}I", 0, kind, rows.ndim, *shape) + rows.tobytes()


def write(path: Path, data: bytes) -> Path:
    """Write a file, compressed when its name says so."""
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def kind_of_error(path: Path) -> str:
    """The kind with which opening or reading all of a file is refused."""
    with pytest.raises(InvalidInputError) as refused:
        list(read_idx(path).chunks())
    assert str(path) in str(refused.value)
    return refused.value.kind


@pytest.mark.parametrize("name", ["a-images-idx3-ubyte", "a.gz"])
@pytest.mark.parametrize("rows", [1, 3, 7, 100, None])
def test_rows_come_in_order_in_chunks(tmp_path: Path, name: str, rows: int | None) -> None:
    """Chunks of any size join to the whole, plain or compressed, and a reader may be read twice."""
    reader = read_idx(write(tmp_path / name, idx(IMAGES)))
    assert (reader.shape, reader.count) == ((7, 4, 3), 7)
    for _ in range(2):
        chunks = list(reader.chunks(rows))
        assert max(map(len, chunks)) == min(rows or 7, 7)
        np.testing.assert_array_equal(np.concatenate(chunks), IMAGES)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_declared_and_real_counts_are_compared(tmp_path: Path, suffix: str) -> None:
    """A file with fewer or more values than its header declares is refused by name."""
    path = tmp_path / f"train-images-idx3-ubyte{suffix}"
    assert kind_of_error(write(path, idx(IMAGES, count=8))) == "idx-truncated"
    assert kind_of_error(write(path, idx(IMAGES, count=2**32 - 1))) == "idx-truncated"
    assert kind_of_error(write(path, idx(IMAGES, count=6))) == "idx-trailing"


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_every_cut_header_is_truncated(tmp_path: Path, suffix: str) -> None:
    """A file that ends inside its header, or is empty, is truncated."""
    for cut in range(16):
        assert kind_of_error(write(tmp_path / f"a{suffix}", idx(IMAGES)[:cut])) == "idx-truncated"


def test_a_cut_or_damaged_compression_is_named(tmp_path: Path) -> None:
    """A cut gzip file is truncated, one with a flipped byte corrupt."""
    whole = bytearray(gzip.compress(idx(IMAGES), mtime=0))
    path = tmp_path / "a.gz"
    path.write_bytes(whole[:-9])
    assert kind_of_error(path) == "idx-truncated"
    whole[-6] ^= 1  # in the checksum
    path.write_bytes(whole)
    assert kind_of_error(path) == "idx-corrupt"


@pytest.mark.parametrize(
    "data", [b"text in place of it", idx(IMAGES, kind=0x0D), b"\0\0\x08\0" + bytes(9), b"\0\0\x08\xff"]
)
def test_other_files_are_refused_by_their_magic_number(tmp_path: Path, data: bytes) -> None:
    """Texts, IDX files of floats and impossible dimensions are refused."""
    assert kind_of_error(write(tmp_path / "a", data)) == "idx-magic"


def test_an_absurd_shape_is_refused_from_the_header(tmp_path: Path) -> None:
    """A row without values, or of more bytes than an image may have, is refused."""
    for height, width in ((0, 3), (2**31, 2**31)):
        data = struct.pack(">HBB3I", 0, 8, 3, 7, height, width)
        assert kind_of_error(write(tmp_path / "a.gz", data)) == "idx-shape"


def test_pairs_are_found_by_name(tmp_path: Path) -> None:
    """Images and labels are paired, t10k is the test split, other files are left alone, plain goes before gzip."""
    for name in ("train-images-idx3-ubyte.gz", "train-images-idx3-ubyte", "t10k-images.idx3-ubyte", "LICENSE"):
        write(tmp_path / name, idx(IMAGES))
    write(tmp_path / "train-labels-idx1-ubyte.gz", idx(LABELS))
    expected = [
        IdxPair("test", tmp_path / "t10k-images.idx3-ubyte", None),
        IdxPair("train", tmp_path / "train-images-idx3-ubyte", tmp_path / "train-labels-idx1-ubyte.gz"),
    ]
    assert pair_idx(tmp_path) == expected
    assert pair_idx([str(path) for path in tmp_path.iterdir()]) == expected


def test_a_pair_yields_images_with_their_labels(tmp_path: Path) -> None:
    """Images and labels of one chunk belong together; without a label file there are none."""
    images = write(tmp_path / "i", idx(IMAGES))
    labels = write(tmp_path / "l.gz", idx(LABELS))
    with_labels = list(IdxPair("train", images, labels).chunks(3))
    assert [len(chunk) for chunk, _ in with_labels] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate([label for _, label in with_labels if label is not None]), LABELS)
    assert [label for _, label in IdxPair("train", images, None).chunks(7)] == [None]


def test_a_pair_that_does_not_match_is_refused(tmp_path: Path) -> None:
    """Other counts, swapped roles, labels without images and folders without IDX files are refused."""
    images = write(tmp_path / "x-images-idx3-ubyte", idx(IMAGES))
    labels = write(tmp_path / "x-labels-idx1-ubyte", idx(LABELS[:6]))
    for pair, kind in (
        (IdxPair("x", images, labels), "idx-count-mismatch"),
        (IdxPair("x", labels, images), "idx-shape"),
        (IdxPair("x", images, images), "idx-shape"),
    ):
        with pytest.raises(InvalidInputError) as refused:
            next(pair.chunks())
        assert refused.value.kind == kind
    for paths, kind in (([labels], "idx-images-missing"), ([], "idx-not-found")):
        with pytest.raises(InvalidInputError) as refused:
            pair_idx(paths)
        assert refused.value.kind == kind


@given(arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_png_keeps_the_pixels(pixels: Rows) -> None:
    """Pillow reads back the very pixels, our own inspection accepts the file, and equal pixels give equal bytes."""
    data = encode_png(pixels)
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), pixels)
    info = inspect_image(data, "a.png")
    assert (info.reject, info.height, info.width, info.mode, info.bits) == (None, *pixels.shape, "L", 8)
    assert encode_png(pixels[:, ::-1][:, ::-1]) == data


def test_fashion_mnist_is_read_whole(shared_data: Path) -> None:
    """The real data set gives 60,000 and 10,000 images of ten evenly filled classes."""
    counts = {}
    for pair in pair_idx(shared_data / "fashion-mnist"):
        classes = sum(np.bincount(labels, minlength=10) for _, labels in pair.chunks() if labels is not None)
        counts[pair.split] = np.asarray(classes).tolist()
    assert counts == {"test": [1000] * 10, "train": [6000] * 10}
