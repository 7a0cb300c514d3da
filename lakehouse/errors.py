"""The one error tree.

The class says what the caller can do about it, the `kind` says exactly what happened. Kinds are
append-only: programs compare them. Every message names the thing, what was found and what to do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any


class LakeError(Exception):
    """Base of every error that this project raises on purpose.

    Args:
        kind: Exact cause as a stable hyphenated code, such as `dataset-not-found`.
        message: One sentence or two for a person: the thing, what was found, what to do.
        context: JSON-compatible values for programs. Never a secret and never a row value.
    """

    def __init__(self, kind: str, message: str, **context: Any) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.context: dict[str, Any] = context

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.kind, self.message, self.context))


def _rebuild(cls: type[LakeError], kind: str, message: str, context: Mapping[str, Any]) -> LakeError:
    return cls(kind, message, **context)


class NotFoundError(LakeError, LookupError):
    """Something named does not exist: check the name."""


class InvalidInputError(LakeError, ValueError):
    """The input is wrong: correct it and call again."""


class AccessDeniedError(LakeError, PermissionError):
    """The caller may not do this: ask for a grant or other credentials."""


class ConflictError(LakeError):
    """Somebody else changed the same thing: read again, decide again."""


class StateError(LakeError):
    """The thing is in a state that forbids this: change the state first."""


class StorageError(LakeError):
    """The store failed or can't do what is needed: retry later or repair it."""


class FormatError(LakeError):
    """Stored data can't be read as it is, or needs a feature that we refuse: see the message."""


class InternalError(LakeError):
    """A bug in this project: please report it."""


def suggest(name: str, known: Iterator[str] | list[str] | set[str]) -> str:
    """Return a sentence that names close matches of `name`, or an empty string when there is none."""
    by_fold = {entry.casefold(): entry for entry in known}
    close = get_close_matches(name.casefold(), list(by_fold), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(repr(by_fold[c]) for c in close)}?" if close else ""


def missing_extra(module: str, extra: str) -> InvalidInputError:
    """Return the error for an optional dependency that is not installed; it names the install command."""
    return InvalidInputError(
        "extra-missing",
        f"This needs the package {module!r}, which is not installed. Install it with: pip install 'lakehouse[{extra}]'",
        module=module,
        extra=extra,
    )


# Words in the class name and message of a foreign error -> (our class, kind). The first match wins.
_FOREIGN: tuple[tuple[re.Pattern[str], type[LakeError], str], ...] = tuple(
    (re.compile(words), cls, kind)
    for words, cls, kind in (
        (
            r"access ?denied|forbidden|permission ?denied|permissionerror|invalidaccesskey|signaturedoesnotmatch",
            AccessDeniedError,
            "storage-denied",
        ),
        (r"^outofmemory|out of memory error", StorageError, "memory-full"),
        (r"no space left|disk quota|storagefull", StorageError, "storage-full"),
        (r"nosuchbucket|bucket does not exist|no such bucket", StorageError, "bucket-not-found"),
        (r"filenotfound|not found|no such file|nosuchkey|\b404\b", StorageError, "object-not-found"),
        (
            r"timed out|timeout|connection|connect error|error sending request|response body|\bdns\b|\b50[0234]\b|slow ?down",
            StorageError,
            "storage-unavailable",
        ),
    )
)
# `_internal` is where deltalake's exceptions say they come from. Builtin exceptions other than OSError are bugs.
_FOREIGN_MODULES = frozenset(
    {"deltalake", "_internal", "obstore", "botocore", "s3fs", "aiobotocore", "duckdb", "_duckdb", "pyarrow", "polars"}
)

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@contextmanager
def translated(doing: str, **context: Any) -> Iterator[None]:
    """Turn foreign exceptions (deltalake, obstore, s3fs, pyarrow, polars, OS) into ours, at one boundary.

    Args:
        doing: What was being done, for the message: "reading the log of vision.photos".
        context: Put into the error's context.
    Raises:
        AccessDeniedError: the store refused the credentials (storage-denied).
        StorageError: anything else that the store or the disk reported (storage-full, storage-unavailable,
            bucket-not-found, object-not-found, storage-failed), or no memory was left for it (memory-full).
    """
    try:
        yield
    except LakeError:
        raise
    except Exception as error:
        if not isinstance(error, OSError) and type(error).__module__.split(".")[0] not in _FOREIGN_MODULES:
            raise
        text = f"{type(error).__name__} {error}".lower()
        cls, kind = next(((c, k) for words, c, k in _FOREIGN if words.search(text)), (StorageError, "storage-failed"))
        what = "The memory did not suffice" if kind == "memory-full" else "The store failed"
        raise cls(kind, f"{what} while {doing}: {_told(error)}", **context) from error


def _told(error: Exception) -> str:
    """Return a foreign error's first line with the chain of causes below it; other lines may quote data or secrets."""
    lines = _COLOUR.sub("", str(error)).strip().splitlines() or [type(error).__name__]
    causes = [line.strip().removeprefix("↳").strip() for line in lines[1:] if line.strip().startswith("↳")]
    text = ": ".join([lines[0].strip(), *causes])
    if len(text) <= 400:
        return text
    last = causes[-1][:200] if causes else ""
    return f"{text[: 400 - len(last)]} ... {last}".rstrip(" .")
