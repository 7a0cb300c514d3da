"""Vacuum: giving up the history that nothing needs, in two steps: decide what is condemned, then delete.

What stays of a dataset: its head, everything younger than a span, everything from which a job still reads changes, and
below that each version that something pins. The decision is taken in the ledger, on which pins are decided too: so a
state is pinned or condemned, never both, and deleting after the decision can break no promise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from deltalake import DeltaTable

from lakehouse import lifetimes
from lakehouse.decisions import Condemned, Dataset, Decision
from lakehouse.delta import list_files, table_uri
from lakehouse.errors import ConflictError, FormatError, StateError
from lakehouse.folding import fold, foldable, record
from lakehouse.history import LogEntry, described
from lakehouse.lake import Lake
from lakehouse.ledger import State
from lakehouse.lifetimes import Ended, Lifetimes
from lakehouse.logfiles import list_log, read_entries
from lakehouse.pins import held, needed_from, pinned_versions
from lakehouse.tables import Table

KEEP_FOR = timedelta(days=7)
"""How long history that nothing pins stays readable, unless said otherwise."""
_ROUNDS = 10
"""How often a clean-up is planned anew when others decide meanwhile."""
_UNSUPPORTED = {"deletionVectors", "columnMapping", "v2Checkpoint"}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a clean-up of one dataset frees, or has freed, and what keeps the rest."""

    dataset: Dataset
    head: int
    """The newest table version."""
    before: int
    """Every table version below this one is given up, but for the kept ones."""
    kept: tuple[int, ...]
    """Table versions below `before` that something pins, ascending."""
    versions: int
    """Table versions that this clean-up gives up; those given up earlier are not counted."""
    dead: tuple[Ended, ...]
    """Data and change files that no version which stays needs."""
    log_files: int
    """Files of the log that no version which stays needs."""
    limited_by: str | None
    """The job whose next run keeps more than was asked for; None: none does."""

    @property
    def files(self) -> int:
        """Number of data and change files."""
        return len(self.dead)

    @property
    def bytes(self) -> int:
        """Their size, where the log tells it."""
        return sum(file.bytes for file in self.dead)

    def __bool__(self) -> bool:
        return bool(self.versions or self.dead or self.log_files)


@dataclass(slots=True)
class Survey:
    """A dataset's log, read from where the last clean-up stopped."""

    head: int
    base: int
    """The version before which the last clean-up condemned; 0: there was none."""
    files: Lifetimes
    """Lifetimes up to the version before which this clean-up condemns."""
    commits: list[LogEntry] = field(default_factory=list)
    """The commits that were replayed, oldest first."""
    later: set[str] = field(default_factory=set)
    """Files that a version after that lists anew, and change files of its feed."""
    limited_by: str | None = None

    @property
    def before(self) -> int:
        """The version before which this clean-up condemns."""
        return max(self.files.version, 0)

    def alive(self, kept: Sequence[int]) -> set[str]:
        """Return the data files of the states that stay: the kept ones, `before` and all later ones."""
        needed, _ = self.files.split(kept)
        found = self.later | self.files.listed.keys() | {file.path for file in needed}
        return {path for path in found if not path.startswith("_change_data/")}

    def mentioned(self) -> set[str]:
        """Return every data and change file that the log speaks of and that may be there."""
        return self.later | self.files.listed.keys() | {file.path for file in self.files.ended}


def plan_vacuum(lake: Lake, dataset: Dataset, *, keep_for: timedelta = KEEP_FOR) -> Plan:
    """Return what a clean-up of a dataset would free now; nothing is changed.

    Args:
        keep_for: History that is younger stays, pinned or not; zero keeps the head alone.
    Raises:
        StateError: the dataset is under a legal hold (dataset-held).
        FormatError: an adopted table with features that a clean-up can't judge (vacuum-unsupported).
        NotFoundError: the table is gone (table-missing).
    """
    state = whole_state(lake)
    refuse_held(state, dataset)
    found = survey(lake, state, dataset, keep_for)
    return _planned(lake, state, dataset, found, _kept(state, dataset, found))


def vacuum(lake: Lake, dataset: Dataset, *, keep_for: timedelta = KEEP_FOR) -> Plan:
    """Give up the history of a dataset that nothing needs and delete its files; return what was freed.

    It may die at any point, and run beside readers, writers and other clean-ups: the next one finds what it left.

    Raises:
        ConflictError: others kept deciding about the same dataset (vacuum-overtaken).
        StateError, FormatError, NotFoundError: as `plan_vacuum`.
    """
    for _ in range(_ROUNDS):
        state = whole_state(lake)
        refuse_held(state, dataset)
        found = survey(lake, state, dataset, keep_for)
        # It has to be there before the ledger says so.
        lifetimes.save(lake.storage, dataset.dataset_id, found.files)
        kept = _condemn(lake, dataset, found)
        if kept is not None:
            _look_again(lake, dataset, found)
            done = _planned(lake, state, dataset, found, kept)
            _delete(lake, done, found)
            return done
    raise ConflictError(
        "vacuum-overtaken",
        f"{dataset.full_name}: other clean-ups or jobs kept deciding about it. Try again.",
        dataset=dataset.full_name,
    )


def whole_state(lake: Lake) -> State:
    """Return all decisions: what nothing needs is judged by all of them, also when the actor lost his role meanwhile.

    Raises:
        AccessDeniedError: the actor may not clean up, or not any more (access-denied).
    """
    lake.check("version.condemn")
    return lake.unguarded().state()


def survey(lake: Lake, state: State, dataset: Dataset, keep_for: timedelta = KEEP_FOR) -> Survey:
    """Read the log of a dataset from where the last clean-up stopped.

    Raises:
        FormatError, NotFoundError: as `plan_vacuum`.
    """
    condemned = state.get(Condemned, dataset.dataset_id)
    base = 0 if condemned is None else condemned.before
    table = Table(lake.storage, dataset, lake.actor).open()
    _refuse_unsupported(table, dataset)
    files = lifetimes.load(lake.storage, dataset.dataset_id, base) if base else None
    found = Survey(table.version(), base, files or _beginning(lake, dataset, table.version()))
    last, job = needed_from(state, dataset.dataset_id) or (found.head, None)
    oldest = datetime.now(UTC) - keep_for if keep_for else datetime.max.replace(tzinfo=UTC)
    given_up, latest = True, datetime.min.replace(tzinfo=UTC)
    for entry in read_entries(lake.storage, dataset.location, range(found.files.version + 1, found.head + 1)):
        commit = described(entry.version, entry.info, entry.stored)
        latest = max(latest, commit.created_at)
        # A version is history since the commit after it; the first commit has none before it.
        if given_up and latest <= oldest and entry.version > last:
            found.limited_by = job
        given_up = given_up and entry.version <= last and (latest <= oldest or entry.version == 0)
        if given_up:
            found.files.replay(entry)
            found.commits.append(commit)
        else:
            found.later |= entry.added.keys() | entry.changes.keys()
    return found


def refuse_held(state: State, dataset: Dataset) -> None:
    """Refuse to clean up what is under a legal hold.

    Raises:
        StateError: it is (dataset-held).
    """
    hold = held(state, dataset.dataset_id)
    if hold is not None:
        raise StateError(
            "dataset-held",
            f"{dataset.full_name} is under a legal hold ({hold.reason}), so nothing of it is given up. "
            f"Release it with: lakehouse hold release {dataset.full_name}",
            dataset=dataset.full_name,
        )


def _refuse_unsupported(table: DeltaTable, dataset: Dataset) -> None:
    """Refuse an adopted table whose log says more about files than is read here."""
    features = {*(table.protocol().reader_features or ())} & _UNSUPPORTED
    if features:
        raise FormatError(
            "vacuum-unsupported",
            f"{dataset.full_name} uses {', '.join(sorted(features))}: let the engine that made it clean it up.",
            dataset=dataset.full_name,
        )


def _beginning(lake: Lake, dataset: Dataset, head: int) -> Lifetimes:
    """Return where the replay of a log begins that was never replayed: before its first entry, if that is there."""
    found = list_log(lake.storage, dataset.location)
    entries, start = set(found.entries), head
    while start in entries:
        start -= 1
    if start < 0:
        return Lifetimes(-1)
    # Somebody cleaned the log: begin at the first checkpoint from which on all entries are there.
    start = min((v for v in found.checkpoints if v >= start), default=head)
    table = Table(lake.storage, dataset, lake.actor).open(start)
    listed = list_files(table, dataset.full_name).table
    return lifetimes.seed(start, zip(listed.column("path").to_pylist(), listed.column("size").to_pylist(), strict=True))


def _kept(state: State, dataset: Dataset, found: Survey) -> tuple[int, ...]:
    return tuple(v for v in pinned_versions(state, dataset.dataset_id) if v < found.before)


def _condemn(lake: Lake, dataset: Dataset, found: Survey) -> tuple[int, ...] | None:
    """Decide what is given up; return the versions below that are kept, None when the survey no longer holds."""

    def rule(state: State) -> tuple[tuple[int, ...] | None, list[Decision]]:
        refuse_held(state, dataset)
        current = state.get(Condemned, dataset.dataset_id)
        needed = needed_from(state, dataset.dataset_id)
        if (current.before if current else 0) != found.base or (needed and needed[0] < found.before):
            return None, []
        kept = _kept(state, dataset, found)
        value = Condemned(dataset_id=dataset.dataset_id, before=found.before, kept=kept, decided_at=datetime.now(UTC))
        same = found.before == found.base and kept == (current.kept if current else ())
        return kept, [] if same else [Decision.put("version.condemn", value)]

    return lake.ledger.decide(rule).result


def _look_again(lake: Lake, dataset: Dataset, found: Survey) -> None:
    """Note what commits since the survey listed again.

    A restore leases the state that it lists again. Either that lease was there when the decision was taken, which then
    keeps the state; or it had ended, with the commit, which is seen now; or the restore comes later and is refused.
    """
    newest = Table(lake.storage, dataset, lake.actor).version()
    for entry in read_entries(lake.storage, dataset.location, range(found.head + 1, newest + 1)):
        found.later |= entry.added.keys() | entry.changes.keys()


def _planned(lake: Lake, state: State, dataset: Dataset, found: Survey, kept: tuple[int, ...]) -> Plan:
    earlier = state.get(Condemned, dataset.dataset_id)
    known = 0 if earlier is None else earlier.before - len(earlier.kept)
    _, dead = found.files.split(kept)
    return Plan(
        dataset=dataset,
        head=found.head,
        before=found.before,
        kept=kept,
        versions=found.before - len(kept) - known,
        dead=tuple(f for f in dead if f.path not in found.later and "://" not in f.path and not f.path.startswith("/")),
        log_files=foldable(lake.storage, dataset, kept, found.before),
        limited_by=found.limited_by,
    )


def _delete(lake: Lake, done: Plan, found: Survey) -> None:
    """Delete what was condemned: files first, then the log that tells of them."""
    storage, dataset = lake.storage, done.dataset
    if done.dead:
        storage.delete([file.path for file in done.dead], table_uri(storage, dataset.location))
        needed, _ = found.files.split(done.kept)
        lifetimes.save(storage, dataset.dataset_id, Lifetimes(found.files.version, found.files.listed, needed))
    storage.delete(list(lifetimes.outdated(storage, dataset.dataset_id, done.before)))
    record(lake.facts, storage, dataset, done.before, found.commits)
    fold(storage, dataset, done.kept, done.before)
