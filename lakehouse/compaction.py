"""Optimize: the rows of a dataset in fewer, larger, better ordered files; what the dataset says does not change.

Each commit replaces some files by others with the same rows. It is marked as no change of data, so the change feed is
empty and no job sees it. Writers go on meanwhile: after an append only the commit is tried again, and of a merge or a
delete on the same files one comes first and the other starts over.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse import layout
from lakehouse.commits import backoff
from lakehouse.datafiles import TARGET_BYTES
from lakehouse.decisions import Dataset
from lakehouse.delta import FileList, Route, arrow_table, list_files, refuse_foreign
from lakehouse.errors import InvalidInputError, translated
from lakehouse.key_ranges import FOOTERS_AT_ONCE, Range, key_ranges
from lakehouse.lake import Lake
from lakehouse.layout import Order, Part
from lakehouse.progress import SILENT, Progress
from lakehouse.references import parse_name
from lakehouse.resolution import find_dataset
from lakehouse.rewriting import commit_rewrite, write_parts
from lakehouse.snapshots import Snapshot, snapshot_of
from lakehouse.tables import Table
from lakehouse.zorder import check_column, check_columns

ROUNDS = 5
"""How often it is planned anew when other writers changed files meanwhile."""
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./-]+")


@dataclass(frozen=True, slots=True)
class OptimizeReport:
    """What an optimize did."""

    dataset: str
    table_version: int
    """Of its last commit; of the head when there was nothing to do."""
    commits: int
    rewritten: int
    """Files that were replaced."""
    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int
    left: tuple[str, ...]
    """Paths of files that should be replaced, but that other writers kept changing."""
    seconds: float


@dataclass(frozen=True, slots=True)
class _State:
    """The head, opened."""

    snapshot: Snapshot
    adds: pa.Table
    """Its add actions, flattened."""


def optimize(
    lake: Lake,
    name: str,
    *,
    sort: bool = False,
    zorder: Sequence[str] = (),
    full: bool = False,
    adopted: bool = False,
    target_bytes: int = TARGET_BYTES,
    run: str | None = None,
    message: str | None = None,
    progress: Progress = SILENT,
) -> OptimizeReport:
    """Rewrite a dataset's files so that reading and merging touch fewer of them.

    Without an order, small neighbours (less than three quarters of the target) are joined, and files of merges and
    deletes get plain text types; rows keep their order. With `sort` files that overlap by key are sorted by it, with
    `zorder` those that are not yet are ordered by several columns at once: the head then has its rows in another order.
    Published versions, and every other table version, stay as they are.

    It may die at any point: each commit replaces about 1 GiB, and what was committed stays done.

    Args:
        sort: Order by the dataset's key.
        zorder: Columns to order by, 1 to 7.
        full: Rewrite all files. With an order: as one, in one commit, with as much space in the temporary folder as
            the data takes there; a merge or a delete meanwhile makes that start over.
        adopted: Also rewrite an adopted table, which belongs to others.
        target_bytes: Size of the new files.
        run, message: As in every write.
        progress: Told the bytes of the files that are to be replaced.
    Raises:
        NotFoundError: dataset-not-found, dataset-deleted, table-missing.
        InvalidInputError: an adopted table that was not asked for (table-adopted) or that can't be rewritten
            (table-partitioned, table-constrained, table-vectors), no key to sort by (key-missing), sort and zorder at
            once (order-ambiguous), columns that can't be ordered by, as `zorder.check_columns`.
        ConflictError: others kept winning for ten minutes (table-busy).
    """
    start, versions, rewritten = time.monotonic(), list[int](), 0
    table = Table(lake.storage, find_dataset(lake.state(), ".".join(parse_name(name))), lake.actor)
    lake.check("table.optimize", table.name)
    state = first = _open(lake, table, adopted)
    order = _order(table.dataset, state.snapshot.schema, sort, tuple(zorder))
    made, lost, todo = set[str](), set[str](), 0
    for attempt in range(ROUNDS):
        if attempt:
            backoff(attempt)
            state = _open(lake, table, adopted)
        parts = _plan(table.dataset, state, order, made, full=full, target=target_bytes)
        lost = set()
        todo += sum(p.bytes for p in parts)
        progress.total(todo)
        for batch in layout.batched(parts):
            files = write_parts(table, state.snapshot, batch, order, target_bytes)
            commit = (
                None if files is None else commit_rewrite(table, lake.actor, batch, files, run=run, message=message)
            )
            paths = set[str]().union(*(part.paths for part in batch))
            if files is None or commit is None:
                lost |= paths
            else:
                made |= {f.path for f in files}
                versions.append(commit.table_version)
                rewritten += len(paths)
            progress.advance(sum(p.bytes for p in batch))
        if not lost:
            break
    listed = list_files(table.open(), table.name)
    seconds = time.monotonic() - start
    return _report(table.name, first.snapshot.file_list, listed, state, versions, rewritten, lost, seconds)


def _report(
    name: str,
    before: FileList,
    after: FileList,
    state: _State,
    versions: Sequence[int],
    rewritten: int,
    left: Set[str],
    seconds: float,
) -> OptimizeReport:
    return OptimizeReport(
        dataset=name,
        table_version=max(versions, default=state.snapshot.table_version),
        commits=len(versions),
        rewritten=rewritten,
        files_before=len(before),
        files_after=len(after),
        bytes_before=before.bytes,
        bytes_after=after.bytes,
        left=tuple(sorted(left)),
        seconds=seconds,
    )


def _open(lake: Lake, table: Table, adopted: bool) -> _State:
    """Open the head, and refuse a table whose files are not to be rewritten here."""
    opened = table.open()
    if table.dataset.guarantee != "own":
        if not adopted:
            raise InvalidInputError(
                "table-adopted",
                f"{table.name} is an adopted table, whose files belong to others. Rewrite them all the same with "
                "--adopted (adopted=True).",
                dataset=table.name,
            )
        refuse_foreign(opened, table.name)
    snapshot = snapshot_of(lake.storage, table.dataset, opened)
    if snapshot.file_list.route is Route.SCAN:
        raise InvalidInputError(
            "table-vectors",
            f"{table.name} has deletion vectors; it is read here, but rewritten only by the engine that made it.",
            dataset=table.name,
        )
    return _State(snapshot, arrow_table(opened.get_add_actions(flatten=True)))


def _order(dataset: Dataset, schema: pa.Schema, sort: bool, zorder: tuple[str, ...]) -> Order:
    if sort and zorder:
        raise InvalidInputError("order-ambiguous", "Rows have one order: ask for sort or for zorder, not for both.")
    if zorder:
        check_columns(schema, zorder, dataset.full_name)
        return Order("zorder", zorder)
    if not sort:
        return Order()
    if not dataset.key_columns:
        raise InvalidInputError(
            "key-missing", f"{dataset.full_name} has no key to sort by. Order it by columns: --z-order (zorder=[...])."
        )
    for column in dataset.key_columns:
        check_column(schema, column, dataset.full_name)
    return Order("sort", dataset.key_columns)


def _plan(dataset: Dataset, state: _State, order: Order, made: Set[str], *, full: bool, target: int) -> list[Part]:
    """Plan what to do with a state; what was made in this call stays as it is."""
    listed = state.snapshot.file_list
    fixed = made | _foreign(dataset, state.adds)
    due = set(listed.table.column("path").to_pylist()) if full else _with_views(state.snapshot, fixed)
    files = layout.files_of(listed, fixed, due)
    if not order:
        return layout.compacted(files, target)
    if full:
        return layout.whole(files, order.stem)
    if order.kind == "zorder":
        return layout.z_ordered(files, target, order.stem)
    ranges = key_ranges(state.snapshot, state.adds, order.columns, fixed)
    unknown: Range = ((), ())
    bounds = (ranges.get(f.path, unknown) for f in files)
    files = [replace(f, low=low, high=high) for f, (low, high) in zip(files, bounds, strict=True)]
    return layout.sorted_by_key(files, target, order.stem)


def _foreign(dataset: Dataset, adds: pa.Table) -> set[str]:
    """Return the paths of an adopted table that delta-rs may spell in another way than its log, or that lead out."""
    if dataset.guarantee == "own":
        return set()
    spelled = adds.column("path").to_pylist()
    return {unquote(p) for p in spelled if p.startswith("/") or not _PLAIN_PATH.fullmatch(p)}


def _with_views(snapshot: Snapshot, fixed: Set[str]) -> set[str]:
    """Return the paths of files with text or bytes as views, which Ray, Daft and PyIceberg can't read."""
    listed = snapshot.file_list.table.select(["path", "uri"]).to_pylist()
    suspects = [f for f in listed if layout.by_delta_rs(f["path"]) and f["path"] not in fixed]

    def has_views(file: dict[str, str]) -> bool:
        try:
            schema = pq.read_schema(file["uri"], filesystem=snapshot.storage.filesystem(file["uri"]))
        except FileNotFoundError:  # replaced and cleaned up since: who reads it will see that
            return False
        return "_view" in schema.to_string(show_field_metadata=False, show_schema_metadata=False)

    with translated(f"reading the footers of {snapshot.reference}"), ThreadPoolExecutor(FOOTERS_AT_ONCE) as pool:
        return {f["path"] for f, views in zip(suspects, pool.map(has_views, suspects), strict=True) if views}
