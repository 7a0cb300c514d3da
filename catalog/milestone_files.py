"""Declaration files of milestones, for keeping under version control.

milestone: spring
datasets: [customers, orders]
data_tags: [FINAL]
links: ["orders.customer_id -> customers.id"]
checks: [emails_known]
advance: any
policy: automatic
description: what the recommender is trained on
notify:
  - {name: team, url: "https://example.org/hook", events: [milestone.published], secret_env: HOOK_KEY}
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from catalog.declarations import read_yaml
from catalog.milestones import define_milestone
from catalog.notifications import Target, check_target, subscribe_all
from lakehouse.decisions import Milestone
from lakehouse.errors import InvalidInputError
from lakehouse.lake import Lake

_LISTS = ("datasets", "data_tags", "links", "checks")
_CHOICES = {"advance": ("any", "all"), "policy": ("automatic", "manual")}
_KNOWN = ("milestone", *_LISTS, *_CHOICES, "description", "notify")
_TARGET = {"name", "url", "events", "secret_env"}


def load_milestone(lake: Lake, path: str | Path, *, message: str | None = None) -> Milestone:
    """Define a milestone as a YAML file of the form above says; what it leaves out stays as it is.

    Whom it notifies is told from then on, too; a subscription that the file names no more stays until `unsubscribe`.

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
    targets = [_target(file, n, entry) for n, entry in enumerate(found.pop("notify", []), 1)]
    for target in targets:
        check_target(target)
    given: dict[str, Any] = {key: value for key, value in found.items() if key not in ("milestone", "datasets")}
    made = define_milestone(lake, found["milestone"], found["datasets"], message=message, **given)
    if targets:
        subscribe_all(lake, made.full_name, targets)
    return made


def _target(file: Path, number: int, entry: Any) -> Target:
    known = isinstance(entry, dict) and {"name", "url"} <= set(entry) <= _TARGET
    events = entry.get("events", []) if known else []
    texts = (
        [*events, *(entry[key] for key in entry if key != "events")] if known and isinstance(events, list) else [None]
    )
    if not all(isinstance(text, str) for text in texts):
        raise _invalid(file, f"entry {number} of `notify` is not {{name, url}} with `events`, a list, and `secret_env`")
    return Target(entry["name"], entry["url"], tuple(events), entry.get("secret_env", ""))


def _check(file: Path, key: Any, value: Any) -> None:
    if key not in _KNOWN:
        raise _invalid(file, f"it has {key!r}; known are {', '.join(_KNOWN)}")
    if key == "notify":
        if not isinstance(value, list):
            raise _invalid(file, "`notify` is not a list")
    elif key in _LISTS:
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
