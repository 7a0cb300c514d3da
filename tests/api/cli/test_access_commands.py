"""Commands about access: users, grants, tokens, and what happens to those without a grant."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lakehouse.access import OPERATIONS, Role

from .conftest import Typed

DOCS = Path(__file__).parents[3] / "docs" / "access.md"


@pytest.fixture
def controlled(cli: Typed, monkeypatch: pytest.MonkeyPatch) -> Typed:
    """The lakehouse after its owner switched access control on and made ada known."""
    monkeypatch.delenv("LAKEHOUSE_ACTOR", raising=False)
    monkeypatch.delenv("LAKEHOUSE_TOKEN", raising=False)
    cli.ok("access", "on", "--yes")
    cli.ok("user", "add", "ann", "--description", "Vision team")
    return cli


def test_switching(cli: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Switching shows first what would happen; `show` says whether it is on and who one is."""
    monkeypatch.delenv("LAKEHOUSE_ACTOR", raising=False)
    assert "off: everybody may do everything" in cli.ok("access", "show").stdout
    said = cli.ok("access", "on")
    assert "would switch" in said.stdout
    assert cli.json("access", "show")["enabled"] is False
    assert "granted         admin of *" in cli.ok("access", "on", "--yes").stdout
    assert cli.json("access", "show")["enabled"] is True
    assert "would switch" in cli.ok("access", "off").stdout
    assert cli.json("access", "off", "--yes")["enabled"] is False


def test_users_and_grants(controlled: Typed) -> None:
    """People are added, granted a role, asked about, and lose it again."""
    assert "ann" in {u["name"] for u in controlled.json("user", "list")}
    made = controlled.json("grant", "add", "ann", "reader", "main.*")
    assert (made["principal"], made["role"], made["scope"]) == ("ann", "reader", "main.*")
    assert "reader  main.*" in controlled.ok("grant", "list", "ann").stdout
    told = controlled.json("access", "check", "ann", "version.publish", "pets")
    assert (told["allowed"], told["needs"], told["has"], told["where"]) == (False, "publisher", "reader", "main.pets")
    assert "would take back" in controlled.ok("grant", "remove", "ann", "main.*").stdout
    controlled.ok("grant", "remove", "ann", "main.*", "--yes")
    assert controlled.json("grant", "list", "ann") == []
    assert "would remove" in controlled.ok("user", "remove", "ann").stdout
    assert controlled.json("user", "remove", "ann", "--yes")["name"] == "ann"


@pytest.fixture
def full(controlled: Typed, monkeypatch: pytest.MonkeyPatch) -> Typed:
    """The lakehouse with one of each thing that can be taken away, as a reader sees it."""
    for words in (
        "dataset rename pets animals",
        "dataset create other --columns id:int64",
        "publish other",
        "publish other",
        "tag set pets@v1 good",
        "snapshot create kept pets",
        "check add pets not_null --columns id --name known",
        "metadata set pets unit=cm",
        "retention set main --keep-last 3",
        "hold set pets --reason case",
        "milestone define m pets",
        "notify add team http://127.0.0.1:9/",
        "token create",
        "grant add ann reader main.*",
    ):
        controlled.ok(*words.split())
    monkeypatch.setenv("LAKEHOUSE_TOKEN", controlled.json("token", "create", "ann")["token"])
    return controlled


@pytest.mark.parametrize(
    "words",
    [
        "dataset delete pets",
        "dataset unalias pets",
        "tag remove pets good",
        "snapshot delete kept",
        "check remove pets known",
        "metadata remove pets unit",
        "retention remove main",
        "hold release pets",
        "milestone archive m/v1",
        "milestone rollback m/v1",
        "data-tag remove FINAL",
        "notify remove team",
        "user remove ann",
        "grant remove ann main.*",
        "access off",
        "delete pets --where id=1",
        "restore pets @v1",
        "schema evolve pets --drop price",
        "ingest nothing.csv --dataset pets --mode overwrite",
        "expire other --keep-last 1",
        "vacuum pets",
    ],
)
def test_a_preview_promises_nothing_that_is_refused(full: Typed, words: str) -> None:
    """Who may not do something is told so without `--yes` as with it, in the same words."""
    shown, done = full(*words.split(), "--output", "json"), full(*words.split(), "--yes", "--output", "json")
    assert (shown.code, shown.json) == (done.code, done.json)
    assert done.json["error"]["kind"] in ("access-denied", "subscription-not-found")


def test_a_token_acts(controlled: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has a token acts as its principal: reads what was granted, and is told what is missing, with exit code 4."""
    controlled.ok("grant", "add", "ann", "reader", "pets")
    made = controlled.json("token", "create", "ann", "--expires", "1d")
    monkeypatch.setenv("LAKEHOUSE_TOKEN", made["token"])
    assert controlled.json("access", "show")["actor"] == "ann"
    assert [d["dataset"] for d in controlled.json("dataset", "list")] == ["main.pets"]
    said = controlled("publish", "pets")
    assert said.code == 4
    assert "lakehouse grant add ann publisher main.pets" in said.stderr
    assert controlled("show", "vision.tiles").code == 3
    monkeypatch.delenv("LAKEHOUSE_TOKEN")
    assert [t["status"] for t in controlled.json("token", "list")] == ["valid"]
    assert made["token"] not in controlled.ok("token", "list").stdout
    assert "would revoke" in controlled.ok("token", "revoke", made["token_id"]).stdout
    controlled.ok("token", "revoke", made["token_id"], "--yes")
    monkeypatch.setenv("LAKEHOUSE_TOKEN", made["token"])
    assert controlled("access", "show").code == 4


def test_the_documentation_has_every_operation() -> None:
    """The table of roles in the documentation is the code's own list."""
    rows = re.findall(
        r"^\| (reader|writer|publisher|admin|admin of the lakehouse) \| (.+) \|$", DOCS.read_text(), re.MULTILINE
    )
    written = {role: operations.split(", ") for role, operations in rows}
    for role in Role:
        mine = {name: o for name, o in OPERATIONS.items() if o.role is role}
        assert written[role.word] == [name for name, o in mine.items() if not o.is_global]
    assert written["admin of the lakehouse"] == [n for n, o in OPERATIONS.items() if o.role and o.is_global]
