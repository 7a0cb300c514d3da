"""Image features against imagehash and plain NumPy, on real, synthetic and damaged images."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFile

from jobs.features import image as features
from jobs.features.image import FEATURE_SCHEMA, FeatureBatch, compute_batch
from jobs.ingest.findings import Severity
from lakehouse.errors import InvalidInputError

STATISTICS = ("mean_r", "mean_g", "mean_b", "std_r", "std_g", "std_b")


def encoded(image: Image.Image | NDArray[Any], format_: str = "PNG", **options: Any) -> bytes:
    """The bytes of an image (or of an array of its pixels) in a format."""
    out = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(out, format_, **options)
    return out.getvalue()


def noise(height: int, width: int, *channels: int, seed: int = 0) -> NDArray[np.uint8]:
    """Random pixels."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, *channels), dtype=np.uint8)


def picture(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    """A picture with structure in some mode."""
    red = Image.radial_gradient("L").resize(size)
    green = Image.linear_gradient("L").resize(size)
    return Image.merge("RGB", (red, green, red.rotate(90))).convert(mode)


def expected(blob: bytes) -> dict[str, Any]:
    """The features of an image of 8-bit samples, computed one by one the plain way."""
    image = Image.open(io.BytesIO(blob))
    grey = image.mode in {"1", "L", "LA"}
    pixels = np.asarray(image.convert("L" if grey else "RGB"), float).reshape(image.width * image.height, -1)
    g = np.asarray(image.convert("L"), float)
    laplacian = g[1:-1, :-2] + g[1:-1, 2:] + g[:-2, 1:-1] + g[2:, 1:-1] - 4 * g[1:-1, 1:-1]
    mean, std = pixels.mean(axis=0), pixels.std(axis=0)
    row = {
        "format": image.format,
        "width": image.width,
        "height": image.height,
        "pixels": image.width * image.height,
        "mode": image.mode,
        "phash": str(imagehash.phash(image)),
        "sharpness": laplacian.var() if laplacian.size else None,
    }
    return row | dict(zip(STATISTICS, [*mean] * (3 // len(mean)) + [*std] * (3 // len(std)), strict=True))


def assert_as_expected(blobs: list[bytes]) -> FeatureBatch:
    """Every image has its row, and each row says what the plain computation says."""
    batch = compute_batch(blobs)
    rows = batch.rows.to_pylist()
    assert batch.positions == tuple(range(len(blobs)))
    for row, blob in zip(rows, blobs, strict=True):
        plain = expected(blob)
        numbers = [name for name in (*STATISTICS, "sharpness") if plain[name] is not None]
        assert [row.pop(name) for name in numbers] == pytest.approx([plain.pop(name) for name in numbers], abs=1e-6)
        assert row == plain
    return batch


def codes(batch: FeatureBatch, severity: Severity) -> dict[int, str]:
    """Index of the image -> code, for the findings of one severity."""
    return {position: found.code for position, found in batch.findings if found.severity is severity}


@pytest.mark.parametrize(
    ("format_", "mode"),
    [
        *(("JPEG", mode) for mode in ("L", "RGB", "CMYK")),
        *(("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")),
        *(("TIFF", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK")),
        *(("WEBP", mode) for mode in ("RGB", "RGBA")),
        *(("BMP", mode) for mode in ("1", "L", "P", "RGB")),
        ("GIF", "P"),
    ],
)
def test_every_format_and_mode_gives_the_plain_values(format_: str, mode: str) -> None:
    """The features of each format and mode equal those of imagehash and NumPy."""
    assert_as_expected([encoded(picture(mode), format_)])


def test_images_of_many_shapes_in_one_batch_keep_their_order() -> None:
    """A batch that mixes sizes and modes, larger than what is measured at once, gives rows in input order."""
    sizes = [(28, 28), (640, 480), (28, 28), (33, 17), (700, 900), (17, 33), (480, 640), (28, 28), (1, 40), (2, 2)]
    blobs = [encoded(picture("L" if i % 3 else "RGB", size), "PNG") for i, size in enumerate(sizes * 8)]
    assert sum(width * height for width, height in sizes * 8) > 2 * features._PENDING_PIXELS
    assert_as_expected(blobs)


@given(
    st.lists(
        st.tuples(st.integers(1, 70), st.integers(1, 70), st.sampled_from([(), (3,), (4,)]), st.integers(0, 9)),
        min_size=1,
        max_size=6,
    )
)
def test_random_noise_of_any_size(shapes: list[tuple[int, int, tuple[int, ...], int]]) -> None:
    """Noise of any size and number of channels gives the plain values and the same hash."""
    assert_as_expected([encoded(noise(h, w, *channels, seed=seed)) for h, w, channels, seed in shapes])


def test_uniform_images_hash_alike_and_are_found() -> None:
    """In uniform images the hash compares rounding noise: all 256 greys agree with imagehash, and each is reported."""
    greys = [encoded(np.full((31, 45), value, np.uint8)) for value in range(256)]
    batch = assert_as_expected([*greys, encoded(Image.new("RGB", (20, 20), (1, 2, 3)), "JPEG")])
    assert codes(batch, Severity.WARNING) == dict.fromkeys(range(257), "image_uniform")
    assert [value.as_py() for value in batch.rows["std_b"]] == [0.0] * 257


def test_one_channel_that_varies_is_not_uniform() -> None:
    """An image whose red and green are constant but whose blue varies gives no warning."""
    pixels = np.zeros((10, 10, 3), np.uint8)
    pixels[5, 5, 2] = 1
    assert compute_batch([encoded(pixels)]).findings == ()


def test_stripes_and_checkers_break_ties_as_imagehash_does() -> None:
    """Regular patterns, whose coefficients are often equal, hash as imagehash hashes them."""
    y, x = np.mgrid[:64, :64]
    patterns = [(x // k % 2) * 255 for k in (1, 2, 4, 8, 16, 32)] + [((x // k + y // k) % 2) * 255 for k in (1, 4, 8)]
    assert_as_expected([encoded(pattern.astype(np.uint8)) for pattern in patterns])


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (9, 2), (1, 3)])
def test_an_image_without_interior_has_no_sharpness(size: tuple[int, int]) -> None:
    """Where no pixel has four neighbours, sharpness is null and the rest is there."""
    row = assert_as_expected([encoded(picture(size=size))]).rows.to_pylist()[0]
    assert row["sharpness"] is None
    assert len(row["phash"]) == 16


def test_bands_of_a_large_image_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The values do not depend on how many rows are widened at a time."""
    blobs = [encoded(noise(50, 40)), encoded(noise(50, 40, 3))]
    whole = compute_batch(blobs)
    for band in (1, 40, 90, 333):
        monkeypatch.setattr(features, "_BAND_PIXELS", band)
        assert compute_batch(blobs) == whole


def test_sums_are_exact() -> None:
    """Mean, deviation and sharpness are the exact rational values, rounded once."""
    pixels = noise(37, 53)
    row = compute_batch([encoded(pixels)]).rows.to_pylist()[0]
    values = [int(value) for value in pixels.ravel()]
    n, total, squares = len(values), sum(values), sum(value * value for value in values)
    assert row["mean_g"] == total / n
    assert row["std_g"] == ((n * squares - total**2) / n**2) ** 0.5
    assert features._variance(10**8, 255 * 10**8 - 1, 255**2 * 10**8 - 509) == pytest.approx(1e-8 - 1e-16, rel=1e-12)


@pytest.mark.parametrize(("format_", "mode"), [("PNG", "I;16"), ("TIFF", "I;16"), ("TIFF", "I;16B")])
def test_sixteen_bits_are_scaled_not_clipped(format_: str, mode: str) -> None:
    """A 16-bit image has the features of its high bytes, where Pillow's own conversion would clip at 255."""
    high = noise(20, 30)
    wide = (high.astype(np.uint16) << 8) + 7
    image = Image.frombytes(mode, (30, 20), wide.astype(">u2" if mode == "I;16B" else "<u2").tobytes())
    row = compute_batch([encoded(image, format_)]).rows.to_pylist()[0]
    plain = compute_batch([encoded(high, "PNG")]).rows.to_pylist()[0]
    assert row == plain | {"format": format_, "mode": mode}


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_samples_without_a_scale_are_refused(dtype: type[Any]) -> None:
    """32-bit samples, which no rule maps to 0..255, are a reject and not a guess."""
    batch = compute_batch([encoded(np.ones((9, 9), dtype), "TIFF"), encoded(picture())])
    assert codes(batch, Severity.REJECT) == {0: "colour_mode"}
    assert batch.positions == (1,)


def test_a_multi_picture_jpeg_is_a_jpeg() -> None:
    """A camera's MPO file counts as JPEG, and its first picture is the sample."""
    out = io.BytesIO()
    picture().save(out, "MPO", save_all=True, append_images=[picture("L").convert("RGB")])
    row = compute_batch([out.getvalue()]).rows.to_pylist()[0]
    assert Image.open(out).format == "MPO"
    assert row["format"] == "JPEG"
    assert row["phash"] == str(imagehash.phash(Image.open(out)))


def test_every_bad_item_is_a_reject_and_the_rest_lands() -> None:
    """Bad bytes among good ones get their codes, and the good ones their rows at the right positions."""
    good = encoded(picture(size=(200, 200)), "JPEG")
    png = encoded(noise(64, 64))
    flipped = bytearray(png)
    flipped[len(png) // 2] ^= 0xFF
    bad = {b"": "empty_file", b"<html>": "not_an_image", good[: len(good) // 2]: "image_truncated"}
    bad |= {png[: len(png) // 2]: "image_truncated", bytes(flipped): "image_corrupt"}
    blobs = [item for blob in bad for item in (blob, good)]
    batch = compute_batch(blobs)
    assert codes(batch, Severity.REJECT) == dict(zip(range(0, len(blobs), 2), bad.values(), strict=True))
    assert batch.positions == tuple(range(1, len(blobs), 2))
    assert batch.rows.num_rows == len(bad)


def test_a_header_that_claims_too_much_is_refused_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image over twice Pillow's limit is a reject; one between the limits is taken without a warning."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    monkeypatch.setattr(ImageFile.ImageFile, "load_prepare", _refuse_large)
    blobs = [encoded(noise(*shape)) for shape in ((30, 30), (40, 40), (50, 50))]
    batch = compute_batch(blobs)
    assert codes(batch, Severity.REJECT) == {2: "image_too_large"}
    assert batch.positions == (0, 1)


def _refuse_large(image: ImageFile.ImageFile, prepare: Any = ImageFile.ImageFile.load_prepare) -> None:
    assert image.width < 50, "a buffer was prepared for an image that must be refused"
    prepare(image)


def test_pillows_warnings_do_not_leak() -> None:
    """Palette transparency and broken metadata, of which Pillow warns, neither warn nor reject."""
    palette = picture("P")
    palette.info["transparency"] = bytes(range(256))
    blobs = [encoded(palette, transparency=bytes(range(256))), encoded(picture(), "JPEG", exif=b"Exif\x00\x00MM\x00*")]
    assert compute_batch(blobs).rows.num_rows == 2


def test_an_empty_batch_has_the_schema() -> None:
    """No images, or none that decode, give no rows but all columns."""
    for blobs in ([], [b"no image"]):
        batch = compute_batch(blobs)
        assert batch.rows.num_rows == 0
        assert batch.rows.schema == FEATURE_SCHEMA


def test_results_travel_between_processes() -> None:
    """A batch, its findings and the function itself pickle, as a process pool needs."""
    batch = compute_batch([encoded(picture()), b"no image", memoryview(encoded(noise(9, 9)))])
    assert pickle.loads(pickle.dumps(batch)) == batch
    assert pickle.loads(pickle.dumps(compute_batch)) is compute_batch


@pytest.mark.parametrize("module", ["PIL", "scipy"])
def test_a_missing_extra_names_the_install_command(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Pillow or SciPy the error says what to install."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InvalidInputError, match=r"lakehouse\[jobs\]") as caught:
        compute_batch([])
    assert caught.value.kind == "extra-missing"


@given(st.data())
def test_damaged_bytes_never_raise(data: st.DataObject) -> None:
    """Whatever is overwritten or cut, each item ends as exactly one row or one reject."""
    blobs = []
    for format_ in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"):
        blob = bytearray(encoded(picture("P" if format_ == "GIF" else "RGB", (24, 18)), format_))
        for _ in range(data.draw(st.integers(0, 4))):
            blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
        blobs.append(bytes(blob[: data.draw(st.integers(0, len(blob)))]))
    blobs.append(data.draw(st.binary(max_size=64)))
    batch = compute_batch(blobs)
    assert sorted([*batch.positions, *codes(batch, Severity.REJECT)]) == list(range(len(blobs)))


def test_bad_inputs_are_treated_as_their_manifest_says(shared_data: Path) -> None:
    """Each bad image of the manifest that decoding can tell is a reject with its code; the others have features."""
    manifest = json.loads((shared_data / "bad-inputs" / "manifest.json").read_text())
    entries = [entry for entry in manifest["files"] if entry["kind"] in {"image", "duplicate"}]
    batch = compute_batch([(shared_data / "bad-inputs" / entry["path"]).read_bytes() for entry in entries])
    refused = {
        i: entry["expect"]["code"] for i, entry in enumerate(entries) if entry["expect"]["action"] == "quarantine"
    }
    uniform = {i for i, entry in enumerate(entries) if entry["expect"]["code"] in {"image_uniform", "image_tiny"}}
    assert len(entries) == 30
    assert codes(batch, Severity.REJECT) == refused
    assert codes(batch, Severity.WARNING) == dict.fromkeys(sorted(uniform), "image_uniform")


@pytest.mark.parametrize(
    ("folder", "step", "count"),
    [("captions-historic-photos", 1, 260), ("yolo-egg-grading", 9, 61), ("bad-inputs/yolo", 1, 20)],
)
def test_real_images_give_the_plain_values(shared_data: Path, folder: str, step: int, count: int) -> None:
    """Real photographs have the hash of imagehash and the statistics of NumPy."""
    suffixes = {".jpg", ".png"}
    paths = sorted(path for path in (shared_data / folder).rglob("*") if path.suffix in suffixes)[::step]
    assert len(paths) == count
    assert_as_expected([path.read_bytes() for path in paths])


def test_real_small_images_give_the_plain_values(shared_data: Path) -> None:
    """Images of 28x28 pixels, measured hundreds at a time, have the plain values too."""
    with gzip.open(shared_data / "fashion-mnist" / "t10k-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(16 + 784 * 1500)[16:], np.uint8).reshape(-1, 28, 28)
    assert_as_expected([encoded(image) for image in pixels])
