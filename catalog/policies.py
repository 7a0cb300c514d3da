"""Retention policies: which published versions of a dataset, or of all datasets of a namespace, `expire` leaves alone.

A dataset's own policy stands in place of its namespace's. It belongs to the numbering of versions, so it stays when the
dataset is renamed, or dropped and made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from catalog.data_tags import refuse_unknown
from lakehouse.decisions import Dataset, DatasetVersion, Decision, Name, RetentionPolicy
from lakehouse.errors import InvalidInputError, NotFoundError, suggest
from lakehouse.lake import Lake
from lakehouse.ledger import State
from lakehouse.references import check_namespace, check_tag, parse_name
from lakehouse.resolution import find_name, known_name, living_names
from lakehouse.spans import parse_span


@dataclass(frozen=True, slots=True)
class Rules:
    """What keeps a version; one that any of them keeps stays."""

    last: int | None
    after: datetime | None
    tags: frozenset[str]

    def keeps(self, version: DatasetVersion, newer: int) -> bool:
        """Whether a version stays.

        Args:
            newer: How many versions that neither expired nor were withdrawn are newer.
        """
        return (
            (self.last is not None and newer < self.last)
            or (self.after is not None and version.created_at > self.after)
            or version.data_tag.casefold() in self.tags
        )


@dataclass(frozen=True, slots=True)
class Retention:
    """A policy, and what it is about."""

    scope: str
    """`vision.*` for a namespace, or the name that the dataset has now."""
    policy: RetentionPolicy


def rules_of(
    now: datetime, keep_last: int | None, keep_for: str | timedelta | None, keep_tags: Sequence[str]
) -> Rules | None:
    """Return the rules that hold at a time; None when none is given.

    Raises:
        InvalidInputError: keep_last below 1 (keep-invalid), no span of time (span-invalid).
    """
    if keep_last is None and keep_for is None and not keep_tags:
        return None
    if keep_last is not None and keep_last < 1:
        raise InvalidInputError("keep-invalid", f"{keep_last} versions can't be kept: the newest always stays.")
    after = None if keep_for is None else now - parse_span(keep_for, "keep_for")
    return Rules(keep_last, after, frozenset(tag.casefold() for tag in keep_tags))


def policy_rules(state: State, name: Name, now: datetime) -> Rules | None:
    """Return the rules of the policy that holds for a name: its own, or its namespace's; None when there is none."""
    namespace = name.full_name.partition(".")[0]
    own = state.get(RetentionPolicy, name.series) or state.get(RetentionPolicy, _key(namespace))
    return None if own is None else rules_of(now, own.keep_last, own.keep_for, own.keep_tags)


def set_retention(
    lake: Lake,
    scope: str,
    *,
    keep_last: int | None = None,
    keep_for: str | None = None,
    keep_tags: Sequence[str] = (),
    message: str | None = None,
) -> Retention:
    """Set the policy of a dataset or a namespace, in place of the one that it has. Nothing expires by that alone.

    Args:
        scope: `[namespace.]name` of a dataset, or a namespace: `vision`, `vision.*`.
        keep_last: How many of the newest versions of each dataset stay.
        keep_for: Versions that were published within this span stay: `90d`.
        keep_tags: Data tags whose versions stay: FINAL.
        message: A person's words, kept with the decision.
    Raises:
        InvalidInputError: no rule (rule-missing), keep-invalid, span-invalid, tag-invalid; a word that names a namespace
            and a dataset (scope-ambiguous), reference-invalid, name-reserved.
        NotFoundError: neither a dataset nor a namespace has that name (dataset-not-found); a data tag that is neither
            mapped nor on any version there (data-tag-not-found).
    """
    now = datetime.now(UTC)
    if rules_of(now, keep_last, keep_for, keep_tags) is None:
        raise InvalidInputError(
            "rule-missing", f"A policy for {scope} needs a number to keep, a span of time or data tags."
        )
    for tag in keep_tags:
        check_tag(tag)

    def rule(state: State) -> tuple[Retention, list[Decision]]:
        namespace, name = _scope(state, scope)
        refuse_unknown(state, keep_tags, [name.series] if name else _series_in(state, namespace))
        policy = RetentionPolicy(
            namespace=namespace,
            series=name.series if name else None,
            keep_last=keep_last,
            keep_for=keep_for,
            keep_tags=tuple(keep_tags),
            created_at=now,
            created_by=lake.actor,
        )
        return Retention(name.full_name if name else _key(namespace), policy), [Decision.put("retention.set", policy)]

    return lake.ledger.decide(rule, message=message).result


def remove_retention(lake: Lake, scope: str) -> Retention:
    """Remove a policy; of a dataset, its namespace's then holds again.

    Raises:
        NotFoundError: there is none of its own (retention-not-found), dataset-not-found.
        InvalidInputError: as `set_retention`.
    """

    def rule(state: State) -> tuple[Retention, list[Decision]]:
        found = _find_retention(state, scope)
        return found, [Decision.remove("retention.remove", found.policy)]

    return lake.ledger.decide(rule).result


def _find_retention(state: State, scope: str) -> Retention:
    """Return the policy that `remove_retention` would remove; errors as there."""
    namespace, name = _scope(state, scope)
    shown = name.full_name if name else _key(namespace)
    policy = state.get(RetentionPolicy, name.series if name else _key(namespace))
    if policy is None:
        raise NotFoundError(
            "retention-not-found",
            f"{shown} has no retention policy of its own. List them with: lakehouse retention list",
            scope=shown,
        )
    return Retention(shown, policy)


def list_retention(lake: Lake) -> list[Retention]:
    """Return all policies by what they are about."""
    state = lake.state()
    # A name that was given back has no numbering, as has the policy of a namespace.
    names = {n.series: n.full_name for n in state.all(Name) if n.alias_of is None and n.series}
    found = [Retention(names.get(p.series or "") or _key(p.namespace), p) for p in state.all(RetentionPolicy)]
    return sorted(found, key=lambda r: r.scope.casefold())


def _key(namespace: str) -> str:
    return f"{namespace}.*".casefold()


def _series_in(state: State, namespace: str) -> list[str]:
    inside = f"{namespace}.".casefold()
    return [n.series for n in state.all(Name) if n.series and n.key.startswith(inside)]


def _scope(state: State, scope: str) -> tuple[str, Name | None]:
    """Return the namespace and, of a dataset, its name."""
    word = scope.removesuffix(".*")
    if word != scope:
        return check_namespace(word), None
    spelt = {d.namespace.casefold(): d.namespace for d in state.all(Dataset)}.get(word.casefold())
    full_name = ".".join(parse_name(word))
    if "." not in word and spelt is None and known_name(state, full_name) is None:
        known = {*living_names(state), *(d.namespace for d in state.all(Dataset))}
        raise NotFoundError(
            "dataset-not-found",
            f"There is neither a namespace nor a dataset {word!r}.{suggest(word, {*known, *(n.removeprefix('main.') for n in known)})} "
            "List the datasets with: lakehouse dataset list",
            dataset=full_name,
        )
    if "." in word or spelt is None:
        return parse_name(word)[0], find_name(state, full_name)
    if known_name(state, full_name) is not None:
        raise InvalidInputError(
            "scope-ambiguous", f"{word!r} is a namespace and a dataset. Write {spelt}.* or {full_name}.", scope=word
        )
    return spelt, None


__all__ = [
    "Retention",
    "Rules",
    "list_retention",
    "policy_rules",
    "remove_retention",
    "rules_of",
    "set_retention",
]
