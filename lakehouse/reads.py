"""Who read what: each opening of a state is noted, and written to the store in the background.

A reader never waits for it and never fails for it. One thread per lake, which lives while there is something to write,
puts what was noted into the spool as small objects of JSON lines; `read_spool` folds these into the fact table `reads`.
A process that is killed loses what it noted within the last moment.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import secrets
import socket
import sys
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakSet

from lakehouse.errors import AccessDeniedError
from lakehouse.storage import Create, Storage

if TYPE_CHECKING:
    from lakehouse.snapshots import Snapshot

log = logging.getLogger(__name__)

SPOOL = "_system/spool/reads"
"""Where the objects lie until they are folded."""
PACE_S = 1.0
"""Seconds between two objects of one process."""
WINDOW_S = 60.0
"""Seconds within which a process that opens the same state again is counted, and not noted anew."""
EXIT_S = 3.0
"""Seconds for which a process that ends waits for the store, at most."""
_REMEMBERED = 10_000

Key = tuple[str, int, str]
"""Dataset id, table version and reference."""


@dataclass(slots=True)
class _Opening:
    """Openings of one state by this process that were not written yet."""

    snapshot: Snapshot
    at: datetime
    """Time of the first."""
    due: float
    """When it is written, by the monotonic clock."""
    opens: int = 1


class Reads:
    """What one lake's readers opened.

    Args:
        storage: The root.
        actor: Who reads.
    """

    def __init__(self, storage: Storage, actor: str) -> None:
        self._storage, self._actor = storage, actor
        self._begin()
        _living.add(self)

    def _begin(self) -> None:
        """Start with nothing noted and no thread: at first, and in a forked process, whose parent writes its own."""
        self._noted: dict[Key, _Opening] = {}
        self._last: dict[Key, float] = {}
        self._thread: threading.Thread | None = None
        self._lock, self._writing, self._ending = threading.Lock(), threading.Lock(), threading.Event()
        self._refused = False

    def note(self, snapshot: Snapshot) -> None:
        """Note that a state was opened."""
        key, now = (snapshot.dataset.dataset_id, snapshot.table_version, snapshot.reference), time.monotonic()
        with self._lock:
            noted = self._noted.get(key)
            if noted is not None:
                noted.opens += 1
                return
            if self._refused or self._ending.is_set():
                return
            due = max(now, self._last.get(key, now - WINDOW_S) + WINDOW_S)
            self._noted[key] = _Opening(snapshot, datetime.now(UTC), due)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="lakehouse-reads", daemon=True)
                self._thread.start()

    def flush(self) -> None:
        """Write what was noted so far, and wait for it."""
        self._write(everything=True)

    def _run(self) -> None:
        while True:
            self._write(everything=self._ending.is_set())
            with self._lock:
                if not self._noted:
                    self._thread = None
                    return
            self._ending.wait(PACE_S)

    def _write(self, *, everything: bool) -> None:
        with self._writing:
            due = self._take(everything)
            if not due:
                return
            try:
                self._put(due)
            except Exception as error:  # noqa: BLE001 - whatever the store does, a reader goes on
                self._refused = isinstance(error, AccessDeniedError)
                log.info("what was read could not be noted", extra={"error": type(error).__name__})

    def _take(self, everything: bool) -> list[_Opening]:
        now = time.monotonic()
        with self._lock:
            due = {key: noted for key, noted in self._noted.items() if everything or noted.due <= now}
            for key in due:
                del self._noted[key]
                self._last[key] = now
            if len(self._last) > _REMEMBERED:
                self._last = {key: at for key, at in self._last.items() if now - at < WINDOW_S}
        return list(due.values())

    def _put(self, openings: list[_Opening]) -> None:
        if self._storage.is_local and not Path(self._storage.uri("_system")).is_dir():
            return  # the lakehouse was deleted meanwhile: it must not come back as an empty folder
        who = {"actor": self._actor, "consumer": consumer(), "host": socket.gethostname(), "process": os.getpid()}
        lines = [json.dumps(_told(opening) | who, ensure_ascii=False) for opening in openings]
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}-{secrets.token_hex(8)}.jsonl"
        self._storage.put(f"{SPOOL}/{name}", "\n".join(lines).encode(), Create())


def consumer() -> str:
    """Return what reads: `$LAKEHOUSE_CONSUMER`, or the name of the program."""
    program = Path(sys.argv[0] if sys.argv else "")
    name = program.parent.name if program.stem == "__main__" else program.name
    return os.environ.get("LAKEHOUSE_CONSUMER") or (name if name not in ("", "-c", "-m") else "python")


def _told(opening: _Opening) -> dict[str, str | int | None]:
    snapshot = opening.snapshot
    return {
        "at": opening.at.isoformat(),
        "dataset_id": snapshot.dataset.dataset_id,
        "table_version": snapshot.table_version,
        "version": snapshot.version.number if snapshot.version else None,
        "reference": snapshot.reference,
        "opens": opening.opens,
        "bytes": snapshot.file_list.bytes,
        "rows": snapshot.file_list.rows,
    }


_living: WeakSet[Reads] = WeakSet()


def _end_all() -> None:
    """Let the threads write what is left, and wait for the store, but not for ever."""
    deadline, living = time.monotonic() + EXIT_S, list(_living)
    for reads in living:
        reads._ending.set()
    for thread in filter(None, [reads._thread for reads in living]):
        thread.join(max(0.0, deadline - time.monotonic()))


def _begin_all() -> None:
    for reads in list(_living):
        reads._begin()


atexit.register(_end_all)
os.register_at_fork(after_in_child=_begin_all)

__all__ = ["SPOOL", "Reads", "consumer"]
