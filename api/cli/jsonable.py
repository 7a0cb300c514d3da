"""JSON as programs may rely on: no number that a reader would silently round, no value that JSON has no word for."""

from __future__ import annotations

import json
import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

SAFE_INTEGER = 2**53
"""Integers beyond it are strings: a reader with doubles would round them."""


def jsonable(value: Any, *, where: str = "", nans: list[str] | None = None) -> Any:
    """Return a value in JSON's types.

    Integers beyond 2^53 and decimals become strings, bytes base64, times RFC 3339 (UTC as `Z`; a time without zone
    stays without), durations seconds, infinities the strings "Infinity" and "-Infinity", and NaN null.

    Args:
        where: The value's path, for `nans`.
        nans: Takes the paths of the values that were NaN.
    """
    match value:
        case None | bool() | str():
            return value
        case int():
            return value if -SAFE_INTEGER <= value <= SAFE_INTEGER else str(value)
        case float():
            return _float(value, where, nans)
        case Decimal():
            return format(value, "f")
        case bytes():
            return b64encode(value).decode()
        case datetime():
            return _time(value)
        case date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case Mapping():
            dotted = f"{where}." if where else ""
            return {str(k): jsonable(v, where=f"{dotted}{k}", nans=nans) for k, v in value.items()}
        case Path():
            return str(value)
        case Sequence() | set() | frozenset():
            return [jsonable(v, where=f"{where}[{i}]", nans=nans) for i, v in enumerate(value)]
    if is_dataclass(value) and not isinstance(value, type):
        return jsonable(asdict(value), where=where, nans=nans)
    return str(value)


def jsonable_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of data in JSON's types; a row with NaN says where under the key `_nan`, as their null would lie."""
    nans: list[str] = []
    plain: dict[str, Any] = jsonable(row, nans=nans)
    return plain | {"_nan": nans} if nans else plain


def dumps(value: Any, indent: int | None = None) -> str:
    """Return the JSON text of a value."""
    return json.dumps(jsonable(value), ensure_ascii=False, indent=indent, allow_nan=False)


def _float(value: float, where: str, nans: list[str] | None) -> float | str | None:
    if math.isnan(value):
        if nans is not None:
            nans.append(where)
        return None
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def _time(value: datetime) -> str:
    if value.tzinfo is None:
        return value.isoformat()
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
