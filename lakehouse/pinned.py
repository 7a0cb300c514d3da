"""Pinned queries: SQL over published or pinned states, that gives the same rows whenever it is run.

What the references mean is decided once, as of one moment. What else a result could depend on - files, the lakehouse's
own tables, chance, the time - is looked for in the plan that DuckDB makes of the query when nothing but empty tables is
there to read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.errors import InvalidInputError, NotFoundError
from lakehouse.lake import Lake
from lakehouse.ledger import State
from lakehouse.readers.duck import identifier, reading, stream, string
from lakehouse.references import AsOf, Head, Latest, Reference, TableVersion, parse
from lakehouse.resolution import choose_version, find_name, known_name, living_names
from lakehouse.schema import fit, plain_schema
from lakehouse.session import Session
from lakehouse.snapshots import Snapshot

MEMORY_LIMIT = "2GB"
"""Memory of DuckDB while it runs the query; what does not fit is spilled to the temporary folder."""
_BATCH_ROWS = 8_192
_HARMLESS = {"error"}
"""Functions that DuckDB calls volatile although they give no value."""
_UNDECLARED = {"ago", "current_localtime", "current_localtimestamp"}
"""Functions of the time that DuckDB calls constant."""
_SOURCES = {"range", "generate_series", "repeat", "repeat_row", "unnest", "json_each", "json_tree"}
"""Functions that may stand for a table, since they read nothing."""
_CHANCE = ("VOLATILE", "CONSISTENT_WITHIN_QUERY")
_ON_A_VALUE = re.compile(
    r"(Conversion|Out of Range|Invalid Input|Constraint|Invalid Type|Mismatch Type|Divide by Zero) Error"
)


@dataclass(frozen=True, slots=True)
class PinnedQuery:
    """A query whose every reference is pinned, and what these mean. Made by `pin_query`."""

    sql: str
    inputs: Mapping[str, Snapshot]
    """The states that it reads, by the references in its text (in their canonical form)."""
    schema: pa.Schema
    """What the result is in a table of our own."""
    sampled: bool
    """Whether it takes a sample, which is the same again only in one thread."""

    @property
    def states(self) -> list[Snapshot]:
        """The states that it reads, each once."""
        return list({(s.dataset.dataset_id, s.table_version): s for s in self.inputs.values()}.values())

    def rows(self, key: Sequence[str] = ()) -> pa.RecordBatchReader:
        """Run the query and return its rows as a stream, in bounded memory.

        Args:
            key: Columns of the result that must identify its rows, which come sorted by them; none: in the query's order.
        Raises:
            InvalidInputError: while it is read: the query fails on a value (sql-invalid), a value that a table can't hold
                (value-invalid), a key that is null or not unique (key-null, key-not-unique).
            StorageError: while it is read: a file is gone or can't be read (data-missing, ...), no memory is left.
        """
        session = Session(lambda text: self.inputs.get(_canonical(text) or ""), _refuse_system, lambda: ())
        session.query(f"set memory_limit = '{MEMORY_LIMIT}'")
        if self.sampled:
            session.query("set threads = 1")
        found: Any = session.query(self.sql)
        with _running(self.inputs):
            reader = stream(found.order(", ".join(map(identifier, key))) if key else found, _BATCH_ROWS)
        batches = pa.RecordBatchReader.from_batches(reader.schema, self._batches(session, reader))
        fitted = fit(batches, self.schema)
        return pa.RecordBatchReader.from_batches(self.schema, _identified(fitted, key)) if key else fitted

    def _batches(self, session: Session, reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        try:
            while True:
                with _running(self.inputs):
                    batch = next(reader, None)
                if batch is None:
                    return
                yield batch
        finally:
            session.close()


def pin_query(lake: Lake, sql: str) -> PinnedQuery:
    """Look into a query, and decide what its references mean.

    Args:
        sql: One SELECT in DuckDB's dialect. Each table is a published version (`photos@v3`, `@latest`, a tag or data
            tag), a member of a milestone (`@spring/v2`) or of a snapshot (`@snap:name`), in double quotes.
    Raises:
        InvalidInputError: a reference that is not pinned, or none (query-unpinned); a result that differs each time
            (query-unstable); files, system views, another statement than SELECT (sql-unsupported); wrong SQL
            (sql-invalid); a column that a table can't have: duplicate-column, schema-case-conflict, unsupported-type.
        NotFoundError, StateError: as `Lake.read`; a table that does not exist (dataset-not-found).
    """
    state = lake.state()
    inputs: dict[str, Snapshot] = {}

    def resolve(text: str) -> Snapshot | None:
        name = _canonical(text)
        if name is None:
            return None
        if name not in inputs:
            found = _pinned(lake, state, parse(text))
            if found is None:
                return None
            inputs[name] = found
        return inputs[name].only(set())

    session = Session(resolve, _refuse_system, lambda: living_names(state))
    try:
        session.query("set enable_external_access = false")
        tree = _asked(session, "json_serialize_sql", sql)
        if tree["error"] and tree["error_type"] != "parser":  # of mistakes the session tells better
            raise _unsupported("it is no SELECT")
        bound = _bound(session, sql)
        sampled = _judge(session, tree, _asked(session, "json_serialize_plan", sql))
        if not inputs:
            raise InvalidInputError(
                "query-unpinned",
                'The query reads no dataset. Name a published version as a table, in double quotes: from "photos@v3"',
            )
        plain_schema(pa.schema([(name, pa.null()) for name in bound.columns]))  # DuckDB renames repeated columns
        with _running(inputs):
            columns = bound.limit(0).to_arrow_table().schema
        return PinnedQuery(sql, inputs, plain_schema(columns), sampled)
    finally:
        session.close()


@contextmanager
def _running(references: Iterable[str]) -> Iterator[None]:
    """Turn what DuckDB says while it computes into our errors; its words may hold a value."""
    import duckdb

    with reading(", ".join(references)):
        try:
            yield
        except (duckdb.Error, OSError) as error:
            failed = _ON_A_VALUE.match(str(error))
            if failed is None or "Error while reading file" in str(error):
                raise
            raise InvalidInputError(
                "sql-invalid", f"The query fails on a value ({failed[0]}). Look at it with: lakehouse sql QUERY"
            ) from error


def _canonical(text: str) -> str | None:
    """Return a reference in its canonical form; None for text that is none."""
    try:
        return str(parse(text))
    except InvalidInputError:
        return None


def _pinned(lake: Lake, state: State, ref: Reference) -> Snapshot | None:
    """Open what a reference means, if that is pinned; None when no dataset has its name."""
    if known_name(state, ref.name) is None:
        return None
    if isinstance(ref.selector, Head):
        raise _unpinned(state, ref)
    snapshot = lake.read(ref, state=state)
    if isinstance(ref.selector, TableVersion | AsOf) and snapshot.version is None:
        raise _unpinned(state, ref)
    return snapshot


def _unpinned(state: State, ref: Reference) -> InvalidInputError:
    try:
        newest = choose_version(state, find_name(state, ref.name), Latest())
        instead = (
            f'Write a published version instead: "{newest.full_name}@v{newest.number}", or "{newest.full_name}@latest"'
        )
    except NotFoundError:
        instead = f'Publish it first, and write "{ref.name}@v1": lakehouse publish {ref.name}'
    written = ref.name if isinstance(ref.selector, Head) else str(ref)
    return InvalidInputError(
        "query-unpinned",
        f"The query reads {written}, which is not pinned: a clean-up may take away what it was. {instead}.",
        dataset=ref.name,
    )


def _refuse_system(name: str) -> NoReturn:
    raise InvalidInputError(
        "sql-unsupported",
        f"The query reads {name.removeprefix('fact_')}, which the lakehouse keeps about itself and which has no versions. "
        "Read datasets only.",
    )


def _bound(session: Session, sql: str) -> Any:
    try:
        return session.query(sql)
    except InvalidInputError as error:
        if "file system operations are disabled" not in error.message:
            raise
        raise InvalidInputError(
            "sql-unsupported",
            "The query reads a file, which has no versions. Take it in first (lakehouse ingest), publish it, and read that.",
        ) from error


def _judge(session: Session, tree: Any, plan: Any) -> bool:
    """Refuse what is no query over datasets alone, or differs each time; return whether a sample is taken.

    Args:
        tree: The query as DuckDB parsed it.
        plan: As DuckDB would run it.
    """
    if plan["error"]:
        raise _unsupported(str(plan["error_message"]).splitlines()[0].rstrip("!."))
    listed = ", ".join(map(string, _CHANCE))
    declared: Any = session.query(
        f"select distinct function_name from duckdb_functions() where stability in ({listed})"
    )
    unstable = {name for (name,) in declared.fetchall()} - _HARMLESS | _UNDECLARED
    for node in _nodes(tree):
        called = node.get("function_name")
        # A plan has some functions of the time as constants already.
        if called in _UNDECLARED or (called == "age" and len(node.get("arguments", ())) == 1):
            raise _differs(f"{called}()", "Write a time in its place")
    sampled = False
    for node in _nodes(plan):
        called = node["qname"]["path"][-1] if "qname" in node else None
        if node.get("type") == "LOGICAL_GET" and called not in _SOURCES:
            raise _unsupported(f"it reads {called}()")
        if called in unstable:
            raise _differs(f"{called}()", "Write a value in its place, or take it from a column")
        if node.get("type") == "LOGICAL_SAMPLE":
            sampled = True
            if not node["sample_options"]["repeatable"]:
                raise _differs("a sample without a seed", "Give it one: using sample 10 percent (bernoulli, 42)")
    return sampled


def _asked(session: Session, function: str, sql: str) -> Any:
    """Return what a function of DuckDB tells about a query, as JSON."""
    found: Any = session.query(f"select {function}({string(sql)}::varchar)")
    return json.loads(found.fetchall()[0][0])


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
    for child in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _nodes(child)


def _unsupported(why: str) -> InvalidInputError:
    return InvalidInputError(
        "sql-unsupported",
        f"This SQL can't make a dataset: {why}. Give one SELECT over published versions; write PIVOT with IN, or as "
        "aggregates with FILTER.",
    )


def _differs(what: str, instead: str) -> InvalidInputError:
    return InvalidInputError(
        "query-unstable", f"The query has {what}, which gives another result each time. {instead}."
    )


def _identified(rows: pa.RecordBatchReader, key: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Pass on rows that are sorted by a key, if it is in all of them, and no two have the same."""
    last: pa.Table | None = None
    for batch in rows:
        keys = pa.Table.from_batches([batch]).select(list(key))
        nulls = next((name for name in key if keys.column(name).null_count), None)
        if nulls is not None:
            raise InvalidInputError(
                "key-null",
                f"The key column {nulls!r} is null in rows of the query. Filter them out, or name another key.",
            )
        pairs = (pa.concat_tables([last, keys]) if last is not None else keys).combine_chunks()
        same = [pc.equal(column.slice(1), column.slice(0, len(column) - 1)) for column in pairs.columns]
        repeated = same[0]
        for other in same[1:]:
            repeated = pc.and_(repeated, other)
        if pc.any(repeated).as_py():
            raise InvalidInputError(
                "key-not-unique",
                f"Rows of the query share a key ({', '.join(key)}). Keep one row per key, or name other columns, or none.",
            )
        last = keys.slice(keys.num_rows - 1)
        yield batch


__all__ = ["MEMORY_LIMIT", "PinnedQuery", "pin_query"]
