"""Compatibility: each kind of difference, and that the verdict agrees with what really fits."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.compatibility import Difference, differences, holds
from lakehouse.decisions import Column
from lakehouse.errors import InvalidInputError
from lakehouse.registry import columns_of
from lakehouse.schema import fit, to_reader
from tests.support.schemas import SIMPLE, TYPES, edge_rows

ID = Column(name="id", type="int64")
CASES = [
    pytest.param([ID], [ID, Column(name="n", type="int32")], [("n", "added", False, False)], id="added"),
    pytest.param(
        [ID], [ID, Column(name="n", type="int32", nullable=False)], [("n", "added", False, True)], id="added, required"
    ),
    pytest.param([ID, Column(name="n", type="int32")], [ID], [("n", "removed", True, True)], id="removed"),
    pytest.param([ID], [Column(name="id", type="int32")], [("id", "type", False, True)], id="narrowed"),
    pytest.param(
        [Column(name="n", type="int32")], [Column(name="n", type="int64")], [("n", "type", True, False)], id="widened"
    ),
    pytest.param([ID], [Column(name="id", type="string")], [("id", "type", True, True)], id="another type"),
    pytest.param(
        [ID], [Column(name="id", type="int64", nullable=False)], [("id", "nullable", False, True)], id="required"
    ),
    pytest.param(
        [Column(name="id", type="int64", nullable=False)], [ID], [("id", "nullable", True, False)], id="optional"
    ),
    pytest.param([ID], [Column(name="Id", type="int64")], [("id", "case", True, True)], id="case"),
    pytest.param(
        [Column(name="t", type="timestamp[us]")],
        [Column(name="t", type="timestamp[us, tz=UTC]")],
        [("t", "type", True, True)],
        id="zone",
    ),
    pytest.param([ID], [Column(name="id", type="int64", unit="cm")], [("id", "unit", False, False)], id="a unit said"),
    pytest.param(
        [Column(name="w", type="double", unit="cm")],
        [Column(name="w", type="double", unit="mm")],
        [("w", "unit", True, True)],
        id="another unit",
    ),
    pytest.param(
        [ID],
        [Column(name="id", type="int64", semantic="id", description="the order's")],
        [("id", "semantic", False, False), ("id", "description", False, False)],
        id="meaning",
    ),
    pytest.param([ID, Column(name="n", type="int8")], [Column(name="n", type="int8"), ID], [], id="order"),
    pytest.param(
        [Column(name="s", type="struct<x: int32>")],
        [Column(name="s", type="struct<x: int64, y: string>")],
        [("s", "type", True, False)],
        id="nested",
    ),
]


@pytest.mark.parametrize(("old", "new", "expected"), CASES)
def test_each_difference_is_named(
    old: list[Column], new: list[Column], expected: list[tuple[str, str, bool, bool]]
) -> None:
    """A difference says which column, what, and whether it breaks readers or writers."""
    found = differences(old, new)
    assert [(d.column, d.what, d.breaks_readers, d.breaks_writers) for d in found] == expected


def test_the_key_is_a_difference() -> None:
    """A first key only binds writers; another one also tells readers' rows apart in another way."""
    [first] = differences([ID], [ID], (), ("id",))
    assert (first.what, first.breaks_readers, first.breaks_writers) == ("key", False, True)
    [other] = differences([ID], [ID], ("id",), ())
    assert other.breaks_readers
    assert str(other) == "id: key id -> (none) (breaks readers and writers)"


@pytest.mark.parametrize(
    ("readers", "writers", "modes"),
    [(False, False, "NONE BACKWARD FULL"), (True, False, "NONE BACKWARD"), (False, True, "NONE"), (True, True, "NONE")],
)
def test_modes_allow_what_they_say(readers: bool, writers: bool, modes: str) -> None:
    """NONE allows all, BACKWARD what breaks no writer, FULL what breaks nobody."""
    one = Difference("c", "type", "a", "b", readers, writers)
    assert [m for m in ("NONE", "BACKWARD", "FULL") if one.allowed(m)] == modes.split()


def fits(rows: pa.Table, target: pa.Schema) -> bool:
    """Whether all rows can be written to a table of a schema."""
    try:
        return fit(to_reader(rows), target).read_all().num_rows == rows.num_rows
    except InvalidInputError:
        return False


@given(SIMPLE, SIMPLE)
def test_what_holds_is_what_fits(target: pa.DataType, source: pa.DataType) -> None:
    """A type holds another exactly when rows with the edges of that other fit a column of the type.

    But for decimals as integers and floats, and dates so far off that no timestamp has them: there the verdict is not what
    fits by chance.
    """
    rows, schema = edge_rows(pa.schema([("c", source)])), pa.schema([("c", target)])
    stored = fits(rows, schema)
    if holds(target, source):
        assert stored
    elif not pa.types.is_decimal(source) or pa.types.is_decimal(target):
        assert not stored


SCHEMAS = st.dictionaries(st.sampled_from("abcd"), st.tuples(TYPES, st.booleans()), min_size=1, max_size=4).map(
    lambda fields: pa.schema([pa.field(n, t, null) for n, (t, null) in fields.items()])
)


@st.composite
def changed(draw: st.DrawFn) -> tuple[pa.Schema, pa.Schema]:
    """A schema, and one that differs from it in some columns."""
    old, other = draw(SCHEMAS), draw(SCHEMAS)
    kept = [f for f in old if draw(st.integers(0, 3))]
    names = {f.name for f in kept}
    return old, pa.schema([*kept, *(f for f in other if f.name not in names)])


@given(changed())
def test_the_verdict_agrees_with_writing_and_reading(pair: tuple[pa.Schema, pa.Schema]) -> None:
    """Old rows fit the new table when no writer breaks, new rows fit old readers when no reader does."""
    old, new = pair
    found = differences(columns_of(old), columns_of(new))
    if not any(d.breaks_writers for d in found):
        assert fits(edge_rows(old), new)
    if not any(d.breaks_readers for d in found):
        assert fits(edge_rows(new).select(old.names), old)
    structural = [d for d in found if d.what in ("added", "removed", "nullable")]
    if any(d.breaks_writers for d in structural):
        assert not fits(edge_rows(old), new)
    if any(d.breaks_readers for d in structural):
        assert set(old.names) - set(new.names) or not fits(edge_rows(new).select(old.names), old)
