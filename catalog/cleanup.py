"""Clean-up: what history and bytes nothing needs any more, of one dataset or of the whole lakehouse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta

from lakehouse.decisions import Dataset, Hold
from lakehouse.errors import LakeError
from lakehouse.lake import Lake
from lakehouse.pins import held
from lakehouse.references import parse_name
from lakehouse.resolution import find_dataset
from lakehouse.spans import parse_span
from lakehouse.sweep import ORPHAN_AGE, Orphans, find_lost_tables, find_orphans, sweep, sweep_lost_tables
from lakehouse.sweep_bytes import find_unused_bytes, sweep_bytes
from lakehouse.vacuum import KEEP_FOR, Plan, plan_vacuum
from lakehouse.vacuum import vacuum as vacuum_dataset

_NONE = Orphans((), 0)


@dataclass(slots=True)
class CleanUp:
    """What a clean-up frees, or has freed."""

    plans: list[Plan] = field(default_factory=list)
    """History, dataset by dataset."""
    orphans: dict[str, Orphans] = field(default_factory=dict)
    """Files that no commit mentions, by dataset; those without any are left out."""
    unused: Orphans = _NONE
    """Packs and objects that no row points at; looked for in a clean-up of the whole lakehouse only."""
    lost: Orphans = _NONE
    """Files of tables that were made and never registered; looked for in a clean-up of the whole lakehouse only."""
    holds: list[Hold] = field(default_factory=list)
    """Legal holds, whose datasets were left as they are."""
    problems: dict[str, LakeError] = field(default_factory=dict)
    """Datasets (and `stored bytes`) that could not be cleaned up, in a clean-up of the whole lakehouse; the others were."""

    @property
    def files(self) -> int:
        """Number of files and objects; those of the log are not counted."""
        return sum(p.files for p in self.plans) + sum(len(o.keys) for o in self._left_behind())

    @property
    def bytes(self) -> int:
        """Their size."""
        return sum(p.bytes for p in self.plans) + sum(o.bytes for o in self._left_behind())

    @property
    def versions(self) -> int:
        """Table versions that are given up."""
        return sum(p.versions for p in self.plans)

    def __bool__(self) -> bool:
        return any(self.plans) or any(self._left_behind())

    def _left_behind(self) -> Iterator[Orphans]:
        yield from self.orphans.values()
        yield self.unused
        yield self.lost


def vacuum(
    lake: Lake,
    dataset: str | None = None,
    *,
    keep_for: str | timedelta = KEEP_FOR,
    orphan_age: str | timedelta = ORPHAN_AGE,
    dry_run: bool = False,
) -> CleanUp:
    """Give up the history that nothing needs, and delete what dead writers left behind.

    Published versions, milestones, snapshots, leases and what jobs still read stay; so does the head.

    Args:
        dataset: Only this one, which may be an adopted table; None means all of our own tables, deleted datasets too,
            and the stored bytes of assets.
        keep_for: History that is younger stays, pinned or not: `7d`, `12h`, a timedelta; `0` keeps the head alone.
        orphan_age: Age from which on a file that nothing mentions counts as left behind; at least 24 hours.
        dry_run: Only say what would be freed.
    Raises:
        InvalidInputError: span-invalid, orphan-age-invalid.
        NotFoundError: dataset-not-found, dataset-deleted.
        StateError: the named dataset is under a legal hold (dataset-held).
        FormatError: an adopted table with features that a clean-up can't judge (vacuum-unsupported).
        ConflictError: others kept deciding (vacuum-overtaken, table-busy).
    """
    # Whoever does not see every pin can't say what is not pinned.
    lake.check("version.condemn")
    span, age = parse_span(keep_for, "keep_for"), parse_span(orphan_age, "orphan_age")
    state, done = lake.state(), CleanUp()
    if dataset is None:
        chosen = [d for d in state.all(Dataset) if d.guarantee == "own"]
        done.holds = [hold for d in chosen if (hold := held(state, d.dataset_id)) is not None]
        skipped = {hold.dataset_id for hold in done.holds}
        chosen = [d for d in chosen if d.dataset_id not in skipped]
    else:
        chosen = [find_dataset(state, ".".join(parse_name(dataset)))]
    for one in chosen:
        try:
            done.plans.append((plan_vacuum if dry_run else vacuum_dataset)(lake, one, keep_for=span))
            if found := (find_orphans if dry_run else sweep)(lake, one, age):
                done.orphans[one.full_name] = found
        except LakeError as error:
            if dataset is not None:
                raise
            done.problems[one.full_name] = error
    if dataset is None:
        done.lost = (find_lost_tables if dry_run else sweep_lost_tables)(lake, age)
        try:
            done.unused = (find_unused_bytes if dry_run else sweep_bytes)(lake, age)
        except LakeError as error:
            done.problems["stored bytes"] = error
    return done
