"""A lake under every operation there is, in any order, against a plain model of it (Hypothesis)."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, ClassVar
from uuid import uuid4

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import catalog
from lakehouse.decisions import Cursor, Decision, Hold, Lease, MilestoneVersion, NamedSnapshot
from lakehouse.lake import Lake, connect
from lakehouse.ledger import Ledger
from lakehouse.pins import SKEW
from lakehouse.storage import Storage
from lakehouse.vacuum import plan_vacuum, vacuum
from tests.support.history_checks import Checks, Reading, now, refused
from tests.support.lakes import make_lake
from tests.support.model import FIRST, TYPES, Bundle, Content, Line, Model, Published, Row, arrow, extra

NAMES = ("a", "b")
names = st.sampled_from(NAMES)
picks = st.integers(0, 63)
values = st.lists(st.tuples(st.sampled_from([None, "x", "y"]), st.sampled_from([None, 0.5, 2.0])), max_size=4)


class SlowLedger(Ledger):
    """A ledger that lets something else happen between the reading of a state and the decision on it."""

    meanwhile: Callable[[], object] | None = None

    def decide(self, *args: Any, **kwargs: Any) -> Any:
        """Decide, after what happens meanwhile."""
        act, self.meanwhile = self.meanwhile, None
        if act is not None:
            act()
        return super().decide(*args, **kwargs)


class History(Checks, RuleBasedStateMachine):
    """The machine. Versions are chosen by number modulo how many there are, so that examples shrink well."""

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
        self.full = False
        self.closing: list[Any] = []

    @initialize()
    def begin(self) -> None:
        """Make two datasets and a milestone over them."""
        for name in NAMES:
            self.model.published[name] = []
            self._create(name)
        catalog.define_milestone(self.lake, "m", NAMES)

    def _create(self, name: str) -> Line:
        dataset = catalog.create_dataset(self.lake, name, arrow(FIRST, []).schema, key=["id"])
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
        if self.full:
            self.full = False
            self.check_all()

    def teardown(self) -> None:
        """Check everything once more, and clear up."""
        try:
            if sys.exc_info()[0] is None and self.model.lines:
                self.done["examples"] += 1
                self.check_all()
        finally:
            if "://" not in self.root:
                shutil.rmtree(self.root)

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
        found = reading("arrow", line.dataset.full_name)
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
        """Append rows; none makes no commit."""
        line = self.model.names[name]
        if line is None:
            refused("dataset-deleted", lambda: self.lake.table(name))
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

    @rule(name=names, where=st.sampled_from(["id >= 0", "id < {}", "id = {}", "name = 'x'", "size is null"]), pick=picks)
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

    @rule(name=names, how=st.sampled_from(["drop", "create", "undrop", "undrop"]))
    def name(self, name: str, how: str) -> None:
        """Drop a dataset, or make or bring one back under its name."""
        line = self.model.names[name]
        gone = [other for other in self.model.lines if other.dataset.name == name and other.dropped is not None]
        if line is not None:
            if how == "drop":
                catalog.delete_dataset(self.lake, name)
                line.dropped, self.model.names[name] = self.step, None
            else:
                refused("dataset-exists", lambda: catalog.undrop_dataset(self.lake, name))
        elif how == "create":
            self._create(name)
        else:
            back = max(gone, key=lambda other: other.dropped or 0)
            assert catalog.undrop_dataset(self.lake, name).dataset_id == back.id
            back.dropped, self.model.names[name] = None, back
        self.done[how] += 1

    @rule()
    def reopen(self) -> None:
        """Open the lake anew, as another process would."""
        self.lake = connect(self.root, actor="tester")

    # -- pins -----------------------------------------------------------------------------------------------------

    def _chosen(self, name: str, pick: int) -> tuple[str, Line, int] | None:
        """Return a state of a dataset, as a reference, and what it is; None when the name stands for nothing."""
        line = self.model.names[name]
        if line is None:
            return None
        if pick % 2:
            return name, line, line.head
        version = pick // 2 % len(line.contents)
        return f"{name}@#{version}", line, version

    def _slow(self, meanwhile: Callable[[], object]) -> Lake:
        """Return a lake that lets something happen before its next decision."""
        slow = Lake(Storage.open(self.root), "slow")
        ledger = SlowLedger(slow.storage, "slow")
        ledger.meanwhile = meanwhile
        slow.ledger = ledger
        return slow

    def _overtaken(self, name: str, line: Line) -> Callable[[], None]:
        """Return what gives up the state at head: an append and a clean-up."""

        def act() -> None:
            self.append(name, [("x", 0.5)])
            self._vacuum(line, timedelta(0))

        return act

    @rule(name=names, pick=picks, tag=st.sampled_from(["DRAFT", "FINAL"]), raced=st.booleans())
    def publish(self, name: str, pick: int, tag: str, raced: bool) -> None:
        """Publish a state; one that was given up, before or meanwhile, is refused."""
        chosen = self._chosen(name, pick)
        if chosen is None:
            refused("dataset-deleted", lambda: catalog.publish(self.lake, name))
            return
        reference, line, version = chosen
        lake = self._slow(self._overtaken(name, line)) if raced and not line.held else self.lake
        if version in line.condemned or (lake is not self.lake and self._lost(line, version)):
            refused("version-folded", lambda: catalog.publish(lake, reference, data_tag=tag))
            self.done["publish refused"] += 1
            return
        made = catalog.publish(lake, reference, data_tag=tag)
        self.model.published[name].append(Published(line, version, tag))
        assert (made.number, made.table_version) == (len(self.model.published[name]), version)
        assert made.rows == len(line.contents[version].rows)
        self.done["publish"] += 1

    def _lost(self, line: Line, version: int) -> bool:
        """Whether a state is given up by an append and a clean-up that come before the decision to pin it."""
        return version not in self.model.pinned(line) and version < self.model.needed_from(line, line.head + 1)

    @rule(name=names, pick=picks, tag=st.sampled_from(["prod", "test"]), remove=st.booleans())
    def tag(self, name: str, pick: int, tag: str, remove: bool) -> None:
        """Set a movable tag, or remove it; a version that expired gets none."""
        versions = self.model.published[name]
        if not versions:
            return
        number = pick % len(versions) + 1
        if remove and (name, tag) in self.model.tags:
            catalog.remove_tag(self.lake, name, tag)
            del self.model.tags[name, tag]
        elif versions[number - 1].expired:
            refused("version-expired", lambda: catalog.set_tag(self.lake, f"{name}@v{number}", tag))
        else:
            catalog.set_tag(self.lake, f"{name}@v{number}", tag)
            self.model.tags[name, tag] = number
        self.done["tag"] += 1

    @rule(archive=st.booleans(), pick=picks)
    def milestone(self, archive: bool, pick: int) -> None:
        """Publish the milestone, or archive one of its versions, which then pins nothing."""
        published = self.model.milestone
        if archive:
            if not published or not published[pick % len(published)].readable:
                return
            at = pick % len(published)
            self._replace(MilestoneVersion, f"main.m/v{at + 1}", status="Archived")
            published[at].readable = published[at].pins = False
            refused("milestone-archived", lambda: self.lake.read(f"a@m/v{at + 1}"))
            return
        newest = {name: self.model.newest(name) for name in NAMES}
        if None in self.model.names.values() or None in newest.values():
            refused("milestone-not-ready", lambda: catalog.publish_milestone(self.lake, "m"))
            return
        made = catalog.publish_milestone(self.lake, "m")
        published.append(Bundle({name: (p.line, p.version) for name, p in newest.items() if p}))
        assert made.version.number == len(published)
        self.done["milestone"] += 1

    @rule(picks_=st.tuples(picks, picks), lease=st.booleans(), raced=st.booleans())
    def bundle(self, picks_: tuple[int, int], lease: bool, raced: bool) -> None:
        """Pin a state of each dataset by a named snapshot, or by a lease; of a head that was given up, the next one."""
        pairs = zip(NAMES, picks_, strict=True)
        chosen = {name: found for name, pick in pairs if (found := self._chosen(name, pick))}
        if not chosen:
            return
        references = [reference for reference, _, _ in chosen.values()]
        name, (reference, line, version) = next(iter(chosen.items()))
        lake = self._slow(self._overtaken(name, line)) if raced and not line.held else self.lake
        lost = lake is not self.lake and self._lost(line, version)
        members = {n: (other, v) for n, (_, other, v) in chosen.items()}
        gone = any(v in other.condemned for other, v in members.values())
        if gone or (lost and not (lease and reference == name)):
            act = lake.lease if lease else lambda refs: lake.snapshot(uuid4().hex, refs)
            refused("version-folded", lambda: act(references))
            self.done["bundle refused"] += 1
            return
        if lease:
            leased = lake.lease(references)
            if lost:
                members[name] = (line, line.head)
            self.model.leases.append(Bundle(members, leased=leased))
        else:
            short = f"s{len(self.model.snapshots)}"
            lake.snapshot(short, references, expires="90d")
            self.model.snapshots[short] = Bundle(members)
        self.done["lease" if lease else "snapshot"] += 1

    def _replace(self, cls: Any, key: str, **changes: Any) -> None:
        """Decide other values of a thing: what only time does otherwise."""
        value = self.lake.state().get(cls, key)
        assert value is not None
        self.lake.ledger.decide(lambda _: (None, [Decision.put("test", replace(value, **changes))]))

    @rule(pick=picks, how=st.sampled_from(["just", "long", "delete"]))
    def end_snapshot(self, pick: int, how: str) -> None:
        """Let a snapshot expire - just now, which a clean-up does not trust yet, or long ago - or delete it."""
        living = [name for name, found in self.model.snapshots.items() if found.readable]
        if not living:
            return
        name = living[pick % len(living)]
        found = self.model.snapshots[name]
        found.readable, found.pins = False, how == "just"
        if how == "delete":
            self.lake.delete_snapshot(name)
        else:
            self._replace(NamedSnapshot, name, expires_at=now() - (SKEW * 2 if how == "long" else timedelta(0)))
        kind = "snapshot-not-found" if how == "delete" else "snapshot-expired"
        refused(kind, lambda: self.lake.read(f"{next(iter(found.members))}@snap:{name}"))
        self.done["snapshot ended"] += 1

    @rule(pick=picks, killed=st.booleans())
    def end_lease(self, pick: int, killed: bool) -> None:
        """Release a lease, or let the one of a reader that was killed run out."""
        if not self.model.leases:
            return
        lease = self.model.leases.pop(pick % len(self.model.leases))
        assert lease.leased is not None
        if killed:
            self._replace(Lease, lease.leased.lease.name, expires_at=now() - 2 * SKEW)
        else:
            lease.leased.__exit__(None, None, None)

    @rule(name=names, pick=picks, clean=st.booleans())
    def job(self, name: str, pick: int, clean: bool) -> None:
        """Run a job that reads one dataset and keeps another one up to date; a clean-up meanwhile takes nothing away."""
        chosen, target = self._chosen(name, pick), self.model.names["b" if name == "a" else "a"]
        if chosen is None or target is None or chosen[2] in chosen[1].condemned:
            return
        reference, line, version = chosen
        with catalog.start_run(self.lake, "j", parameters={}, inputs=[self.lake.read(reference)]) as run:
            if clean and not line.held:
                self.model.leases.append(Bundle({name: (line, version)}))
                self._vacuum(line, timedelta(0))
                self.model.leases.pop()
                assert Reading(self.lake)("arrow", f"{name}@#{version}") == line.contents[version]
            run.output(target.dataset, target.head)
        if version >= line.before:
            self.model.cursors[target.id, line.id] = (line, version)
        self.done["job"] += 1

    @rule(pick=picks)
    def end_cursor(self, pick: int) -> None:
        """Let a job's cursor run out."""
        if not self.model.cursors:
            return
        target, source = sorted(self.model.cursors)[0] if pick % 2 else sorted(self.model.cursors)[-1]
        self._replace(Cursor, f"j/{target}/{source}", expires_at=now() - 2 * SKEW)
        del self.model.cursors[target, source]

    @rule(pick=picks)
    def hold(self, pick: int) -> None:
        """Put a table under a legal hold, or end it."""
        line = self.model.lines[pick % len(self.model.lines)]
        value = Hold(dataset_id=line.id, full_name=line.dataset.full_name, reason="court", created_at=now())
        decision = Decision.remove("hold.release", value) if line.held else Decision.put("hold.set", value)
        self.lake.ledger.decide(lambda _: (None, [decision]))
        line.held = not line.held

    # -- clean-up -------------------------------------------------------------------------------------------------

    @rule(pick=picks, aged=st.booleans())
    def clean(self, pick: int, aged: bool) -> None:
        """Give up the history of a table that nothing needs, all of it or what is older than some commit."""
        line = self.model.lines[pick % len(self.model.lines)]
        if line.held:
            refused("dataset-held", lambda: plan_vacuum(self.lake, line.dataset))
            refused("dataset-held", lambda: vacuum(self.lake, line.dataset))
            return
        since = line.log[pick % len(line.log)].created_at + timedelta(milliseconds=1)
        self._vacuum(line, now() - since if aged else timedelta(0))
        self.full = True

    def _vacuum(self, line: Line, keep_for: timedelta) -> None:
        """Clean up a table, and look whether it gives up what it said, and no more."""
        begun = now()
        planned = plan_vacuum(self.lake, line.dataset, keep_for=keep_for)
        done = vacuum(self.lake, line.dataset, keep_for=keep_for)
        last = self.model.needed_from(line)
        if keep_for:
            low, high = (line.version_at(at - keep_for) for at in (begun, now()))
        else:
            low = high = line.head
            assert done == planned
        assert max(min(low, last), line.before) <= done.before <= max(min(high, last), line.before, 0)
        assert done.versions == len(self.model.condemn(line, done.before))
        if not keep_for:
            self.check_nothing_left(line)
        self.done["vacuum"] += 1
        self.done["versions given up"] += done.versions
        self.done["files freed"] += done.files

    @rule(name=names, pick=picks, other=st.sampled_from(["publish", "snapshot", "append", "vacuum"]))
    def clean_raced(self, name: str, pick: int, other: str) -> None:
        """Clean up while somebody else pins a state, writes, or cleans up: what is pinned before the decision stays."""
        line = self.model.names[name]
        if line is None or line.held or not line.contents[:-1]:
            return
        version = line.alive[pick % len(line.alive)]
        begin = line.head

        def meanwhile() -> None:
            if other == "publish":
                catalog.publish(self.lake, f"{name}@#{version}")
                self.model.published[name].append(Published(line, version, catalog.versions.DEFAULT_DATA_TAG))
            elif other == "snapshot":
                short = f"s{len(self.model.snapshots)}"
                self.lake.snapshot(short, [f"{name}@#{version}"])
                self.model.snapshots[short] = Bundle({name: (line, version)})
            elif other == "append":
                self.append(name, [("x", 0.5)])
            else:
                self._vacuum(line, timedelta(0))

        last = min(self.model.needed_from(line), begin)
        done = vacuum(self._slow(meanwhile), line.dataset, keep_for=timedelta(0))
        assert done.before == max(last, line.before)
        self.model.condemn(line, done.before)
        if other != "append":
            self.check_nothing_left(line)
        self.full = True
        self.done["vacuum raced"] += 1
