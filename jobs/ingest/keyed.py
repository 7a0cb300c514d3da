"""Appending to a dataset with a key while others write too: no key lands twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from lakehouse.commits import backoff
from lakehouse.errors import ConflictError
from lakehouse.tables import PATIENCE_S, Commit, Table


def append_unseen(
    table: Table, rows: pa.Table, base: int, unseen: Callable[[pa.Table], pa.Table], **said: Any
) -> Commit:
    """Append rows on top of the version at which their keys were looked up; when others were first, look up again.

    Args:
        rows: Rows with keys that `base`, a table version, does not have.
        unseen: Returns those of some rows whose keys are not there at head.
        said: `run`, `message`, `txn` and `evolve`, as of `Table.append`.
    Raises:
        ConflictError: others kept winning for ten minutes (table-busy).
    """
    deadline, tries = time.monotonic() + PATIENCE_S, 0
    while True:
        try:
            return table.append(rows, expected_version=base, **said)
        except ConflictError as error:
            if error.kind != "table-changed":
                raise
            if time.monotonic() > deadline:
                raise ConflictError(
                    "table-busy",
                    f"{table.name} could not be appended to for {PATIENCE_S:.0f} s: others keep writing. Try again.",
                    dataset=table.name,
                ) from error
        tries += 1
        backoff(tries)
        base = table.version()
        rows = unseen(rows)
        if not rows.num_rows:
            return Commit(base)
