"""The commands of `lakehouse milestone`, `promote` and `data-tag`."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Typed


@pytest.fixture
def spring(cli: Typed) -> Typed:
    """A milestone of two datasets whose data tags differ."""
    cli.ok("milestone", "define", "spring", "pets", "vision.tiles", "--description", "for training")
    return cli


def test_status_and_promotion(spring: Typed) -> None:
    """A milestone says what it waits for and what to type; promoted, it is published, shown, listed, read through."""
    waits = spring.json("milestone", "status", "spring")
    assert (waits["version"], waits["status"], waits["latest_version"]) == (1, "Pending", None)
    assert [(d["dataset"], d["ready"]) for d in waits["datasets"]] == [("main.pets", True), ("vision.tiles", False)]
    assert [(w["kind"], w["dataset"]) for w in waits["waiting"]] == [("tags-differ", "vision.tiles")]
    said = spring.ok("milestone", "status", "spring").stdout
    assert "vision.tiles@v1 is DRAFT, main.pets@v1 is FINAL: lakehouse promote vision.tiles@v1 FINAL" in said
    assert spring("milestone", "publish", "spring").code == 5
    promoted = spring.ok("promote", "vision.tiles@v1", "FINAL")
    assert "vision.tiles@v1 is FINAL" in promoted.stdout
    assert "Milestone main.spring: v1 is published." in promoted.stderr
    made = spring.json("milestone", "show", "spring/v1")
    assert (made["milestone"], made["version"], made["status"], made["attribute"]) == (
        "main.spring",
        1,
        "Published",
        "IS_FINAL",
    )
    assert [(d["dataset"], d["version"], d["ready"]) for d in made["datasets"]] == [
        ("main.pets", 1, True),
        ("vision.tiles", 1, True),
    ]
    assert spring.json("milestone", "publish", "spring") == made  # nothing is new
    assert [m["latest_version"] for m in spring.json("milestone", "list")] == [1]
    assert spring.json("show", "pets@spring/v1")["rows"] == 3
    assert spring.json("sql", "select count(*) as n from pets", "--milestone", "spring/v1") == [{"n": 3}]
    assert "vision.tiles  v1" in spring.ok("milestone", "show", "spring").stdout
    assert spring.json("milestone", "status", "spring")["waiting"] == []


def test_show_tells_of_notices(spring: Typed) -> None:
    """`milestone show` says which member was withdrawn or deprecated since, and why."""
    spring.ok("promote", "vision.tiles@v1", "FINAL")
    spring.ok("deprecate", "pets@v1", "--reason", "wrong labels", "--withdraw")
    assert "withdrawn: wrong labels" in spring.ok("milestone", "show", "spring/v1").stdout
    members = spring.json("milestone", "show", "spring/v1")["datasets"]
    assert [(m["notice"], m["withdrawn"]) for m in members] == [("wrong labels", True), (None, False)]


def test_publish_says_where_milestones_stand(spring: Typed) -> None:
    """After a publication each milestone of the dataset is told: what it waits for, or what was published."""
    assert "v1 waits: " in spring.ok("publish", "pets", "--data-tag", "FINAL").stderr
    assert "v1 is published" in spring.ok("publish", "vision.tiles", "--data-tag", "FINAL").stderr
    refused = spring("publish", "pets", "--version", "9")
    assert refused.code == 5
    assert "The next version of main.pets is v3, not v9" in refused.stderr
    assert spring.ok("publish", "pets", "--version", "3", "--batch", "W48", "--correction").code == 0


def test_publish_tells_of_nothing_else(spring: Typed) -> None:
    """A version that no milestone takes is no news about the version that was published before."""
    spring.ok("milestone", "define", "final", "pets", "--data-tag", "FINAL")
    assert "main.final" not in spring.ok("publish", "pets").stderr
    assert "Milestone main.final: v2 is published." in spring.ok("publish", "pets", "--data-tag", "FINAL").stderr


def test_only_what_a_command_did_is_told(cli: Typed) -> None:
    """After a publication or promotion nothing is said of versions that came before, nor where the dataset does not count."""
    cli.ok("milestone", "define", "finals", "pets", "--data-tag", "FINAL")
    cli.ok("milestone", "define", "both", "pets", "vision.tiles", "--data-tag", "FINAL")
    assert cli.json("milestone", "status", "finals")["latest_version"] == 1
    assert cli.ok("publish", "pets").stderr == ""
    [told] = cli.ok("promote", "pets@v1", "FINAL").stderr.splitlines()
    lack = "vision.tiles has no version with the data tag FINAL, v1 is DRAFT: lakehouse promote vision.tiles@v1 FINAL"
    assert told == f"Milestone main.both: v1 waits: {lack}"
    cli.ok("milestone", "define", "weekly", "pets", "vision.tiles", "--data-tag", "FINAL", "--advance", "all")
    for batch in ("W5", "W6"):
        cli.ok("publish", "pets", "--data-tag", "FINAL", "--batch", batch)
    told = cli.ok("publish", "vision.tiles", "--data-tag", "FINAL", "--batch", "W5").stderr
    assert "Milestone main.both: v1 is published." in told
    assert "Milestone main.weekly: v1 is published." in told
    assert "Milestone main.weekly: v2 waits: " in told


def test_nothing_new_by_hand(cli: Typed) -> None:
    """Publishing a milestone of which nothing is new says so, to people and programs, and keeps no message."""
    cli.ok("milestone", "define", "m", "pets", "--policy", "manual")
    made = cli.json("milestone", "publish", "m", "-m", "first")
    assert (made["new"], made["version"]) == (True, 1)
    again = cli.ok("milestone", "publish", "m", "-m", "lost")
    assert "Nothing was published: nothing new since v1." in again.stderr
    told = cli.json("milestone", "publish", "m")
    assert (told["new"], told["version"], told["message"]) == (False, 1, "first")


def test_links_are_dropped(cli: Typed) -> None:
    """An empty `--link` drops all links; who leaves a linked member out is told to."""
    link = "vision.tiles.size -> pets.id"
    assert cli.json("milestone", "define", "m", "pets", "vision.tiles", "--link", link)["links"]
    refused = cli("milestone", "define", "m", "pets")
    assert (refused.code, "lakehouse milestone define main.m main.pets --link ''" in refused.stderr) == (2, True)
    assert cli.json("milestone", "define", "m", "pets", "--link", "")["links"] == []


def test_links_that_nobody_verified(spring: Typed) -> None:
    """Links do not hold before they are counted: `orphans` says what that waits for."""
    spring.ok("milestone", "define", "spring", "pets", "vision.tiles", "--link", "vision.tiles.height -> pets.id")
    told = spring.ok("milestone", "orphans", "spring").stderr
    assert "Not verified yet: waits for\n  vision.tiles@v1 is DRAFT, main.pets@v1 is FINAL" in told
    assert "All links hold" not in told


def test_membership(spring: Typed) -> None:
    """Datasets join and leave, also by publishing."""
    spring.ok("milestone", "define", "autumn", "pets", "--policy", "manual", "--advance", "all", "--data-tag", "FINAL")
    assert "is ready" in spring.ok("publish", "pets", "--data-tag", "FINAL").stderr
    spring.ok("publish", "vision.tiles", "--data-tag", "FINAL", "--milestone", "autumn/v1")
    assert [d["dataset"] for d in spring.json("milestone", "status", "autumn")["datasets"]] == [
        "main.pets",
        "vision.tiles",
    ]
    assert "Publish it with: lakehouse milestone publish" in spring.ok("milestone", "status", "autumn").stderr
    spring.ok("milestone", "leave", "autumn", "pets")
    spring.ok("milestone", "join", "autumn", "pets")
    assert spring.json("milestone", "publish", "autumn")["version"] == 1
    assert spring("milestone", "leave", "autumn", "nothing").code == 2


def test_versions(spring: Typed) -> None:
    """Versions are compared, archived, brought back, protected, and gone back to."""
    spring.ok("promote", "vision.tiles@v1", "FINAL")
    spring.ok("publish", "pets", "--data-tag", "FINAL")
    changed = spring.json("milestone", "compare", "spring/v1", "spring/v2")[0]
    assert (changed["old_version"], changed["new_version"], changed["change"]) == (1, 2, "changed")
    assert changed["rows"] == {"added": 1, "removed": 0, "changed": 1}
    assert "changed" in spring.ok("milestone", "compare", "spring/v1", "spring/v2").stdout
    assert "would archive" in spring.ok("milestone", "archive", "spring/v1").stdout
    assert spring.json("milestone", "archive", "spring/v1", "--yes")["status"] == "Archived"
    assert spring("show", "pets@spring/v1").code == 5
    assert spring.json("milestone", "unarchive", "spring/v1")["status"] == "Published"
    spring.ok("milestone", "protect", "spring")
    refused = spring("milestone", "archive", "spring/v1", "--yes")
    assert (refused.code, spring("milestone", "archive", "spring/v1")) == (5, refused)
    assert spring.json("milestone", "protect", "spring", "--off")["protected"] is False
    assert "would restore" in spring.ok("milestone", "rollback", "spring/v1").stdout
    assert [r["dataset"] for r in spring.json("milestone", "rollback", "spring/v1", "--yes")] == [
        "main.pets",
        "vision.tiles",
    ]
    assert spring.json("show", "pets")["rows"] == 3


def test_links(cli: Typed, tmp_path: Path) -> None:
    """A link that does not hold is told with a sample of its keys; one that holds is shown as proven."""
    (tmp_path / "homes.csv").write_text("pet,street\n1,a\n77,b\n")
    cli.ok("ingest", tmp_path / "homes.csv", "--dataset", "homes")
    cli.ok("publish", "homes", "--data-tag", "FINAL")
    cli.ok("milestone", "define", "m", "pets", "homes", "--link", "homes.pet -> pets.id", "--policy", "manual")
    [found] = cli.json("milestone", "orphans", "m")
    assert (found["orphans"], found["sample"]) == (1, [{"pet": 77, "rows": 1}])
    assert "77" in cli.ok("milestone", "orphans", "m").stdout
    cli.ok("delete", "homes", "--where", "pet = 77", "--yes")
    cli.ok("publish", "homes", "--data-tag", "FINAL")
    assert "All links hold" in cli.ok("milestone", "orphans", "m").stderr
    [proof] = cli.json("milestone", "publish", "m")["links"]
    assert (proof["link"], proof["child_version"]) == ("main.homes(pet) -> main.pets(id)", 2)
    assert cli("milestone", "define", "m", "pets", "homes", "--link", "homes.pet = pets.id").code == 2


def test_versions_are_named_by_number(spring: Typed) -> None:
    """Where a version's number is needed, another word is refused with an example that can be typed."""
    refused = spring("milestone", "archive", "spring/latest", "--yes")
    assert (refused.code, "such as main.spring/v2." in refused.stderr) == (2, True)
    refused = spring("publish", "pets", "--milestone", "spring/vx")
    assert (refused.code, "The next one is main.spring/v1" in refused.stderr) == (2, True)


def test_load(cli: Typed, tmp_path: Path) -> None:
    """A milestone is defined by a file."""
    (tmp_path / "spring.yaml").write_text("milestone: spring\ndatasets: [pets]\ndata_tags: [FINAL]\n")
    assert cli.json("milestone", "load", tmp_path / "spring.yaml")["data_tags"] == ["FINAL"]
    assert cli("milestone", "load", tmp_path / "other.yaml").code == 3


def test_watch(spring: Typed) -> None:
    """`watch --once` brings all milestones as far as they can go, and says where they stand."""
    assert spring.json("milestone", "watch", "--once")[0]["status"] == "Pending"
    assert spring.json("milestone", "watch", "spring", "--once")[0]["waiting"] == 1
    assert spring("milestone", "watch", "nothing", "--once").code == 3


def test_data_tags(cli: Typed) -> None:
    """Data tags are mapped, listed and forgotten; the columns of Milestone follow."""
    cli.ok("data-tag", "set", "GOLD", "IS_GOLD", "Yellow")
    assert [t["name"] for t in cli.json("data-tag", "list")] == ["DRAFT", "REVIEWED", "FINAL", "GOLD"]
    cli.ok("milestone", "define", "m", "pets")
    assert "IS_GOLD" in cli.json("sql", "from Milestone")[0]
    cli.ok("publish", "pets", "--data-tag", "GOLD")
    shown = cli.ok("data-tag", "remove", "GOLD").stdout
    assert "IS_GOLD of the view Milestone" in shown
    assert "1 milestone version\n" in shown
    cli.ok("data-tag", "remove", "GOLD", "--yes")
    assert cli("data-tag", "remove", "GOLD").code == 3
    assert cli("data-tag", "set", "GOLD", "not a column", "Red").code == 2


def test_define_whom_to_notify(cli: Typed) -> None:
    """`--notify` tells receivers of this milestone's events; a wrong one is refused before anything is decided."""
    assert cli("milestone", "define", "m", "pets", "--notify", "team").code == 2
    assert cli("milestone", "define", "m", "pets", "--notify", "team=nowhere").code == 2
    assert cli.json("milestone", "list") == []
    cli.ok("milestone", "define", "m", "pets", "--notify", "team=http://a.example/", "--notify", "me=http://b.example/")
    found = [(s["name"], s["url"], s["milestone"]) for s in cli.json("notify", "list")]
    assert found == [("me", "http://b.example/", "main.m"), ("team", "http://a.example/", "main.m")]
