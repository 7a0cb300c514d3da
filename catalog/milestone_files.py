"""Declaration files of milestones, for keeping under version control.

milestone: spring
datasets: [customers, orders]
data_tags: [FINAL]
links: ["orders.customer_id -> customers.id"]
checks: [emails_known]
advance: any
policy: automatic
description: what the recommender is trained on
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from catalog.declarations import read_yaml
from catalog.milestones import define_milestone
from lakehouse.decisions import Milestone
from lakehouse.errors import InvalidInputError
from lakehouse.lake import Lake

_LISTS = ("datasets", "data_tags", "links", "checks")
_CHOICES = {"advance": ("any", "all"), "policy": ("automatic", "manual")}
_KNOWN = ("milestone", *_LISTS, *_CHOICES, "description")


def load_milestone(lake: Lake, path: str | Path, *, message: str | None = None) -> Milestone:
    """Define a milestone as a YAML file of the form above says; what it leaves out stays as it is.

    Raises:
        NotFoundError: there is no such file (file-not-found), or a member does not exist.
        InvalidInputError: it is no YAML, or not of that form (milestone-file-invalid); as `define_milestone`.
    """
    file = Path(path)
    found = read_yaml(file, lambda what: _invalid(file, what))
    if not isinstance(found, dict) or not isinstance(found.get("milestone"), str) or "datasets" not in found:
        raise _invalid(file, "it needs `milestone`, a name, and `datasets`, a list")
    for key, value in found.items():
        _check(file, key, value)
    given: dict[str, Any] = {key: value for key, value in found.items() if key not in ("milestone", "datasets")}
    return define_milestone(lake, found["milestone"], found["datasets"], message=message, **given)


def _check(file: Path, key: Any, value: Any) -> None:
    if key not in _KNOWN:
        raise _invalid(file, f"it has {key!r}; known are {', '.join(_KNOWN)}")
    if key in _LISTS:
        if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
            raise _invalid(file, f"`{key}` is not a list of texts")
    elif key in _CHOICES:
        if value not in _CHOICES[key]:
            raise _invalid(file, f"`{key}` is {value!r}; it can be {' or '.join(_CHOICES[key])}")
    elif not isinstance(value, str):
        raise _invalid(file, f"`{key}` is not a text")


def _invalid(path: Path, what: str) -> InvalidInputError:
    return InvalidInputError(
        "milestone-file-invalid",
        f"{path} does not declare a milestone: {what}. See docs/owners.md.",
        path=str(path),
    )


__all__ = ["load_milestone"]
