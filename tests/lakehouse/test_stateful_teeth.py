"""The stateful test has teeth: a rule of the clean-up that is left out or wrong makes it fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from deltalake.exceptions import DeltaError
from hypothesis.errors import Flaky

import catalog
from lakehouse import LakeError, leases, lifetimes, logfiles, vacuum
from lakehouse import lake as lakes
from lakehouse.pins import pinned_versions, pins
from tests.lakehouse.test_stateful import run

Patch = Callable[[pytest.MonkeyPatch], None]


def replaced(owner: Any, name: str, value: Any) -> Patch:
    """Return the mutation that puts something else in the place of a rule."""
    return lambda patch: patch.setattr(owner, name, value)


def nothing(*_: Any, **__: Any) -> None:
    """Do nothing where something is needed."""


def without(kind: str, state: Any, dataset_id: str) -> list[int]:
    """Return the pinned versions but for those of one kind."""
    now = datetime.now(UTC)
    return sorted({p.table_version for p in pins(state, now) if p.dataset_id == dataset_id and kind not in p.pinned_by})


def stale_pins(patch: pytest.MonkeyPatch) -> None:
    """Take the pins from the state that was surveyed, not from the one that the decision is made on."""
    seen: dict[int, Sequence[int]] = {}
    survey = vacuum.survey

    def surveyed(lake: Any, state: Any, dataset: Any, *args: Any) -> Any:
        found = survey(lake, state, dataset, *args)
        seen[id(found)] = pinned_versions(state, dataset.dataset_id)
        return found

    patch.setattr(vacuum, "survey", surveyed)
    patch.setattr(vacuum, "_kept", lambda _, __, found: tuple(v for v in seen[id(found)] if v < found.before))


def off_by_one(self: lifetimes.Ended, kept: Sequence[int]) -> bool:
    """Forget that a version may be the first that lists a file."""
    return any(self.added < version < self.removed for version in kept)


def split_without_restores(self: lifetimes.Lifetimes, kept: Sequence[int]) -> Any:
    """Forget that a file may be listed again."""
    return [f for f in self.ended if f.needed_by(kept)], [f for f in self.ended if not f.needed_by(kept)]


def surplus_without_pins(self: logfiles.LogFiles, kept: Sequence[int], before: int) -> list[str]:
    """Fold the log as if nothing were pinned."""
    return real_surplus(self, [], before)


real_surplus = logfiles.LogFiles.surplus

MUTATIONS: dict[str, tuple[Patch, str]] = {
    "versions pin nothing": (replaced(vacuum, "pinned_versions", partial(without, "@v")), "release overwrite clean"),
    "snapshots pin nothing": (replaced(vacuum, "pinned_versions", partial(without, "snap:")), "bundle append clean"),
    "leases pin nothing": (replaced(vacuum, "pinned_versions", partial(without, "lease")), "bundle append clean"),
    "cursors keep nothing": (replaced(vacuum, "needed_from", nothing), "job append clean"),
    "holds hold nothing": (replaced(vacuum, "refuse_held", nothing), "hold append clean"),
    "pins are read before the decision": (stale_pins, "append clean_raced"),
    "publish pins what was given up": (replaced(catalog.versions, "refuse_condemned", nothing), "append publish"),
    "snapshots pin what was given up": (replaced(lakes, "refuse_condemned", nothing), "append bundle"),
    "leases pin what was given up": (replaced(leases, "refuse_condemned", nothing), "append bundle"),
    "tags name what expired": (replaced(catalog.versions, "refuse_expired", nothing), "release tag"),
    "a file dies a version too early": (
        replaced(lifetimes.Ended, "needed_by", off_by_one),
        "release overwrite clean",
    ),
    "a restored file dies": (
        replaced(lifetimes.Lifetimes, "split", split_without_restores),
        "release overwrite restore clean",
    ),
    "the log of pins is folded": (replaced(logfiles.LogFiles, "surplus", surplus_without_pins), "release append clean"),
    "commits are not recorded": (replaced(vacuum, "record", nothing), "append clean"),
}
"""Rules that are broken, one at a time, and the steps by which that shows soon."""


FAST = (
    "versions pin nothing",
    "pins are read before the decision",
    "publish pins what was given up",
    "tags name what expired",
)
"""Those that every run tries; the others are left to the long one."""


@pytest.mark.parametrize("name", [n if n in FAST else pytest.param(n, marks=pytest.mark.nightly) for n in MUTATIONS])
def test_mutation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The machine fails when this rule is broken."""
    patch, rules = MUTATIONS[name]
    patch(monkeypatch)
    with pytest.raises((AssertionError, LakeError, DeltaError, OSError, Flaky)):
        run(lambda: str(tmp_path / uuid4().hex), examples=60, steps=15, rules=rules.split(), number=1, shrink=False)
