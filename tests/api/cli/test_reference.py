"""The generated pages: up to date, and every Python call in them exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

import catalog
import jobs
from api.cli.main import app
from api.cli.prompt import VIEWS as SYSTEM_VIEWS
from api.cli.reference import DOCS, Verb, called, cli_page, python_page, verbs, views_page
from lakehouse import Lake, Table

from .conftest import Typed

VERBS = list(verbs())
NEEDED = """
    init, demo, doctor, status, dataset create, dataset list, dataset show, dataset delete, dataset undrop, ingest,
    delete, log, show, head, diff, publish, tag set, tag list, tag remove, snapshot create, snapshot list,
    restore, expire, hold set, hold list, hold release,
    snapshot delete, milestone define, milestone show, milestone list, milestone publish, milestone status,
    milestone load, milestone join, milestone leave, milestone archive, milestone unarchive, milestone protect, milestone compare,
    milestone rollback, milestone orphans, milestone watch, promote,
    data-tag set, data-tag list, data-tag remove,
    notify add, notify list, notify remove, notify send, notify log, sql, run features, lineage,
    asset show, asset get, export, optimize, vacuum, verify,
    check add, check load, check remove, check list, check run, check results, stats,
    schema show, schema list, schema check, schema evolve, schema export, dataset fork, dataset refresh, dataset rename, dataset unalias,
    deprecate, retention set, retention list, retention remove,
    access show, access on, access off, access check, user add, user list, user remove, grant add, grant list,
    grant remove, token create, token list, token revoke,
    dataset search, metadata set, metadata list, metadata remove, tag log,
    audit log, audit reads, audit fetches, audit verify
"""


def test_all_verbs_are_there() -> None:
    """The command line has exactly the commands that were promised."""
    assert {v.words for v in VERBS} == {" ".join(words.split()) for words in NEEDED.split(",")}


@pytest.mark.parametrize("verb", VERBS, ids=lambda v: v.words)
def test_every_verb_has_a_python_call(verb: Verb) -> None:
    """The Python call of each command exists, takes the arguments shown, and is documented."""
    function: Any = called(verb.python)
    assert function.__doc__, verb.python


@pytest.mark.parametrize("verb", VERBS, ids=lambda v: v.words)
def test_every_verb_has_help_and_an_example(verb: Verb) -> None:
    """Each command says in a line what it does, and shows an example of itself; each option has help."""
    assert verb.summary.endswith(".")
    assert verb.example.startswith(f"lakehouse {verb.words}")
    command: Any = get_command(app)
    for word in verb.words.split():
        command = command.commands[word]
    assert all(p.help for p in command.params if p.param_type_name == "option" and not p.hidden)


@pytest.mark.parametrize(
    ("python", "error"),
    [
        ("catalog.nothing(lake)", ModuleNotFoundError),
        ("lake.nothing()", AttributeError),
        ("lake.read()", TypeError),
        ("lake.read('x', wrong=1)", TypeError),
        ("lake.table('x').nothing()", AttributeError),
    ],
)
def test_wrong_calls_are_found(python: str, error: type[Exception]) -> None:
    """A Python call that does not exist, or with arguments that do not fit, is noticed."""
    with pytest.raises(error):
        called(python)


def test_calls_are_resolved() -> None:
    """A Python call leads to the function that it calls last."""
    assert called('lake.read("photos@v1")') is Lake.read
    assert called('lake.table("photos").log(3)') is Table.log
    assert called('catalog.publish(lake, "photos")') is catalog.publish
    assert called('jobs.export(lake, "photos", "./out").rows') is jobs.export


def _public(module: Any) -> Iterator[str]:
    return (name for name in module.__all__ if name[0].islower())


def test_public_calls_have_a_command() -> None:
    """What `catalog` and `jobs` offer is reachable from the command line, but for what only programs need."""
    said = cli_page()
    without = {"start_run", "list_versions", "pinned_by", "drift", "dependents", "openlineage_events"}
    for module in (catalog, jobs):
        for name in _public(module):
            assert name in without or f"{module.__name__}.{name}(" in said, name


@pytest.mark.parametrize("view", SYSTEM_VIEWS)
def test_the_columns_of_views_are_documented(cli: Typed, view: str) -> None:
    """The page has a section for each view, with every column under its type."""
    section = views_page().split(f"\n## {view}\n")[1].split("\n## ")[0]
    documented: dict[str, str] = {}
    for names, kind in re.findall(r"^\| (`[^|]+`) \| ([A-Z \[\]]+) \|", section, re.MULTILINE):
        documented |= {name.strip("`"): kind for name in names.split(", ")}
    assert not re.search(r"^\w+ +[A-Z]{4,}", section, re.MULTILINE), "a line about a column was taken for text"
    described = cli.json("sql", f"describe select * from {view}")
    assert documented == {row["column_name"]: row["column_type"] for row in described}


def _codes() -> Iterator[str]:
    """Iterate over the codes of rejects and warnings that the ingest gives, as its source spells them."""
    givers = {"Finding", "Misfit", "RowReject", "Reject", "_refusal", "_RefusedError"}
    for path in (DOCS.parent / "jobs" / "ingest").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in givers:
                texts = (a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str))
                yield from (text for text in texts if re.fullmatch(r"[a-z]+(_[a-z]+)+", text))


def test_every_code_of_the_ingest_is_explained() -> None:
    """docs/ingest.md explains each code of rejects and warnings."""
    page = (DOCS / "ingest.md").read_text(encoding="utf-8")
    codes = set(_codes())
    assert {"image_truncated", "archive_unsupported", "column_count", "not_null"} <= codes
    assert {code for code in codes if f"`{code}`" not in page} == set()


@pytest.mark.parametrize(("file", "page"), [("cli.md", cli_page), ("python.md", python_page), ("views.md", views_page)])
def test_the_pages_are_up_to_date(file: str, page: Any) -> None:
    """The pages in docs/ are what the code says now; `python -m api.cli.reference` writes them."""
    assert (DOCS / file).read_text(encoding="utf-8") == page()
