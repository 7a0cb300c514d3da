"""The index of hashes, by which bytes are stored once per namespace.

It is the fact table `blobs`. A run keeps 8 bytes in memory for each asset that its namespace holds, and reads the
table again only for digests whose first 8 bytes are known.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakehouse.blobs import Location
from lakehouse.errors import translated
from lakehouse.facts import SCHEMAS, Facts
from lakehouse.readers.duck import connect, identifier, literal
from lakehouse.readers.relation import register_table, source_sql
from lakehouse.snapshots import Snapshot

_TABLE = "blobs"
_PLACE = ("sha256", "uri", "offset", "length")
_Prefixes = npt.NDArray[np.int64]


class HashIndex:
    """Which bytes a namespace holds already, as one run sees it: its own work, and all that was there at its start.

    Args:
        facts: Where the index is kept.
        namespace: A checked namespace name.
        run: The run that stores new bytes.
    """

    def __init__(self, facts: Facts, namespace: str, run: str) -> None:
        self._facts, self._namespace, self._run = facts, namespace, run
        self._rows = facts.snapshot(_TABLE)
        self._here = f"namespace = {literal(namespace)}"
        self._known: list[_Prefixes] = []
        self._new: dict[bytes, Location] = {}
        if self._rows is not None:
            self._learn(_load(self._rows, self._here))

    def lookup(self, digests: Sequence[bytes]) -> list[Location | None]:
        """Return where the bytes of each digest are, None for unknown ones; fast for some thousand digests at once.

        A digest that is new and twice in one call is None twice: `recent` tells of the first when it was remembered.

        Args:
            digests: sha256 digests of 32 bytes.
        Raises:
            AccessDeniedError, StorageError: the index could not be read.
        """
        found = [self._new.get(digest) for digest in digests]
        prefixes = _prefixes(digests)
        hit = np.zeros(len(digests), dtype=bool)
        for known in self._known:
            hit |= known[np.minimum(np.searchsorted(known, prefixes), len(known) - 1)] == prefixes
        candidates = {digests[at] for at in np.flatnonzero(hit).tolist() if found[at] is None}
        if candidates:
            stored = self._resolve(candidates)
            found = [
                stored.get(digest) if place is None else place for digest, place in zip(digests, found, strict=True)
            ]
        return found

    def recent(self, digest: bytes) -> Location | None:
        """Return where the bytes are if they were remembered since the last `save`."""
        return self._new.get(digest)

    def remember(self, digest: bytes, location: Location) -> None:
        """Note bytes that this run has stored; others learn of them by `save`."""
        self._new[digest] = location

    def pending(self) -> pa.Table:
        """Return what was remembered since the last `save`, as rows of the fact table `blobs`."""
        count, places = len(self._new), list(self._new.values())
        columns = [
            pa.repeat(pa.scalar(self._namespace), count),
            pa.array(_prefixes(list(self._new))),
            pa.array([digest.hex() for digest in self._new], pa.string()),
            pa.array([place.uri for place in places], pa.string()),
            pa.array([place.offset for place in places], pa.int64()),
            pa.array([place.length for place in places], pa.int64()),
            pa.repeat(pa.scalar(self._run), count),
        ]
        return pa.Table.from_arrays(columns, schema=SCHEMAS[_TABLE])

    def save(self, txn: tuple[str, int]) -> None:
        """Append what is pending to the index; call it only when the bytes are durable (`PackWriter.flush`).

        Args:
            txn: Application transaction of this append: (run, batch number).
        Raises:
            AccessDeniedError, StorageError: the index could not be written; nothing is forgotten.
        """
        if not self._new:
            return
        self._facts.append(_TABLE, self.pending(), txn)
        self._learn(np.sort(_prefixes(list(self._new))))
        self._new = {}
        self._rows = None  # the next look-up that needs rows opens the table with these in it

    def _learn(self, prefixes: _Prefixes) -> None:
        # Sorted runs, each more than twice the next one: few to search, and each entry is merged log(n) times.
        self._known.append(prefixes)
        while len(self._known) > 1 and len(self._known[-2]) <= 2 * len(self._known[-1]):
            merged = np.concatenate((self._known.pop(), self._known.pop()))
            merged.sort(kind="stable")
            self._known.append(merged)
        self._known = [known for known in self._known if len(known)]

    def _resolve(self, digests: set[bytes]) -> dict[bytes, Location]:
        if self._rows is None:
            self._rows = self._facts.snapshot(_TABLE)
        if self._rows is None:
            return {}
        wanted = pa.table({"prefix": np.unique(_prefixes(list(digests)))})
        # A join, since a condition that lists some thousand numbers takes longer to parse than the join to run.
        with connect() as con, translated("looking up stored bytes"):
            known = source_sql(con, self._rows, ["namespace", "prefix", *_PLACE])
            query = f"select {', '.join(map(identifier, _PLACE))} from ({known}) where {self._here} and prefix in "
            rows = con.sql(f"{query} (select prefix from {register_table(con, wanted)})").fetchall()
        return {bytes.fromhex(sha256): Location(*place) for sha256, *place in reversed(rows)}


def _load(rows: Snapshot, where: str) -> _Prefixes:
    # An array grows in place; joining the batches at the end would need the memory twice.
    loaded = array("q")
    for batch in rows.batches(["prefix"], where):
        loaded.frombytes(batch.column("prefix").to_numpy().tobytes())
    prefixes = np.frombuffer(loaded, dtype=np.int64)
    prefixes.sort()
    return prefixes


def _prefixes(digests: Sequence[bytes]) -> _Prefixes:
    return np.frombuffer(b"".join(digest[:8] for digest in digests), dtype=">i8").astype(np.int64)


__all__ = ["HashIndex"]
