"""Image features: encoded bytes in, columns out. Pure: no storage, no keys, no state.

What each feature is (one definition, here; a change of it is a change of every stored value):

- `format`: JPEG, PNG, GIF, BMP, WEBP or TIFF, by content. A multi-picture JPEG (MPO) is JPEG. Only the first frame
  of an animation is looked at.
- `width`, `height`: the stored size in pixels, before any EXIF rotation; `pixels` is their product.
- `mode`: the stored mode in Pillow's words (`RGB`, `L`, `P`, `CMYK`, `I;16`, ...).
- `mean_*`, `std_*`: mean and population standard deviation of each channel over all pixels, in 0..255. Computed from
  exact integer sums and rounded once. Grey images (1, L, LA, 16 bit) have three equal channels, so that one schema fits
  all; other modes are converted to RGB by Pillow. Alpha is dropped, not blended.
- `phash`: 64-bit perceptual hash, 16 hex digits, equal bit for bit to `str(imagehash.phash(image))` of imagehash 4.3.2.
- `sharpness`: population variance of the Laplacian of the grey image: kernel [[0,1,0],[1,-4,1],[0,1,0]] over interior
  pixels at the stored size, on 8-bit values, from exact integer sums (so the same on every machine). Null when the
  image has no interior (a side under 3 pixels). It compares focus among images of about one size.

"Grey" is Pillow's `convert("L")` (ITU-R 601-2 luma). Samples of 16 bits become their high byte (0..65535 -> 0..255),
as Pillow does by itself for 16-bit RGB; its `convert("L")` would clip them, so for these alone `phash` is that of the
scaled image. Modes with no common scale (32-bit integers, floats) are refused.
"""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from jobs.ingest.findings import Finding, Severity
from lakehouse.errors import missing_extra

if TYPE_CHECKING:
    import numpy.typing as npt
    from PIL import Image

_CHANNELS = tuple(f"{statistic}_{channel}" for statistic in ("mean", "std") for channel in "rgb")

FEATURE_SCHEMA = pa.schema(
    [
        pa.field("format", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("pixels", pa.int64(), nullable=False),
        pa.field("mode", pa.string(), nullable=False),
        pa.field("phash", pa.string(), nullable=False),
        *(pa.field(name, pa.float64(), nullable=False) for name in _CHANNELS),
        pa.field("sharpness", pa.float64()),
    ]
)
"""Columns of `FeatureBatch.rows`; the module's docstring defines each."""

# Formats that ingest accepts. A closed list also keeps Pillow from handing bytes to Ghostscript and the like.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")
# What is decoded before it is measured together: enough to spread NumPy's and Pillow's cost per call over many small
# images, little enough that temporaries do not take fresh pages at each call (that doubled the cost of the DCT).
_PENDING_PIXELS = 1 << 22
_PENDING_IMAGES = 128
# Pixels that are widened to float64 at a time.
_BAND_PIXELS = 1 << 17
_THUMBNAIL = 32  # side of what pHash looks at
_POWERS = np.stack([np.arange(256), np.arange(256) ** 2], axis=1)  # (256, 2): value and its square

# (shape of the image: height, width, grey or not) -> those images are measured as one stack.
_Shape = tuple[int, int, bool]


@dataclass(frozen=True, slots=True)
class FeatureBatch:
    """Features of one batch of images, and what was found on the way."""

    rows: pa.RecordBatch
    """FEATURE_SCHEMA, one row for each image that could be decoded, in input order."""
    positions: tuple[int, ...]
    """For each row, the index of its image in the input; ascending."""
    findings: tuple[tuple[int, Finding], ...]
    """(index in the input, finding), ascending. An image with a REJECT has no row."""


class _Decoded(NamedTuple):
    position: int
    format: str
    mode: str
    width: int
    height: int
    grey: Image.Image
    histogram: list[int] | None
    """768 counts (R, G, B) of a colour image; None when `grey` is all there is."""

    @property
    def shape(self) -> _Shape:
        return self.height, self.width, self.histogram is None


class _Measures(NamedTuple):
    phash: str
    sharpness: float | None
    moments: list[tuple[int, int]]
    """(sum, sum of squares) of each channel: one for grey, three for colour."""


class _UnsupportedModeError(Exception):
    pass


def compute_batch(blobs: Sequence[bytes | memoryview]) -> FeatureBatch:
    """Return the features of encoded images; what can't be decoded becomes a REJECT finding, never an exception.

    Rejects: `empty_file`, `not_an_image`, `image_truncated`, `image_corrupt`, `colour_mode` (no common scale) and
    `image_too_large` (over twice `PIL.Image.MAX_IMAGE_PIXELS`, about 179 million pixels; refused before a pixel buffer
    is allocated). Warning: `image_uniform` (every channel has a standard deviation of 0).

    Made for a worker of a process pool: picklable, one thread, no BLAS. Not for several threads of one process, as it
    silences Python's warnings, which are process-wide, while it runs. Memory besides input and result: 5 bytes a pixel
    of the largest image, and some 20 MiB.

    Raises:
        InvalidInputError: Pillow or SciPy is not installed (extra-missing).
    """
    _require_extra()
    findings: list[tuple[int, Finding]] = []
    positions: list[int] = []
    parts: list[pa.RecordBatch] = []
    pending: list[_Decoded] = []

    def flush() -> None:
        if pending:
            positions.extend(image.position for image in pending)
            parts.append(_measure(pending, findings))
            pending.clear()

    pixels = 0
    with warnings.catch_warnings():
        # Pillow warns about odd metadata and large sizes: with warnings as errors, that would reject good images.
        warnings.simplefilter("ignore")
        for position, blob in enumerate(blobs):
            # The decoder is foreign code over foreign bytes and raises nearly anything (OSError, SyntaxError,
            # struct.error, ...): this is the boundary where all of that becomes a value.
            try:
                image = _decode(position, blob)
            except Exception as error:  # noqa: BLE001
                findings.append((position, _refusal(error, len(blob))))
                continue
            pending.append(image)
            pixels += image.width * image.height
            if pixels >= _PENDING_PIXELS or len(pending) >= _PENDING_IMAGES:
                flush()
                pixels = 0
        flush()
    rows = pa.concat_batches(parts) if parts else pa.RecordBatch.from_pylist([], schema=FEATURE_SCHEMA)
    return FeatureBatch(rows, tuple(positions), tuple(sorted(findings, key=lambda entry: entry[0])))


def decode_errors(blobs: Sequence[bytes | memoryview]) -> list[str | None]:
    """Return for each encoded image why it can't be decoded, as a code of `compute_batch`, or None when it can.

    Raises:
        InvalidInputError: Pillow or SciPy is not installed (extra-missing).
    """
    _require_extra()
    codes: list[str | None] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for position, blob in enumerate(blobs):
            try:
                _decode(position, blob)
                codes.append(None)
            except Exception as error:  # noqa: BLE001 - the same boundary as in `compute_batch`
                codes.append(_refusal(error, len(blob)).code)
    return codes


def _require_extra() -> None:
    try:
        import PIL  # noqa: F401
        import scipy  # noqa: F401
    except ModuleNotFoundError as error:
        raise missing_extra(error.name or "pillow", "jobs") from error


def _decode(position: int, blob: bytes | memoryview) -> _Decoded:
    from PIL import Image

    image = Image.open(BytesIO(blob), formats=_FORMATS)
    if 0 in image.size:
        raise ValueError("the image has no pixels")
    image.load()
    colour, grey = _eight_bit(image)
    return _Decoded(
        position,
        "JPEG" if image.format == "MPO" else str(image.format),
        image.mode,
        image.width,
        image.height,
        grey,
        colour.histogram() if colour else None,
    )


def _eight_bit(image: Image.Image) -> tuple[Image.Image | None, Image.Image]:
    """Return (RGB image or None for a grey one, grey image), both of 8 bits: the one place that knows about modes."""
    match image.mode:
        case "L":
            return None, image
        case "RGB":
            return image, image.convert("L")
        case "1" | "LA" | "La":
            return None, image.convert("L")
        case mode if mode.startswith("I;16"):
            from PIL import Image

            return None, Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        case "I" | "F":
            raise _UnsupportedModeError(f"Samples of mode {image.mode} have no common scale to express in 0..255.")
        case _:
            return image.convert("RGB"), image.convert("L")


def _refusal(error: Exception, size: int) -> Finding:
    from PIL import Image, UnidentifiedImageError

    text = f"{type(error).__name__}: {error}"[:200]
    match error:
        case _ if size == 0:
            code, text = "empty_file", "0 bytes"
        case _UnsupportedModeError():
            code, text = "colour_mode", str(error)
        case Image.DecompressionBombError() | MemoryError():
            code = "image_too_large"
        case UnidentifiedImageError():
            # Pillow's message holds the address of a BytesIO: another text each time.
            code, text = "not_an_image", f"not one of {', '.join(_FORMATS)}, or its header is damaged"
        case _ if isinstance(error, EOFError) or "truncated" in text.lower():
            code = "image_truncated"
        case _:
            code = "image_corrupt"
    return Finding(code, Severity.REJECT, text)


def _measure(images: Sequence[_Decoded], findings: list[tuple[int, Finding]]) -> pa.RecordBatch:
    """Return the rows of `images` and add what the pixels show to `findings`."""
    groups: defaultdict[_Shape, list[int]] = defaultdict(list)
    for index, image in enumerate(images):
        groups[image.shape].append(index)
    measures: dict[int, _Measures] = {}
    for members in groups.values():
        measures.update(zip(members, _measure_stack([images[index] for index in members]), strict=True))

    columns: list[list[Any]] = [[] for _ in FEATURE_SCHEMA]
    for index, image in enumerate(images):
        phash, sharpness, moments = measures[index]
        count = image.width * image.height
        mean = [total / count for total, _ in moments]
        std = [math.sqrt(_variance(count, total, squares)) for total, squares in moments]
        if not any(std):
            detail = f"every pixel has the value {', '.join(f'{value:.0f}' for value in mean)}"
            findings.append((image.position, Finding("image_uniform", Severity.WARNING, detail)))
        grey = 3 // len(mean)  # a grey channel stands for all three
        row = (image.format, image.width, image.height, count, image.mode, phash, *mean * grey, *std * grey, sharpness)
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, FEATURE_SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=FEATURE_SCHEMA)


def _measure_stack(images: Sequence[_Decoded]) -> Iterator[_Measures]:
    """Measure images of one shape together, so that NumPy's and Pillow's cost per call is paid once."""
    height, width, is_grey = images[0].shape
    greys = [image.grey for image in images]
    stack = np.frombuffer(b"".join(grey.tobytes() for grey in greys), np.uint8).reshape(-1, height, width)
    nothing = np.zeros((len(stack), 2), np.int64)
    if is_grey:
        moments = sum((_sums(band) for band in _bands(stack, overlap=0)), nothing)[:, None, :]
    else:
        counts = [np.fromiter(image.histogram, np.int64, 768) for image in images if image.histogram]
        moments = np.stack(counts).reshape(-1, 3, 256) @ _POWERS
    laplacian = sum((_sums(_laplacian(band)) for band in _bands(stack, overlap=2)), nothing)
    interior = max(0, height - 2) * max(0, width - 2)
    for phash, sums, channels in zip(_phashes(greys), laplacian.tolist(), moments.tolist(), strict=True):
        yield _Measures(phash, _variance(interior, *sums) if interior else None, channels)


def _phashes(images: Sequence[Image.Image]) -> list[str]:
    """Return imagehash's pHash of grey images of one size, as 16 hex digits each.

    The same arithmetic in the same order, bit for bit: in a uniform image the coefficients compared are rounding noise
    about zero, so that a DCT by matrix products gives other hashes.

    Source: imagehash 4.3.2, `phash`
    """
    from scipy.fft import dct

    thumbnails = _thumbnails(images).astype(np.float64)
    low = dct(dct(thumbnails, axis=1)[:, :8], axis=2)[:, :, :8].reshape(-1, 64)
    bits = low > np.median(low, axis=1, keepdims=True)
    digits = np.packbits(bits, axis=1).tobytes().hex()
    return [digits[start : start + 16] for start in range(0, len(digits), 16)]


def _thumbnails(images: Sequence[Image.Image]) -> npt.NDArray[np.uint8]:
    """Return (n, 32, 32): each grey image of one size as Pillow's `resize((32, 32), LANCZOS)` makes it, bit for bit.

    Pillow resizes each band by itself. So four images go through as the bands of one, which computes the filter once
    and takes up to half the time. (Stacked one below the other they would differ: Pillow chooses by the shape whether
    rows or columns go first, and rounds in between.)
    """
    from PIL import Image

    def shrunk(image: Image.Image) -> bytes:
        return image.resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.LANCZOS).tobytes()

    fours = len(images) // 4 * 4
    packed = b"".join(shrunk(Image.merge("CMYK", images[start : start + 4])) for start in range(0, fours, 4))
    bands = np.frombuffer(packed, np.uint8).reshape(-1, _THUMBNAIL, _THUMBNAIL, 4).transpose(0, 3, 1, 2)
    rest = np.frombuffer(b"".join(map(shrunk, images[fours:])), np.uint8)
    return np.concatenate([bands.ravel(), rest]).reshape(-1, _THUMBNAIL, _THUMBNAIL)


def _laplacian(band: npt.NDArray[np.uint8]) -> npt.NDArray[np.int16]:
    """Return the 4-neighbour Laplacian of the interior of each image, in -1020..1020: (n, h, w) -> (n, h-2, w-2)."""
    values = band.astype(np.int16)
    result = values[:, :-2, 1:-1] + values[:, 2:, 1:-1]
    result += values[:, 1:-1, :-2]
    result += values[:, 1:-1, 2:]
    result -= values[:, 1:-1, 1:-1] << 2
    return result


def _bands(stack: npt.NDArray[np.uint8], overlap: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Cut (n, h, w) into bands of rows that share `overlap` rows, so that temporaries stay small for any image."""
    count, height, width = stack.shape
    rows = max(1, _BAND_PIXELS // (count * width))
    for top in range(0, height - overlap, rows):
        yield stack[:, top : top + rows + overlap]


def _sums(values: npt.NDArray[np.uint8] | npt.NDArray[np.int16]) -> npt.NDArray[np.int64]:
    """Return the sum and the sum of squares of each image, exactly: (n, ...) -> (n, 2).

    Float64 is exact here (integers under 2^53) and far faster than a widening integer sum. No `dot`: BLAS would start
    threads of its own, which fight with those of a pool (measured: 100 times slower).
    """
    flat = values.reshape(len(values), -1).astype(np.float64)
    total = flat.sum(axis=1)
    np.multiply(flat, flat, out=flat)
    return np.stack([total, flat.sum(axis=1)], axis=1).astype(np.int64)


def _variance(count: int, total: int, squares: int) -> float:
    """Return the population variance from exact sums, rounded once: Python's integers do not overflow."""
    return (count * squares - total * total) / (count * count)
