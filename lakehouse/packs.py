"""Packs: how asset bytes get into the store, small ones many to a tar file, large ones as objects of their own.

A pack is a ustar file that WebDataset and any tar program read; its members have opaque names and fixed times, so that
the same bytes in the same order make the same pack. Source: POSIX.1-1988, "ustar Interchange Format".
"""

from __future__ import annotations

import os
import re
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol
from uuid import uuid4

import obstore

from lakehouse.blobs import Location
from lakehouse.errors import InvalidInputError, translated
from lakehouse.storage import Storage

LARGE = 16 << 20
"""Bytes; a larger asset becomes an object of its own."""
PACK = 128 << 20
"""Bytes; a pack that has reached this size is finished."""

_BUFFER = 256 << 10  # bytes given to the file at once: few calls, and still warm in the processor's cache
_WRITE_BACK = 8 << 20  # bytes after which the disk is set to work
_PART, _PARTS = 8 << 20, 4  # a multipart upload: bytes of a part, and parts on their way at once
_FINISHING = 2  # objects whose end is awaited in the background
_BLOCK = 512
_TIME = 315_532_800  # 1980-01-01: tar programs warn about times near 0
_EXTENSION = re.compile(r"[a-z0-9]{1,16}")


class PackWriter:
    """Stores assets of one namespace: not visible until finished, not to be committed before `flush` returned.

    As a context manager it flushes at the end, or drops what is unfinished when there was an error. Not for use by
    several threads at once.

    Args:
        storage: The root.
        namespace: A checked namespace name; its bytes stay apart from those of other namespaces.
    """

    def __init__(self, storage: Storage, namespace: str) -> None:
        self._storage = storage
        self._folder = f"_blobs/{namespace}"
        self._templates: dict[str, _Template] = {}
        self._pack: _Object | None = None
        self._key = ""
        self._size = self._count = 0
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._pool = ThreadPoolExecutor(_FINISHING, thread_name_prefix="packs")
        self._finishing: deque[Future[None]] = deque()

    def __enter__(self) -> PackWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    def add(self, data: bytes, extension: str) -> Location:
        """Store one asset and say where it will be; its bytes are durable when `flush` has returned.

        Args:
            data: The whole asset.
            extension: Ending of the member's name, for programs that read the pack as a tar file: `jpg`.
        Raises:
            InvalidInputError: not 1 to 16 small letters and digits (extension-invalid).
            AccessDeniedError, StorageError: the store refused or failed.
        """
        length = len(data)
        template = self._templates.get(extension) or self._template(extension)
        if length > LARGE:
            return self._add_object(data)
        if self._pack is None:
            self._open_pack()
        offset = self._size + _BLOCK
        padding = -length % _BLOCK
        self._chunks += (template.header(self._count, length), data, bytes(padding))
        self._buffered += _BLOCK + length + padding
        self._size = offset + length + padding
        self._count += 1
        location = Location(self._key, offset, length)
        if self._size >= PACK:
            self._finish_pack()
        elif self._buffered >= _BUFFER:
            self._write_chunks()
        return location

    def flush(self) -> None:
        """Finish the pack and wait until the bytes of every location given so far are durable and visible.

        Raises:
            AccessDeniedError, StorageError: the store refused or failed. None of the locations since the last
                flush may be committed.
        """
        self._finish_pack()
        while self._finishing:
            self._finishing.popleft().result()

    def close(self) -> None:
        """Flush, and end the writer."""
        try:
            self.flush()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """End the writer and drop the pack that is unfinished; what was flushed stays."""
        self._chunks = []
        if self._pack is not None:
            self._pack.abandon()
            self._pack = None
        self._pool.shutdown()

    def _template(self, extension: str) -> _Template:
        if not _EXTENSION.fullmatch(extension):
            raise InvalidInputError(
                "extension-invalid",
                f"{extension!r} can't end a member's name. Use 1 to 16 small letters and digits, such as 'jpg'.",
            )
        return self._templates.setdefault(extension, _Template(extension))

    def _open_pack(self) -> None:
        self._key = f"{self._folder}/pack-{uuid4().hex}.tar"
        self._pack = _open(self._storage, self._key)
        self._size = self._count = 0

    def _write_chunks(self) -> None:
        assert self._pack is not None
        self._pack.write(b"".join(self._chunks))
        self._chunks, self._buffered = [], 0

    def _finish_pack(self) -> None:
        if self._pack is None:
            return
        self._chunks.append(bytes(2 * _BLOCK))
        self._write_chunks()
        pack, self._pack = self._pack, None
        self._finish(pack)

    def _add_object(self, data: bytes) -> Location:
        key = f"{self._folder}/obj-{uuid4().hex}"
        made = _open(self._storage, key)
        try:
            made.write(data)
        except BaseException:
            made.abandon()
            raise
        self._finish(made)
        return Location(key, 0, len(data))

    def _finish(self, made: _Object) -> None:
        # Waiting for the disk or the last parts takes long; the next pack is filled meanwhile.
        self._finishing.append(self._pool.submit(made.finish))
        while len(self._finishing) > _FINISHING:
            self._finishing.popleft().result()


class _Template:
    """A tar header with all but the number, the size and the checksum filled in: `tarfile` takes 10 times as long."""

    def __init__(self, extension: str) -> None:
        self._before_size = f".{extension}".encode().ljust(92, b"\0") + b"0000644\0" + b"0000000\0" * 2
        self._after_size = b"\0%011o\0" % _TIME
        self._after_sum = (b"\0 0" + bytes(100) + b"ustar\x0000").ljust(_BLOCK - 154, b"\0")
        # The checksum is the sum of all bytes, with its own field taken as 8 blanks.
        self._sum = sum(self._before_size) + sum(self._after_size) + sum(self._after_sum[2:]) + 8 * ord(" ")

    def header(self, number: int, size: int) -> bytes:
        """Return the 512 bytes before the member `<number>.<extension>` of `size` bytes."""
        name, octal = b"%08d" % number, b"%011o" % size
        total = b"%06o" % (self._sum + sum(name) + sum(octal))
        return b"".join((name, self._before_size, octal, self._after_size, total, self._after_sum))


class _Object(Protocol):
    """An object that is being written: there under its key only after `finish`."""

    def write(self, data: bytes) -> None: ...
    def finish(self) -> None: ...
    def abandon(self) -> None: ...


def _open(storage: Storage, key: str) -> _Object:
    with translated(f"writing {key}", key=key):
        return _LocalObject(storage, key) if storage.is_local else _RemoteObject(storage, key)


class _LocalObject:
    def __init__(self, storage: Storage, key: str) -> None:
        self._key, self._path = key, Path(storage.uri(key))
        # Seen by listings, so that what a killed writer left behind is found and cleaned up.
        self._part = self._path.with_name(f"{self._path.name}.part")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._part.open("xb", buffering=0)
        self._written = self._started = 0

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        with translated(f"writing {self._key}", key=self._key):
            while view:
                view = view[self._file.write(view) :]
        self._written += len(data)
        if self._written - self._started >= _WRITE_BACK and hasattr(os, "posix_fadvise"):
            # Linux starts to write the range to the disk and returns, so that `finish` has little to wait for.
            length = self._written - self._started
            os.posix_fadvise(self._file.fileno(), self._started, length, os.POSIX_FADV_DONTNEED)
            self._started = self._written

    def finish(self) -> None:
        with translated(f"writing {self._key}", key=self._key):
            with self._file:
                os.fsync(self._file.fileno())
            self._part.rename(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def abandon(self) -> None:
        self._file.close()
        self._part.unlink(missing_ok=True)


class _RemoteObject:
    def __init__(self, storage: Storage, key: str) -> None:
        self._key = key
        self._writer: Any = obstore.open_writer(storage.store(), key, buffer_size=_PART, max_concurrency=_PARTS)

    def write(self, data: bytes) -> None:
        with translated(f"writing {self._key}", key=self._key):
            self._writer.write(data)

    def finish(self) -> None:
        with translated(f"writing {self._key}", key=self._key):
            self._writer.close()

    def abandon(self) -> None:
        # Closing would complete the upload. Its parts are the store's to expire, as after a crash.
        self._writer = None


__all__ = ["LARGE", "PACK", "PackWriter"]
