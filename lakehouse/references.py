"""References: the one grammar for naming a state of a dataset, in Python, SQL, the command line and URLs.

    reference  =  [namespace "."] dataset ["@" selector]
    milestone  =  [namespace "."] name ["/" choice]           choice: latest (the default), v3, or a tag
    selector   =  "head"                 the newest commit; the default when there is no "@"
               |  "latest"               the newest published version
               |  "v" number             a published version, from v1
               |  "#" number             a table version, from #0
               |  date | time            the state at the start of that UTC day, or at that instant
               |  tag                    a tag or a data tag of the dataset (they share one space: its state decides)
               |  milestone "/" choice   as pinned by a milestone version; here the choice must be written
               |  "snap:" name           as pinned by a snapshot

    namespace, dataset    an ASCII letter or "_", then ASCII letters, digits, "_", "-"
    milestone name        an ASCII letter or digit, then letters, digits, "_", "-" (a dot would read as a namespace)
    tag, snapshot name    an ASCII letter or digit, then letters, digits, ".", "_", "-": v1.0.0, 2026-spring
    all names             at most 100 characters; they keep their case and are unique ignoring it
    number                ASCII digits without leading zeros, at most 2^63 - 1
    date                  YYYY-MM-DD
    time                  RFC 3339 with "Z" or an offset; "T" may be a space, seconds may be left out, digits beyond
                          microseconds are cut (no commit is timed finer, so this never changes the answer)

The keywords head, latest, v and snap: are read in any case. Nothing is trimmed: white space around a part is an error.
Without a namespace, datasets and milestones alike are looked up in `main`, not in the other's namespace.
Not tags, in any case: head, latest, numbers (3, v3, v03, version-3) and what looks like a date (2026-11-01, 2026-1-1).
Reserved words are refused where names are made (`check_*`), not where they are read: there they are just not found.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from string import ascii_letters, digits
from typing import NamedTuple, TypeVar
from urllib.parse import quote

from lakehouse.errors import InvalidInputError

DEFAULT_NAMESPACE = "main"
MAX_NAME_LENGTH = 100
MAX_NUMBER = 2**63 - 1  # a Delta table version is a signed 64-bit integer
RESERVED_NAMESPACES = frozenset({"lake", "system", "temp", "memory", "information_schema", "pg_catalog"})
RESERVED_DATASETS = frozenset({"milestone", "milestone_dataset", "data_tag_map"})

_REFERENCE_FORM = (
    "[namespace.]dataset[@selector], where the selector is head, latest, v3, #57, 2026-11-01, 2026-11-01T10:00:00Z, "
    "a tag or data tag, milestone/v3 or snap:name"
)
_MILESTONE_FORM = "[namespace.]milestone[/choice], where the choice is latest, v3 or a tag"
_NO_ZONE = "no zone, so it could mean any of a day's instants"


@dataclass(frozen=True, slots=True)
class Head:
    """The newest commit."""

    def __str__(self) -> str:
        return "head"


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest published version."""

    def __str__(self) -> str:
        return "latest"


@dataclass(frozen=True, slots=True)
class Version:
    """The published version with this number; the first is 1."""

    number: int

    def __str__(self) -> str:
        return f"v{self.number}"


@dataclass(frozen=True, slots=True)
class TableVersion:
    """The Delta table version with this number; the first is 0, so never test it by truth."""

    number: int

    def __str__(self) -> str:
        return f"#{self.number}"


@dataclass(frozen=True, slots=True)
class AsOf:
    """The state at an instant, kept in UTC.

    Raises:
        InvalidInputError: the time has no zone (time-naive).
    """

    time: datetime

    def __post_init__(self) -> None:
        if self.time.utcoffset() is None:
            raise InvalidInputError(
                "time-naive",
                f"The time {self.time.isoformat()} has {_NO_ZONE}: set its tzinfo, for UTC to datetime.UTC.",
            )
        object.__setattr__(self, "time", self.time.astimezone(UTC))

    def __str__(self) -> str:
        return self.time.isoformat().replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Named:
    """A tag or a data tag: which of the two it is, the dataset's state decides."""

    name: str

    def __str__(self) -> str:
        return self.name


MilestoneChoice = Version | Latest | Named


@dataclass(frozen=True, slots=True)
class MilestoneRef:
    """A version of a milestone."""

    namespace: str
    name: str
    selector: MilestoneChoice = field(default_factory=Latest)

    @property
    def key(self) -> str:
        """`namespace.name` with case folded: what a lookup compares."""
        return f"{self.namespace}.{self.name}".casefold()

    def __str__(self) -> str:
        return f"{self.namespace}.{self.name}/{self.selector}"


@dataclass(frozen=True, slots=True)
class InMilestone:
    """The table version that a milestone version pins."""

    namespace: str
    milestone: str
    selector: MilestoneChoice

    @property
    def ref(self) -> MilestoneRef:
        """The milestone version alone."""
        return MilestoneRef(self.namespace, self.milestone, self.selector)

    def __str__(self) -> str:
        return str(self.ref)


@dataclass(frozen=True, slots=True)
class InSnapshot:
    """The table version that a named snapshot pins."""

    name: str

    def __str__(self) -> str:
        return f"snap:{self.name}"


Selector = Head | Latest | Version | TableVersion | AsOf | Named | InMilestone | InSnapshot


@dataclass(frozen=True, slots=True)
class Reference:
    """A dataset at a selected state. Made by `parse`; `str` gives the canonical text, which parses to an equal value.

    The canonical text always carries namespace and selector, so that it means the same in every context.
    """

    namespace: str
    dataset: str
    selector: Selector = field(default_factory=Head)

    @property
    def name(self) -> str:
        """`namespace.dataset`, as written."""
        return f"{self.namespace}.{self.dataset}"

    @property
    def key(self) -> str:
        """`namespace.dataset` with case folded: what a lookup compares."""
        return self.name.casefold()

    @property
    def quoted(self) -> str:
        """The canonical text, percent-encoded for one segment of a URL."""
        return quote(str(self), safe="")

    def __str__(self) -> str:
        return f"{self.name}@{self.selector}"


def parse(text: str, *, default_namespace: str = DEFAULT_NAMESPACE) -> Reference:
    """Read a reference such as `vision.photos@v3`.

    Args:
        text: The reference; from a URL, already percent-decoded.
        default_namespace: For datasets and milestones that are written without one.

    Raises:
        InvalidInputError: the text breaks the grammar (reference-invalid) or holds a time without zone (time-naive).
    """
    return _read("reference", text, lambda t: _reference(t, default_namespace), _repair)


def parse_name(text: str, *, default_namespace: str = DEFAULT_NAMESPACE) -> tuple[str, str]:
    """Read `[namespace.]dataset` without a selector, into (namespace, dataset).

    Raises:
        InvalidInputError: the text is no name, or has a selector (reference-invalid).
    """
    return _read("dataset name", text, lambda t: _name(t, default_namespace), lambda t: _repair(t).partition("@")[0])


def parse_milestone_ref(text: str, *, default_namespace: str = DEFAULT_NAMESPACE) -> MilestoneRef:
    """Read a milestone version such as `spring`, `spring/v2`, `ns.spring/FINAL`; without a choice it is `latest`.

    Raises:
        InvalidInputError: the text breaks the grammar (reference-invalid).
    """
    return _read(
        "milestone",
        text,
        lambda t: _milestone(t, 0, default_namespace),
        lambda t: _repair(t, _MILESTONE_REPAIRS),
        _MILESTONE_FORM,
    )


def check_namespace(text: str) -> str:
    """Return the text if a namespace may be made with this name.

    Raises:
        InvalidInputError: name-invalid, name-reserved.
    """
    # Folders of our own lie beside those of the namespaces and start with an underscore.
    taken = text.lower() in RESERVED_NAMESPACES or text.startswith("_")
    words = f"{', '.join(sorted(RESERVED_NAMESPACES))} and what starts with '_'"
    return _check(text, _NAME, "namespace", ("name-invalid", "name-reserved"), words if taken else None)


def check_name(text: str, what: str = "dataset") -> str:
    """Return the text if a dataset (`what`, as the message calls it) may be made with this name, without namespace.

    Raises:
        InvalidInputError: name-invalid, name-reserved.
    """
    words = "Milestone, Milestone_Dataset and Data_Tag_Map" if text.lower() in RESERVED_DATASETS else None
    return _check(text, _NAME, f"{what} name", ("name-invalid", "name-reserved"), words)


def check_milestone_name(text: str) -> str:
    """Return the text if a milestone may be made with this name, without namespace.

    Raises:
        InvalidInputError: name-invalid, name-reserved.
    """
    return _check(text, _MILESTONE, "milestone name", ("name-invalid", "name-reserved"), _other_meaning(text))


def check_snapshot_name(text: str) -> str:
    """Return the text if a snapshot may be made with this name, without `snap:`.

    Raises:
        InvalidInputError: name-invalid.
    """
    return _check(text, _TAG, "snapshot name", ("name-invalid", "name-reserved"), None)


def check_tag(text: str) -> str:
    """Return the text if it may be a tag or a data tag.

    Raises:
        InvalidInputError: tag-invalid, tag-reserved.
    """
    return _check(text, _TAG, "tag", ("tag-invalid", "tag-reserved"), _other_meaning(text))


def _other_meaning(text: str) -> str | None:
    means = text.lower() in _KEYWORDS or _NUMBERED.fullmatch(text) or _DATE_LIKE.fullmatch(text)
    return "head, latest, numbers such as 3, v3 or version-3, and dates" if means else None


def _check(text: str, rule: _Rule, what: str, kinds: tuple[str, str], reserved: str | None) -> str:
    kind, reason = kinds[1], f"reserved, in any case, are {reserved}; choose another name"
    try:
        if _word(text, 0, rule, what) and reserved is None:
            return text
    except _GrammarError as error:
        kind, reason = kinds[0], error.reason
    raise InvalidInputError(kind, f"{_cut(text)!r} can't be a {what}: {reason}.", name=_cut(text))


# --- the strict grammar: these raise _GrammarError, the public functions turn it into the one error ---


class _GrammarError(Exception):
    """What is wrong, and where (an index into the whole text)."""

    def __init__(self, reason: str, at: int, kind: str = "reference-invalid") -> None:
        super().__init__(reason)
        self.reason, self.at, self.kind = reason, at, kind


class _Rule(NamedTuple):
    first: str
    rest: str
    words: str


_ALNUM = ascii_letters + digits
_NAME = _Rule(ascii_letters + "_", _ALNUM + "_-", "a letter or '_', then letters, digits, '_' and '-'")
_MILESTONE = _Rule(_ALNUM, _ALNUM + "_-", "a letter or digit, then letters, digits, '_' and '-'")
_TAG = _Rule(_ALNUM, _ALNUM + "._-", "a letter or digit, then letters, digits, '.', '_' and '-'")
_DIGITS = _Rule(digits, digits, "digits from 0 to 9")

# Keywords are compared by lower(): casefold() would also read the long s of "late\u017ft".
_KEYWORDS: dict[str, Head | Latest] = {"head": Head(), "latest": Latest()}
_NUMBERED = re.compile(r"(?:v|ver|version)?[-_.]?[0-9]+", re.IGNORECASE | re.ASCII)
_DATE_LIKE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt ].*)?", re.DOTALL)
_TIME = re.compile(
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[Tt ](?P<clock>(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]+)?)?)"
    r"(?P<zone>[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])?)?"
)


def _reference(text: str, default_namespace: str) -> Reference:
    name, at, selector = text.partition("@")
    namespace, dataset = _name(name, default_namespace)
    return Reference(namespace, dataset, _selector(selector, len(name) + 1, default_namespace) if at else Head())


def _name(
    text: str, default_namespace: str, rule: _Rule = _NAME, what: str = "dataset name", at: int = 0
) -> tuple[str, str]:
    namespace, dot, name = text.rpartition(".")
    if "." in namespace:
        raise _GrammarError(f"a {what} has at most one dot, which ends its namespace", at + len(namespace))
    if dot:
        _word(namespace, at, _NAME, "namespace")
    return namespace if dot else default_namespace, _word(name, at + len(namespace + dot), rule, what)


def _selector(text: str, at: int, default_namespace: str) -> Selector:
    if not text:
        raise _GrammarError("the selector after '@' is empty" if at else "it is empty", at)
    if text[0] == "#":
        return TableVersion(_number(text[1:], at + 1, "table version"))
    if text[:5].lower() == "snap:":
        return InSnapshot(_word(text[5:], at + 5, _TAG, "snapshot name"))
    if _DATE_LIKE.fullmatch(text):
        return AsOf(_time(text, at))
    if "/" in text:
        milestone = _milestone(text, at, default_namespace)
        return InMilestone(milestone.namespace, milestone.name, milestone.selector)
    return _KEYWORDS.get(text.lower()) or _version_or_tag(text, at)


def _milestone(text: str, at: int, default_namespace: str) -> MilestoneRef:
    name, slash, choice = text.partition("/")
    namespace, milestone = _name(name, default_namespace, _MILESTONE, "milestone name", at)
    if not slash or choice.lower() == "latest":
        return MilestoneRef(namespace, milestone)
    at += len(name) + 1
    if choice.lower() == "head" or choice[:1] == "#" or _DATE_LIKE.fullmatch(choice):
        raise _GrammarError("of a milestone only published versions can be chosen: latest, v3 or a tag", at)
    return MilestoneRef(namespace, milestone, _version_or_tag(choice, at))


def _version_or_tag(text: str, at: int) -> Version | Named:
    if not _NUMBERED.fullmatch(text):
        return Named(_word(text, at, _TAG, "tag"))
    if text[0] not in "vV" or not text[1:].isdigit():
        raise _GrammarError("a published version is written v3, a table version #57", at)
    if not (number := _number(text[1:], at + 1, "version")):
        raise _GrammarError("published versions start at v1 (table versions start at #0)", at)
    return Version(number)


def _number(text: str, at: int, what: str) -> int:
    _word(text, at, _DIGITS, f"{what} number")
    if text[0] == "0" and text != "0":
        raise _GrammarError(f"a {what} number has no leading zeros", at)
    if len(text) > len(str(MAX_NUMBER)) or int(text) > MAX_NUMBER:
        raise _GrammarError(f"the {what} number is larger than {MAX_NUMBER}", at)
    return int(text)


def _time(text: str, at: int) -> datetime:
    found = _TIME.fullmatch(text)
    if not found:
        raise _GrammarError("it starts like a date; write 2026-11-01, or as a time 2026-11-01T10:00:00Z", at)
    day, clock, zone = found["day"], found["clock"], found["zone"]
    if clock and not zone:
        raise _GrammarError(f"the time has {_NO_ZONE}; append Z for UTC or an offset such as +01:00", at, "time-naive")
    try:
        offset = zone if zone and zone not in "Zz" else "+00:00"
        return datetime.fromisoformat(f"{day}T{clock or '00:00'}{offset}").astimezone(UTC)
    except (ValueError, OverflowError):
        raise _GrammarError("in UTC that is no day between 0001-01-01 and 9999-12-31", at) from None


def _word(text: str, at: int, rule: _Rule, what: str) -> str:
    if not text:
        raise _GrammarError(f"the {what} is empty", at)
    for index, char in enumerate(text):
        if char not in (rule.rest if index else rule.first):
            where = "contain" if index else "start with"
            found = repr(char) if char.isascii() else f"{char!r} (U+{ord(char):04X})"
            raise _GrammarError(f"a {what} can't {where} {found} (it is {rule.words})", at + index)
    if len(text) > MAX_NAME_LENGTH:
        raise _GrammarError(f"a {what} has at most {MAX_NAME_LENGTH} characters, this one has {len(text)}", at)
    return text


# --- the one error, and what was probably meant ---

_T = TypeVar("_T")
_Repairs = tuple[tuple[str, str], ...]
_NUMBER_REPAIR = (r"([@/])(?:version|ver|v)?[-_. ]?0*([1-9][0-9]*)$", r"\1v\2")  # @3, @version-3, @v03
_REPAIRS: _Repairs = (
    (r"^\s+|\s+$", ""),
    (r"\s*@[\s@]*", "@"),  # photos @v3, photos@@v3
    (r"(?<=.)@$", ""),  # photos@
    (r"^([\w.-]+)#([0-9]+)$", r"\1@#\2"),  # photos#57
    # photos/v3, photos:spring/v2
    (r"^([\w.-]+)[:/\s]+((?:v|ver|version)?[-_. ]?[0-9]\S*|head|latest|\S+/\S+)$", r"\1@\2"),
    (r"^([\w.-]+)[:\s]+(\S+)$", r"\1@\2"),  # photos:FINAL
    (r"^([\w-]+)/([\w-]+)(?=@|$)", r"\1.\2"),  # vision/photos@v3
    (r"@snapshot[:/]", "@snap:"),
    (r"@#0+([0-9])", r"@#\1"),
    (r"@([0-9]{4})-([0-9])-", r"@\1-0\2-"),  # 2026-1-31
    (r"@([0-9]{4}-[0-9]{2})-([0-9])(?![0-9])", r"@\1-0\2"),
    (r"(:[0-9]{2}(?:\.[0-9]+)?) ([0-9]{2}:[0-9]{2})$", r"\1+\2"),  # a '+' that a URL turned into a space
    (r"([T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?)$", r"\1Z"),  # a naive time
    _NUMBER_REPAIR,
    (r"(@(?![0-9-]+ )[^\s/]+)\s+(\S+)$", r"\1/\2"),  # photos@spring v2
    _NUMBER_REPAIR,
)
_MILESTONE_REPAIRS: _Repairs = ((r"^[\s/@]+|[\s/@]+$", ""), (r"[@:/\s]+", "/"), _NUMBER_REPAIR)


def _repair(text: str, repairs: _Repairs = _REPAIRS) -> str:
    for pattern, to in repairs:
        text = re.sub(pattern, to, text, flags=re.IGNORECASE | re.ASCII)
    return text


def _read(
    noun: str, text: str, strict: Callable[[str], _T], repair: Callable[[str], str], form: str = _REFERENCE_FORM
) -> _T:
    if not isinstance(text, str):
        raise InvalidInputError("reference-invalid", f"A {noun} is text, found {type(text).__name__}. Write {form}.")
    try:
        return strict(text)
    except _GrammarError as error:
        meant = _meant(text, strict, repair)
        hint = f" Did you mean {meant!r}?" if meant else ""
        raise InvalidInputError(
            error.kind,
            f"{_cut(text)!r} is not a {noun}: {error.reason} (position {error.at + 1}).{hint} Write {form}.",
            reference=_cut(text),
            suggestion=meant,
        ) from None


def _meant(text: str, strict: Callable[[str], object], repair: Callable[[str], str]) -> str | None:
    # Longer text is no slip of the pen, and the patterns would be slow on it.
    repaired = repair(text) if len(text) <= 4 * MAX_NAME_LENGTH else text
    with suppress(_GrammarError):
        strict(repaired)
        return repaired
    return None


def _cut(text: str) -> str:
    # Arguments of a process that are not UTF-8 hold lone surrogates, which no output could encode.
    return (text if len(text) <= 120 else text[:117] + "...").encode("utf-8", "backslashreplace").decode()
