"""Milestones that are declared in YAML files."""

from __future__ import annotations

from pathlib import Path

import pytest

import catalog
from lakehouse.errors import InvalidInputError, NotFoundError
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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1", "not YAML, see line"),
        ("milestone: m", "needs `milestone`, a name, and `datasets`"),
        ("milestone: m\ndatasets: photos", "`datasets` is not a list of texts"),
        ("milestone: m\ndatasets: [photos]\nadvance: some", "it can be any or all"),
        ("milestone: m\ndatasets: [photos]\ncolour: red", "it has 'colour'; known are"),
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
