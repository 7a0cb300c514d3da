"""Checks: what each kind fails, that nothing is computed twice, and that failing states are not published."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import catalog
from catalog import check_runs
from catalog.checks import default_name
from catalog.foreign_keys import key_mismatches
from lakehouse.decisions import CheckDefinition
from lakehouse.errors import InvalidInputError, LakeError, NotFoundError, StateError
from lakehouse.lake import Lake, connect
from lakehouse.tables import Table
from tests.support.lakes import make_lake, make_table

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("label", pa.string()),
        ("price", pa.float64()),
        ("day", pa.date32()),
        ("at", pa.timestamp("us", tz="UTC")),
    ]
)
NOW = datetime.now(UTC)


def item(number: int | None, label: str | None = "cat", price: float | None = 1.0, **more: Any) -> dict[str, Any]:
    """Return one row."""
    return {"id": number, "label": label, "price": price, "day": date(2026, 1, 2), "at": NOW} | more


def rows(*items: dict[str, Any]) -> pa.Table:
    """Return rows as a table."""
    return pa.Table.from_pylist(list(items), schema=SCHEMA)


@pytest.fixture
def items(lake: Lake) -> Table:
    """A dataset with some of everything that checks look for."""
    table = make_table(lake, "items", SCHEMA, key=["id"])
    table.append(
        rows(item(1), item(2, "dog", 2.0), item(3, None, None), item(4, "Cow", float("nan")), item(4, "cat", -1.0))
    )
    return table


def judged(lake: Lake, kind: str, columns: list[str], **parameters: Any) -> tuple[bool, int, list[Any]]:
    """Add a check and run it: (ok, failures, samples)."""
    name = catalog.add_check(lake, "items", kind, columns, parameters=parameters).name
    (found,) = catalog.run_checks(lake, "items", [name])
    catalog.remove_check(lake, "items", name)
    assert (found.rows, found.finding) == (5, None)
    return found.ok, found.failures, [json.loads(text) for text in found.samples]


def test_kinds_that_judge_rows(lake: Lake, items: Table) -> None:
    """Each kind fails exactly the rows that it should, and shows the key and the column of each; nulls pass."""
    assert judged(lake, "not_null", ["label"]) == (False, 1, [{"id": 3, "label": None}])
    assert judged(lake, "not_null", ["id", "day"]) == (True, 0, [])
    assert judged(lake, "accepted_values", ["label"], values=["cat", "dog"]) == (False, 1, [{"id": 4, "label": "Cow"}])
    assert judged(lake, "accepted_values", ["id"], values=[1, 2, 3, 4]) == (True, 0, [])
    assert judged(lake, "range", ["price"], min=0) == (
        False,
        2,
        [{"id": 4, "price": "nan"}, {"id": 4, "price": -1.0}],
    )
    assert judged(lake, "range", ["id"], min=1, max=3.5) == (False, 2, [{"id": 4}, {"id": 4}])
    assert judged(lake, "range", ["day"], max="2026-01-01")[1] == 5
    assert judged(lake, "range", ["at"], min="2020-01-01T00:00:00Z") == (True, 0, [])
    assert judged(lake, "regex", ["label"], pattern="[a-z]+") == (False, 1, [{"id": 4, "label": "Cow"}])


def test_kinds_that_judge_the_whole(lake: Lake, items: Table) -> None:
    """Repeated values, counts, shares, types and ages are judged over all rows."""
    assert judged(lake, "unique", ["id"]) == (False, 1, [{"id": 4, "count(*)": 2}])
    assert judged(lake, "unique", ["id", "label"]) == (True, 0, [])
    assert judged(lake, "row_count", [], min=5, max=5) == (True, 0, [])
    assert judged(lake, "row_count", [], min=6)[:2] == (False, 1)
    assert judged(lake, "row_count", [], min_ratio=0.9) == (True, 0, [])
    assert judged(lake, "class_balance", ["label"], min_share=0.2, max_share=0.4) == (
        False,
        1,
        [{"label": "cat", "count(*)": 2, "share(*)": 0.5}],
    )
    assert judged(lake, "schema", [], types={"id": "int64", "label": "string"}) == (True, 0, [])
    assert judged(lake, "schema", [], types={"id": "bigint", "at": "timestamptz"}) == (True, 0, [])
    ok, failures, samples = judged(lake, "schema", [], types={"id": "int32", "gone": "string"}, exact=True)
    assert (ok, failures) == (False, 6)
    assert samples[:2] == [
        {"column": "id", "expected": "int32", "found": "int64"},
        {"column": "gone", "expected": "string", "found": None},
    ]
    for columns in ([], ["at"]):
        assert judged(lake, "freshness", columns, max_age="1h") == (True, 0, [])
        assert judged(lake, "freshness", columns, max_age="0")[:2] == (False, 1)
    assert judged(lake, "freshness", ["day"], max_age="1h")[:2] == (False, 1)
    query = "select id from items where price < 0;\n"
    assert judged(lake, "sql", [], query=query) == (False, 1, [{"id": 4}])
    assert judged(lake, "sql", [], query="select id from main.items where price > 100") == (True, 0, [])


def test_row_count_against_the_last_version(lake: Lake, items: Table) -> None:
    """The ratio is that to the version published before: of a published state, to the one before its own."""
    catalog.add_check(lake, "items", "row_count", parameters={"min_ratio": 0.9, "max_ratio": 2}, name="volume")
    catalog.publish(lake, "items")
    items.delete("id = 4")
    with pytest.raises(StateError) as caught:
        catalog.publish(lake, "items")
    assert caught.value.kind == "check-failed"
    assert "volume" in caught.value.message
    items.append(rows(item(5), item(6)))
    catalog.publish(lake, "items")
    items.append(rows(*(item(n) for n in range(10, 30))))
    assert [r.ok for r in catalog.run_checks(lake, "items")] == [False]
    assert [r.ok for r in catalog.run_checks(lake, "items@v2")] == [True]


def test_foreign_key(root_uri: str) -> None:
    """On every backend rows without a parent at the exact version fail; composite keys, nulls and growth included."""
    lake = make_lake(root_uri)
    parents = make_table(
        lake, "vision.photos", pa.schema([("id", pa.int64()), ("part", pa.string())]), key=["id", "part"]
    )
    parents.append(pa.table({"id": [1, 1, 2], "part": ["a", "b", "a"]}))
    labels = make_table(lake, "labels", pa.schema([("n", pa.int64()), ("photo", pa.int64()), ("part", pa.string())]))
    labels.append(pa.table({"n": [1, 2, 3, 4], "photo": [1, 2, 2, None], "part": ["b", "a", "b", "z"]}))
    catalog.publish(lake, "vision.photos")
    one = catalog.add_check(lake, "labels", "foreign_key", ["photo", "part"], parameters={"to": "vision.photos@latest"})
    (found,) = catalog.run_checks(lake, "labels")
    assert (found.ok, found.failures, found.samples) == (False, 1, ('{"photo": 2, "part": "b"}',))
    assert found.inputs == ((lake.read("vision.photos").dataset.dataset_id, 1),)
    parents.append(pa.table({"id": [2], "part": ["b"]}))
    catalog.publish(lake, "vision.photos")
    (again,) = catalog.run_checks(lake, "labels")
    assert (again.ok, again.method, again.name) == (True, "all", one.name)
    catalog.publish(lake, "labels")


def test_foreign_keys_of_another_type_are_a_finding(lake: Lake) -> None:
    """Key columns of another type are told, and not cast; so is a key of another length or a missing column."""
    parents = make_table(lake, "p", pa.schema([("id", pa.string()), ("n", pa.int32())]), key=["id"])
    parents.append(pa.table({"id": ["1"], "n": pa.array([1], pa.int32())}))
    make_table(lake, "c", pa.schema([("p", pa.int64())])).append(pa.table({"p": [1, 2]}))
    child, parent = lake.read("c"), lake.read("p")
    (said,) = key_mismatches(child, ["p"], parent, ["id"])
    assert said == "'p' is int64 in main.c@head, and 'id' is string in main.p@head."
    for own, there in ((["p", "p"], ["id"]), (["x"], ["id"]), (["p"], ["x"])):
        assert len(list(key_mismatches(child, own, parent, there))) == 1
    with pytest.raises(InvalidInputError) as caught:
        catalog.add_check(lake, "c", "foreign_key", ["p"], parameters={"to": "p"})
    assert caught.value.kind == "check-invalid"
    catalog.add_check(lake, "c", "foreign_key", ["p"], name="known", parameters={"to": "p", "to_columns": ["n"]})
    assert [(r.failures, r.samples) for r in catalog.run_checks(lake, "c")] == [(1, ('{"p": 2}',))]
    lake.table("p").append(pa.table({"more": ["1"], "id": ["2"], "n": pa.array([2], pa.int32())}), evolve=True)
    assert [r.ok for r in catalog.run_checks(lake, "c")] == [True]
    catalog.delete_dataset(lake, "p")
    make_table(lake, "p", pa.schema([("n", pa.string())]), reuse_name=True)
    assert [(r.ok, r.failures, "'n' is string" in str(r.finding)) for r in catalog.run_checks(lake, "c")] == [
        (False, 0, True)
    ]


def test_own_rows_as_parents(lake: Lake) -> None:
    """A foreign key to the dataset itself means the state that is looked at."""
    table = make_table(lake, "tree", pa.schema([("id", pa.int64()), ("up", pa.int64())]), key=["id"])
    table.append(pa.table({"id": [1, 2], "up": [None, 1]}))
    catalog.add_check(lake, "tree", "foreign_key", ["up"], parameters={"to": "tree"})
    assert [r.ok for r in catalog.run_checks(lake, "tree")] == [True]
    table.append(pa.table({"id": [3, 4], "up": [4, 9]}))
    (found,) = catalog.run_checks(lake, "tree")
    assert (found.failures, found.samples) == (1, ('{"id": 4, "up": 9}',))
    assert [r.failures for r in catalog.run_checks(lake, "tree@#1")] == [0]


def test_sql_over_several_datasets(lake: Lake, items: Table) -> None:
    """A query may join other datasets; what it read is recorded, and another version of that is judged anew."""
    make_table(lake, "known", pa.schema([("label", pa.string())])).append(pa.table({"label": ["cat", "dog"]}))
    query = "select label from items where label not in (select label from known)"
    catalog.add_check(lake, "items", "sql", name="labels_known", parameters={"query": query})
    (found,) = catalog.run_checks(lake, "items")
    assert (found.failures, found.samples) == (1, ('{"label": "Cow"}',))
    assert catalog.run_checks(lake, "items")[0].result == found.result
    lake.table("known").append(pa.table({"label": ["Cow"]}))
    (found,) = catalog.run_checks(lake, "items")
    assert found.ok


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("select nothing from items", "sql-invalid"),
        ("select * from nowhere", "dataset-not-found"),
        ("create table x as select 1", "sql-invalid"),
        ("select 1; select 2", "sql-invalid"),
        ("select * from lake.runs", "sql-unsupported"),
    ],
)
def test_sql_that_can_not_run(lake: Lake, items: Table, query: str, kind: str) -> None:
    """A query that does not bind, writes or reads what has no versions is refused when it is declared."""
    with pytest.raises(LakeError) as caught:
        catalog.add_check(lake, "items", "sql", name="q", parameters={"query": query})
    assert caught.value.kind == kind


def test_sql_that_stumbles_over_a_row_does_not_quote_it(lake: Lake, items: Table) -> None:
    """What DuckDB says about a value is not repeated: messages hold no row values."""
    query = "select id from items where cast(label as integer) = 1"
    catalog.add_check(lake, "items", "sql", name="q", parameters={"query": query})
    (found,) = catalog.run_checks(lake, "items")
    assert not found.ok
    assert found.finding is not None
    assert "failed on main.items" in found.finding
    assert "cat" not in found.finding
    assert catalog.check_results(lake, "items") == []


@pytest.mark.parametrize(
    ("kind", "columns", "parameters", "error"),
    [
        ("not_nul", ["id"], {}, "check-kind-unknown"),
        ("not_null", [], {}, "check-invalid"),
        ("not_null", ["nothing"], {}, "check-invalid"),
        ("range", ["id", "price"], {"min": 0}, "check-invalid"),
        ("range", ["id"], {}, "check-invalid"),
        ("range", ["id"], {"min": "2026-01-01"}, "check-invalid"),
        ("range", ["at"], {"min": "2026-01-01"}, "check-invalid"),
        ("range", ["label"], {"min": 3}, "check-invalid"),
        ("range", ["id"], {"least": 0}, "check-invalid"),
        ("regex", ["label"], {"pattern": "("}, "check-invalid"),
        ("regex", ["id"], {"pattern": ".*"}, "check-invalid"),
        ("accepted_values", ["label"], {"values": []}, "check-invalid"),
        ("accepted_values", ["label"], {"values": [1]}, "check-invalid"),
        ("class_balance", ["label"], {"min_share": 2}, "check-invalid"),
        ("row_count", [], {"min": -1}, "check-invalid"),
        ("freshness", [], {"max_age": "soon"}, "check-invalid"),
        ("schema", [], {"types": {}}, "check-invalid"),
        ("foreign_key", ["id"], {"to": "a b"}, "check-invalid"),
        ("foreign_key", ["id"], {"to": "nowhere"}, "dataset-not-found"),
        ("unique", ["nothing"], {}, "check-invalid"),
        ("range", ["id"], {"min": 10, "max": 1}, "check-invalid"),
        ("range", ["day"], {"min": "2026-02-01", "max": "2026-01-01"}, "check-invalid"),
        ("range", ["label"], {"min": "dog", "max": "cat"}, "check-invalid"),
        ("row_count", [], {"min_ratio": 2, "max_ratio": 1}, "check-invalid"),
        ("class_balance", ["label"], {"min_share": 0.9, "max_share": 0.1}, "check-invalid"),
        ("schema", [], {"types": {"id": "intt"}}, "check-invalid"),
        ("freshness", ["id"], {"max_age": "1h"}, "check-invalid"),
        ("image_decodes", [], {}, "check-invalid"),
    ],
)
def test_definitions_that_make_no_sense(
    lake: Lake, items: Table, kind: str, columns: list[str], parameters: dict[str, Any], error: str
) -> None:
    """What could never pass is refused when it is declared, and nothing is decided."""
    with pytest.raises(LakeError) as caught:
        catalog.add_check(lake, "items", kind, columns, parameters=parameters)
    assert caught.value.kind == error
    assert catalog.list_checks(lake, "items") == []


def test_bounds_that_leave_something(lake: Lake, items: Table) -> None:
    """Bounds may be equal, and times are compared as such, not as texts."""
    for low, high in (("2026-01-01T00:00:00+02:00", "2026-01-01T00:00:00+00:00"), ("2026-01-01T00:00:00Z",) * 2):
        name = catalog.add_check(lake, "items", "range", ["at"], parameters={"min": low, "max": high}).name
        catalog.remove_check(lake, "items", name)


def test_what_is_wrong_with_a_parameter_is_said(lake: Lake, items: Table) -> None:
    """A pattern that is none is quoted with the reason, and so is a type that is none, with close names."""
    for kind, columns, parameters, words in (
        ("regex", ["label"], {"pattern": "[a-z"}, r"'\[a-z': missing \]"),
        ("schema", [], {"types": {"id": "intt"}}, r"'id' is declared as 'intt'.* Did you mean 'int'"),
    ):
        with pytest.raises(InvalidInputError, match=words):
            catalog.add_check(lake, "items", kind, columns, parameters=parameters)


def test_add_list_and_remove(lake: Lake, items: Table) -> None:
    """Checks have names, unique in any case; a removed one is gone and its results stay."""
    made = catalog.add_check(lake, "items", "range", ["price"], parameters={"min": 0}, severity="warning")
    assert (made.name, made.severity, made.parameters) == ("range_price", "warning", {"min": 0})
    with pytest.raises(StateError) as caught:
        catalog.add_check(lake, "items", "not_null", ["id"], name="RANGE_price")
    assert caught.value.kind == "check-exists"
    assert catalog.list_checks(connect(lake.root), "items") == [made]
    catalog.run_checks(lake, "items")
    assert catalog.remove_check(lake, "items", "Range_Price") == made
    with pytest.raises(NotFoundError) as missing:
        catalog.remove_check(lake, "items", "range_price")
    assert missing.value.kind == "check-not-found"
    assert [r.name for r in catalog.check_results(lake, "items")] == ["range_price"]
    assert default_name("unique", ["a b", "ü"]) == "unique_a_b_ü"
    named = [catalog.add_check(lake, "items", "not_null", ["id"], name=name).name for name in ("für_ü", "für_ö")]
    assert [c.name for c in catalog.list_checks(lake, "items")] == sorted(named)


def test_results_are_computed_once(root_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On every backend a second run reads the stored result, samples included, from any process, and scans nothing."""
    lake = make_lake(root_uri)
    table = make_table(lake, "items", SCHEMA, key=["id"])
    table.append(rows(item(1, None), item(2)))
    catalog.add_check(lake, "items", "not_null", ["label"])
    first = catalog.run_checks(lake, "items")
    other = connect(root_uri)
    with monkeypatch.context() as patched:
        patched.setattr(check_runs, "tally", None)
        assert catalog.run_checks(other, "items") == first
    assert catalog.check_results(other, "items@#1") == first
    assert catalog.check_results(other, "items@#0") == []
    catalog.add_check(lake, "items", "not_null", ["label"], name="another_name", severity="warning")
    both = catalog.run_checks(lake, "items")
    assert [(r.result, r.name) for r in both] == [(first[0].result, n) for n in ("another_name", first[0].name)]


def test_results_are_stored_once(root_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On every backend what several find at once of the same checks, or of some of them, is stored once, with its samples."""
    lake = make_lake(root_uri)
    table = make_table(lake, "items", SCHEMA, key=["id"])
    table.append(rows(item(1, None), item(2)))
    for column in ("label", "price"):
        catalog.add_check(lake, "items", "not_null", [column])
    monkeypatch.setattr(check_runs, "known_results", lambda *_: check_runs.Known({}, {}))  # all look before any stores
    for names in (["not_null_label"], None, ["not_null_price"], None):
        catalog.run_checks(connect(root_uri), "items", names)
    found = lake.sql("select name, ok, json_array_length(samples) from check_results order by name").fetchall()
    assert found == [("not_null_label", False, 1), ("not_null_price", True, 0)]


def test_at_most_100_samples(lake: Lake) -> None:
    """All failing rows are counted, the first 100 of them are kept, and long values are cut."""
    table = make_table(lake, "items", SCHEMA, key=["id"])
    table.append(rows(*(item(n, "x" * 5_000) for n in range(300))))
    catalog.add_check(lake, "items", "accepted_values", ["label"], parameters={"values": ["cat"]})
    (found,) = catalog.run_checks(lake, "items")
    assert (found.failures, len(found.samples)) == (300, 100)
    assert json.loads(found.samples[99]) == {"id": 99, "label": "x" * 1_000 + "…"}
    stored = catalog.check_results(lake, "items")
    assert stored == [found]


def test_freshness_ends_without_a_look_at_the_data(lake: Lake, items: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stored result says until when the state is fresh; after that it fails, and no row is read again."""
    catalog.add_check(lake, "items", "freshness", ["at"], parameters={"max_age": "1h"})
    (found,) = catalog.run_checks(lake, "items")
    assert found.ok
    assert found.ok_until == NOW + timedelta(hours=1)

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return NOW + timedelta(hours=2)

    monkeypatch.setattr(check_runs, "datetime", Later)
    monkeypatch.setattr("catalog.check_rules.select", None)
    (late,) = catalog.run_checks(lake, "items")
    assert (late.ok, late.failures, late.method) == (False, 1, "unchanged")
    assert [r.ok for r in catalog.check_results(lake, "items")] == [False]
    assert lake.sql("select ok from check_results order by finished_at").fetchall() == [(True,), (False,)]


def test_a_column_that_is_gone_fails(lake: Lake, items: Table) -> None:
    """At a state without the column a check fails with a finding, which is kept like a result."""
    other = make_table(lake, "late", pa.schema([("id", pa.int64())]), key=["id"])
    other.append(pa.table({"id": [1], "label": ["a"]}), evolve=True)
    catalog.add_check(lake, "late", "not_null", ["label"])
    (found,) = catalog.run_checks(lake, "late@#0")
    assert (found.ok, found.failures, found.finding) == (False, 0, "There is no column 'label'.")
    assert catalog.check_results(lake, "late@#0") == [found]


DECLARED = """
dataset: items
checks:
  - {kind: unique, columns: [id, label]}
  - kind: range
    column: day
    min: 2026-01-01
    severity: warning
  - {name: few, kind: row_count, max: 100}
"""


def test_a_declaration_file(lake: Lake, items: Table, tmp_path: Path) -> None:
    """A file declares checks in one decision, again without change, and takes back what it no longer names."""
    file = tmp_path / "checks.yaml"
    file.write_text(DECLARED)
    by_hand = catalog.add_check(lake, "items", "not_null", ["id"])
    loaded = catalog.load_checks(lake, file)
    assert (loaded.dataset, loaded.added) == ("main.items", ("unique_id_label", "range_day", "few"))
    assert catalog.load_checks(lake, file).unchanged == loaded.added
    assert [r.ok for r in catalog.run_checks(lake, "items")] == [True] * 4
    dumped = catalog.check_files.dump_checks("main.items", catalog.list_checks(lake, "items"))
    file.write_text(DECLARED.replace("max: 100", "max: 2").replace("  - {kind: unique, columns: [id, label]}\n", ""))
    again = catalog.load_checks(lake, file)
    assert (again.added, again.changed, again.removed) == ((), ("few",), ("unique_id_label",))
    assert by_hand in catalog.list_checks(lake, "items")
    file.write_text(dumped)
    catalog.load_checks(lake, file)
    found = {c.name: (c.digest, c.severity) for c in catalog.list_checks(lake, "items")}
    assert set(found) == {"few", "not_null_id", "range_day", "unique_id_label"}
    assert found["range_day"][1] == "warning"


def test_a_declaration_file_registers_with_milestones(lake: Lake, items: Table, tmp_path: Path) -> None:
    """A dataset's own file makes it a member of milestones, once, with its checks: both or none."""
    make_table(lake, "other", pa.schema([("id", pa.int64())]))
    catalog.define_milestone(lake, "spring", ["other"])
    file = tmp_path / "items.yaml"
    text = "dataset: items\nmilestones: [spring]\nchecks: [{kind: unique, column: id}]\n"
    file.write_text(text.replace("spring", "summer"))
    with pytest.raises(LakeError) as caught:
        catalog.load_checks(lake, file)
    assert (caught.value.kind, catalog.list_checks(lake, "items")) == ("milestone-not-found", [])
    file.write_text(text)
    assert catalog.load_checks(lake, file).joined == ("main.spring",)
    assert catalog.load_checks(lake, file).joined == ()
    status = catalog.milestone_status(lake, "spring")
    assert status.milestone.members == ("main.other", "main.items")
    assert status.pending is not None


@pytest.mark.parametrize(
    "text",
    [
        "dataset: items\nchecks: []\nmilestones: spring",
        "dataset: [",
        "[]",
        "dataset: items",
        "dataset: items\nchecks: {}",
        "dataset: items\nchecks: [unique]",
        "dataset: items\nchecks: [{kind: unique, columns: id}]",
        "dataset: items\nchecks: [{kind: unique, columns: [id], name: 3}]",
        "dataset: items\nchecks: [{kind: unique, column: id}, {kind: unique, column: id}]",
        "dataset: items\nchecks: []\nmore: 1",
    ],
)
def test_files_that_declare_nothing(lake: Lake, items: Table, tmp_path: Path, text: str) -> None:
    """A file of another form is refused by its name, and nothing of it is taken."""
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(InvalidInputError, match=r"c\.yaml") as caught:
        catalog.load_checks(lake, tmp_path / "c.yaml")
    assert caught.value.kind == "checks-file-invalid"
    with pytest.raises(NotFoundError):
        catalog.load_checks(lake, tmp_path / "none.yaml")


def test_unknown_keys_of_a_file_are_named(lake: Lake, items: Table, tmp_path: Path) -> None:
    """A key that a kind does not know is named, with the entry that has it and the key that was meant."""
    (tmp_path / "c.yaml").write_text("dataset: items\nchecks: [{kind: row_count, max: 9}, {kind: unique, colum: id}]")
    with pytest.raises(InvalidInputError, match=r"check 2 \(unique\) .*'colum'. Did you mean 'column'") as caught:
        catalog.load_checks(lake, tmp_path / "c.yaml")
    assert caught.value.kind == "checks-file-invalid"


def test_what_a_check_means() -> None:
    """Name and severity change nothing about what is computed; columns and parameters do."""

    def check(**more: Any) -> CheckDefinition:
        return CheckDefinition(**({"dataset_id": "d", "name": "n", "kind": "range", "created_at": NOW} | more))

    one = check(columns=("a",), parameters={"min": 1, "max": 2})
    assert one.digest == check(columns=("a",), parameters={"max": 2, "min": 1}, name="o", severity="warning").digest
    assert len({one.digest, check(columns=("b",)).digest, check(columns=("a",), parameters={"min": 1}).digest}) == 3
    assert CheckDefinition.from_json(one.to_json()) == one


def test_columns_with_odd_names(lake: Lake) -> None:
    """Columns may be called like what samples count, like keywords, or have quotes and blanks."""
    odd = ["share", "rows", "t", 'a "b"', "order"]
    table = make_table(lake, "odd", pa.schema([(name, pa.string()) for name in odd]), key=["share"])
    table.append(pa.table({name: ["x", "x", None] for name in odd}))
    for name in odd:
        catalog.add_check(lake, "odd", "not_null", [name], name=f"n{odd.index(name)}")
        catalog.add_check(lake, "odd", "unique", [name], name=f"u{odd.index(name)}")
        catalog.add_check(
            lake, "odd", "class_balance", [name], name=f"c{odd.index(name)}", parameters={"max_share": 0.5}
        )
    assert [(r.failures, r.finding) for r in catalog.run_checks(lake, "odd")] == [(1, None)] * 15
    assert len(catalog.statistics(lake, "odd")) == 5
