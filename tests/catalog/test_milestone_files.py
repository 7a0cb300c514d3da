"""Milestones that are declared in YAML files."""

from __future__ import annotations

from pathlib import Path

import pytest

import catalog
from lakehouse.errors import InvalidInputError, NotFoundError, StateError
from lakehouse.lake import Lake
from lakehouse.tables import Table

WHOLE = """
milestone: ns.spring
datasets: [photos]
data_tags: [REVIEWED, FINAL]
links: ["photos.id -> photos.id"]
checks: [known]
advance: all
policy: manual
description: for training
"""


def test_a_whole_file(photos: Table, lake: Lake, tmp_path: Path) -> None:
    """Everything in the file is decided; read again nothing is; what a later file leaves out stays."""
    file = tmp_path / "spring.yaml"
    file.write_text(WHOLE)
    with pytest.raises(NotFoundError, match=r"No member of ns\.spring has a check 'known'") as caught:
        catalog.load_milestone(lake, file)
    assert caught.value.kind == "check-not-found"
    catalog.add_check(lake, "photos", "unique", ["id"], name="Known", severity="warning")
    made = catalog.load_milestone(lake, file)
    assert (made.full_name, made.data_tags, made.checks, made.advance, made.policy, made.description) == (
        "ns.spring",
        ("REVIEWED", "FINAL"),
        ("known",),
        "all",
        "manual",
        "for training",
    )
    assert [str(link) for link in made.links] == ["main.photos(id) -> main.photos(id)"]
    seq = lake.state().seq
    assert catalog.load_milestone(lake, file) == made
    assert lake.state().seq == seq
    file.write_text("milestone: ns.spring\ndatasets: [photos]\npolicy: automatic\n")
    assert catalog.load_milestone(lake, file).policy == "automatic"
    assert catalog.list_milestones(lake)[0].data_tags == ("REVIEWED", "FINAL")


def test_whom_it_notifies(photos: Table, lake: Lake, tmp_path: Path) -> None:
    """A file's receivers are subscribed once; a changed one is changed, and one of another milestone is refused."""
    file = tmp_path / "spring.yaml"
    head = "milestone: spring\ndatasets: [photos]\nnotify:\n"
    file.write_text(head + "  - {name: team, url: 'http://a.example/', events: [milestone.failed], secret_env: KEY}\n")
    catalog.load_milestone(lake, file)
    (made,) = catalog.list_subscriptions(lake)
    assert (made.name, made.url, made.events, made.milestone, made.secret_env) == (
        "team",
        "http://a.example/",
        ("milestone.failed",),
        "main.spring",
        "KEY",
    )
    seq = lake.state().seq
    catalog.load_milestone(lake, file)
    assert lake.state().seq == seq
    file.write_text(head + "  - {name: team, url: 'http://b.example/'}\n  - {name: me, url: 'http://c.example/'}\n")
    catalog.load_milestone(lake, file)
    assert [(s.name, s.url, s.events) for s in catalog.list_subscriptions(lake)] == [
        ("me", "http://c.example/", ()),
        ("team", "http://b.example/", ()),
    ]
    file.write_text(head.replace("spring", "autumn") + "  - {name: team, url: 'http://d.example/'}\n")
    with pytest.raises(StateError) as caught:
        catalog.load_milestone(lake, file)
    assert caught.value.kind == "subscription-exists"
    file.write_text(head.replace("spring", "winter") + "  - {name: x, url: 'nowhere'}\n")
    with pytest.raises(InvalidInputError):
        catalog.load_milestone(lake, file)
    assert "main.winter" not in {m.full_name for m in catalog.list_milestones(lake)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1", "not YAML, see line"),
        ("milestone: m", "needs `milestone`, a name, and `datasets`"),
        ("milestone: m\ndatasets: photos", "`datasets` is not a list of texts"),
        ("milestone: m\ndatasets: [photos]\nadvance: some", "it can be any or all"),
        ("milestone: m\ndatasets: [photos]\ncolour: red", "it has 'colour'; known are"),
        ("milestone: m\ndatasets: [photos]\nnotify: team", "`notify` is not a list"),
        ("milestone: m\ndatasets: [photos]\nnotify: [{name: team}]", "entry 1 of `notify` is not {name, url}"),
        ("milestone: m\ndatasets: [photos]\nnotify: [{name: t, url: 7}]", "entry 1 of `notify` is not {name, url}"),
        ("milestone: m\ndatasets: [photos]\ndescription: 7", "`description` is not a text"),
    ],
)
def test_wrong_files(photos: Table, lake: Lake, tmp_path: Path, text: str, words: str) -> None:
    """A file that declares no milestone says what is wrong and where, and nothing is decided."""
    file = tmp_path / "m.yaml"
    file.write_text(text)
    with pytest.raises(InvalidInputError, match=words) as caught:
        catalog.load_milestone(lake, file)
    assert caught.value.kind == "milestone-file-invalid"
    assert catalog.list_milestones(lake) == []


def test_no_file(lake: Lake, tmp_path: Path) -> None:
    """A file that is not there is named."""
    with pytest.raises(NotFoundError, match=r"none\.yaml") as caught:
        catalog.load_milestone(lake, tmp_path / "none.yaml")
    assert caught.value.kind == "file-not-found"
