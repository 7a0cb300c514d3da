"""Commands: `lakehouse audit ...`."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from .conftest import Typed


def test_audit_log(cli: Typed) -> None:
    """`audit log` lists decisions and commits newest first, of everything or of one thing, and filters them."""
    cli.ok("tag", "set", "pets@v1", "prod")
    lines = cli.ok("audit", "log", "pets").stdout.splitlines()
    assert lines[0].split()[:4] == ["time", "actor", "action", "resource"]
    assert lines[1].split()[3:5] == ["tag.set", "main.pets@prod"]
    found = cli.json("audit", "log", "pets", "--action", "version", "--actor", "ada", "--since", "1d")
    assert [(e["action"], e["resource"]) for e in found if e["resource"] != "main.pets"] == [
        ("version.publish", "main.pets@v1")
    ]
    assert len(cli.json("audit", "log", "-n", "3")) == 3
    assert {e["resource"].partition("@")[0] for e in cli.json("audit", "log")} > {"main.pets", "vision.tiles"}
    assert "Nothing was decided" in cli.ok("audit", "log", "--actor", "nobody").stderr
    assert cli("audit", "log", "pots").code == 3
    assert cli("audit", "log", "pets", "--since", "soon").code == 2


def test_audit_reads_and_fetches(cli: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    """`audit reads` says who opened a state, `audit fetches` how often; what is only looked up is not read."""
    monkeypatch.setenv("LAKEHOUSE_ACTOR", "eve")
    monkeypatch.setenv("LAKEHOUSE_CONSUMER", "viewer")
    cli.ok("head", "pets@v1")
    cli.ok("sql", 'select * from "pets@v1"')
    cli.ok("tag", "set", "pets@v1", "prod")
    written = Path(cli.root, "_system/spool/reads")
    while len(list(written.iterdir())) < 2:  # both commands ran in this process, which has not ended
        pass
    [one, other] = cli.json("audit", "reads", "pets@v1")
    assert {(e["actor"], e["consumer"], e["version"], e["opens"]) for e in (one, other)} == {("eve", "viewer", 1, 1)}
    assert cli.ok("audit", "reads", "pets@v1").stdout.splitlines()[1].split()[2:5] == ["eve", "viewer", "main.pets@v1"]
    [fetch] = cli.json("audit", "fetches", "pets")
    assert (fetch["opens"], fetch["actors"], fetch["bytes"]) == (2, ["eve"], 2 * cli.json("show", "pets@v1")["bytes"])
    assert "Nobody has opened it." in cli.ok("audit", "fetches", "vision.tiles").stderr
    assert cli("audit", "reads", "pots").code == 3


def test_audit_verify(cli: Typed) -> None:
    """`audit verify` prints the head of a chain that matches; it names what does not, with exit code 6."""
    said = cli.json("audit", "verify")
    assert (said["ok"], said["uncovered"], said["problem"]) == (True, 0, None)
    assert f"head     {said['head']}" in cli.ok("audit", "verify", "--head", said["head"]).stdout
    assert cli("audit", "verify", "--head", "nonsense").code == 2
    wrong = cli("audit", "verify", "--head", "0" * 64)
    assert (wrong.code, "is no part of the chain" in wrong.stderr) == (6, True)
    ledger = str(Path(cli.root, "_system/ledger"))
    rows = DeltaTable(ledger).to_pyarrow_dataset().to_table()
    actors = pa.array(["mallory"] * rows.num_rows, pa.string())
    write_deltalake(ledger, rows.set_column(rows.schema.names.index("actor"), "actor", actors), mode="overwrite")
    broken = cli("audit", "verify")
    assert broken.code == 6
    assert "Problem: Ledger commit 1 " in broken.stderr
    assert cli("audit", "verify", "--output", "json").json["ok"] is False
