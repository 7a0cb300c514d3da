"""Worker processes: results, exceptions, prints, deaths, and scripts without a main guard."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path

import pytest

from jobs.workers import Workers
from lakehouse.errors import InternalError, InvalidInputError, NotFoundError


def test_calls_run_elsewhere_and_in_any_number() -> None:
    """Every call gives its own result, computed in another process."""
    with Workers(2) as workers:
        futures = [workers.submit(pow, 2, n) for n in range(50)]
        assert [future.result() for future in futures] == [2**n for n in range(50)]
        assert workers.submit(os.getpid).result() != os.getpid()


def test_exceptions_come_back() -> None:
    """What a call raises is raised by its future, and the worker goes on."""
    with Workers(1) as workers:
        with pytest.raises(ValueError, match="invalid literal"):
            workers.submit(int, "x").result()
        with pytest.raises(NotFoundError):
            workers.submit(_raise).result()
        assert workers.submit(int, "7").result() == 7


def _raise() -> None:
    raise NotFoundError("row-not-found", "None.")


def test_what_a_call_prints_is_not_taken_for_its_result() -> None:
    """Output of foreign code goes to stderr, not between the replies."""
    with Workers(1) as workers:
        workers.submit(os.system, "echo noise").result()
        workers.submit(print, "more noise").result()
        assert workers.submit(len, "abc").result() == 3


def test_a_worker_that_dies_is_an_error() -> None:
    """A killed process ends its call with an error, not with a wait for ever."""
    with Workers(1) as workers, pytest.raises(InternalError) as error:
        workers.submit(os._exit, 9).result()
    assert error.value.kind == "worker-died"


def test_an_error_of_the_caller_ends_the_workers() -> None:
    """Leaving the block by an error does not wait for what was submitted."""
    waiting: list[Future[None]] = []

    def job() -> None:
        with Workers(1) as workers:
            assert workers.submit(len, "started").result() == 7
            waiting.extend(workers.submit(time.sleep, 600) for _ in range(2))
            raise InvalidInputError("test", "Stop.")

    with pytest.raises(InvalidInputError):
        job()
    assert all(future.done() for future in waiting)


def test_a_plain_script_may_use_them(tmp_path: Path) -> None:
    """A script without a main guard is not started again in each worker."""
    script = tmp_path / "script.py"
    script.write_text(
        "from jobs.workers import Workers\n"
        "print('once')\n"
        "with Workers(2) as workers:\n"
        "    print(sum(f.result() for f in [workers.submit(abs, -n) for n in range(4)]))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(Path.cwd())}
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "once\n6\n", "")
