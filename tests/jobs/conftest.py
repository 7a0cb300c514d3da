"""Fixtures of the jobs: a lakehouse on each backend, and small images that are quick to make."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import lakehouse
from jobs.ingest.idx import encode_png
from lakehouse.lake import Lake


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A fresh lakehouse in a folder."""
    return lakehouse.init(tmp_path / "lake")


@pytest.fixture
def lake_anywhere(root_uri: str) -> Lake:
    """A fresh lakehouse on each backend in turn."""
    return lakehouse.init(root_uri)


@pytest.fixture
def image() -> Callable[[int], bytes]:
    """Makes a grey PNG of 16 x 16 random pixels: the same seed gives the same bytes."""

    def make(seed: int) -> bytes:
        return encode_png(np.random.default_rng(seed).integers(0, 256, (16, 16), np.uint8))

    return make


@pytest.fixture
def folder(tmp_path: Path, image: Callable[[int], bytes]) -> Callable[..., Path]:
    """Makes a folder of images: relative path -> seed of an image, or the bytes of the file."""

    def make(files: dict[str, int | bytes], name: str = "photos") -> Path:
        base = tmp_path / name
        for path, content in files.items():
            (base / path).parent.mkdir(parents=True, exist_ok=True)
            (base / path).write_bytes(image(content) if isinstance(content, int) else content)
        return base

    return make


class InterruptedJobError(Exception):
    """What a test's progress raises in the middle of a job."""


class Interrupting:
    """A progress that breaks the job off once so many items are done."""

    def __init__(self, after: int) -> None:
        self.left = after

    def total(self, items: int | None) -> None:
        """Say nothing."""

    def advance(self, items: int) -> None:
        """Break off at the set point."""
        self.left -= items
        if self.left <= 0:
            raise InterruptedJobError

    def message(self, text: str) -> None:
        """Say nothing."""


@pytest.fixture
def interrupting() -> type[Interrupting]:
    """A progress class that breaks a job off."""
    return Interrupting


@pytest.fixture
def interrupted() -> type[InterruptedJobError]:
    """What it raises."""
    return InterruptedJobError
