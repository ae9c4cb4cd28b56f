"""Programs with progress, for tests on a terminal. `step` files tell a program when to go on."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import rivers as rs
from rivers._record.runs import RunRecords
from rivers._terminal.watch import watch

GO = os.environ.get("RIVERS_TEST_GO", "")


def wait_for_go() -> None:
    """Wait until the test has made the file."""
    end = time.monotonic() + 30
    while GO and not os.path.exists(GO):
        assert time.monotonic() < end
        time.sleep(0.01)


@rs.Asset
def source() -> int:
    print("printed by a body")
    print("\x1b[31mand in red\x1b[0m, without an end", end="")
    sys.stdout.flush()
    return 1


@rs.Asset
def noisy(source: int) -> int:
    os.write(1, b"\nwritten by C code\n")
    subprocess.run(["echo", "echoed by a child"], check=True)
    print("last words", file=sys.stderr)
    wait_for_go()
    return source


@rs.Asset
def broken(source: int) -> int:
    return int("many") + source


@rs.Asset
def dependant(broken: int) -> int:
    return broken


@rs.Task
def keys():
    for key in range(5):
        yield rs.DynamicOutput(str(key), key)


@rs.Task
def square(keys: int) -> int:
    return keys**2


@rs.Asset.from_graph()
def squares():
    return keys().map(square).collect()


def repository() -> rs.CodeRepository:
    return rs.CodeRepository(assets=[source, broken, noisy, dependant, squares])


def in_process() -> None:
    print("before")
    result = repository().materialize(raise_on_error=False, progress=True)
    print("after", result.status)


def parallel() -> None:
    print("before")
    with repository() as many:
        result = many.materialize(raise_on_error=False, progress=True, executor=rs.Executor.parallel(max_workers=2))
    print("after", result.status)


def by_variable() -> None:
    """Run with RIVERS_PROGRESS, in a thread."""
    repository().submit("source").wait()


def long_rows() -> None:
    """Print more lines than the terminal has rows."""

    @rs.Asset
    def talk() -> int:
        for number in range(60):
            print(f"line {number}")
        wait_for_go()
        return 1

    rs.CodeRepository(assets=[talk]).materialize(progress=True)


def forked() -> None:
    """Fork in a body; the child prints and ends like a program does."""

    @rs.Asset
    def fork() -> int:
        time.sleep(0.3)
        child = os.fork()
        if child == 0:
            print("printed by the forked child", flush=True)
            sys.exit(0)
        os.waitpid(child, 0)
        wait_for_go()
        return 1

    rs.CodeRepository(assets=[fork]).materialize(progress=True)


def silenced() -> None:
    """Change the terminal in a body, as a program that asks for a password does when it is killed."""

    @rs.Asset
    def silence() -> int:
        subprocess.run(["stty", "-echo", "raw"], check=True)
        time.sleep(0.3)
        wait_for_go()
        return 1

    rs.CodeRepository(assets=[silence]).materialize(progress=True)


def raised() -> None:
    repository().materialize("broken", include_upstream=True, progress=True)


def exits() -> None:
    """End the interpreter while a run goes on in its thread."""
    repository().submit(["source", "noisy"], progress=True)
    time.sleep(0.5)
    sys.exit(3)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def recorded(home: str) -> None:
    repository().materialize(raise_on_error=False, record=home)


def watching(home: str) -> None:
    """Watch the only run of a home folder, which may begin later."""
    records = RunRecords(home)
    end = time.monotonic() + 30
    while not records.folders():
        assert time.monotonic() < end
        time.sleep(0.02)
    print("status", watch(records.find()).status)
