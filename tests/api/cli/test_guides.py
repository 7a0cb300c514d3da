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

FILES = {
    "customers.csv": "id,country\n1,CH\n2,NO\n3,UA\n",
    "orders.csv": "id,customer_id,total\n10,1,25.5\n11,3,8\n12,3,14\n",
    "orders-2.csv": "id,customer_id,total\n11,3,9\n13,99,30\n",
    "orders-3.csv": "id,customer_id,total\n14,2,-4\n",
    "items.csv": "id,order_id,sku\n100,10,a\n101,10,b\n102,11,a\n103,12,c\n",
    "returns.csv": "id,item_id\n1,103\n",
}
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # Apprise imports it


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Typed:
    """Types command lines as ada, in a folder with the files of a shop and an empty lakehouse."""
    monkeypatch.setenv("LAKEHOUSE_ACTOR", "ada")
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    lakehouse.init(tmp_path / "lake")
    return Typed(tmp_path / "lake")


def test_the_guide_of_owners(typed: Typed, tmp_path: Path) -> None:
    """docs/owners.md, from the first file to the roll-back."""
    assert run_page(DOCS / "owners.md", tmp_path, typed, lakehouse.connect(typed.root)) > 10


def test_the_guide_of_consumers(typed: Typed, tmp_path: Path) -> None:
    """docs/consumers.md, over a milestone with two versions."""
    lake = lakehouse.connect(typed.root)
    for name in ("customers", "orders", "items"):
        typed.ok("ingest", f"{name}.csv", "--dataset", name, "--key", "id")
    links = ["orders.customer_id -> customers.id", "items.order_id -> orders.id"]
    catalog.define_milestone(lake, "spring", ["customers", "orders", "items"], data_tags=["FINAL"], links=links)
    for name in ("customers", "orders", "items"):
        catalog.publish(lake, name, data_tag="FINAL")
    lake.table("orders").delete("id = 99")
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
