"""Cases of what goes wrong: failures, retries, timeouts."""

from __future__ import annotations

import asyncio
import sys
import time

import rivers as rs
from rivers.testing.conformance.cases.case import Case, Fails, fails, succeeds

__all__ = ["CASES"]


class TwoArguments(Exception):
    def __init__(self, left: str, right: str) -> None:
        super().__init__(f"{left} and {right}")


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


@rs.Asset
def base() -> int:
    return 1


@rs.Asset
def raises(base: int) -> int:
    raise TwoArguments("this", "that")


@rs.Asset
def sibling(base: int) -> int:
    return base + 1


@rs.Asset
def child(raises: int) -> int:
    return raises


@rs.Asset
def grandchild(child: int, sibling: int) -> int:
    return child


@rs.Asset
def exits() -> int:
    sys.exit(3)


@rs.Asset
async def exits_async() -> int:
    sys.exit(4)


@rs.Asset
async def next_async() -> int:
    return 1


@rs.Asset
def unprintable() -> int:
    raise Unprintable


@rs.Asset
def huge_message() -> int:
    raise ValueError("x" * 50_000_000)


@rs.Asset
def circular_cause() -> int:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    raise first


def deeper() -> int:
    return deeper()


@rs.Asset
def recursion() -> int:
    # Through one kind of call only: the interpreter's words depend on the one that is too deep.
    return deeper()


@rs.Asset
async def group() -> int:
    async def fail(number: int) -> None:
        raise KeyError(f"part {number}")

    async with asyncio.TaskGroup() as tasks:
        for number in range(20):
            tasks.create_task(fail(number))
    return 1


@rs.Asset
async def cancels_itself() -> int:
    raise asyncio.CancelledError


@rs.Asset
def out_of_memory() -> int:
    raise MemoryError("no more")


@rs.Asset
def surrogates() -> int:
    print("bad \udcff text")
    raise ValueError("bad \udcff text")


# ── retries and timeouts ──


@rs.Asset(retry=rs.RetryPolicy(3, backoff=rs.Backoff.constant(0.001)))
def third_time(context: rs.AssetExecutionContext) -> int:
    if context.attempt < 3:
        raise OSError(f"attempt {context.attempt}")
    return context.attempt


@rs.Asset(retry=rs.RetryPolicy(2))
def never() -> int:
    raise OSError("always")


@rs.Asset(retry=rs.RetryPolicy(5, retry_on=[ConnectionError]))
def not_retried() -> int:
    raise ValueError("permanent")


@rs.Asset(retry=rs.RetryPolicy(5, retry_on=[OSError]))
def retried_by_base_class(context: rs.AssetExecutionContext) -> int:
    if context.attempt == 1:
        raise ConnectionResetError("once")
    return context.attempt


@rs.Asset(retry=rs.RetryPolicy(5, retry_on=[rs.FailureReason.TIMEOUT]), timeout=0.02)
async def slow_once(context: rs.AssetExecutionContext) -> int:
    if context.attempt == 1:
        await asyncio.sleep(600)
    return context.attempt


@rs.Asset(retry="twice")
def named_policy(context: rs.AssetExecutionContext) -> int:
    if context.attempt < 3:
        raise ValueError("again")
    return context.attempt


@rs.Asset
def plain_flaky(context: rs.AssetExecutionContext) -> int:
    if context.attempt < 2:
        raise ValueError("again")
    return context.attempt


@rs.Asset(retry=rs.RetryPolicy(1))
def wrong_type() -> int:
    return "x"  # type: ignore[return-value]  # what the case is about


@rs.Asset(timeout=0.02)
async def endless() -> int:
    await asyncio.sleep(600)
    return 1


@rs.Asset(timeout=0.02)
def slow() -> int:
    time.sleep(0.05)
    return 1


CASES = [
    Case(
        name="a failure stops neither siblings nor unrelated steps",
        parts={"assets": [base, raises, sibling, child, grandchild]},
        states={
            "base": "succeeded",
            "raises": "failed",
            "sibling": "succeeded",
            "child": "skipped",
            "grandchild": "skipped",
        },
        values={"sibling": 2},
        absent=("raises", "child", "grandchild"),
        failures={"raises": Fails("error", "faults.TwoArguments", "this and that")},
        causes={"child": "raises", "grandchild": "raises"},
        kinds={"child": ("StepSkipped",), "raises": ("StepStarted", "StepFailed")},
    ),
    fails("sys.exit", exits, Fails("error", "SystemExit", "sys.exit(3)")),
    Case(
        name="sys.exit in an async body",
        parts={"assets": [exits_async, next_async]},
        states={"exits_async": "failed", "next_async": "succeeded"},
        failures={"exits_async": Fails("error", "SystemExit", "sys.exit(4)")},
    ),
    fails("unprintable exception", unprintable, Fails("error", "faults.Unprintable", "text could not be made")),
    fails("50 MB message", huge_message, Fails("error", "ValueError", "bytes left out")),
    fails("circular causes", circular_cause, Fails("error", "ValueError", "first")),
    fails("infinite recursion", recursion, Fails("error", "RecursionError", "recursion")),
    fails("exception group", group, Fails("error", "ExceptionGroup", "20 sub-exceptions")),
    fails("a cancellation nobody asked for", cancels_itself, Fails("error", "CancelledError")),
    fails("memory error", out_of_memory, Fails("out_of_memory", "MemoryError", "no more")),
    fails("surrogates", surrogates, Fails("error", "ValueError", "bad ? text"), logs={"surrogates": ("bad ? text",)}),
    succeeds(
        "retried until it succeeds",
        third_time,
        values={"third_time": 3},
        attempts={"third_time": 3},
        kinds={
            "third_time": ("StepStarted", "StepRetrying", "StepStarted", "StepRetrying", "StepStarted", "StepSucceeded")
        },
    ),
    Case(
        name="retries used up",
        parts={"assets": [never]},
        states={"never": "failed"},
        failures={"never": Fails("error", "OSError", "always")},
        attempts={"never": 3},
    ),
    fails("not among retry_on", not_retried, Fails("error", "ValueError")),
    succeeds(
        "retry_on a base class",
        retried_by_base_class,
        values={"retried_by_base_class": 2},
        attempts={"retried_by_base_class": 2},
    ),
    succeeds("retry_on a reason", slow_once, values={"slow_once": 2}, attempts={"slow_once": 2}),
    Case(
        name="named policy",
        parts={"assets": [named_policy], "retries": {"twice": rs.RetryPolicy(2)}},
        states={"named_policy": "succeeded"},
        values={"named_policy": 3},
    ),
    Case(
        name="the repository's policy",
        parts={"assets": [plain_flaky], "default_retry_policy": rs.RetryPolicy(1)},
        states={"plain_flaky": "succeeded"},
        attempts={"plain_flaky": 2},
    ),
    Case(
        name="the run's policy before the repository's",
        parts={"assets": [plain_flaky], "default_retry_policy": rs.RetryPolicy(0)},
        run={"retry": rs.RetryPolicy(1)},
        states={"plain_flaky": "succeeded"},
    ),
    Case(
        name="the asset's policy before the run's",
        parts={"assets": [never]},
        run={"retry": rs.RetryPolicy(7)},
        states={"never": "failed"},
        attempts={"never": 3},
    ),
    fails("async timeout", endless, Fails("timeout", "Error", "0.02 s")),
    fails("sync timeout, noticed when it returns", slow, Fails("timeout", "Error", "0.02 s")),
    Case(
        name="wrong type is retried like any error",
        parts={"assets": [wrong_type]},
        states={"wrong_type": "failed"},
        failures={"wrong_type": Fails("error", "AssetOutputValidationError")},
        attempts={"wrong_type": 2},
    ),
]
