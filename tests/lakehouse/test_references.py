"""The reference grammar: what is read, what is refused and how, and that the canonical text is stable."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from string import ascii_letters, digits
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lakehouse.errors import InvalidInputError
from lakehouse.references import (
    AsOf,
    Head,
    InMilestone,
    InSnapshot,
    Latest,
    MilestoneRef,
    Named,
    Reference,
    Selector,
    TableVersion,
    Version,
    check_milestone_name,
    check_name,
    check_namespace,
    check_snapshot_name,
    check_tag,
    parse,
    parse_milestone_ref,
    parse_name,
)


def utc(*parts: int) -> AsOf:
    """Return the selector of an instant in UTC."""
    return AsOf(datetime(*parts, tzinfo=UTC))  # type: ignore[misc, arg-type]


GOOD_SELECTORS: list[tuple[str, Selector]] = [
    ("head", Head()),
    ("HEAD", Head()),
    ("Latest", Latest()),
    ("v3", Version(3)),
    ("V3", Version(3)),
    (f"v{2**63 - 1}", Version(2**63 - 1)),
    ("#0", TableVersion(0)),
    ("#57", TableVersion(57)),
    ("2026-11-01", utc(2026, 11, 1)),
    ("0001-01-01", utc(1, 1, 1)),
    ("2024-02-29", utc(2024, 2, 29)),
    ("2026-11-01T10:00:00Z", utc(2026, 11, 1, 10)),
    ("2026-11-01t10:00:00z", utc(2026, 11, 1, 10)),
    ("2026-11-01 10:00:00Z", utc(2026, 11, 1, 10)),
    ("2026-11-01T10:00Z", utc(2026, 11, 1, 10)),
    ("2026-11-01T00:30:00+02:00", utc(2026, 10, 31, 22, 30)),
    ("2026-11-01T10:00:00-00:00", utc(2026, 11, 1, 10)),
    ("2026-11-01T10:00:00.5Z", utc(2026, 11, 1, 10, 0, 0, 500_000)),
    ("2026-11-01T10:00:00.123456999Z", utc(2026, 11, 1, 10, 0, 0, 123_456)),
    ("FINAL", Named("FINAL")),
    ("v1.0.0", Named("v1.0.0")),
    ("1.0", Named("1.0")),
    ("2026-spring", Named("2026-spring")),
    ("2026-11", Named("2026-11")),
    ("headless", Named("headless")),
    ("vacation", Named("vacation")),
    ("t" * 100, Named("t" * 100)),
    ("spring/v2", InMilestone("main", "spring", Version(2))),
    ("ns.spring/LATEST", InMilestone("ns", "spring", Latest())),
    ("2026-spring/FINAL", InMilestone("main", "2026-spring", Named("FINAL"))),
    ("snap:run-20-nov", InSnapshot("run-20-nov")),
    ("SNAP:2026-11-01", InSnapshot("2026-11-01")),
]


@pytest.mark.parametrize(("text", "selector"), GOOD_SELECTORS)
def test_good_selector(text: str, selector: Selector) -> None:
    """Every documented form is read to its typed value, behind a dataset."""
    assert parse(f"vision.photos@{text}") == Reference("vision", "photos", selector)


def test_defaults() -> None:
    """A bare name is head of the default namespace, which holds for a milestone written without one too."""
    assert parse("photos") == Reference("main", "photos", Head())
    assert parse("photos@spring/v2", default_namespace="ns") == Reference(
        "ns", "photos", InMilestone("ns", "spring", Version(2))
    )
    assert parse("vision.photos@spring/v2").selector == InMilestone("main", "spring", Version(2))


def test_names_of_a_reference() -> None:
    """A reference keeps the case that was written, compares by its folded key, and is one URL segment when quoted."""
    reference = parse("Vision.Photos_2-b@ns.Spring/FINAL")
    assert (reference.name, reference.key) == ("Vision.Photos_2-b", "vision.photos_2-b")
    assert str(reference) == "Vision.Photos_2-b@ns.Spring/FINAL"
    assert parse_milestone_ref("ns.Spring/FINAL").key == "ns.spring"
    assert reference.quoted == "Vision.Photos_2-b%40ns.Spring%2FFINAL"
    assert str(parse("photos")) == "main.photos@head"
    assert str(parse("photos@2026-11-01")) == "main.photos@2026-11-01T00:00:00Z"


BAD: list[tuple[str, str, str | None]] = [
    # text, words of the message, what is suggested
    ("", "the dataset name is empty (position 1)", None),
    ("@v3", "the dataset name is empty (position 1)", None),
    (".photos", "the namespace is empty (position 1)", None),
    ("vision.", "the dataset name is empty (position 8)", None),
    ("a.b.c@v3", "at most one dot", None),
    ("3photos", "can't start with '3'", None),
    ("x" * 101, "at most 100 characters, this one has 101", None),
    ("phötos", "can't contain 'ö' (U+00F6)", None),
    ("photos@", "the selector after '@' is empty (position 8)", "photos"),
    (" photos ", "can't start with ' '", "photos"),
    ("photos\n", "can't contain '\\n'", "photos"),
    ("photos @v3", "can't contain ' '", "photos@v3"),
    ("photos@ v3", "can't start with ' '", "photos@v3"),
    ("photos@@v3", "can't start with '@'", "photos@v3"),
    ("photos@v1@v2", "can't contain '@' (it is", None),
    (
        "photos:v3",
        "can't contain ':' (it is a letter or '_', then letters, digits, '_' and '-') (position 7)",
        "photos@v3",
    ),
    ("photos:FINAL", "can't contain ':'", "photos@FINAL"),
    ("photos/v3", "can't contain '/'", "photos@v3"),
    ("photos/spring/v2", "can't contain '/'", "photos@spring/v2"),
    ("photos v3", "can't contain ' '", "photos@v3"),
    ("photos#57", "can't contain '#'", "photos@#57"),
    ("vision/photos@v3", "can't contain '/'", "vision.photos@v3"),
    ("vision/photos", "can't contain '/'", "vision.photos"),
    ("photos@3", "a published version is written v3, a table version #57 (position 8)", "photos@v3"),
    ("photos@version3", "is written v3", "photos@v3"),
    ("photos@version 3", "can't contain ' '", "photos@v3"),
    ("photos@v-3", "is written v3", "photos@v3"),
    ("photos@v03", "no leading zeros (position 9)", "photos@v3"),
    ("photos@v0", "published versions start at v1", None),
    ("photos@v00", "no leading zeros", None),
    (f"photos@v{2**63}", "larger than 9223372036854775807", None),
    ("photos@v" + "9" * 5000, "at most 100 characters, this one has 5000", None),
    ("photos@v\uff13", "(U+FF13)", None),
    ("photos@#", "the table version number is empty", None),
    ("photos@#-1", "can't start with '-' (it is digits from 0 to 9) (position 9)", None),
    ("photos@#٣", "can't start with '٣' (U+0663)", None),
    ("photos@#007", "no leading zeros", "photos@#7"),
    (f"photos@#{2**63}", "larger than", None),
    ("photos@2026-1-31", "it starts like a date", "photos@2026-01-31"),
    ("photos@2026-11-1", "it starts like a date", "photos@2026-11-01"),
    ("photos@2026-02-30", "that is no day", None),
    ("photos@0000-01-01", "that is no day", None),
    ("photos@0001-01-01T00:00:00+01:00", "that is no day", None),
    ("photos@2026-11-01T24:00:00Z", "it starts like a date", None),
    ("photos@2026-11-01T10:00:60Z", "it starts like a date", None),
    ("photos@2026-11-01T10:00:00+05:60", "it starts like a date", None),
    ("photos@2026-11-01T10", "it starts like a date", None),
    ("photos@2026-11-01T10:00:00 02:00", "it starts like a date", "photos@2026-11-01T10:00:00+02:00"),
    ("photos@late\u017ft", "(U+017F)", None),
    ("photos@-prod", "a tag can't start with '-'", None),
    ("photos@" + "t" * 101, "a tag has at most 100", None),
    ("photos@spring v2", "can't contain ' '", "photos@spring/v2"),
    ("photos@spring/2", "is written v3", "photos@spring/v2"),
    ("photos@spring/", "the tag is empty (position 15)", None),
    ("photos@/v2", "the milestone name is empty (position 8)", None),
    ("photos@spring/v2/v3", "can't contain '/'", None),
    ("photos@spring/head", "only published versions can be chosen", None),
    ("photos@spring/#4", "only published versions can be chosen", None),
    ("photos@spring/2026-11-01", "only published versions can be chosen", None),
    ("photos@spring/snap:x", "can't contain ':'", None),
    ("photos@snap:", "the snapshot name is empty", None),
    ("photos@snap:a/b", "can't contain '/'", None),
    ("photos@snapshot:run", "can't contain ':'", "photos@snap:run"),
    ("photos@\udcff", "U+DCFF", None),
    ("photos\0", "can't contain '\\x00'", None),
]


@pytest.mark.parametrize(("text", "words", "suggestion"), BAD)
def test_bad_reference(text: str, words: str, suggestion: str | None) -> None:
    """Each slip is refused with the one kind; the message says what was found, what was meant and how to write it."""
    with pytest.raises(InvalidInputError) as caught:
        parse(text)
    error = caught.value
    assert error.kind == "reference-invalid"
    assert words in error.message
    assert error.context["suggestion"] == suggestion
    assert ("Did you mean" in error.message) == (suggestion is not None)
    assert error.message.endswith("milestone/v3 or snap:name.")
    assert len(error.message) < 800


@pytest.mark.parametrize("time", ["2026-11-01T10:00:00", "2026-11-01 10:00", "2026-11-01T10:00:00.25"])
def test_naive_time(time: str) -> None:
    """A time without zone has its own kind, and the message shows the same reference with Z."""
    with pytest.raises(InvalidInputError) as caught:
        parse(f"photos@{time}")
    assert caught.value.kind == "time-naive"
    assert f"'photos@{time}Z'" in caught.value.message
    assert isinstance(parse(caught.value.context["suggestion"]).selector, AsOf)


def test_as_of_from_a_datetime() -> None:
    """A selector made from a datetime is kept in UTC, and a naive datetime is refused."""
    there = datetime(2026, 11, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    assert str(AsOf(there)) == "2026-10-31T23:00:00Z"
    with pytest.raises(InvalidInputError) as caught:
        AsOf(datetime(2026, 11, 1))  # noqa: DTZ001 - a naive time is the point
    assert caught.value.kind == "time-naive"


def test_not_text() -> None:
    """A value that is no text is bad input, not a crash."""
    with pytest.raises(InvalidInputError, match="found int"):
        parse(3)  # type: ignore[arg-type]


def test_parse_name() -> None:
    """A name without selector gives its two parts; a selector is refused, and the bare name suggested."""
    assert parse_name("vision.photos") == ("vision", "photos")
    assert parse_name("photos", default_namespace="ns") == ("ns", "photos")
    with pytest.raises(InvalidInputError) as caught:
        parse_name("photos@v3")
    assert (caught.value.kind, caught.value.context["suggestion"]) == ("reference-invalid", "photos")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("spring", MilestoneRef("main", "spring", Latest())),
        ("ns.spring/v2", MilestoneRef("ns", "spring", Version(2))),
        ("spring/Latest", MilestoneRef("main", "spring", Latest())),
        ("spring/FINAL", MilestoneRef("main", "spring", Named("FINAL"))),
    ],
)
def test_milestone_ref(text: str, expected: MilestoneRef) -> None:
    """A milestone without a choice is its latest version; its canonical text parses to the same value."""
    assert parse_milestone_ref(text) == expected
    assert parse_milestone_ref(str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [
        ("spring@v2", "spring/v2"),
        ("spring:2", "spring/v2"),
        ("spring v2", "spring/v2"),
        ("spring/", "spring"),
        ("spring/head", None),
        ("", None),
    ],
)
def test_bad_milestone_ref(text: str, suggestion: str | None) -> None:
    """A slip in a milestone is refused in the same way, with the form of a milestone."""
    with pytest.raises(InvalidInputError) as caught:
        parse_milestone_ref(text)
    assert (caught.value.kind, caught.value.context["suggestion"]) == ("reference-invalid", suggestion)
    assert "Write [namespace.]milestone[/choice]" in caught.value.message


@pytest.mark.parametrize(
    ("check", "good", "invalid", "reserved"),
    [
        (
            check_namespace,
            ["vision", "a-b"],
            ["", "1a", "a.b", "a b", "x" * 101],
            ["lake", "TEMP", "pg_catalog", "_system"],
        ),
        (
            check_name,
            ["photos", "_x", "v3", "head"],
            ["", "-a", "a.b", "a@b", "é"],
            ["Milestone", "milestone_DATASET", "data_tag_map"],
        ),
        (check_milestone_name, ["spring", "2026-spring"], ["", "_a", "a.b", "a/b"], ["v3", "Head", "2026-11-01"]),
        (check_snapshot_name, ["run-20-nov", "2026-11-01", "v3"], ["", "a/b", "snap:a", ".."], []),
    ],
)
def test_check_names(check: Callable[[str], str], good: list[str], invalid: list[str], reserved: list[str]) -> None:
    """A name that may be made is returned; the others say whether their form or their meaning is the trouble."""
    assert [check(name) for name in good] == good
    for names, kind in ((invalid, "name-invalid"), (reserved, "name-reserved")):
        for name in names:
            with pytest.raises(InvalidInputError) as caught:
                check(name)
            assert caught.value.kind == kind, name


@pytest.mark.parametrize("tag", ["prod", "FINAL", "v1.0.0", "2026-spring", "1.0", "version-two"])
def test_check_tag_good(tag: str) -> None:
    """A tag that may be set is read back as that tag."""
    assert parse(f"photos@{check_tag(tag)}").selector == Named(tag)


@pytest.mark.parametrize(
    "tag",
    ["v3", "V3", "v0", "v03", "3", "version3", "ver-3", "head", "LATEST", "2026-11-01", "2026-1-1", "2026-11-01T10"],
)
def test_check_tag_reserved(tag: str) -> None:
    """Whatever means, or nearly means, something else in a selector can't be set as a tag."""
    with pytest.raises(InvalidInputError) as caught:
        check_tag(tag)
    assert caught.value.kind == "tag-reserved"


@pytest.mark.parametrize("tag", ["", "#3", "a/b", "snap:x", ".hidden", "a b", "a\n", "t" * 101, "3\u00b2"])
def test_check_tag_invalid(tag: str) -> None:
    """A tag that breaks the pattern is refused with its own kind."""
    with pytest.raises(InvalidInputError) as caught:
        check_tag(tag)
    assert caught.value.kind == "tag-invalid"


def words(first: str, rest: str) -> st.SearchStrategy[str]:
    """Return a strategy for texts by the characters at the first and the other places."""
    return st.builds(str.__add__, st.sampled_from(first), st.text(rest, max_size=99))


def may_be_tag(text: str) -> bool:
    """Return whether `check_tag` takes the text."""
    try:
        return bool(check_tag(text))
    except InvalidInputError:
        return False


NAMES = words(ascii_letters + "_", ascii_letters + digits + "_-")
TAG_TEXTS = words(ascii_letters + digits, ascii_letters + digits + "._-")
TAGS = TAG_TEXTS.filter(may_be_tag).map(Named)
VERSIONS = st.integers(1, 2**63 - 1).map(Version)
SELECTORS: st.SearchStrategy[Selector] = st.one_of(
    st.just(Head()),
    st.just(Latest()),
    VERSIONS,
    st.integers(0, 2**63 - 1).map(TableVersion),
    st.datetimes(timezones=st.just(UTC)).map(AsOf),
    TAGS,
    st.builds(
        InMilestone,
        NAMES,
        words(ascii_letters + digits, ascii_letters + "_-"),
        st.one_of(VERSIONS, st.just(Latest()), TAGS),
    ),
    TAG_TEXTS.map(InSnapshot),
)
REFERENCES = st.builds(Reference, NAMES, NAMES, SELECTORS)


@given(REFERENCES)
def test_canonical_text_round_trips(reference: Reference) -> None:
    """The canonical text of any reference parses to an equal value, in any context, through URL and pickle."""
    assert parse(str(reference), default_namespace="elsewhere") == reference
    assert parse(unquote(reference.quoted)) == reference
    assert pickle.loads(pickle.dumps(reference)) == reference


@given(REFERENCES)
def test_case_of_keys(reference: Reference) -> None:
    """Keys ignore case, and so do the kinds of selectors."""
    upper, lower = parse(str(reference).upper()), parse(str(reference).lower())
    assert upper.key == lower.key == reference.key
    assert type(upper.selector) is type(lower.selector) is type(reference.selector)


PARSERS: list[Callable[[str], object]] = [parse, parse_name, parse_milestone_ref]
CHECKS: list[Callable[[str], object]] = [
    check_namespace,
    check_name,
    check_milestone_name,
    check_snapshot_name,
    check_tag,
]
PIECES = st.sampled_from(
    [
        "photos",
        "v3",
        "v",
        "03",
        "#",
        "@",
        ".",
        "/",
        ":",
        " ",
        "snap:",
        "head",
        "2026-11-01",
        "T10:00:00",
        "Z",
        "\n",
        "3",
        "-",
    ]
)
ANY_TEXT = st.one_of(st.text(st.characters(exclude_categories=[])), st.lists(PIECES, max_size=8).map("".join))


@pytest.mark.parametrize("read", PARSERS + CHECKS)
@given(text=ANY_TEXT)
@example(text="snap:12:30")
@example(text="@ " * 5000)
@example(text="1" * 50_000)
def test_any_text(read: Callable[[str], object], text: str) -> None:
    """No text does anything but parse or raise the one error, which can be encoded, and whose suggestion parses."""
    try:
        read(text)
    except InvalidInputError as error:
        json.dumps({"message": error.message, **error.context}, ensure_ascii=False).encode()
        suggestion = error.context.get("suggestion")
        assert suggestion is None or suggestion != text
        if suggestion is not None:
            read(suggestion)
