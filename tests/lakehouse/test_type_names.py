"""Names of types: what is written is read back as the same type."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.errors import InvalidInputError
from lakehouse.type_names import split_names, type_named, type_text
from tests.support.schemas import TYPES


@given(TYPES)
def test_names_lead_back_to_the_type(kind: pa.DataType) -> None:
    """Every plain type, however it nests, has a name that is read as exactly that type."""
    assert type_named(type_text(kind), "c") == kind


@given(TYPES)
def test_names_of_arrow_are_understood(kind: pa.DataType) -> None:
    """What `show` prints is read, too, as long as the names of fields are simple."""
    if '"' not in type_text(kind):
        assert type_named(str(kind), "c") == kind


@pytest.mark.parametrize(
    "name", ["intt", "list<>", "list<int64", "struct<a>", "map<int64>", "decimal(39,2)", "list<a, b>"]
)
def test_other_names_are_refused(name: str) -> None:
    """A name that is no type's is refused with the column."""
    with pytest.raises(InvalidInputError) as error:
        type_named(name, "price")
    assert error.value.kind == "type-unknown"
    assert "'price'" in error.value.message


@given(st.lists(TYPES.map(type_text), min_size=1))
def test_lists_of_names_are_split_at_their_commas(names: list[str]) -> None:
    """A comma inside brackets or quotes belongs to the name."""
    assert [part.strip() for part in split_names(", ".join(names))] == names
