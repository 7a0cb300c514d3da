"""The registry of schemas: numbering, what tables have, evolution, who uses a column."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, Field, write_deltalake

import catalog
from catalog import schemas
from catalog.schema_edits import SchemaEdit
from catalog.schema_formats import SchemaSpec
from catalog.schemas import Verdict
from lakehouse.decisions import Column, Decision, SchemaVersion
from lakehouse.errors import ConflictError, InvalidInputError, NotFoundError
from lakehouse.evolving import change_columns
from lakehouse.lake import Lake
from lakehouse.tables import Table
from tests.support.lakes import make_lake

ROWS = pa.table({"id": [1, 2, 3], "name": ["a", None, "c"], "price": [0.5, None, 2.0]})
ID, NAME, PRICE = (Column(name=n, type=t) for n, t in (("id", "int64"), ("name", "string"), ("price", "double")))


@pytest.fixture
def lake(root_uri: str) -> Lake:
    """A lakehouse on each backend with a table of three rows."""
    lake = make_lake(root_uri, actor="ada")
    catalog.create_dataset(lake, "t", ROWS.schema, key=["id"])
    lake.table("t").append(ROWS)
    return lake


def numbers(lake: Lake, name: str = "t") -> list[tuple[int, list[str], bool]]:
    """Number, columns and whether it is registered, newest first."""
    return [
        (s.schema.number, [c.name for c in s.schema.columns], s.registered) for s in catalog.list_schemas(lake, name)
    ]


def evolve(lake: Lake, *columns: Column, name: str = "t", **rules: Any) -> Verdict:
    """Give a dataset these columns."""
    return catalog.evolve_schema(lake, name, SchemaSpec(columns), **rules)


def test_a_dataset_begins_with_schema_1(lake: Lake) -> None:
    """It is registered in the commit that makes the dataset, with key and rules, and `created_by` is who did."""
    found = catalog.show_schema(lake, "t")
    assert (found.schema.number, found.registered, found.schema.key_columns) == (1, True, ("id",))
    assert found.schema.columns == (ID, NAME, PRICE)
    assert (found.schema.compatibility, found.schema.misfits, found.schema.created_by) == ("BACKWARD", "block", "ada")
    history = lake.ledger.history().to_pylist()
    made = [r["seq"] for r in history if r["action"] == "dataset.create"]
    assert [r["entity"] for r in history if r["seq"] == made[0]] == ["dataset", "name", "schema"]


def test_an_evolving_append_registers_what_it_adds(lake: Lake) -> None:
    """A new column becomes the next version with the meaning of the others kept; other appends leave the ledger alone."""
    evolve(lake, ID, NAME, Column(name="price", type="double", unit="EUR"))
    seq = lake.state().seq
    lake.table("t").append(ROWS)
    lake.table("t").append(ROWS, evolve=True)
    assert lake.state().seq == seq
    lake.table("t").append(pa.table({"id": [4], "n": [7]}), evolve=True)
    assert numbers(lake) == [
        (3, ["id", "name", "price", "n"], True),
        (2, ["id", "name", "price"], True),
        (1, ["id", "name", "price"], True),
    ]
    assert catalog.show_schema(lake, "t").schema.columns[2].unit == "EUR"
    assert catalog.show_schema(lake, "t", number=1).schema.columns == (ID, NAME, PRICE)
    with pytest.raises(NotFoundError) as error:
        catalog.show_schema(lake, "t", number=9)
    assert error.value.kind == "schema-version-not-found"


def test_a_state_shows_the_schema_that_it_has(lake: Lake) -> None:
    """An earlier state has the version whose columns it has."""
    catalog.publish(lake, "t")
    evolve(lake, ID, NAME, PRICE, Column(name="n", type="int32"))
    assert catalog.show_schema(lake, "t@v1").schema.number == 1
    assert catalog.show_schema(lake, "t").schema.number == 2


def test_a_writer_that_died_before_the_registration_leaves_a_schema_that_is_shown(lake: Lake) -> None:
    """Its column is there, unregistered; whoever adds the next column registers both."""
    table = lake.table("t")
    Table(lake.storage, table.dataset, "dead").append(pa.table({"id": [4], "n": [7]}), evolve=True)
    assert numbers(lake)[0] == (2, ["id", "name", "price", "n"], False)
    table.append(pa.table({"id": [5], "n": [8]}), evolve=True)
    table.append(pa.table({"id": [6], "m": [9]}), evolve=True)
    assert numbers(lake)[0] == (2, ["id", "name", "price", "n", "m"], True)


def test_appends_do_not_stop_a_new_column(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that land while a column is added are no conflict; while rows are written anew they are."""
    judged = schemas._judge

    def late(*args: Any) -> Verdict:
        verdict = judged(*args)
        lake.table("t").append(ROWS)
        return verdict

    monkeypatch.setattr(schemas, "_judge", late)
    evolve(lake, ID, NAME, PRICE, Column(name="n", type="int64"))
    assert (lake.read("t").num_rows, numbers(lake)[0][0]) == (6, 2)
    with pytest.raises(ConflictError) as error:
        evolve(lake, ID, NAME, PRICE, compatibility="NONE")
    assert error.value.kind == "table-changed"


def test_a_table_of_an_older_release_is_shown_and_registered_at_the_next_decision(lake: Lake) -> None:
    """Without a registered version, the table's columns are version 1, and the next change registers both."""
    [own] = [s.schema for s in catalog.list_schemas(lake, "t")]
    lake.ledger.decide(lambda _: (None, [Decision.remove("test", own)]))
    assert numbers(lake) == [(1, ["id", "name", "price"], False)]
    evolve(lake, ID, NAME, PRICE, Column(name="n", type="int64"))
    assert numbers(lake) == [(2, ["id", "name", "price", "n"], True), (1, ["id", "name", "price"], True)]


def test_a_table_that_others_changed_is_right(lake: Lake, tmp_path: Any) -> None:
    """The owner of an adopted table adds a column: it is shown at once, and registered by the next decision."""
    write_deltalake(tmp_path / "foreign", pa.table({"a": [1]}))
    catalog.adopt_dataset(lake, "foreign", str(tmp_path / "foreign"))
    assert numbers(lake, "foreign") == [(1, ["a"], True)]
    DeltaTable(tmp_path / "foreign").alter.add_columns([Field.from_arrow(pa.field("b", pa.string()))])
    assert numbers(lake, "foreign") == [(2, ["a", "b"], False), (1, ["a"], True)]
    catalog.evolve_schema(lake, "foreign", misfits="flag")
    assert numbers(lake, "foreign") == [(3, ["a", "b"], True), (2, ["a", "b"], True), (1, ["a"], True)]


def test_a_restored_state_brings_its_columns_back(lake: Lake) -> None:
    """After a restore the table has fewer columns than the newest version: it shows what it has."""
    evolve(lake, ID, NAME, PRICE, Column(name="n", type="int64"))
    catalog.restore(lake, "t", "@#1")
    assert numbers(lake)[0] == (3, ["id", "name", "price"], False)


def test_meaning_and_rules_change_without_touching_the_table(lake: Lake) -> None:
    """Description, unit, semantic type and rules are decisions alone."""
    head = lake.table("t").version()
    done = evolve(
        lake, replace(ID, semantic="id"), replace(NAME, semantic="pii:name", description="of the buyer"), PRICE
    )
    assert done
    assert catalog.evolve_schema(lake, "t", compatibility="FULL", misfits="flag").new.number == 3
    assert not catalog.evolve_schema(lake, "t", compatibility="FULL")
    found = catalog.show_schema(lake, "t").schema
    assert (found.columns[1].semantic, found.compatibility, found.misfits) == ("pii:name", "FULL", "flag")
    assert lake.table("t").version() == head


REFUSED = [
    pytest.param((ID, NAME), "BACKWARD", id="removed"),
    pytest.param((ID, NAME, replace(PRICE, type="float")), "BACKWARD", id="narrowed"),
    pytest.param((ID, NAME, replace(PRICE, nullable=False)), "BACKWARD", id="required"),
    pytest.param((ID, NAME, PRICE, Column(name="n", type="int8", nullable=False)), "BACKWARD", id="added, required"),
    pytest.param((replace(ID, type="decimal128(20, 0)"), NAME, PRICE), "FULL", id="widened"),
]


@pytest.mark.parametrize(("columns", "mode"), REFUSED)
def test_what_a_mode_does_not_allow_is_refused(lake: Lake, columns: tuple[Column, ...], mode: Any) -> None:
    """Nothing is changed, and the message has the choices that are left."""
    with pytest.raises(InvalidInputError) as error:
        evolve(lake, *columns, compatibility=mode)
    assert error.value.kind == "schema-incompatible"
    assert "lakehouse dataset fork main.t NEW --schema FILE" in error.value.message
    assert numbers(lake) == [(1, ["id", "name", "price"], True)]


def test_types_change_by_writing_the_rows_anew(lake: Lake) -> None:
    """Rows keep their order and values under wider types, and as text; earlier versions keep what they had."""
    catalog.publish(lake, "t")
    evolve(lake, replace(ID, type="decimal128(20, 0)"), NAME, PRICE)
    assert [int(v) for v in lake.read("t").to_arrow(["id"]).column("id").to_pylist()] == [1, 2, 3]
    evolve(lake, replace(ID, type="string"), NAME, compatibility="NONE")
    assert lake.read("t").to_arrow().to_pylist() == [
        {"id": "1", "name": "a"},
        {"id": "2", "name": None},
        {"id": "3", "name": "c"},
    ]
    assert lake.read("t@v1").to_arrow() == ROWS
    assert lake.table("t").log()[0].operation == "EVOLVE"
    assert catalog.verify(lake).ok


def test_rows_that_do_not_fit_keep_the_schema_as_it_is(lake: Lake) -> None:
    """A change under which a value would be lost is refused as a whole."""
    for column in (replace(PRICE, type="int64"), replace(PRICE, nullable=False)):
        with pytest.raises(InvalidInputError) as error:
            evolve(lake, ID, NAME, column, compatibility="NONE")
        assert error.value.kind in ("value-invalid", "null-in-required")
    assert lake.read("t").to_arrow() == ROWS
    assert [n for n, _, _ in numbers(lake)] == [1]


def test_another_spelling_keeps_the_values(lake: Lake) -> None:
    """A column whose case alone changes is the same column."""
    done = evolve(lake, ID, replace(NAME, name="Name"), PRICE, compatibility="NONE")
    assert [d.what for d in done.differences] == ["case"]
    assert lake.read("t").to_arrow().column("Name").to_pylist() == ["a", None, "c"]


def test_the_key_changes_with_the_schema(lake: Lake) -> None:
    """Another key is a decision about the dataset, too."""
    catalog.evolve_schema(lake, "t", SchemaSpec((ID, NAME, PRICE), key=("id", "name")), compatibility="NONE")
    assert catalog.show_dataset(lake, "t").dataset.key_columns == ("id", "name")
    with pytest.raises(InvalidInputError) as error:
        catalog.check_schema(lake, "t", SchemaSpec((ID,), key=("name",)))
    assert error.value.kind == "key-invalid"


def test_the_verdict_names_who_uses_a_column(lake: Lake) -> None:
    """Published milestone versions that have the column, and derived datasets, are told; others are not."""
    catalog.add_check(lake, "t", "not_null", ["price"], name="priced", severity="warning")
    catalog.publish(lake, "t", data_tag="FINAL")
    catalog.define_milestone(lake, "spring", ["t"], links=["t.price -> t.price"])
    catalog.create_dataset(lake, "t_labels", ROWS.schema, parent="t")
    evolve(lake, ID, NAME, PRICE, Column(name="n", type="int64"))
    dropped = catalog.check_schema(lake, "t", SchemaSpec((ID, NAME, Column(name="n", type="int64"))))
    assert [(u.kind, u.name, u.columns) for u in dropped.users] == [
        ("milestone", "main.spring/v1", ("price",)),
        ("link", "main.spring", ("price",)),
        ("check", "priced", ("price",)),
        ("dataset", "main.t_labels", ("price",)),
    ]
    later = catalog.check_schema(lake, "t", SchemaSpec((ID, NAME, PRICE)))
    assert [u.kind for u in later.users] == ["dataset"]
    assert catalog.check_schema(lake, "t", SchemaSpec((ID, NAME, PRICE, Column(name="n", type="int64")))).users == ()
    assert not dropped.allowed
    assert [str(d) for d in dropped.refused] == ["price: removed, was double (breaks readers and writers)"]


def test_the_verdict_names_checks_of_other_datasets(lake: Lake) -> None:
    """A foreign key uses the columns that it points at, SQL those that it names, by whatever name it reads the dataset."""
    catalog.create_dataset(lake, "u", pa.schema([("t_id", pa.int64()), ("price", pa.float64())]))
    catalog.add_check(lake, "u", "foreign_key", ["t_id"], parameters={"to": "t"}, name="points")
    query = "select u.t_id from u join main.t on t.id = u.t_id where main.t.Price < u.price"
    catalog.add_check(lake, "u", "sql", parameters={"query": query}, name="cheaper")
    catalog.add_check(lake, "u", "sql", parameters={"query": "select price from u where price < 0"}, name="own")
    catalog.rename_dataset(lake, "t", "things")
    found = catalog.check_schema(lake, "things", SchemaSpec((NAME,), key=()))
    assert [(u.name, u.columns) for u in found.users] == [
        ("main.u: cheaper", ("id", "price")),
        ("main.u: points", ("id",)),
    ]


def test_a_derived_dataset_uses_the_columns_that_it_has(lake: Lake) -> None:
    """A fork with a schema of its own is named only for the columns that it took."""
    catalog.fork_dataset(lake, "t", "some", pa.schema([("id", pa.int64()), ("NAME", pa.string())]))
    found = catalog.check_schema(lake, "t", SchemaSpec((ID,)))
    assert [d.column for d in found.refused] == ["name", "price"]
    assert found.users == ()
    assert [u.name for u in catalog.check_schema(lake, "t", SchemaSpec((NAME,), key=())).users] == ["main.some"]


def test_a_change_that_others_overtook_is_refused(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody changes the schema between the look and the decision: the second is to look again."""
    judged = schemas._judge

    def late(*args: Any) -> Verdict:
        verdict = judged(*args)
        monkeypatch.setattr(schemas, "_judge", judged)
        catalog.evolve_schema(lake, "t", misfits="flag")
        return verdict

    monkeypatch.setattr(schemas, "_judge", late)
    with pytest.raises(ConflictError) as error:
        catalog.evolve_schema(lake, "t", compatibility="FULL")
    assert error.value.kind == "schema-changed"
    assert catalog.show_schema(lake, "t").schema.compatibility == "BACKWARD"


@pytest.mark.parametrize("others", ["added", "registered later", "rewritten"])
def test_an_edit_comes_on_top_of_what_others_changed(lake: Lake, monkeypatch: pytest.MonkeyPatch, others: str) -> None:
    """Whatever others do between the look and the commit stays, and the edit is made: none of it is undone or refused."""
    judged = schemas._judge

    def late(*args: Any) -> Verdict:
        verdict = judged(*args)
        monkeypatch.setattr(schemas, "_judge", judged)
        if others == "added":
            catalog.evolve_schema(lake, "t", edit=SchemaEdit(add=(Column(name="m", type="int64"),)))
        elif others == "registered later":
            change_columns(lake, lake.peek("t"), ROWS.schema.append(pa.field("m", pa.int64())))
        else:
            catalog.evolve_schema(lake, "t", edit=SchemaEdit(drop=("price",)), compatibility="NONE")
        return verdict

    monkeypatch.setattr(schemas, "_judge", late)
    edit = SchemaEdit(add=(Column(name="n", type="int64"),), column="name", words={"unit": "word"})
    done = catalog.evolve_schema(lake, "t", edit=edit, misfits="flag")
    kept = ["id", "name"] if others == "rewritten" else ["id", "name", "price", "m"]
    found = catalog.show_schema(lake, "t")
    assert (found.registered, found.schema) == (True, done.new)
    assert ([c.name for c in found.schema.columns], found.schema.misfits) == ([*kept, "n"], "flag")
    assert found.schema.columns[1].unit == "word"


def test_edits_at_once_all_land(lake: Lake) -> None:
    """Processes that add columns at the same moment are all done, and the newest version has all of them."""

    def add(number: int) -> None:
        edit = SchemaEdit(add=(Column(name=f"c{number}", type="int32"),))
        catalog.evolve_schema(make_lake(lake.root), "t", edit=edit)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(4)))
    found = catalog.show_schema(lake, "t")
    assert found.registered
    assert {c.name for c in found.schema.columns} == {"id", "name", "price", "c0", "c1", "c2", "c3"}


def test_a_column_that_others_added_as_something_else_is_refused(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two add one name with two types: the second is told, and the column stays what it is."""
    judged = schemas._judge

    def late(*args: Any) -> Verdict:
        verdict = judged(*args)
        monkeypatch.setattr(schemas, "_judge", judged)
        evolve(lake, ID, NAME, PRICE, Column(name="n", type="string"))
        return verdict

    monkeypatch.setattr(schemas, "_judge", late)
    with pytest.raises(ConflictError) as error:
        evolve(lake, ID, NAME, PRICE, Column(name="n", type="int64"))
    assert error.value.kind == "schema-changed"
    assert catalog.show_schema(lake, "t").schema.columns[3].type == "string"


def test_the_same_change_again_registers_what_a_dead_writer_left(lake: Lake) -> None:
    """A change that died between commit and registration is registered by its repetition, and then there is nothing to do."""
    number = Column(name="n", type="int64")
    change_columns(lake, lake.peek("t"), ROWS.schema.append(pa.field("n", pa.int64())))
    assert numbers(lake)[0] == (2, ["id", "name", "price", "n"], False)
    assert not catalog.check_schema(lake, "t", SchemaSpec((ID, NAME, PRICE, number))).registered
    assert evolve(lake, ID, NAME, PRICE, number).new.number == 2
    assert numbers(lake) == [(2, ["id", "name", "price", "n"], True), (1, ["id", "name", "price"], True)]
    assert not evolve(lake, ID, NAME, PRICE, number)


def test_a_schema_that_says_no_meaning_keeps_it(lake: Lake) -> None:
    """What columns mean goes only when that is asked for: a data file says names and types alone."""
    words = {"description": "of the buyer", "semantic": "pii:name", "unit": "words"}
    catalog.evolve_schema(lake, "t", edit=SchemaEdit(column="name", words=words))
    done = catalog.evolve_schema(lake, "t", ROWS.schema.append(pa.field("n", pa.int64())))
    assert [d.what for d in done.differences] == ["added"]
    assert catalog.show_schema(lake, "t").schema.columns[1] == replace(NAME, **words)
    catalog.evolve_schema(lake, "t", edit=SchemaEdit(column="name", words={"semantic": ""}))
    assert catalog.show_schema(lake, "t").schema.columns[1].semantic == ""


def test_the_key_follows_another_spelling(lake: Lake) -> None:
    """A key column whose case alone changes stays the key, of the schema and of the dataset."""
    capital = (replace(ID, name="ID", type="int64"), NAME, PRICE)
    assert [d.what for d in catalog.check_schema(lake, "t", SchemaSpec(capital)).refused] == ["case"]
    evolve(lake, *capital, compatibility="NONE")
    assert catalog.show_dataset(lake, "t").dataset.key_columns == ("ID",)
    assert catalog.show_schema(lake, "t").schema.key_columns == ("ID",)


def test_a_key_can_be_given_up(lake: Lake) -> None:
    """An edit with an empty key is a difference that breaks readers and writers, and takes the key away."""
    verdict = catalog.check_schema(lake, "t", edit=SchemaEdit(key=()))
    assert [str(d) for d in verdict.refused] == ["id: key id -> (none) (breaks readers and writers)"]
    catalog.evolve_schema(lake, "t", edit=SchemaEdit(key=()), compatibility="NONE")
    assert catalog.show_dataset(lake, "t").dataset.key_columns == ()


def test_the_view_of_schemas(lake: Lake) -> None:
    """One row for each column of each version."""
    evolve(lake, ID, NAME, PRICE, Column(name="n", type="list<int64>", unit="px", semantic="box"))
    sql = "select schema_number, position, type, in_key, unit, newest from schemas where column_name in ('id', 'n')"
    assert lake.sql(sql).fetchall() == [
        (1, 1, "int64", True, "", False),
        (2, 1, "int64", True, "", True),
        (2, 4, "list<int64>", False, "px", True),
    ]


def test_a_schema_version_survives_the_ledger() -> None:
    """What is written as JSON is read back equal."""
    now = datetime(2026, 11, 26, tzinfo=UTC)
    value = SchemaVersion(dataset_id="d", number=1, columns=(ID, PRICE), key_columns=("id",), created_at=now)
    assert SchemaVersion.from_json(value.to_json()) == value
