"""What a merge has to do: which of the given rows are new, which differ, which are there already.

Only files whose key range can hold a given key are read, so that the cost follows the change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, WriterProperties

from lakehouse.decisions import Dataset
from lakehouse.errors import InvalidInputError
from lakehouse.readers import relation
from lakehouse.readers.duck import identifier, reading
from lakehouse.snapshots import Snapshot, snapshot_of
from lakehouse.storage import Storage

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@dataclass(frozen=True, slots=True)
class Plan:
    """The given rows, sorted by what they need."""

    new: pa.Table
    """No row has their key."""
    changed: pa.Table
    """A row has their key and differs in a given column."""
    unchanged: int
    """Number of rows that are there already."""
    gone: pa.Table | None = None
    """Keys of rows that are to be removed; None: none are."""


def check_keys(rows: pa.Table, key: Sequence[str], what: str) -> None:
    """Refuse rows that a merge by `key` could not place.

    Raises:
        InvalidInputError: no key (key-missing), one that names a column twice (key-invalid), a null in it (key-null), or
            a key that occurs twice (key-not-unique).
    """
    if len(set(key)) < len(key):
        raise InvalidInputError("key-invalid", f"The key ({', '.join(key)}) names a column twice. Name each once.")
    missing = [k for k in key if k not in rows.column_names]
    if not key or missing:
        found = f"the data lacks its column {missing[0]!r}" if missing else "the dataset has none and none was given"
        raise InvalidInputError("key-missing", f"A merge into {what} needs a key: {found}.")
    nulls = next((k for k in key if rows.column(k).null_count), None)
    if nulls is not None:
        raise InvalidInputError(
            "key-null", f"Key column {nulls!r} is null in {rows.column(nulls).null_count} rows of the data."
        )
    distinct = rows.group_by(list(key)).aggregate([]).num_rows
    if distinct != rows.num_rows:
        raise InvalidInputError(
            "key-not-unique",
            f"The data has {rows.num_rows - distinct} rows whose key ({', '.join(key)}) occurs before. Keep one row per key.",
            repeated=rows.num_rows - distinct,
        )


def plan(storage: Storage, dataset: Dataset, table: DeltaTable, rows: pa.Table, key: Sequence[str]) -> Plan:
    """Compare the given rows with an opened table version."""
    target = candidates(snapshot_of(storage, dataset, table), table, rows, key)
    others = [c for c in rows.column_names if c not in key]
    row = "row" + "_" * max(map(len, rows.column_names))  # a name that no column has
    differs = " or ".join(f"g.{identifier(c)} is distinct from t.{identifier(c)}" for c in others) or "false"
    same_key = " and ".join(f"g.{identifier(k)} = t.{identifier(k)}" for k in key)
    with relation.connect() as con:
        given = _given(con, rows.append_column(row, pa.array(range(rows.num_rows), pa.int64())))
        source = relation.source_sql(con, target, rows.column_names)
        query = f"select g.{row}, bool_or({differs}) from ({source}) t join {given} g on {same_key} group by 1"
        with reading(target.reference):
            found = con.sql(query).to_arrow_table()
    matched, changed = found.column(0), found.column(0).filter(found.column(1))
    is_new = pc.invert(pc.is_in(pa.array(range(rows.num_rows), pa.int64()), value_set=matched.combine_chunks()))
    return Plan(
        new=rows.filter(is_new).sort_by([(k, "ascending") for k in key]),
        changed=rows.take(changed).sort_by([(k, "ascending") for k in key]),
        unchanged=found.num_rows - len(changed),
    )


def lookup(storage: Storage, dataset: Dataset, table: DeltaTable, keys: pa.Table, columns: Sequence[str]) -> pa.Table:
    """Return key columns and `columns` of the rows of an opened table version that have one of the given keys."""
    key = keys.column_names
    snapshot = snapshot_of(storage, dataset, table)
    target = candidates(snapshot, table, keys, key)
    names = [*key, *(c for c in columns if c not in key)]
    schema = pa.schema([snapshot.schema.field(n) for n in names])
    if not len(target.file_list) or not keys.num_rows:
        return schema.empty_table()
    same_key = " and ".join(f"g.{identifier(k)} = t.{identifier(k)}" for k in key)
    with relation.connect() as con:
        given = _given(con, keys)
        source = relation.source_sql(con, target, names)
        wanted = ", ".join(f"t.{identifier(n)}" for n in names)
        query = f"select {wanted} from ({source}) t semi join {given} g on {same_key}"
        with reading(snapshot.reference):
            return con.sql(query).to_arrow_table().cast(schema)


def _given(con: DuckDBPyConnection, rows: pa.Table) -> str:
    """Give rows to a connection; return the name of what stands on the right side of a join with the dataset."""
    # The right side is hashed, which must be the few rows: DuckDB does not know how many a list of files has.
    con.execute("set disabled_optimizers = 'join_order, build_side_probe_side'")
    return relation.register_table(con, rows)


def candidates(snapshot: Snapshot, table: DeltaTable, rows: pa.Table, key: Sequence[str]) -> Snapshot:
    """Return the snapshot limited to the files whose key range holds one of the given keys."""
    adds: Any = pa.table(table.get_add_actions(flatten=True))
    first = key[0]
    kind = rows.schema.field(first).type
    # Bounds of floats leave NaN out, and some writers cut those of times.
    if f"min.{first}" not in adds.column_names or pa.types.is_floating(kind) or pa.types.is_timestamp(kind):
        return snapshot
    given = pc.unique(rows.column(first).combine_chunks()).drop_null().sort().to_pylist()
    kept = set()
    bounds = zip(
        adds.column("path").to_pylist(),
        adds.column(f"min.{first}").to_pylist(),
        adds.column(f"max.{first}").to_pylist(),
        strict=True,
    )
    for path, low, high in bounds:
        if low is None or high is None or _any_between(given, low, high):
            kept.add(unquote(path))  # as the snapshot has it
    return snapshot.only(kept) if len(kept) < adds.num_rows else snapshot


def _any_between(ordered: Sequence[Any], low: Any, high: Any) -> bool:
    from bisect import bisect_left

    at = bisect_left(ordered, low)
    return at < len(ordered) and ordered[at] <= high


def execute(
    table: DeltaTable, plan: Plan, key: Sequence[str], properties: WriterProperties, stamp: CommitProperties
) -> None:
    """Commit the new and the changed rows, and the removal of others, on top of the opened version."""
    source = pa.concat_tables([plan.changed, plan.new])
    values = {identifier(c): f"s.{identifier(c)}" for c in source.column_names}
    updated = {c: v for c, v in values.items() if c not in {identifier(k) for k in key}}
    condition = " and ".join(f"t.{identifier(k)} = s.{identifier(k)}" for k in key)
    gone = "gone" + "_" * max(map(len, source.column_names))  # a name that no column has
    if plan.gone is not None:
        marked = [
            rows.append_column(gone, pa.repeat(flag, rows.num_rows))
            for rows, flag in ((source, False), (plan.gone, True))
        ]
        source = pa.concat_tables(marked, promote_options="default")
    merger = table.merge(
        source,
        predicate=condition,
        source_alias="s",
        target_alias="t",
        streamed_exec=False,
        writer_properties=properties,
        commit_properties=stamp,
    )
    if plan.gone is not None:
        merger = merger.when_matched_delete(f"s.{identifier(gone)}")
    merger.when_matched_update(updated).when_not_matched_insert(values).execute()
