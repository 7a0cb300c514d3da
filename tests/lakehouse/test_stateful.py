"""Any history of a lake keeps its promises: checked after every step, against a plain model."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import RULE_MARKER, run_state_machine_as_test

from tests.support.history_machine import History
from tests.support.s3 import S3Server


def run(
    place: Callable[[], str],
    *,
    examples: int,
    steps: int,
    number: int = 0,
    rules: Collection[str] = (),
    shrink: bool = True,
) -> Counter[str]:
    """Run the machine on fresh roots, the same way each time; return how often each thing happened.

    Args:
        place: Gives the roots.
        number: Seed.
        rules: Only these steps; none means all.
        shrink: Whether to look for a short history that fails.
    """
    members: dict[str, Any] = {"place": staticmethod(place), "done": Counter()}
    for name in dir(History):
        found = getattr(getattr(History, name), RULE_MARKER, None)
        if rules and found is not None and name not in rules:
            members[name] = found.function  # no step any more, but others may call it
    machine = type("History", (History,), members)
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=shrink,
    )
    try:
        run_state_machine_as_test(seed(number)(machine), settings=chosen)
    finally:
        sys.stdout.write(f"stateful test, seed {number}: {dict(members['done'])}\n")
    done: Counter[str] = members["done"]
    return done


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[], str]:
    """Give fresh local roots."""
    return lambda: str(tmp_path / uuid4().hex)


def test_history(folder: Callable[[], str]) -> None:
    """Short histories on local storage."""
    run(folder, examples=12, steps=25)


@pytest.mark.s3
def test_history_on_s3(s3_env: S3Server) -> None:
    """Short histories on S3; the first one has next to no steps."""
    run(lambda: f"s3://{s3_env.bucket}/{uuid4().hex}", examples=3, steps=20)


@pytest.mark.nightly
@pytest.mark.parametrize("number", range(1, 5))
def test_long_histories(folder: Callable[[], str], number: int) -> None:
    """Sixty histories of up to fifty steps, four times: more than 10,000 steps in all."""
    done = run(folder, examples=60, steps=50, number=number)
    assert done["examples"] == 60
