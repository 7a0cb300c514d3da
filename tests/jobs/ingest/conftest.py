"""The entries of the shared manifest of bad inputs, as parameters."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

_KINDS = {"image_case": ("image", "duplicate"), "archive_case": ("archive",)}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test that takes `image_case` or `archive_case` one (path, expect) per manifest entry of that kind."""
    for argument in _KINDS.keys() & set(metafunc.fixturenames):
        beside = Path(__file__).parents[4] / "shared" / "data"
        folder = Path(os.environ.get("LAKEHOUSE_TEST_DATA", beside)) / "bad-inputs"
        manifest = folder / "manifest.json"
        files: list[dict[str, Any]] = json.loads(manifest.read_text("utf-8"))["files"] if manifest.is_file() else []
        chosen = [entry for entry in files if entry["kind"] in _KINDS[argument]]
        cases = [(folder / entry["path"], entry["expect"]) for entry in chosen]
        metafunc.parametrize(argument, cases, ids=[entry["path"] for entry in chosen])
