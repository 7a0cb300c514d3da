"""The commands about datasets made by a query."""

from __future__ import annotations

import pyarrow as pa

import lakehouse

from .conftest import Typed

CATS = "select * from \"pets@latest\" where label = 'cat'"


def test_create_by_a_query_and_refresh(cli: Typed) -> None:
    """`dataset create --query` and `dataset refresh` say what was read, what it meant and what became of the rows."""
    made = cli.ok("dataset", "create", "cats", "--query", CATS).stdout
    assert "dataset  main.cats@#1\n" in made
    assert "reads    main.pets@latest (main.pets@v1)\n" in made
    assert "rows     1\n" in made
    assert cli.json("head", "cats") == [{"id": 1, "label": "cat", "price": 0.5}]
    same = cli.ok("dataset", "refresh", "cats")
    assert "reads    main.pets@latest: main.pets@v1\n" in same.stdout
    assert "rows     1: as they were\n" in same.stdout
    assert same.stderr.startswith("Nothing is new")
    lake = lakehouse.connect(cli.root)
    lake.table("pets").append(pa.table({"id": [9], "label": ["cat"], "price": [1.0]}))
    cli.ok("publish", "pets")
    done = cli.ok("dataset", "refresh", "cats").stdout
    assert "reads    main.pets@latest: main.pets@v1 -> main.pets@v2\n" in done
    assert "rows     2: 1 added, 0 removed, 0 changed\n" in done


def test_show_tells_the_query(cli: Typed) -> None:
    """`dataset show` has the query, what it read and when; of another dataset nothing."""
    cli.ok("dataset", "create", "cats", "--query", CATS, "--description", "only cats")
    shown = cli.ok("dataset", "show", "cats").stdout
    assert f"made by query   {CATS}\n" in shown
    assert "reads           main.pets@latest (main.pets@v1)\n" in shown
    assert "refreshed       20" in shown
    told = cli.json("dataset", "show", "cats")
    assert (told["key"], told["description"], told["query"]["sql"]) == (["id"], "only cats", CATS)
    assert told["query"]["inputs"] == [{"reference": "main.pets@latest", "resolved": "main.pets@v1"}]
    assert cli.json("dataset", "show", "pets")["query"] is None
    assert "query" not in cli.ok("dataset", "show", "pets").stdout


def test_a_key_of_a_query(cli: Typed) -> None:
    """`--key` names another key, or none; one that is not unique is refused."""
    query = 'select label, price from "pets@v1"'
    cli.ok("dataset", "create", "labels", "--query", 'select label from "pets@v1" where id < 3', "--key", "label")
    assert cli.json("dataset", "show", "labels")["key"] == ["label"]
    cli.ok("dataset", "create", "none", "--query", 'from "pets@v1"', "--key", "")
    assert cli.json("dataset", "show", "none")["key"] == []
    wrong = cli("dataset", "create", "bad", "--query", query, "--key", "label", "--output", "json")
    assert (wrong.code, wrong.json["error"]["kind"]) == (2, "key-null")


def test_what_is_not_pinned_is_refused(cli: Typed) -> None:
    """The error names a pinned reference; a dataset without a query can't be refreshed."""
    refused = cli("dataset", "create", "bad", "--query", "from pets")
    assert refused.code == 2
    assert '"main.pets@v1"' in refused.stderr
    assert cli("dataset", "refresh", "pets", "--output", "json").json["error"]["kind"] == "query-missing"
    assert cli("dataset", "create", "x", "--query", CATS, "--columns", "a:int64").code == 2
