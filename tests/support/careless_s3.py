"""A server that speaks just enough S3 to store objects, and ignores conditions: what corrupts a table with two writers."""

from __future__ import annotations

import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import urlsplit


class CarelessS3:
    """Use it as a context manager; clients talk to `endpoint`, any bucket exists."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        objects = self.objects

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                return

            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                objects[urlsplit(self.path).path] = body  # whatever If-None-Match says
                self._answer(200, etag=hashlib.md5(body).hexdigest())

            def do_GET(self) -> None:
                body = objects.get(urlsplit(self.path).path)
                self._answer(404 if body is None else 200, body or b"")

            def do_POST(self) -> None:  # only ever a bulk delete
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                keys = re.findall("<Key>(.*?)</Key>", body)
                for key in keys:
                    objects.pop(f"{urlsplit(self.path).path}/{key}", None)
                said = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
                self._answer(200, f"<DeleteResult>{said}</DeleteResult>".encode())

            def _answer(self, status: int, body: bytes = b"", etag: str = "none") -> None:
                self.send_response(status)
                self.send_header("ETag", f'"{etag}"')
                self.send_header("Last-Modified", "Sat, 21 Nov 2026 00:00:00 GMT")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def endpoint(self) -> str:
        """The server's URL."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> CarelessS3:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
