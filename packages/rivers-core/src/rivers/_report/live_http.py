"""The HTTP side of a live page: a server on loopback that refuses whoever does not know its token."""

from __future__ import annotations

import contextlib
import hmac
import secrets
import socket
import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from rivers_process.fork import close_in_children, keep_in_children

__all__ = ["LivePage", "PageServer"]

HOST = "127.0.0.1"
DEADLINE = 10.0
"""Seconds for a request to arrive, and for a browser to take what was written."""
PAUSE = 1.0
"""Seconds between two updates of a page while nothing happens: its clock goes on."""
MOST_CONNECTIONS = 32
"""Each has a thread; a browser has one for each page, and a second while it loads."""
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class LivePage(Protocol):
    """A page that changes."""

    version: int
    is_ended: bool

    def page(self, address: str) -> str:
        """Return the whole page, which gets its changes at `address`."""

    def update(self, version: int) -> tuple[int, bytes]:
        """Return the present version and the changes since another one."""

    def wait(self, version: int, timeout: float) -> bool:
        """Wait for a newer version."""


class PageServer(ThreadingHTTPServer):
    """A server of one page at a free port of 127.0.0.1, in threads of its own."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = False
    request_queue_size = MOST_CONNECTIONS

    def __init__(self, page: LivePage) -> None:
        self.page = page
        self.token = secrets.token_urlsafe(24)
        self._open: set[socket.socket] = set()
        self._slots = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self._streams = 0
        self._changed = threading.Condition()
        self._is_loaded = self._has_streamed = False
        super().__init__((HOST, 0), PageHandler)
        self.port = int(self.server_address[1])
        close_in_children(self.fileno())
        self._thread = threading.Thread(target=self.serve_forever, args=(0.1,), name="rivers-live-http", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{HOST}:{self.port}/?token={self.token}"

    def wait_for_pages(self, unopened: float, opened: float) -> None:
        """Wait until a page gets updates: for `opened` seconds if one was loaded, for `unopened` if none was."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._is_loaded, unopened):
                return
            self._changed.wait_for(lambda: self._has_streamed, opened)

    def drain(self, timeout: float) -> None:
        """Wait until all open pages got their last update."""
        with self._changed:
            self._changed.wait_for(lambda: self._streams == 0, timeout)

    def close(self) -> None:
        """Stop to serve, end all connections and free the port."""
        self.shutdown()
        self._thread.join(DEADLINE)
        # Else the thread of a browser that reads nothing would wait for its deadline.
        for connection in tuple(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        keep_in_children(self.fileno())
        self.server_close()

    def count_page(self) -> None:
        """Note that a page was loaded."""
        with self._changed:
            self._is_loaded = True
            self._changed.notify_all()

    def count_stream(self, change: int) -> None:
        """Count a page that is being updated, or that is no longer."""
        with self._changed:
            self._streams += change
            self._has_streamed = True
            self._changed.notify_all()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Handle a connection in a thread of its own, and close one that is too many."""
        if not self._slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        self._open.add(request)
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Handle a connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._open.discard(request)
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a browser that went away, as browsers do; nothing of the run depends on it."""


class PageHandler(BaseHTTPRequestHandler):
    """The answers of the server: `/` is the page, `/events` its changes; all else is refused."""

    server: PageServer
    timeout = DEADLINE
    server_version = "rivers"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer a request that has the token and this server's own name."""
        address = urlsplit(self.path)
        query = parse_qs(address.query)
        given = query.get("token", [""])[0].encode("utf-8", "replace")
        names = {f"{name}:{self.server.port}" for name in (HOST, "localhost")}
        # A page of elsewhere whose name was bound to 127.0.0.1 sends that name.
        if self.headers.get("Host") not in names or not hmac.compare_digest(given, self.server.token.encode()):
            self._answer(HTTPStatus.FORBIDDEN, b"expected the address that rivers printed, with its token\n")
        elif address.path == "/":
            page = self.server.page.page(f"/events?token={self.server.token}")
            self._answer(HTTPStatus.OK, page.encode("utf-8", "replace"), "text/html")
            self.server.count_page()
        elif address.path == "/events":
            self._stream(self._start(query))
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"there is only the page of the run here\n")

    def _answer(self, status: HTTPStatus, text: bytes, kind: str = "text/plain") -> None:
        self._head(status, {"Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(len(text))})
        self.wfile.write(text)

    def _head(self, status: HTTPStatus, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def _start(self, query: Mapping[str, list[str]]) -> int:
        """Return the version that the browser has: of its last update, or of its page."""
        given = self.headers.get("Last-Event-ID") or query.get("from", ["0"])[0]
        return int(given) if given.isascii() and given.isdigit() else 0

    def _stream(self, version: int) -> None:
        page = self.server.page
        self._head(HTTPStatus.OK, {"Content-Type": "text/event-stream", "Connection": "close"})
        self.server.count_stream(1)
        try:
            while True:
                page.wait(version, PAUSE)
                is_ended = page.is_ended
                version, data = page.update(version)
                self._send("update", version, data)
                if is_ended:
                    self._send("end", version, b"{}")
                    break
        except OSError:
            # The page was closed, or took nothing for too long.
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
        finally:
            self.server.count_stream(-1)

    def _send(self, event: str, version: int, data: bytes) -> None:
        # JSON has no line breaks outside of strings, and those are escaped.
        self.wfile.write(b"event: %b\nid: %d\ndata: %b\n\n" % (event.encode(), version, data))
        self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        """Log nothing: the terminal is the run's."""
