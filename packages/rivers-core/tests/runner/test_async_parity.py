"""A body has one end, whether it runs alone or among many: the same cases through both runners."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from runner.bench import DEADLINE, Bench

import rivers as rs
from rivers.protocol import Ending, LogRecord, StepResult


async def returns(context: rs.AssetExecutionContext[Any], /, x: int) -> int:
    context.add_output_metadata({"attempt": context.attempt, "name": context.asset_name})
    context.register_data_version("v1")
    context.log.warning("logged")
    return x + 1


async def raises() -> None:
    raise ValueError("no", 1)


async def raises_several() -> None:
    async def fails(text: str) -> None:
        raise ValueError(text)

    async with asyncio.TaskGroup() as group:
        group.create_task(fails("a"))
        group.create_task(fails("b"))


async def gathers() -> list[int]:
    async def one(n: int) -> int:
        await asyncio.sleep(0)
        return n

    return await asyncio.gather(*map(one, range(3)))


async def exits() -> None:
    sys.exit(3)


async def exits_in_a_task() -> None:
    await asyncio.create_task(exits())


async def out_of_memory() -> None:
    raise MemoryError


async def cancels_itself() -> None:
    raise asyncio.CancelledError


async def ends_on_a_pending_cancel() -> str:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    return "stored all the same"


async def hinted() -> int:
    return "no int"  # type: ignore[return-value]


async def streams() -> AsyncIterator[int]:
    yield 1
    yield 2


def wrapped() -> Any:
    return gathers()


def plain() -> str:
    return "plain"


async def needs(missing: int) -> None:
    raise AssertionError("not to be called")


async def overdue() -> None:
    await asyncio.sleep(600)


async def overdue_and_swallows() -> str:
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        print("cleans up")
    return "value"


async def leaves_a_task() -> None:
    asyncio.get_running_loop().create_task(asyncio.sleep(600), name="left")


async def stubborn() -> None:
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            print("no")


class Raises(rs.BaseIOHandler):
    def handle_output(self, context: rs.OutputContext, obj: Any) -> None:
        raise OSError("disk full")

    def load_input(self, context: rs.InputContext) -> Any:
        raise OSError("gone")


CASES: dict[Callable[..., Any], dict[str, Any]] = {
    returns: {"reads": {"x": 1}, "capture": True},
    overdue: {"timeout": 0.01},
    overdue_and_swallows: {"timeout": 0.01, "capture": True},
    stubborn: {"timeout": 0.01, "capture": True},
    gathers: {"config": '{"unused": 1}'},
    needs: {"reads": {"missing": 1}, "store": Raises()},
    plain: {"store": Raises()},
}
BODIES = [
    *CASES,
    *(raises, raises_several, exits, exits_in_a_task, out_of_memory, cancels_itself, ends_on_a_pending_cancel),
    *(hinted, streams, wrapped, leaves_a_task),
]


def seen_of(bench: Bench, result: StepResult) -> dict[str, Any]:
    """Return the parts of a result that depend on neither time nor process."""
    failure = result.failure
    message = failure.message.partition(" s, longer")[2] or failure.message if failure is not None else None
    return {
        "ending": result.ending,
        "outputs": result.outputs,
        "failure": failure and (failure.reason, failure.type, message, failure.notes, failure.evidence),
        "transient": failure and failure.transient,
        "error": type(bench.errors.get("1")),
        "logs": [(log.message, log.level, log.logger) for log in bench.events if isinstance(log, LogRecord)],
        "value": bench.stored() if result.ending is Ending.SUCCEEDED else None,
    }


@pytest.mark.parametrize("body", BODIES)
def test_the_same_as_one_at_a_time(body: Callable[..., Any]) -> None:
    """A body has the same result, reason, message, value and output in both runners."""
    alone, together = Bench(), Bench()
    one = alone.runner()
    expected = seen_of(alone, one.run_step(alone.spec(body, **CASES.get(body, {}))))
    one.close()
    many = together.async_runner()
    many.submit(together.spec(body, **CASES.get(body, {})))
    found = seen_of(together, together.result())

    assert [] == many.close(DEADLINE)
    assert expected == found
    assert 1 == len(together.results("1"))
