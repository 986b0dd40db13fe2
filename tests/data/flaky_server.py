"""A web server that misbehaves on purpose: it drops connections, ignores ranges, sends wrong bytes."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest import mock


class FlakyServer:
    """What is served and how.

    Attributes:
        files: path without the leading slash -> content.
        drop_after: for each further request the bytes of the body after which the connection is closed;
            None, and what follows the last entry, sends everything.
        ranges: whether Range requests are honoured.
        status: answer every request with this status instead.
        headers: what every answer says besides.
        requests: (path, Range header or None) of each request so far.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.drop_after: Iterator[int | None] = iter(())
        self.ranges = True
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.url = ""


@contextmanager
def serve() -> Iterator[FlakyServer]:
    """A running server on a free port of this machine."""
    plan = FlakyServer()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            path = self.path.lstrip("/")
            self.send_response(plan.status or (200 if path in plan.files else 404))
            self._more_headers()
            if path in plan.files:
                self.send_header("ETag", f'"{hashlib.sha1(plan.files[path]).hexdigest()}"')
                self.send_header("Content-Length", str(len(plan.files[path])))
            self.end_headers()

        def _more_headers(self) -> None:
            for name, value in plan.headers.items():
                self.send_header(name, value)

        def do_GET(self) -> None:
            path, asked = self.path.lstrip("/"), self.headers.get("Range")
            plan.requests.append((path, asked))
            if plan.status or path not in plan.files:
                self.send_error(plan.status or 404)
                return
            whole = plan.files[path]
            start = int(re.findall(r"\d+", asked)[0]) if asked and plan.ranges else 0
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(whole) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(whole) - 1}/{len(whole)}")
            self.end_headers()
            length = next(plan.drop_after, None)
            self.wfile.write(whole[start : None if length is None else start + length])

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    plan.url = f"http://127.0.0.1:{server.server_port}"
    try:
        with mock.patch.dict(os.environ, {"no_proxy": "127.0.0.1"}):
            yield plan
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
