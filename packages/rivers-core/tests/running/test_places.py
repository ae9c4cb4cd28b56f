"""Runs in a running event loop, a thread, a step of another run, `python -c` and a script; signals."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import rivers as rs
from rivers._events.event import StepLog

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def one() -> int:
    return 1


async def two(one: int) -> int:
    await asyncio.sleep(0)
    return one + 1


def test_inside_a_running_loop() -> None:
    """In a notebook, where an event loop runs already, async bodies work, time out, and leave the loop alone."""

    @rs.Asset(timeout=0.01)
    async def endless() -> None:
        await asyncio.sleep(600)

    async def cell() -> rs.RunResult:
        result = rs.CodeRepository([rs.Asset(one), rs.Asset(two), endless]).materialize(raise_on_error=False)
        await asyncio.sleep(0)
        return result

    result = asyncio.run(cell())

    assert {"one": "succeeded", "two": "succeeded", "endless": "failed"} == {
        step: report.state.value for step, report in result.steps.items()
    }
    failure = result.steps["endless"].failure
    assert failure is not None
    assert "timeout" == failure.reason.value


def test_from_a_thread() -> None:
    """materialize works from any thread, also several at a time."""
    results: list[rs.RunResult] = []
    repository = rs.CodeRepository([rs.Asset(one), rs.Asset(two)])
    threads = [threading.Thread(target=lambda: results.append(repository.materialize())) for _ in range(4)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert [True] * 4 == [result.success for result in results]


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_inside_a_step(is_async: bool) -> None:
    """A step may run a repository of its own; its events and its output are its own run's."""
    inner, outer = rs.ListSink(), rs.ListSink()

    def talks() -> int:
        print("inside")
        return 5

    def nested() -> int:
        print("before")
        repository = rs.CodeRepository([rs.Asset(talks), rs.Asset(one), rs.Asset(two)])
        repository.materialize(on_event=inner)
        print("after")
        return int(repository.load_node("two"))

    async def nested_async() -> int:
        return nested()

    repository = rs.CodeRepository([rs.Asset(nested_async if is_async else nested, name="nested")])
    repository.materialize(on_event=outer)

    assert 2 == repository.load_node("nested")
    assert ["before", "after"] == [e.message for e in outer.events if isinstance(e, StepLog)]
    assert ["inside"] == [e.message for e in inner.events if isinstance(e, StepLog)]


def test_context_variables_do_not_leak() -> None:
    """A step sees the caller's context variables, not those that another step has set; nor does the caller (A9)."""
    seen: list[str] = []

    def sets() -> None:
        seen.append(variable.get())
        variable.set("from a step")

    async def sets_async(sets: None) -> None:
        seen.append(variable.get())
        variable.set("from an async step")

    def looks(sets_async: None) -> None:
        seen.append(variable.get())

    def caller() -> str:
        variable.set("from the caller")
        rs.CodeRepository([rs.Asset(sets), rs.Asset(sets_async), rs.Asset(looks)]).materialize()
        return variable.get()

    assert "from the caller" == contextvars.copy_context().run(caller)
    assert ["from the caller"] * 3 == seen


def test_lambdas_partials_and_callables() -> None:
    """In this process a body may be any callable: a lambda, a partial, an object, a method."""

    class Adds:
        def __init__(self, n: int) -> None:
            self.n = n

        def __call__(self, one: int) -> int:
            return one + self.n

        def method(self, one: int) -> int:
            return one * self.n

    def power(one: int, exponent: int) -> int:
        return int((one + 1) ** exponent)

    assets: dict[str, Any] = {
        "lambda_": lambda one: one + 1,
        "partial": functools.partial(power, exponent=3),
        "object_": Adds(3),
        "method": Adds(7).method,
    }
    repository = rs.CodeRepository([rs.Asset(one), *(rs.Asset(body, name=name) for name, body in assets.items())])
    repository.materialize()

    assert [2, 8, 4, 7] == [repository.load_node(name) for name in assets]


SCRIPT = """
from __future__ import annotations
import rivers as rs
from pydantic import BaseModel

class Model(BaseModel):
    n: int

@rs.Asset
def one(context: rs.AssetExecutionContext[Model]) -> Model:
    return context.config

@rs.Asset
async def two(one: Model) -> int:
    return one.n + 1

if __name__ == "__main__":
    repository = rs.CodeRepository([one, two])
    repository.materialize(config={"one": {"n": 1}})
    print(repository.load_node("two"))
"""


@pytest.mark.parametrize("how", ["-c", "script", "stdin"])
def test_main_module(how: str, tmp_path: Path) -> None:
    """Assets defined in a script, in `python -c` and on stdin run, with hints and models of that place."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    arguments = {"-c": ["-c", SCRIPT], "script": [str(script)], "stdin": ["-"]}[how]

    done = subprocess.run(
        [sys.executable, *arguments], input=SCRIPT, capture_output=True, text=True, timeout=60, check=False
    )

    assert ("2\n", "") == (done.stdout, done.stderr)


SIGNALLED = """
import asyncio, os, signal, sys, time
import rivers as rs

class Noted(rs.Resource):
    def setup(self): print("setup", flush=True)
    def teardown(self): print("teardown", flush=True)

def begin(): print("begun", flush=True)

@rs.Asset
def sync_body(noted):
    begin()
    time.sleep(600)

@rs.Asset
async def async_body(noted):
    try:
        begin()
        await asyncio.sleep(600)
    finally:
        print("finally", flush=True)

@rs.Asset
def stubborn(noted):
    while True:
        try:
            begin()
            time.sleep(600)
        except KeyboardInterrupt:
            print("ignored", flush=True)

bash = rs.BashTask("bash", "echo begun >&2; sleep 600 & sleep 600")

sink = rs.JsonLinesSink(sys.argv[2])
repository = rs.CodeRepository([sync_body, async_body, stubborn], tasks=[bash], resources={"noted": Noted()})
def listen(event):
    sink(event)
    if sys.argv[1] == "bash" and type(event).__name__ == "StepStarted":
        begin()
try:
    repository.materialize([sys.argv[1]], on_event=listen)
except KeyboardInterrupt as error:
    print("interrupted", error.result.status, flush=True)
    sys.exit(130)
"""


def signalled(body: str, numbers: list[int], events: Path) -> tuple[int, list[str]]:
    """Start a run of one body and send it signals, each once it is ready; return its exit code and output."""
    lines: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-c", SIGNALLED, body, str(events)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for number, ready in zip(numbers, ("begun", "ignored"), strict=False):
            while ready not in lines:
                line = process.stdout.readline()
                assert line, f"it ended before it was {ready}: {lines}"
                lines.append(line.strip())
            process.send_signal(number)
        rest, _ = process.communicate(timeout=30)
    return process.returncode, [*lines, *rest.split("\n")]


@pytest.mark.parametrize("body", ["sync_body", "async_body", "bash"])
def test_ctrl_c(body: str, tmp_path: Path) -> None:
    """Ctrl-C ends the body, tears resources down, emits all events, and raises KeyboardInterrupt."""
    code, lines = signalled(body, [signal.SIGINT], tmp_path / "events")

    assert 130 == code
    assert "interrupted cancelled" in lines
    assert ("teardown" in lines) == (body != "bash")
    assert ("finally" in lines) == (body == "async_body")
    assert '"RunFinished"' in (tmp_path / "events").read_text().splitlines()[-1]


def test_sigterm(tmp_path: Path) -> None:
    """SIGTERM ends a run in the same way and the process with 143."""
    code, lines = signalled("sync_body", [signal.SIGTERM], tmp_path / "events")

    assert 143 == code
    assert "teardown" in lines


def test_second_signal_exits(tmp_path: Path) -> None:
    """A body that ignores the first Ctrl-C does not keep the second one from ending the process."""
    code, _ = signalled("stubborn", [signal.SIGINT, signal.SIGINT], tmp_path / "events")

    assert 130 == code


def test_handlers_of_the_application_are_left_alone() -> None:
    """An application with its own SIGTERM handler keeps it during the run."""
    seen: list[Any] = []

    def looks() -> None:
        seen.append(signal.getsignal(signal.SIGTERM))

    def own(*_: Any) -> None: ...

    before = signal.signal(signal.SIGTERM, own)
    try:
        rs.CodeRepository([rs.Asset(looks)]).materialize()
        assert [own, own] == [*seen, signal.getsignal(signal.SIGTERM)]
    finally:
        signal.signal(signal.SIGTERM, before)
