"""Linkage: whether the chosen versions of a milestone's members fit together, counted once for each pair of states."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa

from catalog.candidates import Choice, Lack, required_checks
from catalog.check_runs import run_checks, said
from catalog.foreign_keys import find_orphans, same_key_type
from lakehouse.decisions import Dataset, DatasetVersion, Link, Proof
from lakehouse.facts import SCHEMAS
from lakehouse.lake import Lake
from lakehouse.readers.duck import literal
from lakehouse.snapshots import Snapshot, open_snapshot

VERIFIED = ("link-", "schema-", "check-")
"""How the kinds of what is found here begin."""
_FACTS = "link_proofs"


@dataclass(frozen=True, slots=True)
class Linkage:
    """What verifying the links of a choice found."""

    proofs: tuple[Proof, ...]
    """One for each link that holds."""
    lacks: tuple[Lack, ...]


def verify_links(lake: Lake, choice: Choice) -> Linkage:
    """Verify the links of a complete choice at exactly its versions; a count that is stored is not made again.

    Raises:
        StorageError, AccessDeniedError: the store failed or refused.
    """
    chosen = {v.full_name.casefold(): v for v in choice.chosen if v is not None}
    proofs: list[Proof] = []
    lacks: list[Lack] = []
    for link in choice.milestone.links:
        child, parent = chosen[link.child.casefold()], chosen[link.parent.casefold()]
        found = _stored(lake, link, child, parent) or _count(lake, link, child, parent)
        if isinstance(found, Lack):
            lacks.append(found)
        elif found.orphans:
            lacks.append(
                Lack(
                    "link-orphans",
                    child.full_name,
                    f"{_at(child)}: {found.orphans:,} of {found.rows:,} rows have keys in {_words(link.child_columns)} that "
                    f"{_at(parent)} has not in {_words(link.parent_columns)}: lakehouse milestone orphans "
                    f"{choice.milestone.full_name}",
                )
            )
        else:
            proofs.append(
                Proof(
                    link=str(link),
                    child_version=child.number,
                    parent_version=parent.number,
                    verified_at=found.at,
                )
            )
    return Linkage(tuple(proofs), tuple(lacks))


def lost_columns(lake: Lake, choice: Choice) -> Iterator[Lack]:
    """Iterate over the members whose new version lacks columns, or has other types, than the one published last.

    Raises:
        StorageError, AccessDeniedError, NotFoundError: a version can't be opened.
    """
    state = lake.state()
    pinned = {m.full_name.casefold(): m for m in choice.pinned}
    for version in choice.chosen:
        old = pinned.get(version.full_name.casefold()) if version else None
        if version is None or old is None or old.version in (None, version.number):
            continue
        dataset = state.get(Dataset, old.dataset_id)
        assert dataset is not None, "the ledger never forgets a dataset that something pins"
        # Not by its number: what is pinned was perhaps withdrawn since.
        before = open_snapshot(lake.storage, dataset, old.full_name, old.table_version, None).schema
        after = _open(lake, version).schema
        for field in before:
            at = after.get_field_index(field.name)
            if at < 0:
                detail = f"{_at(version)} has no column {field.name!r}, which v{old.version} had"
            elif not after.field(at).type.equals(field.type):
                detail = f"{_at(version)} has {after.field(at).type} in the column {field.name!r}, v{old.version} had {field.type}"
            else:
                continue
            accept = f"lakehouse milestone publish {choice.milestone.full_name} --accept-schema"
            yield Lack("schema-changed", version.full_name, f"{detail}: {accept}")


def failed_checks(lake: Lake, choice: Choice) -> Iterator[Lack]:
    """Iterate over the checks that the chosen versions fail; a result that is stored is not computed again.

    Raises:
        StorageError, AccessDeniedError, NotFoundError: a version can't be opened.
    """
    state = lake.state()
    for version in choice.chosen:
        names = [d.name for d in required_checks(state, choice.milestone, version)] if version else []
        if version is None or not names:
            continue
        for found in run_checks(lake, _at(version), names):
            if not found.ok:
                how = f"lakehouse check results {_at(version)} --samples"
                detail = f"{_at(version)} fails its check {found.name}: {said(found)}: {how}"
                yield Lack("check-failed", version.full_name, detail)


@dataclass(frozen=True, slots=True)
class Orphaned:
    """A sample of the rows that keep a link from holding."""

    link: str
    child_version: int
    parent_version: int
    rows: int
    orphans: int
    sample: list[dict[str, object]]
    """Distinct keys and how many rows have each (`rows`)."""


def orphans_of(lake: Lake, choice: Choice) -> list[Orphaned]:
    """Return the links of a choice that were found not to hold, with samples of keys."""
    found = []
    for link, child, parent in _paired(choice):
        stored = _stored(lake, link, child, parent) if child and parent else None
        if stored is not None and stored.orphans and child and parent:
            sample = json.loads(stored.sample or "[]")
            found.append(Orphaned(str(link), child.number, parent.number, stored.rows, stored.orphans, sample))
    return found


def unverified(lake: Lake, choice: Choice) -> list[Link]:
    """Return the links that nobody counted yet at the chosen versions, or could not."""
    return [
        link
        for link, child, parent in _paired(choice)
        if child is None or parent is None or _stored(lake, link, child, parent) is None
    ]


def _paired(choice: Choice) -> Iterator[tuple[Link, DatasetVersion | None, DatasetVersion | None]]:
    """Iterate over the links with the chosen versions of child and parent."""
    chosen = {v.full_name.casefold(): v for v in choice.chosen if v is not None}
    for link in choice.milestone.links:
        yield link, chosen.get(link.child.casefold()), chosen.get(link.parent.casefold())


@dataclass(frozen=True, slots=True)
class _Counted:
    rows: int
    orphans: int
    at: datetime
    sample: str | None


def _stored(lake: Lake, link: Link, child: DatasetVersion, parent: DatasetVersion) -> _Counted | None:
    facts = lake.facts.snapshot(_FACTS)
    if facts is None:
        return None
    terms = " and ".join(f"{name} = {literal(value)}" for name, value in _slot(link, child, parent).items())
    rows = facts.to_arrow(columns=["rows", "orphans", "at", "sample"], where=terms).to_pylist()
    return _Counted(**rows[0]) if rows else None


def _count(lake: Lake, link: Link, child: DatasetVersion, parent: DatasetVersion) -> _Counted | Lack:
    one, other = _open(lake, child), _open(lake, parent)
    for snapshot, version, columns in ((one, child, link.child_columns), (other, parent, link.parent_columns)):
        for column in columns:
            if column not in snapshot.schema.names:
                return Lack("link-column", version.full_name, f"{_at(version)} lacks the column {column!r} of {link}")
    for mine, theirs in zip(link.child_columns, link.parent_columns, strict=True):
        types = one.schema.field(mine).type, other.schema.field(theirs).type
        if not same_key_type(*types):
            return Lack(
                "link-type",
                child.full_name,
                f"{_at(child)} has {types[0]} in {mine!r}, {_at(parent)} has {types[1]} in {theirs!r}: they can't be compared",
            )
    found, now = find_orphans(one, link.child_columns, other, link.parent_columns), datetime.now(UTC)
    counted = _Counted(found.rows, found.orphans, now, json.dumps(found.sample, default=str) if found.sample else None)
    slot = _slot(link, child, parent)
    row = slot | {"rows": counted.rows, "orphans": counted.orphans, "at": now, "sample": counted.sample}
    transaction = f"{_FACTS}-{'-'.join(map(str, slot.values()))}"
    lake.facts.append(_FACTS, pa.Table.from_pylist([row], schema=SCHEMAS[_FACTS]), (transaction, 0))
    return counted


def _slot(link: Link, child: DatasetVersion, parent: DatasetVersion) -> dict[str, str | int]:
    return {
        "child_id": child.dataset_id,
        "child_version": child.table_version,
        "child_columns": json.dumps(link.child_columns),
        "parent_id": parent.dataset_id,
        "parent_version": parent.table_version,
        "parent_columns": json.dumps(link.parent_columns),
    }


def _open(lake: Lake, version: DatasetVersion) -> Snapshot:
    return lake.peek(f"{version.full_name}@v{version.number}")


def _at(version: DatasetVersion) -> str:
    return f"{version.full_name}@v{version.number}"


def _words(columns: tuple[str, ...]) -> str:
    return ", ".join(columns)


__all__ = [
    "VERIFIED",
    "Linkage",
    "Orphaned",
    "failed_checks",
    "lost_columns",
    "orphans_of",
    "unverified",
    "verify_links",
]
