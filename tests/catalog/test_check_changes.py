"""Checks from what changed: the same as looking at all rows, at the cost of the change."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import catalog
from catalog import check_rules, check_runs
from catalog.check_store import CheckResult
from lakehouse.lake import Lake
from lakehouse.snapshots import Snapshot
from tests.support.lakes import make_lake, make_table

SCHEMA = pa.schema([("id", pa.int64()), ("label", pa.string()), ("n", pa.int64()), ("up", pa.int64())])
CHECKS: dict[str, tuple[str, list[str], dict[str, Any]]] = {
    "filled": ("not_null", ["label", "n"], {}),
    "known": ("accepted_values", ["label"], {"values": ["cat", "dog"]}),
    "small": ("range", ["n"], {"min": 0, "max": 5}),
    "lower": ("regex", ["label"], {"pattern": "[a-z]+"}),
    "parent": ("foreign_key", ["up"], {"to": "parents"}),
    "once": ("unique", ["n"], {}),
}


def rows(*items: tuple[Any, ...]) -> pa.Table:
    """Return rows as a table."""
    return pa.Table.from_pylist([dict(zip(SCHEMA.names, item, strict=True)) for item in items], schema=SCHEMA)


def in_full(lake: Lake, monkeypatch: pytest.MonkeyPatch, reference: str) -> dict[str, CheckResult]:
    """Return the results of all checks as looking at all rows gives them, without what is stored."""
    with monkeypatch.context() as patched:
        patched.setattr(check_runs, "known_results", lambda *_: check_runs.Known({}, {}))
        patched.setattr(check_runs, "keep", lambda *_: None)
        return {r.name: r for r in catalog.run_checks(lake, reference)}


def failing_rows(lake: Lake, name: str, reference: str) -> Counter[str]:
    """Return all rows that fail a check, as samples show them."""
    snapshot = lake.read(reference)
    definition = next(c for c in catalog.list_checks(lake, "items") if c.name == name)
    kind = catalog.check_kinds.KINDS[definition.kind]
    assert kind.rule is not None
    asked = check_rules.Asked(definition, snapshot, kind.others(lake, definition, snapshot))
    return Counter(text for batch in kind.rule(asked, snapshot) for text in catalog.check_rows.texts(batch))


ITEM = st.tuples(
    st.integers(0, 8),
    st.sampled_from(["cat", "dog", "Cow"]) | st.none(),
    st.integers(-2, 7) | st.none(),
    st.integers(0, 5) | st.none(),
)
STEP = st.tuples(
    st.sampled_from(["append", "merge", "delete", "overwrite", "parents", "no parents"]), st.lists(ITEM, max_size=4)
)


@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, min_size=1, max_size=5))
def test_incremental_is_full(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, steps: list[tuple[str, list[Any]]]
) -> None:
    """After any changes each result, reached from stored ones, is that of looking at all rows; samples really fail."""
    lake = make_lake(str(tmp_path_factory.mktemp("checks")))
    parents = make_table(lake, "parents", pa.schema([("id", pa.int64())]), key=["id"])
    parents.append(pa.table({"id": [0, 1]}))
    table = make_table(lake, "items", SCHEMA, key=["id"])
    table.append(rows(*((100 + n, "cat", n, 0) for n in range(8))))
    for name, (kind, columns, parameters) in CHECKS.items():
        catalog.add_check(lake, "items", kind, columns, parameters=parameters, name=name)
    catalog.run_checks(lake, "items")
    for kind, items in steps:
        unique = {item[0]: item for item in items}
        ids = ", ".join(map(str, unique)) or "-1"
        match kind:
            case "delete":
                table.delete(f"id in ({ids})")
            case "parents":
                parents.append(pa.table({"id": pa.array(list(unique), pa.int64())}))
            case "no parents":
                parents.delete(f"id in ({ids})")
            case _:
                getattr(table, kind)(rows(*unique.values()))
        found = {r.name: r for r in catalog.run_checks(lake, "items")}
        full = in_full(lake, monkeypatch, "items")
        for name, result in found.items():
            assert (result.failures, result.ok, result.rows) == (full[name].failures, full[name].ok, full[name].rows)
            assert not Counter(result.samples) - failing_rows(lake, name, "items")
            assert bool(result.samples) == bool(result.failures)


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of files that conditions were evaluated over."""
    files: list[int] = []
    original = check_rules.select

    def watched(snapshot: Snapshot, columns: Any, query: str) -> Any:
        files.append(len(snapshot.file_list))
        return original(snapshot, columns, query)

    monkeypatch.setattr(check_rules, "select", watched)
    return files


def test_only_changed_files_are_read(lake: Lake, looked: list[int]) -> None:
    """A row-wise check reads the files that came, and those that went only when something failed before."""
    table = make_table(lake, "items", SCHEMA, key=["id"])
    for n in range(6):
        table.append(rows((n, "cat", n, None)))
    catalog.add_check(lake, "items", "not_null", ["label"])
    looked.clear()
    assert [r.method for r in catalog.run_checks(lake, "items")] == ["all"]
    table.append(rows((7, None, 1, None)))
    assert [(r.method, r.failures) for r in catalog.run_checks(lake, "items")] == [("changed", 1)]
    assert looked == [6, 1, 0]
    table.delete("id = 0")
    assert [(r.method, r.failures) for r in catalog.run_checks(lake, "items")] == [("changed", 1)]
    assert looked[3:] == [0, 1]
    table.delete("id = 7")
    (found,) = catalog.run_checks(lake, "items")
    assert (found.method, found.failures, found.samples) == ("changed", 0, ())
    table.append(rows())
    assert [r.method for r in catalog.run_checks(lake, "items")] == [found.method]
    assert len(looked) == 7


def test_other_kinds_are_computed_again_when_files_change(lake: Lake, looked: list[int]) -> None:
    """What needs all rows is computed anew, unless the very same files make up the state."""
    table = make_table(lake, "items", SCHEMA, key=["id"])
    table.append(rows((1, "cat", 1, None), (2, "cat", 1, None)))
    catalog.add_check(lake, "items", "unique", ["n"])
    looked.clear()
    assert [r.method for r in catalog.run_checks(lake, "items")] == ["all"]
    table.mark("nothing", 1)
    (found,) = catalog.run_checks(lake, "items")
    assert (found.table_version, found.method, found.failures) == (2, "unchanged", 1)
    assert [json.loads(text) for text in found.samples] == [{"n": 1, "count(*)": 2}]
    assert looked == [1]
    table.append(rows((3, "cat", 4, None)))
    assert [r.method for r in catalog.run_checks(lake, "items")] == ["all"]
    assert looked == [1, 2]


def test_a_grown_parent_needs_only_the_new_children(lake: Lake) -> None:
    """While nothing lacks its parent, rows that the parent gained change nothing for the children that stayed."""
    parents = make_table(lake, "parents", pa.schema([("id", pa.int64())]), key=["id"])
    parents.append(pa.table({"id": [1, 2]}))
    table = make_table(lake, "items", SCHEMA, key=["id"])
    table.append(rows(*((n, "cat", n, 1) for n in range(9))))
    catalog.add_check(lake, "items", "foreign_key", ["up"], parameters={"to": "parents"})
    catalog.run_checks(lake, "items")
    parents.append(pa.table({"id": [3]}))
    table.append(rows((10, "dog", 1, 3)))
    assert [(r.method, r.ok) for r in catalog.run_checks(lake, "items")] == [("changed", True)]
    parents.append(pa.table({"id": [4]}))
    assert [(r.method, r.ok) for r in catalog.run_checks(lake, "items")] == [("changed", True)]
    parents.delete("id = 1")
    assert [(r.method, r.failures) for r in catalog.run_checks(lake, "items")] == [("all", 9)]
    parents.append(pa.table({"id": [1]}))
    assert [(r.method, r.failures) for r in catalog.run_checks(lake, "items")] == [("all", 0)]


def test_a_cleaned_up_state_is_no_start(lake: Lake) -> None:
    """When the state of the last result was given up, all rows are looked at."""
    table = make_table(lake, "items", SCHEMA, key=["id"])
    table.append(rows(*((n, None, n, 1) for n in range(9))))
    catalog.add_check(lake, "items", "not_null", ["label"])
    catalog.run_checks(lake, "items")
    table.append(rows((10, "dog", 1, 3)))
    table.delete("id = 1")
    catalog.vacuum(lake, "items", keep_for="0")
    assert [(r.method, r.failures) for r in catalog.run_checks(lake, "items")] == [("all", 8)]
