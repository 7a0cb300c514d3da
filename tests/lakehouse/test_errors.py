"""The error tree: what programs may rely on, and the one boundary where foreign errors become ours."""

from __future__ import annotations

import errno
import pickle

import pyarrow as pa
import pytest
from deltalake.exceptions import DeltaError
from hypothesis import given
from hypothesis import strategies as st

from lakehouse import errors
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
    suggest,
    translated,
)

CLASSES = [
    AccessDeniedError,
    ConflictError,
    FormatError,
    InternalError,
    InvalidInputError,
    NotFoundError,
    StateError,
    StorageError,
]
BUILTIN = {AccessDeniedError: PermissionError, InvalidInputError: ValueError, NotFoundError: LookupError}


@pytest.mark.parametrize("cls", CLASSES)
def test_tree(cls: type[LakeError]) -> None:
    """Every class is a LakeError, carries kind, message and context, and reads as its message."""
    error = cls("some-kind", "Something is 'wrong'.", dataset="a.b", number=3)
    assert isinstance(error, LakeError)
    assert isinstance(error, BUILTIN.get(cls, Exception))
    assert (error.kind, error.message, error.context) == (
        "some-kind",
        "Something is 'wrong'.",
        {"dataset": "a.b", "number": 3},
    )
    assert str(error) == error.message


def test_classes_are_all_known() -> None:
    """The list above has every class of the module, so that a new one is tested too."""
    defined = {c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, LakeError)}
    assert defined == {*CLASSES, LakeError}


@given(
    cls=st.sampled_from(CLASSES),
    message=st.text(),
    context=st.dictionaries(st.text(min_size=1).filter(lambda k: k not in {"kind", "message", "self"}), st.integers()),
)
def test_pickles(cls: type[LakeError], message: str, context: dict[str, int]) -> None:
    """An error comes back from another process as it went."""
    error = cls("a-kind", message, **context)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is cls
    assert (copy.kind, copy.message, copy.context, str(copy)) == ("a-kind", message, context, str(error))


@pytest.mark.parametrize(
    ("foreign", "cls", "kind"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "x"), StorageError, "object-not-found"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), AccessDeniedError, "storage-denied"),
        (OSError(errno.ENOSPC, "No space left on device"), StorageError, "storage-full"),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), StorageError, "storage-unavailable"),
        (TimeoutError(), StorageError, "storage-unavailable"),
        (OSError("anything else"), StorageError, "storage-failed"),
        (OSError("part-00404-a503.parquet is broken"), StorageError, "storage-failed"),
        (DeltaError("Generic S3 error: status 503 Slow Down"), StorageError, "storage-unavailable"),
        (DeltaError("NoSuchBucket: The bucket does not exist"), StorageError, "bucket-not-found"),
        (DeltaError("Forbidden: SignatureDoesNotMatch"), AccessDeniedError, "storage-denied"),
        (OSError("Out of Memory Error: could not allocate block of size 121.3 MiB"), StorageError, "memory-full"),
        (pa.ArrowInvalid("Parquet magic bytes not found"), StorageError, "object-not-found"),
    ],
)
def test_foreign_errors_are_translated(foreign: Exception, cls: type[LakeError], kind: str) -> None:
    """Errors of stores and of the libraries that speak to them get our class and kind; the cause stays attached."""
    with pytest.raises(LakeError) as caught, translated("reading a thing", dataset="a.b"):
        raise foreign
    assert (type(caught.value), caught.value.kind, caught.value.context) == (cls, kind, {"dataset": "a.b"})
    assert "while reading a thing" in str(caught.value)
    assert caught.value.__cause__ is foreign


@pytest.mark.parametrize(
    "own", [ValueError("bug"), KeyError("bug"), TypeError("bug"), IndexError(), ZeroDivisionError(), RuntimeError()]
)
def test_bugs_pass_through(own: Exception) -> None:
    """A mistake in code, ours or a caller's, is not dressed up as a failure of the store."""
    with pytest.raises(type(own)) as caught, translated("reading a thing"):
        raise own
    assert caught.value is own


def test_own_errors_pass_through() -> None:
    """Boundaries nest: an error of ours is not translated again, not even one that is an OSError."""
    for own in (AccessDeniedError("x", "y"), StorageError("x", "y")):
        with pytest.raises(LakeError) as caught, translated("outer"), translated("inner"):
            raise own
        assert caught.value is own


def test_long_foreign_messages_are_cut() -> None:
    """Of a message with a backtrace only the first line, cut, is told."""
    with pytest.raises(StorageError) as caught, translated("reading"):
        raise DeltaError("Kernel error: " + "x" * 1000 + "\n   0: <unknown>\n")
    assert len(str(caught.value)) < 500
    assert "unknown" not in str(caught.value)


def test_suggestions() -> None:
    """Close names are suggested in their own case; nothing is made up when none is close."""
    assert suggest("PHOTO", ["photos", "Photos2", "zebra"]).startswith(" Did you mean 'photos'")
    assert suggest("xyz", ["photos"]) == ""
    assert suggest("xyz", []) == ""


def test_missing_extra_says_how_to_install() -> None:
    """The install command is in the message."""
    error = missing_extra("PIL", "jobs")
    assert error.kind == "extra-missing"
    assert "pip install 'lakehouse[jobs]'" in str(error)


def test_the_last_cause_is_told() -> None:
    """Of a chain of causes the last one is told, which says what went wrong, and no terminal colours."""
    chain = (
        "Kernel error -> Generic S3 error\n   \x1b[31m↳\x1b[0m HTTP error\n    \x1b[31m↳\x1b[0m Connection refused\n"
    )
    for padding in ("", " " + "x" * 1000):
        with pytest.raises(StorageError) as caught, translated("reading"):
            raise OSError(chain.replace("HTTP error", "HTTP error" + padding))
        assert str(caught.value).endswith("Connection refused")
        assert "\x1b" not in str(caught.value)
        assert len(str(caught.value)) < 500
