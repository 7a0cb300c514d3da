"""The index of the search: which words are found in which datasets, kept up with the ledger's state.

It is made of the state alone. The first search of a process looks at everything; after a decision only the datasets
that it concerns are looked at again.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from unicodedata import normalize

from catalog.metadata import metadata_of
from lakehouse.decisions import Dataset, DatasetVersion, Metadata, Name, SchemaVersion, Tag
from lakehouse.ledger import State
from lakehouse.registry import versions as schema_versions
from lakehouse.resolution import tags_of
from lakehouse.state import Index

Field = Literal[
    "name", "namespace", "column", "tag", "data_tag", "description", "owner", "license", "metadata", "value"
]
SCORES: Mapping[Field, tuple[int, int]] = {
    "name": (60, 40),
    "column": (30, 25),
    "namespace": (20, 15),
    "tag": (20, 15),
    "data_tag": (20, 15),
    "description": (20, 15),
    "owner": (20, 15),
    "license": (20, 15),
    "metadata": (10, 7),
    "value": (5, 3),
}
"""What a word scores that is found as a whole, and as the beginning of one; best first. `metadata` is a name of it."""
FACETS = ("namespace", "owner", "license", "kind", "data_tag", "tag")
"""What searches are narrowed and counted by."""
_FIELDS = tuple(SCORES)
_BY_SERIES = Index(Name, lambda n: (n.series,))
_RUNS = re.compile(r"[^\W_]+")
_HUMPS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True, slots=True)
class Text:
    """One text of a dataset, and where it stands."""

    field: Field
    text: str


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one dataset besides words: what searches are narrowed and counted by."""

    dataset: Dataset
    names: tuple[str, str]
    """Its full name and its name without the namespace, casefolded."""
    facets: tuple[tuple[str, ...], ...]
    """Its values of each of `FACETS`; none where nothing is said."""
    columns: frozenset[str]
    """Names of its columns, casefolded."""


@dataclass(frozen=True, slots=True)
class SearchIndex:
    """Words and datasets; never changes."""

    entries: Mapping[str, Entry]
    """By dataset id."""
    postings: Mapping[str, Mapping[str, int]]
    """By word, by dataset id: the place in `SCORES` of the best field that has it."""
    vocabulary: Sequence[str]
    """The words, ascending."""

    def starting(self, prefix: str) -> Iterator[str]:
        """Iterate over the words that begin so."""
        for at in range(bisect_left(self.vocabulary, prefix), len(self.vocabulary)):
            if not self.vocabulary[at].startswith(prefix):
                return
            yield self.vocabulary[at]

    def scores(self, word: str) -> dict[str, int]:
        """Return the datasets that have a word, or one that begins so, with their best score: {id: score}."""
        whole, begun = zip(*SCORES.values(), strict=True)
        found: dict[str, int] = {}
        for other in self.starting(word):
            worth = whole if other == word else begun
            for dataset_id, rank in self.postings[other].items():
                if worth[rank] > found.get(dataset_id, 0):
                    found[dataset_id] = worth[rank]
        return found


def split(text: str) -> list[str]:
    """Return the words of a query: split where there is no letter or digit and at camelCase, casefolded."""
    parts = (part for run in _RUNS.findall(normalize("NFKC", text)) for part in _HUMPS.split(run))
    return list(dict.fromkeys(part.casefold() for part in parts))


def words_of(text: str) -> set[str]:
    """Return what a text is found by: its words, and each identifier written as one: `user_id`: user, id, userid."""
    found = set(split(text))
    for part in text.split():
        found.add("".join(run.casefold() for run in _RUNS.findall(normalize("NFKC", part))))
    found.discard("")
    return found


def texts_of(state: State, entry: Entry) -> list[Text]:
    """Return all texts that a dataset is found by, the best fields first."""
    own = entry.dataset
    schema = _schema(state, own.dataset_id)
    notes = metadata_of(state, own.dataset_id)
    *_, data_tags, tags = entry.facets
    found: list[tuple[Field, Iterable[str]]] = [
        ("name", [own.name]),
        ("column", [c.name for c in schema.columns] if schema else []),
        ("namespace", [own.namespace]),
        ("tag", tags),
        ("data_tag", data_tags),
        ("description", [own.description]),
        ("owner", [own.owner]),
        ("license", [own.license]),
        ("metadata", [m.name for m in notes]),
        ("value", [m.value for m in notes]),
    ]
    return [Text(field, text) for field, texts in found for text in texts if text]


def entry_of(state: State, dataset_id: str) -> Entry | None:
    """Return what is known of a dataset; None for those that are not to be found: deleted ones and hidden copies."""
    dataset = state.get(Dataset, dataset_id)
    name = state.get(Name, dataset.full_name.casefold()) if dataset else None
    if dataset is None or name is None or name.dataset_id != dataset_id or dataset.deleted_at is not None:
        return None
    schema = _schema(state, dataset_id)
    columns = frozenset(c.name.casefold() for c in schema.columns) if schema else frozenset[str]()
    names = (dataset.full_name.casefold(), dataset.name.casefold())
    own = ((said,) if said else () for said in (dataset.namespace, dataset.owner, dataset.license, dataset.kind))
    return Entry(dataset, names, (*own, tuple(_data_tags(state, name)), tuple(tags_of(state, name.series))), columns)


def _schema(state: State, dataset_id: str) -> SchemaVersion | None:
    known = schema_versions(state, dataset_id)
    return known[-1] if known else None


def _data_tags(state: State, name: Name) -> dict[str, None]:
    """Return the data tags of a name's versions; of a million versions no values are kept for that."""
    found: dict[str, None] = {}
    for number in range(name.last_version, 0, -1):
        version = json.loads(state.text(DatasetVersion, f"{name.series}/v{number}") or "{}")
        if version and version.get("expired_at") is None:
            found[version["data_tag"]] = None
    return found


def _ranks(state: State, entry: Entry) -> dict[str, int]:
    """Return the words of a dataset with the place of the best field that has each."""
    found: dict[str, int] = {}
    for text in texts_of(state, entry):
        for word in words_of(text.text):
            found.setdefault(word, _FIELDS.index(text.field))
    return found


def _concerned(old: State, new: State, changed: Mapping[str, Iterable[str]]) -> set[str]:
    """Return the ids of the datasets that changed values tell about."""
    ids = set(changed.get(Dataset.ENTITY, ()))
    ids |= {key.partition("/")[0] for cls in (SchemaVersion, Metadata) for key in changed.get(cls.ENTITY, ())}
    series = {key.partition("/")[0] for cls in (Tag, DatasetVersion) for key in changed.get(cls.ENTITY, ())}
    names = [name for one in series for name in new.find(_BY_SERIES, one)]
    names += [n for key in changed.get(Name.ENTITY, ()) for state in (old, new) if (n := state.get(Name, key))]
    return ids | {name.dataset_id for name in names if name.dataset_id}


class _Search:
    """The search index of a state."""

    def made(self, state: State) -> SearchIndex:
        state.keep(_BY_SERIES)  # kept before this is, so that it has moved on when this moves
        entries: dict[str, Entry] = {}
        postings: dict[str, dict[str, int]] = {}
        for dataset in state.all(Dataset):
            entry = entry_of(state, dataset.dataset_id)
            if entry is not None:
                entries[dataset.dataset_id] = entry
                for word, rank in _ranks(state, entry).items():
                    postings.setdefault(word, {})[dataset.dataset_id] = rank
        return SearchIndex(entries, postings, sorted(postings))

    def moved(self, kept: SearchIndex, old: State, new: State, changed: Mapping[str, Iterable[str]]) -> SearchIndex:
        ids = _concerned(old, new, changed)
        if not ids:
            return kept
        entries, postings = dict(kept.entries), dict(kept.postings)
        own: dict[str, dict[str, int]] = {}
        for dataset_id in ids:
            before, after = entries.pop(dataset_id, None), entry_of(new, dataset_id)
            left = _ranks(old, before) if before else {}
            come = _ranks(new, after) if after else {}
            if after is not None:
                entries[dataset_id] = after
            for word, _ in left.items() ^ come.items():
                if word not in own:
                    postings[word] = own[word] = dict(postings.get(word, {}))
                if word in come:
                    own[word][dataset_id] = come[word]
                else:
                    own[word].pop(dataset_id, None)
        for word, found in own.items():
            if not found:
                del postings[word]
        vocabulary = kept.vocabulary
        if any((word in kept.postings) != (word in postings) for word in own):
            new_words = (word for word in own if word not in kept.postings)
            # All but a few are in order already, which makes sorting cheap.
            vocabulary = sorted(word for word in (*kept.vocabulary, *new_words) if word in postings)
        return SearchIndex(entries, postings, vocabulary)


SEARCH = _Search()


__all__ = [
    "FACETS",
    "SCORES",
    "SEARCH",
    "Entry",
    "Field",
    "SearchIndex",
    "Text",
    "entry_of",
    "split",
    "texts_of",
    "words_of",
]
