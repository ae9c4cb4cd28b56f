"""The live page in a browser: it follows a run to its end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect
from synthetic import make_events

from rivers._record.redact import Redactor
from rivers._report.live import LiveServer

OpenPage = Callable[..., Page]
HEADER, EVENTS = make_events(60, mapped=20, failing=0.1, seed=3)


@pytest.fixture
def server() -> Iterator[LiveServer]:
    """A server of a run without events."""
    server = LiveServer(HEADER, Redactor(()))
    yield server
    server.close()


def test_a_page_follows_its_run(open_page: OpenPage, server: LiveServer) -> None:
    """Counts, table, graph, timeline and an open panel change with the run, and the page stays when it has ended."""
    page = open_page(url=server.url)
    expect(page.locator(".connection")).to_have_text("Live")
    expect(page.locator(".badge")).to_have_text("Running")
    word = "Failed" if EVENTS[-1].status == "failure" else "Succeeded"
    half = len(EVENTS) // 2
    for event in EVENTS[:half]:
        server(event)
    expect(page.locator(".numbers .succeeded")).to_be_visible()
    expect(page.locator(".chips .chip.waiting")).to_be_visible()
    running = page.locator(".body .row", has=page.locator(".c-state.running")).first
    name = running.locator(".c-key").get_attribute("title") or ""
    running.click()
    panel = page.get_by_role("dialog", name=name)
    expect(panel.get_by_text("not ended")).to_be_visible()

    for event in EVENTS[half:]:
        server(event)
    expect(panel.get_by_text("not ended")).to_have_count(0)
    expect(panel.get_by_role("heading", name=name)).to_be_focused()
    closing = threading.Thread(target=server.close)
    closing.start()
    expect(page.locator(".connection")).to_have_text("No longer updated")
    closing.join(10)
    expect(page.locator(".badge")).to_have_text(word)
    expect(page.locator(".chips .chip.waiting")).to_have_count(0)
    expect(page.locator("#timeline").get_by_text("Critical path:")).to_be_visible()
