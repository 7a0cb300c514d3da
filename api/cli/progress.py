"""A progress bar on stderr; nothing when stderr is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from jobs.progress import SILENT, Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID


class _Bar:
    """Shows a job's reports in one bar."""

    def __init__(self, bars: Bars, task: TaskID) -> None:
        self._bars, self._task = bars, task

    def total(self, items: int | None) -> None:
        self._bars.update(self._task, total=items)

    def advance(self, items: int) -> None:
        self._bars.advance(self._task, items)

    def message(self, text: str) -> None:
        self._bars.update(self._task, description=text)


@contextmanager
def progress(title: str) -> Iterator[Progress]:
    """Show a bar while a job runs; it disappears at the end.

    Args:
        title: Shown until the job says what it does.
    """
    if not sys.stderr.isatty():
        yield SILENT
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        yield _Bar(bars, bars.add_task(title, total=None))
