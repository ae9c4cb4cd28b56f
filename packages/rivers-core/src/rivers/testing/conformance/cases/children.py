"""Cases of bodies that start processes: a child is the user's, and nothing of rivers is in it."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import rivers as rs
from rivers.testing.conformance.cases.case import succeeds

__all__ = ["CASES"]

FORK = multiprocessing.get_context("fork")
RESTORED = (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)


def exit_code(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@rs.Asset
def pool_left_early() -> int:
    with FORK.Pool(2) as pool:
        for _ in pool.imap_unordered(time.sleep, [0.01, 30, 30]):
            break
    child = FORK.Process(target=time.sleep, args=(30,))
    child.start()
    child.terminate()
    child.join()
    return child.exitcode or 0


@rs.Asset
def terminated_at_once() -> set[int]:
    codes = set()
    for _ in range(30):
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                time.sleep(30)
            os._exit(0)
        os.kill(pid, signal.SIGTERM)
        codes.add(exit_code(pid))
    return codes


@rs.Asset
def interrupted_program() -> int:
    # Short sleeps: a signal that comes right before a sleep is handled after it.
    sleep = "print(flush=True)\n for _ in range(3000): time.sleep(0.01)"
    code = f"import time\ntry:\n {sleep}\nexcept KeyboardInterrupt: raise SystemExit(7)"
    with subprocess.Popen([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.send_signal(signal.SIGINT)
        return child.wait()


@rs.Asset
def dispositions_of_a_program() -> list[str]:
    """Signals that a program of a body ignores or blocks."""
    status = subprocess.check_output(["cat", "/proc/self/status"], text=True)
    masks = {
        line.split()[0]: int(line.split()[1], 16) for line in status.splitlines() if line.startswith(("SigI", "SigB"))
    }
    return [
        f"{name} {signal.Signals(number).name}"
        for name in ("SigIgn:", "SigBlk:")
        for number in RESTORED
        if masks[name] >> (number - 1) & 1
    ]


@rs.Asset
def dispositions_of_a_fork() -> list[str]:
    """Return the handlers that a forked child finds, through a pipe of the body's own."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        found = [repr(signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT)]
        found.append(repr(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))))
        os.write(write, "\n".join(found).encode())
        os._exit(0)
    os.close(write)
    with open(read, encoding="utf-8") as answer:
        lines = answer.read().splitlines()
    exit_code(pid)
    return lines


@rs.Asset
def child_returns() -> int:
    pid = os.fork()
    if pid == 0:
        return -1
    return exit_code(pid)


@rs.Asset
def child_exits() -> int:
    pid = os.fork()
    if pid == 0:
        sys.exit(3)
    return exit_code(pid)


@rs.Asset
async def child_of_a_coroutine() -> list[int]:
    codes = []
    for leave in (sys.exit, None):
        pid = os.fork()
        if pid == 0:
            if leave is not None:
                leave(3)
            return []
        codes.append(exit_code(pid))
        await asyncio.sleep(0)
    return codes


_ALL = [
    succeeds("a pool that is left early", pool_left_early, values={"pool_left_early": -signal.SIGTERM}),
    succeeds("children ended at once", terminated_at_once, values={"terminated_at_once": {-signal.SIGTERM}}),
    succeeds("a program that is interrupted", interrupted_program, values={"interrupted_program": 7}),
    succeeds("a program's signals", dispositions_of_a_program, values={"dispositions_of_a_program": []}),
    succeeds(
        "a fork's signals",
        dispositions_of_a_fork,
        values={
            "dispositions_of_a_fork": [repr(signal.SIG_DFL), repr(signal.default_int_handler), "[]"],
        },
    ),
    succeeds("a child that returns from the body", child_returns, values={"child_returns": 0}),
    succeeds("a child that exits in the body", child_exits, values={"child_exits": 3}),
    succeeds("a child of a coroutine", child_of_a_coroutine, values={"child_of_a_coroutine": [3, 0]}),
]
CASES = [replace(case, forks=True) for case in _ALL]
