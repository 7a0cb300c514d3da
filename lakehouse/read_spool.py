"""The spool of reads: small objects that readers left (see `reads`), and how they become rows of a fact table.

Each object is folded exactly once, whoever folds at the same time and whatever dies when. Its rows carry its name, so
that it is known which objects are in the table, and only those are deleted. Folds are numbered transactions: the rows of
fold n + 1 are chosen after fold n was seen, and only one fold gets the number.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pyarrow as pa

from lakehouse.errors import NotFoundError
from lakehouse.facts import SCHEMAS, Facts
from lakehouse.readers.duck import literal
from lakehouse.reads import SPOOL
from lakehouse.storage import Storage

log = logging.getLogger(__name__)

READS = "reads"
"""The fact table."""
AT_MOST = 1_000
"""Objects that become one commit."""
_FOLDS = "fold-reads"
_AT_ONCE = 16


def spooled(storage: Storage, names: Iterable[str] | None = None, only: Collection[str] | None = None) -> pa.Table:
    """Return what objects of the spool tell, as rows of the fact table.

    Args:
        names: Which; None means all. One that is gone, or that can't be read, has no rows.
        only: Ids of the datasets whose reads are told; None means all.
    """
    chosen = _names(storage) if names is None else list(names)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        parts = list(pool.map(lambda name: _rows(storage, name), chosen))
    found = pa.concat_tables([SCHEMAS[READS].empty_table(), *parts])
    if only is None:
        return found
    return found.filter(pa.array([i in only for i in found.column("dataset_id").to_pylist()], pa.bool_()))


def fold_reads(storage: Storage, facts: Facts) -> int:
    """Move what lies in the spool into the fact table; return how many objects were folded.

    Raises:
        AccessDeniedError, StorageError: the store refused or failed; what was not folded stays in the spool.
    """
    folded, unreadable = 0, set[str]()
    while names := [name for name in _names(storage) if name not in unreadable][:AT_MOST]:
        number = facts.landed(READS, _FOLDS) or 0
        known = _known(facts, names)
        fresh = [name for name in names if name not in known]
        rows = spooled(storage, fresh)
        unreadable |= set(fresh).difference(rows.column("spool").to_pylist())
        if rows.num_rows:
            facts.append(READS, rows, (_FOLDS, number + 1))
            # Another fold may have got the number.
            known = _known(facts, names)
        storage.delete([f"{SPOOL}/{name}" for name in names if name in known])
        folded += len(known)
    return folded


def _names(storage: Storage) -> list[str]:
    """Return the names of the objects, oldest first."""
    return sorted(info.key.removeprefix(f"{SPOOL}/") for info in storage.list(SPOOL))


def _known(facts: Facts, names: Sequence[str]) -> set[str]:
    """Return which of these objects, given in order, are in the fact table."""
    found = facts.snapshot(READS)
    if found is None:
        return set()
    where = f"spool between {literal(names[0])} and {literal(names[-1])}"
    return set(names).intersection(found.to_arrow(["spool"], where).column("spool").to_pylist())


def _rows(storage: Storage, name: str) -> pa.Table:
    schema = SCHEMAS[READS]
    try:
        lines = storage.get(f"{SPOOL}/{name}").decode().splitlines()
        told = [json.loads(line) for line in lines]
        rows = [row | {"at": datetime.fromisoformat(row["at"]), "spool": name} for row in told]
        found = pa.Table.from_pylist(rows, schema=schema)
        found.validate(full=True)
        if any(found.column(f.name).null_count for f in schema if not f.nullable):
            raise ValueError("a required field is missing")
    except NotFoundError:  # folded meanwhile
        return schema.empty_table()
    except (ValueError, TypeError, LookupError):
        log.warning("an object of the spool can't be read", extra={"object": f"{SPOOL}/{name}"})
        return schema.empty_table()
    return found


__all__ = ["fold_reads", "spooled"]
