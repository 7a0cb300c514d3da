"""Search: datasets by words in whatever is known of them, narrowed and counted by facets, the best first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from heapq import nsmallest
from itertools import chain

from catalog.search_index import FACETS, SEARCH, Entry, SearchIndex, Text, split, texts_of, words_of
from lakehouse.decisions import Dataset
from lakehouse.lake import Lake
from lakehouse.ledger import State

FACET_VALUES = 20
"""Values of a facet that are counted: the most frequent ones."""
_PROSE = ("description", "value")


@dataclass(frozen=True, slots=True)
class Hit:
    """One dataset that was found."""

    dataset: Dataset
    score: int
    """The sum of what its best match of each word is worth, as `search_index.SCORES` says; 0 without words."""
    matched: tuple[Text, ...]
    """Where words were found, best first; of a description, and of a value of metadata, only the words."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found."""

    hits: list[Hit]
    """The best ones, best first, at most as many as asked for."""
    total: int
    """How many datasets were found."""
    facets: dict[str, dict[str, int]]
    """How many of all those have which namespace, owner, license, kind, data_tag, tag: the 20 most frequent of each."""
    suggestions: list[str]
    """Known words that are close to the words that no dataset has; only when nothing was found."""


def search(
    lake: Lake,
    words: str = "",
    *,
    namespace: str | None = None,
    owner: str | None = None,
    license: str | None = None,
    data_tag: str | None = None,
    tag: str | None = None,
    kind: str | None = None,
    column: str | None = None,
    limit: int = 20,
) -> SearchResult:
    """Find datasets by words in names, columns, tags, data tags, descriptions, owners, licences and metadata.

    Each word must be found somewhere, as a whole word or as the beginning of one. Identifiers are split at `_`, `-`, `.`
    and camelCase; case does not matter. A dataset whose name is the text comes first, then those with the highest score.
    Deleted datasets are not found.

    Args:
        words: What to look for; empty: every dataset that the other arguments let through, by name.
        namespace, owner, license, kind: Only datasets with exactly this, ignoring case.
        data_tag: Only those with a published version of this data tag.
        tag: Only those with this movable tag.
        column: Only those with a column of this name.
        limit: How many hits are returned.
    """
    state = lake.state()
    index = state.keep(SEARCH)
    wanted = split(words)
    found = _scores(index, wanted) if wanted or not words.strip() else {}  # nothing but marks is no word
    text, entries = words.strip().casefold(), index.entries
    for facet, value in enumerate((namespace, owner, license, kind, data_tag, tag)):
        if value is not None:
            found = _narrowed(index, found, facet, value.casefold())
    if column is not None:
        name = column.casefold()
        found = {i: score for i, score in found.items() if name in entries[i].columns}

    placed = ((text not in entries[i].names, -score, entries[i].names[0], i) for i, score in found.items())
    return SearchResult(
        hits=[_hit(state, entries[i], found[i], wanted) for *_, i in nsmallest(limit, placed)],
        total=len(found),
        facets=_facets([entries[i] for i in found]),
        suggestions=[] if found else _suggestions(index, wanted),
    )


def _scores(index: SearchIndex, wanted: Sequence[str]) -> dict[str, int]:
    """Return the datasets that have all words, with their scores: {id: score}."""
    if not wanted:
        return dict.fromkeys(index.entries, 0)
    first, *others = (index.scores(word) for word in wanted)
    for other in others:
        first = {i: score + other[i] for i, score in first.items() if i in other}
    return first


def _narrowed(index: SearchIndex, found: dict[str, int], facet: int, wanted: str) -> dict[str, int]:
    """Return what has a value, casefolded, of the facet at a place in `FACETS`."""
    entries = index.entries
    return {i: score for i, score in found.items() if wanted in map(str.casefold, entries[i].facets[facet])}


def _facets(entries: Sequence[Entry]) -> dict[str, dict[str, int]]:
    """Count the values of each facet, most frequent first; what is not said counts nowhere."""
    columns = zip(*(e.facets for e in entries), strict=True) if entries else [()] * len(FACETS)
    counted = (Counter(chain.from_iterable(column)) for column in columns)
    return {name: dict(c.most_common(FACET_VALUES)) for name, c in zip(FACETS, counted, strict=True)}


def _hit(state: State, entry: Entry, score: int, wanted: Sequence[str]) -> Hit:
    return Hit(entry.dataset, score, tuple(_matched(texts_of(state, entry), wanted)))


def _matched(texts: Iterable[Text], wanted: Sequence[str]) -> Iterator[Text]:
    for text in texts:
        having = sorted(word for word in words_of(text.text) if word.startswith(tuple(wanted)))
        if having:
            yield Text(text.field, " ".join(having)) if text.field in _PROSE else text


def _suggestions(index: SearchIndex, wanted: Sequence[str]) -> list[str]:
    """Return known words that are nearly those which nothing begins with; both ends of a word are rarely wrong."""
    found: list[str] = []
    for word in wanted:
        if next(index.starting(word), None) is None:
            near = [
                w for w in index.vocabulary if abs(len(w) - len(word)) <= 2 and (w[0] == word[0] or w[-1] == word[-1])
            ]
            found += get_close_matches(word, near, n=3)
    return found


__all__ = ["Hit", "SearchResult", "search"]
