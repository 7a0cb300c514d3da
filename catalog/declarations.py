"""Declaration files: what people keep under version control as YAML - checks of a dataset, a milestone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lakehouse.errors import InvalidInputError, NotFoundError, translated


def read_yaml(path: Path, invalid: Callable[[str], InvalidInputError]) -> Any:
    """Return what a YAML file holds.

    Args:
        invalid: Makes the error for a file that is not what it should be, from a clause such as `it is not YAML`.
    Raises:
        NotFoundError: there is no such file (file-not-found).
        InvalidInputError: it is no YAML; what `invalid` makes.
    """
    import yaml

    with translated(f"reading {path}"):
        try:
            text = path.read_text(encoding="utf-8")
        except (FileNotFoundError, IsADirectoryError) as error:
            raise NotFoundError("file-not-found", f"There is no file {path}.") from error
        except UnicodeDecodeError as error:
            raise invalid("it is not UTF-8") from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise invalid("it is not YAML" + (f", see line {mark.line + 1}" if mark else "")) from error


__all__ = ["read_yaml"]
