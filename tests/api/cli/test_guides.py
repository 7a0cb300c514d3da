"""The guides of owners and consumers are true: every command and every call in them runs, and prints what they show."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import catalog
import lakehouse
from api.cli.reference import DOCS, verbs
from tests.support.pages import run_page

from .conftest import Typed

SHOP = {
    "customers": "id,country\n1,CH\n2,NO\n3,UA\n",
    "orders": "id,customer_id,total\n10,1,25.5\n11,3,8\n12,3,14\n",
    "items": "id,order_id,sku\n100,10,a\n101,10,b\n102,11,a\n103,12,c\n",
}
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # Apprise imports it


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Typed:
    """Types command lines as ada, in a folder with an empty lakehouse."""
    monkeypatch.setenv("LAKEHOUSE_ACTOR", "ada")
    monkeypatch.chdir(tmp_path)
    lakehouse.init(tmp_path / "lake")
    return Typed(tmp_path / "lake")


def test_the_guide_of_owners(typed: Typed, tmp_path: Path) -> None:
    """docs/owners.md, from the first file to the roll-back."""
    assert run_page(DOCS / "owners.md", tmp_path, typed, lakehouse.connect(typed.root)) > 10


def test_the_guide_of_consumers(typed: Typed, tmp_path: Path) -> None:
    """docs/consumers.md, over a milestone with two versions."""
    lake = lakehouse.connect(typed.root)
    for name, text in SHOP.items():
        (tmp_path / f"{name}.csv").write_text(text)
        typed.ok("ingest", f"{name}.csv", "--dataset", name, "--key", "id")
    links = ["orders.customer_id -> customers.id", "items.order_id -> orders.id"]
    catalog.define_milestone(lake, "spring", list(SHOP), data_tags=["FINAL"], links=links)
    for name in SHOP:
        catalog.publish(lake, name, data_tag="FINAL")
    (tmp_path / "orders-2.csv").write_text("id,customer_id,total\n11,3,9\n13,2,30\n")
    typed.ok("ingest", "orders-2.csv", "--dataset", "orders", "--mode", "merge")
    catalog.publish(lake, "orders", data_tag="FINAL")
    assert run_page(DOCS / "consumers.md", tmp_path, typed, lake) > 5


@pytest.mark.parametrize("page", ["owners.md", "consumers.md"])
def test_commands_in_sentences(page: str) -> None:
    """A command that a sentence names exists."""
    known = {verb.words for verb in verbs()}
    named = re.findall(r"`lakehouse ([^`]+)`", (DOCS / page).read_text(encoding="utf-8"))
    assert named
    for words in named:
        assert any(words == verb or words.startswith(f"{verb} ") for verb in known), words


def test_the_readme_lists_every_page() -> None:
    """The README names each page of docs/, and no other."""
    text = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\]\(docs/([\w-]+\.md)\)", text)) == {page.name for page in DOCS.glob("*.md")}


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    """Each link of a page into the repository leads to a file, and to a heading of it where it names one."""
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text(encoding="utf-8")):
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}, (
                f"{target}#{anchor}"
            )
