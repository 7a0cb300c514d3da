"""Every command at least once, on a real lakehouse: what it does, what it prints, and the shape of its JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import lakehouse
from api.cli.reference import verbs

from .conftest import Typed

GOLDEN = Path(__file__).with_name("shapes.json")


def shape(value: Any) -> Any:
    """Return the shape of a JSON value: keys and types, a list by its first entry."""
    if isinstance(value, dict):
        return {key: shape(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


def test_init(cli_at: Callable[[Path], Typed], tmp_path: Path) -> None:
    """`init` makes a lakehouse, and leaves one that is there as it is."""
    cli = cli_at(tmp_path / "new")
    assert cli.json("init") == {"root": str(tmp_path / "new")}
    made = cli.json("status")["created_at"]
    cli.ok("init")
    assert cli.json("status")["created_at"] == made


def test_doctor(cli: Typed) -> None:
    """`doctor` finds a healthy lakehouse well; a dataset that does not open is exit code 6 and is named."""
    said = cli.ok("doctor")
    assert said.stdout.endswith("All is well.\n")
    location = cli.json("dataset", "show", "pets")["location"]
    (Path(cli.root) / location).rename(Path(cli.root) / "elsewhere")
    said = cli("doctor")
    assert said.code == 6
    assert "FAILED  main.pets: " in said.stdout
    assert said.stdout.endswith("problems found: see above.\n")
    told = cli("doctor", "--output", "json")
    assert (told.code, told.json["ok"]) == (6, False)
    bad = {c["name"] for c in told.json["checks"] if not c["ok"]}
    assert bad == {"datasets", "main.pets", "pins", "main.pets@v1"}


def test_doctor_without_a_lakehouse(cli_at: Callable[[Path], Typed], tmp_path: Path) -> None:
    """Where there is no lakehouse, `doctor` says so and writes nothing."""
    said = cli_at(tmp_path / "none")("doctor")
    assert said.code == 6
    assert "lakehouse init" in said.stdout
    assert not (tmp_path / "none").exists()


def test_status(cli: Typed) -> None:
    """`status` counts what is there."""
    found = cli.json("status")
    assert (found["datasets"], found["versions"], found["published_rows"]) == (2, 2, 6)
    assert [(r["job"], r["status"]) for r in found["runs"]] == [("ingest", "succeeded")]
    assert "newest runs" in cli.ok("status").stdout


def test_ingest_tables(cli: Typed, tmp_path: Path) -> None:
    """`ingest` of a CSV counts rows; what is wrong is rejected with exit code 7, and the rejects can be asked for."""
    file = tmp_path / "orders.csv"
    rows = [f"{i},{i}.5" for i in range(30)]
    file.write_text("id,price\n" + "\n".join([*rows, "x,1"]) + "\n")
    said = cli("ingest", file, "--dataset", "orders", "--key", "id", "--output", "json")
    assert said.code == 7
    assert {k: said.json[k] for k in ("items", "ingested", "rejected")} == {"items": 31, "ingested": 30, "rejected": 1}
    query = f"select line, code from rejects where run = '{said.json['run']}'"
    assert cli.json("sql", query) == [{"line": 32, "code": "type_mismatch"}]
    told = cli("ingest", file, "--dataset", "orders2", "--key", "id")
    assert "type_mismatch 1" in told.stdout
    assert "lakehouse sql" in told.stderr


def test_ingest_options_reach_the_job(cli: Typed, tmp_path: Path) -> None:
    """Delimiter, null tokens and types of a CSV are taken from the options."""
    file = tmp_path / "a.csv"
    file.write_text("code;n\n007;1\n008;NA\n")
    cli.ok("ingest", file, "--dataset", "codes", "--delimiter", ";", "--null", "NA", "--type", "n=int32")
    assert cli.json("head", "codes") == [{"code": "007", "n": 1}, {"code": "008", "n": None}]
    wrong = cli("ingest", file, "--dataset", "codes", "--type", "n", "--output", "json")
    assert wrong.json["error"]["kind"] == "option-invalid"


def test_ingest_of_nothing_good(cli: Typed, tmp_path: Path) -> None:
    """When every item is rejected the exit code is 2, and the report is printed all the same."""
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"")
    said = cli("ingest", tmp_path / "bad", "--dataset", "bad", "--format", "images", "--output", "json")
    assert (said.code, said.json["rejected"], said.json["items"]) == (2, 1, 1)


def test_ingest_again(cli: Typed, folder: Path) -> None:
    """The same images again are recognised."""
    report = cli.json("ingest", folder / "tiles", "--dataset", "vision.tiles", "--license", "CC0-1.0")
    assert (report["ingested"], report["unchanged"]) == (0, 3)


def test_ingest_overwrite_asks_first(cli: Typed, tmp_path: Path) -> None:
    """Replacing a dataset shows what would go, and does it with --yes; a new one needs no asking."""
    pq.write_table(pa.table({"id": [9], "label": ["owl"], "price": [1.0]}), tmp_path / "new.parquet")
    words = ("ingest", tmp_path / "new.parquet", "--mode", "overwrite", "--dataset")
    assert cli.json(*words, "pets") == {"dry_run": True, "dataset": "pets", "rows": 4}
    assert cli.json("show", "pets")["rows"] == 4
    cli.ok(*words, "pets", "--yes")
    assert [r["id"] for r in cli.json("head", "pets")] == [9]
    cli.ok(*words, "owls")
    assert cli.json("show", "owls")["rows"] == 1


def test_run_features(cli: Typed) -> None:
    """`run features` computes once, and finds nothing to do the second time."""
    assert cli.json("run", "features", "vision.tiles", "--workers", "1")["processed"] == 3
    again = cli.json("run", "features", "vision.tiles", "--workers", "1")
    assert (again["processed"], again["skipped"]) == (0, 3)
    assert cli.json("show", "vision.tiles_features")["rows"] == 3


def test_delete_rows(cli: Typed) -> None:
    """`delete` counts first; with --yes the rows are gone from head and stay in what was published."""
    dry = cli.ok("delete", "pets", "--where", "label like '%o%'")
    assert dry.stdout == "would delete  1 of 4 rows of main.pets\n"
    assert cli.json("delete", "pets", "--where", "id > 2")["rows"] == 2
    assert cli.json("delete", "pets", "--where", "id > 2", "--yes", "-m", "clean")["rows_removed"] == 2
    assert cli.json("show", "pets")["rows"] == 2
    assert cli.json("show", "pets@v1")["rows"] == 3
    assert cli("delete", "pets", "--where", "nothing = 1").code == 2


def test_show(cli: Typed) -> None:
    """`show` says what a reference resolved to, what is in it and what pins it."""
    shown = cli.json("show", "pets@FINAL")
    assert (shown["reference"], shown["version"], shown["table_version"]) == ("main.pets@FINAL", 1, 1)
    assert shown["pinned_by"] == ["main.pets@v1"]
    said = cli.ok("show", "pets@v1").stdout
    assert "version        v1 (FINAL)" in said
    assert "label   string" in said
    assert "not published" in cli.ok("show", "pets").stdout


def test_head(cli: Typed) -> None:
    """`head` prints the first rows in the state's order."""
    assert cli.json("head", "pets@v1", "-n", "2") == [
        {"id": 1, "label": "cat", "price": 0.5},
        {"id": 2, "label": "dog", "price": None},
    ]
    said = cli.ok("head", "pets@v1", "-n", "1", "--columns", "label,id")
    assert said.stdout.splitlines() == ["label      id", "string  int64", "cat         1"]
    assert said.stderr == "1 of 3 rows of main.pets@v1 (#1)\n"
    assert cli.json("head", "pets", "-n", "0") == []
    assert cli("head", "pets", "--columns", "nope").code == 2


def test_log(cli: Typed) -> None:
    """`log` lists the commits newest first with the published versions marked; a reference starts it in the past."""
    entries = cli.json("log", "pets")
    assert [e["table_version"] for e in entries] == [2, 1, 0]
    assert [e["version"] for e in entries] == [None, 1, None]
    assert (entries[1]["rows_added"], entries[1]["message"], entries[1]["user"]) == (3, "first rows", "ada")
    assert [e["table_version"] for e in cli.json("log", "pets@v1")] == [1, 0]
    assert [e["table_version"] for e in cli.json("log", "pets@v1", "-n", "1")] == [1]
    assert "first rows" in cli.ok("log", "pets").stdout


def test_log_shows_all_versions_of_a_commit(cli: Typed) -> None:
    """`log` shows each version that was published of a commit, and says of which one what became of it."""
    cli.ok("publish", "pets@v1", "--data-tag", "DRAFT")
    cli.ok("deprecate", "pets@v1", "--reason", "wrong labels")
    said = cli.ok("log", "pets").stdout
    assert "v1, v2" in said
    assert "v1 deprecated: wrong labels" in said
    entry = cli.json("log", "pets")[1]
    assert (entry["version"], entry["notice"]) == (2, None)
    assert entry["versions"] == [
        {"version": 1, "data_tag": "FINAL", "notice": "wrong labels", "withdrawn": False},
        {"version": 2, "data_tag": "DRAFT", "notice": None, "withdrawn": False},
    ]
    cli.ok("publish", "pets")
    cli.ok("deprecate", "pets@v3", "--reason", "worse", "--withdraw")
    assert " withdrawn: worse" in cli.ok("log", "pets").stdout.splitlines()[1]


def test_diff(cli: Typed) -> None:
    """`diff` counts what changed, and shows examples with old and new values."""
    found = cli.json("diff", "pets@v1", "pets")
    assert found["rows"] == {"added": 1, "removed": 0, "changed": 1}
    assert found["columns"] == {"label": 1}
    said = cli.ok("diff", "pets@v1", "pets").stdout
    assert "rows          1 added, 0 removed, 1 changed" in said
    assert "2   label   dog  wolf" in said
    assert "added (1 of 1)" in said
    assert "added (1" not in cli.ok("diff", "pets@v1", "pets", "--rows", "0").stdout
    assert "wolf" not in cli.ok("diff", "pets@v1", "pets", "--column", "price").stdout
    assert "no difference" in cli.ok("diff", "pets@v1", "pets@v1").stdout
    assert cli.json("diff", "pets@v1", "pets", "--key", "price")["key"] is None


def test_lineage(cli: Typed) -> None:
    """`lineage` goes back to the source, and forward to what was derived."""
    cli.ok("run", "features", "vision.tiles", "--workers", "1")
    back = cli.json("lineage", "vision.tiles_features")
    assert [e["job"] for e in back] == ["features.image", "ingest"]
    assert back[1]["source"].endswith("tiles")
    assert [e["job"] for e in cli.json("lineage", "vision.tiles@v1", "--forward")] == ["features.image"]
    assert "made from" in cli.ok("lineage", "vision.tiles_features").stdout
    assert "└─ vision.tiles@#1" in cli.ok("lineage", "vision.tiles_features", "--tree").stdout
    events = [
        json.loads(line) for line in cli.ok("lineage", "vision.tiles_features", "--openlineage").stdout.splitlines()
    ]
    assert [e["eventType"] for e in events] == ["START", "COMPLETE"] * 2
    assert "No recorded run made" in cli.ok("lineage", "pets").stderr


def test_publish(cli: Typed) -> None:
    """`publish` makes the next version with its data tag."""
    made = cli.json("publish", "pets", "--data-tag", "reviewed", "-m", "second")
    assert (made["version"], made["table_version"], made["data_tag"]) == (2, 2, "REVIEWED")
    assert cli.ok("publish", "pets").stdout.startswith("published      main.pets@v3 (DRAFT)\n")


def test_tags(cli: Typed) -> None:
    """Tags are set, listed, moved and (after a dry run) removed."""
    cli.ok("tag", "set", "pets@v1", "prod")
    assert cli.json("tag", "list", "pets") == [{"tag": "prod", "version": 1}]
    assert cli.json("show", "pets@prod")["version"] == 1
    assert cli.json("tag", "remove", "pets", "PROD") == {
        "dry_run": True,
        "dataset": "main.pets",
        "tag": "prod",
        "version": 1,
    }
    assert cli.json("tag", "list", "pets")
    cli.ok("tag", "remove", "pets", "prod", "--yes")
    assert cli.json("tag", "list", "pets") == []
    assert cli("tag", "remove", "pets", "prod").code == 3


def test_snapshots(cli: Typed) -> None:
    """A snapshot pins several datasets, is read by name, and (after a dry run) deleted."""
    made = cli.json("snapshot", "create", "run-1", "pets@v1", "vision.tiles", "--expires", "90d", "-m", "training")
    assert [d["dataset"] for d in made["datasets"]] == ["main.pets", "vision.tiles"]
    assert cli.json("show", "pets@snap:run-1")["rows"] == 3
    assert "main.pets@v1, vision.tiles@v1" in cli.ok("snapshot", "list").stdout
    assert cli.json("snapshot", "delete", "run-1")["dry_run"] is True
    assert [s["snapshot"] for s in cli.json("snapshot", "list")] == ["run-1"]
    cli.ok("snapshot", "delete", "run-1", "--yes")
    assert cli.json("snapshot", "list") == []
    assert cli("snapshot", "delete", "run-1").code == 3


def test_assets(cli: Typed, folder: Path, tmp_path: Path) -> None:
    """An asset is found by path, id and sha256, and its bytes come back as they were taken."""
    (row,) = cli.json("asset", "show", "vision.tiles@v1", "train/10.png")
    for word in (row["asset_id"], row["sha256"], row["sha256"].upper()):
        assert cli.json("asset", "show", "vision.tiles", word) == [row]
    out = tmp_path / "got.png"
    cli.ok("asset", "get", "vision.tiles", row["asset_id"], "-o", out)
    assert out.read_bytes() == (folder / "tiles/train/10.png").read_bytes()
    assert cli("asset", "get", "vision.tiles", "train/10.png", "-o", out).code == 5
    cli.ok("asset", "get", "vision.tiles", "test/30.png", "-o", out, "--overwrite")
    assert out.read_bytes() == (folder / "tiles/test/30.png").read_bytes()
    assert cli("asset", "show", "vision.tiles", "none.png").code == 3
    assert cli("asset", "show", "pets", "x").code == 2
    assert "length      " in cli.ok("asset", "show", "vision.tiles", "train/10.png").stdout


def test_damaged_assets_are_not_handed_out(cli: Typed, tmp_path: Path) -> None:
    """Bytes that were changed in the store are refused with exit code 6, and no file is written."""
    (row,) = cli.json("asset", "show", "vision.tiles", "train/10.png")
    pack = Path(cli.root) / row["uri"]
    pack.chmod(0o644)
    with pack.open("r+b") as file:
        file.seek(row["offset"] + 50)
        file.write(b"XX")
    assert cli("asset", "get", "vision.tiles", "train/10.png", "-o", tmp_path / "x").code == 6
    assert not (tmp_path / "x").exists()


def test_export(cli: Typed, tmp_path: Path) -> None:
    """`export` writes the state's rows, and replaces a folder only with --yes."""
    out = tmp_path / "out"
    report = cli.json("export", "pets@v1", "-o", out)
    assert report["rows"] == 3
    assert pq.read_table(out).column("id").to_pylist() == [1, 2, 3]
    assert cli.json("export", "pets", "-o", out, "--format", "csv")["dry_run"] is True
    assert [p.suffix for p in out.iterdir()] == [".parquet"]
    cli.ok("export", "pets", "-o", out, "--format", "csv", "--columns", "id", "--where", "id > 2", "--yes")
    (file,) = out.iterdir()
    assert sorted(file.read_text().split()) == ['"id"', "3", "4"]
    (out / "thesis.txt").write_text("mine")
    refused = cli("export", "pets", "-o", out, "--yes")
    assert (refused.code, cli("export", "pets", "-o", out)) == (5, refused)
    assert (out / "thesis.txt").read_text() == "mine"


def test_demo_is_wired(cli_at: Callable[[Path], Typed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`demo` shows itself in the folder that is named, else in a new one."""
    shown: list[str] = []
    monkeypatch.setattr("api.cli.demo.run", shown.append)
    cli_at(tmp_path / "root").ok("demo", tmp_path / "there")
    cli_at(tmp_path / "root").ok("demo")
    assert shown == [str(tmp_path / "there"), str(tmp_path / "root")]


def test_optimize(cli: Typed) -> None:
    """`optimize` joins small files and keeps the order of rows; a second one finds nothing to do."""
    before = cli.json("head", "pets")
    said = cli.json("optimize", "pets", "-m", "fewer files")
    assert (said["commits"], said["files_after"], said["left"]) == (1, 1, [])
    assert cli.json("head", "pets") == before
    assert (cli.json("log", "pets")[0]["operation"], cli.json("log", "pets")[0]["message"]) == (
        "OPTIMIZE",
        "fewer files",
    )
    assert "nothing to do" in cli.ok("optimize", "pets").stdout
    assert "rewritten  1 file\n" in cli.ok("optimize", "pets", "--z-order", "label,id").stdout
    assert "rewritten  1 file\n" in cli.ok("optimize", "pets", "--sort", "--full").stdout
    assert cli("optimize", "vision.tiles", "--sort", "--z-order", "path").code == 2


def test_vacuum(cli: Typed) -> None:
    """`vacuum` shows what it would free, frees it with --yes, and then finds nothing; what is published stays."""
    before, log = cli.json("head", "pets@v1"), cli.json("log", "pets")
    planned = cli.json("vacuum", "pets", "--keep-for", "0")
    assert planned["dry_run"] is True
    assert (planned["versions"], planned["datasets"][0]["kept"]) == (1, [1])
    said = cli.ok("vacuum", "pets", "--keep-for", "0")
    assert "would free  1 table version" in said.stdout
    assert "--yes" in said.stderr
    assert cli.json("vacuum", "pets", "--keep-for", "0", "--yes")["versions"] == 1
    assert "nothing to give up" in cli.ok("vacuum", "pets", "--keep-for", "0", "--yes").stderr
    assert cli.json("head", "pets@v1") == before
    assert cli.json("log", "pets") == log
    assert cli("vacuum", "pets", "--keep-for", "soon").code == 2
    assert cli("vacuum", "--orphan-age", "1h").code == 2


JSON_COMMANDS: dict[str, list[str]] = {
    "dataset list": ["dataset", "list"],
    "dataset show": ["dataset", "show", "pets"],
    "dataset create": ["dataset", "create", "cats", "--query", "from \"pets@v1\" where label = 'cat'"],
    "dataset refresh": ["dataset", "refresh", "cats", "--query", "from \"pets@v1\" where label = 'dog'"],
    "diff": ["diff", "pets@v1", "pets"],
    "doctor": ["doctor"],
    "ingest": ["ingest", "{tiles}", "--dataset", "vision.tiles"],
    "log": ["log", "pets"],
    "milestone define": ["milestone", "define", "spring", "pets"],
    "milestone publish": ["milestone", "publish", "spring"],
    "milestone show": ["milestone", "show", "spring"],
    "milestone list": ["milestone", "list"],
    "milestone status": ["milestone", "status", "spring"],
    "milestone compare": ["milestone", "compare", "spring/v1", "spring/v1"],
    "milestone watch": ["milestone", "watch", "--once"],
    "data-tag list": ["data-tag", "list"],
    "optimize": ["optimize", "pets"],
    "publish": ["publish", "pets"],
    "promote": ["promote", "pets@v2", "REVIEWED"],
    "run features": ["run", "features", "vision.tiles", "--workers", "1"],
    "lineage": ["lineage", "vision.tiles_features"],
    "export": ["export", "pets", "-o", "{tiles}/../out"],
    "asset show": ["asset", "show", "vision.tiles", "train/10.png"],
    "schema show": ["schema", "show", "pets"],
    "schema list": ["schema", "list", "pets"],
    "show": ["show", "pets@v1"],
    "snapshot create": ["snapshot", "create", "s", "pets"],
    "snapshot list": ["snapshot", "list"],
    "status": ["status"],
    "restore": ["restore", "pets", "@v1", "--yes"],
    "expire": ["expire", "pets", "--keep-last", "1"],
    "hold set": ["hold", "set", "pets", "--reason", "case 7"],
    "hold list": ["hold", "list"],
    "tag set": ["tag", "set", "pets@v1", "prod"],
    "tag list": ["tag", "list", "pets"],
    "tag log": ["tag", "log", "pets"],
    "metadata set": ["metadata", "set", "pets", "shelter=Basel"],
    "metadata list": ["metadata", "list", "pets"],
    "metadata remove": ["metadata", "remove", "pets", "shelter"],
    "dataset search": ["dataset", "search", "pets"],
    "audit log": ["audit", "log", "pets@prod"],
    "audit reads": ["audit", "reads", "pets@v1", "-n", "1"],
    "audit fetches": ["audit", "fetches", "pets@v1"],
    "audit verify": ["audit", "verify"],
    "vacuum": ["vacuum", "--keep-for", "0"],
    "verify": ["verify"],
    "check add": ["check", "add", "pets", "accepted_values", "--columns", "label", "--set", "values=[cat, dog, emu]"],
    "check list": ["check", "list", "pets"],
    "check run": ["check", "run", "pets@v1", "--samples"],
    "check results": ["check", "results", "pets@v1"],
    "stats": ["stats", "pets@v1"],
    "diff --stats": ["diff", "pets@v1", "pets", "--stats"],
    "schema evolve": ["schema", "evolve", "pets", "--add", "size:int32"],
    "deprecate": ["deprecate", "pets@v1", "--reason", "labels are shifted"],
    "dataset delete": ["dataset", "delete", "pets"],
    "dataset rename": ["dataset", "rename", "pets", "animals"],
    "dataset unalias": ["dataset", "unalias", "pets"],
    "retention set": ["retention", "set", "main", "--keep-last", "2"],
    "retention list": ["retention", "list"],
    "retention remove": ["retention", "remove", "main"],
    "user add": ["user", "add", "bob"],
    "user list": ["user", "list"],
    "user remove": ["user", "remove", "bob"],
    "grant add": ["grant", "add", "bob", "reader", "main.*"],
    "grant list": ["grant", "list"],
    "grant remove": ["grant", "remove", "bob", "main.*"],
    "token create": ["token", "create", "bob"],
    "token list": ["token", "list"],
    "access show": ["access", "show"],
    "access on": ["access", "on"],
    "access check": ["access", "check", "bob", "data.read", "pets"],
}


def test_json_shapes(cli: Typed, folder: Path) -> None:
    """The JSON of every command has the keys and types that programs rely on (UPDATE_GOLDEN=1 writes them anew)."""
    found = {}
    for name, words in JSON_COMMANDS.items():
        found[name] = shape(cli.json(*(w.replace("{tiles}", str(folder / "tiles")) for w in words)))
    text = json.dumps(found, indent=1, sort_keys=True) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(text)
    assert found == json.loads(GOLDEN.read_text())


def test_every_verb_is_tested() -> None:
    """No command is without a test here: each is typed somewhere in this package's tests."""
    source = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    for verb in verbs():
        typed = ", ".join(f'"{word}"' for word in verb.words.split())
        assert typed in source, f"lakehouse {verb.words} has no test"


def test_our_errors_only(cli: Typed) -> None:
    """A condition that DuckDB takes and Delta does not is our error, not a bug."""
    assert cli("delete", "pets", "--where", "(select true)", "--yes").code == 2
    with pytest.raises(lakehouse.LakeError):
        lakehouse.connect(cli.root).table("pets").delete("(select true)")


def test_log_counts_what_a_merge_changed(cli: Typed) -> None:
    """`log` says how many rows a merge added and how many it updated."""
    newest = cli.json("log", "pets", "-n", "1")[0]
    assert (newest["rows_added"], newest["rows_removed"], newest["rows_updated"]) == (1, 0, 1)
    assert "updated" in cli.ok("log", "pets").stdout.splitlines()[0].split()


def test_diff_of_one_column(cli: Typed) -> None:
    """`diff --column` shows only that column with the key, also of added rows; an unknown one is refused at once."""
    said = cli.ok("diff", "pets@v1", "pets", "--column", "label").stdout.splitlines()
    assert said[0] == "main.pets@v1 (#1) -> main.pets@head (#2)"
    assert said[-3:] == ["   id  label", "int64  string", "    4  emu"]
    wrong = cli("diff", "pets@v1", "pets", "--column", "lable")
    assert (wrong.code, wrong.stdout) == (2, "")
    assert "column-not-found" in wrong.stderr


def test_export_says_what_the_reference_was(cli: Typed, tmp_path: Path) -> None:
    """`export` names the reference as it was given, and the table version that it resolved to."""
    assert (
        cli.ok("export", "pets@FINAL", "-o", tmp_path / "out").stdout.splitlines()[0]
        == "exported  main.pets@FINAL (#1)"
    )


def test_ingest_says_what_comes_next(cli: Typed, tmp_path: Path) -> None:
    """After an ingest stderr says where the rejects are seen, and how the state is kept."""
    path = tmp_path / "a.csv"
    path.write_text("id,n\n1,2\n2,3,4\n")
    ran = cli("ingest", path, "--dataset", "shop.orders")
    assert ran.code == 7
    assert "from rejects where run = 'ingest-" in ran.stderr
    assert "lakehouse publish shop.orders" in ran.stderr
