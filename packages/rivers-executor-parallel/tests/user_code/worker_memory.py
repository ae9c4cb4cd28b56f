"""Assets that take more memory than there is, or more and more of it."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Iterator
from typing import Any

import rivers as rs

KEPT: list[Any] = []


@rs.Asset(io_handler="store")
def hog() -> int:
    """Take memory until something stops it."""
    while True:
        KEPT.append(b"x" * (16 << 20))


@rs.Asset(io_handler="store")
def killed_after_the_hog(context: rs.AssetExecutionContext) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 1


@rs.Asset(io_handler="store")
def limited() -> int:
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, resource.RLIM_INFINITY))
    KEPT.append(b"x" * (1 << 31))
    return 1


@rs.Asset(io_handler="store")
def limit() -> tuple[int, int]:
    return os.getpid(), resource.getrlimit(resource.RLIMIT_AS)[0]


@rs.Asset(io_handler="store")
def recurses() -> int:
    def deeper(n: int) -> int:
        return deeper(n + 1)

    return deeper(0)


@rs.Asset(io_handler="store")
def deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(200_000):
        value = [value]
    return value


@rs.Task(io_handler="store")
def fifteen() -> Iterator[rs.DynamicOutput]:
    for number in range(15):
        yield rs.DynamicOutput(key=f"k{number:02}", value=number)


@rs.Task(io_handler="store")
def leaks(number: int) -> int:
    KEPT.append(bytearray(os.urandom(1 << 20) * 20))
    time.sleep(0.1)
    return os.getpid()


@rs.Task(io_handler="store")
def workers(pids: list[int]) -> list[int]:
    return pids


@rs.Asset.from_graph(io_handler="store")
def leak_by_leak() -> list[int]:
    return workers(fifteen().map(leaks).collect())
