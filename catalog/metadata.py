"""Metadata: names and values that people keep about a dataset, and find it by."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from lakehouse.decisions import Dataset, Decision, Metadata
from lakehouse.errors import InvalidInputError, NotFoundError, suggest
from lakehouse.lake import Lake
from lakehouse.ledger import State
from lakehouse.references import parse_name
from lakehouse.resolution import find_dataset
from lakehouse.state import Index

MAX_VALUE = 4096
"""Bytes of a value, in UTF-8."""
_NAME = re.compile(r"\w[\w.:/-]{0,127}")
_BY_DATASET = Index(Metadata, lambda m: (m.dataset_id,))


def set_metadata(lake: Lake, name: str, values: Mapping[str, str]) -> list[Metadata]:
    """Give a dataset metadata, all in one commit; what it has under other names stays.

    Args:
        name: `[namespace.]name`.
        values: Text by name; a value is at most 4 KiB of UTF-8, and never a row's.
    Returns:
        What the dataset has under these names now, in the order given.
    Raises:
        InvalidInputError: a name that is none, or comes twice ignoring case (metadata-name-invalid); a value that is too
            long (metadata-too-long).
        NotFoundError: dataset-not-found, dataset-deleted.
    """
    full = ".".join(parse_name(name))
    _check(values)

    def rule(state: State) -> tuple[list[Metadata], list[Decision]]:
        dataset = find_dataset(state, full)
        made = [_value(state, dataset, key, value, lake.actor) for key, value in values.items()]
        return made, [Decision.put("metadata.set", m) for m in made if state.get(Metadata, m.key) != m]

    return lake.ledger.decide(rule).result


def remove_metadata(lake: Lake, name: str, names: Iterable[str]) -> list[Metadata]:
    """Remove metadata of a dataset, all in one commit; return what is gone.

    Args:
        names: Names of metadata, in any case.
    Raises:
        NotFoundError: dataset-not-found, dataset-deleted; it has nothing under a name (metadata-not-found).
    """
    full, wanted = ".".join(parse_name(name)), list(names)

    def rule(state: State) -> tuple[list[Metadata], list[Decision]]:
        gone = _find_metadata(state, find_dataset(state, full), wanted)
        return gone, [Decision.remove("metadata.remove", m) for m in gone]

    return lake.ledger.decide(rule).result


def list_metadata(lake: Lake, name: str) -> list[Metadata]:
    """Return the metadata of a dataset by name.

    Raises:
        NotFoundError: dataset-not-found, dataset-deleted.
    """
    state = lake.state()
    return metadata_of(state, find_dataset(state, ".".join(parse_name(name))).dataset_id)


def metadata_of(state: State, dataset_id: str) -> list[Metadata]:
    """Return the metadata of a dataset by name."""
    return sorted(state.find(_BY_DATASET, dataset_id), key=lambda m: m.key)


def _find_metadata(state: State, dataset: Dataset, names: Iterable[str]) -> list[Metadata]:
    """Return the metadata that a dataset has under these names, each once.

    Raises:
        NotFoundError: it has nothing under one of them (metadata-not-found), with close matches.
    """
    known = {m.name.casefold(): m for m in metadata_of(state, dataset.dataset_id)}
    found = {}
    for name in names:
        key = name.casefold()
        if key not in known:
            raise NotFoundError(
                "metadata-not-found",
                f"{dataset.full_name} has no metadata {name!r}.{suggest(name, [m.name for m in known.values()])} "
                f"List it with: lakehouse metadata list {dataset.full_name}",
                dataset=dataset.full_name,
            )
        found[key] = known[key]
    return list(found.values())


def _check(values: Mapping[str, str]) -> None:
    seen = set[str]()
    for name, value in values.items():
        if not _NAME.fullmatch(name):
            raise InvalidInputError(
                "metadata-name-invalid",
                f"{name[:140]!r} can't name metadata. Write 1 to 128 letters, digits and _ . : / -, such as cost-center.",
            )
        if name.casefold() in seen:
            raise InvalidInputError("metadata-name-invalid", f"The metadata {name!r} is given twice; case is ignored.")
        seen.add(name.casefold())
        size = len(value.encode())
        if size > MAX_VALUE:
            raise InvalidInputError(
                "metadata-too-long",
                f"The value of {name!r} has {size:,} bytes, the most is {MAX_VALUE:,}. Keep it elsewhere, and its address here.",
            )


def _value(state: State, dataset: Dataset, name: str, value: str, actor: str) -> Metadata:
    made = Metadata(
        dataset_id=dataset.dataset_id, name=name, value=value, created_at=datetime.now(UTC), created_by=actor
    )
    known = state.get(Metadata, made.key)
    return known if known is not None and (known.name, known.value) == (name, value) else made


__all__ = ["list_metadata", "metadata_of", "remove_metadata", "set_metadata"]
