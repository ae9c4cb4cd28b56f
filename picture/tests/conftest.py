"""Pages of runs in Debian's Chromium; `nox -s picture` runs these tests."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

sys.path.append(str(Path(__file__).parents[2] / "packages/rivers-core/tests/report"))

from rich_run import rich_view
from shop_run import shop_view
from synthetic import make_view

from rivers._record.view import RunView
from rivers._report.write import write_report

OpenPage = Callable[..., Page]

VIEWS: dict[str, Callable[[], RunView]] = {
    "3": lambda: make_view(3),
    "300": lambda: make_view(240, mapped=60, failing=0.02),
    "5000": lambda: make_view(4000, mapped=1000, failing=0.004),
    "50000": lambda: make_view(40_000, mapped=10_000, failing=0.001),
    "lost": lambda: make_view(120, mapped=30, failing=0.02, until=0.6),
    "rich": rich_view,
    "shop": shop_view,
}


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the path of the picture of a run, by the run's name."""
    folder = tmp_path_factory.mktemp("pictures")

    def write(name: str) -> Path:
        path = folder / f"{name}.html"
        if not path.exists():
            view = VIEWS[name]()
            if name == "lost":
                view.end_without_word()
            write_report(view, path)
        return path

    return write


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of screenshots, which RIVERS_SCREENSHOTS names."""
    named = os.environ.get("RIVERS_SCREENSHOTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Return Debian's Chromium."""
    program = shutil.which("chromium")
    assert program is not None, "expected Debian's chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        # As root, in containers, Chromium has no sandbox of its own.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser, report: Callable[[str], Path]) -> Iterator[OpenPage]:
    """Return a function that opens the picture of a run; its page must log no error, fetch nothing and alert nobody."""
    problems: list[str] = []
    pages: list[Page] = []

    def note_request(url: str) -> None:
        if not url.startswith(("file:", "data:", "http://127.0.0.1:")):
            problems.append(f"request of {url}")

    def open_it(
        name: str = "", *, url: str = "", scheme: str = "light", width: int = 1280, height: int = 900, mark: str = ""
    ) -> Page:
        page = browser.new_page(
            viewport={"width": width, "height": height},
            color_scheme="dark" if scheme == "dark" else "light",
            reduced_motion="reduce",
            locale="en-GB",
            timezone_id="UTC",
        )
        pages.append(page)
        page.on("console", lambda m: problems.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: (problems.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: note_request(request.url))
        page.goto(url or f"{report(name).as_uri()}{mark}")
        page.wait_for_selector("[data-ready]", state="attached")
        return page

    yield open_it
    for page in pages:
        page.close()
    assert [] == problems
