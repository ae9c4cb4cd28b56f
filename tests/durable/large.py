"""A larger run whose steps take milliseconds, for kills at any moment; run as a program to begin or to resume it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from rivers_executor_subprocess import SubprocessExecutor

import rivers as rs

FOLDER = Path(os.environ["DURABLE_FOLDER"])
ELEMENTS = int(os.environ["DURABLE_ELEMENTS"])


def note(name: str) -> None:
    """Append the name of a body that runs, with one write."""
    file = os.open(FOLDER / "bodies", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{name}\n".encode())
    os.close(file)
    time.sleep(0.004)


@rs.Asset
def base() -> int:
    note("base")
    return 1


@rs.Asset
def second(base: int) -> int:
    note("second")
    return base + 1


@rs.Asset
def third(second: int, base: int) -> int:
    note("third")
    return second + base


@rs.Task
def split(third: int) -> list[rs.DynamicOutput]:
    note("fan/split")
    return [rs.DynamicOutput(key=f"k{number}", value=number + third) for number in range(ELEMENTS)]


@rs.Task
def double(part: int) -> int:
    note(f"fan/double[k{part - 3}]")
    return part * 2


@rs.Task
def inc(part: int) -> int:
    note(f"fan/inc[k{part // 2 - 3}]")
    return part + 1


@rs.Task
def add(parts: list[int]) -> int:
    note("fan/add")
    return sum(parts)


@rs.Asset.from_graph
def fan(third: int) -> object:
    return add(split(third).map(double).map(inc).collect())


@rs.Asset
async def late(fan: int) -> int:
    note("late")
    return fan + 1


EXPECTED = sum(2 * (number + 3) + 1 for number in range(ELEMENTS)) + 1
repo = rs.CodeRepository(
    [base, second, third, fan, late], default_io_handler=rs.PickleIOHandler(FOLDER / "data", fsync=False)
)


def executor_of(kind: str) -> rs.Executor:
    """Return the executor of a kind."""
    if kind == "in_process":
        return rs.Executor.in_process()
    if kind == "parallel":
        return rs.Executor.parallel(max_workers=2)
    return SubprocessExecutor(max_workers=2)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    from large import repo as repository

    executor = executor_of(sys.argv[1])
    if len(sys.argv) == 2:
        repository.materialize(executor=executor, record=FOLDER)
    else:
        result = repository.resume(sys.argv[2], executor=executor, record=FOLDER)
        assert result.success
        assert repository.load_node("late") == EXPECTED
