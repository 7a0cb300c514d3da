"""What every command module starts with: registering a command with its example, and opening the lake."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperGroup

import lakehouse
from api.cli.call import call_of

log = logging.getLogger(__name__)
_F = TypeVar("_F", bound=Callable[..., None])

Yes = Annotated[bool, typer.Option("--yes", help="Do it; without it only what would happen is shown.")]
Wide = Annotated[bool, typer.Option("--wide", help="Show all columns whole, also where lines become long.")]
Message = Annotated[str | None, typer.Option("--message", "-m", help="Why, for the log.")]


class _Group(TyperGroup):
    """Commands under one word."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands, each with its first sentence: whole, where Typer would cut it off."""
        whole = 1_000
        rows = [(name, command.get_short_help_str(whole)) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def commands(help: str | None = None) -> typer.Typer:
    """Return an empty list of commands."""
    return typer.Typer(cls=_Group, help=help, add_completion=False, no_args_is_help=True, rich_markup_mode=None)


def command(app: typer.Typer, name: str, *, example: str, python: str) -> Callable[[_F], _F]:
    """Register a function as a command.

    Args:
        name: As it is typed.
        example: What follows `lakehouse` in an example.
        python: The Python call that does the same; a test resolves it and checks its arguments.
    """
    # \b keeps the help from wrapping the lines that follow it.
    return app.command(name, epilog=f"\b\nExample:\n  lakehouse {example}\nPython:\n  {python}")


def open_lake(ctx: typer.Context) -> lakehouse.Lake:
    """Open the lakehouse that the global options name; errors as `lakehouse.connect`."""
    lake = lakehouse.connect(call_of(ctx).root)
    log.info("opened", extra={"root": lake.root, "decisions": lake.state().seq})
    return lake


def listed(text: str | None) -> list[str]:
    """Return the parts of a comma-separated option: `path,split`."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]
