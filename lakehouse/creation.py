"""Making a Delta table of our own kind, and recognising one that others made."""

from __future__ import annotations

from uuid import uuid4

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from lakehouse.commits import DATA_PROPERTIES, own_commit
from lakehouse.delta import list_files, open_delta, table_schema
from lakehouse.errors import translated
from lakehouse.storage import Storage, normalise


def create_table(storage: Storage, location: str, schema: pa.Schema, what: str, actor: str) -> str:
    """Make an empty Delta table of our own kind and return its Delta id.

    Args:
        schema: Plain types, see `schema.plain_schema`.
        what: The dataset's name, for messages.
        actor: Who makes it.
    Raises:
        StorageError, AccessDeniedError: the store failed or refused.
    """
    app = f"create-{uuid4().hex}"
    with translated(f"creating {what}", dataset=what):
        try:
            table = DeltaTable.create(
                storage.uri(location),
                schema,
                mode="error",
                configuration=DATA_PROPERTIES,
                storage_options=storage.options(),
                commit_properties=own_commit(app, 0, actor=actor, retries=0),
            )
        except DeltaError:
            # When only the answer was lost, the table is there and carries our transaction.
            table = DeltaTable(storage.uri(location), storage_options=storage.options())
            if table.transaction_version(app) is None:
                raise
        return str(table.metadata().id)


def identify_table(storage: Storage, location: str, what: str) -> tuple[str, str, pa.Schema]:
    """Return the normalised URI, the Delta id and the Arrow schema of an existing Delta table.

    Raises:
        NotFoundError: no Delta table there (table-missing).
        FormatError: it needs a feature that can't be read here (feature-unsupported).
    """
    uri = normalise(location)
    table = open_delta(storage, uri, what)
    list_files(table, what)
    return uri, str(table.metadata().id), table_schema(table)
