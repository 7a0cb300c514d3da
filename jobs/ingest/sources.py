"""Where an ingest reads from: folders walked in order, single files, prefixes on S3; and which format they hold."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from jobs.ingest.archives import ARCHIVE_SUFFIXES
from jobs.ingest.idx import IdxPair, pair_idx
from jobs.ingest.images import IMAGE_SUFFIXES
from jobs.ingest.tabular import TABLE_FORMATS
from lakehouse.errors import InvalidInputError, NotFoundError
from lakehouse.storage import Storage

Format = Literal["images", "idx", "csv", "json", "parquet"]
FORMATS: tuple[Format, ...] = ("images", "idx", "csv", "json", "parquet")

_IGNORED = "__MACOSX"


@dataclass(frozen=True, slots=True)
class File:
    """A file that an ingest looks at."""

    path: str
    """Path relative to its source, with forward slashes: byte for byte as the file system has it."""
    location: str
    """What `Source.read` takes: an absolute path, or the key of an object."""
    size: int
    """Bytes when it was listed."""


@dataclass(frozen=True, slots=True)
class Source:
    """One thing that the caller named: a folder, a file, or a prefix on a remote store."""

    text: str
    """As it was given, made absolute."""
    single: bool
    """Whether it is one file, which the caller chose itself."""
    _remote: Storage | None = None

    @property
    def is_remote(self) -> bool:
        """Whether it is on a remote store."""
        return self._remote is not None

    def files(self, wanted: Callable[[str], bool]) -> Iterator[File]:
        """Yield the files whose name (in lower case) is wanted, sorted by path; hidden ones are left out.

        A single file is yielded whatever its name. Links to files are followed, links to folders are not. What can't
        be listed is yielded too, so that reading it says why.
        """
        if self._remote is not None:
            yield from _objects(self._remote, wanted)
        elif self.single:
            path = Path(self.text)
            yield File(path.name, self.text, path.stat().st_size)
        else:
            yield from _walk(self.text, wanted)

    def read(self, file: File) -> bytes:
        """Return a file's bytes.

        Raises:
            OSError, NotFoundError, StorageError, AccessDeniedError: it can't be read.
        """
        return _read_local(file) if self._remote is None else self._remote.get(file.location)

    def uri(self, file: File) -> str:
        """Return the full, percent-encoded URI under which a file is found again."""
        if self._remote is None:
            return f"file://{quote(file.location)}"
        scheme, rest = self._remote.root.split("://", 1)
        return f"{scheme}://{rest.split('/', 1)[0]}/{quote(_under(self._remote, file.location))}"


def open_source(source: str | os.PathLike[str]) -> Source:
    """Return a source that is there.

    Args:
        source: A path, a `file://` URI, or `s3://bucket/prefix` of a store that the environment or a profile describes.
    Raises:
        NotFoundError: there is no such file or folder (source-not-found).
        InvalidInputError: a URI of an unknown scheme (scheme-unknown), or it is a device (source-unknown).
    """
    text = os.fspath(source)
    if "://" in text and not text.startswith("file://"):
        return Source(text.rstrip("/"), single=False, _remote=Storage.open(text))
    path = Path(Storage.open(text).root if text.startswith("file://") else text).expanduser().absolute()
    if not path.exists():
        raise NotFoundError("source-not-found", f"There is no file or folder {path}. Check the path.", source=str(path))
    if not (path.is_dir() or path.is_file()):
        raise InvalidInputError("source-unknown", f"{path} is neither a folder nor a file.", source=str(path))
    return Source(str(path), single=path.is_file())


def choose_format(sources: Sequence[Source], declared: str | None) -> Format:
    """Return the one format of all sources: what was declared, else what the names of their files tell.

    A folder with images is a folder of images, whatever else is in it; tabular files must be of one format.

    Raises:
        InvalidInputError: a format that is not known (format-unknown), files of several formats (format-mixed), or
            nothing to ingest (source-empty).
    """
    if declared is not None:
        if declared not in FORMATS:
            raise InvalidInputError(
                "format-unknown", f"{declared!r} is no format. Known are: {', '.join(FORMATS)}.", format=declared
            )
        return declared
    found = {kind for source in sources for kind in _formats_in(source)}
    if len(found) > 1:
        raise InvalidInputError(
            "format-mixed",
            f"The sources hold files of several formats: {', '.join(sorted(found))}. Say which to take (--format).",
            formats=sorted(found),
        )
    if not found:
        raise InvalidInputError(
            "source-empty",
            f"Nothing in {', '.join(s.text for s in sources)} looks like data that is known here (images, archives, "
            f"IDX, CSV, JSON, Parquet). Check the path, or say the format (--format).",
        )
    return found.pop()


def idx_pairs(sources: Sequence[Source]) -> list[IdxPair]:
    """Return the splits in folders and files of IDX data.

    Raises:
        InvalidInputError: as `idx.pair_idx`, or the source is remote (idx-not-local).
    """
    for source in sources:
        if source.is_remote:
            raise InvalidInputError("idx-not-local", f"IDX files are read from local disks only. Copy {source.text}.")
    files = [s.text for s in sources if s.single]
    folders = [pair for s in sources if not s.single for pair in pair_idx(s.text)]
    return folders + (pair_idx(files) if files else [])


def _formats_in(source: Source) -> set[Format]:
    if not source.is_remote:
        try:
            pair_idx([source.text] if source.single else source.text)
            return {"idx"}
        except InvalidInputError as error:
            if error.kind != "idx-not-found":
                return {"idx"}  # broken in a way that the reader of the pairs explains
    found: set[Format] = set()
    for file in source.files(lambda name: _format_of(name) is not None):
        kind = _format_of(file.path.rsplit("/", 1)[-1].lower())
        if kind == "images":
            return {kind}
        if kind is not None:
            found.add(kind)
    return found


def _format_of(name: str) -> Format | None:
    return "images" if is_image_name(name) or name.endswith(ARCHIVE_SUFFIXES) else TABLE_FORMATS.get(suffix(name))


def is_image_name(name: str) -> bool:
    """Whether a file name, in lower case, has the suffix of an image."""
    return suffix(name) in IMAGE_SUFFIXES


def is_hidden(path: str) -> bool:
    """Whether a relative path has a part that is no data: a dot file, or what macOS adds to archives."""
    return any(part.startswith(".") or part == _IGNORED for part in path.split("/"))


def suffix(name: str) -> str:
    """Return the end of a file name from its last dot on, which it may not have."""
    return f".{name.rpartition('.')[2]}"


def _walk(top: str, wanted: Callable[[str], bool]) -> Iterator[File]:
    # A stack of what is left to look at, the next one last: folders may be nested deeper than calls can be.
    left = [("", top)]
    while left:
        path, location = left.pop()
        if not path or path.endswith("/"):
            try:
                left += reversed(_entries(path, location))
            except OSError:
                yield File(path.rstrip("/") or ".", location, 0)
        elif wanted(path.rsplit("/", 1)[-1].lower()):
            try:
                status = Path(location).stat()
            except OSError:
                yield File(path, location, 0)
                continue
            if stat.S_ISREG(status.st_mode):
                yield File(path, location, status.st_size)


def _entries(prefix: str, folder: str) -> list[tuple[str, str]]:
    """Return path and location of what is in a folder, sorted; a folder's path ends with a slash."""
    with os.scandir(folder) as found:
        # With its slash, a folder stands where the paths in it stand among those of its siblings.
        named = ((e.name + "/" if e.is_dir(follow_symlinks=False) else e.name, e.path) for e in found)
        return sorted((prefix + n, at) for n, at in named if n[0] != "." and not n.startswith(_IGNORED))


def _objects(store: Storage, wanted: Callable[[str], bool]) -> Iterator[File]:
    # Stores list keys in order, but do not promise it; the names of one prefix fit into memory.
    for found in sorted(store.list(""), key=lambda info: info.key):
        name = found.key.rsplit("/", 1)[-1]
        if not is_hidden(found.key) and name and wanted(name.lower()):
            yield File(found.key, found.key, found.size)


def _under(store: Storage, key: str) -> str:
    prefix = store.root.split("://", 1)[1].partition("/")[2]
    return f"{prefix}/{key}" if prefix else key


def _read_local(file: File) -> bytes:
    descriptor = os.open(file.location, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(descriptor, file.size + 1)
        if len(data) <= file.size:
            return data
        parts = [data]  # it has grown since it was listed
        while part := os.read(descriptor, 1 << 20):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)
