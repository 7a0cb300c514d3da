"""The machine of the stateful test, first part: writing, and what names stand for."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import catalog
from lakehouse.lake import connect
from tests.support.history_checks import ENGINES, Checks, Reading, refused
from tests.support.lakes import make_lake
from tests.support.model import FIRST, TYPES, Content, Line, Model, Published, Row, arrow, extra

NAMES = ("a", "b")
names = st.sampled_from(NAMES)
picks = st.integers(0, 63)
values = st.lists(st.tuples(st.sampled_from([None, "x", "y"]), st.sampled_from([None, 0.5, 2.0])), max_size=4)


class Writing(Checks, RuleBasedStateMachine):
    """Writes to two datasets. Versions are chosen by number modulo how many there are, so that examples shrink well."""

    place: ClassVar[Callable[[], str]]
    """Gives a fresh root."""
    done: ClassVar[Counter[str]]
    """How often each thing happened, over all examples."""

    def __init__(self) -> None:
        super().__init__()
        self.root = type(self).place()
        self.lake = make_lake(self.root)
        self.model = Model()
        self.step = -1
        self.full: Line | None = None

    @initialize()
    def begin(self) -> None:
        """Make two datasets with a few rows and one published version each, and a milestone over them."""
        for name in NAMES:
            self.model.published[name] = []
            line = self._create(name)
            self.append(name, [("x", 0.5), (None, 2.0), ("y", None)])
            catalog.publish(self.lake, name, data_tag="FINAL")
            self.model.published[name].append(Published(line, line.head, "FINAL"))
        catalog.define_milestone(self.lake, "m", NAMES, policy="manual")

    def _create(self, name: str) -> Line:
        schema, used = arrow(FIRST, []).schema, any(line.dataset.name == name for line in self.model.lines)
        if used:
            refused("name-kept", lambda: catalog.create_dataset(self.lake, name, schema))
        dataset = catalog.create_dataset(self.lake, name, schema, key=["id"], reuse_name=used)
        line = Line(dataset, [Content(FIRST, ())], [])
        line.log = self.read_log(line)
        self.model.lines.append(line)
        self.model.names[name] = line
        return line

    @invariant()
    def holds(self) -> None:
        """What must hold after every step."""
        self.step += 1
        if not self.model.lines:
            return
        self.done["steps"] += 1
        self.check_promises()
        if self.full is not None:
            line, self.full = self.full, None
            self.check_line(line)

    def teardown(self) -> None:
        """Check everything once more, and clear up."""
        try:
            if sys.exc_info()[0] is None and self.model.lines:
                self.done["examples"] += 1
                self.check_all()
        finally:
            if "://" not in self.root:
                shutil.rmtree(self.root, ignore_errors=True)  # a note of what was read may come just then

    # -- data -----------------------------------------------------------------------------------------------------

    def _expect(self, line: Line, contents: Sequence[Content], *, in_order: bool) -> None:
        """Note new versions of a table, after a look whether they are what they should be."""
        log = self.read_log(line)
        assert log[len(contents) :] == line.log
        assert log[0].table_version == line.head + len(contents)
        line.log = log
        if not contents:
            return
        reading = Reading(self.lake)
        for expected in contents[:-1]:  # a change of the schema, before the commit that needs it
            line.contents.append(expected)
            assert reading("arrow", f"{line.dataset.full_name}@#{line.head}") == expected
        found = reading(ENGINES[self.step % 3], line.dataset.full_name)
        reading.close()
        assert found.unordered() == contents[-1].unordered()
        if in_order:
            assert found == contents[-1]
        line.contents.append(found)

    def _fresh(self, line: Line, columns: Sequence[str], drawn: Sequence[tuple[Any, Any]]) -> list[Row]:
        """Return rows with ids that the table never had."""
        made = []
        for name, size in drawn:
            row: Row = {"id": line.next_id, "name": name, "size": size}
            made.append(row | {c: extra(c, line.next_id) for c in columns if c not in row})
            line.next_id += 1
        return made

    @rule(name=names, drawn=values)
    def append(self, name: str, drawn: list[tuple[Any, Any]]) -> None:
        """Append rows; none makes no commit. A dropped dataset is brought back instead."""
        line = self.model.names[name]
        if line is None:
            refused("dataset-deleted", lambda: self.lake.table(name))
            self._bring_back(name, "create" if drawn else "undrop")
            return
        head = line.contents[-1]
        rows = self._fresh(line, head.columns, drawn)
        self.lake.table(name).append(arrow(head.columns, rows))
        after = Content(head.columns, head.rows + Content.of(head.columns, rows).rows)
        self._expect(line, [after] if rows else [], in_order=True)
        self.done["append"] += bool(rows)

    @rule(name=names, drawn=values, column=st.sampled_from([c for c in TYPES if c not in FIRST]))
    def evolve(self, name: str, drawn: list[tuple[Any, Any]], column: str) -> None:
        """Append rows with a column that the table may lack: a commit for the column, one for the rows."""
        line = self.model.names[name]
        if line is None:
            return
        head = line.contents[-1]
        columns = (*head.columns, *([] if column in head.columns else [column]))
        rows = self._fresh(line, columns, drawn)
        self.lake.table(name).append(arrow(columns, rows), evolve=True)
        wider = Content.of(columns, head.dicts())
        steps = [wider] if columns != head.columns else []
        if rows:
            steps.append(Content(columns, wider.rows + Content.of(columns, rows).rows))
        self._expect(line, steps, in_order=True)
        self.done["evolve"] += columns != head.columns

    @rule(name=names, drawn=values, old=st.lists(picks, max_size=4), partial=st.booleans())
    def merge(self, name: str, drawn: list[tuple[Any, Any]], old: list[int], partial: bool) -> None:
        """Merge new rows and changes of old ones, with all columns or with two of them."""
        line = self.model.names[name]
        if line is None:
            return
        head = line.contents[-1]
        columns = ("id", "name") if partial else head.columns
        known = {row["id"]: row for row in head.dicts()}
        given = [{c: r.get(c) for c in columns} for r in self._fresh(line, head.columns, drawn)]
        for number in sorted({sorted(known)[pick % len(known)] for pick in old} if known else ()):
            change = {"id": number, "name": "m" if number % 2 else known[number]["name"]}
            given.append({c: {**known[number], **change}[c] for c in columns})
        after = dict(known)
        for row in given:
            after[row["id"]] = {**dict.fromkeys(head.columns), **after.get(row["id"], {}), **row}
        done = self.lake.table(name).merge(arrow(columns, given))
        changed = sum(after[number] != row for number, row in known.items())
        assert (done.rows_added, done.rows_updated) == (len(after) - len(known), changed)
        content = Content.of(head.columns, list(after.values()))
        self._expect(line, [content] if after != known else [], in_order=False)
        self.done["merge"] += after != known

    @rule(
        name=names, where=st.sampled_from(["id >= 0", "id < {}", "id = {}", "name = 'x'", "size is null"]), pick=picks
    )
    def delete(self, name: str, where: str, pick: int) -> None:
        """Delete the rows that satisfy a condition; none makes no commit."""
        line = self.model.names[name]
        if line is None:
            return
        head, bound = line.contents[-1], pick % max(line.next_id, 1)
        gone: Callable[[Row], bool] = {
            "id >= 0": lambda r: True,
            "id < {}": lambda r: r["id"] < bound,
            "id = {}": lambda r: r["id"] == bound,
            "name = 'x'": lambda r: r["name"] == "x",
            "size is null": lambda r: r["size"] is None,
        }[where]
        left = [row for row in head.dicts() if not gone(row)]
        done = self.lake.table(name).delete(where.format(bound))
        assert done.rows_removed == len(head.rows) - len(left)
        self._expect(line, [Content.of(head.columns, left)] if done.rows_removed else [], in_order=False)
        self.done["delete"] += bool(done.rows_removed)

    @rule(name=names, drawn=values, kept=st.booleans())
    def overwrite(self, name: str, drawn: list[tuple[Any, Any]], kept: bool) -> None:
        """Replace all rows, by some of them or by new ones."""
        line = self.model.names[name]
        if line is None:
            return
        head = line.contents[-1]
        rows = (head.dicts()[::2] if kept else []) + self._fresh(line, head.columns, drawn)
        self.lake.table(name).overwrite(arrow(head.columns, rows))
        self._expect(line, [Content.of(head.columns, rows)] if rows or head.rows else [], in_order=True)
        self.done["overwrite"] += 1

    # -- names ----------------------------------------------------------------------------------------------------

    @rule(name=names, then=st.sampled_from(["undrop", "create", "nothing"]))
    def drop(self, name: str, then: str) -> None:
        """Drop a dataset, and bring it back or make a new one under its name at once, or when it is written next."""
        line = self.model.names[name]
        if line is not None:
            refused("dataset-exists", lambda: catalog.undrop_dataset(self.lake, name))
            catalog.delete_dataset(self.lake, name)
            line.dropped, self.model.names[name] = self.step, None
            self.done["drop"] += 1
        if then != "nothing":
            self._bring_back(name, then)

    def _bring_back(self, name: str, how: str) -> None:
        """Give a name that was dropped a new table, or the one that it had last."""
        if how == "create":
            self._create(name)
        else:
            gone = [other for other in self.model.lines if other.dataset.name == name and other.dropped is not None]
            back = max(gone, key=lambda other: (other.dropped or 0, self.model.lines.index(other)))
            assert catalog.undrop_dataset(self.lake, name).dataset_id == back.id
            back.dropped, self.model.names[name] = None, back
        self.done[how] += 1

    @rule()
    def reopen(self) -> None:
        """Open the lake anew, as another process would."""
        self.lake = connect(self.root, actor="tester")
