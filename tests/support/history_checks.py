"""What must hold of a lake after every step, against the plain model of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import deltalake
import obstore
import polars as pl

import catalog
from lakehouse import LakeError
from lakehouse.lake import Lake, connect
from lakehouse.session import Session
from lakehouse.tables import Table
from lakehouse.vacuum import plan_vacuum
from tests.support.model import Content, Line, Model

ENGINES = ("arrow", "duckdb", "polars")


def refused(kind: str, call: Callable[[], object]) -> None:
    """Assert that a call is refused with an error of this kind."""
    try:
        call()
    except LakeError as error:
        assert error.kind == kind, str(error)  # noqa: PT017 - pytest.raises makes no AssertionError
    else:
        raise AssertionError(f"was not refused: {kind}")


class Reading:
    """A lake read by several engines; the SQL session is opened once."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self._session: Session | None = None

    def __call__(self, engine: str, reference: str) -> Content:
        """Return the rows of a reference, in their order."""
        if engine == "duckdb":
            self._session = self._session or self.lake.session()
            found = self._session.query(f'from "{reference}"')
            return Content(tuple(found.columns), tuple(found.fetchall()))
        return of_snapshot(engine, self.lake.read(reference))

    def close(self) -> None:
        """Close the SQL session."""
        if self._session is not None:
            self._session.close()


def of_snapshot(engine: str, snapshot: Any) -> Content:
    """Return the rows of an opened snapshot, through Polars or (any other engine) Arrow."""
    if engine == "polars":
        frame = snapshot.scan().collect()
        return Content(tuple(frame.columns), tuple(frame.rows()))
    table = snapshot.to_arrow()
    return Content(tuple(table.column_names), tuple(zip(*(c.to_pylist() for c in table.columns), strict=True)))


class Checks:
    """The invariants."""

    root: str
    lake: Lake
    model: Model
    step: int

    # -- after every step -----------------------------------------------------------------------------------------

    def check_promises(self) -> None:
        """Every reference resolves as before, and every promised state reads as before through one of the engines."""
        reading, states = Reading(self.lake), dict[tuple[str, int], list[str]]()
        for reference, line, version in self.model.references():
            found = self.lake.resolve(reference)
            assert (found.dataset.dataset_id, found.table_version) == (line.id, version), reference
            states.setdefault((line.id, version), []).append(reference)
        by_id = {line.id: line for line in self.model.lines}
        # Polars costs least, so it reads all but one state, and the other engines have their turn with that one.
        for at, ((line_id, version), references) in enumerate(states.items(), self.step):
            engine = "polars" if at % len(states) else ENGINES[self.step // len(states) % 2]
            reference = references[self.step % len(references)]
            found_rows = reading(engine, reference)
            assert found_rows == by_id[line_id].contents[version], reference
        for lease in self.model.leases:
            for name, (line, version) in lease.members.items():
                assert lease.leased is not None
                assert of_snapshot("polars", lease.leased.read(name)) == line.contents[version], f"lease of {name}"
        self._check_heads(reading)
        reading.close()

    def _check_heads(self, reading: Reading) -> None:
        for name, line in self.model.names.items():
            if line is None:
                refused("dataset-deleted", lambda name=name: self.lake.read(name))  # type: ignore[misc]
                continue
            assert reading("polars", name) == line.contents[line.head], name
            self._check_version(
                reading, f"{name}@#{self.step % len(line.contents)}", line, self.step % len(line.contents)
            )
            if self.step % 4 == 0:
                time = line.log[self.step * 7 % len(line.log)].created_at
                self._check_version(reading, f"{name}@{time.isoformat()}", line, line.version_at(time))

    def _check_version(self, reading: Reading, reference: str, line: Line, version: int) -> None:
        """Check a state that is named by its table version or by a time: it reads as ever, or says that it was folded."""
        if version in line.condemned:
            refused("version-folded", lambda: self.lake.read(reference))
        else:
            assert reading("polars", reference) == line.contents[version], reference

    # -- now and then ---------------------------------------------------------------------------------------------

    def check_line(self, line: Line) -> None:
        """Every promised state of a table through every engine, in a lake that was just opened."""
        reading = Reading(connect(self.root, actor="checker"))
        promised = {version: reference for reference, other, version in self.model.references() if other is line}
        for version, reference in promised.items():
            for engine in ENGINES:
                assert reading(engine, reference) == line.contents[version], f"{reference} through {engine}"
        for version in {*promised, line.head}:
            self.check_directly(line, version)
        for source, version in self.model.cursors.values():
            if source is line:
                self.check_feed(line, version)
        reading.close()

    def check_all(self) -> None:
        """Every promise through every engine, what is told of versions and commits, and what verify says."""
        for line in self.model.lines:
            self.check_line(line)
            assert self.read_log(line) == line.log
        for name, versions in self.model.published.items():
            told = catalog.list_versions(self.lake, name)
            assert [v.number for v in told] == list(range(len(versions), 0, -1))
            assert [v.expired_at is not None for v in reversed(told)] == [p.expired for p in versions]
        assert catalog.verify(self.lake, deep=self.step % 2 == 0).problems == ()

    def check_directly(self, line: Line, version: int) -> None:
        """Other Delta readers, opened on the table itself, see the same rows."""
        uri = self.lake.storage.uri(line.dataset.location)
        options = self.lake.storage.options(uri) or None
        frame = pl.scan_delta(uri, version=version, storage_options=options).collect()
        found = Content(tuple(frame.columns), tuple(frame.rows()))
        assert found.unordered() == line.contents[version].unordered(), f"{line.dataset.full_name} #{version} directly"

    def check_feed(self, line: Line, version: int) -> None:
        """The changes since a job's cursor lead from the state there to the head."""
        columns = line.contents[line.head].columns
        if any(set(c.columns) - set(columns) for c in line.contents[version:]):
            return  # a restore took columns away, which delta-rs can't read over
        rows = Counter(Content.of(columns, line.contents[version].dicts()).rows)
        if version < line.head:
            feed = self.open(line).load_cdf(starting_version=version + 1).read_all()
            for change in pl.DataFrame(feed).to_dicts():
                row = tuple(change.get(c) for c in columns)
                kind = change["_change_type"]
                rows[row] += {"insert": 1, "update_postimage": 1, "delete": -1, "update_preimage": -1}[kind]
        left = {row: count for row, count in rows.items() if count}
        assert left == Counter(line.contents[line.head].rows), f"{line.dataset.full_name} from #{version}"

    def read_log(self, line: Line) -> list[Any]:
        """Return a table's log, complete, newest first, with times that never go backwards."""
        log = Table(self.lake.storage, line.dataset, "checker").log()
        assert [e.table_version for e in log] == list(range(len(log)))[::-1]
        times = [e.created_at for e in log]
        assert times == sorted(times, reverse=True)
        return log

    def check_nothing_left(self, line: Line) -> None:
        """After a clean-up that keeps nothing but what is needed, nothing else is there, and nothing is left to do."""
        assert not plan_vacuum(self.lake, line.dataset, keep_for=timedelta(0))
        needed = {p for v in line.alive for p in self.open(line, v).file_uris()}
        needed.update(self._change_files(line))
        store = self.lake.storage.store(self.lake.storage.uri(line.dataset.location))
        paths = [str(found["path"]) for chunk in obstore.list(store) for found in chunk]
        there = {p for p in paths if not p.startswith(("_delta_log/", "_changes/"))}
        base = self.lake.storage.uri(line.dataset.location).removeprefix("file://")
        assert {f"{base}/{p}" for p in there} == {p.removeprefix("file://") for p in needed}

    def _change_files(self, line: Line) -> Iterable[str]:
        """Return the change files of the commits after the version before which history was given up."""
        uri = self.lake.storage.uri(line.dataset.location)
        for version in range(line.before + 1, line.head + 1):
            entry = self.lake.storage.get(f"{line.dataset.location}/_delta_log/{version:020d}.json")
            for action in map(json.loads, entry.splitlines()):
                if "cdc" in action:
                    yield f"{uri}/{action['cdc']['path']}"

    def open(self, line: Line, version: int | None = None) -> deltalake.DeltaTable:
        """Open a table as any other program would."""
        uri = self.lake.storage.uri(line.dataset.location)
        return deltalake.DeltaTable(uri, version=version, storage_options=self.lake.storage.options(uri))


def now() -> datetime:
    """Return the present, UTC."""
    return datetime.now(UTC)
