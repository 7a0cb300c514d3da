"""A lake under every operation there is, in any order, against a plain model of it (Hypothesis)."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import rule

import catalog
from lakehouse import optimize
from lakehouse.restoring import restore
from lakehouse.vacuum import plan_vacuum, vacuum
from tests.support.history_checks import now, refused
from tests.support.history_pinning import Pinning
from tests.support.history_writing import names, picks
from tests.support.model import Bundle, Content, Published


class History(Pinning):
    """The whole machine: writes, pins and upkeep."""

    # -- clean-up -------------------------------------------------------------------------------------------------

    @rule(pick=picks, aged=st.booleans())
    def clean(self, pick: int, aged: bool) -> None:
        """Give up the history of a table that nothing needs, all of it or what is older than some commit."""
        line = self.model.lines[pick % len(self.model.lines)]
        if line.held:
            refused("dataset-held", lambda: plan_vacuum(self.lake, line.dataset))
            refused("dataset-held", lambda: vacuum(self.lake, line.dataset))
            released = catalog.release_hold(self.lake, line.dataset.full_name).dataset_id
            next(other for other in self.model.lines if other.id == released).held = False
            return
        since = line.log[pick % len(line.log)].created_at + timedelta(milliseconds=1)
        self._vacuum(line, now() - since if aged else timedelta(0))
        self.full = line

    @rule(name=names, pick=picks, other=st.sampled_from(["publish", "snapshot", "append", "restore", "vacuum"]))
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
            elif other == "restore":
                self._restore(name, f"{name}@#{version}", line.contents[version])
            else:
                self._vacuum(line, timedelta(0))

        last = min(self.model.needed_from(line), begin)
        done = vacuum(self._slow(meanwhile), line.dataset, keep_for=timedelta(0))
        assert done.before == max(last, line.before)
        self.model.condemn(line, done.before)
        if other not in ("append", "restore"):  # which make a new head, and so leave something to do
            self.check_nothing_left(line)
        self.full = line
        self.done["vacuum raced"] += 1

    @rule(name=names, pick=picks, how=st.sampled_from(["join", "full", "sort", "sort full", "zorder"]))
    def optimize(self, name: str, pick: int, how: str) -> None:
        """Rewrite files: joined, in the same order, or ordered by key or by several columns."""
        line = self.model.names[name]
        if line is None:
            refused("dataset-deleted", lambda: optimize(self.lake, name))
            return
        order = {"sort": "sort" in how, "zorder": ("id", "name") if how == "zorder" else ()}
        small = {"target_bytes": 4096} if pick % 4 == 0 else {}
        done = optimize(self.lake, name, full="full" in how, **order, **small)
        assert done.commits <= 1
        assert not done.left
        self._expect(line, [line.contents[-1]] * done.commits, in_order=how in ("join", "full"))
        self.full = line
        self.done["optimize"] += done.commits

    @rule(name=names, pick=picks, pinned=st.booleans(), raced=st.booleans())
    def restore(self, name: str, pick: int, pinned: bool, raced: bool) -> None:
        """Restore a state of the dataset; one of an earlier table of that name is copied, into the same columns."""
        promised = [found for found in self.model.references() if found[0].startswith(f"{name}@")]
        found = promised[pick % len(promised)] if pinned and promised else self._chosen(name, pick * 2)
        line = self.model.names[name]
        if line is None or found is None:
            refused("dataset-deleted", lambda: restore(self.lake, name, "@#0"))
            return
        reference, source, version = found
        if version in source.condemned:
            refused("version-folded", lambda: restore(self.lake, name, reference))
        elif source is not line and source.contents[version].columns != line.contents[-1].columns:
            refused("schema-differs", lambda: restore(self.lake, name, reference))
        elif raced and source is line and not line.held and self._lost(line, version):
            # It has to be another state than the head, or nothing is leased.
            if version != line.head and line.contents[version].rows != line.contents[-1].rows:
                lake = self._slow(self._overtaken(name, line))
                refused("version-folded", lambda: restore(lake, name, reference))
                self.done["restore refused"] += 1
        else:
            self._restore(name, reference, source.contents[version])
        self.full = line

    def _restore(self, name: str, reference: str, content: Content) -> None:
        line = self.model.names[name]
        assert line is not None
        made = restore(self.lake, name, reference).table_version - line.head
        assert made == 1 or (made == 0 and line.contents[-1] == content)
        self._expect(line, [content] * made, in_order=True)
        self.done["restore"] += made

    @rule(name=names, last=st.integers(1, 3), tag=st.sampled_from(["DRAFT", "FINAL", None]), raced=st.booleans())
    def expire(self, name: str, last: int, tag: str | None, raced: bool) -> None:
        """Give up published versions that no rule keeps; one that gets a tag meanwhile stays."""
        expiring = sorted(self.model.expiring(name, last, {tag} if tag else set()))
        if not (raced and expiring):
            self._expire(name, last, [tag] if tag else [])
            assert not catalog.expire(self.lake, name, keep_last=last, keep_tags=[tag] if tag else [])
            return
        lake = self._slow(lambda: self.tag(name, expiring[0] - 1, "prod", "set"))
        done = catalog.expire(lake, name, keep_last=last, keep_tags=[tag] if tag else [])
        # The tag may have been taken off another version, which stays for its own reason.
        assert {v.number for v in done.expired} == self.model.expiring(name, last, {tag} if tag else set())
        for version in done.expired:
            self.model.published[name][version.number - 1].expired = True
        self.done["expire raced"] += 1

    @rule(name=names, old=picks, new=picks)
    def diff(self, name: str, old: int, new: int) -> None:
        """The counts of a diff are those of the rows, whatever was optimized or cleaned up between the two states."""
        line = self.model.names[name]
        if line is None:
            return
        first, last = (line.alive[pick % len(line.alive)] for pick in (old, new))
        before, after = line.contents[first], line.contents[last]
        if before.columns != after.columns:
            return
        was, now_ = ({row["id"]: row for row in content.dicts()} for content in (before, after))
        counts = self.lake.diff(f"{name}@#{first}", f"{name}@#{last}").counts
        changed = sum(was[key] != now_[key] for key in was.keys() & now_.keys())
        assert (counts.added, counts.removed, counts.changed) == (
            len(now_.keys() - was.keys()),
            len(was.keys() - now_.keys()),
            changed,
        )
        self.done["diff"] += 1
