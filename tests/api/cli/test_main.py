"""The top command: its help, lazy loading, global options, errors and exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import catalog
from api.cli.failures import EXIT_CODES
from api.cli.main import COMMANDS, app
from lakehouse import errors

from .conftest import Typed

INTERRUPTIBLE = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
"""Undoes what a shell does to processes in the background: they ignore Ctrl-C."""
REPOSITORY = Path(__file__).parents[3]


def process(*words: str, stdin: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "api.cli.main", *words],
        cwd=REPOSITORY,
        env=os.environ | environment,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def loaded_by(code: str) -> set[str]:
    """Return the names of the modules that a Python program has loaded at its end."""
    code += "\nimport sys, json; sys.stderr.write(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=120
    )
    return set(json.loads(done.stderr))


def run_main(*words: str) -> str:
    """Return a Python program that runs a command line."""
    return (
        f"import sys; sys.argv = {['lakehouse', *words]!r}\n"
        "from api.cli.main import main\ntry: main()\nexcept SystemExit: pass"
    )


def test_the_list_says_what_the_commands_say() -> None:
    """The one-line help of each command, which is known without loading it, is the command's own."""
    top: Any = get_command(app)
    for name, entry in COMMANDS.items():
        assert top.commands[name].help.splitlines()[0] == entry.help, name


def test_every_command_of_a_module_is_listed() -> None:
    """No command is left out of the list: each module's commands are all there."""
    from importlib import import_module

    from typer.main import get_group

    for module in {entry.module for entry in COMMANDS.values()}:
        own = set(get_group(import_module(f"api.cli.{module}").app).commands)
        assert own == {name for name, entry in COMMANDS.items() if entry.module == module}


def test_help_loads_nothing_heavy() -> None:
    """`lakehouse --help` loads neither the lakehouse nor any library that reads data, draws or computes."""
    loaded = loaded_by(run_main("--help"))
    heavy = {"lakehouse", "catalog", "jobs", "deltalake", "pyarrow", "polars", "duckdb", "numpy", "pandas", "rich"}
    assert not loaded & heavy


def test_show_loads_only_what_it_needs(cli: Typed) -> None:
    """`lakehouse show` reads the log with deltalake and pyarrow alone: no query engine, no pandas."""
    loaded = loaded_by(run_main("--root", cli.root, "show", "pets@v1"))
    assert "deltalake" in loaded
    assert not loaded & {"duckdb", "polars", "pandas", "PIL", "s3fs", "scipy"}


def test_global_options_stand_before_or_after(cli: Typed) -> None:
    """--root and --output mean the same before the command, after it, and after a sub-command."""
    before = process("--root", cli.root, "--output", "json", "show", "pets@v1")
    after = process("show", "pets@v1", "--root", cli.root, "--output=json")
    assert before.stdout == after.stdout
    assert json.loads(after.stdout)["rows"] == 3
    assert json.loads(process("dataset", "list", "--output", "json", "--root", cli.root).stdout)


def test_the_root_comes_from_the_environment(cli: Typed) -> None:
    """Without --root the lakehouse is the one of LAKEHOUSE_ROOT."""
    assert json.loads(process("show", "pets", "--output", "json", LAKEHOUSE_ROOT=cli.root).stdout)["rows"] == 4


def test_no_arguments_show_the_help() -> None:
    """`lakehouse` alone prints the help, with every command in it."""
    said = process()
    assert all(entry.help in said.stdout + said.stderr for entry in COMMANDS.values())


def test_version() -> None:
    """--version prints one line and needs no command."""
    done = process("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("lakehouse ")


@pytest.mark.parametrize(
    ("words", "code", "kind"),
    [
        (["show", "pets@@"], 2, "reference-invalid"),
        (["show", "nothing"], 3, "dataset-not-found"),
        (["tag", "set", "pets@head", "prod"], 5, "version-not-published"),
        (["dataset", "create", "pets", "--columns", "a:int64"], 5, "dataset-exists"),
        (["dataset", "create", "new", "--columns", "a:blob7"], 2, "type-unknown"),
        (["sql", "selec 1"], 2, "sql-invalid"),
        (["milestone", "show", "spring"], 3, "milestone-not-found"),
    ],
)
def test_errors(cli: Typed, words: list[str], code: int, kind: str) -> None:
    """An error is a sentence on stderr for people, an object on stdout for programs, and its class's exit code."""
    said = cli(*words)
    assert (said.code, said.stdout) == (code, "")
    assert said.stderr.startswith(f"Error ({kind}): ")
    assert "Traceback" not in said.stderr
    told = cli(*words, "--output", "json")
    assert (told.code, told.stderr) == (code, "")
    assert told.json["error"]["kind"] == kind
    assert set(told.json["error"]) == {"kind", "message", "context"}


def test_storage_errors(cli: Typed) -> None:
    """A damaged table is exit code 6."""
    data = cli.json("dataset", "show", "pets")["location"]
    for log in (Path(cli.root) / data / "_delta_log").glob("*.json"):
        log.write_text("{")
    assert cli("show", "pets").code in (3, 6)


def test_no_lakehouse(cli_at: Any, tmp_path: Path) -> None:
    """A root without a lakehouse is not found, and the message says how to make one."""
    said = cli_at(tmp_path / "none")("status")
    assert said.code == 3
    assert "lakehouse init" in said.stderr


def test_every_error_class_has_an_exit_code() -> None:
    """The table from classes to exit codes is complete."""
    classes = {c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.LakeError)}
    assert set(EXIT_CODES) == classes - {errors.LakeError}


@pytest.mark.parametrize("words", [["shw"], ["show"], ["show", "pets", "--rot", "x"], ["head", "pets", "-n", "many"]])
def test_usage_errors(cli: Typed, words: list[str]) -> None:
    """A mistyped command line is exit code 2, and an error object for programs."""
    said = cli(*words)
    assert (said.code, said.stdout) == (2, "")
    assert "Usage: lakehouse" in said.stderr
    told = cli(*words, "--output", "json")
    assert told.code == 2
    assert told.json["error"]["kind"] == "usage"


def test_near_misses_are_suggested(cli: Typed) -> None:
    """A mistyped command or option names the one that was meant."""
    assert "'status'" in cli("statu").stderr
    assert "--limit" in cli("log", "pets", "--limt", "3").stderr


def test_a_bug_is_reported_as_one(cli: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no error of ours ends with exit code 1, its traceback and how to report it."""
    monkeypatch.setattr(catalog, "status", lambda lake: 1 / 0)
    said = cli("status")
    assert said.code == 1
    assert "ZeroDivisionError" in said.stderr
    assert "Please report it" in said.stderr
    assert cli("status", "--output", "json").json["error"]["kind"] == "internal-error"


def test_a_missing_extra_names_the_install_command(cli: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is not installed is no bug: the message says what to install."""

    def fail(lake: object) -> None:
        raise ModuleNotFoundError("No module named 'PIL'", name="PIL.Image")

    monkeypatch.setattr(catalog, "status", fail)
    said = cli("status")
    assert said.code == 2
    assert "pip install 'lakehouse[jobs]'" in said.stderr


def test_verbose_logs_to_stderr(cli: Typed) -> None:
    """-v adds log lines with named fields to stderr; stdout stays data."""
    done = process("show", "pets", "-v", "--output", "json", "--root", cli.root)
    assert json.loads(done.stdout)["rows"] == 4
    assert f"INFO api.cli.command opened root={cli.root}" in done.stderr


def test_a_reader_that_stops_early_is_no_error(cli: Typed) -> None:
    """`lakehouse sql ... | head -2` ends without a traceback, with the code of a closed pipe and not that of a bug."""
    command = f"'{sys.executable}' -m api.cli.main --root '{cli.root}' sql 'from range(300000)' --output json"
    command += " | head -2; exit ${PIPESTATUS[0]}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout == '[\n{"range": 0},\n'
    assert (done.stderr, done.returncode) == ("", 141)


def test_interrupt_ends_a_query(cli: Typed) -> None:
    """Ctrl-C ends a query that would compute for hours."""
    words = ["--root", cli.root, "-v", "sql", "select count(*) from range(10000000) a, range(10000000) b where a <> b"]
    command = [sys.executable, "-c", f"{INTERRUPTIBLE}\n{run_main(*words)}"]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stderr is not None
        assert b"opened" in running.stderr.readline()
        time.sleep(1)  # Into the query; before it, the same signal is a KeyboardInterrupt with code 130.
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=60) in (-signal.SIGINT, 130)
