"""Live progress on a real pseudo-terminal, read through a terminal emulator."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from terminal import Terminal, run_program

REGION = re.compile(rb"\x1b\[\d*;?\d*r")
TEXTS = ["before", "printed by a body", "and in red, without an end", "written by C code", "echoed by a child"]


@pytest.fixture
def go(tmp_path: Path) -> Path:
    """A file for which bodies wait."""
    return tmp_path / "go"


def is_restored(terminal: Terminal) -> bool:
    """Return whether the whole screen scrolls again, lines wrap, and the cursor is shown."""
    margins = terminal.screen.margins
    is_whole = margins is None or (margins.top, margins.bottom) == (0, terminal.screen.lines - 1)
    regions = REGION.findall(terminal.written)
    wraps = re.findall(rb"\x1b\[\?7[lh]", terminal.written)
    if not regions:
        return True
    is_plain = b"\x1b[?25l" not in terminal.written
    return is_whole and is_plain and regions[-1:] == [b"\x1b[r"] and wraps[-1:] == [b"\x1b[?7h"]


@pytest.mark.parametrize("executor", ["in_process", "parallel"])
@pytest.mark.parametrize("columns", [60, 100])
def test_screen(go: Path, executor: str, columns: int) -> None:
    """The rows below show totals and steps; prints of bodies, workers and children scroll above and are whole."""
    with run_program(executor, columns=columns, RIVERS_TEST_GO=str(go)) as terminal:
        terminal.wait_for("last words")
        terminal.wait_for("● noisy")
        terminal.wait_for("1 running")
        log = "\n".join(terminal.scrollback)
        assert "✗ broken  ValueError" in log
        assert "invalid literal for int() with base 10: 'many'" in log
        assert 'return int("many") + source' in log
        assert any(re.match(r"━+╸─+ +\d+ %  \d+ of \d+ ", line) for line in terminal.lines)
        assert ("pid" in "\n".join(terminal.lines[-8:])) == (columns >= 70), "the worker, where it has room"
        go.touch()
        assert 0 == terminal.finish()
        lines = terminal.scrollback
        assert is_restored(terminal)
    places = [next(i for i, line in enumerate(lines) if line == text) for text in TEXTS]
    assert executor == "parallel" or places == sorted(places)
    end = next(i for i, line in enumerate(lines) if line.startswith("✗ Run"))
    assert not any(sign in line for line in lines for sign in "━●"), "the rows are gone"
    assert "after failure" in lines[end:], "what is printed afterwards follows"
    assert "  Skipped     dependant because of broken" in lines[end:]


def test_scrolling(go: Path) -> None:
    """More lines than the screen has are all in the terminal's scrollback, in order, and the rows stay."""
    with run_program("long_rows", rows=16, RIVERS_TEST_GO=str(go)) as terminal:
        terminal.wait_for("line 59")
        screen = terminal.wait_for("● talk")
        assert "line 59" in screen
        go.touch()
        assert 0 == terminal.finish()
        found = [line for line in terminal.scrollback if line.startswith("line ")]
    assert [f"line {number}" for number in range(60)] == found


@pytest.mark.parametrize(("columns", "rows"), [(20, 24), (200, 50), (60, 7), (100, 5)])
def test_sizes(go: Path, columns: int, rows: int) -> None:
    """Narrow, wide and low terminals work; one without room for rows gets plain lines."""
    with run_program("in_process", columns=columns, rows=rows, RIVERS_TEST_GO=str(go)) as terminal:
        terminal.wait_for("last words")
        if rows >= 6:
            terminal.wait_for("%")
        go.touch()
        assert 0 == terminal.finish()
        assert (rows >= 6) == bool(REGION.search(terminal.written))
        assert "after failure" in terminal.lines


def test_resize(go: Path) -> None:
    """After a change of size the rows are drawn anew at the bottom, and nothing is left of the old ones."""
    with run_program("in_process", RIVERS_TEST_GO=str(go)) as terminal:
        terminal.wait_for("● noisy")
        terminal.resize(80, 30)
        terminal.read(0.5)
        assert [number for number, line in enumerate(terminal.lines) if "━" in line] >= [24]
        terminal.resize(60, 16)
        terminal.read(0.5)
        terminal.wait_for("● noisy")
        assert 1 == sum("━" in line for line in terminal.lines)
        go.touch()
        assert 0 == terminal.finish()
        assert is_restored(terminal)


@pytest.mark.parametrize("settings", [{"NO_COLOR": "1"}, {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}])
def test_colour_and_encoding(go: Path, settings: dict[str, str]) -> None:
    """NO_COLOR leaves out colours, and a terminal without Unicode gets ASCII."""
    with run_program("in_process", RIVERS_TEST_GO=str(go), **settings) as terminal:
        terminal.wait_for("noisy  in_process")
        go.touch()
        terminal.finish()
        if "NO_COLOR" in settings:
            colors = set(re.findall(rb"\x1b\[[0-9;]*m", terminal.written))
            assert colors <= {b"\x1b[0m", b"\x1b[31m"}, "the red is the body's own"
        else:
            assert terminal.written.isascii()
            assert re.search(rb"#+>", terminal.written)


ENDS = {"SIGTERM": 143, "Ctrl-C": -signal.SIGINT, "SIGKILL": -signal.SIGKILL, "exception": 1, "exit": 3}


@pytest.mark.parametrize("kind", list(ENDS))
def test_restored(go: Path, kind: str) -> None:
    """The terminal is as it was after signals, SIGKILL, an exception, and an exit while a run goes on."""
    program = {"exception": "raised", "exit": "exits"}.get(kind, "in_process")
    with run_program(program, RIVERS_TEST_GO=str(go)) as terminal:
        if kind != "exception":
            terminal.wait_for("● noisy")
        if kind.startswith("SIG"):
            terminal.process.send_signal(signal.Signals[kind])
        if kind == "Ctrl-C":
            terminal.interrupt()
        assert ENDS[kind] == terminal.finish()
        assert is_restored(terminal)
        text = "\n".join(terminal.scrollback)
    assert "● noisy" not in text
    assert (kind in ("SIGTERM", "Ctrl-C")) == ("was cancelled after" in text)
    if kind == "exception":
        assert "ValueError" in text


def test_forked_child(go: Path) -> None:
    """A forked child of a body prints like the body, and its end does not touch the rows."""
    with run_program("forked", RIVERS_TEST_GO=str(go)) as terminal:
        terminal.wait_for("printed by the forked child")
        terminal.read(0.3)
        assert "● fork" in "\n".join(terminal.lines)
        assert b"\x1b[r" not in terminal.written
        go.touch()
        assert 0 == terminal.finish()
        assert 1 == "\n".join(terminal.scrollback).count("✓ Run")


def test_modes_of_the_terminal(go: Path) -> None:
    """What a body has changed in the terminal's modes is undone before the summary."""
    with run_program("silenced", RIVERS_TEST_GO=str(go)) as terminal:
        terminal.wait_for("● silence")
        terminal.read(0.3)
        assert not terminal.echoes
        go.touch()
        assert 0 == terminal.finish()
        assert terminal.echoes
        assert any(line.startswith("✓ Run") for line in terminal.lines)


def test_variable(go: Path) -> None:
    """RIVERS_PROGRESS shows every run, also a submitted one; without it nothing is written."""
    go.touch()
    with run_program("by_variable", RIVERS_PROGRESS="1") as terminal:
        assert 0 == terminal.finish()
        assert "✓ Run" in "\n".join(terminal.lines)
    with run_program("by_variable") as terminal:
        assert 0 == terminal.finish()
        assert b"\x1b[" not in terminal.written.replace(b"\x1b[31m", b"").replace(b"\x1b[0m", b"")
