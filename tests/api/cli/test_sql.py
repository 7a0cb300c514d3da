"""`lakehouse sql`: results as tables and JSON, and the prompt."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from api.cli.prompt import VIEWS, statements

from .conftest import Typed

REPOSITORY = Path(__file__).parents[3]


def test_a_query_as_a_table(cli: Typed) -> None:
    """A result is a table with names and types on stdout; the count of rows is a message."""
    said = cli.ok("sql", "select id, label from pets where id < 3 order by id")
    assert said.stdout.splitlines() == ["    id  label", "bigint  varchar", "     1  cat", "     2  wolf"]
    assert said.stderr == "2 rows\n"


def test_a_query_as_json(cli: Typed) -> None:
    """Numbers that JSON can't hold are strings, NaN is null with a note, sums are numbers."""
    query = "select 9007199254740993 as big, 1.10::decimal(9,2) as d, 'nan'::float as f, sum(id) as s from pets"
    assert cli.json("sql", query) == [{"big": "9007199254740993", "d": "1.10", "f": None, "s": 10, "_nan": ["f"]}]
    assert cli.json("sql", "select * from pets where false") == []
    assert cli.json("sql", "select null::hugeint as h, [1::hugeint] as l") == [{"h": None, "l": ["1"]}]


def test_duplicate_columns(cli: Typed) -> None:
    """JSON can't hold two columns of one name, so they are refused; a table shows both."""
    query = "select 1 as a, 2 as a"
    assert cli("sql", query, "--output", "json").json["error"]["kind"] == "duplicate-column"
    assert cli.ok("sql", query).stdout.splitlines()[-1].split() == ["1", "2"]


def test_long_results_are_cut(cli: Typed) -> None:
    """A table shows 1,000 rows and says so; --all shows all; JSON streams all."""
    said = cli.ok("sql", "from range(2500)")
    assert len(said.stdout.splitlines()) == 1_002
    assert "--all" in said.stderr
    assert len(cli.ok("sql", "from range(2500)", "--all").stdout.splitlines()) == 2_502
    assert len(cli.json("sql", "from range(2500)")) == 2_500
    assert cli.ok("sql", "from range(1000)").stderr == "1,000 rows\n"


def test_errors_while_reading(cli: Typed) -> None:
    """A value that can't be cast is the query's mistake: exit code 2."""
    said = cli("sql", "select cast(label as int) from pets")
    assert said.code == 2
    assert "Could not convert" in said.stderr


def test_statements_without_result(cli: Typed, tmp_path: Path) -> None:
    """A statement that returns nothing says that it is done."""
    out = tmp_path / "pets.csv"
    cli.ok("sql", f"copy (select id from pets order by id) to '{out}' (header false)")
    assert out.read_text().split() == ["1", "2", "3", "4"]


@pytest.mark.parametrize("view", VIEWS)
def test_views(cli: Typed, view: str) -> None:
    """Each view that the prompt names can be queried."""
    assert isinstance(cli.json("sql", f"select * from lake.{view}"), list)


def test_statements_are_joined() -> None:
    """Lines become statements at a semicolon; commands stand alone; an interrupt gives up what was typed."""
    lines = iter(
        ["", "select 1;", "select", "  2", ";", r"\d", "select 3", None, "select ';", "' ;", r" \q ", "select 4"]
    )

    def read(continued: bool) -> str:
        line = next(lines, "the end")
        if line == "the end":
            raise EOFError
        if line is None:
            raise KeyboardInterrupt
        return line

    assert list(statements(read)) == ["select 1;", "select\n  2\n;", r"\d", "select ';\n' ;", r"\q", "select 4"]


def test_the_prompt_reads_a_pipe(cli: Typed) -> None:
    """Statements from a pipe run one after the other; an error does not end it; temporary tables live on."""
    stdin = "create temp table t as select 42 as n;\nselec 1;\n\\d\n\\x\n\\?\nselect n\nfrom t;\n\\q\nselect 'not reached';\n"
    said = cli.ok("sql", stdin=stdin)
    assert "main.pets\nvision.tiles\n" in said.stdout
    assert said.stdout.rstrip().endswith("42")
    assert "Error (sql-invalid)" in said.stderr
    assert "There is no \\x." in said.stderr
    assert "not reached" not in said.stdout


def _wait_for(text: bytes, terminal: int) -> None:
    """Read from a terminal until a text comes; fail after half a minute."""
    heard, deadline = b"", time.monotonic() + 30
    while text not in heard:
        ready, _, _ = select.select([terminal], [], [], 1)
        heard += os.read(terminal, 4096) if ready else b""
        assert time.monotonic() < deadline, heard


def test_the_prompt_on_a_terminal(cli: Typed, tmp_path: Path) -> None:
    """On a terminal the prompt takes several lines, keeps a history, and ends at the end of the input."""
    main, other = pty.openpty()
    environment = os.environ | {"XDG_STATE_HOME": str(tmp_path), "TERM": "dumb", "PROMPT_TOOLKIT_NO_CPR": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "api.cli.main", "--root", cli.root, "--output", "json", "sql"],
        cwd=REPOSITORY,
        env=environment,
        stdin=other,
        stdout=subprocess.PIPE,
        stderr=other,
        text=True,
    ) as process:
        os.close(other)
        try:
            for line, waited in (
                (b"select count(*) as n\r", b"lake>"),
                (b"from pets;\r", b"...>"),
                (b"\\q\r", b"lake>"),
            ):
                _wait_for(waited, main)
                os.write(main, line)
            out, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    os.close(main)
    assert json.loads(out[out.index("[\n") :]) == [{"n": 4}]
    assert "from pets;" in (tmp_path / "lakehouse/sql_history").read_text()
