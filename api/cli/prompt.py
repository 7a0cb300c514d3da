"""The interactive SQL prompt: statements over several lines until `;`, history, completion; reads a pipe too."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

import catalog
from api.cli.call import Call
from api.cli.failures import report
from api.cli.output import note
from lakehouse.errors import LakeError
from lakehouse.lake import Lake
from lakehouse.session import VIEWS as FOLDER
from lakehouse.session import Session

if TYPE_CHECKING:
    import duckdb

HELP = """\
Statements end with ;  Any reference is a table: select * from "vision.photos@v3";
\\d   list datasets     \\v   list the views of the lakehouse
\\q   quit              \\?   this help"""
VIEWS = sorted(file.stem for file in FOLDER.glob("*.sql"))
_KEYWORDS = [
    "select",
    "from",
    "where",
    "group",
    "by",
    "order",
    "limit",
    "having",
    "join",
    "left",
    "using",
    "on",
    "as",
    "with",
    "union",
    "all",
    "distinct",
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "case",
    "when",
    "then",
    "else",
    "end",
    "and",
    "or",
    "not",
    "in",
    "between",
    "like",
    "is",
    "null",
    "describe",
    "summarize",
    "explain",
]


def run(call: Call, lake: Lake, session: Session, show: Callable[[duckdb.DuckDBPyRelation | None], None]) -> None:
    r"""Read statements and run them until the end of the input or `\q`. An error is reported and does not end it.

    Args:
        session: Keeps temporary tables from statement to statement.
        show: Prints a result.
    """
    if sys.stdin.isatty():
        note(f"{lake.root}: SQL ends with ;  \\? shows help, \\q quits.")
    for statement in statements(_reader(lake)):
        if statement == "\\q":
            return
        try:
            if statement in _COMMANDS:
                _COMMANDS[statement](lake)
            elif statement.startswith("\\"):
                note(f"There is no {statement}.\n{HELP}")
            else:
                show(session.query(statement))
        except LakeError as error:
            report(call, error)
        except KeyboardInterrupt:
            note("Interrupted.")


def statements(read: Callable[[bool], str]) -> Iterator[str]:
    r"""Join lines into statements: up to a `;` at the end of a line; a command (`\q`) is a line of its own.

    Args:
        read: Gives the next line; is told whether it continues a statement. EOFError ends the input, KeyboardInterrupt
            gives up what was typed so far.
    """
    held: list[str] = []
    while True:
        try:
            line = read(bool(held))
        except KeyboardInterrupt:
            held = []
            continue
        except EOFError:
            break
        if not held and (not line.strip() or line.strip().startswith("\\")):
            if line.strip():
                yield line.strip()
            continue
        held.append(line)
        text = "\n".join(held)
        if text.rstrip().endswith(";") and text.count("'") % 2 == 0:
            yield text.strip()
            held = []
    if rest := "\n".join(held).strip():
        yield rest


def _reader(lake: Lake) -> Callable[[bool], str]:
    """Return what reads a line: from the keyboard, or from a pipe."""
    if sys.stdin.isatty():
        ask = _asker(lake)
        return lambda continued: ask("   ...> " if continued else "lake> ")

    def read(continued: bool) -> str:
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.rstrip("\n")

    return read


def _asker(lake: Lake) -> Callable[[str], str]:
    try:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import WordCompleter
        from prompt_toolkit.history import FileHistory
        from prompt_toolkit.output import create_output
    except ImportError:
        return input
    folder = Path(os.environ.get("XDG_STATE_HOME", "~/.local/state")).expanduser() / "lakehouse"
    folder.mkdir(parents=True, exist_ok=True)
    names = [i.dataset.full_name for i in catalog.list_datasets(lake)]
    known = [*_KEYWORDS, *VIEWS, *names, *(n.removeprefix("main.") for n in names)]
    completer = WordCompleter(sorted(set(known)), ignore_case=True, WORD=True)
    history, screen = FileHistory(str(folder / "sql_history")), create_output(stdout=sys.stderr)
    asked: Any = PromptSession(history=history, completer=completer, output=screen)
    return lambda text: str(asked.prompt(text))


def _list_datasets(lake: Lake) -> None:
    names = [i.dataset.full_name for i in catalog.list_datasets(lake)]
    typer.echo("\n".join(names) if names else "No datasets yet.")


_COMMANDS: dict[str, Callable[[Lake], None]] = {
    "\\d": _list_datasets,
    "\\v": lambda _: typer.echo("\n".join(VIEWS)),
    "\\?": lambda _: note(HELP),
}
