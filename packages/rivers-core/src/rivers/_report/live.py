"""Serve the picture of a run while it goes on: the page, and the changes since as server-sent events.

run ── event ──▶ queue ──▶ fold (thread) ──▶ RunView ◀── lock ── a thread for each connection ──▶ browser
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

from rivers._events.event import Event
from rivers._record.header import RunHeader
from rivers._record.redact import Redactor
from rivers._record.view import RunView
from rivers._report.analysis import analyse
from rivers._report.data import Json, all_phases, page_data, run_data, step_data
from rivers._report.dependencies import ready_time
from rivers._report.live_http import PageServer
from rivers._report.phases import phases_of
from rivers._report.write import encode, page_html

__all__ = ["LiveRun", "LiveServer"]

INTERVAL = 0.5
"""Seconds between two updates of the view: a page that changes more often cannot be read."""
ANALYSIS_SHARE = 0.05
"""The share of a core that the lanes, the critical path and the hints may take while the run goes on."""
LAST_WORD = 3.0
"""Seconds that the end of a run waits for the pages to get their last update."""


class LiveRun:
    """The view of a run that goes on, and what changed in it since a version.

    `add` may be called by the run's thread: it waits for nobody.
    """

    def __init__(self, header: RunHeader, redactor: Redactor) -> None:
        self.version = 0
        self.is_ended = False
        self._redactor = redactor
        self._view = RunView(header)
        self._queue: deque[Event] = deque()
        self._changed: dict[int, int] = {}
        self._index: dict[str, int] = {}
        self._analysis: Json | None = None
        self._analysed = -1
        self._due = 0.0
        self._condition = threading.Condition()

    def add(self, event: Event) -> None:
        """Take an event, to be folded into the view by the next `fold`."""
        self._queue.append(event)

    def fold(self, *, is_last: bool = False) -> None:
        """Take the events that were added into the view, and wake the connections."""
        with self._condition:
            if not self._queue and not is_last:
                return
            while self._queue:
                self._view.apply(self._queue.popleft())
            self.is_ended = self.is_ended or is_last
            self.version += 1
            # Steps are only ever added, so that an index stays the same.
            for index, key in enumerate(list(self._view.steps)[len(self._index) :], len(self._index)):
                self._index[key] = index
                self._changed[index] = self.version
            for key in self._view.changed:
                self._changed[self._index[key]] = self.version
            self._view.changed.clear()
            self._condition.notify_all()

    def wait(self, version: int, timeout: float) -> bool:
        """Wait until there is a newer version; False when none came within `timeout` seconds."""
        with self._condition:
            return self._condition.wait_for(lambda: self.version > version or self.is_ended, timeout)

    def page(self, address: str) -> str:
        """Return the whole page as it is now; it asks for the changes since at `address` with its version."""
        with self._condition:
            data = encode(page_data(self._view))
            version = self.version
        title = self._redactor.text(f"{self._view.header.repository if self._view.header else ''} · live")
        text = self._redactor.line(data).decode("utf-8", "replace")
        return page_html(text, title, live=f"{address}&from={version}")

    def update(self, version: int) -> tuple[int, bytes]:
        """Return the present version, and the data that changed since `version`."""
        with self._condition:
            now = time.time()
            changed = sorted(index for index, at in self._changed.items() if at > version)
            steps = list(self._view.steps.values())
            origin = self._view.started or now
            phases = {
                index: phases_of(steps[index], origin, now, ready_time(self._view, steps[index])) for index in changed
            }
            data: Json = {"run": run_data(self._view, now), **step_data(self._view, changed, phases)}
            analysis = self._analyse(now)
            if analysis is not None:
                data["analysis"] = analysis
            return self.version, self._redactor.line(encode(data))

    def _analyse(self, now: float) -> dict[str, Any] | None:
        """Return the analysis of this version, None while one of the run as it is now is not due."""
        if self._analysed == self.version:
            return self._analysis
        began = time.monotonic()
        if began < self._due and not self.is_ended:
            return None
        self._analysis = analyse(self._view, all_phases(self._view, now), now)
        self._analysed = self.version
        ended = time.monotonic()
        self._due = ended + (ended - began) / ANALYSIS_SHARE
        return self._analysis


class LiveServer:
    """An event sink that serves the picture of its run on this machine's loopback address, and keeps it up to date.

    `url` has a random token, without which every request is refused. Nothing is served once the sink is closed; pages
    that are open stay as they are. `linger` are the seconds for which `close` waits for the first page to be opened:
    a browser takes a while to start, and a run may be short.

    Raises:
        OSError: there is no free port.
    """

    def __init__(self, header: RunHeader, redactor: Redactor, *, linger: float = 0.0) -> None:
        self._run = LiveRun(header, redactor)
        self._linger = linger
        self._server = PageServer(self._run)
        self._stop = threading.Event()
        self._folding = threading.Thread(target=self._fold, name="rivers-live", daemon=True)
        self._folding.start()

    @property
    def url(self) -> str:
        """The address of the page, with its token."""
        return self._server.url

    def __call__(self, event: Event) -> None:
        self._run.add(event)

    def close(self) -> None:
        """Send the end of the run to the pages that are open, within 3 seconds, and serve no longer."""
        self._stop.set()
        self._folding.join(LAST_WORD)
        self._server.wait_for_pages(self._linger, LAST_WORD)
        self._run.fold(is_last=True)
        self._server.drain(LAST_WORD)
        self._server.close()

    def _fold(self) -> None:
        while not self._stop.wait(INTERVAL):
            self._run.fold()

    def __repr__(self) -> str:
        return f"<live page of a run at port {self._server.port}>"
