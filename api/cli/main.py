"""The entry point `lakehouse`: the list of commands, the global options, and what happens to errors.

Commands are listed here with their one-line help, so that `lakehouse --help` loads none of them; a test compares the
lines with the commands' own.
"""

from __future__ import annotations

import copy
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from typing import Annotated, Any, Literal, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group

from api.cli.call import Call, call_of, set_up_logging
from api.cli.output import print_json

_PIPE_CLOSED = 141
"""What a shell says of a process that SIGPIPE ended."""


class Entry(NamedTuple):
    """A command as the top help lists it."""

    section: str
    module: str
    """Module of `api.cli` whose `app` has the command."""
    help: str


COMMANDS = {
    "demo": Entry("Start", "system", "Show everything on real images, offline, in under a minute."),
    "init": Entry("Start", "system", "Make a lakehouse at --root, after proving that its store is safe."),
    "doctor": Entry("Start", "system", "Check the installation, the store, and that every dataset opens."),
    "status": Entry("Start", "system", "Show what the lakehouse holds and what ran last."),
    "dataset": Entry("Write", "datasets", "Create, fork, find, show, rename, delete and undrop datasets."),
    "metadata": Entry("Write", "metadata", "Set, list and remove metadata of datasets."),
    "schema": Entry("Write", "schemas", "Show, list, check, change and export schemas."),
    "ingest": Entry("Write", "data", "Take images, archives or tables into a dataset."),
    "run": Entry("Write", "run", "Run jobs over datasets."),
    "delete": Entry("Write", "data", "Delete the rows of a dataset that satisfy a condition."),
    "show": Entry("Read", "reading", "Show one state of a dataset: size, schema, pins."),
    "head": Entry("Read", "reading", "Print the first rows of a state."),
    "log": Entry("Read", "reading", "List the commits of a dataset, newest first."),
    "diff": Entry("Read", "reading", "Compare two states: schema, counts, examples."),
    "stats": Entry("Read", "stats", "Show statistics of each column: nulls, range, mean, quantiles."),
    "sql": Entry("Read", "sql", "Run one SQL query, or an interactive prompt without one."),
    "asset": Entry("Read", "assets", "Find assets and get their bytes."),
    "lineage": Entry("Read", "reading", "Show what a state was made from, or what was made from it."),
    "export": Entry("Read", "data", "Write a state as Parquet or CSV files."),
    "check": Entry("Publish", "checking", "Declare, run and list checks, and see what they found."),
    "publish": Entry("Publish", "publishing", "Publish a state as the dataset's next version: numbered, pinned."),
    "promote": Entry("Publish", "publishing", "Give a published version another data tag; no row is written."),
    "deprecate": Entry("Publish", "deprecation", "Tell the readers of a version why not to use it, or withdraw it."),
    "tag": Entry("Publish", "publishing", "Set, list, remove movable names of versions; see how they moved."),
    "snapshot": Entry("Publish", "publishing", "Pin the states of several datasets under one name."),
    "milestone": Entry("Publish", "milestones", "Define, publish, show and archive milestones."),
    "notify": Entry("Publish", "notifying", "Tell webhooks, mail and chats what happens to milestones."),
    "data-tag": Entry("Publish", "data_tags", "Say what data tags mean to consumers of milestones."),
    "access": Entry("Govern", "access", "Switch access control on and off, and ask who may do what."),
    "user": Entry("Govern", "users", "Add, list and remove people and services."),
    "grant": Entry("Govern", "access", "Grant roles to people and services, and take them back."),
    "token": Entry("Govern", "users", "Make, list and revoke tokens that prove who acts."),
    "optimize": Entry("Maintain", "maintenance", "Rewrite a dataset's files so that reading touches fewer of them."),
    "restore": Entry("Maintain", "retention", "Bring a dataset back to an earlier state, as a new commit."),
    "expire": Entry("Maintain", "retention", "Give up published versions that no rule keeps."),
    "retention": Entry("Maintain", "policies", "Set, list and remove policies that say which versions stay."),
    "hold": Entry("Maintain", "retention", "Set, list and release legal holds."),
    "vacuum": Entry("Maintain", "cleanup", "Give up history that nothing needs, and sweep up orphans."),
    "verify": Entry("Maintain", "verifying", "Check that what is pinned can be read: files, sizes, rows, packs."),
    "audit": Entry("Maintain", "audit", "Show who decided, wrote and read what; prove no decision changed."),
}


class _Commands(Mapping[str, Any]):
    """The commands by name; one is loaded when it is asked for, and takes the global options too."""

    def __init__(self, everywhere: Sequence[Any]) -> None:
        self._everywhere = [copy.copy(option) for option in everywhere]
        for option in self._everywhere:
            option.hidden, option.expose_value = True, False

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)

    def __getitem__(self, name: str) -> TyperCommand | TyperGroup:
        app = import_module(f"api.cli.{COMMANDS[name].module}").app
        command: Any = get_group(app).commands[name]
        for leaf in [command, *getattr(command, "commands", {}).values()]:
            leaf.params.extend(self._everywhere)
        return command  # type: ignore[no-any-return]


class RootGroup(TyperGroup):
    """The top command: loads commands lazily, and turns errors into messages and exit codes."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Commands([p for p in self.params if p.name in Call.__slots__])  # type: ignore[assignment]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands by section, without loading them."""
        width = max(map(len, COMMANDS))
        for section in dict.fromkeys(entry.section for entry in COMMANDS.values()):
            with formatter.section(section):
                rows = [(name.ljust(width), entry.help) for name, entry in COMMANDS.items() if entry.section == section]
                formatter.write_dl(rows)

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> Any:
        """Run one command line and exit with its code."""
        call = Call()
        given = sys.argv[1:] if args is None else list(args)
        extra["standalone_mode"] = False
        try:
            code = super().main(given, *rest, obj=call, **extra)
        except typer.TyperException as error:
            code = _usage_error(error, as_json=_wants_json(given))
        except SystemExit:  # how typer ends when nobody reads stdout any more
            code = _PIPE_CLOSED
        except typer.Abort:
            typer.echo("Interrupted.", err=True)
            code = 130
        except Exception as error:  # noqa: BLE001 - the boundary: everything ends as a message and an exit code
            code = _failure(call, error)
        sys.exit(code if isinstance(code, int) else 0)


def _usage_error(error: typer.TyperException, *, as_json: bool) -> int:
    if as_json:
        print_json({"error": {"kind": "usage", "message": error.format_message(), "context": {}}})
    else:
        error.show()  # type: ignore[attr-defined]
    return error.exit_code


def _wants_json(given: Sequence[str]) -> bool:
    """Whether JSON was asked for, read from words that could not be parsed."""
    return "--output=json" in given or ("--output", "json") in pairwise(given)


def _failure(call: Call, error: Exception) -> int:
    """Report an error of the lakehouse, or a bug; return the exit code."""
    failures = import_module("api.cli.failures")  # imports lakehouse, which `--help` must not pay for
    code: int = failures.report(call, error)
    if code == 1:
        typer.echo("".join(traceback.format_exception(error)), err=True, nl=False)
        typer.echo("This is a bug. Please report it with the lines above and the output of: lakehouse doctor", err=True)
    return code


def _set(ctx: typer.Context, param: typer.CallbackParam, value: Any) -> Any:
    """Keep a global option, wherever on the line it stood."""
    if value not in (None, 0):
        setattr(call_of(ctx), param.name, value)
        if param.name == "verbose":
            set_up_logging(value)
    return value


def _version(value: bool) -> None:
    if value:
        try:
            release = version("lakehouse")
        except PackageNotFoundError:  # run from its source, not installed
            release = "(source)"
        typer.echo(f"lakehouse {release}")
        raise typer.Exit


app = typer.Typer(
    cls=RootGroup,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="A state is named [namespace.]dataset[@selector]: photos, photos@v3, photos@FINAL, photos@#57, "
    "photos@2026-11-01, photos@spring/v2. The options above may also stand after the command. "
    "`lakehouse COMMAND --help` shows one command with an example.",
)


@app.callback()
def top(
    root: Annotated[
        str | None,
        typer.Option(
            metavar="URI",
            callback=_set,
            help="The lakehouse: a folder, s3://bucket/prefix or a profile's name; else $LAKEHOUSE_ROOT.",
        ),
    ] = None,
    output: Annotated[
        Literal["table", "json"] | None,
        typer.Option(callback=_set, help="Tables for people, or JSON for programs. [default: table]"),
    ] = None,
    verbose: Annotated[
        int,
        typer.Option(
            "--verbose",
            "-v",
            count=True,
            callback=_set,
            show_default=False,
            help="Log to stderr; twice for everything.",
        ),
    ] = 0,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Versioned datasets for machine learning on open table formats, with no database server."""


def main() -> None:
    """Run the command line."""
    get_command(app)(prog_name="lakehouse")


if __name__ == "__main__":
    main()
