"""Exceptions of bodies whose cause lies in how rivers runs them carry a hint."""

from __future__ import annotations

import asyncio
import multiprocessing
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import rivers as rs


def runs_a_loop() -> int:
    waiting = asyncio.sleep(0, 5)
    try:
        return asyncio.run(waiting)
    finally:
        waiting.close()


def uses_the_same_loop() -> int:
    waiting = asyncio.sleep(0, 5)
    try:
        return asyncio.get_event_loop().run_until_complete(waiting)
    finally:
        waiting.close()


@pytest.mark.parametrize("body", [runs_a_loop, uses_the_same_loop], ids=lambda body: body.__name__)
def test_a_loop_runs_already(body: Any) -> None:
    """A sync body that runs an event loop where one runs already, as in a notebook, is given the way out."""

    async def cell() -> rs.RunResult:
        return rs.CodeRepository([rs.Asset(body, name="body")]).materialize(raise_on_error=False)

    [(_, message)] = asyncio.run(cell()).failed_assets

    assert "RuntimeError" in message
    assert "→ an event loop runs in this thread already" in message


def test_elsewhere_no_hint() -> None:
    """The same text from the user's own code gets no hint where no loop runs."""

    def raises() -> None:
        raise RuntimeError("asyncio.run() cannot be called from a running event loop")

    [(_, message)] = rs.CodeRepository([rs.Asset(raises)]).materialize(raise_on_error=False).failed_assets

    assert "→" not in message


POOL = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
import rivers as rs

def square(n: int) -> int:
    return n * n

@rs.Asset
def by_pool() -> list[int]:
    with multiprocessing.Pool(2) as pool:
        return pool.map(square, range(3))

@rs.Asset
def by_executor() -> list[int]:
    with ProcessPoolExecutor(2) as pool:
        return list(pool.map(square, range(3)))

if __name__ == "__main__":
    executor = getattr(rs.Executor, sys.argv[1])()
    with rs.CodeRepository(assets=[by_pool, by_executor], default_executor=executor) as repo:
        for _, message in repo.materialize(raise_on_error=False).failed_assets:
            print(message.replace("\\n", " "))
"""


@pytest.mark.skipif(multiprocessing.get_start_method() != "fork", reason="other children import the script themselves")
@pytest.mark.parametrize(("executor", "hints"), [("in_process", 0), ("parallel", 2)])
def test_a_pool_and_a_function_of_the_script(tmp_path: Path, executor: str, hints: int) -> None:
    """In a worker a pool cannot be given a function of the script that was started; the hint says where to move it."""
    script = tmp_path / "script.py"
    script.write_text(POOL)
    shown = subprocess.run([sys.executable, script, executor], capture_output=True, text=True, timeout=60, check=True)

    assert hints == len(shown.stdout.splitlines()), shown.stdout
    assert hints == shown.stdout.count("→ 'square' is defined in the script or notebook that was started")


def cell() -> type:
    class Point:
        pass

    return Point


@pytest.mark.parametrize("executor", [rs.Executor.in_process(), rs.Executor.parallel(max_workers=1)], ids=repr)
def test_a_class_that_was_defined_again(executor: rs.Executor) -> None:
    """An object of a class that was defined again after the asset, as in a notebook, is refused with that reason."""
    point, again = cell(), cell()

    def points() -> Any:
        return [again()]

    points.__annotations__["return"] = list[point]  # type: ignore[valid-type]  # made just now
    with rs.CodeRepository([rs.Asset(points)], default_executor=executor) as repository:
        [(_, message)] = repository.materialize(raise_on_error=False).failed_assets

    assert "Point was defined again; define the asset again as well" in message
