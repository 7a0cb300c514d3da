"""A tiny lakehouse, and a way to type commands into it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image
from typer.testing import CliRunner

import catalog
import jobs
import lakehouse
from api.cli.main import app


@dataclass(frozen=True)
class Ran:
    """What one command line did."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The JSON on stdout."""
        return json.loads(self.stdout)


class Typed:
    """Types command lines, in this process, against one root.

    Args:
        root: Given as --root before each command.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = str(root)

    def __call__(self, *words: str | Path, stdin: str | None = None) -> Ran:
        """Run one command line."""
        result = CliRunner().invoke(app, ["--root", self.root, *map(str, words)], input=stdin, prog_name="lakehouse")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return Ran(result.exit_code, result.stdout, result.stderr)

    def ok(self, *words: str | Path, stdin: str | None = None) -> Ran:
        """Run one command line that must succeed."""
        ran = self(*words, stdin=stdin)
        assert ran.code == 0, f"{words}: exit code {ran.code}\n{ran.stdout}{ran.stderr}"
        return ran

    def json(self, *words: str | Path) -> Any:
        """Run one command line that must succeed, and return its JSON."""
        return self.ok(*words, "--output", "json").json


ROWS = pa.table({"id": [1, 2, 3], "label": ["cat", "dog", None], "price": [0.5, None, 2.0]})


@pytest.fixture(scope="session")
def _template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lakehouse with a table `main.pets` (v1 FINAL, then one more row) and three images in `vision.tiles` (v1)."""
    folder = tmp_path_factory.mktemp("cli")
    lake = lakehouse.init(folder / "lake", actor="ada")
    catalog.create_dataset(lake, "pets", ROWS.schema, key=["id"])
    lake.table("pets").append(ROWS, message="first rows")
    catalog.publish(lake, "pets", data_tag="FINAL", message="checked")
    lake.table("pets").merge(pa.table({"id": [2, 4], "label": ["wolf", "emu"], "price": [None, 7.25]}))
    tiles = folder / "tiles"
    for split, shade in (("train", 10), ("train", 20), ("test", 30)):
        path = tiles / split / f"{shade}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.linear_gradient("L").point(lambda v, s=shade: (v * s) % 251).save(path)
    jobs.ingest(lake, tiles, dataset="vision.tiles", license="CC0-1.0")
    catalog.publish(lake, "vision.tiles")
    return folder


@pytest.fixture
def folder(_template: Path, tmp_path: Path) -> Path:
    """A fresh copy of the lakehouse (`lake`) and of its source images (`tiles`)."""
    shutil.copytree(_template, tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def cli(folder: Path) -> Typed:
    """Types command lines into a fresh copy of the lakehouse."""
    return Typed(folder / "lake")


@pytest.fixture
def cli_at() -> Callable[[Path | str], Typed]:
    """Makes a typist for any root."""
    return Typed
