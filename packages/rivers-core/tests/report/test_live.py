"""The live page of a run: who may read it, its updates, and that the run waits for nobody."""

from __future__ import annotations

import http.client
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import rivers as rs
from rivers._record.redact import Redactor
from rivers._report import live, live_http
from rivers._report.live import LiveServer
from rivers._repository.observe import Observe
from rivers._repository.prepare import RunArguments

sys.path.append(str(Path(__file__).parent))

from synthetic import make_events

HEADER, EVENTS = make_events(12, mapped=3)


@pytest.fixture
def server() -> Iterator[LiveServer]:
    """A server of a run without events; after the test none of its threads is left."""
    before = set(threading.enumerate())
    server = LiveServer(HEADER, Redactor(()))
    yield server
    # A page that was loaded and never asks for updates is not waited for here.
    server._server._has_streamed = True
    server.close()
    left = set(threading.enumerate()) - before
    for thread in left:
        thread.join(5)
    assert [] == [thread for thread in left if thread.is_alive()]


def get(url: str, path: str | None = None, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """Return status and text of a request to the server of that address."""
    host, _, rest = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=10)
    connection.request("GET", f"/{rest}" if path is None else path, headers=headers or {})
    response = connection.getresponse()
    status, text = response.status, response.read().decode()
    connection.close()
    return status, text


class Stream:
    """The events of a page, as a browser gets them."""

    def __init__(self, url: str, headers: dict[str, str] | None = None) -> None:
        host, _, query = url.removeprefix("http://").partition("/?")
        self.connection = http.client.HTTPConnection(host, timeout=10)
        self.connection.request("GET", f"/events?{query}", headers=headers or {})
        self.response = self.connection.getresponse()

    def next(self) -> tuple[str, int, dict[str, Any]]:
        lines = []
        while line := self.response.fp.readline().rstrip(b"\n"):  # type: ignore[union-attr]  # open until its end
            lines.append(line)
        name, number, data = (line.partition(b": ")[2] for line in lines)
        return name.decode(), int(number), json.loads(data)

    def close(self) -> None:
        self.response.close()
        self.connection.close()


def test_the_page_is_served_to_who_has_its_address(server: LiveServer) -> None:
    """The address with its token gives the page, which may connect to its own server and nothing else."""
    status, text = get(server.url)

    assert 200 == status
    assert server.url.startswith("http://127.0.0.1:")
    assert "connect-src 'self';" in text
    assert 'data-live="/events?token=' in text


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/", {}),
        ("/?token=", {}),
        ("/?token=wrong", {}),
        ("/?token=%ff%fe", {}),
        ("/events?token=wrong", {}),
        (None, {"Host": "evil.example"}),
        (None, {"Host": "evil.example:80"}),
        (None, {"Host": ""}),
    ],
)
def test_everybody_else_is_refused(server: LiveServer, path: str | None, headers: dict[str, str]) -> None:
    """A request without the token, or with another server's name (DNS rebinding), gets 403 and nothing of the run."""
    status, text = get(server.url, path, headers)

    assert 403 == status
    assert "shop" not in text


def test_other_paths_and_methods_are_no_part_of_it(server: LiveServer) -> None:
    """With the token there is the page alone; nothing but GET is answered."""
    host, _, query = server.url.removeprefix("http://").partition("/?")
    assert 404 == get(server.url, f"/etc/passwd?{query}")[0]
    connection = http.client.HTTPConnection(host, timeout=10)
    connection.request("POST", f"/?{query}", body="x")
    assert 501 == connection.getresponse().status
    connection.close()


def test_it_listens_on_loopback_alone(server: LiveServer) -> None:
    """The socket is bound to 127.0.0.1, and not to the machine's other addresses."""
    assert "127.0.0.1" == server._server.socket.getsockname()[0]


def test_a_page_is_kept_up_to_date(server: LiveServer) -> None:
    """Updates have the rows that changed since the page's version, and the last one the end of the run."""
    half = len(EVENTS) // 2
    for event in EVENTS[:half]:
        server(event)
    stream = Stream(server.url)
    _, _, data = stream.next()
    while not data["attempts"]["step"]:
        _, _, data = stream.next()
    assert "running" == data["run"]["status"]

    for event in EVENTS[half:]:
        server(event)
    closing = threading.Thread(target=server.close)
    closing.start()
    updates = []
    while True:
        name, _, data = stream.next()
        if name == "end":
            break
        updates.append(data)
    closing.join(10)
    stream.close()

    assert "success" == updates[-1]["run"]["status"]
    assert len(HEADER.steps) - 1 + 3 == updates[-1]["run"]["total"]
    assert updates[-1]["analysis"]["path"]
    changed = {index for update in updates for index in update["steps"]["index"]}
    assert 0 < len(changed) <= len(HEADER.steps) + 2


def test_a_connection_that_broke_goes_on_where_it_was(server: LiveServer) -> None:
    """A browser that names its last update gets what changed since, not all again."""
    for event in EVENTS[: len(EVENTS) // 2]:
        server(event)
    stream = Stream(server.url)
    name, version, data = stream.next()
    while not data["steps"]["index"]:
        name, version, data = stream.next()
    stream.close()
    assert "update" == name

    again = Stream(server.url, {"Last-Event-ID": str(version)})
    _, _, data = again.next()
    again.close()

    assert [] == data["steps"]["index"]


def test_secrets_are_in_neither_page_nor_updates() -> None:
    """Page and updates go through the redactor of the run."""
    server = LiveServer(HEADER, Redactor({"warehouse.ingest_00", "shop.pipeline"}))
    for event in EVENTS:
        server(event)
    try:
        stream = Stream(server.url)
        text = json.dumps(stream.next()) + json.dumps(stream.next()) + get(server.url)[1]
        stream.close()
    finally:
        server.close()

    assert "shop.pipeline" not in text
    assert "warehouse.ingest_00" not in text


def test_a_browser_that_reads_nothing_does_not_hold_the_run(
    server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events are taken at once while a connection is stuck, and the end of the run waits for it no longer than set."""
    monkeypatch.setattr(live, "LAST_WORD", 0.3)
    host, _, query = server.url.removeprefix("http://").partition("/?")
    address, _, port = host.partition(":")
    with socket.create_connection((address, int(port)), timeout=10) as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        stuck.sendall(f"GET /events?{query} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        began = time.monotonic()
        for _ in range(20):
            for event in EVENTS:
                server(event)
        server.close()

        assert time.monotonic() - began < 8


def test_too_many_connections_are_closed(server: LiveServer) -> None:
    """Beyond the bound a connection is closed at once; when others have ended, the next is served."""
    host, _, _ = server.url.removeprefix("http://").partition("/")
    address, _, port = host.partition(":")
    idle = [socket.create_connection((address, int(port)), timeout=10) for _ in range(live_http.MOST_CONNECTIONS)]
    time.sleep(0.3)
    with socket.create_connection((address, int(port)), timeout=10) as more:
        assert b"" == more.recv(1)
    for one in idle:
        one.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if get(server.url)[0] == 200:
                return
        except OSError:
            time.sleep(0.05)
    pytest.fail("the server does not answer any more")


def test_close_waits_for_the_first_page() -> None:
    """With `linger` a short run is served until a browser has opened it; the end reaches that browser."""
    server = LiveServer(HEADER, Redactor(()), linger=10)
    for event in EVENTS:
        server(event)
    closing = threading.Thread(target=server.close)
    closing.start()
    status, text = get(server.url)
    stream = Stream(server.url)
    names = {stream.next()[0]}
    while "end" not in names:
        names.add(stream.next()[0])
    stream.close()
    closing.join(8)

    assert 200 == status
    assert '"status":"success"' in text or '"status":"running"' in text
    assert not closing.is_alive()
    with pytest.raises(OSError, match="refused"):
        get(server.url)


@rs.Asset
def one() -> int:
    return 1


@rs.Asset
def two(one: int) -> int:
    return one + 1


def test_a_real_run_is_served() -> None:
    """As a sink of a run the server is made with its header, gets its events, and is closed with it."""
    made: list[LiveServer] = []
    streams: list[Stream] = []

    def make(header: Any, redactor: Redactor) -> LiveServer:
        made.append(LiveServer(header, redactor))
        streams.append(Stream(made[0].url))
        return made[0]

    repository = rs.CodeRepository([one, two])
    prepared = repository._prepare(RunArguments(observe=Observe(sinks=[make])))
    prepared.carry_out(True)
    names: list[str] = []
    last: dict[str, Any] = {}
    while "end" not in names:
        name, _, data = streams[0].next()
        names.append(name)
        last = data if name == "update" else last
    streams[0].close()

    assert "success" == last["run"]["status"]
    assert {"succeeded": 2} == last["run"]["counts"]
