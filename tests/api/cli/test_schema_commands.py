"""The commands of `lakehouse schema`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import catalog
import lakehouse
from lakehouse.evolving import change_columns

from .conftest import Typed


def test_schema_show_and_list(cli: Typed) -> None:
    """`schema show` has the columns with what they mean, of the head, of a state and of a number; `list` all versions."""
    found = cli.json("schema", "show", "pets")
    assert (found["dataset"], found["number"], found["registered"], found["key"]) == ("main.pets", 1, True, ["id"])
    assert found["columns"][0] == {
        "name": "id",
        "type": "int64",
        "nullable": True,
        "description": "",
        "unit": "",
        "semantic": "",
    }
    cli.ok("schema", "evolve", "pets", "--column", "price", "--unit", "EUR", "-m", "as agreed")
    said = cli.ok("schema", "show", "pets").stdout
    assert said.splitlines()[0] == "schema         main.pets s2"
    assert "price   double" in said
    assert "EUR" in said
    assert "EUR" not in cli.ok("schema", "show", "pets", "--number", "1").stdout
    assert [(s["number"], s["message"]) for s in cli.json("schema", "list", "pets")] == [(2, "as agreed"), (1, "")]
    assert cli("schema", "show", "pets", "--number", "7").code == 3
    assert "s2" in cli.ok("schema", "list", "pets").stdout


def test_schema_evolve(cli: Typed) -> None:
    """New columns are added at once; what breaks somebody is shown first and done with --yes, if the mode allows it."""
    before = cli.json("head", "pets")
    said = cli.ok("schema", "evolve", "pets", "--add", "size:decimal(6,2),tags:list<string>")
    assert said.stderr == "main.pets has the schema s2 now.\n"
    assert [c["name"] for c in cli.json("show", "pets")["schema"]] == ["id", "label", "price", "size", "tags"]
    refused = cli("schema", "evolve", "pets", "--drop", "price", "--output", "json")
    assert (refused.code, refused.json["error"]["kind"]) == (2, "schema-incompatible")
    dry = cli.json("schema", "evolve", "pets", "--drop", "price", "--compatibility", "NONE")
    assert (dry["dry_run"], dry["breaks_readers"], dry["allowed"]) == (True, True, True)
    assert "price   removed" in cli.ok("schema", "evolve", "pets", "--drop", "price", "--compatibility", "NONE").stdout
    cli.ok("schema", "evolve", "pets", "--drop", "price", "--compatibility", "NONE", "--yes")
    after = [{**row, "size": None, "tags": None} for row in before]
    assert cli.json("head", "pets") == [{k: v for k, v in row.items() if k != "price"} for row in after]
    assert "nothing" in cli.ok("schema", "evolve", "pets").stdout
    cli.ok("schema", "evolve", "pets", "--key", "id,label", "--yes")
    assert cli.json("dataset", "show", "pets")["key"] == ["id", "label"]
    assert cli("schema", "evolve", "pets", "--drop", "price").code == 2
    assert cli("schema", "evolve", "pets", "--unit", "cm").code == 2
    assert cli("schema", "evolve", "pets", "--misfits", "drop").code == 2
    assert cli.json("schema", "evolve", "pets", "--misfits", "flag")["misfits"] == "flag"


def test_a_schema_without_a_number_says_so(cli: Typed) -> None:
    """What a dead writer left is marked, without a time or a person, until `evolve` registers it."""
    lake = lakehouse.connect(cli.root)
    columns = lake.peek("pets").schema.append(pa.field("n", pa.int64()))
    change_columns(lake, lake.peek("pets"), columns)
    assert "not yet" in cli.ok("schema", "list", "pets").stdout.splitlines()[1]
    newest = cli.json("schema", "list", "pets")[0]
    assert (newest["number"], newest["registered"], newest["created_at"]) == (2, False, None)
    assert cli.ok("schema", "evolve", "pets").stderr == "main.pets has the schema s2 now.\n"
    assert "not yet" not in cli.ok("schema", "list", "pets").stdout
    assert cli.ok("schema", "evolve", "pets").stderr == ""


def test_schema_evolve_takes_the_key_away(cli: Typed) -> None:
    """`--key ''` means no key, is said in the verdict, and asks first."""
    said = cli.ok("schema", "evolve", "pets", "--key", "", "--compatibility", "NONE").stdout
    assert "id      key" in said
    cli.ok("schema", "evolve", "pets", "--key", "", "--compatibility", "NONE", "--yes")
    assert cli.json("dataset", "show", "pets")["key"] == []


def test_schema_check_of_a_schema(cli: Typed, tmp_path: Path) -> None:
    """`schema check` lists each difference, whom it breaks and who uses the column; exit code 2 when it is refused."""
    lake = lakehouse.connect(cli.root)
    catalog.define_milestone(lake, "spring", ["pets"])
    catalog.publish_milestone(lake, "spring")
    file = tmp_path / "pets.json"
    file.write_text(json.dumps([{"name": "id", "type": "int64"}, {"name": "label", "type": "string"}]))
    ran = cli("schema", "check", "pets", file, "--output", "json")
    assert ran.code == 2
    assert ran.json["differences"] == [
        {
            "column": "price",
            "what": "removed",
            "old": "double",
            "new": "",
            "breaks_readers": True,
            "breaks_writers": True,
            "allowed": False,
        }
    ]
    assert ran.json["users"] == [{"kind": "milestone", "name": "main.spring/v1", "columns": ["price"]}]
    shown = cli("schema", "check", "pets", file).stdout
    assert "BACKWARD refuses this" in shown
    assert "main.spring/v1" in shown
    cli.ok("schema", "export", "pets", "-o", file)
    assert cli.json("schema", "check", "pets", file)["differences"] == []


def test_schema_check_of_a_table(cli: Typed, tmp_path: Path) -> None:
    """A table is read as an ingest would: what fits, what would be rejected, or why all of it is refused."""
    rows = "".join(f"{n},cat,1.5\n" for n in range(10, 20))
    (tmp_path / "good.csv").write_text(f"id,label,price\n{rows}")
    (tmp_path / "some.csv").write_text(f"id,label,price\n{rows}x,dog,1\n")
    (tmp_path / "bad.csv").write_text("id,label,prize\n1,a,2\n")
    (tmp_path / "data.json").write_text('[{"id": 1, "label": "a"}]')
    good = cli.json("schema", "check", "pets", tmp_path / "good.csv")
    assert (good["allowed"], good["rows"], good["rejects_by_code"]) == (True, 10, {})
    some = cli("schema", "check", "pets", tmp_path / "some.csv")
    assert (some.code, "type_mismatch 1" in some.stdout) == (7, True)
    bad = cli("schema", "check", "pets", tmp_path / "bad.csv", "--output", "json")
    assert (bad.code, bad.json["refused"], bad.json["allowed"]) == (2, "schema-added-column", False)
    assert cli.json("schema", "check", "pets", tmp_path / "data.json")["rows"] == 1
    assert cli.json("show", "pets")["rows"] == 4


def test_schema_check_of_a_table_knows_the_policy(cli: Typed, tmp_path: Path) -> None:
    """Under `flag` it says what an ingest would do: all rows land, some without a value, and the exit code is 0."""
    rows = "".join(f"{n},cat,1.5\n" for n in range(10, 20))
    (tmp_path / "some.csv").write_text(f"id,label,price\n{rows}30,dog,x\n")
    cli.ok("schema", "evolve", "pets", "--misfits", "flag")
    found = cli.json("schema", "check", "pets", tmp_path / "some.csv")
    assert (found["rows"], found["rejects_by_code"], found["flagged_by_code"]) == (11, {}, {"type_mismatch": 1})
    assert "type_mismatch 1" in cli.ok("schema", "check", "pets", tmp_path / "some.csv").stdout
    assert cli.json("ingest", tmp_path / "some.csv", "--dataset", "pets")["ingested"] == 11


def test_schema_check_reads_a_table_as_ingest_does(cli: Typed, tmp_path: Path) -> None:
    """It has the options of `ingest` for text files."""
    (tmp_path / "eu.csv").write_bytes("id;label;price\n10;Käfer;1,5\n11;-;-\n".encode("latin-1"))
    options = ["--delimiter", ";", "--encoding", "latin-1", "--null", "-", "--decimal", ","]
    assert cli("schema", "check", "pets", tmp_path / "eu.csv").code == 2
    assert cli.json("schema", "check", "pets", tmp_path / "eu.csv", *options)["rows"] == 2


def test_schema_check_explains_a_refusal(cli: Typed, tmp_path: Path) -> None:
    """A file that fits no row is shown with its differences and the commands that take it, the first of which works."""
    file = tmp_path / "more.csv"
    file.write_text("id,label,price,size\n10,cat,1.5,3\n")
    cli.ok("schema", "evolve", "pets", "--column", "label", "--semantic", "label")
    shown = cli("schema", "check", "pets", file)
    assert shown.code == 2
    evolve = f"schema evolve main.pets --schema {file}"
    assert f"lakehouse {evolve}" in shown.stdout
    assert "lakehouse dataset fork main.pets NEW --schema" in shown.stdout
    assert "size    added  int64" in shown.stdout
    found = cli("schema", "check", "pets", file, "--output", "json").json
    assert [d["column"] for d in found["verdict"]["differences"]] == ["size"]
    cli.ok(*evolve.split())
    assert cli.json("schema", "show", "pets")["columns"][1]["semantic"] == "label"
    cli.ok("ingest", file, "--dataset", "pets")


def test_a_model_in_the_current_folder(cli: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--schema module:Model` looks for the module where the command is typed."""
    (tmp_path / "models_typed_here.py").write_text(
        "from pydantic import BaseModel\n\n\nclass Order(BaseModel):\n    id: int\n    note: str | None = None\n"
    )
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    cli.ok("dataset", "create", "orders", "--schema", "models_typed_here:Order")
    assert [c["name"] for c in cli.json("show", "orders")["schema"]] == ["id", "note"]
    assert sys.path == path


def test_schema_export_where_nothing_can_be_written(cli: Typed, tmp_path: Path) -> None:
    """A folder that is not there is an error with the path and what to do."""
    for out in (tmp_path / "absent" / "x.json", tmp_path):
        ran = cli("schema", "export", "pets", "-o", out, "--output", "json")
        assert (ran.code, ran.json["error"]["kind"]) == (2, "output-invalid")
        assert str(out) in ran.json["error"]["message"]


def test_schema_export(cli: Typed, tmp_path: Path) -> None:
    """What is exported makes the same dataset again."""
    assert json.loads(cli.ok("schema", "export", "pets").stdout)["properties"]["price"]["type"] == ["number", "null"]
    assert "columns:" in cli.ok("schema", "export", "pets", "--format", "yaml").stdout
    assert cli.ok("schema", "export", "pets", "--format", "arrow").stdout
    for form, suffix in (("json-schema", "json"), ("yaml", "yaml"), ("arrow", "arrow")):
        file = tmp_path / f"pets.{suffix}"
        cli.ok("schema", "export", "pets", "--format", form, "-o", file)
        cli.ok("dataset", "create", f"copy_{suffix}", "--schema", file)
        assert cli.json("show", f"copy_{suffix}")["schema"] == cli.json("show", "pets")["schema"]
    assert cli.json("dataset", "show", "copy_yaml")["key"] == ["id"]
    assert cli("schema", "export", "pets", "--format", "avro").code == 2


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_can_stand_for_its_schema(cli: Typed, tmp_path: Path, suffix: str) -> None:
    """`dataset create --schema` takes the columns of a table."""
    file = tmp_path / f"t.{suffix}"
    if suffix == "csv":
        file.write_text("a,b\n1,x\n2,y\n")
    else:
        pq.write_table(pa.table({"a": [1], "b": ["x"]}), file)
    cli.ok("dataset", "create", "made", "--schema", file)
    assert {c["name"]: c["type"] for c in cli.json("show", "made")["schema"]} == {"a": "int64", "b": "string"}


def test_dataset_fork(cli: Typed, tmp_path: Path) -> None:
    """`dataset fork` makes a dataset of a state; a file that does not fit the source gives the fork its schema."""
    said = cli.json("dataset", "fork", "pets@v1", "pets_v1")
    assert (said["dataset"], said["source"], said["rows"], said["copied"]) == ("main.pets_v1", "main.pets@#1", 3, True)
    assert cli.json("dataset", "show", "pets")["children"] == ["main.pets_v1"]
    file = tmp_path / "more.csv"
    file.write_text("id,label,price\n" + "".join(f"p{n},cat,1.5\n" for n in range(10)))
    refused = cli("ingest", file, "--dataset", "pets")
    assert f"lakehouse dataset fork main.pets NEW --schema {file}" in refused.stderr
    assert "copied" not in cli.ok("dataset", "fork", "pets", "texts", "--schema", file).stdout
    # The order of rows that a merge rewrote is the engine's.
    assert sorted(row["id"] for row in cli.json("head", "texts@head")) == ["1", "2", "3", "4"]
    assert cli.json("ingest", file, "--dataset", "texts")["ingested"] == 10
    assert cli.json("dataset", "fork", "pets", "none", "--schema", file, "--empty")["rows"] == 0
