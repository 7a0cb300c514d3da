"""How long work tells a person how far it is: three calls that a face turns into a bar, a log or nothing."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Where work reports to. It is called from one thread, and often: an implementation must be quick."""

    def total(self, items: int | None) -> None:
        """Say how many items there are in all; None when that is not known."""
        ...

    def advance(self, items: int) -> None:
        """Say that so many more items are done."""
        ...

    def message(self, text: str) -> None:
        """Say what is being done now, in a few words."""
        ...


class _Silent:
    def total(self, items: int | None) -> None:
        pass

    def advance(self, items: int) -> None:
        pass

    def message(self, text: str) -> None:
        pass


SILENT: Progress = _Silent()
"""Reports to nobody."""
