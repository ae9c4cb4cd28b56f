"""The event loop of async bodies: timeouts, cancellation, tasks that bodies leave."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any

import pytest

from rivers._runner.event_loop.loop import BodyLoop, OverdueError, StoppedError

GRACE = 0.05


@pytest.fixture
def loop() -> Iterator[BodyLoop]:
    made = BodyLoop(GRACE)
    yield made
    made.close()


def run(loop: BodyLoop, body: Coroutine[Any, Any, Any], timeout: float | None = None) -> Any:
    return loop.run(body, contextvars.copy_context(), timeout)


def test_cancelled_body_cleans_up(loop: BodyLoop) -> None:
    """An overdue body gets CancelledError at its await, and its finally runs to the end, awaits included."""
    done: list[str] = []

    async def body() -> None:
        try:
            await asyncio.sleep(600)
        finally:
            await asyncio.sleep(0)
            done.append("finally")

    with pytest.raises(OverdueError):
        run(loop, body(), 0.01)
    assert ["finally"] == done
    assert [] == loop.drain_warnings()


def test_stop_reaches_a_waiting_body(loop: BodyLoop) -> None:
    """stop() from another thread cancels the body, whatever it makes of it."""
    seen: list[str] = []

    async def body() -> str:
        threading.Thread(target=loop.stop).start()
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            seen.append("cancelled")
        return "swallowed"

    with pytest.raises(StoppedError):
        run(loop, body())
    assert ["cancelled"] == seen


def test_swallowed_twice_is_abandoned(loop: BodyLoop) -> None:
    """A body that swallows both cancellations is abandoned after the grace with a warning, and the loop goes on."""
    swallowed: list[int] = []

    async def stubborn() -> None:
        while True:
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                swallowed.append(1)

    async def next_body() -> str:
        return "ran"

    with pytest.raises(OverdueError):
        run(loop, stubborn(), 0.01)
    assert 2 == len(swallowed)
    assert "swallowed its cancellation twice" in loop.drain_warnings()[0]
    assert "ran" == run(loop, next_body())


def test_background_tasks_are_cancelled(loop: BodyLoop, caplog: pytest.LogCaptureFixture) -> None:
    """Tasks that a body left are cancelled and awaited before the next body, named, and reported nowhere else."""
    ended: list[str] = []

    async def forever(error: bool) -> None:
        try:
            await asyncio.sleep(600)
        finally:
            ended.append("ended")
            if error:
                raise ValueError("while cancelled")

    async def body() -> None:
        task.extend(asyncio.create_task(forever(error), name=f"left {error}") for error in (True, False))
        await asyncio.sleep(0)

    task: list[asyncio.Task[None]] = []
    run(loop, body())

    assert ["ended", "ended"] == ended
    assert [
        "the async body left background tasks, which were cancelled: left False, left True"
    ] == loop.drain_warnings()
    task.clear()
    gc.collect()
    assert [] == caplog.records, "asyncio logs an exception that nobody has looked at"


def test_async_generators_are_closed() -> None:
    """An async generator that a body left half way is closed with the loop, its finally awaited."""
    loop, closed = BodyLoop(GRACE), []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            closed.append("closed")

    async def body() -> int:
        kept.append(numbers())
        return await anext(kept[0])

    kept: list[AsyncIterator[int]] = []

    assert 1 == run(loop, body())
    loop.close()
    assert ["closed"] == closed


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_exits_leave_nothing_on_the_loop(loop: BodyLoop, error: BaseException) -> None:
    """After a body that ends with SystemExit or KeyboardInterrupt the next body runs undisturbed."""

    async def ends() -> None:
        await asyncio.sleep(0)
        raise error

    async def next_body() -> int:
        await asyncio.sleep(0)
        return len(asyncio.all_tasks())

    with pytest.raises(type(error)):
        run(loop, ends())
    assert 3 == run(loop, next_body()), "the body, its supervisor, its stop signal"
    assert [] == loop.drain_warnings()


def test_inside_a_running_loop() -> None:
    """If a loop runs already the body gets a thread, the same loop for every body, and stop() reaches it."""

    async def identity() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    async def stopped() -> None:
        inner.stop()
        await asyncio.sleep(600)

    async def notebook() -> None:
        assert run(inner, identity()) is run(inner, identity())
        assert run(inner, identity()) is not asyncio.get_running_loop()
        with pytest.raises(StoppedError):
            run(inner, stopped())
        inner.close()

    inner = BodyLoop(GRACE)
    asyncio.run(notebook())


def test_context_is_the_bodys_own(loop: BodyLoop) -> None:
    """A context variable that a body sets stays in its context."""
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
    scope = contextvars.copy_context()

    async def body() -> None:
        variable.set(1)

    loop.run(body(), scope, None)

    assert (0, 1) == (variable.get(), scope[variable])


def test_is_in_body_is_true_for_bodies_alone(loop: BodyLoop) -> None:
    """is_in_body() is true while this thread runs code of a body or its tasks, and not for the loop's own tasks."""
    asked: dict[str, bool] = {}

    def ask(where: str) -> bool:
        asked[where] = loop.is_in_body()
        return False

    async def child() -> None:
        ask("child")

    async def body() -> None:
        ask("body")
        asyncio.get_running_loop().call_soon(ask, "callback")
        await asyncio.gather(child(), asyncio.to_thread(ask, "thread"))

    loop.run(body(), contextvars.copy_context(), None, stopped=lambda: ask("supervisor"))
    ask("after")

    assert {"body", "child"} == {where for where, holds in asked.items() if holds}
    assert {"supervisor", "callback", "thread", "after"} == {where for where, holds in asked.items() if not holds}


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_exits_in_a_task_of_the_body(loop: BodyLoop, error: BaseException) -> None:
    """SystemExit and KeyboardInterrupt in a task that the body awaits, which both raise then, leave nothing either."""

    async def ends() -> None:
        raise error

    async def body() -> None:
        await asyncio.create_task(ends())

    async def next_body() -> int:
        return len(asyncio.all_tasks())

    with pytest.raises(type(error)):
        run(loop, body())
    assert 3 == run(loop, next_body()), "the body, its supervisor, its stop signal"
