"""Assets with resources that note what happens to them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import worker_steps

import rivers as rs


class Client(rs.Resource):
    """Notes where and when it is set up and torn down."""

    url: str

    def setup(self) -> None:
        worker_steps.note(f"setup {os.getpid()}")

    def teardown(self) -> None:
        worker_steps.note(f"teardown {os.getpid()}")


class Fragile(rs.Resource):
    """Its end takes the worker with it."""

    def teardown(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Broken(rs.Resource):
    def teardown(self) -> None:
        raise ValueError("does not close")


@rs.Task(io_handler="store")
def twelve() -> Iterator[rs.DynamicOutput]:
    for number in range(12):
        yield rs.DynamicOutput(key=f"k{number:02}", value=number)


@rs.Task(io_handler="store")
def uses(number: int, client: Client) -> int:
    return os.getpid()


@rs.Task(io_handler="store")
def gathered(pids: list[int]) -> list[int]:
    return pids


@rs.Asset.from_graph(io_handler="store")
def clients() -> list[int]:
    return gathered(twelve().map(uses).collect())


@rs.Asset(io_handler="store")
def fails(client: Client) -> int:
    raise ValueError("no good")


@rs.Asset(io_handler="store")
def with_fragile(fragile: Fragile) -> rs.Output:
    return rs.Output(1, metadata={"told": "yes"})


@rs.Asset(io_handler="store")
def with_broken(broken: Broken) -> int:
    return 1
