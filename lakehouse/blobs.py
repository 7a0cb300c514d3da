"""Assets: bytes at (`uri`, `offset`, `length`) with a sha256; registered in place, read in parallel by range.

A uri is a key under the root (our own packs and objects, see `packs`) or the full URI of a file that stays where it is.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

import obstore
import pyarrow as pa

from lakehouse.errors import FormatError, InvalidInputError, NotFoundError, translated
from lakehouse.storage import Storage

_WINDOW = 2 << 20  # bytes of assets that are planned together, and about the size of a request
_IN_FLIGHT = 64 << 20  # bytes that wait for the consumer, at most
_GAP = 32 << 10  # a gap of this many bytes is read and thrown away: cheaper than one more request
_URI = re.compile(r"file:///.+|(s3|gs|az)://[^/]+/.+", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Location:
    """Where the bytes of an asset are."""

    uri: str
    """A key relative to the root, or the full, percent-encoded URI of a file in place elsewhere."""
    offset: int
    """First byte."""
    length: int
    """Number of bytes."""


@dataclass(frozen=True, slots=True)
class Asset:
    """One row of an asset dataset with its bytes."""

    row: dict[str, Any]
    """The columns that were asked for."""
    data: bytes
    """The bytes, not yet compared with the row's sha256: see `verify_sha256`."""


def register(storage: Storage, source: str | os.PathLike[str]) -> Location:
    """Return the location of a file that stays where it is; nothing is copied.

    Args:
        storage: How to reach other buckets of the root's store.
        source: A path, a percent-encoded `file://` URI, or `s3://bucket/key` with the key as it is.
    Raises:
        InvalidInputError: a scheme that can't be read later (scheme-unknown), or a folder or device (asset-not-a-file).
        NotFoundError: there is no such file or object (object-not-found).
        AccessDeniedError, StorageError: the store refused or failed.
    """
    text = os.fspath(source)
    if "://" in text and not text.startswith("file:///"):
        if not _URI.fullmatch(text):
            raise InvalidInputError(
                "scheme-unknown", f"{text!r} names no object. Give a path, file:///... or s3://bucket/key."
            )
        scheme, rest = text.split("://", 1)
        bucket, key = rest.split("/", 1)
        uri = f"{scheme}://{bucket}/{quote(key)}"
        with translated(f"looking at {uri}", uri=uri):
            try:
                return Location(uri, 0, obstore.head(storage.store(f"{scheme}://{bucket}"), key)["size"])
            except FileNotFoundError as error:
                raise _missing(uri) from error
    path = Path(*storage.locate(text)) if text.startswith("file:///") else Path(text).absolute()
    with translated(f"looking at {path}", uri=str(path)):
        try:
            found = path.stat()
        except FileNotFoundError as error:
            raise _missing(str(path)) from error
    if not stat.S_ISREG(found.st_mode):
        raise InvalidInputError(
            "asset-not-a-file", f"{path} is not a regular file. Register the files in it one by one."
        )
    return Location(path.as_uri(), 0, found.st_size)


def read_one(storage: Storage, uri: str, offset: int, length: int, *, namespace: str | None = None) -> bytes:
    """Return the bytes of one asset.

    Args:
        namespace: Of the dataset whose row says so: under the root only its bytes are read; None: whatever is there.
    Raises:
        NotFoundError: the object is gone (object-not-found).
        FormatError: the location makes no sense (asset-location-invalid), or the object is shorter (asset-truncated).
        AccessDeniedError, StorageError: the store refused or failed.
    """
    _check_location(uri, offset, length)
    _check_namespace(storage, uri, namespace)
    return _read(storage, uri, [(offset, length)])[0] if length else b""


def verify_sha256(data: bytes, expected: str, name: str = "an asset") -> None:
    """Refuse bytes that are not what was stored.

    Args:
        data: The bytes as read.
        expected: The sha256 from the row, 64 hexadecimal digits.
        name: What the bytes are, for the message.
    Raises:
        FormatError: another sha256 (asset-corrupt).
    """
    found = hashlib.sha256(data).hexdigest()
    if found != expected.lower():
        raise FormatError(
            "asset-corrupt",
            f"The bytes of {name} have the sha256 {found}, its row says {expected}. They were changed after they were "
            f"taken: restore the object, or ingest the source again.",
            found=found,
            expected=expected,
        )


def read_assets(
    storage: Storage,
    batches: Iterator[pa.RecordBatch],
    columns: Sequence[str] | None,
    parallel: int,
    *,
    namespace: str | None = None,
) -> Iterator[Asset]:
    """Iterate over rows with their bytes, in the order of the rows, reading ahead in parallel.

    Memory holds about 64 MiB of bytes that were read ahead, and one asset at least.

    Args:
        storage: Where relative uris are, and how to reach others.
        batches: Rows with the columns `uri`, `offset` and `length`, and others.
        columns: Names to carry in `Asset.row`; None means all.
        parallel: Reads at once.
        namespace: As `read_one` takes it.
    Raises:
        NotFoundError, FormatError, AccessDeniedError, StorageError: as `read_one`.
    """
    waiting: deque[_Window] = deque()
    in_flight = 0
    pool = ThreadPoolExecutor(parallel, thread_name_prefix="assets")
    try:
        for window in (window for batch in batches for window in _windows(batch, columns)):
            while waiting and (in_flight + window.size > _IN_FLIGHT or len(waiting) >= parallel):
                first = waiting.popleft()
                in_flight -= first.size
                yield from first.assets()
            for uri in window.uris:
                _check_namespace(storage, uri, namespace)
            window.start(storage, pool)
            waiting.append(window)
            in_flight += window.size
        while waiting:
            yield from waiting.popleft().assets()
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass(slots=True)
class _Span:
    """Near assets of one object, read in one request."""

    uri: str
    start: int
    end: int
    members: list[int]
    """Positions in the window."""


class _Window:
    """Consecutive rows whose bytes are fetched together."""

    def __init__(self, rows: list[dict[str, Any]], locations: list[Location]) -> None:
        self._rows, self._locations = rows, locations
        self._spans = _spans(locations)
        self._reads: list[Future[list[tuple[int, bytes]]]] = []
        self.size = sum(span.end - span.start for span in self._spans)

    @property
    def uris(self) -> set[str]:
        """What it reads from."""
        return {span.uri for span in self._spans}

    def start(self, storage: Storage, pool: ThreadPoolExecutor) -> None:
        # Files are read one after the other: that is shorter than handing each to a thread. Requests to a store wait.
        local: list[_Span] = []
        for span in self._spans:
            if "://" in storage.locate(span.uri)[0]:
                self._reads.append(pool.submit(self._read, storage, [span]))
            else:
                local.append(span)
        if local:
            self._reads.append(pool.submit(self._read, storage, local))

    def _read(self, storage: Storage, spans: list[_Span]) -> list[tuple[int, bytes]]:
        found = []
        for uri, group in groupby(spans, lambda span: span.uri):
            near = list(group)
            read = _read(storage, uri, [(span.start, span.end - span.start) for span in near])
            for span, data in zip(near, read, strict=True):
                for member in span.members:
                    start = self._locations[member].offset - span.start
                    found.append((member, data[start : start + self._locations[member].length]))
        return found

    def assets(self) -> Iterator[Asset]:
        data = [b""] * len(self._rows)
        for read in self._reads:
            for member, content in read.result():
                data[member] = content
        return map(Asset, self._rows, data)


def _windows(batch: pa.RecordBatch, columns: Sequence[str] | None) -> Iterator[_Window]:
    rows = (batch if columns is None else batch.select(list(columns))).to_pylist()
    places = zip(*(batch.column(name).to_pylist() for name in ("uri", "offset", "length")), strict=True)
    first, size = 0, 0
    locations: list[Location] = []
    for at, (uri, offset, length) in enumerate(places):
        _check_location(uri, offset, length)
        if size and size + length > _WINDOW:
            yield _Window(rows[first:at], locations)
            first, size, locations = at, 0, []
        locations.append(Location(uri, offset, length))
        size += length
    if locations:
        yield _Window(rows[first:], locations)


def _spans(locations: Sequence[Location]) -> list[_Span]:
    """Return the reads that cover all locations that have bytes; near ones of one object become one read."""
    spans: list[_Span] = []
    order = sorted((place.uri, place.offset, member) for member, place in enumerate(locations) if place.length)
    for uri, offset, member in order:
        end = offset + locations[member].length
        last = spans[-1] if spans else None
        if last is not None and last.uri == uri and offset <= last.end + _GAP:
            last.end = max(last.end, end)
            last.members.append(member)
        else:
            spans.append(_Span(uri, offset, end, [member]))
    return spans


def _read(storage: Storage, uri: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """Return the bytes of some (offset, length) ranges of one object; no length is 0."""
    base, key = storage.locate(uri)
    if "://" in base:
        read = storage.ranges(uri, [offset for offset, _ in ranges], [length for _, length in ranges])
    else:
        read = _read_file(uri, Path(base, key), ranges)
    for (offset, length), data in zip(ranges, read, strict=True):
        if len(data) < length:
            raise FormatError(
                "asset-truncated",
                f"{uri} ends {length - len(data)} bytes before the end of the {length} bytes from {offset} on. "
                f"The object was cut or replaced: restore it, or ingest the source again.",
                uri=uri,
            )
    return read


def _read_file(uri: str, path: Path, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    read = []
    with translated(f"reading {uri}", uri=uri):
        try:
            with path.open("rb") as file:
                for offset, length in ranges:
                    file.seek(offset)
                    read.append(file.read(length))
        except FileNotFoundError as error:
            raise _missing(uri) from error
    return read


def _missing(uri: str) -> NotFoundError:
    return NotFoundError("object-not-found", f"There is no object {uri}.", uri=uri)


def _check_location(uri: Any, offset: Any, length: Any) -> None:
    numbers = isinstance(offset, int) and isinstance(length, int) and offset >= 0 and length >= 0
    if not (numbers and isinstance(uri, str) and _is_safe(uri)):
        raise FormatError(
            "asset-location-invalid",
            f"A row says that its bytes are at uri {uri!r}, offset {offset!r}, length {length!r}. A uri is a key under "
            f"the root, file:///path or s3://bucket/key; offset and length are bytes from 0.",
            uri=uri,
        )


def _check_namespace(storage: Storage, uri: str, namespace: str | None) -> None:
    """Refuse a row that leads to bytes of another namespace, or to what the lakehouse keeps of itself."""
    base, key = storage.locate(uri)
    where, root = f"{base}/{key}", f"{storage.root}/"
    if "://" not in base:
        where = os.path.normpath(where)
    own = f"_blobs/{namespace}/".casefold()
    if namespace is None or not where.startswith(root) or where.removeprefix(root).casefold().startswith(own):
        return
    raise FormatError(
        "asset-location-invalid",
        f"A row says that its bytes are at uri {uri!r}, which does not belong to the namespace {namespace!r}.",
        uri=uri,
    )


def _is_safe(uri: str) -> bool:
    # Tables that others wrote may say anything: no way out of the root, no scheme that we do not mean to open.
    if "://" in uri:
        return _URI.fullmatch(uri) is not None
    return bool(uri) and not uri.startswith("/") and ".." not in uri.split("/")


__all__ = ["Asset", "Location", "read_assets", "read_one", "register", "verify_sha256"]
