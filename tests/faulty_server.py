"""A file server on this machine that breaks off, lies about lengths, is overloaded and knows no ranges, as asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class FaultyServer:
    """What is served, by subclasses, and with which faults.

    Attributes:
        address: "http://127.0.0.1:PORT" while it serves.
        ranges: whether it can begin in the middle of a file.
        states_length: whether it says how long an answer is.
        answers_head: whether it says without sending a file how long it is, which is no request of those below.
        loses_last_chunk: whether answers come in chunks, without the one that says that there are no more.
        block: where it can begin, in multiples of bytes.
        breaks: after how many bytes each of the next answers ends.
        statuses: what each of the next requests is refused with.
        requests: path and asked range of all requests.
    """

    address: str = ""
    ranges: bool = True
    states_length: bool = True
    answers_head: bool = True
    loses_last_chunk: bool = False
    block: int = 1
    breaks: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    requests: list[tuple[str, str | None]] = field(default_factory=list)

    def body(self, path: str) -> bytes | None:
        """The file at `path`, without query; None where there is none."""
        raise NotImplementedError

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Serves until it is left."""

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler) -> None:  # noqa: N805
                self._answer(handler)

            def do_HEAD(handler) -> None:  # noqa: N805
                self._answer_head(handler)

            def log_message(handler, *_: Any) -> None:  # noqa: N805
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
            self.address = f"http://127.0.0.1:{http.server_port}"
            thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
            thread.start()
            yield
            http.shutdown()
            thread.join()

    def _answer_head(self, handler: BaseHTTPRequestHandler) -> None:
        content = self.body(handler.path.partition("?")[0])
        if not self.answers_head or content is None:
            handler.send_error(404 if self.answers_head else 405)
            return
        handler.send_response(200)
        if self.states_length:
            handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        asked = handler.headers["Range"]
        self.requests.append((handler.path, asked))
        content = self.body(handler.path.partition("?")[0])
        if self.statuses or content is None:
            handler.send_error(self.statuses.pop(0) if self.statuses else 404)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.ranges else 0
        if start and start >= len(content):
            handler.send_error(416)
            return
        handler.send_response(206 if start else 200)
        if start:
            start -= start % self.block
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        rest = content[start:]
        if self.loses_last_chunk:
            handler.send_header("Transfer-Encoding", "chunked")
            rest = b"%x\r\n%s\r\n" % (len(rest), rest)
        elif self.states_length:
            handler.send_header("Content-Length", str(len(rest)))
        handler.end_headers()
        handler.wfile.write(rest[: self.breaks.pop(0)] if self.breaks else rest)
