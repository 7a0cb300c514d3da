"""The ledger: the one Delta table of decisions, its compare-and-swap, and the fold to the current state.

Whatever must be unique, ordered or consistent with something else is decided here. A decision is made by reading
the state at ledger version N, validating, and committing on top of exactly N; when somebody else was first, the
state is read again and the decision validated again.
"""

from __future__ import annotations

import copy
import itertools
import logging
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import Any, Generic, TypeVar
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from lakehouse.access import check_decisions, unexplained
from lakehouse.chain import chained
from lakehouse.commits import LEDGER_PROPERTIES, backoff, fell_behind, own_commit, reopening, worth_retrying
from lakehouse.decisions import DATA_TAGS, Chain, Decision, Format
from lakehouse.delta import arrow_table, refuse_fork
from lakehouse.errors import ConflictError, FormatError, LakeError, NotFoundError, StorageError, translated
from lakehouse.small_files import TARGET_BYTES
from lakehouse.state import EMPTY, State
from lakehouse.storage import Storage
from lakehouse.upkeep import awake_s, overslept, tend_if_due
from lakehouse.visibility import visible

log = logging.getLogger(__name__)

LEDGER_KEY = "_system/ledger"
FORMAT_NUMBER = 1
REOPEN_AFTER = 500
"""Reads after which the handle is opened anew: delta-rs' handles slow down with use."""
PATIENCE_S = 300.0
"""Seconds for which a decision is tried again while others keep winning."""

SCHEMA = pa.schema(
    [
        pa.field("seq", pa.int64(), nullable=False),  # the ledger version that the decision belongs to
        pa.field("pos", pa.int32(), nullable=False),  # order within that version
        pa.field("entity", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("value", pa.string()),  # JSON; null = removed
        pa.field("action", pa.string(), nullable=False),
        pa.field("at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("actor", pa.string(), nullable=False),
        pa.field("run", pa.string()),
        pa.field("message", pa.string()),
        pa.field("commit_id", pa.string(), nullable=False),
    ]
)

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Decided(Generic[R]):
    """What one decision gave: the function's own result, and the state that includes it."""

    result: R
    state: State


@dataclass(frozen=True, slots=True)
class _File:
    """One file of the ledger."""

    key: str
    bytes: int
    first: int
    """The first ledger version of which it has decisions; without statistics the first of all."""
    last: int


def _files(table: DeltaTable) -> list[_File]:
    adds = arrow_table(table.get_add_actions(flatten=True))
    unknown = [None] * adds.num_rows
    bounds = [adds.column(n).to_pylist() if n in adds.column_names else unknown for n in ("min.seq", "max.seq")]
    paths, sizes = (adds.column(n).to_pylist() for n in ("path", "size_bytes"))
    return [
        _File(f"{LEDGER_KEY}/{path}", size, -1 if low is None else low, sys.maxsize if high is None else high)
        for path, size, low, high in zip(paths, sizes, *bounds, strict=True)
    ]


class Ledger:
    """The ledger of one root.

    Args:
        storage: The root.
        actor: Who decides, for the audit.
    """

    def __init__(self, storage: Storage, actor: str) -> None:
        self._storage = storage
        self.actor = actor
        self.guarded = True
        self.rehearses = False
        self._lock = threading.RLock()
        self._state = EMPTY
        self._looked_at = -math.inf
        self._table: DeltaTable | None = None
        self._uses = 0
        # One transaction id for each thread, which decides one thing after another: ids would make opening slow if
        # each decision had its own.
        self._app = uuid4().hex
        self._numbers = itertools.count()

    def create(self) -> bool:
        """Create the ledger with its first decisions, or finish that; return False when it is there already."""
        try:
            self._open()
        except NotFoundError:
            self._create_table()
        first = Format(number=FORMAT_NUMBER, lakehouse_id=uuid4().hex, created_at=datetime.now(UTC))

        def seed(state: State) -> tuple[bool, list[Decision]]:
            if state.get(Format, "format") is not None:
                return False, []
            return True, [Decision.put("lakehouse.init", v) for v in (first, *DATA_TAGS)]

        return self.decide(seed).result

    def unguarded(self) -> Ledger:
        """Return the same ledger without access control: for what follows from a decision that was allowed."""
        free = copy.copy(self)
        free.guarded = False
        return free

    def rehearsing(self) -> Ledger:
        """Return the same ledger, which judges decisions and makes none."""
        tried = copy.copy(self)
        tried.rehearses = True
        return tried

    def state(self, *, within_s: float = 0.0) -> State:
        """Return the current state as the actor sees it, reading only what came since the last call.

        Args:
            within_s: A state that was current so many seconds ago will do.
        Raises:
            NotFoundError: there is no lakehouse under the root (lakehouse-not-found).
            StorageError: a file of the ledger is lost or damaged (ledger-damaged).
            FormatError: a newer release wrote it (format-too-new).
            StateError: in a forked process (fork-unsupported).
        """
        refuse_fork("The ledger")
        if time.monotonic() - self._looked_at < within_s:
            return visible(self._state, self.actor) if self.guarded else self._state
        with self._lock:
            try:
                state = self._looked()
            except LakeError as error:
                if not fell_behind(error):
                    raise
                # This process slept while others cleaned up after it: begin at what is there now.
                self._table = None
                state = self._reopening(self._looked)
        if state.get(Format, "format") is None:  # `init` died half way, and can be run again
            raise self._missing()
        self._looked_at = time.monotonic()
        return visible(state, self.actor) if self.guarded else state

    def decide(
        self,
        rule: Callable[[State], tuple[R, Sequence[Decision]]],
        *,
        run: str | None = None,
        message: str | None = None,
    ) -> Decided[R]:
        """Make decisions in one commit: all are visible, or none.

        Args:
            rule: Looks at a state, raises if the decision is not allowed, and returns its result with the decisions
                to commit (none: nothing is committed). It is called again on a newer state when somebody else
                committed first, so it must have no effects of its own.
            run: Id of the run that decides, if any.
            message: A person's words, kept with the decisions.
        Returns:
            The result of the call whose decisions landed, and the state after them.
        Raises:
            AccessDeniedError: the actor may not decide that (access-denied).
            ConflictError: others kept winning for five minutes (ledger-busy).
            StorageError: the store failed for as long (storage-unavailable), or for good (storage-full, ...).
        """
        commit_id = uuid4().hex
        app = f"{self._app}-{threading.get_ident()}"
        attempts: dict[int | None, R] = {}
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                opened = awake_s()
                table, state, landed = self._reopening(lambda: self._opened(app))
                if landed in attempts:  # the response was lost, the commit was not
                    return Decided(attempts[landed], state)
                result, decisions = self._judged(state, rule)
                if not decisions or self.rehearses:
                    return Decided(result, state)
                attempt = next(self._numbers)
                attempts[attempt] = result
                rows = self._rows(table.version() + 1, decisions, commit_id, run, message)
                rows = chained(rows, state.get(Chain, Chain.KEY))
                folded = list(zip(*(rows.column(n).to_pylist() for n in ("entity", "key", "value")), strict=True))
                self._commit(table, rows, (app, attempt), run, message)
                tend_if_due(self._storage, LEDGER_KEY, table.version(), LEDGER_PROPERTIES)
                if overslept(opened):  # the log may have been cut off before this commit, which nobody sees then
                    continue
            except (DeltaError, OSError, LakeError) as error:
                late = time.monotonic() > deadline
                if not attempts or late or not (worth_retrying(error) or fell_behind(error)):
                    if late and isinstance(error, CommitFailedError):
                        raise ConflictError(
                            "ledger-busy",
                            f"The ledger could not be committed to for {PATIENCE_S:.0f} s ({type(error).__name__}). Try again.",
                        ) from error
                    with translated("committing to the ledger"):
                        raise
                log.debug("ledger commit tried again", extra={"attempt": len(attempts), "error": type(error).__name__})
                backoff(len(attempts))
                continue
            return Decided(result, self._keep(state.with_rows(state.seq + 1, folded)))

    def history(self, entity: str = "", under: str = "") -> pa.Table:
        """Return the decisions ever made (columns of `SCHEMA`), oldest first; the links of the chain are left out.

        Args:
            entity: Only those about values of this entity; others are let go file by file. Empty: all.
            under: Only those whose key begins so.
        """

        def wanted(part: pa.Table) -> pa.Table:
            pairs = zip(part.column("entity").to_pylist(), part.column("key").to_pylist(), strict=True)
            kept = [e != Chain.ENTITY and entity in ("", e) and key.startswith(under) for e, key in pairs]
            return part.filter(pa.array(kept, pa.bool_()))

        return self._reopening(lambda: self._read(self._open(), -1, wanted).select(SCHEMA.names))

    def replay(self) -> Iterator[pa.Table]:
        """Iterate over all rows of the ledger in order, the links of the chain too, some files at a time.

        The parts end between commits. Memory is bounded by the files that one upkeep joins, as long as these follow
        each other.
        """
        group, size, top = list[_File](), 0, -1
        for file in sorted(_files(self._open()), key=lambda f: f.first):
            if size >= TARGET_BYTES and file.first > top:
                yield self._fetch(group)
                group, size = [], 0
            group.append(file)
            size, top = size + file.bytes, max(top, file.last)
        if group:
            yield self._fetch(group)

    # -- inside ---------------------------------------------------------------------------------------------------

    def _reopening(self, read: Callable[[], R]) -> R:
        """Return what `read` gives; it is called again when a clean-up deleted what it had just opened.

        Raises:
            StorageError: a file of the ledger is missing or damaged (ledger-damaged).
        """
        try:
            return reopening(read)
        except LakeError as error:
            if error.kind != "object-not-found":
                raise
            raise self._damaged(str(error)) from error

    def _damaged(self, why: str) -> StorageError:
        return StorageError(
            "ledger-damaged",
            f"The ledger can't be read. {why} Put the file back from a copy of {self._storage.uri(LEDGER_KEY)}: its files "
            "never change, and nothing deletes those that it lists.",
        )

    def _judged(
        self, state: State, rule: Callable[[State], tuple[R, Sequence[Decision]]]
    ) -> tuple[R, Sequence[Decision]]:
        """Return what a rule says of a state, if the actor may decide that."""
        if not self.guarded:
            return rule(state)
        seen = visible(state, self.actor)
        if seen is not state:  # told of what he sees, before anything that he does not see has a say
            check_decisions(seen, self.actor, rule(seen)[1])
        try:
            result, decisions = rule(state)
        except LakeError as error:
            raise error if seen is state else unexplained(error, self.actor) from None
        check_decisions(state, self.actor, decisions)
        return result, decisions

    def _create_table(self) -> None:
        with translated("creating the ledger"):
            try:
                DeltaTable.create(
                    self._storage.uri(LEDGER_KEY),
                    SCHEMA,
                    mode="ignore",
                    configuration=LEDGER_PROPERTIES,
                    storage_options=self._storage.options(),
                )
            except DeltaError:
                # Another process made it at the same moment, or the answer was lost: then it is there.
                DeltaTable(self._storage.uri(LEDGER_KEY), storage_options=self._storage.options())

    def _open(self) -> DeltaTable:
        refuse_fork("The ledger")
        with translated("opening the ledger"):
            try:
                return DeltaTable(self._storage.uri(LEDGER_KEY), storage_options=self._storage.options())
            except TableNotFoundError as error:
                raise self._missing() from error

    def _missing(self) -> NotFoundError:
        root = self._storage.root
        return NotFoundError(
            "lakehouse-not-found",
            f"There is no lakehouse at {root}. Make one with: lakehouse init --root {root}",
            root=root,
        )

    def _looked(self) -> State:
        """Return the newest state through the handle that is kept for reading."""
        if self._table is None or self._uses >= REOPEN_AFTER:
            self._table, self._uses = self._open(), 0
        else:
            with translated("looking for new decisions"):
                self._table.update_incremental()
        self._uses += 1
        return self._refresh(self._table)

    def _opened(self, app: str) -> tuple[DeltaTable, State, int | None]:
        """Open the ledger freshly, for a commit on top of exactly this state; look for a transaction on the way."""
        table = self._open()
        return table, self._refresh(table), table.transaction_version(app)

    def _refresh(self, table: DeltaTable) -> State:
        """Return the state at the version of a handle, or a newer one that is known already."""
        with self._lock:
            state, version = self._state, table.version()
            if version <= state.seq:
                return state
            rows = self._read(table, state.seq)
            columns = [rows.column(name).to_pylist() for name in ("seq", "entity", "key", "value")]
            # Filtered here, since a comparison in Arrow would import pandas, which takes 0.2 s.
            after = [(*row,) for seq, *row in zip(*columns, strict=True) if seq > state.seq]
            state = state.with_rows(version, after)
            found = state.get(Format, "format")
            if found is not None and found.number > FORMAT_NUMBER:
                raise FormatError(
                    "format-too-new",
                    f"This lakehouse has format {found.number}, this release reads {FORMAT_NUMBER}. "
                    "Upgrade with: pip install -U lakehouse",
                )
            return self._keep(state)

    def _keep(self, state: State) -> State:
        """Go on from a state the next time, unless a newer one is known; return it."""
        with self._lock:
            self._state = max(self._state, state, key=lambda s: s.seq)
        return state

    def _read(
        self, table: DeltaTable, after: int, wanted: Callable[[pa.Table], pa.Table] = lambda part: part
    ) -> pa.Table:
        """Read the files that hold decisions beyond version `after`, in order; they may hold earlier ones too.

        Args:
            wanted: Returns what is needed of a part of a file.
        """
        return self._fetch([file for file in _files(table) if file.last > after], wanted)

    def _fetch(self, files: Sequence[_File], wanted: Callable[[pa.Table], pa.Table] = lambda part: part) -> pa.Table:
        if not files:
            return SCHEMA.empty_table()

        def read(file: _File) -> pa.Table:
            content = BytesIO(self._storage.get(file.key))
            try:
                with pq.ParquetFile(content) as opened:
                    parts = (pa.Table.from_batches([batch]).cast(SCHEMA) for batch in opened.iter_batches())
                    return pa.concat_tables([wanted(part) for part in parts])
            except (pa.ArrowInvalid, OSError) as error:
                raise self._damaged(f"{file.key} is damaged.") from error

        with translated("reading the ledger"), ThreadPoolExecutor(min(16, len(files))) as pool:
            tables = list(pool.map(read, files))
        return pa.concat_tables(tables).sort_by([("seq", "ascending"), ("pos", "ascending")])

    def _rows(
        self,
        seq: int,
        decisions: Sequence[Decision],
        commit_id: str,
        run: str | None,
        message: str | None,
    ) -> pa.Table:
        count, now = len(decisions), datetime.now(UTC)
        columns: list[list[Any]] = [
            [seq] * count,
            list(range(count)),
            [d.entity for d in decisions],
            [d.key for d in decisions],
            [d.value.to_json() if d.value else None for d in decisions],
            [d.action for d in decisions],
            [now] * count,
            [self.actor] * count,
            [run] * count,
            [message] * count,
            [commit_id] * count,
        ]
        return pa.table([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)

    def _commit(
        self, table: DeltaTable, rows: pa.Table, txn: tuple[str, int], run: str | None, message: str | None
    ) -> None:
        write_deltalake(
            table,
            rows,
            mode="append",
            commit_properties=own_commit(*txn, actor=self.actor, run=run, message=message, retries=0),
        )


__all__ = ["EMPTY", "LEDGER_KEY", "SCHEMA", "Decided", "Ledger", "State"]
