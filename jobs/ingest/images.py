"""Inspect an image's structure without decoding its pixels.

The walk jumps from segment to segment (JPEG), chunk to chunk (PNG, WebP), block to block (GIF) or by declared
offsets (BMP, TIFF). So a cut or damaged file is recognised in microseconds and nothing is allocated by the size
that a header claims. Damage inside compressed pixels shows only on decoding, which is the feature job's work.

Sources: ITU-T T.81 annex B (JPEG), the PNG specification (3rd edition), GIF89a, RFC 9649 (WebP), the Windows BMP
headers, TIFF 6.0 with BigTIFF, Exif 2.32 (orientation).
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import zip_longest

from jobs.ingest.findings import Finding, Severity

MAX_PIXELS = 200_000_000
"""More pixels (width times height) than this are refused: decoded, they would take over half a gigabyte."""
MIN_SIDE = 8
"""A side shorter than this many pixels gives the warning `image_tiny`."""

_SUFFIXES = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".gif": "GIF",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".dib": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
IMAGE_SUFFIXES = frozenset(_SUFFIXES)
"""Lower-case suffixes, with their dot, of the files that an image ingest takes."""


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What the structure of an image file says; of a rejected file, what was read before the reason was met."""

    format: str
    """JPEG, PNG, GIF, WEBP, BMP or TIFF, by the content; empty when it is none of them."""
    media_type: str
    """Such as `image/jpeg`; `application/octet-stream` when the format is not known."""
    width: int
    """Pixels as stored, before `orientation` is applied; 0 when not known."""
    height: int
    """Pixels as stored, before `orientation` is applied; 0 when not known."""
    mode: str
    """Colour model by the header: L, LA, P, RGB, RGBA or CMYK; empty when it is another or not known."""
    bits: int
    """Bits per channel (of a palette image: per index)."""
    frames: int
    """Images in the file (animation frames, TIFF pages); only frame 0 is a sample."""
    orientation: int
    """EXIF orientation 1..8; 1 when the file says nothing. 5 to 8 swap the sides for display."""
    findings: tuple[Finding, ...]

    @property
    def reject(self) -> Finding | None:
        """The finding that keeps the file out, or None when it may land."""
        return next((found for found in self.findings if found.severity is Severity.REJECT), None)


class _RefusedError(Exception):
    """Ends a walk with the reason (code, detail) why the file is rejected."""


@dataclass(slots=True)
class _Header:
    """What a walk has read so far; it outlives the walk's refusal."""

    width: int = 0
    height: int = 0
    mode: str = ""
    bits: int = 8
    frames: int = 1
    orientation: int = 1
    trailing: int = 0
    """Bytes after the image's own end."""

    def set_size(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        if width <= 0 or height <= 0:
            raise _RefusedError("image_corrupt", f"the header says {width}x{height} pixels")
        if width * height > MAX_PIXELS:
            raise _RefusedError(
                "image_too_large", f"the header claims {width}x{height} pixels; the limit is {MAX_PIXELS:,}"
            )


def _truncated(where: str) -> _RefusedError:
    return _RefusedError("image_truncated", f"the file ends {where}")


def inspect_image(data: bytes | memoryview, name: str) -> ImageInfo:
    """Return what the structure of an image file says, with everything that is wrong with it. It never raises.

    Rejects: empty_file, not_an_image, image_truncated, image_corrupt, image_too_large. Warnings: multi_frame,
    colour_mode (CMYK, or a model that this project does not know), bit_depth (over 8 bits), suffix_mismatch,
    image_tiny, trailing_data. A rejected file has exactly one finding, the reason.

    Args:
        data: The whole file.
        name: Its name or path; only the suffix is looked at, ignoring case.
    """
    data = data if isinstance(data, bytes) else bytes(data)
    header = _Header()
    kind = _format_of(data)
    try:
        if not kind:
            raise _RefusedError(*_no_format(data))
        _WALKS[kind](data, header)
    except _RefusedError as refused:
        code, detail = refused.args
        findings: tuple[Finding, ...] = (Finding(code, Severity.REJECT, detail),)
    except (struct.error, IndexError):
        findings = (Finding("image_truncated", Severity.REJECT, f"the file ends before its {kind} structure does"),)
    else:
        findings = _warnings(header, kind, name)
    return ImageInfo(
        kind,
        f"image/{kind.lower()}" if kind else "application/octet-stream",
        header.width,
        header.height,
        header.mode,
        header.bits,
        header.frames,
        header.orientation,
        findings,
    )


def _warnings(header: _Header, kind: str, name: str) -> tuple[Finding, ...]:
    found: list[tuple[str, str]] = []
    suffix = f".{name.rpartition('.')[2].lower()}"
    if _SUFFIXES.get(suffix, kind) != kind:
        found.append(("suffix_mismatch", f"the suffix is {suffix}, the content {kind}"))
    if header.frames > 1:
        found.append(("multi_frame", f"{header.frames} frames; only frame 0 is a sample"))
    if header.mode == "CMYK" or not header.mode:
        found.append(("colour_mode", f"the colour model is {header.mode or 'an unusual one'}, not grey or RGB"))
    if header.bits > 8:
        found.append(("bit_depth", f"{header.bits} bits per channel"))
    if header.width < MIN_SIDE or header.height < MIN_SIDE:
        found.append(("image_tiny", f"{header.width}x{header.height} pixels"))
    if header.trailing:
        found.append(("trailing_data", f"{header.trailing} bytes after the end of the image"))
    return tuple(Finding(code, Severity.WARNING, detail) for code, detail in found) if found else ()


def _format_of(data: bytes) -> str:
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    if data[:4] in _TIFF_LAYOUTS:
        return "TIFF"
    # Two letters are a weak magic number, so the length of the second header must be one that exists too.
    if data.startswith(b"BM") and int.from_bytes(data[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    return ""


def _no_format(data: bytes) -> tuple[str, str]:
    if not data:
        return "empty_file", "0 bytes"
    if data[:512].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "not_an_image", "the content is an HTML page"
    return "not_an_image", "the content does not begin like JPEG, PNG, GIF, WebP, BMP or TIFF"


# --- JPEG -----------------------------------------------------------------------------------------------------

# In entropy-coded data 0xFF is followed by 0x00 (a stuffed byte) or a restart number; 0xFF repeats as fill. Any
# other follower is a marker. The same pattern also steps over stray bytes between segments, as decoders do.
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")
_EOI, _SOS, _APP1 = 0xD9, 0xDA, 0xE1
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
_FRAME = struct.Struct(">BHHB")


def _walk_jpeg(data: bytes, header: _Header) -> None:
    ends_well = data.endswith(b"\xff\xd9")
    find, size = _MARKER.search, len(data)
    position, scanned = 2, False
    while match := find(data, position):
        position = match.end()
        marker = data[position - 1]
        if marker == _EOI:
            break
        # By length, so that a thumbnail's own markers are never met.
        following = position + (data[position] << 8) + data[position + 1]
        if following > size:
            raise _truncated("inside a JPEG segment")
        if marker in _SOF:
            header.bits, height, width, channels = _FRAME.unpack_from(data, position + 2)
            header.mode = _JPEG_MODES.get(channels, "")
            header.set_size(width, height)
        elif marker == _APP1 and data.startswith(b"Exif\x00\x00", position + 2):
            header.orientation = _exif_orientation(data[position + 8 : following])
        elif marker == _SOS:
            if not header.width:
                raise _RefusedError("image_corrupt", "a JPEG scan begins before any frame header")
            scanned = True
            # Only when other bytes end the file must its true end be searched for through all scans.
            if ends_well and following <= size - 2:
                return
        position = following
    else:
        raise _truncated("before the JPEG end marker")
    if not scanned:
        raise _RefusedError("image_corrupt", "the JPEG end marker stands before any scan")
    header.trailing = size - position


# --- PNG ------------------------------------------------------------------------------------------------------

_PNG_MODES = {0: "L", 2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}
_CHUNK = struct.Struct(">I4s")


def _walk_png(data: bytes, header: _Header) -> None:
    size, position, kind, pixels = len(data), 8, b"", False
    view = memoryview(data)
    while kind != b"IEND":
        first = position == 8
        if position + 12 > size:
            raise _truncated("before the PNG end chunk")
        length, kind = _CHUNK.unpack_from(data, position)
        body, end = position + 8, position + 8 + length
        if end + 4 > size:
            raise _truncated("inside a PNG chunk")
        if zlib.crc32(view[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise _RefusedError("image_corrupt", f"the checksum of the PNG chunk {ascii(kind)[2:-1]} is wrong")
        if first != (kind == b"IHDR") or (first and length != 13):
            raise _RefusedError("image_corrupt", "the PNG does not begin with its one header chunk")
        if first:
            width, height, header.bits, colour = struct.unpack_from(">IIBB", data, body)
            header.mode = _PNG_MODES.get(colour, "")
            header.set_size(width, height)
        elif kind == b"IDAT":
            pixels = True
        elif kind == b"acTL" and length == 8:
            header.frames = max(1, int.from_bytes(data[body : body + 4], "big"))
        elif kind == b"eXIf":
            header.orientation = _exif_orientation(data[body:end])
        position = end + 4
    if not pixels:
        raise _RefusedError("image_corrupt", "the PNG has no pixel data")
    header.trailing = size - position


# --- GIF ------------------------------------------------------------------------------------------------------


def _walk_gif(data: bytes, header: _Header) -> None:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + _gif_palette(flags)
    frames, header.mode, header.bits = 0, "P", (flags & 7) + 1
    while (block := data[position]) != 0x3B:
        if block == 0x2C:
            left, top, frame_width, frame_height, flags = struct.unpack_from("<HHHHB", data, position + 1)
            if not frames:  # a first frame larger than the screen enlarges it, as decoders do
                header.set_size(max(width, left + frame_width), max(height, top + frame_height))
            frames += 1
            position += 11 + _gif_palette(flags)
        elif block == 0x21:
            position += 2
        else:
            raise _RefusedError("image_corrupt", f"unknown GIF block 0x{block:02x}")
        while length := data[position]:
            position += 1 + length
        position += 1
    if not frames:
        raise _RefusedError("image_corrupt", "the GIF has no frame")
    header.frames = frames
    header.trailing = len(data) - position - 1


def _gif_palette(flags: int) -> int:
    """Return the bytes of the colour table that the flags of a screen or frame announce."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


# --- WebP -----------------------------------------------------------------------------------------------------


def _walk_webp(data: bytes, header: _Header) -> None:
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        raise _truncated("before the length that the RIFF header declares")
    position, frames, pixels, header.mode = 12, 0, False, "RGB"
    while position + 8 <= end:
        kind, length = struct.unpack_from("<4sI", data, position)
        body, position = position + 8, position + 8 + length + (length & 1)
        if body + length > end:
            raise _truncated("inside a WebP chunk")
        if kind == b"VP8X":
            flags, wide, high = data[body], data[body + 4 : body + 7], data[body + 7 : body + 10]
            header.mode = "RGBA" if flags & 0x10 else "RGB"
            header.set_size(1 + int.from_bytes(wide, "little"), 1 + int.from_bytes(high, "little"))
        elif kind == b"VP8 ":
            pixels = True
            if data[body + 3 : body + 6] != b"\x9d\x01\x2a":
                raise _RefusedError("image_corrupt", "the WebP key frame has no start code")
            width, height = struct.unpack_from("<HH", data, body + 6)
            header.set_size(width & 0x3FFF, height & 0x3FFF)
        elif kind == b"VP8L":
            pixels = True
            signature, packed = struct.unpack_from("<BI", data, body)
            if signature != 0x2F:
                raise _RefusedError("image_corrupt", "the lossless WebP stream has no signature")
            header.mode = "RGBA" if packed >> 28 & 1 else "RGB"
            header.set_size((packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1)
        elif kind == b"ANMF":
            pixels, frames = True, frames + 1
        elif kind == b"EXIF":
            header.orientation = _exif_orientation(data[body : body + length].removeprefix(b"Exif\x00\x00"))
    if not (pixels and header.width):
        raise _RefusedError("image_corrupt", "the WebP has no pixel data")
    header.frames = max(1, frames)
    header.trailing = max(0, len(data) - end - (end & 1))  # a padding byte may follow an odd length


# --- BMP ------------------------------------------------------------------------------------------------------

_BMP_HEADERS = frozenset({12, 40, 52, 56, 64, 108, 124})
_BMP_UNCOMPRESSED = frozenset({0, 3, 6})


def _walk_bmp(data: bytes, header: _Header) -> None:
    declared, pixels, info = struct.unpack_from("<I4xII", data, 2)
    compression = stored = 0
    if info == 12:
        width, height, depth = struct.unpack_from("<HH2xH", data, 18)
    else:
        width, height, depth, compression, stored = struct.unpack_from("<ii2xHII", data, 18)
    height = abs(height)  # negative: rows run from the top
    header.mode = "P" if depth <= 8 else "RGB"
    header.bits = min(depth, 8)
    header.set_size(width, height)
    if compression in _BMP_UNCOMPRESSED:
        stored = (width * depth + 31) // 32 * 4 * height
    if pixels + stored > len(data) or pixels >= len(data):
        raise _truncated(f"before its {stored:,} bytes of pixels")
    header.trailing = len(data) - max(pixels + stored, declared) if stored and declared < len(data) else 0


# --- TIFF and Exif --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Layout:
    """Byte order and widths of one kind of TIFF."""

    order: str
    offset: str
    """Format of an offset, which is also the width of a value that stands in its entry."""
    count: str
    """Format of the number of entries."""
    first: int
    """Where the offset of the first directory stands."""
    entry: struct.Struct = field(init=False)
    """Tag, type, number of values."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "entry", struct.Struct(f"{self.order}HH{self.offset}"))

    def read(self, data: bytes, code: str, position: int) -> int:
        value: int = struct.unpack_from(self.order + code, data, position)[0]
        return value

    def directory(self, data: bytes, start: int) -> tuple[range, int]:
        """Return the positions of the entries and the position of the link to the next directory."""
        if start > len(data):
            raise _truncated("before a TIFF directory")
        begin = start + struct.calcsize(self.count)
        step = self.entry.size + struct.calcsize(self.offset)
        end = begin + step * self.read(data, self.count, start)
        if end > len(data):
            raise _truncated("inside a TIFF directory")
        return range(begin, end, step), end

    def values(self, data: bytes, position: int) -> tuple[int, ...]:
        """Return the whole numbers of one entry; none for other types."""
        _, type_, number = self.entry.unpack_from(data, position)
        code = _TIFF_INTEGERS.get(type_, "")
        place = position + self.entry.size
        width = struct.calcsize(f"{self.order}{code}") * number
        if not code or not width:
            return ()
        if number > _MAX_VALUES:
            raise _RefusedError("image_corrupt", f"a TIFF tag claims {number:,} values")
        if width > struct.calcsize(self.offset):
            place = self.read(data, self.offset, place)
        if place + width > len(data):
            raise _truncated("before the values of a TIFF tag")
        return struct.unpack_from(f"{self.order}{number}{code}", data, place)


_TIFF_LAYOUTS = {
    b"II*\x00": _Layout("<", "I", "H", 4),
    b"MM\x00*": _Layout(">", "I", "H", 4),
    b"II+\x00": _Layout("<", "Q", "Q", 8),
    b"MM\x00+": _Layout(">", "Q", "Q", 8),
}
_MAX_VALUES = 1 << 20  # one strip per row of the tallest images is far less
_TIFF_INTEGERS = {1: "B", 3: "H", 4: "I", 16: "Q"}
_TIFF_MODES = {0: "L", 1: "L", 2: "RGB", 3: "P", 5: "CMYK", 6: "RGB"}
_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLES = 256, 257, 258, 262, 274, 277
_PARTS = ((273, 279), (324, 325))  # offsets and byte counts of strips, of tiles
_TAGS = frozenset({_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLES, 273, 279, 324, 325})


def _walk_tiff(data: bytes, header: _Header) -> None:
    layout = _TIFF_LAYOUTS[data[:4]]
    start = layout.read(data, layout.offset, layout.first)
    entries, link = layout.directory(data, start)
    tags: dict[int, tuple[int, ...]] = {}
    for position in entries:
        tag = layout.read(data, "H", position)
        if tag in _TAGS and tag not in tags:
            tags[tag] = layout.values(data, position) or (0,)
    header.mode = _TIFF_MODES.get(tags.get(_PHOTOMETRIC, (-1,))[0], "")
    if header.mode == "RGB" and tags.get(_SAMPLES, (3,))[0] == 4:
        header.mode = "RGBA"
    header.bits = max(tags.get(_BITS, (1,)))
    header.orientation = _valid_orientation(tags.get(_ORIENTATION, (1,))[0])
    header.set_size(tags.get(_WIDTH, (0,))[0], tags.get(_HEIGHT, (0,))[0])
    parts = [
        offset + length
        for offsets, lengths in _PARTS
        for offset, length in zip_longest(tags.get(offsets, ()), tags.get(lengths, ()), fillvalue=0)
    ]
    if not parts:
        raise _RefusedError("image_corrupt", "the TIFF has no pixel data")
    if max(parts) > len(data):
        raise _truncated("before the last part of the TIFF's pixels")
    seen = {start}
    while (start := layout.read(data, layout.offset, link)) and start not in seen:
        seen.add(start)
        link = layout.directory(data, start)[1]
    header.frames = len(seen)


def _exif_orientation(exif: bytes) -> int:
    """Return the orientation that an Exif block (a TIFF directory) states; 1 when it is absent or unreadable."""
    layout = _TIFF_LAYOUTS.get(exif[:4])
    if layout is None:
        return 1
    try:
        for position in layout.directory(exif, layout.read(exif, layout.offset, layout.first))[0]:
            if layout.read(exif, "H", position) == _ORIENTATION:
                return _valid_orientation(*layout.values(exif, position)[:1])
    except (struct.error, _RefusedError):
        pass  # damaged metadata does not make the picture unusable
    return 1


def _valid_orientation(value: int = 1) -> int:
    return value if 1 <= value <= 8 else 1


_WALKS: dict[str, Callable[[bytes, _Header], None]] = {
    "JPEG": _walk_jpeg,
    "PNG": _walk_png,
    "GIF": _walk_gif,
    "WEBP": _walk_webp,
    "BMP": _walk_bmp,
    "TIFF": _walk_tiff,
}
