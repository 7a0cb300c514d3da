"""Inspection of image files without decoding, against real bad files and against Pillow."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jobs.ingest.images import IMAGE_SUFFIXES, MAX_PIXELS, ImageInfo, inspect_image

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")
MODES = {
    "JPEG": ("L", "RGB", "CMYK"),
    "PNG": ("L", "LA", "P", "RGB", "RGBA"),
    "GIF": ("P",),
    "WEBP": ("RGB", "RGBA"),
    "BMP": ("P", "RGB"),
    "TIFF": ("L", "P", "RGB", "RGBA", "CMYK"),
}


def picture(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    """A picture with structure, so that its compressed data is not trivial."""
    return Image.radial_gradient("L").resize(size).convert("RGB").convert(mode)


def encoded(format_: str, image: Image.Image | None = None, **options: Any) -> bytes:
    """The bytes of a picture in a format."""
    out = io.BytesIO()
    (image or picture("P" if format_ == "GIF" else "RGB")).save(out, format_, **options)
    return out.getvalue()


def exif(orientation: int, thumbnail: bytes = b"") -> bytes:
    """An Exif block with one tag, followed by a thumbnail."""
    entry = struct.pack(">HHIHH", 274, 3, 1, orientation, 0)
    return b"Exif\x00\x00MM\x00*" + struct.pack(">IH", 8, 1) + entry + bytes(4) + thumbnail


def with_thumbnail() -> bytes:
    """A JPEG whose metadata holds a whole smaller JPEG, with an end marker of its own."""
    return encoded("JPEG", exif=exif(6, thumbnail=encoded("JPEG", picture(size=(16, 16)))))


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG chunk with the right checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


GOOD = {name: encoded(name) for name in FORMATS} | {
    "JPEG progressive": encoded("JPEG", progressive=True),
    "JPEG with thumbnail": with_thumbnail(),
    "JPEG with restarts": encoded("JPEG", restart_marker_blocks=1),
    "WEBP lossless": encoded("WEBP", lossless=True),
    "GIF animated": encoded("GIF", save_all=True, append_images=[picture("P").rotate(90)]),
}


def codes(info: ImageInfo) -> list[str]:
    """The codes of an image's findings."""
    return [finding.code for finding in info.findings]


def rejection(data: bytes) -> str:
    """The code of the reason why a file is rejected, or `accepted`."""
    reject = inspect_image(data, "image").reject
    return reject.code if reject else "accepted"


def test_each_bad_input_is_treated_as_its_manifest_entry_says(image_case: tuple[Path, dict[str, Any]]) -> None:
    """Every image of the manifest gets exactly the finding that it asks for, and good ones get none."""
    path, expect = image_case
    info = inspect_image(path.read_bytes(), path.name)
    if expect["action"] == "quarantine":
        assert info.reject is not None
        assert codes(info) == [expect["code"]]
    elif expect["action"] == "accept_with_warning" and expect["code"] != "image_uniform":
        assert info.reject is None
        assert codes(info) == [expect["code"]]
    else:  # accepted, or a finding that needs the pixels or the other files
        assert info.findings == ()


@pytest.mark.parametrize("folder", ["captions-historic-photos/images", "yolo-egg-grading"])
def test_real_photos_are_accepted_with_the_size_that_pillow_reads(shared_data: Path, folder: str) -> None:
    """Every real image is accepted, and format, size, mode and orientation are those that Pillow reports."""
    paths = [path for path in sorted((shared_data / folder).rglob("*")) if path.suffix.lower() in IMAGE_SUFFIXES]
    assert paths
    for path in paths:
        info = inspect_image(path.read_bytes(), path.name)
        with Image.open(path) as image:
            expected = (image.format, *image.size, image.mode, image.getexif().get(274, 1))
        assert (info.format, info.width, info.height, info.mode, info.orientation) == expected
        assert info.reject is None


@pytest.mark.parametrize(("format_", "mode"), [(f, mode) for f in FORMATS for mode in MODES[f]])
def test_the_header_is_read_as_pillow_reads_it(format_: str, mode: str) -> None:
    """Format, media type, size and colour model agree with Pillow for every format and mode."""
    data = encoded(format_, picture(mode))
    info = inspect_image(memoryview(data), f"a.{format_}")
    with Image.open(io.BytesIO(data)) as image:
        expected = (image.format, Image.MIME[format_], *image.size, image.mode)
    assert (info.format, info.media_type, info.width, info.height, info.mode) == expected
    assert codes(info) == (["colour_mode"] if mode == "CMYK" else [])


@pytest.mark.parametrize("name", GOOD)
def test_good_files_pass(name: str) -> None:
    """A whole file of each kind is accepted."""
    assert rejection(GOOD[name]) == "accepted"


@pytest.mark.parametrize("name", GOOD)
def test_every_prefix_is_rejected(name: str) -> None:
    """However a file is cut, also right behind a thumbnail or between scans, it is rejected."""
    data = GOOD[name]
    accepted = [cut for cut in range(len(data)) if rejection(data[:cut]) == "accepted"]
    assert accepted == []


@pytest.mark.parametrize("name", [name for name in GOOD if name not in ("TIFF", "BMP")])
def test_cut_at_half_is_called_truncated(name: str) -> None:
    """A file cut in its pixels is named truncated; but for WebP, whose length comes first, its size is known."""
    data = GOOD[name]
    info = inspect_image(data[: len(data) * 3 // 4], "a")
    assert codes(info) == ["image_truncated"]
    assert (info.width, info.height) == ((0, 0) if info.format == "WEBP" else (40, 30))


@pytest.mark.parametrize("name", [name for name in GOOD if name != "TIFF"])
def test_bytes_after_the_end_are_counted(name: str) -> None:
    """Bytes after the image's own end give a warning with their number, also when they hold markers."""
    info = inspect_image(GOOD[name] + b"\xff\xd9 and more", "a")
    assert codes(info)[-1:] == ["trailing_data"]
    assert info.findings[-1].detail.startswith("11 bytes")


def test_png_with_a_flipped_byte_is_corrupt() -> None:
    """Any flipped byte of a PNG after its signature is noticed."""
    data = bytearray(GOOD["PNG"])
    for position in range(8, len(data)):
        data[position] ^= 0x10
        assert rejection(bytes(data)) != "accepted", position
        data[position] ^= 0x10


def test_a_claimed_size_is_refused_from_the_header() -> None:
    """More pixels than the limit are refused, and exactly the limit is not."""

    def png(width: int, height: int) -> bytes:
        header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
        return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", b"x") + png_chunk(b"IEND", b"")

    assert rejection(png(MAX_PIXELS, 1)) == "accepted"
    assert rejection(png(MAX_PIXELS, 2)) == "image_too_large"
    assert rejection(png(0, 7)) == "image_corrupt"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_reported_and_the_size_stays_as_stored(orientation: int) -> None:
    """The orientation of JPEG, PNG, WebP and TIFF is read; width and height are the stored ones."""
    block = exif(orientation)
    assert inspect_image(encoded("JPEG", exif=block), "a.jpg").orientation == orientation
    assert inspect_image(encoded("PNG", exif=block), "a.png").orientation == orientation
    assert inspect_image(encoded("WEBP", exif=block), "a.webp").orientation == orientation
    tiff = inspect_image(encoded("TIFF", tiffinfo={274: orientation}), "a.tif")
    assert (tiff.orientation, tiff.width, tiff.height) == (orientation, 40, 30)


@pytest.mark.parametrize(
    "block", [exif(9), b"Exif\x00\x00MM\x00*", exif(6)[:20], b"Exif\x00\x00MM\x00+" + b"\xff" * 16]
)
def test_damaged_metadata_does_not_reject_the_picture(block: bytes) -> None:
    """An unreadable or impossible orientation counts as none."""
    info = inspect_image(encoded("JPEG", exif=block), "a.jpg")
    assert (info.orientation, info.findings) == (1, ())


def test_frames_are_counted() -> None:
    """Animation frames and TIFF pages are counted and give a warning."""
    more = [picture("P").rotate(angle) for angle in (90, 180)]
    for format_ in ("GIF", "PNG", "WEBP", "TIFF"):
        info = inspect_image(encoded(format_, picture("P"), save_all=True, append_images=more), "a")
        assert (info.frames, codes(info)) == (3, ["multi_frame"]), format_


def test_big_tiff_is_read() -> None:
    """TIFF with 64-bit offsets is read like the classic one."""
    info = inspect_image(encoded("TIFF", big_tiff=True), "a.tiff")
    assert (info.format, info.width, info.height, info.findings) == ("TIFF", 40, 30, ())


def test_a_tiff_that_repeats_a_long_tag_is_judged_at_once() -> None:
    """A tag is read once however often it stands there, and absurdly many values are refused."""
    values, copies = 100_000, 60_000

    def tiff(number: int) -> bytes:
        sizes = struct.pack("<HHIIHHII", 256, 3, 1, 9, 257, 3, 1, 9)
        repeated = struct.pack("<HHII", 273, 4, number, 8) * copies
        return struct.pack("<2sHIH", b"II", 42, 8, copies + 2) + sizes + repeated + bytes(4 + 4 * values)

    assert rejection(tiff(values)) == "image_truncated"
    assert rejection(tiff(2**31)) == "image_corrupt"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.jpg", []),
        ("a.JPEG", []),
        ("x/y.Jpe", []),
        ("a.jfif", []),
        ("no suffix", []),
        ("a.rf.12ab", []),
        ("a.png", ["suffix_mismatch"]),
        ("a.jpg.TIF", ["suffix_mismatch"]),
    ],
)
def test_a_suffix_is_compared_only_when_it_names_a_format(name: str, expected: list[str]) -> None:
    """A suffix of another format gives a warning; case, synonyms and foreign suffixes do not."""
    assert codes(inspect_image(GOOD["JPEG"], name)) == expected


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (picture(size=(8, 8)), []),
        (picture("L", size=(28, 28)), []),
        (picture(size=(7, 40)), ["image_tiny"]),
        (picture("L").convert("I;16"), ["bit_depth"]),
        (picture("1"), []),
    ],
)
def test_unusual_sizes_and_depths_are_warned_of(image: Image.Image, expected: list[str]) -> None:
    """Tiny and 16-bit pictures land with a warning, 28x28 and 8x8 ones without."""
    assert codes(inspect_image(encoded("PNG", image), "a.png")) == expected


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty_file"),
        (b"\n<!DOCTYPE html><html>404</html>", "not_an_image"),
        (b"BMW is a word that begins like a bitmap", "not_an_image"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", "not_an_image"),
        (b"\xff\xd8\xff\xda\x00\x02\xff\xd9", "image_corrupt"),
        (b"\xff\xd8\xff\xe0\x00\x02\xff\xd9", "image_corrupt"),
    ],
)
def test_other_files_are_no_images(data: bytes, code: str) -> None:
    """Empty files, pages, texts, sounds and JPEGs without a picture are rejected with their reason."""
    assert rejection(data) == code


def check_verdict(info: ImageInfo) -> None:
    """A verdict is whole: one reason, or a usable size."""
    if info.reject:
        assert len(info.findings) == 1
    else:
        assert info.format in FORMATS
        assert 0 < info.width * info.height <= MAX_PIXELS
        assert info.frames >= 1
        assert 1 <= info.orientation <= 8


@given(st.sampled_from([data[:16] for data in GOOD.values()] + [b"", b"MM\x00+", b"II*\x00"]), st.binary(max_size=300))
def test_random_bytes_never_raise(magic: bytes, data: bytes) -> None:
    """Any bytes, also behind the beginning of a real image, get a verdict."""
    check_verdict(inspect_image(magic + data, "a.png"))


@given(st.sampled_from(sorted(GOOD)), st.data())
def test_damaged_images_never_raise(name: str, data: st.DataObject) -> None:
    """A real image with some bytes overwritten gets a verdict."""
    damaged = bytearray(GOOD[name])
    places = st.integers(0, min(len(damaged), 400) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.sampled_from([0, 1, 0x7F, 0x80, 0xFF])), max_size=8)):
        damaged[place] = value
    check_verdict(inspect_image(bytes(damaged), "a"))
