"""Changing the columns of a table, and carrying a state's rows over into other columns.

New nullable columns are a commit of the log alone. Any other change - a type, a column less, null no longer allowed -
writes all rows anew in one commit; earlier versions keep theirs.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.datafiles import write_files
from lakehouse.delta import table_schema
from lakehouse.errors import ConflictError
from lakehouse.lake import Lake
from lakehouse.replacing import commit_files
from lakehouse.schema import fit, refuse_missing
from lakehouse.snapshots import Snapshot
from lakehouse.tables import Commit, Table


def change_columns(
    lake: Lake, before: Snapshot, columns: pa.Schema, *, run: str | None = None, message: str | None = None
) -> Commit:
    """Give a dataset these columns; if that means to write rows anew, only when nobody else writes meanwhile.

    Args:
        before: Its head.
        columns: All of them, of plain types.
    Raises:
        InvalidInputError: rows that do not fit: a value that a type can't hold (value-invalid), null in a column that must
            not be (null-in-required), a required column that they lack (column-missing), a type of another kind
            (schema-type-change); a partitioned or constrained adopted table (table-partitioned, table-constrained).
        ConflictError: somebody committed meanwhile (table-changed), added such a column as something else
            (schema-changed), or kept winning for ten minutes (table-busy).
    """
    table = Table(lake.storage, before.dataset, lake.actor)
    handle = table.open()
    if is_addition(before.schema, columns):  # whatever rows came meanwhile, they are null there
        # Those alone: a column that others drop meanwhile stays dropped.
        added = pa.schema([f for f in columns if f.name not in before.schema.names])
        after = table.add_columns(handle, added, run, message)
        _refuse_other(table_schema(after), added, table.name)
        return Commit(after.version())
    table.expect(handle, before.table_version)
    table.refuse_foreign(handle)
    reader = carried(before, columns)
    files = write_files(lake.storage, before.dataset.location, reader, lookup=table.lookup_columns(columns))
    return commit_files(table, before, files, columns, actor=lake.actor, run=run, message=message, what="EVOLVE")


def _refuse_other(found: pa.Schema, added: pa.Schema, name: str) -> None:
    """Refuse new columns that others added meanwhile as something else.

    Raises:
        ConflictError: they did (schema-changed).
    """
    for field in added:
        there = found.get_field_index(field.name)
        if there >= 0 and not found.field(there).equals(field):
            raise ConflictError(
                "schema-changed",
                f"Somebody else added the column {field.name!r} to {name} meanwhile, as {found.field(there).type}. "
                f"Look again with: lakehouse schema show {name}",
                dataset=name,
                column=field.name,
            )


def is_addition(old: pa.Schema, new: pa.Schema) -> bool:
    """Whether one schema only adds nullable columns to another, which are null in the rows that are there."""
    known = {f.name: f for f in new}
    kept = all(f.name in known and f.equals(known[f.name]) for f in old)
    return kept and all(f.nullable for f in new if f.name not in old.names)


def carried(source: Snapshot, columns: pa.Schema) -> pa.RecordBatchReader:
    """Return the rows of a state in other columns: by name ignoring case, safe casts only, new columns null, others left out.

    Numbers, truth values, dates and times may become text.

    Raises:
        InvalidInputError: rows that do not fit, as `change_columns`; on the call or while it is read.
    """
    spelt = {n.casefold(): n for n in columns.names}
    names = [n for n in source.schema.names if n.casefold() in spelt]
    fields = [_as_text(source.schema.field(n), columns.field(spelt[n.casefold()])) for n in names]
    schema = pa.schema(fields)
    refuse_missing(schema, columns)

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in source.batches(names):
            arrays = [a if a.type == f.type else pc.cast(a, f.type) for a, f in zip(batch.columns, fields, strict=True)]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    return fit(pa.RecordBatchReader.from_batches(schema, batches()), columns)


def _as_text(held: pa.Field, wanted: pa.Field) -> pa.Field:
    """Return the field under the name that is wanted, as text where that is wanted of a simple type."""
    simple = not pa.types.is_nested(held.type) and not pa.types.is_binary(held.type)
    return pa.field(wanted.name, wanted.type if simple and pa.types.is_string(wanted.type) else held.type)
