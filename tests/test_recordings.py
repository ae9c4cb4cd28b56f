"""The terminal of the documentation's landing page is a recording of a real run.

`RIVERS_UPDATE_IMAGES=1 pytest tests/test_recordings.py` writes docs/images/terminal.svg anew.
"""

from __future__ import annotations

import os
import re
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "packages/rivers-core/tests/terminal"))
sys.path.append(str(ROOT / "tests"))

from terminal import Terminal  # noqa: E402 - the tests of live progress have a terminal; it is no package
from terminal_svg import Frame, frame, svg  # noqa: E402

IMAGE = ROOT / "docs/images/terminal.svg"
COLUMNS, ROWS = 92, 20
FLIGHTS = """
import time

import rivers as rs


@rs.Asset
def flights() -> list[str]:
    time.sleep(0.5)
    return ["UA,EWR,11", "AA,JFK,33", "AA,LGA,n/a"]


@rs.Asset(retry=rs.RetryPolicy(2, backoff=rs.Backoff.constant(1)))
def weather(context: rs.AssetExecutionContext) -> dict[str, str]:
    time.sleep(0.3)
    if context.attempt == 1:
        raise ConnectionError("the service does not answer")
    return {"EWR": "rain"}


@rs.Asset
def mean_delay(flights: list[str]) -> float:
    minutes = 0
    for flight in flights:
        minutes += int(flight.split(",")[2])
    return minutes / len(flights)


@rs.Task
def airports(flights: list[str]) -> list[int]:
    return list(range(12))


@rs.Task
def summary(airport: int) -> int:
    time.sleep(0.3)
    return airport


@rs.Task
def table(summaries: list[int]) -> int:
    return len(summaries)


@rs.Asset.from_graph
def by_airport(flights):
    return table(airports(flights).map(summary).collect())


@rs.Asset
def report(mean_delay: float, by_airport: int, weather: dict[str, str]) -> str:
    return ""


repo = rs.CodeRepository(assets=[flights, weather, mean_delay, by_airport, report])
"""
SHOWN = "rivers run flights.py --executor parallel --set max_workers=2"


def record(folder: Path) -> list[Frame]:
    """Run the example in a terminal and return the screens that differ, at most about five a second."""
    (folder / "flights.py").write_text(FLIGHTS)
    command = f"cd {folder}; printf '\\033[32m$\\033[0m {SHOWN}\\n'; exec {Path(sys.executable).parent}/{SHOWN}"
    frames: list[Frame] = []
    start = time.monotonic()
    with Terminal("sh", "-c", command, columns=COLUMNS, rows=ROWS, PYTHONDONTWRITEBYTECODE="") as terminal:
        deadline = start + 40
        goes_on = True
        while goes_on and time.monotonic() < deadline:
            goes_on = terminal.read(0.2)
            shot = frame(terminal.screen, time.monotonic() - start)
            if not frames or frames[-1][1] != shot[1]:
                frames.append(shot)
        assert 1 == terminal.finish()
    return frames


def text_of(shot: Frame) -> str:
    """Return a frame as text."""
    return "\n".join("".join(text for text, _ in runs).rstrip() for runs in shot[1])


def test_the_recording_of_the_landing_page(tmp_path: Path) -> None:
    """The live rows, a retry, a failure with the user's own line and the summary can be seen in the recording."""
    frames = record(tmp_path)
    texts = [text_of(shot) for shot in frames]

    assert any(re.search(r"by_airport/summary +\d+ of 12 done", text) for text in texts)
    assert any("↻ weather" in text for text in texts)
    assert "minutes += int(flight.split" in texts[-1]
    assert "1 failed, 1 skipped" in texts[-1]
    image = svg(frames, COLUMNS, ROWS, f"A terminal: {SHOWN}")
    assert len(frames) == len(ET.fromstring(image).findall("{*}g"))
    assert len(image) < 400_000
    if os.environ.get("RIVERS_UPDATE_IMAGES"):
        IMAGE.write_text(image, encoding="utf-8")
    assert IMAGE.is_file()
