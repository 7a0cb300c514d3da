"""The reference of the command line and the table of Python calls, made from the commands themselves.

`python -m api.cli.reference` writes `docs/cli.md`, `docs/python.md` and `docs/views.md`, the latter from the comments
that the views in `sql/` begin with; a test compares them with the code.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from typing import Any, get_type_hints

import typer
from typer.main import get_command

from api.cli.failures import EXIT_CODES
from api.cli.main import COMMANDS, app
from lakehouse import Lake
from lakehouse.session import VIEWS

DOCS = Path(__file__).parents[2] / "docs"
_WIDTH = 100
_VIEW_COLUMN = re.compile(
    r"(?P<names>\w+(, \w+)*)\s+(?P<type>(VARCHAR|BIGINT|BOOLEAN|DOUBLE|JSON|TIMESTAMP WITH TIME ZONE)(\[\])?)"
    r"(\s+(?P<text>.+))?"
)
"""A line about columns in the comment of a view."""
_ROOTS: dict[str, Any] = {"lake": Lake}
"""Names in Python calls that stand for an object of a class; other names are modules."""


@dataclass(frozen=True, slots=True)
class Verb:
    """One command that can be run."""

    words: str
    """As it is typed: `dataset create`."""
    help: str
    """Its whole help text."""
    summary: str
    """Its first line."""
    example: str
    python: str
    """The Python call that does the same."""


def verbs() -> Iterator[Verb]:
    """Iterate over all commands, those of groups one by one, in the order of the help."""
    top: Any = get_command(app)
    above = _context(top, None, "lakehouse")
    for name in COMMANDS:
        command = top.commands[name]
        leaves = {f"{name} {sub}": leaf for sub, leaf in getattr(command, "commands", {}).items()} or {name: command}
        for words, leaf in leaves.items():
            lines = [line.strip() for line in (leaf.epilog or "").splitlines()]
            example = lines[lines.index("Example:") + 1]
            python = lines[lines.index("Python:") + 1]
            yield Verb(words, leaf.get_help(_context(leaf, above, words)), leaf.help.splitlines()[0], example, python)


def _context(command: Any, above: typer.Context | None, name: str) -> typer.Context:
    return typer.Context(command, parent=above, info_name=name, terminal_width=_WIDTH, **command.context_settings)


def called(python: str) -> Any:
    """Return the function that a Python call calls last.

    Raises:
        AttributeError: a name in it does not exist.
        TypeError: the arguments do not fit the function's signature.
    """
    node = ast.parse(python, mode="eval").body
    while not isinstance(node, ast.Call):
        assert isinstance(node, ast.Attribute), python
        node = node.value
    return _function(node)


def _function(call: ast.Call) -> Any:
    """Return what a call calls, after binding its arguments."""
    owner, function = _target(call.func)
    given: list[object] = [None] * (len(call.args) + isinstance(owner, type))
    inspect.signature(function).bind(*given, **{str(k.arg): None for k in call.keywords})
    return function


def _target(node: ast.expr) -> tuple[Any, Any]:
    """Return the owner of a dotted name, a module or a class, and what it has under that name."""
    assert isinstance(node, ast.Attribute), ast.dump(node)
    owner = _value(node.value)
    if inspect.ismodule(owner) and not hasattr(owner, node.attr):
        return owner, import_module(f"{owner.__name__}.{node.attr}")
    return owner, getattr(owner, node.attr)


def _value(node: ast.expr) -> Any:
    """Return the module, or the class of the object, that an expression stands for."""
    if isinstance(node, ast.Name):
        return _ROOTS.get(node.id) or import_module(node.id)
    if isinstance(node, ast.Call):
        return get_type_hints(_function(node))["return"]
    return _target(node)[1]


def cli_page() -> str:
    """Return the text of docs/cli.md."""
    top: Any = get_command(app)
    codes: dict[int, list[str]] = {}
    for error, code in EXIT_CODES.items():
        codes.setdefault(code, []).append(error.__name__)
    table = "\n".join(f"| {code} | {meaning} | {', '.join(codes.get(code, []))} |" for code, meaning in _CODES.items())
    parts = [_CLI_HEAD, _block(top.get_help(_context(top, None, "lakehouse")))]
    parts += [f"## Exit codes\n\n| code | meaning | error classes |\n|---|---|---|\n{table}"]
    keys = "\n".join(f"| {command} | {said} |" for command, said in _JSON_KEYS.items())
    parts += [_JSON_HEAD, f"| command | keys |\n|---|---|\n{keys}", _JSON_TAIL]
    parts.append("## Commands")
    parts += [f"### {verb.words}\n\n{_block(verb.help)}" for verb in verbs()]
    return "\n\n".join(parts) + "\n"


def python_page() -> str:
    """Return the text of docs/python.md."""
    rows = "\n".join(f"| `{v.example}` | `{v.python}` | {v.summary} |".replace("||", "\\|\\|") for v in verbs())
    return f"{_PYTHON_HEAD}\n\n| command | Python | what it does |\n|---|---|---|\n{rows}\n"


def views_page() -> str:
    """Return the text of docs/views.md."""
    files = sorted(VIEWS.glob("*.sql"))
    return "\n\n".join([_VIEWS_HEAD, *(_view_section(path) for path in files)]) + "\n"


def _view_section(path: Path) -> str:
    """Return what the comment at the top of a view says: its promise, then a table of its columns, then the rest.

    Raises:
        ValueError: the comment does not begin with the view's name and promise.
    """
    comment = [
        line[2:].strip() for line in takewhile(lambda line: line.startswith("--"), path.read_text().splitlines())
    ]
    name, _, promise = " ".join(takewhile(bool, comment)).partition(": ")
    if name != path.stem or not promise:
        raise ValueError(f"{path.name} does not begin with `-- {path.stem}: ` and a sentence.")
    columns, notes = [], []
    for line in comment[comment.index("") + 1 :]:
        if found := _VIEW_COLUMN.fullmatch(line):
            names = ", ".join(f"`{n}`" for n in found["names"].split(", "))
            columns.append(f"| {names} | {found['type']} | {found['text'] or ''} |")
        elif line:
            notes.append(line)
    table = "\n".join(["| column | type | meaning |", "|---|---|---|", *columns])
    return "\n\n".join([f"## {name}", promise[0].upper() + promise[1:], table, *([" ".join(notes)] if notes else [])])


def main() -> None:
    """Write the pages."""
    DOCS.mkdir(exist_ok=True)
    for name, page in (("cli.md", cli_page), ("python.md", python_page), ("views.md", views_page)):
        (DOCS / name).write_text(page(), encoding="utf-8")


def _block(text: str) -> str:
    return "```text\n" + "\n".join(line.rstrip() for line in text.strip().splitlines()) + "\n```"


_CODES = {
    0: "fine; also a dry run",
    1: "a bug: please report it",
    2: "bad input, or every item of an ingest was rejected",
    3: "not found",
    4: "denied",
    5: "conflict, or the wrong state for this",
    6: "the store failed, stored data can't be read, or `doctor` found a problem",
    7: "done, but some items were rejected",
    130: "interrupted with Ctrl-C",
    141: "nobody reads stdout any more (`| head`)",
}
_GENERATED = "<!-- Generated from the code by `python -m api.cli.reference`; do not edit. -->"
_CLI_HEAD = f"""{_GENERATED}

# Command line

Data goes to stdout, messages and progress bars to stderr. Commands that destroy something show what they would do,
and do it with `--yes`."""
_JSON_HEAD = """## JSON

With `--output json` stdout holds one JSON value. More keys may be added; these stay:"""
_JSON_KEYS = {
    "show": "reference, dataset, table_version, version (null when unpublished), data_tag, rows, files, bytes, "
    "created_at, schema [{name, type, nullable}], pinned_by [names]",
    "log": "a list, newest first, of {table_version, version, created_at, operation, rows_added, rows_removed, user, "
    "message, run, rows_updated}",
    "diff": "old, new, key [columns] (null: compared as multisets), rows {added, removed, changed}, "
    "columns {name: changed rows}, schema {added, removed, changed}, files {added, removed, common}",
    "ingest": "dataset, table_version, run, items (= ingested + unchanged + duplicates + rejected), ingested, "
    "unchanged, duplicates, rejected, bytes, seconds, warnings {code: count}, rejects_by_code {code: count}",
    "diff --stats": "also stats [{column, divergence, null_shift, mean_shift, std_ratio, and [old, new] of null_share, "
    "distinct, mean, std, min, max}]",
    "stats": "a list of {column, type, rows, nulls, null_share, distinct, min, max, mean, std, quantiles [[share, value]], "
    "top [[value, rows]], histogram {width, bins [[lower edge, rows]]}, length_min, length_max, length_mean}",
    "dataset search": "total, hits [{dataset, score, matched [{field, text}], kind, owner, license, description}], "
    "facets {namespace, owner, license, kind, data_tag, tag: {value: datasets}}, suggestions [words]",
    "dataset create --query, dataset refresh": "dataset, table_version, run (null when nothing is new), "
    "inputs [{reference, resolved, before}], rows, added, removed, changed",
    "dataset show": "dataset, kind, key, latest_version, tags, milestones, children, owner, license, description, ..., query "
    "{sql, inputs [{reference, resolved}], refreshed_at, run} (null when no query makes it)",
    "tag log": "a list, newest first, of {tag, old, new (version numbers or null), at, user}",
    "metadata set, metadata remove": "dataset, metadata {name: value}",
    "check list": "a list of {name, kind, columns, parameters, severity, in_file, created_at, created_by}",
    "check run, check results": "a list of {name, kind, severity, ok, failures, rows, finding, method, table_version, "
    "started_at, finished_at, result}, with `--samples` also samples [row objects]; `check run` has the exit code 5 when an "
    "error fails",
    "publish": "dataset, version, table_version, data_tag",
    "milestone publish, milestone show": "milestone, version, status, attribute, color, published_at, "
    "datasets [{dataset, version, table_version, data_tag, ready}]",
    "sql, head": "a list of row objects, one a line, streamed",
    "doctor": "ok, checks [{name, ok, detail}]",
    "verify": "checked, ok, problems [{reference, kind, detail}], deep, files, bytes, seconds; exit code 6 when there are "
    "problems",
    "audit log": "a list, newest first, of {at, actor, kind (decision or commit), action, resource, before, after, run, "
    "message, commit_id, seq}",
    "audit reads": "a list, newest first, of {at, actor, consumer, dataset, version, table_version, reference, opens, bytes, "
    "rows, host, process}",
    "audit fetches": "a list of {dataset, version, table_version, consumer, opens, actors, first_at, last_at, bytes}",
    "audit verify": "ok, entries, uncovered, since, erased, commits, head, problem (null when all is well), data_commits, "
    "data_erased; exit code 6 when there is a problem",
    "a dry run": "dry_run (true), and what would happen",
    "an error": "error {kind, message, context}; the exit code says the class",
}
_JSON_TAIL = """Integers beyond 2^53 and decimals are strings, infinities are `"Infinity"` and `"-Infinity"`, bytes are
base64, times RFC 3339 (UTC as `Z`; a time without zone stays without). NaN is null, and the row's key `_nan` lists
where. Two result columns of one name are refused (`duplicate-column`)."""
_PYTHON_HEAD = f"""{_GENERATED}

# From the command line to Python

Every command is one Python call. `lake` is what `lakehouse.connect("./lake")` returns; `catalog` and `jobs` are the
packages of that name, installed together with `lakehouse`. Errors are `lakehouse.LakeError`: the class says what to do
about it, `kind` what happened."""

_VIEWS_HEAD = f"""{_GENERATED}

# System views

The lakehouse describes itself in these views, in SQL and read-only: `lakehouse sql 'select * from versions'`, or
`lake.sql("from versions")` in Python. They lie in the schema `lake`; their short names work too, until a dataset of
that name exists. Names and types of columns stay; columns may be added. Columns that are called like words of SQL need
double quotes: `"at"`, `"before"`, `"after"`."""


if __name__ == "__main__":
    main()
