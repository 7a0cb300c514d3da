"""`verify`, and `publish --copy`."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

import catalog
import lakehouse

from .conftest import Typed


def test_verify(cli: Typed) -> None:
    """`verify` says that all is well, as JSON too, and deep as well as shallow."""
    assert cli.json("verify") | {"seconds": 0, "bytes": 0} == {
        "checked": 2,
        "ok": True,
        "problems": [],
        "deep": False,
        "files": 2,
        "bytes": 0,
        "seconds": 0,
    }
    ran = cli.ok("verify", "pets@v1", "pets", "--deep")
    assert ran.stdout == ""
    assert ran.stderr.startswith("All is well: 2 states, ")
    assert ran.stderr.rstrip().endswith("read whole.")
    assert cli("verify", "cats").code == 3


def test_verify_finds_problems(cli: Typed) -> None:
    """A missing file and a missing pack are told with the states that need them, and the exit code is 6."""
    lake = lakehouse.connect(cli.root)
    Path(lake.read("pets@v1").files()[0]).unlink()
    (uri,) = set(lake.read("vision.tiles@v1").to_arrow()["uri"].to_pylist())
    Path(cli.root, uri).unlink()
    ran = cli("verify", "--output", "json")
    assert ran.code == 6
    assert not ran.json["ok"]
    found = {(p["reference"], p["kind"]) for p in ran.json["problems"]}
    assert found == {("main.pets@v1", "file-missing"), ("vision.tiles@v1", "pack-missing")}
    ran = cli("verify")
    assert ran.code == 6
    assert ran.stdout.splitlines()[0].split() == ["reference", "kind", "detail"]
    assert ran.stderr.startswith("2 problems found: 2 states, ")
    damaged = cli.json("sql", "select dataset, status from readable order by dataset")
    assert damaged == [{"dataset": n, "status": "damaged"} for n in ("main.pets", "vision.tiles")]


def test_publish_copy(cli: Typed, tmp_path: Path) -> None:
    """`publish --copy` keeps a version of an adopted table when its owner cleans up; one of ours is refused."""
    theirs = str(tmp_path / "theirs")
    write_deltalake(theirs, pa.table({"id": [1, 2]}))
    catalog.adopt_dataset(lakehouse.connect(cli.root), "theirs", theirs)
    made = cli.json("publish", "theirs", "--copy")
    assert (made["dataset"], made["version"], made["rows"]) == ("main.theirs", 1, 2)
    assert [row["version"] for row in cli.json("log", "theirs")] == [1]
    write_deltalake(theirs, pa.table({"id": [3]}), mode="overwrite")
    DeltaTable(theirs).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    assert cli.json("head", "theirs@v1") == [{"id": 1}, {"id": 2}]
    gone = cli("head", "theirs@#0")
    assert gone.code == 6
    assert "lakehouse publish main.theirs --copy" in gone.stderr
    assert cli("publish", "pets", "--copy").code == 2
    assert [row["dataset"] for row in cli.json("dataset", "list")] == ["main.pets", "main.theirs", "vision.tiles"]
    assert [row["version"] for row in cli.json("log", "theirs@v1")] == [1, None]
