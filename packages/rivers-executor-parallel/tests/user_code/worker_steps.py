"""Assets as users write them: at module scope of a module that a worker can import. Those here end well, or can."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator

import rivers as rs


def note(text: str) -> None:
    with open(os.environ["RIVERS_TEST_NOTES"], "a") as notes:
        notes.write(f"{text}\n")


@rs.Asset(io_handler="store")
def base() -> int:
    return 20


@rs.Asset(io_handler="store")
def pid() -> int:
    return os.getpid()


@rs.Asset(io_handler="store")
def other_pid() -> int:
    return os.getpid()


@rs.Asset(io_handler="store")
def after_base(base: int) -> int:
    return base + 1


# ---- many small ones ------------------------------------------------------------------------------------------------


@rs.Task(io_handler="store")
def twenty() -> Iterator[rs.DynamicOutput]:
    for number in range(20):
        yield rs.DynamicOutput(key=f"k{number:02}", value=number)


@rs.Task(io_handler="store")
def small(number: int) -> int:
    note(f"small {number}")
    return number


@rs.Task(io_handler="store")
def fatal_tenth(context: rs.TaskExecutionContext, number: int) -> int:
    """Of twenty, the tenth kills its worker, at its first attempt."""
    note(f"attempt {context.attempt} of {number} by {os.getpid()}")
    if number == 10 and context.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@rs.Task(io_handler="store")
def total(numbers: list[int]) -> int:
    return sum(numbers)


@rs.Asset.from_graph(io_handler="store")
def crowd() -> int:
    return total(twenty().map(small).collect())


@rs.Asset.from_graph(io_handler="store")
def crowd_with_a_fatal_one() -> int:
    return total(twenty().map(fatal_tenth).collect())


# ---- what is killed -------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    print(text, flush=True)


@rs.Asset(io_handler="store")
def sleeps() -> int:
    try:
        say("asleep")
        time.sleep(60)
    finally:
        say("cleaned up")
    return 1


@rs.Asset(io_handler="store")
def sleeps_too() -> int:
    try:
        say("asleep")
        time.sleep(60)
    finally:
        say("cleaned up")
    return 1


@rs.Asset(io_handler="store")
def killed_once(context: rs.AssetExecutionContext) -> int:
    note(f"attempt {context.attempt}")
    if context.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return context.attempt


@rs.Asset(io_handler="store")
def waits_for_go() -> int:
    """Wait for the file that the test creates."""
    say("asleep")
    if "RIVERS_TEST_NOTES" in os.environ:
        note("asleep")
    go = os.environ["RIVERS_TEST_GO"]
    while not os.path.exists(go):
        time.sleep(0.01)
    return os.getpid()


@rs.Asset(io_handler="store")
def beside() -> int:
    """Ends once `waits_for_go` runs, which then is in another worker."""
    deadline = time.monotonic() + 20.0
    with open(os.environ["RIVERS_TEST_NOTES"]) as notes:
        while "asleep" not in notes.read() and time.monotonic() < deadline:
            time.sleep(0.01)
    return os.getpid()


@rs.Asset(io_handler="store")
def crashes() -> int:
    import ctypes

    return ctypes.string_at(0)  # type: ignore[return-value]  # it does not


@rs.Asset(io_handler="store")
def exits_early() -> int:
    os._exit(0)


@rs.Asset(io_handler="store")
def leaves() -> int:
    sys.exit(3)


class DiesAfterCommit(rs.PickleIOHandler):
    def handle_output(self, context: rs.OutputContext, obj: object) -> None:
        super().handle_output(context, obj)
        os.kill(os.getpid(), signal.SIGKILL)


@rs.Asset(io_handler="dying")
def committed(context: rs.AssetExecutionContext) -> int:
    note("body")
    context.add_output_metadata({"rows": 7})
    return 7


@rs.Asset(io_handler="store")
def after_committed(committed: int) -> int:
    return committed + 1


def controls(folder: str) -> None:
    """Run a controller in another thread or process; nobody shuts it down."""
    executor = rs.Executor.parallel(max_workers=2)
    store = rs.PickleIOHandler(folder)
    rs.CodeRepository([base, after_base], resources={"store": store}, default_executor=executor).materialize()


# ---- workers that kill each other -----------------------------------------------------------------------------------


@rs.Task(io_handler="store")
def friends() -> Iterator[rs.DynamicOutput]:
    for number in range(6):
        yield rs.DynamicOutput(key=f"k{number}", value=number)


@rs.Task(io_handler="store")
def kills_a_friend(context: rs.TaskExecutionContext, number: int) -> int:
    """Kill the neighbour's worker, then go on: at the first attempts each worker is both murderer and victim."""
    folder = os.environ["RIVERS_TEST_FRIENDS"]
    if context.attempt > 1:
        return number
    with open(f"{folder}/{number}", "w") as file:
        file.write(str(os.getpid()))
    deadline = time.monotonic() + 20.0
    met = False
    while not met and time.monotonic() < deadline:
        for name in os.listdir(folder):
            with open(f"{folder}/{name}") as file:
                text = file.read()
            if text and int(text) != os.getpid():
                met = True
                try:
                    os.kill(int(text), signal.SIGKILL)
                except ProcessLookupError:
                    pass  # a friend of both was faster
        time.sleep(0.02)
    return number


@rs.Asset.from_graph(io_handler="store")
def friendly_fire() -> int:
    return total(friends().map(kills_a_friend).collect())


# ---- what is left behind --------------------------------------------------------------------------------------------


@rs.Asset(io_handler="store")
def leaves_a_thread() -> int:
    threading.Thread(target=time.sleep, args=(60,), name="straggler").start()
    return os.getpid()


@rs.Asset(io_handler="store")
def leaves_a_process() -> int:
    import subprocess

    return subprocess.Popen(["sleep", "60"]).pid
