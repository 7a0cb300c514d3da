"""Archives (ZIP, tar, tar.gz) as a stream of files: validated wholly before anything is taken from them.

Nothing is ever unpacked to disk, and the limits hold for the declared sizes before inflating and for the real ones
while inflating, so neither a bomb nor a lying header can exhaust memory. `check_archive` and `read_members` walk in
the same way, so what was not checked can't be read, even if the file changes between the two.

Sources: PKWARE APPNOTE (ZIP), POSIX pax (tar), RFC 1952 (gzip).
"""

from __future__ import annotations

import gzip
import lzma
import os
import re
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, cast

from lakehouse.errors import InvalidInputError

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
"""Lower-case endings of the file names that are taken as archives; inside, the content decides which kind it is."""

_CHUNK = 1 << 20
_RATIO_FREE = 1 << 20
"""Bytes up to which any compression ratio is fine: a small bomb does no harm."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may hold."""

    members: int = 10_000_000
    """Most files."""
    member_bytes: int = 2 << 30
    """Most bytes of one file, inflated: it is held in memory while it is taken."""
    ratio: int = 200
    """Most inflated bytes per byte of the archive. Photos reach about 1, text 20, the DEFLATE method 1,032."""


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive."""

    name: str
    """Relative path with forward slashes, without `.` parts."""
    size: int
    """Inflated bytes."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry as the format describes it, before any check."""

    name: str
    size: int
    folder: bool
    regular: bool
    encrypted: bool
    open: Callable[[], IO[bytes]]


Source = str | os.PathLike[str] | IO[bytes]


def check_archive(source: Source, limits: Limits = DEFAULT_LIMITS) -> list[Member]:
    """Return the files of an archive in its order, once every one of them was inflated and found good.

    Args:
        source: Path, or a seekable binary file, which stays open.
        limits: What it may hold.

    Raises:
        InvalidInputError: it is damaged, cut or no archive (archive-corrupt); a path leads outside it
            (archive-path-escape) or is not UTF-8 (archive-path-encoding); it has a link or a device (archive-link),
            two files whose names are the same ignoring case (archive-duplicate-name), no file (archive-empty),
            encrypted files (archive-encrypted), a compression method that can't be read here (archive-method),
            more bytes than its own size justifies (archive-ratio), too many or too large files (archive-too-large).
    """
    return [Member(name, sum(map(len, chunks))) for name, chunks in _walk(source, limits)]


def read_members(source: Source, limits: Limits = DEFAULT_LIMITS) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of each file in the archive's order, one in memory at a time.

    Call `check_archive` first if nothing may be taken from an archive whose end is bad.

    Args:
        source: Path, or a seekable binary file, which stays open.
        limits: What it may hold.

    Raises:
        InvalidInputError: as `check_archive`, when the walk meets the reason.
    """
    for name, chunks in _walk(source, limits):
        yield name, b"".join(chunks)


def _walk(source: Source, limits: Limits) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield each file's checked name and its checked chunks, which must be used up before the next file."""
    with _opened(source) as (file, label), _damage_named(label):
        budget = _Budget(label, max(_RATIO_FREE, limits.ratio * file.seek(0, os.SEEK_END)), limits)
        seen: dict[str, str] = {}
        for entry in _entries(file, budget):
            name = _checked_name(entry.name, label)
            if not (entry.regular or entry.folder):
                raise _bad("link", label, f"{name!r} is a link or a device; pack plain files")
            if entry.folder:
                continue
            if entry.encrypted:
                raise _bad("encrypted", label, f"{name!r} is encrypted; pack it without a password")
            # File systems that ignore case or the form of accents would make one file of two such names.
            key = unicodedata.normalize("NFC", name).casefold()
            if key in seen:
                raise _bad("duplicate-name", label, f"{seen[key]!r} and {name!r} name the same file")
            seen[key] = name
            budget.declare(len(seen), name, entry.size)
            yield name, budget.chunks(entry, name)
        if not seen:
            raise _bad("empty", label, "it has no file")


class _Budget:
    """Counts files and bytes of one archive against its limits."""

    def __init__(self, label: str, total: int, limits: Limits) -> None:
        self.label = label
        self.limits = limits
        self.total = total
        self.declared = 0

    def declare(self, count: int, name: str, size: int) -> None:
        """Check a file's declared size, before anything is inflated."""
        self.declared += size
        self.inflate(self.declared)
        if size > self.limits.member_bytes:
            raise _bad(
                "too-large", self.label, f"{name!r} has {size:,} bytes, the limit is {self.limits.member_bytes:,}"
            )
        if count > self.limits.members:
            raise _bad("too-large", self.label, f"it has more than {self.limits.members:,} files")

    def inflate(self, size: int) -> None:
        """Check how many bytes the archive has become so far."""
        if size > self.total:
            found = f"it inflates to more than {self.limits.ratio} times its own size; unpack it if that is meant"
            raise _bad("ratio", self.label, found)

    def chunks(self, entry: _Entry, name: str) -> Iterator[bytes]:
        """Yield a file's real bytes, which must be as many as it declares: so the declared limits bind them too."""
        left = entry.size
        with _damage_named(self.label), entry.open() as stream:
            while chunk := stream.read(_CHUNK):
                left -= len(chunk)
                yield chunk
        if left:
            raise _bad("corrupt", self.label, f"{name!r} does not have the {entry.size:,} bytes that it declares")


_DRIVE = re.compile(r"[A-Za-z]:")


def _checked_name(name: str, label: str) -> str:
    """Return the path in its plain form, `a/b.jpg` for `./a//b.jpg`."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise _bad("path-encoding", label, f"the path {name!a} is not UTF-8; rename the file") from None
    parts = name.split("/")
    if not name or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or _DRIVE.match(name):
        raise _bad(
            "path-escape", label, f"the path {name!r} is not relative to the archive; pack from inside its folder"
        )
    return PurePosixPath(name).as_posix()


def _entries(file: IO[bytes], budget: _Budget) -> Iterator[_Entry]:
    file.seek(0)
    head = file.read(tarfile.BLOCKSIZE)
    file.seek(0)
    if head.startswith(b"\x1f\x8b"):
        with gzip.GzipFile(fileobj=file) as inflated:
            yield from _tar_entries(inflated, budget)
    elif head[257:262] == b"ustar" or head == _TAR_END:
        yield from _tar_entries(file, budget)
    else:
        yield from _zip_entries(file)


def _zip_entries(file: IO[bytes]) -> Iterator[_Entry]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            folder = info.orig_filename.endswith("/") or kind == stat.S_IFDIR
            yield _Entry(
                name=info.orig_filename,  # `filename` is cut at a NUL, which would hide what follows
                size=info.file_size,
                folder=folder,
                regular=not folder and kind in (0, stat.S_IFREG),
                encrypted=bool(info.flag_bits & 0x41),
                open=partial(archive.open, info),
            )


_TAR_END = bytes(tarfile.BLOCKSIZE)


def _tar_entries(file: IO[bytes] | gzip.GzipFile, budget: _Budget) -> Iterator[_Entry]:
    stream = _Forward(file, budget)
    with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r:") as archive:
        while info := archive.next():
            archive.members.clear()  # type: ignore[attr-defined]  # it keeps every header
            yield _Entry(
                name=info.name,
                size=info.size,
                folder=info.isdir(),
                regular=info.isfile(),
                encrypted=False,
                open=partial(tarfile.ExFileObject, archive, info),
            )
    # The library takes a damaged header for the end. The true end is a block of zeros.
    if stream.last != _TAR_END:
        raise tarfile.ReadError("it has no end block: it was cut, or a header is damaged")
    while stream.read(_CHUNK):
        pass  # inflating the rest compares gzip's checksum


class _Forward:
    """The stream as the tar library may use it: forwards, in bounded pieces, within the budget.

    Without it a header with a huge or negative length would make the library fill the memory or never end.
    """

    def __init__(self, file: IO[bytes] | gzip.GzipFile, budget: _Budget) -> None:
        self.file = file
        self.budget = budget
        self.position = 0
        self.last = b""

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _CHUNK:
            raise tarfile.ReadError(f"a header claims {size:,} bytes for itself")
        self.last = self.file.read(size)
        self.position += len(self.last)
        self.budget.inflate(self.position)
        return self.last

    def seek(self, position: int) -> int:
        if position < self.position:
            raise tarfile.ReadError("a header points backwards")
        while self.position < position and self.read(min(_CHUNK, position - self.position)):
            pass
        return self.position

    def tell(self) -> int:
        return self.position

    def seekable(self) -> bool:
        return True


def _bad(kind: str, label: str, found: str) -> InvalidInputError:
    return InvalidInputError(f"archive-{kind}", f"The archive {label} can't be taken: {found}.", archive=label)


@contextmanager
def _opened(source: Source) -> Iterator[tuple[IO[bytes], str]]:
    if isinstance(source, (str, os.PathLike)):
        with Path(source).open("rb") as file:
            yield file, str(source)
    else:
        yield source, str(getattr(source, "name", "in memory"))


@contextmanager
def _damage_named(label: str) -> Iterator[None]:
    """Turn what the ZIP, tar and inflate libraries raise over damaged bytes into our error."""
    try:
        yield
    except InvalidInputError:
        raise
    except NotImplementedError as error:
        raise _bad("method", label, f"{error}; pack it with the DEFLATE method") from error
    except _DAMAGE as error:
        raise _bad("corrupt", label, f"it is damaged or no ZIP or tar ({error})") from error


_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
)
