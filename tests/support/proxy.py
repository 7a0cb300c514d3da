"""A proxy in front of an HTTP server that breaks exchanges on purpose, so that tests can see what a client does then."""

from __future__ import annotations

import contextlib
import http.client
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

Action = Literal["pass", "drop_response", "503", "reset", "slow", "cut"]
"""What happens to one request.

pass: it is forwarded and answered. drop_response: the server processes it, and the client's connection closes without
an answer. 503: the client is told to slow down, the server never sees it. reset: the client's connection is reset, the
server never sees it. slow: the server processes it, and the answer's body comes in two parts with a pause between.
cut: the server processes it, and the connection closes in the middle of the answer's body.
"""

PAUSE_S = 0.3
"""How long a slow body pauses."""
Policy = Callable[[str, str, int], Action]
"""(method, path without query, how many times that method and path have been asked, from 1) -> what to do."""

# They belong to one connection, not to the message. Everything else passes as it is: the signature covers the Host.
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "expect", "proxy-connection"}


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request that the proxy saw; status is the server's answer, None when the server never saw the request."""

    method: str
    path: str
    action: Action
    status: int | None


class _Answer(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    body: bytes


_SLOW_DOWN = _Answer(
    503,
    [("Content-Type", "application/xml")],
    b"<Error><Code>SlowDown</Code><Message>Reduce your rate.</Message></Error>",
)


class FaultyProxy:
    """Forwards requests to `upstream` (http://host:port) and treats each as the policy says.

    Use it as a context manager; clients talk to `endpoint`. `exchanges` is the record, in the order of the answers.
    """

    def __init__(self, upstream: str, policy: Policy) -> None:
        address = urlsplit(upstream).netloc
        self.exchanges: list[Exchange] = []
        self._policy = policy
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

        class Handler(_Handler):
            proxy = self
            upstream = address

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def endpoint(self) -> str:
        """The URL that clients use in place of the server's."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def count(self, action: Action) -> int:
        """Return how many requests were treated so."""
        return sum(exchange.action == action for exchange in self.exchanges)

    def decide(self, method: str, path: str) -> Action:
        """Ask the policy about one request; one thread at a time, so a policy may keep state of its own."""
        with self._lock:
            self._counts[method, path] += 1
            return self._policy(method, path, self._counts[method, path])

    def __enter__(self) -> FaultyProxy:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Serves one client connection; each request travels over a connection of its own to the server."""

    protocol_version = "HTTP/1.1"
    proxy: FaultyProxy
    upstream: str

    def handle(self) -> None:
        # A client that goes away early is no error of the proxy's.
        with contextlib.suppress(ConnectionError):
            super().handle()

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        body = self._read_body()
        path = urlsplit(self.path).path
        action = self.proxy.decide(self.command, path)
        answer = None if action in {"503", "reset"} else self._forward(body)
        # Recorded before the client hears of it, so that a test finds the record when its call returns.
        self.proxy.exchanges.append(Exchange(self.command, path, action, answer.status if answer else None))
        if action == "reset":
            self._reset()
        elif action == "drop_response":
            self.close_connection = True
        else:
            self._send(answer or _SLOW_DOWN, action)

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers
        return b"".join(chunks)

    def _forward(self, body: bytes) -> _Answer:
        connection = http.client.HTTPConnection(self.upstream, timeout=60)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in _HOP_BY_HOP:
                connection.putheader(name, value)
        if "Transfer-Encoding" in self.headers:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        answer = _Answer(response.status, response.getheaders(), response.read())
        connection.close()
        return answer

    def _send(self, answer: _Answer, action: Action) -> None:
        # The answer to a HEAD states the length of a body that does not come.
        keep_length = self.command == "HEAD" or answer.status in {204, 304}
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            if name.lower() not in _HOP_BY_HOP and (keep_length or name.lower() != "content-length"):
                self.send_header(name, value)
        if not keep_length:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        half = len(answer.body) // 2
        self.wfile.write(answer.body[:half])
        if action == "cut":
            self.close_connection = True
            return
        if action == "slow":
            self.wfile.flush()
            time.sleep(PAUSE_S)
        self.wfile.write(answer.body[half:])

    def _reset(self) -> None:
        # Lingering for zero seconds turns the close into a reset.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.close(self.connection.detach())
        self.close_connection = True
