"""Retention: giving up published versions that no rule keeps. What something still points at, or a hold covers, stays.

An expired version is no longer pinned, so that the next clean-up may free what only it needed. Its number stays used,
and naming it says that it expired.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from catalog.data_tags import refuse_unknown
from catalog.policies import Rules, policy_rules, rules_of
from lakehouse.decisions import Dataset, DatasetVersion, Decision, Name, Tag
from lakehouse.errors import FormatError, InvalidInputError, NotFoundError
from lakehouse.lake import Lake
from lakehouse.ledger import State
from lakehouse.pins import SKEW, held, pinned_versions, pins_on_versions
from lakehouse.references import parse_name
from lakehouse.rehearsal import rehearsal
from lakehouse.resolution import find_name, named_now
from lakehouse.vacuum import survey

_NEWEST, _HELD = "newest version", "legal hold: "


@dataclass(frozen=True, slots=True)
class KeptVersion:
    """A published version that no rule keeps, and that stays all the same."""

    version: DatasetVersion
    why: tuple[str, ...]
    """What keeps it: `newest version`, `tag prod`, `milestone main.spring/v2`, `snap:run-20-nov`, `legal hold: ...`."""


@dataclass(frozen=True, slots=True)
class Expiry:
    """What expires, or has expired."""

    expired: tuple[DatasetVersion, ...]
    """By dataset and number."""
    kept: tuple[KeptVersion, ...]
    """Versions that no rule keeps, but that something points at."""
    files: int | None = None
    """Data files that only the expired versions need, which a clean-up then deletes; None: not looked at, or unknown."""
    bytes: int | None = None
    """Their size."""

    @property
    def rows(self) -> int:
        """Rows of the expired versions, each counted for itself."""
        return sum(v.rows for v in self.expired)

    def __bool__(self) -> bool:
        return bool(self.expired)


def expire(
    lake: Lake,
    name: str | None,
    *,
    keep_last: int | None = None,
    keep_for: str | timedelta | None = None,
    keep_tags: Sequence[str] = (),
    message: str | None = None,
    dry_run: bool = False,
) -> Expiry:
    """Give up the published versions that no rule keeps, in one decision.

    What any rule keeps stays; without rules, those of the retention policies hold, and what has none stays. So do the
    newest version, and every version that a tag, a milestone, a snapshot or a running reader points at, or a legal hold
    covers.

    Args:
        name: `[namespace.]name`; None means every dataset that the actor sees, deleted ones too.
        keep_last: How many of the newest versions of each dataset stay.
        keep_for: Versions that were published within this span stay: `90d`, a timedelta.
        keep_tags: Data tags whose versions stay: FINAL.
        message: A person's words, kept with the decision.
        dry_run: Only say what would expire, and what a clean-up could free then.
    Raises:
        InvalidInputError: neither a rule nor a policy (rule-missing), keep_last below 1 (keep-invalid), no span of time (span-invalid).
        NotFoundError: dataset-not-found; a data tag that is neither mapped nor on any of these versions (data-tag-not-found).
    """
    now = datetime.now(UTC)
    given = rules_of(now, keep_last, keep_for, keep_tags)
    full, seen = None if name is None else ".".join(parse_name(name)), lake.state()

    def rule(state: State) -> tuple[Expiry, list[Decision]]:
        every = (n for n in state.all(Name) if not seen.viewer or seen.get(Name, n.key) is not None)
        names = list(every) if full is None else [find_name(state, full)]
        refuse_unknown(state, keep_tags, [n.series for n in names if n.series])
        rules = _rules(state, names, given, now)
        if not rules and given is None:
            raise InvalidInputError(
                "rule-missing",
                f"Nothing says which versions of {full or 'any dataset'} to keep. Give a number to keep, a span of time or "
                "data tags; or set a policy: lakehouse retention set",
            )
        found = _judge(state, rules, now)
        return found, [Decision.put("version.expire", version) for version in found.expired]

    if not dry_run:
        return _told(seen, lake.ledger.decide(rule, message=message).result, now)
    rehearsal(lake).ledger.decide(rule)  # raises what it would raise, also for him who does not see everything
    state = lake.ledger.unguarded().state()  # what he does not see keeps versions all the same
    found, decisions = rule(state)
    found = _told(seen, found, now)
    after = state.with_rows(state.seq, [(d.entity, d.key, d.value.to_json() if d.value else None) for d in decisions])
    try:
        freed = [_freed(lake, state, after, dataset_id) for dataset_id in {v.dataset_id for v in found.expired}]
    except (NotFoundError, FormatError):  # an adopted table that went away, or that no clean-up of ours can judge
        return found
    return replace(found, files=sum(files for files, _ in freed), bytes=sum(size for _, size in freed))


def _rules(state: State, names: Iterable[Name], given: Rules | None, now: datetime) -> dict[str, Rules]:
    """Return the rules for each numbering: those given, or the policies'."""
    found = {name.series: given or policy_rules(state, name, now) for name in names if name.series}
    return {series: rules for series, rules in found.items() if rules is not None}


def _judge(state: State, rules: Mapping[str, Rules], now: datetime) -> Expiry:
    """Return which versions of the numberings with rules expire, and which stay though no rule keeps them."""
    expired: list[DatasetVersion] = []
    kept: list[KeptVersion] = []
    living: dict[str, list[DatasetVersion]] = {series: [] for series in rules}
    for version in state.all(DatasetVersion):
        if version.series in living and version.expired_at is None:
            living[version.series].append(named_now(state, version))
    marks = _marks(state, now - SKEW)
    for series, versions in living.items():
        versions.sort(key=lambda v: v.number, reverse=True)
        newer = 0
        for version in versions:
            position, newer = newer, newer + (not version.withdrawn)  # a withdrawn one stands for no newer one
            if rules[series].keeps(version, position):
                continue
            hold = held(state, version.dataset_id)
            why = [
                *([] if position else [_NEWEST]),
                *marks[version.series, version.number],
                *marks[version.dataset_id, version.table_version],
                *([f"{_HELD}{hold.reason}"] if hold else []),
            ]
            if why:
                kept.append(KeptVersion(version, tuple(why)))
            else:
                expired.append(replace(version, expired_at=now))
    return Expiry(
        tuple(sorted(expired, key=_place)),
        tuple(sorted(kept, key=lambda k: _place(k.version))),
    )


def _told(seen: State, found: Expiry, now: datetime) -> Expiry:
    """Return what expires as somebody may know it: without the names of what he does not see."""
    if not seen.viewer:
        return found
    known = {_NEWEST, *(mark for marks in _marks(seen, now - SKEW).values() for mark in marks)}

    def words(kept: KeptVersion) -> tuple[str, ...]:
        why = (
            w if w in known or w.startswith(_HELD) else f"something that {seen.viewer} may not read" for w in kept.why
        )
        return tuple(dict.fromkeys(why))

    return replace(found, kept=tuple(replace(kept, why=words(kept)) for kept in found.kept))


def _marks(state: State, at: datetime) -> dict[tuple[str, int], list[str]]:
    """Return what points at versions, by (series, number), and at states, by (dataset id, table version)."""
    found: dict[tuple[str, int], list[str]] = defaultdict(list)
    for tag in state.all(Tag):
        found[tag.series, tag.number].append(f"tag {tag.name}")
    for pin in pins_on_versions(state, at):
        found[pin.dataset_id, pin.table_version].append(pin.pinned_by)
    return found


def _place(version: DatasetVersion) -> tuple[str, int]:
    return version.full_name.casefold(), version.number


def _freed(lake: Lake, before: State, after: State, dataset_id: str) -> tuple[int, int]:
    """Return number and size of the files of a dataset that some version needs in one state, and none in another.

    The log is read once, from where the last clean-up stopped; what it costs does not depend on how many are pinned.
    """
    dataset = before.get(Dataset, dataset_id)
    assert dataset is not None, "the ledger never forgets a dataset that has versions"
    found = survey(lake, before, dataset, timedelta())
    needed, _ = found.files.split(pinned_versions(before, dataset_id))
    _, dead = found.files.split(pinned_versions(after, dataset_id))
    once = {file.path for file in needed}
    freed = {file.path: file.bytes for file in dead if file.path in once and file.path not in found.later}
    return len(freed), sum(freed.values())
