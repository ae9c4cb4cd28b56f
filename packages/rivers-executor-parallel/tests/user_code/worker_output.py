"""Assets that print in every way there is, too much of it, or break what they print to."""

from __future__ import annotations

import ctypes
import logging
import os
import subprocess
import sys
from collections.abc import Iterator

import rivers as rs


@rs.Asset(io_handler="store")
def talks() -> int:
    print("printed ünï")
    logging.getLogger("mine").warning("logged %s", 1)
    os.write(1, b"written\n")
    ctypes.CDLL(None).puts(b"from C")
    ctypes.CDLL(None).fflush(None)
    subprocess.run(["echo", "from a child"], check=True)
    print("last")
    print("to stderr", file=sys.stderr)
    os.write(2, b"written to stderr\n")
    return 1


@rs.Task(io_handler="store")
def twenty() -> Iterator[rs.DynamicOutput]:
    for number in range(20):
        yield rs.DynamicOutput(key=f"k{number:02}", value=number)


@rs.Task(io_handler="store")
def speaks(number: int) -> int:
    for line in range(5):
        print(f"{number}: {line}")
    os.write(1, f"{number}: 5\n".encode())
    return number


@rs.Task(io_handler="store")
def total(numbers: list[int]) -> int:
    return sum(numbers)


@rs.Asset.from_graph(io_handler="store")
def chorus() -> int:
    return total(twenty().map(speaks).collect())


@rs.Asset(io_handler="store")
def floods() -> int:
    line = "x" * 99 + "\n"
    for _ in range(300_000):
        sys.stdout.write(line)
    print("the end of the flood")
    return 1


@rs.Asset(io_handler="store")
def floods_in_binary() -> int:
    """From a child, without a newline, and no UTF-8."""
    subprocess.run(["head", "-c", "20000000", "/dev/zero"], check=True)
    return 1


@rs.Asset(io_handler="store")
def breaks_its_output() -> int:
    sys.stdout = None  # type: ignore[assignment]  # a fault
    sys.stderr = None  # type: ignore[assignment]
    os.close(1)
    os.close(2)
    return os.getpid()


@rs.Asset(io_handler="store")
def after_breaking(breaks_its_output: int) -> tuple[int, int]:
    print("still heard")
    return breaks_its_output, os.getpid()


@rs.Asset(io_handler="store")
def reads_stdin() -> str:
    return sys.stdin.read()
