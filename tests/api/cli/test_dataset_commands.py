"""The commands of `lakehouse dataset`, and those about how long versions live."""

from __future__ import annotations

import json
import subprocess
import sys
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
        "hold": None,
        "dependents": [],
    }
    assert cli.json("show", "pets")["rows"] == 4
    cli.ok("dataset", "delete", "pets", "--yes")
    assert cli("show", "pets").code == 3
    assert cli.json("show", "pets@v1")["rows"] == 3
    cli.ok("dataset", "undrop", "pets")
    assert cli.json("show", "pets")["rows"] == 4


def test_dataset_delete_tells_of_holds(cli: Typed) -> None:
    """`dataset delete` first says that the dataset is under a legal hold, which stays; and `undrop` finds it again."""
    cli.ok("hold", "set", "pets", "--reason", "case 7")
    assert "legal hold      stays: case 7" in cli.ok("dataset", "delete", "pets").stdout
    assert cli.json("dataset", "delete", "pets")["hold"] == "case 7"
    cli.ok("dataset", "delete", "pets", "--yes")
    assert cli.json("dataset", "undrop", "pets")["hold"] == "case 7"


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


def test_deprecate(cli: Typed) -> None:
    """`deprecate` puts a notice on a version that `show` and `log` tell; a withdrawn one is refused with the reason."""
    found = cli.json("deprecate", "pets@v1", "--reason", "labels are shifted")
    assert found == {"dataset": "main.pets", "version": 1, "notice": "labels are shifted", "withdrawn": False}
    shown = cli.json("show", "pets@v1")
    assert (shown["notice"], shown["withdrawn"]) == ("labels are shifted", False)
    assert "deprecated     labels are shifted" in cli.ok("show", "pets@v1").stdout
    assert [row["notice"] for row in cli.json("log", "pets")] == [None, "labels are shifted", None]
    assert "labels are shifted" in cli.ok("log", "pets").stdout
    cli.ok("deprecate", "pets@v1", "--reason", "labels are shifted", "--withdraw")
    told = cli("head", "pets@v1")
    assert told.code == 5
    assert "labels are shifted" in told.stderr
    assert "has no notice" in cli.ok("deprecate", "pets@v1", "--undo").stdout
    assert cli.json("show", "pets@v1")["notice"] is None
    for words in ((), ("--undo", "--reason", "x"), ("--undo", "--withdraw")):
        assert cli("deprecate", "pets@v1", *words).code == 2


def test_readers_are_warned_on_stderr(cli: Typed) -> None:
    """In a process of its own, a command that reads a deprecated version says so on stderr, once, and prints the data."""
    cli.ok("deprecate", "pets@v1", "--reason", "labels are shifted")
    words = [sys.executable, "-m", "api.cli.main", "--root", cli.root, "diff", "pets@v1", "pets@v1", "--output", "json"]
    ran = subprocess.run(words, capture_output=True, text=True, check=True)
    assert ran.stderr.count("main.pets@v1 was deprecated") == 1
    assert ran.stderr.endswith(": labels are shifted\n")
    assert json.loads(ran.stdout)["rows"]["added"] == 0


def test_many_reasons_to_stay(cli: Typed) -> None:
    """Of a version that many milestones keep, `expire` shows the first and how many more there are."""
    for number in range(5):
        cli.ok("milestone", "define", f"m{number}", "pets", "--data-tag", "FINAL")
    cli.ok("publish", "pets")
    shown = cli.ok("expire", "pets", "--keep-last", "1").stdout
    assert "milestone main.m0/v1 and 4 more" in shown
    assert len(cli.json("expire", "pets", "--keep-last", "1")["kept"][0]["kept_by"]) == 5


def test_retention_policies(cli: Typed) -> None:
    """`retention` sets, lists and removes policies, which `expire` without rules follows."""
    assert cli("expire", "pets").code == 2
    cli.ok("publish", "pets")
    made = cli.json("retention", "set", "main", "--keep-last", "1", "--keep-tag", "REVIEWED")
    assert (made["scope"], made["keep_last"], made["keep_for"], made["keep_tags"]) == ("main.*", 1, None, ["REVIEWED"])
    assert [r["scope"] for r in cli.json("retention", "list")] == ["main.*"]
    assert "main.*" in cli.ok("retention", "list").stdout
    assert [v["version"] for v in cli.json("expire", "pets")["expired"]] == [1]
    cli.ok("retention", "set", "pets", "--keep-for", "90d")
    assert cli.json("expire", "--all")["expired"] == []
    assert "would remove" in cli.ok("retention", "remove", "pets").stdout
    cli.ok("retention", "remove", "pets", "--yes")
    dry = cli.ok("expire", "--all").stdout
    assert "would expire  1 version" in dry
    cli.ok("expire", "--all", "--yes")
    assert cli("show", "pets@v1").code == 5
