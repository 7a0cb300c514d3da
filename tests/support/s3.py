"""The S3 server of a test session: started by the first test that needs it, shared by all xdist workers."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "tools" / "s3dev.sh"
HOW_TO_GET_IT = "the S3 server is not installed; get it with: tools/s3dev.sh install (Debian, Ubuntu)"
BUCKET = "lakehouse"
FOLDER_VARIABLE = "LAKEHOUSE_TEST_S3_FOLDER"
_PREFIX = "lakehouse-s3-"
_NOT_INSTALLED = 3


class ServerMissingError(Exception):
    """The server's programs are not on this machine."""


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running server: where it listens and how to sign for it."""

    endpoint: str
    key: str = "test"
    secret: str = "testsecret"
    bucket: str = BUCKET

    @property
    def environment(self) -> dict[str, str]:
        """The variables that every client in this project reads."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": "us-east-1",
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        }


def open_session() -> None:
    """Choose the folder of this session's server and publish it to the workers; nothing is started yet.

    The process that runs the session calls this before it starts workers. Servers that a killed session left behind
    are stopped first: their folder's name carries the process id.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        pid = left.name.removeprefix(_PREFIX).partition("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            _stop(left)
    os.environ[FOLDER_VARIABLE] = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-")


def close_session() -> None:
    """Stop the server of this session, if one was started, and remove its data."""
    _stop(Path(os.environ.pop(FOLDER_VARIABLE)))


def obtain() -> S3Server:
    """Return this session's server; the first caller of all workers starts it, the others wait for it.

    Raises:
        ServerMissingError: it is not installed.
    """
    folder = Path(os.environ[FOLDER_VARIABLE])
    endpoint = folder / "endpoint"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not endpoint.exists():
            endpoint.write_text(_start(folder / "data"))
    return S3Server(endpoint.read_text())


def _start(data: Path) -> str:
    # Another process may take the port between the look and the start: then look again.
    for _ in range(3):
        port = _free_port_pair()
        result = subprocess.run([SCRIPT, "up", data, str(port)], stderr=subprocess.PIPE, text=True, check=False)
        if result.returncode == 0:
            return f"http://127.0.0.1:{port}"
        if result.returncode == _NOT_INSTALLED:
            raise ServerMissingError(HOW_TO_GET_IT)
    raise RuntimeError(f"{SCRIPT} up failed three times, at last with: {result.stderr}")


def _stop(folder: Path) -> None:
    if (folder / "data").exists():
        subprocess.run([SCRIPT, "down", folder / "data"], check=True)
    shutil.rmtree(folder, ignore_errors=True)


def _free_port_pair() -> int:
    """Return a port that is free together with its successor, below the range that outgoing connections use."""
    for port in range(20000 + os.getpid() % 5000 * 2, 32000, 2):
        with socket.socket() as first, socket.socket() as second:
            try:
                first.bind(("127.0.0.1", port))
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
    raise RuntimeError("no two neighbouring free ports between 20000 and 32000")
