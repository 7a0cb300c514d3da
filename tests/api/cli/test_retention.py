"""`restore`, `expire` and `hold`: first what would happen, then what happened."""

from __future__ import annotations

from .conftest import Typed


def test_restore(cli: Typed) -> None:
    """`restore` shows rows and files now and after; with --yes head is that state, and the one before is named."""
    dry = cli.ok("restore", "pets", "@v1")
    assert dry.stdout.splitlines() == [
        "would restore  main.pets@v1 (#1)",
        "rows           4 -> 3",
        "files          1 -> 1",
    ]
    assert dry.stderr == "Nothing was changed. Run again with --yes.\n"
    assert cli.json("show", "pets")["rows"] == 4
    done = cli.ok("restore", "pets", "pets@FINAL", "--yes", "-m", "back")
    assert done.stdout.startswith("restored  main.pets@#3 is main.pets@FINAL\n")
    assert done.stderr == "The state before stays: main.pets@#2\n"
    assert [r["id"] for r in cli.json("head", "pets")] == [1, 2, 3]
    assert cli.json("show", "pets@#2")["rows"] == 4
    assert (cli.json("log", "pets")[0]["operation"], cli.json("log", "pets")[0]["message"]) == ("RESTORE", "back")
    again = cli.json("restore", "pets", "@v1", "--yes")
    assert (again["changes"], again["table_version"]) == (False, 3)
    assert "nothing to do" in cli.ok("restore", "pets", "@v1").stdout
    assert cli("restore", "pets", "vision.tiles@v1").code == 2
    assert cli("restore", "pets", "@v9").code == 3


def test_expire(cli: Typed) -> None:
    """`expire` names what would go and what stays for which reason; with --yes it is done, and said wherever it shows."""
    cli.ok("publish", "pets")
    cli.ok("delete", "pets", "--where", "id = 1", "--yes")
    cli.ok("publish", "pets", "--data-tag", "REVIEWED")
    cli.ok("tag", "set", "pets@v2", "prod")
    dry = cli.json("expire", "pets", "--keep-last", "1")
    assert dry["dry_run"] is True
    assert [v["version"] for v in dry["expired"]] == [1]
    assert [(v["version"], v["kept_by"]) for v in dry["kept"]] == [(2, ["tag prod"])]
    assert (dry["rows"], dry["files"]) == (3, 1)
    assert dry["bytes"] == dry["expired"][0]["bytes"]
    said = cli.ok("expire", "pets", "--keep-last", "1").stdout
    assert "tag prod" in said
    assert "would expire  1 version, 3 rows; a clean-up then frees 1 file" in said
    assert cli.json("expire", "--all", "--keep-tag", "final", "--keep-for", "4w")["expired"] == []
    done = cli.ok("expire", "--all", "--keep-last", "1", "--yes", "-m", "old ones")
    assert "expired  1 version, 3 rows" in done.stdout
    assert "lakehouse vacuum" in done.stderr
    gone = cli("show", "pets@v1", "--output", "json")
    assert (gone.code, gone.json["error"]["kind"]) == (5, "version-expired")
    assert [e["version"] for e in cli.json("log", "pets")] == [3, 2, None, None]
    assert cli.json("sql", "select version from versions where expired_at is not null") == [{"version": 1}]
    assert cli.json("expire", "pets", "--keep-last", "1")["expired"] == []


def test_expire_of_what_no_rule_is_about(cli: Typed) -> None:
    """When nothing expires no rule is claimed for what none is about."""
    cli.ok("retention", "set", "vision", "--keep-last", "3")
    assert "Nothing expires: rules keep every version that they are about." in cli.ok("expire", "--all").stderr


def test_expire_needs_rules(cli: Typed) -> None:
    """Neither all datasets nor all versions are meant by leaving something out."""
    for words, kind in (
        (("pets",), "rule-missing"),
        (("--keep-last", "1"), "option-invalid"),
        (("pets", "--all", "--keep-last", "1"), "option-invalid"),
        (("pets", "--keep-for", "soon"), "span-invalid"),
    ):
        said = cli("expire", *words, "--output", "json")
        assert (said.code, said.json["error"]["kind"]) == (2, kind)


def test_hold(cli: Typed) -> None:
    """A hold is set, listed, shown, keeps versions and history, and ends after a dry run."""
    cli.ok("publish", "pets")
    made = cli.json("hold", "set", "pets", "--reason", "case 7")
    assert cli.json("hold", "list") == [made]
    assert "case 7" in cli.ok("hold", "list").stdout
    assert cli.json("dataset", "show", "pets")["hold"] == "case 7"
    assert "legal hold      case 7" in cli.ok("dataset", "show", "pets").stdout
    assert cli.json("expire", "pets", "--keep-last", "1")["kept"][0]["kept_by"] == ["legal hold: case 7"]
    assert cli("vacuum", "pets").code == 5
    assert "case 7" in cli.ok("vacuum").stderr
    assert cli.json("hold", "release", "pets") == {"dry_run": True, **made}
    assert cli.json("hold", "list") == [made]
    assert cli.ok("hold", "release", "pets", "--yes", "-m", "closed").stdout.startswith("released  main.pets\n")
    assert cli.ok("hold", "list").stderr == "No dataset is under a legal hold.\n"
    assert cli("hold", "release", "pets").code == 3
