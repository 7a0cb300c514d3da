"""Items of an asset ingest: image files, members of archives and images of IDX files, read, hashed and inspected.

A load is some items that are read together; what is read ahead is bounded in bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

from jobs.ingest.archives import ARCHIVE_SUFFIXES, check_archive, read_members
from jobs.ingest.findings import Finding, Severity
from jobs.ingest.idx import IdxPair, Rows, encode_png
from jobs.ingest.images import ImageInfo, inspect_image
from jobs.ingest.sources import File, Source, is_hidden, is_image_name
from lakehouse.errors import InvalidInputError, LakeError

MAX_BYTES = 1 << 30
"""A larger item is refused: an item is held in memory while it is taken."""

_LOAD_ITEMS = 256
_LOAD_BYTES = 8 << 20
_AHEAD_BYTES = 64 << 20
_AHEAD_LOADS = 32
_LARGE_BYTES = 128 << 10
_THREADS = 16
_SPLITS = {"train": "train", "test": "test"} | dict.fromkeys(("val", "valid", "validation"), "val")


@dataclass(slots=True)
class Item:
    """One item of a source, read and inspected; what can't be taken has a finding instead of bytes."""

    path: str
    """Path within the source, which becomes the asset's path."""
    source: str
    """The source as a person named it."""
    data: bytes = b""
    digest: bytes = b""
    """sha256 of the data."""
    info: ImageInfo | None = None
    uri: str | None = None
    """Where the file is, if its bytes are to stay there."""
    split: str | None = None
    label: str | None = None
    refused: Finding | None = None
    source_url: str | None = None
    """Where the bytes came from, if others find them there too: the object's URI on a remote store."""


@dataclass(frozen=True, slots=True)
class Load:
    """Some items that are read together."""

    count: int
    size: int
    """Bytes that reading will hold in memory."""
    items: Callable[[], list[Item]]
    waits: bool = False
    """Whether reading is mostly waiting for a remote store."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the folders of a path are read."""

    split: str | None = None
    """The split of every item; None: a first folder named train, test, val, valid or validation tells."""
    labels: bool = False
    """Whether the folder after that (or the first one) is the label."""

    def of(self, path: str) -> tuple[str | None, str | None]:
        """Return (split, label) of a path."""
        folders = path.split("/")[:-1]
        split = _SPLITS.get(folders[0].lower()) if folders else None
        if split is not None:
            folders = folders[1:]
        return self.split or split, folders[0] if self.labels and folders else None


def wanted_name(name: str) -> bool:
    """Whether a file of that name (in lower case) is an image or an archive that may hold some."""
    return is_image_name(name) or name.endswith(ARCHIVE_SUFFIXES)


def loads_of_files(
    source: Source, layout: Layout, *, in_place: bool, skip: Callable[[Sequence[str]], set[str]] | None
) -> Iterator[Load]:
    """Yield the image files of a source in order of path, and the members of the archives among them.

    Args:
        skip: Returns those of some thousand paths that need not be read.
    """
    held: list[File] = []
    size = 0

    def load() -> Load:
        return Load(len(held), size, partial(_read_files, source, held, layout, in_place), waits=source.is_remote)

    for file in _unskipped(source.files(wanted_name), skip):
        archive = file.path.lower().endswith(ARCHIVE_SUFFIXES)
        if held and (archive or len(held) == _LOAD_ITEMS or size + file.size > _LOAD_BYTES):
            yield load()
            held, size = [], 0
        if archive:
            yield from _loads_of_archive(source, file, layout, in_place=in_place)
        else:
            held.append(file)
            size += min(file.size, MAX_BYTES)
    if held:
        yield load()


def _unskipped(files: Iterator[File], skip: Callable[[Sequence[str]], set[str]] | None) -> Iterator[File]:
    if skip is None:
        yield from files
        return
    while some := [file for _, file in zip(range(16 * _LOAD_ITEMS), files, strict=False)]:
        known = skip([file.path for file in some])
        yield from (file for file in some if file.path not in known)


def _read_files(source: Source, files: Sequence[File], layout: Layout, in_place: bool) -> list[Item]:
    items = []
    for file in files:
        split, label = layout.of(file.path)
        item = Item(file.path, source.text, split=split, label=label)
        item.source_url = source.uri(file) if source.is_remote else None
        items.append(item)
        if file.size > MAX_BYTES:
            item.refused = _refusal("file_too_large", f"{file.size:,} bytes; the limit is {MAX_BYTES:,}")
            continue
        try:
            item.data = source.read(file)
        except (OSError, LakeError) as error:
            said = error.message if isinstance(error, LakeError) else error.strerror or type(error).__name__
            item.refused = _refusal("unreadable", f"it can't be read: {said}")
            continue
        if in_place:
            item.uri = source.uri(file)
        _inspect(item)
    return items


def _inspect(item: Item) -> None:
    item.digest = sha256(item.data).digest()
    item.info = inspect_image(item.data, item.path)
    item.refused = item.info.reject
    if not item.path.isascii():
        try:
            item.path.encode()
        except UnicodeEncodeError:
            item.refused = _refusal("path_encoding", "the file's name is not UTF-8; rename it")


def _refusal(code: str, detail: str) -> Finding:
    return Finding(code, Severity.REJECT, detail)


def _loads_of_archive(source: Source, file: File, layout: Layout, *, in_place: bool) -> Iterator[Load]:
    """Yield the images in an archive that is good from end to end; else one refused item that stands for all of it."""
    refused = Item(file.path, source.text)
    if in_place or source.is_remote:
        refused.refused = _refusal(
            "archive_unsupported",
            "members of an archive have no place of their own; take it without in-place"
            if in_place
            else "archives are read from local disks only; copy it",
        )
        yield Load(1, 0, lambda: [refused])
        return
    label = f"{source.text}/{file.path}" if not source.single else source.text
    held: list[Item] = []
    size = 0
    try:
        check_archive(file.location)
        for name, data in read_members(file.location):
            if is_hidden(name) or not is_image_name(name.lower()):
                continue
            if held and (len(held) == _LOAD_ITEMS or size + len(data) > _LOAD_BYTES):
                yield Load(len(held), size, partial(_inspected, held))
                held, size = [], 0
            split, folder = layout.of(name)
            held.append(Item(f"{file.path}/{name}", label, data, split=split, label=folder))
            size += len(data)
    except (InvalidInputError, OSError) as error:
        kind = error.kind.replace("-", "_") if isinstance(error, InvalidInputError) else "unreadable"
        refused.refused = _refusal(kind, str(error))
        held.append(refused)
    if held:
        yield Load(len(held), size, partial(_inspected, held))


def _inspected(items: list[Item]) -> list[Item]:
    for item in items:
        if item.refused is None:
            _inspect(item)
    return items


def loads_of_idx(pairs: Sequence[IdxPair], split: str | None) -> Iterator[Load]:
    """Yield the images of IDX files as grey PNG files named by their position: `train/00042`.

    Raises:
        InvalidInputError: a file is broken, as `IdxPair.chunks`; the images before were yielded.
    """
    for pair in pairs:
        start = 0
        for images, labels in pair.chunks(_LOAD_ITEMS):
            yield Load(len(images), images.nbytes, partial(_encode, pair, start, images, labels, split))
            start += len(images)


def _encode(pair: IdxPair, start: int, images: Rows, labels: Rows | None, split: str | None) -> list[Item]:
    source, (_, height, width) = str(pair.images_path), images.shape
    info = ImageInfo("PNG", "image/png", width, height, "L", 8, 1, 1, ())
    names = [None] * len(images) if labels is None else [str(label) for label in labels.tolist()]
    items = []
    for at, (pixels, label) in enumerate(zip(images, names, strict=True), start):
        data = encode_png(pixels)
        path = f"{pair.split}/{at:05d}"
        items.append(Item(path, source, data, sha256(data).digest(), info, None, split or pair.split, label))
    return items


def read_ahead(loads: Iterator[Load]) -> Iterator[list[Item]]:
    """Yield the items of each load, in order; what pays for it is read ahead in threads, some 64 MiB at most.

    Small local files are read where they are used: several threads that each run for microseconds between two system
    calls only wait for Python's lock (measured: twice the time).
    """
    waiting: deque[tuple[int, Callable[[], list[Item]]]] = deque()
    ahead = 0
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="ingest")
    try:
        for load in loads:
            while waiting and (ahead + load.size > _AHEAD_BYTES or len(waiting) >= _AHEAD_LOADS):
                size, first = waiting.popleft()
                ahead -= size
                yield first()
            apart = load.waits or load.size >= load.count * _LARGE_BYTES
            waiting.append((load.size, pool.submit(load.items).result if apart else load.items))
            ahead += load.size
        while waiting:
            yield waiting.popleft()[1]()
    finally:
        pool.shutdown(cancel_futures=True)
