"""Fitting data to a table: what may be cast, and what would lose something."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from lakehouse.errors import InvalidInputError
from lakehouse.schema import fit, to_reader

F32, F64 = pa.float32(), pa.float64()
NARROWED = [
    pytest.param(F64, F32, 0.5, 0.1, id="plain"),
    pytest.param(pa.list_(F64), pa.list_(pa.field("element", F32)), [0.5, None], [0.5, 0.1], id="list"),
    pytest.param(pa.list_(F64, 2), pa.list_(pa.field("element", F32)), [0.5, 1.0], [0.5, 0.1], id="vector"),
    pytest.param(pa.struct([("x", F64)]), pa.struct([("x", F32)]), {"x": 0.5}, {"x": 0.1}, id="struct"),
    pytest.param(pa.dictionary(pa.int32(), F64), F32, 0.5, 0.1, id="dictionary"),
]


@pytest.mark.parametrize(("given", "stored", "exact", "inexact"), NARROWED)
def test_doubles_must_fit_into_floats(given: pa.DataType, stored: pa.DataType, exact: Any, inexact: Any) -> None:
    """Doubles that a narrower column holds exactly go in, with null; others are refused instead of rounded."""
    target = pa.schema([("x", stored)])
    fits = pa.table({"x": pa.array([exact, None], given)})
    assert fit(to_reader(fits), target).read_all().column("x").to_pylist() == [exact, None]
    with pytest.raises(InvalidInputError) as caught:
        fit(to_reader(pa.table({"x": pa.array([exact, inexact], given)})), target).read_all()
    assert caught.value.kind == "value-invalid"


def test_special_doubles_fit_into_floats() -> None:
    """NaN, the infinities and a negative zero lose nothing."""
    values = [float("nan"), float("inf"), float("-inf"), -0.0]
    found = fit(to_reader(pa.table({"x": values})), pa.schema([("x", F32)])).read_all().column("x").to_pylist()
    assert str(found) == str(values)
