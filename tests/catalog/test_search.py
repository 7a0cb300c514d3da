"""Search: what is found, in which order, how it is counted, and that the index moves on with the state."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import catalog
from catalog.search_index import SCORES, SEARCH, split, words_of
from lakehouse import Lake
from lakehouse.decisions import Column, Dataset, DatasetVersion, Decision, Metadata, Name, SchemaVersion, Tag, Value
from lakehouse.tables import Table
from tests.support.lakes import make_lake
from tests.support.registered import NOW, put

SCHEMA = pa.schema([("user_id", pa.int64()), ("label", pa.string())])


def names(lake: Lake, words: str = "", **more: Any) -> list[str]:
    """Return the names that a search finds, best first."""
    return [hit.dataset.full_name for hit in catalog.search(lake, words, **more).hits]


def add(lake: Lake, name: str, **more: Any) -> None:
    """Make a dataset of two columns."""
    catalog.create_dataset(lake, name, SCHEMA, **more)


def test_words(lake: Lake) -> None:
    """Identifiers are split at separators and at camelCase, and are known as one word too."""
    assert split("vision.trainPhotos_v2 HTTPServer CC-BY-4.0") == [
        *("vision", "train", "photos", "v2", "http", "server", "cc", "by", "4", "0")
    ]
    assert words_of("user_id, of Straße") == {"user", "id", "userid", "of", "strasse"}


def test_everything_that_is_known_is_found(photos: Table, lake: Lake) -> None:
    """Names, namespaces, columns, tags, data tags, descriptions, owners, licences and metadata are searched."""
    add(lake, "shop.orders", description="What people bought.", owner="Ann Lee", license="CC-BY-4.0")
    catalog.publish(lake, "shop.orders", data_tag="GOLDEN")
    catalog.set_tag(lake, "shop.orders@v1", "prod")
    catalog.set_metadata(lake, "shop.orders", {"cost-center": "4711 Basel"})
    fields = {}
    for word in ("orders", "shop", "userid", "prod", "golden", "bought", "ann", "cc-by", "cost", "basel"):
        (hit,) = catalog.search(lake, word).hits
        assert hit.dataset.full_name == "shop.orders"
        fields[hit.matched[0].field] = hit.matched[0].text
    assert fields == {
        "name": "orders",
        "namespace": "shop",
        "column": "user_id",
        "tag": "prod",
        "data_tag": "GOLDEN",
        "description": "bought",
        "owner": "Ann Lee",
        "license": "CC-BY-4.0",
        "metadata": "cost-center",
        "value": "basel",
    }


def test_the_best_comes_first(lake: Lake) -> None:
    """The name itself, then a word of the name, then its beginning, then columns, then descriptions."""
    catalog.create_dataset(lake, "e", pa.schema([("x", pa.int64())]), description="labels by hand")
    catalog.create_dataset(lake, "d", pa.schema([("labels", pa.int64())]))
    catalog.create_dataset(lake, "labelset", pa.schema([("x", pa.int64())]))
    catalog.create_dataset(lake, "photo_labels", pa.schema([("x", pa.int64())]))
    catalog.create_dataset(lake, "zoo.labels", pa.schema([("x", pa.int64())]))
    assert names(lake, "labels") == ["zoo.labels", "main.photo_labels", "main.labelset", "main.d", "main.e"]
    assert names(lake, "label")[:4] == ["main.labelset", "main.photo_labels", "zoo.labels", "main.d"]
    assert names(lake, "zoo.labels") == ["zoo.labels"]


def test_all_words_must_be_found_and_may_be_beginnings(lake: Lake) -> None:
    """Words are joined by and, in any order and case; each may be the beginning of what stands there."""
    add(lake, "vision.photos")
    add(lake, "vision.sketches")
    assert names(lake, "LAB pho") == ["vision.photos"]
    assert names(lake, "photos sketches") == []
    assert names(lake, "hotos") == []


def test_facets_narrow_and_count(lake: Lake) -> None:
    """Each facet narrows by its exact value in any case, and what was found is counted by each."""
    add(lake, "a.x", owner="ann", license="MIT")
    add(lake, "a.y", owner="bob", license="MIT", kind="features")
    add(lake, "b.x", owner="ann")
    catalog.publish(lake, "a.x", data_tag="FINAL")
    catalog.set_tag(lake, "a.x@v1", "prod")
    assert names(lake, namespace="A") == ["a.x", "a.y"]
    assert names(lake, "x", owner="ANN") == ["a.x", "b.x"]
    assert names(lake, license="mit", kind="features") == ["a.y"]
    assert names(lake, data_tag="final") == names(lake, tag="PROD") == ["a.x"]
    assert names(lake, column="USER_ID", namespace="b") == ["b.x"]
    assert names(lake, column="user") == []
    assert names(lake, "%") == []
    found = catalog.search(lake, " ", limit=1)
    assert (found.total, len(found.hits)) == (3, 1)
    assert found.facets == {
        "namespace": {"a": 2, "b": 1},
        "owner": {"ann": 2, "bob": 1},
        "license": {"MIT": 2},
        "kind": {"table": 2, "features": 1},
        "data_tag": {"FINAL": 1},
        "tag": {"prod": 1},
    }


def test_what_changes_is_found_at_once(photos: Table, lake: Lake) -> None:
    """A deleted dataset is gone and comes back; columns, tags and metadata are found as they are now."""
    assert names(lake, "photos") == ["main.photos"]
    catalog.delete_dataset(lake, "photos")
    assert names(lake, "photos") == []
    catalog.undrop_dataset(lake, "photos")
    assert names(lake, "photos") == ["main.photos"]
    catalog.evolve_schema(lake, "photos", pa.schema([*lake.read("photos").schema, ("breed", pa.string())]))
    assert names(lake, "breed") == ["main.photos"]
    catalog.publish(lake, "photos", data_tag="DRAFT")
    catalog.promote(lake, "photos@v1", "FINAL")
    assert (names(lake, "draft"), names(lake, "final")) == ([], ["main.photos"])
    catalog.set_metadata(lake, "photos", {"camera": "X100"})
    assert names(lake, "x100") == ["main.photos"]
    catalog.remove_metadata(lake, "photos", ["camera"])
    assert names(lake, "x100") == []


def test_close_words_are_suggested(photos: Table, lake: Lake) -> None:
    """When nothing is found, known words that are close to the unknown ones are named."""
    found = catalog.search(lake, "main phtos")
    assert (found.total, found.hits, found.suggestions) == (0, [], ["photos"])
    assert catalog.search(lake, "main xyzzy").suggestions == []
    assert catalog.search(lake, "photos").suggestions == []


# -- against a scan ---------------------------------------------------------------------------------------------------

PARTS = ["photo", "lab", "label", "user"]
identifiers = st.builds(
    lambda parts, joint: joint(parts),
    st.lists(st.sampled_from(PARTS), min_size=1, max_size=2),
    st.sampled_from([".".join, "_".join, lambda parts: "".join(p.capitalize() for p in parts)]),
)
ids = st.sampled_from(["d0", "d1", "d2"])
datasets = st.builds(
    Dataset,
    dataset_id=ids,
    namespace=st.sampled_from(["lab", "user"]),
    name=identifiers,
    location=st.just(""),
    delta_id=st.just(""),
    description=identifiers,
    owner=st.sampled_from(["", "user", "Photo"]),
    created_at=st.just(NOW),
    deleted_at=st.sampled_from([None, None, NOW]),
)
values = st.one_of(
    datasets,
    st.builds(
        SchemaVersion,
        dataset_id=ids,
        number=st.integers(1, 3),
        columns=st.lists(st.builds(Column, name=identifiers, type=st.just("int64")), max_size=2).map(tuple),
        created_at=st.just(NOW),
    ),
    st.builds(Tag, series=ids, name=identifiers, number=st.just(1)),
    st.builds(Metadata, dataset_id=ids, name=identifiers, value=identifiers, created_at=st.just(NOW)),
    st.builds(
        DatasetVersion,
        series=ids,
        number=st.integers(1, 2),
        dataset_id=ids,
        full_name=st.just(""),
        table_version=st.just(0),
        data_tag=identifiers,
        rows=st.just(0),
        files=st.just(0),
        bytes=st.just(0),
        committed_at=st.just(NOW),
        created_at=st.just(NOW),
        expired_at=st.sampled_from([None, None, NOW]),
    ),
)


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake that all examples write into, each after emptying it."""
    return make_lake(str(tmp_path_factory.mktemp("search")))


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(st.lists(st.tuples(values, st.booleans()), max_size=5), max_size=3),
    first=st.lists(datasets, min_size=1, max_size=3, unique_by=lambda d: d.dataset_id),
    words=st.lists(st.sampled_from(["photo", "lab", "labe", "u", "PHOTO", "userphoto", "xyz"]), max_size=2),
    owner=st.sampled_from([None, None, "photo"]),
)
def test_it_agrees_with_a_scan(
    scanned: Lake, first: list[Dataset], steps: list[list[tuple[Value, bool]]], words: list[str], owner: str | None
) -> None:
    """Whatever was decided, a search finds, ranks and counts what a scan of everything does; so does a fresh index."""
    classes = (Dataset, Name, SchemaVersion, Tag, DatasetVersion, Metadata)
    old = [Decision.remove("test", v) for cls in classes for v in scanned.state().all(cls)]
    scanned.ledger.decide(lambda _: (None, old))
    put(scanned, *first)
    for step in steps:
        scanned.state().keep(SEARCH)
        made = [
            Decision.put("test", v) if keep or isinstance(v, Dataset) else Decision.remove("test", v)
            for v, keep in step
        ]
        # A name of its own for each dataset: what a name stands for is decided together with it.
        made += [Decision.put("test", name) for name in _names(scanned, step)]
        scanned.ledger.decide(lambda _, made=made: (None, made))  # type: ignore[misc]
    put(scanned, *_names(scanned, []))
    found = catalog.search(scanned, " ".join(words), owner=owner)
    expected = dict(_scan(scanned, [w.casefold() for w in words], owner))
    assert [(h.dataset.dataset_id, h.score) for h in found.hits] == [(i, score) for i, (score, _) in expected.items()]
    assert found.facets["owner"] == Counter(d.owner for _, d in expected.values() if d.owner)
    assert scanned.state().keep(SEARCH) == SEARCH.made(scanned.state())


def _names(lake: Lake, step: list[tuple[Value, bool]]) -> Iterator[Name]:
    known = {d.dataset_id: d for d in lake.state().all(Dataset)}
    known |= {v.dataset_id: v for v, _ in step if isinstance(v, Dataset)}
    taken = {d.full_name.casefold(): d for d in known.values()}
    for dataset in taken.values():
        gone = dataset.deleted_at is not None
        yield Name(
            full_name=dataset.full_name,
            series=dataset.dataset_id,
            dataset_id=None if gone else dataset.dataset_id,
            last_version=2,
        )


def _scan(lake: Lake, words: list[str], owner: str | None) -> list[tuple[str, tuple[int, Dataset]]]:
    """Return (id, (score, dataset)) of what matches, best first, by looking at everything."""
    state, found = lake.state(), []
    for dataset in state.all(Dataset):
        i = dataset.dataset_id
        name = state.get(Name, dataset.full_name.casefold())
        if name is None or name.dataset_id != i or (owner and dataset.owner.casefold() != owner):
            continue
        schema = max((s for s in state.all(SchemaVersion) if s.dataset_id == i), key=lambda s: s.number, default=None)
        versions = [v for v in state.all(DatasetVersion) if v.series == i and v.expired_at is None]
        texts = {
            "name": [dataset.name],
            "namespace": [dataset.namespace],
            "description": [dataset.description],
            "owner": [dataset.owner],
            "column": [c.name for c in schema.columns] if schema else [],
            "tag": [t.name for t in state.all(Tag) if t.series == i],
            "data_tag": [v.data_tag for v in versions],
            "metadata": [m.name for m in state.all(Metadata) if m.dataset_id == i],
            "value": [m.value for m in state.all(Metadata) if m.dataset_id == i],
        }
        best = [
            max(
                (SCORES[f][h != w] for f, ts in texts.items() for t in ts for h in _heard(t) if h.startswith(w)),
                default=0,
            )  # type: ignore[index]
            for w in dict.fromkeys(words)
        ]
        if all(best):
            exact = " ".join(words) in (dataset.name.casefold(), dataset.full_name.casefold())
            found.append((not exact, -sum(best), dataset.full_name.casefold(), dataset))
    return [(d.dataset_id, (-score, d)) for _, score, _, d in sorted(found, key=lambda f: f[:3])]


def _heard(text: str) -> list[str]:
    """Return the words of an identifier of the test."""
    parts = [part.lower() for part in re.findall("[A-Z]?[a-z]+", text)]
    return [*parts, "".join(parts)]
