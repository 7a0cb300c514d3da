"""One call of the command line: what the global options say. Imports nothing heavy."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import typer

_KNOWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


@dataclass(slots=True)
class Call:
    """The global options; each may stand before the command or after it."""

    root: str | None = None
    """A folder, URI or profile; None: $LAKEHOUSE_ROOT or the default profile."""
    output: Literal["table", "json"] = "table"
    verbose: int = 0
    """0: warnings, 1: what is done, 2: everything."""

    @property
    def json(self) -> bool:
        """Whether stdout is read by a program."""
        return self.output == "json"


def call_of(ctx: typer.Context) -> Call:
    """Return the call that a command belongs to."""
    assert isinstance(ctx.obj, Call)
    return ctx.obj


class _LogLine(logging.Formatter):
    """One line an event: time, level, module, words, and the extra fields as `name=value`."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        extra = "".join(f" {k}={v}" for k, v in record.__dict__.items() if k not in _KNOWN)
        line = f"{time} {record.levelname} {record.name} {record.getMessage()}{extra}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def set_up_logging(verbose: int) -> None:
    """Send the logs of our packages to stderr: warnings, with 1 what is done, with 2 everything."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LogLine())
    for package in ("lakehouse", "catalog", "jobs", "api"):
        logger = logging.getLogger(package)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel({0: logging.WARNING, 1: logging.INFO}.get(verbose, logging.DEBUG))
