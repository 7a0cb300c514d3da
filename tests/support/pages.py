"""Pages of docs/ as a reader types them: every block of commands, Python, SQL and YAML is run, from top to bottom.

- `bash`: each line is run; one that must fail ends with `# exit code 5`.
- `console`: lines after `$` are run, and print what the page shows; `...` stands for any lines, dates do not count.
- `yaml`, `csv`: are written to the files that lines name, `# spring.yaml`, up to the next such line.
- `python`, `sql`: are run as they stand; names of earlier blocks are known in later ones.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from lakehouse.lake import Lake

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_EXPECTED = re.compile(r"# exit code (\d+)$")
_DATE = re.compile(r"\d{4}-\d\d-\d\d( \d\d:\d\d)?")


class Result(Protocol):
    """What a command line did."""

    @property
    def code(self) -> int:
        """Its exit code."""

    @property
    def stdout(self) -> str:
        """Data."""

    @property
    def stderr(self) -> str:
        """Messages."""


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return the blocks of code of a page: language, text."""
    return _BLOCK.findall(page.read_text(encoding="utf-8"))


def commands(text: str) -> Iterator[tuple[list[str], int]]:
    """Iterate over the commands of a `bash` block: words without `lakehouse`, expected exit code."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            assert words[0] == "lakehouse", line
            expected = _EXPECTED.search(line)
            yield words[1:], int(expected[1]) if expected else 0


def run_page(page: Path, folder: Path, typed: Callable[..., Result], lake: Lake) -> int:
    """Run all blocks of a page in the current folder, and return how many there were."""
    names: dict[str, Any] = {"lake": lake}
    runners: dict[str, Callable[[str], None]] = {
        "bash": lambda text: _run_bash(text, typed),
        "console": lambda text: _run_console(text, typed),
        "yaml": lambda text: _write(text, folder),
        "csv": lambda text: _write(text, folder),
        "python": lambda text: exec(compile(text, str(page), "exec"), names),
        "sql": lambda text: _run_sql(text, lake),
    }
    found = blocks(page)
    for language, text in found:
        runners[language](text)
    return len(found)


def _run_bash(text: str, typed: Callable[..., Result]) -> None:
    for words, expected in commands(text):
        said = typed(*words)
        assert said.code == expected, f"{words}: exit code {said.code}\n{said.stdout}{said.stderr}"


def _run_console(text: str, typed: Callable[..., Result]) -> None:
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        line, _, shown = part.replace("\\\n", " ").partition("\n")
        [(words, _)] = commands(line)
        said = typed(*words)
        printed, wanted = (_lines(t) for t in (said.stdout + said.stderr, shown))
        pattern = "".join(r"(.*\n)*?" if w == "..." else re.escape(w + "\n") for w in wanted)
        assert re.fullmatch(pattern, "".join(f"{p}\n" for p in printed)), f"{line}\n" + "\n".join(printed)


def _lines(text: str) -> list[str]:
    lines = (_DATE.sub("DATE", line).rstrip() for line in text.splitlines())
    return [re.sub(r"(DATE) +", r"\1 ", line) for line in lines if line]


def _run_sql(text: str, lake: Lake) -> None:
    for statement in text.split(";"):
        if statement.strip():
            assert lake.sql(statement).fetchall(), f"no row: {statement}"


def _write(text: str, folder: Path) -> None:
    parts = re.split(r"^# (\S+)\n", text, flags=re.MULTILINE)
    assert not parts[0], text
    for name, content in zip(parts[1::2], parts[2::2], strict=True):
        (folder / name).write_text(content, encoding="utf-8")


__all__ = ["blocks", "commands", "run_page"]
