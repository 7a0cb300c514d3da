"""Spans of time as people write them: `30m`, `12h`, `90d`, `4w`."""

from __future__ import annotations

import re
from datetime import timedelta

from lakehouse.errors import InvalidInputError

_SPANS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_span(text: str | timedelta, what: str) -> timedelta:
    """Return the span that a text names; `0` is none.

    Args:
        what: What it is given for, for the message: `--keep`.
    Raises:
        InvalidInputError: it is no span, or a negative one (span-invalid).
    """
    if isinstance(text, timedelta):
        found = text
    elif text == "0":
        found = timedelta()
    else:
        match = re.fullmatch(r"([0-9]{1,5})([mhdw])", text)
        found = timedelta(**{_SPANS[match[2]]: int(match[1])}) if match else timedelta(days=-1)
    if found < timedelta():
        raise InvalidInputError("span-invalid", f"{what}: {text!r} is no span of time. Write 0, 30m, 12h, 90d or 4w.")
    return found
