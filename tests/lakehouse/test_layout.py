"""Plans: which files are rewritten together, and that the order of rows survives where it must."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse import layout
from lakehouse.layout import File, Order, Part

STAMP = "0123456789ab"
TARGET = 100
names = st.text("ab/-0", min_size=1, max_size=4)


@st.composite
def states(draw: st.DrawFn) -> list[File]:
    """Files in the order of rows; many have one time, and names that begin alike."""
    paths = draw(st.lists(names, unique=True, max_size=12))
    files = [
        File(p, draw(st.integers(0, 120)), draw(st.integers(0, 3)), draw(st.integers(0, 9)) == 0, draw(st.booleans()))
        for p in paths
    ]
    return sorted(files, key=lambda f: (f.modified, f.path))


@given(states())
def test_compaction_keeps_the_order(files: list[File]) -> None:
    """Wherever neighbours are joined, the new files stand in their place among all others."""
    parts = layout.compacted(files, TARGET)
    gone = {f.path for part in parts for f in part.files}
    after: list[tuple[int, str, list[File]]] = [(f.modified, f.path, [f]) for f in files if f.path not in gone]
    for part in parts:
        assert part.modified is not None
        # A part may become several files: the first has the first of its files, the last one the others.
        after.append((part.modified, f"{part.stem}-00000-{STAMP}.parquet", [part.files[0]]))
        after.append((part.modified, f"{part.stem}-00001-{STAMP}.parquet", list(part.files[1:])))
    assert [f for *_, inner in sorted(after, key=lambda entry: entry[:2]) for f in inner] == files


@given(states())
def test_compaction_joins_what_it_may(files: list[File]) -> None:
    """No part is larger than the target, none touches a fixed file, and a single file is rewritten only when due."""
    for part in layout.compacted(files, TARGET):
        assert not any(f.fixed for f in part.files)
        assert part.bytes <= TARGET or len(part.files) == 1
        assert len(part.files) > 1 or part.files[0].due


def keyed(path: str, low: object, high: object, size: int = 60) -> File:
    """Return a file with these bounds of its key."""
    bounds = [() if b is None else b if isinstance(b, tuple) else (b,) for b in (low, high)]
    return File(path, size, 0, low=bounds[0], high=bounds[1])


def planned(files: list[File], target: int = TARGET) -> list[set[str]]:
    """Return the paths that are sorted together."""
    return [part.paths for part in layout.sorted_by_key(files, target, "sort-00000000")]


def test_only_overlaps_are_sorted() -> None:
    """Files that overlap by key are sorted together, through others too; neighbours that only touch stay apart."""
    files = [keyed("a", 0, 10), keyed("b", 9, 20), keyed("c", 15, 30), keyed("d", 30, 40), keyed("e", 41, 50)]
    assert planned(files) == [{"a", "b", "c"}]


def test_small_neighbours_by_key_are_joined() -> None:
    """Small files that do not overlap become one, up to the target."""
    assert planned([keyed("c", 30, 31, 40), keyed("a", 0, 1, 40), keyed("b", 10, 11, 40)]) == [{"a", "b"}]


def test_files_of_one_sort_do_not_overlap() -> None:
    """What one sort made is never sorted again by itself, whatever the bounds say; with another file it is."""
    made = [keyed(f"sort-00000000-0000{i}-{STAMP}.parquet", "prefix", "prefix\U0010ffff") for i in range(3)]
    assert planned(made) == []
    assert planned([*made, keyed("x", "prefix", "prefix\U0010ffff")]) == [{"x", *(f.path for f in made)}]
    unknown = [keyed(f.path, None, None) for f in made]
    assert planned(unknown) == []
    assert planned([*unknown, keyed("x", None, None), keyed("y", 1, 2)]) == [{"x", *(f.path for f in made)}]


def test_large_overlaps_are_sliced(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a part's bytes that overlap are sorted slice by slice, ascending by their least keys."""
    monkeypatch.setattr(layout, "PART_BYTES", 150)
    files = [keyed(f"f{i}", i, 100) for i in range(5)]
    assert planned(files[::-1]) == [{"f0", "f1"}, {"f2", "f3"}]


def test_batches() -> None:
    """A commit replaces about a part's bytes, or one part that is larger."""
    parts = [Part((keyed(str(i), 0, 0, size),), "part") for i, size in enumerate([1, 2, layout.PART_BYTES + 1, 3])]
    assert [len(batch) for batch in layout.batched(parts)] == [2, 1, 1]


def test_z_order_takes_what_is_not_ordered_yet() -> None:
    """What is ordered and large stays; small rest of earlier orders is ordered again together with new files."""
    stem = Order("zorder", ("a", "b")).stem
    large, small = (keyed(f"{stem}-0000{i}-{STAMP}.parquet", 0, 9, size) for i, size in ((0, 90), (1, 20)))
    other = keyed(f"{stem}-00000-ba9876543210.parquet", 0, 9, 20)
    assert layout.z_ordered([large, small], TARGET, stem) == []
    assert layout.z_ordered([large, small, other], TARGET, stem)[0].paths == {small.path, other.path}
    assert layout.z_ordered([large, small, keyed("new", 0, 9)], TARGET, stem)[0].paths == {small.path, "new"}
    assert layout.z_ordered([large], TARGET, Order("zorder", ("b", "a")).stem)[0].paths == {large.path}
