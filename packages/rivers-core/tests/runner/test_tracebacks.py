"""Tracebacks of bodies: the user's frames first, with source lines, on every executor."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rivers as rs

EXECUTORS = [rs.Executor.in_process(), rs.Executor.parallel(max_workers=1)]


def divides() -> float:
    zero = 0
    return 1 / zero


async def divides_later() -> float:
    await asyncio.sleep(0)
    return divides()


def wrong_type() -> int:
    return "text"  # type: ignore[return-value]  # that is the point


def groups() -> None:
    try:
        divides()
    except ZeroDivisionError as error:
        raise ExceptionGroup("several", [error]) from error


def traceback_of(body: Callable[..., Any], executor: rs.Executor) -> str:
    with rs.CodeRepository([rs.Asset(body, name="body")], default_executor=executor) as repository:
        failure = repository.materialize(raise_on_error=False).steps["body"].failure
    assert failure is not None
    assert failure.traceback is not None
    return failure.traceback


@pytest.mark.parametrize("executor", EXECUTORS, ids=repr)
@pytest.mark.parametrize("body", [divides, divides_later, groups], ids=lambda body: body.__name__)
def test_the_users_frames_come_first(body: Callable[..., Any], executor: rs.Executor) -> None:
    """Every traceback in the text begins with a frame of this file, and shows its source line."""
    text = traceback_of(body, executor)
    first = [after.splitlines()[1] for after in text.split("Traceback (most recent call last):")[1:]]

    assert first
    assert all(f'File "{__file__}"' in line for line in first), text
    assert "1 / zero" in text


@pytest.mark.parametrize("executor", EXECUTORS, ids=repr)
def test_an_error_of_rivers_has_no_frames(executor: rs.Executor) -> None:
    """A wrong return value is no code's fault in rivers: the message stands alone."""
    text = traceback_of(wrong_type, executor)

    assert "File" not in text
    assert "expected int, got str" in text


@pytest.mark.parametrize("executor", EXECUTORS, ids=repr)
def test_own_frames_on_request(executor: rs.Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    """RIVERS_FULL_TRACEBACK=1 shows the frames of rivers as well."""
    monkeypatch.setenv("RIVERS_FULL_TRACEBACK", "1")

    assert "run_step" in traceback_of(divides, executor) + traceback_of(wrong_type, executor)


def test_the_error_that_is_raised() -> None:
    """The live exception of a body carries no frames of the runner either."""
    with pytest.raises(ZeroDivisionError) as caught:
        rs.CodeRepository([rs.Asset(divides)]).materialize()
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]

    assert "divides" == names[-1]
    assert "run_step" not in names


NOTEBOOK = """
import linecache
import rivers as rs

cell = '''
import rivers as rs

def helper(n):
    return 1 / n  # in a cell

@rs.Asset
def one() -> float:
    return helper(0)
'''
linecache.cache["<cell 1>"] = (len(cell), None, cell.splitlines(True), "<cell 1>")
exec(compile(cell, "<cell 1>", "exec"))

if __name__ == "__main__":
    with rs.CodeRepository(assets=[one], default_executor=rs.Executor.parallel(max_workers=1)) as repo:
        print(repo.materialize(raise_on_error=False).steps["one"].failure.traceback)
"""


def test_source_lines_travel(tmp_path: Path) -> None:
    """A function that is pickled by value, as from a notebook, has its file name and source lines in a worker."""
    script = tmp_path / "notebook.py"
    script.write_text(NOTEBOOK)
    shown = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=True).stdout

    assert 'File "<cell 1>", line 9, in one\n    return helper(0)' in shown
    assert "return 1 / n  # in a cell" in shown
    assert "dynamic-code" not in shown
