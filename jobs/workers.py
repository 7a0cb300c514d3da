"""Worker processes for work that holds Python's lock: decoding, hashing, measuring.

The standard library's process pool imports the caller's main module again in each process, so that a plain script
without an `if __name__ == "__main__"` guard starts itself over and over. These workers are told what to run through a
pipe, and never see the main module. They are started afresh, not forked: our storage clients do not survive a fork.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from lakehouse.errors import InternalError

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Workers:
    """A pool of processes, each started when it is first needed.

    Args:
        count: Processes at most.
    """

    def __init__(self, count: int) -> None:
        # One thread for each process: it waits for the reply, which costs nothing.
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="workers")
        self._own = threading.local()
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is not None:
            for process in self._processes:
                process.kill()
        self._threads.shutdown(cancel_futures=kind is not None)
        for process in self._processes:
            process.communicate()

    def submit(self, function: Callable[_P, _R], *args: _P.args, **named: _P.kwargs) -> Future[_R]:
        """Run a function of an importable module in a process; arguments, result and exceptions are pickled.

        Raises (in the future):
            InternalError: the process died (worker-died), such as for want of memory.
        """
        return self._threads.submit(self._call, function, args, named)

    def _call(self, function: Callable[..., _R], args: tuple[Any, ...], named: dict[str, Any]) -> _R:
        process = getattr(self._own, "process", None)
        if process is None:
            process = self._own.process = _start()
            self._processes.append(process)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            pickle.dump((function, args, named), process.stdin, pickle.HIGHEST_PROTOCOL)
            process.stdin.flush()
            good, value = pickle.load(process.stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError) as error:
            raise InternalError(
                "worker-died",
                f"A worker process ended with status {process.wait()} in the middle of its work. "
                f"If the machine ran out of memory, use fewer workers.",
                status=process.returncode,
            ) from error
        if not good:
            raise value
        result: _R = value
        return result


def _start() -> subprocess.Popen[bytes]:
    paths = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, "-c", "from jobs.workers import serve; serve()"]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths}
    )


def serve() -> None:
    """Run what arrives on standard input, one call after the other, until it is closed: the worker's side."""
    # Whoever stops the job by Ctrl-C closes our input, too.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What foreign code prints must not get between the replies.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while True:
        try:
            function, args, named = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            reply: tuple[bool, Any] = True, function(*args, **named)
        except Exception as error:  # noqa: BLE001  # the other side raises it
            reply = False, error
        pickle.dump(reply, replies, pickle.HIGHEST_PROTOCOL)
        replies.flush()
