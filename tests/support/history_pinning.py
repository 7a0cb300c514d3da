"""The machine of the stateful test, second part: everything that pins a state, and stops to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

from hypothesis import strategies as st
from hypothesis.stateful import rule

import catalog
from lakehouse.decisions import Cursor, Decision, Lease, MilestoneVersion, NamedSnapshot
from lakehouse.lake import Lake
from lakehouse.ledger import Ledger
from lakehouse.pins import SKEW
from lakehouse.storage import Storage
from lakehouse.vacuum import plan_vacuum, vacuum
from tests.support.history_checks import Reading, now, refused
from tests.support.history_writing import NAMES, Writing, names, picks, values
from tests.support.model import Bundle, Line, Published


class SlowLedger(Ledger):
    """A ledger that lets something else happen between the reading of a state and the decision on it."""

    meanwhile: Callable[[], object] | None = None

    def decide(self, *args: Any, **kwargs: Any) -> Any:
        """Decide, after what happens meanwhile."""
        act, self.meanwhile = self.meanwhile, None
        if act is not None:
            act()
        return super().decide(*args, **kwargs)


class Pinning(Writing):
    """Publishes, tags, bundles, leases, runs jobs, and lets all of that end."""

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

    @rule(name=names, drawn=values, tag=st.sampled_from(["DRAFT", "FINAL"]))
    def release(self, name: str, drawn: list[tuple[Any, Any]], tag: str) -> None:
        """Append and publish: what people do most."""
        self.append(name, drawn)
        self.publish(name, 1, tag, raced=False)

    def _lost(self, line: Line, version: int) -> bool:
        """Whether a state is given up by an append and a clean-up that come before the decision to pin it."""
        return version not in self.model.pinned(line) and version < self.model.needed_from(line, line.head + 1)

    @rule(
        name=names, pick=picks, tag=st.sampled_from(["prod", "test"]), how=st.sampled_from(["set", "raced", "remove"])
    )
    def tag(self, name: str, pick: int, tag: str, how: str) -> None:
        """Set a movable tag, or remove it; a version that expired, before or meanwhile, gets none."""
        versions = self.model.published[name]
        if not versions:
            return
        number = pick % len(versions) + 1
        if how == "remove" and (name, tag) in self.model.tags:
            catalog.remove_tag(self.lake, name, tag)
            del self.model.tags[name, tag]
            return
        lost = how == "raced" and number in self.model.expiring(name, 1, set())
        lake = self._slow(lambda: self._expire(name, 1, [])) if how == "raced" else self.lake
        if versions[number - 1].expired or lost:
            refused("version-expired", lambda: catalog.set_tag(lake, f"{name}@v{number}", tag))
            self.done["tag refused"] += 1
        else:
            catalog.set_tag(lake, f"{name}@v{number}", tag)
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
        newest = [self.model.newest(name) for name in NAMES]
        found = [p for p in newest if p is not None]
        if None in self.model.names.values() or None in newest or len({p.data_tag for p in found}) > 1:
            refused("milestone-not-ready", lambda: catalog.publish_milestone(self.lake, "m"))
            self.done["milestone refused"] += 1
            return
        made = catalog.publish_milestone(self.lake, "m")
        if not published or not published[-1].readable or self.model.milestone_of != found:
            published.append(Bundle({name: (p.line, p.version) for name, p in zip(NAMES, found, strict=True)}))
            self.model.milestone_of = found
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
        target, source = list(self.model.cursors)[pick % len(self.model.cursors)]
        self._replace(Cursor, f"j/{target}/{source}", expires_at=now() - 2 * SKEW)
        del self.model.cursors[target, source]

    @rule(name=names)
    def hold(self, name: str) -> None:
        """Put a dataset under a legal hold, or end the one on the table that its name stands for."""
        line = self.model.names[name]
        if line is None:
            return
        if line.held:
            assert catalog.release_hold(self.lake, name).dataset_id == line.id
        else:
            catalog.set_hold(self.lake, name, "court")
        line.held = not line.held
        self.done["hold"] += line.held

    def _expire(self, name: str, last: int, tags: list[str]) -> set[int]:
        """Give up published versions; return the numbers of those that did."""
        expected = self.model.expiring(name, last, {*tags})
        planned = catalog.expire(self.lake, name, keep_last=last, keep_tags=tags, dry_run=True)
        done = catalog.expire(self.lake, name, keep_last=last, keep_tags=tags)
        assert {v.number for v in planned.expired} == {v.number for v in done.expired} == expected
        for number in expected:
            self.model.published[name][number - 1].expired = True
            refused("version-expired", lambda number=number: self.lake.read(f"{name}@v{number}"))  # type: ignore[misc]
        self.done["expired"] += len(expected)
        return expected

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
