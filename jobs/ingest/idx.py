"""IDX files: the format of MNIST and its successors, such as Fashion-MNIST; plain or compressed with gzip.

An IDX file is a header (two zero bytes, a type byte, the number of dimensions, then each dimension as a big-endian
32-bit number) and the values in C order. Only the type 0x08, unsigned bytes, is read: images and labels have no other.

Source: http://yann.lecun.com/exdb/mnist/ ("The IDX file format")
"""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from lakehouse.errors import InvalidInputError

Rows = npt.NDArray[np.uint8]

_UBYTE = 0x08
_MAX_DIMENSIONS = 4
_MAX_ROW_BYTES = 200_000_000
_CHUNK_BYTES = 4 << 20
_NAME = re.compile(r"(?P<split>.+)-(?P<role>images|labels)[-.]idx[13]-ubyte(\.gz)?")
_SPLITS = {"t10k": "test"}


@dataclass(frozen=True, slots=True)
class IdxReader:
    """One IDX file whose header was read and found good."""

    path: Path
    """The file; its values are read anew by each `chunks`."""
    shape: tuple[int, ...]
    """Declared size of each dimension: (rows, height, width) for images, (rows,) for labels."""

    @property
    def count(self) -> int:
        """Declared number of rows, such as images."""
        return self.shape[0]

    def chunks(self, rows: int | None = None) -> Iterator[Rows]:
        """Yield the rows in order as uint8 arrays (n, *shape[1:]), a few megabytes at a time.

        Args:
            rows: Rows per array; the last has fewer. None: as many as fit into 4 MiB.

        Raises:
            InvalidInputError: the file has fewer values than its header declares (idx-truncated), more
                (idx-trailing), or its compression is damaged (idx-corrupt). The rows before were yielded.
        """
        row_bytes = math.prod(self.shape[1:])
        step = rows or max(1, _CHUNK_BYTES // row_bytes)
        with _opened(self.path) as file:
            file.read(_header_bytes(len(self.shape)))
            for done in range(0, self.count, step):
                wanted = min(step, self.count - done)
                data = file.read(wanted * row_bytes)
                if len(data) < wanted * row_bytes:
                    found = f"its header declares {self.count:,} rows, it ends after {done + len(data) // row_bytes:,}"
                    raise _bad("truncated", self.path, found)
                yield np.frombuffer(data, np.uint8).reshape(wanted, *self.shape[1:])
            if file.read(1):
                raise _bad("trailing", self.path, f"bytes follow the {self.count:,} rows that its header declares")


@dataclass(frozen=True, slots=True)
class IdxPair:
    """The images of one split and, if there are any, their labels."""

    split: str
    """Such as `train`; the file name's `t10k` is `test`."""
    images_path: Path
    """Images: an IDX file with three dimensions."""
    labels_path: Path | None
    """Class of each image in the same order: an IDX file with one dimension."""

    def chunks(self, rows: int = 1024) -> Iterator[tuple[Rows, Rows | None]]:
        """Yield images (n, height, width) with their labels (n,), or None without a label file, in order.

        Args:
            rows: Images per chunk, n; the last has fewer.

        Raises:
            InvalidInputError: as `read_idx` and `IdxReader.chunks`; a file has another number of dimensions than
                its role asks for (idx-shape); the files disagree on their count (idx-count-mismatch), which is
                found before the first chunk.
        """
        images = _with_dimensions(read_idx(self.images_path), 3)
        if self.labels_path is None:
            for chunk in images.chunks(rows):
                yield chunk, None
            return
        labels = _with_dimensions(read_idx(self.labels_path), 1)
        if images.count != labels.count:
            found = f"it has {images.count:,} images, but {labels.path} has {labels.count:,} labels"
            raise _bad("count-mismatch", images.path, found)
        yield from zip(images.chunks(rows), labels.chunks(rows), strict=True)


def read_idx(path: str | Path) -> IdxReader:
    """Return a reader for one IDX file, plain or gzip by its content, after its header only.

    Raises:
        InvalidInputError: the file is no IDX file of unsigned bytes (idx-magic), ends inside its header or, as far
            as the file's size tells, inside its values (idx-truncated), its compression is damaged (idx-corrupt),
            or its rows are empty or too large (idx-shape).
    """
    path = Path(path)
    with _opened(path) as file:
        head = file.read(4)
        if len(head) < 4:
            raise _bad("truncated", path, f"it ends after {len(head)} bytes of its header")
        zeros, kind, dimensions = struct.unpack(">HBB", head)
        if zeros or kind != _UBYTE or not 1 <= dimensions <= _MAX_DIMENSIONS:
            found = f"it begins with 0x{head.hex()}; 0x00000803 (images) or 0x00000801 (labels) is expected"
            raise _bad("magic", path, found)
        sizes = file.read(4 * dimensions)
        if len(sizes) < 4 * dimensions:
            raise _bad("truncated", path, "it ends inside its header")
        shape = struct.unpack(f">{dimensions}I", sizes)
        if not 0 < math.prod(shape[1:]) <= _MAX_ROW_BYTES:
            raise _bad("shape", path, f"its header declares the shape {shape}")
        if not isinstance(file, gzip.GzipFile):
            expected = _header_bytes(dimensions) + math.prod(shape)
            if (size := path.stat().st_size) < expected:
                raise _bad("truncated", path, f"its header declares {expected:,} bytes, it has {size:,}")
    return IdxReader(path, shape)


def pair_idx(source: str | Path | Iterable[str | Path]) -> list[IdxPair]:
    """Return the splits that the names of IDX files tell, such as `train-images-idx3-ubyte.gz`, in order of name.

    Args:
        source: A folder, whose other files are left alone, or the files. Of a plain and a gzip file of the same
            name the plain one is taken.

    Raises:
        InvalidInputError: no file is named like IDX images (idx-not-found), or labels have no images
            (idx-images-missing).
    """
    paths = sorted(Path(source).iterdir()) if isinstance(source, (str, Path)) else sorted(map(Path, source))
    found: dict[str, dict[str, Path]] = {}
    for path in paths:
        if match := _NAME.fullmatch(path.name):
            # Sorted, so the plain file comes before its gzip twin.
            found.setdefault(match["split"], {}).setdefault(match["role"], path)
    if not found:
        raise InvalidInputError("idx-not-found", f"No file is named like train-images-idx3-ubyte[.gz] in {source}.")
    for files in found.values():
        if "images" not in files:
            raise _bad("images-missing", files["labels"], "there are no images for these labels beside it")
    return [IdxPair(_SPLITS.get(name, name), files["images"], files.get("labels")) for name, files in found.items()]


_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"


def encode_png(gray_rows: Rows) -> bytes:
    """Return an 8-bit grey PNG of the pixels (height, width), both at least 1.

    The same pixels give the same bytes with the same zlib. Rows are not filtered and only runs are compressed: for
    28x28 pixels that is as small as any level of zlib makes them, and several times as fast as Pillow.

    Source: PNG specification, third edition, sections 5 and 11.2
    """
    height, width = gray_rows.shape
    filtered = np.zeros((height, width + 1), np.uint8)  # the leading 0 of each row says: no filter
    filtered[:, 1:] = gray_rows
    packer = zlib.compressobj(level=1, strategy=zlib.Z_RLE)
    body = packer.compress(filtered.data) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"".join((_PNG_SIGNATURE, _png_chunk(b"IHDR", header), _png_chunk(b"IDAT", body), _PNG_END))


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body), kind) + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))


def _header_bytes(dimensions: int) -> int:
    return 4 + 4 * dimensions


def _with_dimensions(reader: IdxReader, dimensions: int) -> IdxReader:
    if len(reader.shape) != dimensions:
        raise _bad("shape", reader.path, f"its name promises {dimensions} dimension(s), its header has {reader.shape}")
    return reader


def _bad(kind: str, path: Path, found: str) -> InvalidInputError:
    return InvalidInputError(f"idx-{kind}", f"The IDX file {path} can't be taken: {found}.", path=str(path))


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """Open a file, inflating gzip by its magic number, with damage of the compression as our error."""
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        try:
            with gzip.GzipFile(fileobj=raw) if packed else raw as file:
                yield file
        except EOFError as error:
            raise _bad("truncated", path, "its compressed data is cut") from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise _bad("corrupt", path, f"its compression is damaged ({error})") from error
