"""The commands of `lakehouse dataset`."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from .conftest import Typed


def test_dataset_create_from_columns(cli: Typed) -> None:
    """`dataset create --columns` makes the schema that it names."""
    cli.ok(
        "dataset", "create", "shop.orders", "--columns", "id:int64, price:decimal(10,2),at:timestamptz", "--key", "id"
    )
    shown = cli.json("show", "shop.orders")
    assert {c["name"]: c["type"] for c in shown["schema"]} == {
        "id": "int64",
        "price": "decimal128(10, 2)",
        "at": "timestamp[us, tz=UTC]",
    }
    assert cli.json("dataset", "show", "shop.orders")["key"] == ["id"]


def test_dataset_create_from_a_schema_file(cli: Typed, tmp_path: Path) -> None:
    """`dataset create --schema` takes what `show --output json` printed."""
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(cli.json("show", "vision.tiles")))
    cli.ok("dataset", "create", "copy", "--schema", file)
    assert cli.json("show", "copy")["schema"] == cli.json("show", "vision.tiles")["schema"]


@pytest.mark.parametrize("content", ["", "[1]", '{"a": 1}', '[{"name": "a"}]'])
def test_dataset_create_from_a_broken_schema_file(cli: Typed, tmp_path: Path, content: str) -> None:
    """A schema file of another form is refused."""
    file = tmp_path / "schema.json"
    file.write_text(content)
    assert cli("dataset", "create", "x", "--schema", file, "--output", "json").json["error"]["kind"] == "schema-invalid"


@pytest.mark.parametrize("words", [(), ("--columns", "a:int64", "--location", "x"), ("--columns", "a")])
def test_dataset_create_needs_one_description(cli: Typed, words: tuple[str, ...]) -> None:
    """Exactly one of --columns, --schema and --location is given, and columns have types."""
    assert cli("dataset", "create", "x", *words, "--output", "json").json["error"]["kind"] == "option-invalid"


def test_dataset_create_in_place(cli: Typed, tmp_path: Path) -> None:
    """`dataset create --location` takes a Delta table of somebody else in place."""
    write_deltalake(tmp_path / "foreign", pa.table({"a": [1, 2]}))
    assert cli.json("dataset", "create", "foreign", "--location", tmp_path / "foreign")["guarantee"] == "external"
    assert cli.json("show", "foreign")["rows"] == 2


def test_dataset_list(cli: Typed) -> None:
    """`dataset list` shows names by namespace; what was deleted is listed apart."""
    assert [d["dataset"] for d in cli.json("dataset", "list")] == ["main.pets", "vision.tiles"]
    assert [d["dataset"] for d in cli.json("dataset", "list", "--namespace", "vision")] == ["vision.tiles"]
    said = cli.ok("dataset", "list", "--deleted")
    assert (said.stdout, said.stderr) == ("", "No dataset was deleted.\n")


def test_dataset_delete_and_undrop(cli: Typed) -> None:
    """`dataset delete` first shows what it would hide; with --yes it hides it, and `undrop` brings it back."""
    dry = cli.ok("dataset", "delete", "pets")
    assert "main.pets" in dry.stdout
    assert dry.stderr == "Nothing was changed. Run again with --yes.\n"
    assert cli.json("dataset", "delete", "pets") == {
        "dry_run": True,
        "dataset": "main.pets",
        "rows": 4,
        "versions_kept": 1,
        "dependents": [],
    }
    assert cli.json("show", "pets")["rows"] == 4
    cli.ok("dataset", "delete", "pets", "--yes")
    assert cli("show", "pets").code == 3
    assert cli.json("show", "pets@v1")["rows"] == 3
    cli.ok("dataset", "undrop", "pets")
    assert cli.json("show", "pets")["rows"] == 4


def test_dataset_delete_shows_dependents(cli: Typed) -> None:
    """`dataset delete` first shows milestones, derived datasets, other datasets' checks and snapshots that rely on it."""
    cli.ok("milestone", "define", "spring", "pets")
    cli.ok("dataset", "fork", "pets@v1", "cats")
    cli.ok("check", "add", "cats", "foreign_key", "--columns", "id", "--set", "to=pets", "--set", "to_columns=[id]")
    cli.ok("snapshot", "create", "run-1", "pets@v1")
    found = cli.json("dataset", "delete", "pets")["dependents"]
    assert [(d["kind"], d["name"]) for d in found] == [
        ("milestone", "main.spring"),
        ("milestone version", "main.spring/v1"),
        ("dataset", "main.cats"),
        ("check", "main.cats: foreign_key_id"),
        ("snapshot", "run-1"),
    ]
    dry = cli.ok("dataset", "delete", "pets").stdout
    assert "relied on by milestone version  main.spring/v1" in dry
    cli.ok("dataset", "delete", "pets", "--yes")
    assert cli.json("show", "pets@spring/v1")["rows"] == 3


def test_dataset_rename(cli: Typed) -> None:
    """`dataset rename` keeps the old name, which output says no more; `unalias` gives it back."""
    assert cli.json("dataset", "rename", "pets", "animals")["aliases"] == ["main.pets"]
    assert cli.json("show", "pets@v1")["reference"] == "main.animals@v1"
    assert [d["dataset"] for d in cli.json("dataset", "list")] == ["main.animals", "vision.tiles"]
    assert cli.json("sql", "select count(*) as n from pets") == [{"n": 4}]
    assert cli("dataset", "create", "pets", "--columns", "a:int64").code == 5
    assert cli("dataset", "rename", "animals", "vision.animals").code == 2
    assert "would give back" in cli.ok("dataset", "unalias", "pets").stdout
    assert cli.json("show", "pets")["rows"] == 4
    cli.ok("dataset", "unalias", "pets", "--yes")
    assert cli("show", "pets").code == 3
