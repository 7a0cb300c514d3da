"""Commands: `dataset search`, `metadata ...` and `tag log`."""

from __future__ import annotations

from .conftest import Typed


def test_search(cli: Typed) -> None:
    """A search shows what was found where; JSON has the score, every match and the facets."""
    said = cli.ok("dataset", "search", "PRI")
    assert said.stdout.splitlines()[0].split() == ["dataset", "found", "in", "kind", "owner"]
    assert said.stdout.splitlines()[1].split() == ["main.pets", "column", "price", "table", "ada"]
    assert said.stderr == "1 dataset\n"
    found = cli.json("dataset", "search", "pets")
    assert found["hits"][0]["matched"] == [{"field": "name", "text": "pets"}]
    assert (found["total"], found["facets"]["data_tag"]) == (1, {"FINAL": 1})


def test_search_by_options(cli: Typed) -> None:
    """Options narrow the search; without words all that they let through is found, and counted by facet."""
    asked = ("--namespace", "vision", "--license", "CC0-1.0", "--kind", "assets", "--data-tag", "DRAFT")
    (hit,) = cli.json("dataset", "search", *asked, "--column", "sha256")["hits"]
    assert (hit["dataset"], hit["score"], hit["matched"]) == ("vision.tiles", 0, [])
    assert cli.json("dataset", "search", "tiles", "--owner", "nobody", "--tag", "prod")["total"] == 0
    said = cli.ok("dataset", "search", "-n", "1")
    assert said.stderr.startswith("2 datasets, 1 shown; namespace: main 1, vision 1; ")


def test_search_without_a_hit(cli: Typed) -> None:
    """Nothing found is no error: the exit code is 0, and close words are named."""
    said = cli.ok("dataset", "search", "pest")
    assert (said.stdout, said.stderr) == (
        "",
        "No dataset was found. Did you mean 'pets'? List them with: lakehouse dataset list\n",
    )
    assert cli.json("dataset", "search", "pest")["suggestions"] == ["pets"]


def test_metadata(cli: Typed) -> None:
    """Metadata is set, listed, found by search, and removed with --yes only."""
    assert cli.ok("metadata", "set", "pets", "shelter=Basel", "url=http://a/?b=c").stdout.splitlines() == [
        "shelter  Basel",
        "url      http://a/?b=c",
    ]
    assert cli.ok("metadata", "list", "pets").stdout.splitlines()[1].split()[:2] == ["shelter", "Basel"]
    assert "metadata        shelter=Basel, url=http://a/?b=c" in cli.ok("dataset", "show", "pets").stdout
    assert cli.json("dataset", "show", "pets")["metadata"] == {"shelter": "Basel", "url": "http://a/?b=c"}
    assert cli.json("dataset", "search", "basel")["hits"][0]["dataset"] == "main.pets"
    dry = cli.json("metadata", "remove", "pets", "SHELTER")
    assert dry == {"dry_run": True, "dataset": "main.pets", "metadata": {"shelter": "Basel"}}
    cli.ok("metadata", "remove", "pets", "shelter", "--yes")
    assert [m["name"] for m in cli.json("metadata", "list", "pets")] == ["url"]
    assert (cli("metadata", "set", "pets", "shelter").code, cli("metadata", "remove", "pets", "x").code) == (2, 3)


def test_tag_log(cli: Typed) -> None:
    """The history of tags says who moved which one when, from where to where."""
    cli.ok("publish", "pets")
    cli.ok("tag", "set", "pets@v1", "prod")
    cli.ok("tag", "set", "pets@v2", "prod")
    cli.ok("tag", "remove", "pets", "prod", "--yes")
    moves = cli.json("tag", "log", "pets", "prod")
    assert [(m["old"], m["new"]) for m in moves] == [(2, None), (1, 2), (None, 1)]
    table = [line.split() for line in cli.ok("tag", "log", "pets").stdout.splitlines()]
    assert table[0] == ["when", "tag", "from", "to", "by"]
    assert [row[2:5] for row in table[1:]] == [
        ["prod", "v2", "removed"],
        ["prod", "v1", "v2"],
        ["prod", "v1", moves[2]["user"]],
    ]
    assert cli.ok("tag", "log", "pets", "best").stderr == "No tag of pets was ever set as best.\n"
