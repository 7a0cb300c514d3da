"""Declaration files: what a dataset's owner declares about it as YAML, for keeping under version control.

dataset: vision.photos
milestones: [vision.spring]       # that it is a member of; may be left out
checks:
  - {kind: unique, columns: [path]}
  - {kind: accepted_values, column: label, values: [cat, dog], severity: warning, name: labels_known}
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catalog.check_kinds import KINDS
from catalog.declarations import read_yaml
from lakehouse.decisions import CheckDefinition
from lakehouse.decisions.checks import Severity
from lakehouse.errors import InvalidInputError, suggest

_OWN = ("kind", "name", "column", "columns", "severity")


@dataclass(frozen=True, slots=True)
class Declared:
    """A check as its owner wrote it down."""

    name: str
    kind: str
    columns: tuple[str, ...]
    parameters: dict[str, Any]
    severity: Severity


@dataclass(frozen=True, slots=True)
class DeclarationFile:
    """What a file declares."""

    dataset: str
    checks: list[Declared]
    milestones: list[str]


def parse_declarations(path: Path, default_name: Callable[[str, Sequence[str]], str]) -> DeclarationFile:
    """Return what a file declares of a dataset.

    Args:
        default_name: Names a check without a name by its kind and columns.
    Raises:
        NotFoundError: there is no such file (file-not-found).
        InvalidInputError: it is no YAML, or not of the form above (checks-file-invalid).
    """
    found = read_yaml(path, lambda what: _invalid(path, what))
    needed = {"dataset", "checks"}
    if not isinstance(found, dict) or set(found) - {"milestones"} != needed or not isinstance(found["dataset"], str):
        raise _invalid(
            path, "it needs `dataset`, a name, and `checks`, a list, may have `milestones`, and nothing else"
        )
    milestones = found.get("milestones", [])
    if not isinstance(milestones, list) or not all(isinstance(name, str) for name in milestones):
        raise _invalid(path, "`milestones` is not a list of names")
    if not isinstance(found["checks"], list):
        raise _invalid(path, "`checks` is not a list")
    declared = [_declared(path, n, entry, default_name) for n, entry in enumerate(found["checks"], 1)]
    names = [one.name.casefold() for one in declared]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise _invalid(path, f"two checks are named {repeated!r}; give them a `name` each")
    return DeclarationFile(found["dataset"], declared, milestones)


def _declared(path: Path, number: int, entry: Any, default_name: Callable[[str, Sequence[str]], str]) -> Declared:
    if not isinstance(entry, dict) or not isinstance(entry.get("kind"), str):
        raise _invalid(path, f"check {number} is not an object with a `kind`")
    columns = entry.get("columns", [entry["column"]] if "column" in entry else [])
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        raise _invalid(path, f"the columns of check {number} are not a list of names")
    name = entry.get("name", default_name(entry["kind"], columns))
    parameters = {key: value for key, value in entry.items() if key not in _OWN}
    known = [*_OWN, *KINDS[entry["kind"]].parameters] if entry["kind"] in KINDS else list(parameters)
    unknown = next((key for key in parameters if key not in known), None)
    if unknown is not None:
        shown = f"check {number} ({entry.get('name', entry['kind'])})"
        near = suggest(str(unknown), known)
        raise _invalid(
            path, f"{shown} has the unknown key {unknown!r}.{near} Keys of {entry['kind']}: {', '.join(known)}"
        )
    if not isinstance(name, str) or not all(isinstance(key, str) for key in parameters):
        raise _invalid(path, f"a name in check {number} is not a text")
    return Declared(name, entry["kind"], tuple(columns), parameters, entry.get("severity", "error"))


def dump_checks(dataset: str, definitions: Sequence[CheckDefinition]) -> str:
    """Return the declaration file of a dataset's checks."""
    import yaml

    checks = [
        {"kind": c.kind, "name": c.name}
        | ({"columns": list(c.columns)} if c.columns else {})
        | dict(c.parameters)
        | ({"severity": c.severity} if c.severity != "error" else {})
        for c in definitions
    ]
    text: str = yaml.safe_dump({"dataset": dataset, "checks": checks}, sort_keys=False, allow_unicode=True)
    return text


def _invalid(path: Path, what: str) -> InvalidInputError:
    return InvalidInputError(
        "checks-file-invalid", f"{path} does not declare checks: {what}. See docs/checks.md.", path=str(path)
    )


__all__ = ["DeclarationFile", "Declared", "dump_checks", "parse_declarations"]
