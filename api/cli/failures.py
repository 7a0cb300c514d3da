"""Errors as people, programs and shells see them: one table from error classes to exit codes."""

from __future__ import annotations

import typer

from api.cli.call import Call
from api.cli.output import print_json
from lakehouse.errors import (
    AccessDeniedError,
    ConflictError,
    FormatError,
    InternalError,
    InvalidInputError,
    LakeError,
    NotFoundError,
    StateError,
    StorageError,
    missing_extra,
)

EXIT_CODES: dict[type[LakeError], int] = {
    InternalError: 1,
    InvalidInputError: 2,
    NotFoundError: 3,
    AccessDeniedError: 4,
    ConflictError: 5,
    StateError: 5,
    StorageError: 6,
    FormatError: 6,
}

_EXTRAS = {"PIL": "jobs", "scipy": "jobs", "rich": "api", "sklearn": "demo"}
"""Packages that a command may find missing, and the extra that installs each."""


def report(call: Call, error: Exception) -> int:
    """Print an error, for programs on stdout and for people on stderr, and return the exit code.

    Returns:
        A code of `EXIT_CODES`; 1 also for what is no error of ours.
    """
    ours = _ours(error)
    if call.json:
        print_json({"error": {"kind": ours.kind, "message": ours.message, "context": ours.context}})
    else:
        typer.secho("Error", fg=typer.colors.RED, bold=True, err=True, nl=False)
        typer.echo(f" ({ours.kind}): {ours.message}", err=True)
    return EXIT_CODES.get(type(ours), 1)


def _ours(error: Exception) -> LakeError:
    if isinstance(error, LakeError):
        return error
    package = (error.name or "").split(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if package in _EXTRAS:
        return missing_extra(package, _EXTRAS[package])
    return InternalError("internal-error", f"{type(error).__name__}: {error}")
