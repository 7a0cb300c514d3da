"""Commands about checks and statistics."""

from __future__ import annotations

from pathlib import Path

import pytest

import jobs.features.image
from api.cli.checking import KINDS
from api.cli.reference import DOCS

from .conftest import Typed


def test_checks(cli: Typed) -> None:
    """A check is added, listed, run with exit code 5 for a failing error, told about, and removed after a dry run."""
    words = ("check", "add", "pets", "accepted_values", "--columns", "label")
    made = cli.json(*words, "--set", "values=[cat, dog]", "--name", "known")
    assert (made["name"], made["parameters"], made["severity"]) == ("known", {"values": ["cat", "dog"]}, "error")
    cli.ok("check", "add", "pets", "range", "--columns", "price", "--set", "min=1", "--severity", "warning")
    assert 'values=["cat", "dog"]' in cli.ok("check", "list", "pets").stdout
    ran = cli("check", "run", "pets", "--samples")
    assert ran.code == 5
    assert "known        FAILED  error           2     4" in ran.stdout
    assert '{"id": 2, "label": "wolf"}' in ran.stdout
    assert "2 checks failed." in ran.stderr
    assert cli("check", "run", "pets@v1", "--check", "known").code == 0
    assert cli.json("check", "run", "pets", "--check", "range_price")[0]["ok"] is False
    assert cli("check", "run", "pets", "--check", "unknown").code == 3
    assert [r["failures"] for r in cli.json("check", "results", "pets", "--samples")] == [2, 1]
    assert "See what fails with --samples" in cli.ok("check", "results", "pets").stderr
    view = "select name, ok, version, json_array_length(samples) as samples from check_results where version is null"
    assert cli.json("sql", view + " order by name") == [
        {"name": "known", "ok": False, "version": None, "samples": 2},
        {"name": "range_price", "ok": False, "version": None, "samples": 1},
    ]
    refused = cli("publish", "pets", "--output", "json")
    assert (refused.code, refused.json["error"]["kind"]) == (5, "check-failed")
    assert cli.json("check", "remove", "pets", "known")["dry_run"] is True
    cli.ok("check", "remove", "pets", "known", "--yes")
    assert [c["name"] for c in cli.json("sql", "select name from checks")] == ["range_price"]
    published = cli.ok("publish", "pets")
    assert "published      main.pets@v2" in published.stdout


def test_declared_in_a_file(cli: Typed, tmp_path: Path) -> None:
    """`check load` takes a file, and `check list --yaml` writes it."""
    file = tmp_path / "checks.yaml"
    file.write_text("dataset: pets\nchecks:\n- {kind: unique, column: id}\n- {kind: row_count, min: 1, name: some}\n")
    assert cli.json("check", "load", file)["added"] == ["unique_id", "some"]
    written = cli.ok("check", "list", "pets", "--yaml").stdout
    file.write_text(written)
    assert cli.json("check", "load", file)["unchanged"] == ["some", "unique_id"]
    assert "row_count" in written
    assert cli("check", "load", tmp_path / "none.yaml").code == 3


def test_parameters_are_yaml_or_text(cli: Typed) -> None:
    """A pattern is a text, whatever YAML would make of it; what is neither is refused."""
    cli.ok("check", "add", "pets", "regex", "--columns", "label", "--set", "pattern=[a-z]+")
    cli.ok("check", "add", "pets", "sql", "--set", "query=select id from pets where id < 0", "--name", "positive")
    cli.ok("check", "add", "pets", "schema", "--set", "types={id: int64}")
    assert cli.ok("check", "run", "pets").stdout.count(" ok ") == 3
    for wrong in ("min", "min=[", "=3"):
        said = cli("check", "add", "pets", "range", "--columns", "id", "--set", wrong)
        assert (said.code, "option-invalid" in said.stderr) == (2, True)
    assert cli("check", "add", "pets", "nonsense").code == 2


def test_images_that_do_not_decode(cli: Typed) -> None:
    """`image_decodes` reads the assets and names the damaged one, and keeps it from being published."""
    (row,) = cli.json("asset", "show", "vision.tiles", "train/10.png")
    pack = Path(cli.root) / row["uri"]
    pack.chmod(0o644)
    with pack.open("r+b") as data:
        data.seek(row["offset"])
        data.write(b"broken!!")
    cli.ok("check", "add", "vision.tiles", "image_decodes")
    said = cli("check", "run", "vision.tiles", "--samples", "--output", "json")
    assert said.code == 5
    (found,) = said.json
    assert (found["failures"], found["rows"]) == (1, 3)
    assert (found["samples"][0]["path"], found["samples"][0]["code"]) == ("train/10.png", "not_an_image")
    assert "image_decodes: 1 failing of 3 rows" in cli("publish", "vision.tiles").stderr


def test_without_pillow(cli: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Pillow is missing the check fails and names the command that installs it."""

    def missing(_: object) -> None:
        raise jobs.features.image.missing_extra("PIL", "jobs")

    monkeypatch.setattr("catalog.check_images._decoder", missing)
    cli.ok("check", "add", "vision.tiles", "image_decodes")
    (found,) = cli("check", "run", "vision.tiles", "--output", "json").json
    assert "pip install 'lakehouse[jobs]'" in found["finding"]
    monkeypatch.setattr("catalog.check_images._decoder", None)
    (found,) = cli("check", "run", "vision.tiles", "--output", "json").json
    assert "pip install 'lakehouse[jobs]'" in found["finding"]


def test_stats(cli: Typed) -> None:
    """`stats` shows each column; the view has the same."""
    found = {row["column"]: row for row in cli.json("stats", "pets@v1")}
    assert (found["price"]["nulls"], found["price"]["mean"], found["id"]["distinct"]) == (1, 1.25, 3)
    assert found["label"]["top"] == [["cat", 1], ["dog", 1]]
    said = cli.ok("stats", "pets").stdout
    assert "distinct ~" in said
    assert "emu 1" in said
    view = "select column_name, version, nulls from column_stats where version = 1 order by column_name"
    assert [row["nulls"] for row in cli.json("sql", view)] == [0, 1, 1]


def test_diff_with_stats(cli: Typed) -> None:
    """`diff --stats` shows how each column moved."""
    found = {row["column"]: row for row in cli.json("diff", "pets@v1", "pets", "--stats")["stats"]}
    assert found["price"]["mean"] == [1.25, 3.25]
    assert found["label"]["divergence"] > 0.4
    assert found["id"]["null_shift"] == 0
    said = cli.ok("diff", "pets@v1", "pets", "--stats", "--rows", "0").stdout
    assert "drift (divergence" in said
    assert "1.25 -> 3.25" in said
    assert "stats" not in cli.json("diff", "pets@v1", "pets")


def test_every_kind_is_explained() -> None:
    """docs/checks.md explains each kind and each parameter."""
    page = (DOCS / "checks.md").read_text(encoding="utf-8")
    for name, kind in KINDS.items():
        assert f"| `{name}` |" in page
        assert all(f"`{parameter}`" in page for parameter in kind.parameters), name
