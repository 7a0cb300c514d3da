"""Layout: which data files of a state are worth writing anew, which of them together, and where the new ones stand.

Only plans are made here, from the list of files and the log's statistics; `compaction` carries them out.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

from lakehouse.delta import FileList

SMALL = 0.75
"""Part of the target size below which a file is small."""
PART_BYTES = 1 << 30
"""Bytes that are sorted, and that one commit replaces, at most: what is lost when another writer is faster."""
_ORDERED = re.compile(r"((?:sort|zorder)-[0-9a-f]{8})-[0-9]{5}-([0-9a-f]{12})\.parquet")
"""Name of a file that was ordered: the stem of `Order`, and what all files of one ordering share."""
_DELTA_RS = re.compile(r"-c[0-9]{3}(\.[a-z0-9]+)?\.parquet$")


@dataclass(frozen=True, slots=True)
class Order:
    """How rows are to be ordered; without columns they keep the order that they have."""

    kind: Literal["sort", "zorder"] = "sort"
    columns: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.columns)

    @property
    def stem(self) -> str:
        """What the names of files begin with that were ordered so."""
        return f"{self.kind}-{sha256(chr(0).join(self.columns).encode()).hexdigest()[:8]}"


@dataclass(frozen=True, slots=True)
class File:
    """A data file as a plan sees it."""

    path: str
    """Relative to the table."""
    bytes: int
    modified: int
    """Milliseconds since the epoch; with the path the file's place in the order of rows."""
    fixed: bool = False
    """Whether it must stay as it is."""
    due: bool = False
    """Whether it is to be written anew whatever its size."""
    low: tuple[Any, ...] = ()
    """Lower bound of its keys; empty: not known."""
    high: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """Files whose rows become one run of new files."""

    files: tuple[File, ...]
    stem: str
    """What the new files' names begin with."""
    modified: int | None = None
    """Their place in the order of rows; None: after all others."""

    @property
    def bytes(self) -> int:
        """Size of the files."""
        return sum(f.bytes for f in self.files)

    @property
    def paths(self) -> set[str]:
        """Paths of the files."""
        return {f.path for f in self.files}


def by_delta_rs(path: str) -> bool:
    """Whether delta-rs named a file, in a merge or a delete: it may hold views instead of plain text and bytes."""
    return _DELTA_RS.search(path) is not None


def files_of(listed: FileList, fixed: Collection[str], due: Collection[str]) -> list[File]:
    """Return the files of a state in the order of their rows."""
    columns = (listed.table.column(name).to_pylist() for name in ("path", "size", "modified"))
    return [File(p, size, modified, p in fixed, p in due) for p, size, modified in zip(*columns, strict=True)]


def compacted(files: Sequence[File], target: int) -> list[Part]:
    """Plan to join neighbours that are small, up to the target size; the order of rows stays.

    A new file takes the place of the first that it replaces: its time, and where others have the same time a name
    between theirs.

    Args:
        files: All files of the state, in their order.
        target: Bytes of a file.
    """
    parts, run, size = [], list[int](), 0
    for at, file in enumerate(files):
        joins = not file.fixed and (file.due or file.bytes < SMALL * target)
        if run and (not joins or size + file.bytes > target):
            parts += _joined(files, run)
            run, size = [], 0
        if joins:
            run.append(at)
            size += file.bytes
    return parts + _joined(files, run)


def _joined(files: Sequence[File], run: Sequence[int]) -> list[Part]:
    chosen = tuple(files[at] for at in run)
    if len(chosen) < 2 and not any(f.due for f in chosen):
        return []
    stem = _stem_between(files, run[0], run[-1])
    return [] if stem is None else [Part(chosen, stem, chosen[0].modified)]


def _stem_between(files: Sequence[File], first: int, last: int) -> str | None:
    """Return a beginning for names that sort after the file before `first` and before the one after `last`."""
    own = files[first]
    before = files[first - 1].path if first and files[first - 1].modified == own.modified else ""
    after = files[last + 1].path if last + 1 < len(files) and files[last + 1].modified == own.modified else ""
    if not before and not after:
        return "part"
    beginnings = (own.path[:length] for length in range(1, len(own.path) + 1))
    return next((b for b in beginnings if b > before and not after.startswith(b)), None)


def sorted_by_key(files: Sequence[File], target: int, stem: str) -> list[Part]:
    """Plan to sort what overlaps by key, and to join neighbours by key that are small.

    Files that one sort made do not overlap each other, whatever their bounds say: those of several columns are wider
    than the keys. More than PART_BYTES that overlap are sorted slice by slice, each a
    range of the least keys: every run then divides the ranges further.
    """
    parts, held, size = list[Part](), list[File](), 0
    for unit in [*_overlapping([f for f in files if not f.fixed], stem), []]:
        more = sum(f.bytes for f in unit)
        if held and (not unit or size + more > target):
            chosen = _slices(held)
            parts += [Part(some, stem) for some in chosen if any(f.due for f in some) or _makers(some, stem) > 1]
            held, size = [], 0
        held += unit
        size += more
    return parts


def _overlapping(files: Sequence[File], stem: str) -> Iterator[list[File]]:
    """Iterate over sets of files that overlap by key, files in ascending order of their least keys."""
    known = sorted((f for f in files if f.low), key=lambda f: (f.low, _maker(f, stem), f.path))
    units, reach = list[list[File]](), ()
    for file in known:
        if units and reach > file.low:
            units[-1].append(file)
            reach = max(reach, file.high)
        else:
            units.append([file])
            reach = file.high
    for unit in [*units, [f for f in files if not f.low]]:
        if _makers(unit, stem) > 1:
            yield unit
        else:
            yield from ([file] for file in unit)


def _maker(file: File, stem: str) -> str:
    """Return what made a file: the ordering that it shares with others, or else only itself."""
    found = _ORDERED.fullmatch(file.path)
    return file.path if found is None or found[1] != stem else found[2]


def _makers(files: Sequence[File], stem: str) -> int:
    return len({_maker(f, stem) for f in files})


def _slices(files: Sequence[File]) -> Iterator[tuple[File, ...]]:
    chosen, size = list[File](), 0
    for file in files:
        if chosen and size + file.bytes > PART_BYTES:
            yield tuple(chosen)
            chosen, size = [], 0
        chosen.append(file)
        size += file.bytes
    if chosen:
        yield tuple(chosen)


def z_ordered(files: Sequence[File], target: int, stem: str) -> list[Part]:
    """Plan to order by a z-value what is not yet, slice by slice, together with small files that are."""
    movable = [f for f in files if not f.fixed]
    done = {f.path for f in movable if _maker(f, stem) != f.path}
    chosen = [f for f in movable if f.path not in done or f.bytes < SMALL * target]
    if all(f.path in done for f in chosen) and _makers(chosen, stem) < 2:
        return []
    return [Part(some, stem) for some in _slices(chosen)]


def whole(files: Sequence[File], stem: str) -> list[Part]:
    """Plan to order everything as one."""
    chosen = tuple(f for f in files if not f.fixed)
    return [Part(chosen, stem)] if chosen else []


def batched(parts: Sequence[Part]) -> Iterator[list[Part]]:
    """Iterate over the parts of one commit each: about PART_BYTES together."""
    batch, size = list[Part](), 0
    for part in parts:
        if batch and size + part.bytes > PART_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(part)
        size += part.bytes
    if batch:
        yield batch
