"""Folding: the log entries of states that are given up go, after what they tell of commits was recorded.

What stays of the log is what the states that stay need: for each the last checkpoint at or before it and the entries
up to it. Any Delta reader opens them as before, and refuses the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO

import obstore
import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.commit_log import COLUMNS, COMMITS, folded_commits
from lakehouse.commits import reopening
from lakehouse.decisions import Dataset
from lakehouse.delta import open_delta, table_uri
from lakehouse.errors import NotFoundError, translated
from lakehouse.facts import SCHEMAS, Facts
from lakehouse.history import LogEntry, read_tail
from lakehouse.logfiles import LogFiles, list_log
from lakehouse.storage import Storage

_MANY_REMOVED = 1_000


def record(facts: Facts, storage: Storage, dataset: Dataset, last: int, commits: Sequence[LogEntry]) -> None:
    """Write down the commits up to a table version, whose log entries are about to go, each once.

    Args:
        last: The newest table version to record.
        commits: Those that the caller has read already: of consecutive table versions that end with `last`.
    """
    known = {c.table_version for c in folded_commits(storage, dataset.dataset_id, 0, last)}
    read = commits[0].table_version if commits else last + 1
    # A clean-up that died between its decision and this left some for the next one.
    left = [v for v in list_log(storage, dataset.location).entries if v < read and v not in known]
    fresh = [*read_tail(storage, dataset.location, left), *(c for c in commits if c.table_version not in known)]
    if not fresh:
        return
    rows = [{"dataset_id": dataset.dataset_id} | {n: getattr(c, n) for n in COLUMNS} for c in fresh]
    txn = (f"{COMMITS}-{dataset.dataset_id}", last)
    facts.append(COMMITS, pa.Table.from_pylist(rows, schema=SCHEMAS[COMMITS]), txn)


def checkpoint(storage: Storage, dataset: Dataset, version: int) -> None:
    """Make a checkpoint of a table version, without the files that it no longer lists if those are many.

    A checkpoint carries the removed files for clean-ups that look for them there; ours does not, so they would only
    make opening slower and slower. To leave them out it is replaced in place, which may disturb who reads it just then.

    Raises:
        NotFoundError: the version was folded away meanwhile (version-not-found).
    """
    with translated(f"making a checkpoint of {dataset.full_name}"):
        # Another clean-up may replace the checkpoint that this one starts from.
        reopening(lambda: open_delta(storage, dataset.location, dataset.full_name, version).create_checkpoint())
    keys = list_log(storage, dataset.location).checkpoints.get(version, ())
    store = storage.store(table_uri(storage, dataset.location))
    if len(keys) != 1:
        return
    with translated(f"making a checkpoint of {dataset.full_name}"):
        whole = pq.read_table(BytesIO(bytes(obstore.get(store, keys[0]).bytes())))
        slim = whole.filter(whole.column("remove").is_null())
        if whole.num_rows - slim.num_rows < _MANY_REMOVED:
            return
        target = BytesIO()
        pq.write_table(slim, target)
        obstore.put(store, keys[0], target.getvalue())


def fold(storage: Storage, dataset: Dataset, kept: Sequence[int], before: int) -> None:
    """Delete the log files that no state which stays needs.

    Args:
        kept: Table versions below `before` that stay readable, ascending.
        before: This version and all later ones stay.
    """
    found = list_log(storage, dataset.location)
    if dataset.guarantee == "own" and len(_with_checkpoint(found, before).surplus(kept, before)) > len(
        found.surplus(kept, before)
    ):
        try:
            checkpoint(storage, dataset, before)
        except NotFoundError:  # a later clean-up has folded more than this one would
            return
        found = list_log(storage, dataset.location)
    # Oldest first: what a fold that dies leaves is a shorter history, never one with a hole in it.
    storage.delete(found.surplus(kept, before), table_uri(storage, dataset.location))


def foldable(storage: Storage, dataset: Dataset, kept: Sequence[int], before: int) -> int:
    """Return how many log files `fold` would delete."""
    found = list_log(storage, dataset.location)
    if dataset.guarantee == "own":
        found = _with_checkpoint(found, before)
    return len(found.surplus(kept, before))


def _with_checkpoint(found: LogFiles, version: int) -> LogFiles:
    return replace(found, checkpoints=dict(sorted({version: (), **found.checkpoints}.items())))
