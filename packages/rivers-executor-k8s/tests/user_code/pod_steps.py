"""Bodies that run in pods: quiet ones, and those that something happens to. What they note down outlives them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import rivers as rs


def note(text: str) -> None:
    """Append a line to the test's notes; one write, so that it is whole."""
    with open(os.environ["RIVERS_TEST_NOTES"], "a") as file:
        file.write(f"{text}\n")


def plain() -> str:
    """A body for several assets, found by its name as a plain function is."""
    note("plain")
    return "plain"


def naps() -> str:
    time.sleep(float(os.environ.get("RIVERS_TEST_SECONDS", "60")))
    return "slept"


@rs.Asset
def one() -> int:
    note("one")
    return 1


@rs.Asset
def two(one: int) -> int:
    return one + 1


@rs.Asset
async def awaited(one: int) -> int:
    await asyncio.sleep(0.01)
    return one + 10


@rs.Asset
def sleeps(context: rs.AssetExecutionContext) -> str:
    """Long enough to be disturbed, and over soon after."""
    note(f"sleeps {context.attempt}")
    print("going to sleep", flush=True)
    time.sleep(float(os.environ.get("RIVERS_TEST_SECONDS", "60")))
    return "slept"


@rs.Asset
def counts() -> int:
    """A line every fifth of a second for as long as it sleeps: whoever listens knows which ones are missing."""
    lines = int(5 * float(os.environ.get("RIVERS_TEST_SECONDS", "60")))
    for i in range(lines):
        print(f"line {i}", flush=True)
        time.sleep(0.2)
    return lines


@rs.Asset
def after_sleep(sleeps: str) -> str:
    return sleeps.upper()


@rs.Asset
def once_slow(context: rs.AssetExecutionContext) -> int:
    """Slow at its first attempt only: what ends that one is seen, and the next one is quick."""
    note(f"once_slow {context.attempt}")
    if context.attempt == 1:
        time.sleep(60)
    return context.attempt


@rs.Asset
def ignores_stop() -> int:
    note("ignores_stop")
    while True:
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            note("asked")


@rs.Asset(timeout=1.0)
def overdue() -> int:
    time.sleep(60)
    return 1


@rs.Asset
def exits() -> int:
    os._exit(3)


@rs.Asset
def killed() -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 1


@rs.Asset
def kills_its_server() -> int:
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)
    return 1


@rs.Asset
def raises() -> int:
    raise ValueError("no good")


@rs.Asset
def talks() -> int:
    for i in range(100):
        print(f"line {i}")
    return 100


@rs.Asset
def asked_for(context: rs.AssetExecutionContext) -> dict[str, Any]:
    return {"pid": os.getpid(), "modules": sorted(m for m in ("kubernetes", "loky") if m in sys.modules)}


@rs.Task
def numbers(count: int = 3) -> list[rs.DynamicOutput]:
    return [rs.DynamicOutput(key=str(n), value=n) for n in range(count)]


@rs.Task
def doubled(n: int) -> int:
    return 2 * n


@rs.Task
def summed(ns: list[int]) -> int:
    return sum(ns)


@rs.Asset.from_graph
def mapped() -> Any:
    return summed(numbers().map(doubled).collect())


@rs.Asset.from_graph(metadata={"rivers/executor": "kubernetes", "rivers/node/executor": "in_process"})
def fused() -> Any:
    return summed(numbers().map(doubled).collect())


@rs.Asset(metadata={"rivers/executor": "in_process"})
def here() -> int:
    return os.getpid()


@rs.Asset(metadata={"rivers/executor": "parallel"})
def beside() -> int:
    return os.getpid()


@rs.Asset
def together(here: int, beside: int, one: int) -> int:
    return len({here, beside, os.getpid()}) + one


def notes_of(path: Path) -> list[str]:
    return path.read_text().splitlines()


@rs.Asset
def hogs(context: rs.AssetExecutionContext) -> int:
    """More memory than its first attempt's pod has, page by page."""
    size = 300 << 20
    held = bytearray(size)
    for i in range(0, size, 4096):
        held[i] = 1
    return context.attempt


@rs.Asset.from_graph(metadata={"rivers/worker_reuse": "run"})
def warm_graph() -> Any:
    return summed(numbers().map(doubled).collect())


@rs.Asset(metadata={"rivers/executor": "in_process"})
def pause(one: int) -> int:
    """Long enough for what happens to an idle pod."""
    time.sleep(1.0)
    return one


@rs.Asset
def after_pause(pause: int) -> int:
    return pause + 1


@rs.Asset
def sleeps_after(one: int) -> str:
    time.sleep(float(os.environ.get("RIVERS_TEST_SECONDS", "60")))
    return "slept"
