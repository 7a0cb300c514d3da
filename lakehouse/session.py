"""The DuckDB session: SQL in which any reference is a table name.

Each name in the text that a dataset answers to becomes a view of exactly that name, in a database of the session's own.
What the names mean where they stand - a table, a column, a common table expression - stays DuckDB's decision, so every
statement that DuckDB knows works. A name that is only a column's costs one unused view.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from lakehouse.decisions import Dataset, DataTag
from lakehouse.errors import InvalidInputError, LakeError, NotFoundError, StorageError, suggest
from lakehouse.readers.duck import close, connect, identifier, reading, stream
from lakehouse.readers.relation import confine, conform, register_batches, register_table, source_sql
from lakehouse.snapshots import Snapshot
from lakehouse.storage import Storage

if TYPE_CHECKING:
    import duckdb

VIEWS = Path(__file__).parent.parent / "sql"
"""The folder of system views. Found beside this package and not by import, so that no other `sql` can stand for it."""

Name = tuple[str, ...]
"""An identifier in SQL text by its parts, unquoted: `vision."photos@v3"` is ("vision", "photos@v3")."""

_TOKEN = re.compile(
    r"""
    (?P<blank> \s+ | --[^\n]* | /\*.*?\*/ )
    | (?P<text> [eE]'(?:\\.|''|[^'\\])*' | '(?:''|[^'])*' | (?P<tag>\$(?:[^\W\d]\w*)?\$).*?(?P=tag) )
    | "(?P<quoted>(?:""|[^"])*)"
    | (?P<word>[^\W\d][\w$]*)
    | (?P<number>\d[\w.]*)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_BATCH_ROWS = 8_192
_EACH_DATA_TAG = re.compile(r"/\* each data tag: (?P<part>.*?) \*/")
_REFUSED = {
    "ATTACH": "other databases can't be attached",
    "DETACH": "other databases can't be attached",
    "COPY_DATABASE": "whole databases can't be copied; export datasets one by one",
    "EXPORT": "whole databases can't be copied; export datasets one by one",
    "LOAD": "extensions can't be installed or loaded",
    "UPDATE_EXTENSIONS": "extensions can't be installed or loaded",
}
_WRITES = "Datasets are changed by lake.table(name): append, merge, overwrite, delete. Temporary tables work here."
_NO_TABLE = re.compile(r"is not an? table|Can only (update|delete|merge|modify)|is of type View|already exists")
_MISSING = re.compile(r"Table with name \"?(.+?)\"? does not exist")


@dataclass(frozen=True, slots=True)
class Filtered:
    """Some rows of a state: what a system view shows to somebody who may not see all of it."""

    snapshot: Snapshot
    where: str
    """SQL condition, in which `{rows}` stands for the state."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Iterate over the rows, through a connection of their own.

        Raises:
            StorageError: a data file is gone or can't be read, as `reading`.
        """
        con = connect()
        try:
            with reading(self.snapshot.reference):
                rows = f"({source_sql(con, self.snapshot)})"
                found = stream(con.sql(f"from {rows} where {self.where.replace('{rows}', rows)}"), _BATCH_ROWS)
                for batch in found:
                    yield conform(batch, self.snapshot.schema)
        finally:
            close(con)


class Session:
    """One DuckDB connection in which references are table names. Temporary tables live as long as it does.

    Args:
        resolver: Gives the snapshot that a name means; None when no dataset has that name. What it raises is raised
            again only if DuckDB finds no other meaning for the name.
        system: Gives a base relation of the system views by name: `ledger_state` (entity, key, value), `ledger_log`,
            `fact_runs`, ...
        names: Gives the full names of all datasets, once a query; without a selector only these are resolved.
        within: The only datasets whose files SQL may open, and the storage they are on; None: SQL may open any file,
            also write one.
    """

    def __init__(
        self,
        resolver: Callable[[str], Snapshot | None],
        system: Callable[[str], pa.Table | Snapshot | Filtered],
        names: Callable[[], Iterable[str]],
        within: tuple[Storage, Iterable[Dataset]] | None = None,
    ) -> None:
        self._resolver, self._system, self._names = resolver, system, names
        self._con = connect()
        self._confined = within is not None
        if within is not None:
            confine(self._con, *within)

    def query(self, sql: str) -> duckdb.DuckDBPyRelation:
        """Run one statement and return its result.

        A query is evaluated when the relation is read; the states that it reads were fixed by this call. The relation
        keeps what it needs alive, also without the session.

        Raises:
            InvalidInputError: a mistake in the SQL, in DuckDB's words (sql-invalid), or a statement that would change a
                dataset, attach a database or load an extension (sql-unsupported).
            NotFoundError: a table that does not exist (dataset-not-found, and what the resolver raises).
            StorageError: a file can't be read or written (storage-failed, data-missing).
        """
        import duckdb

        kind = self._check(sql)
        failed = self._provide(sql, changing=kind in ("DROP", "ALTER"))
        try:
            return self._con.sql(sql)
        except duckdb.IOException as error:
            raise StorageError("storage-failed", f"The SQL could not be run: {error}") from error
        except duckdb.Error as error:
            missing = _MISSING.search(str(error))
            if missing and isinstance(error, duckdb.CatalogException):
                raise self._missing(missing[1], sql, failed) from error
            if kind != "SELECT" and _NO_TABLE.search(str(error)):
                raise InvalidInputError("sql-unsupported", f"{_said(error)}. {_WRITES}") from error
            raise InvalidInputError("sql-invalid", _said(error)) from error

    def close(self) -> None:
        """Close the connection; relations of this session can't be read any more."""
        close(self._con)

    def _check(self, sql: str) -> str:
        """Return the kind of the statement, which is one and allowed."""
        import duckdb

        try:
            statements = self._con.extract_statements(sql)
        except duckdb.Error as error:
            bare = re.search(r"[\w.-]+@[\w#./:+-]+", sql)
            hint = (
                f'\nA reference with a selector stands in double quotes: "{bare[0]}"'
                if bare and "@" in str(error)
                else ""
            )
            raise InvalidInputError("sql-invalid", _said(error) + hint) from error
        if len(statements) != 1:
            found = "several statements" if statements else "no statement"
            raise InvalidInputError("sql-invalid", f"The SQL holds {found}. Give one at a time.")
        kind: str = statements[0].type.name
        if kind in _REFUSED:
            raise InvalidInputError("sql-unsupported", f"This does not work in a lakehouse session: {_REFUSED[kind]}.")
        if self._confined and kind == "COPY":
            raise InvalidInputError(
                "sql-unsupported",
                "SQL opens no files for those who may not read everything. Use: lakehouse export, ingest",
            )
        return kind

    # -- names ----------------------------------------------------------------------------------------------------

    def _provide(self, sql: str, changing: bool) -> dict[str, LakeError]:
        """Make a view of every name in the text that means something; return why names could not be opened."""
        known = {full.casefold() for full in self._names()}
        failed: dict[str, LakeError] = {}
        for name in names_in(sql):
            text = ".".join(name)
            dataset = text.casefold()
            is_dataset = dataset in known or (len(name) == 1 and f"main.{dataset}" in known)
            if changing and is_dataset:
                raise InvalidInputError("sql-unsupported", f"{text} is a dataset. {_WRITES}")
            try:
                if is_dataset or "@" in text:
                    snapshot = self._resolver(text)
                    if snapshot is not None:
                        self._view(name, snapshot)
                elif name[:-1] in ((), ("lake",)) and _view_text(name[-1]) is not None:
                    self._lake_view(name[-1].casefold())
                    if len(name) == 1:
                        self._view(name, f"from lake.{identifier(name[-1])}")
            except LakeError as error:
                failed[text] = error
        return failed

    def _lake_view(self, name: str) -> None:
        """Make a view of the schema `lake`: a system view with all that it reads, or a base relation."""
        text = _view_text(name)
        if text is None:
            self._view(("lake", name), self._system(name))
            return
        for read in names_in(text):
            if len(read) == 2 and read[0] == "lake":
                self._lake_view(read[1])
        self._view(("lake", name), _EACH_DATA_TAG.sub(self._each_data_tag, text))

    def _each_data_tag(self, marked: re.Match[str]) -> str:
        """Return a part of a view once for each data tag, whose attribute is a column there."""
        state = self._system("ledger_state")
        assert isinstance(state, pa.Table)
        rows = zip(state.column("entity").to_pylist(), state.column("value").to_pylist(), strict=True)
        attributes = [json.loads(value)["attribute"] for entity, value in rows if entity == DataTag.ENTITY]
        return "\n    ".join(marked["part"].replace("{attribute}", name) for name in dict.fromkeys(attributes))

    def _view(self, name: Name, source: Snapshot | Filtered | pa.Table | str) -> None:
        schema = identifier(name[0] if len(name) > 1 else "main")
        if isinstance(source, Filtered):
            rows = register_batches(self._con, source.snapshot.schema, source.batches)
            self._create(schema, name[-1], f"from {rows}")
        elif isinstance(source, Snapshot):
            with reading(source.reference):
                self._create(schema, name[-1], source_sql(self._con, source))
        else:
            self._create(
                schema, name[-1], source if isinstance(source, str) else f"from {register_table(self._con, source)}"
            )

    def _create(self, schema: str, name: str, sql: str) -> None:
        self._con.execute(f"create schema if not exists {schema}")
        self._con.execute(f"create or replace view {schema}.{identifier(name)} as {sql}")

    def _missing(self, table: str, sql: str, failed: dict[str, LakeError]) -> LakeError:
        """Return why a table of the query does not exist: what its resolution says, or that nothing has that name."""
        # Where the schema is missing too, DuckDB names both.
        texts = [
            t for name in names_in(sql) if table.casefold() in ((t := ".".join(name)).casefold(), name[-1].casefold())
        ]
        for text in texts:
            if text in failed:
                return failed[text]
            try:
                self._resolver(text)
            except LakeError as error:
                return error
        text, known = (texts or [table])[0], list(self._names())
        near = suggest(text, [*known, *(full.removeprefix("main.") for full in known)])
        return NotFoundError(
            "dataset-not-found",
            f"There is no table or dataset {text!r}.{near} List them with: lakehouse dataset list",
            dataset=text,
        )


def names_in(sql: str) -> list[Name]:
    """Return the identifiers in a text, each once: single ones and pairs joined by a point, however they are quoted."""
    names = (tuple(chain) for chain in _chains(sql) if len(chain) <= 2 and all(chain))
    return list({tuple(part.casefold() for part in name): name for name in names}.values())


def words_in(sql: str) -> frozenset[str]:
    """Return every identifier in a text by itself, case folded: what may be the name of a column."""
    return frozenset(part.casefold() for chain in _chains(sql) for part in chain)


def _chains(sql: str) -> list[list[str]]:
    """Return the identifiers in a text, those that points join together."""
    chains: list[list[str]] = []
    after_name = after_point = False
    for token in _TOKEN.finditer(sql):
        if token["blank"]:
            continue
        part = token["word"] if token["quoted"] is None else token["quoted"].replace('""', '"')
        if part is None:
            after_name, after_point = False, after_name and token[0] == "."
            continue
        if after_point:
            chains[-1].append(part)
        else:
            chains.append([part])
        after_name, after_point = True, False
    return chains


def _view_text(name: str) -> str | None:
    """Return the SQL of a system view, or None when there is none of that name."""
    file = VIEWS / f"{name.casefold()}.sql"
    return file.read_text(encoding="utf-8") if name.isidentifier() and file.is_file() else None


def _said(error: Exception) -> str:
    return re.sub(r"^(\w+ Error): ", "", str(error)).strip()
