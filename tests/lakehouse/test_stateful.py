"""Any history of a lake keeps its promises: checked after every step, against a plain model."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.support.history_machine import History
from tests.support.s3 import S3Server


def run(place: Callable[[], str], *, examples: int, steps: int, number: int = 0, shrink: bool = True) -> Counter[str]:
    """Run the machine on fresh roots, the same way each time; return how often each thing happened."""
    phases = (Phase.generate, Phase.shrink) if shrink else (Phase.generate,)
    machine = type("History", (History,), {"place": staticmethod(place), "done": Counter()})
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        database=None,
        deadline=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    try:
        run_state_machine_as_test(seed(number)(machine), settings=chosen)
    finally:
        sys.stdout.write(f"stateful test, seed {number}: {dict(machine.done)}\n")
    return machine.done


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[], str]:
    """Give fresh local roots."""
    return lambda: str(tmp_path / uuid4().hex)


def test_history(folder: Callable[[], str]) -> None:
    """Short histories on local storage."""
    run(folder, examples=15, steps=25)
