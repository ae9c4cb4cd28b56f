"""Assets that look at the worker they run in, or start processes and executors of their own."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import worker_steps

import rivers as rs

STATE = "as imported"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@rs.Asset(io_handler="store")
def state() -> str:
    return STATE


@rs.Asset(io_handler="store")
def surroundings() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "cwd": os.getcwd(),
        "path": sys.path[:],
        "env": dict(os.environ),
        "born with": Path("/proc/self/environ").read_bytes().decode().split("\0"),
        "argv": Path("/proc/self/cmdline").read_text().split("\0"),
        "daemon": multiprocessing.current_process().daemon,
    }


def nested(asset: rs.Asset) -> Any:
    store = rs.PickleIOHandler(f"{os.environ['RIVERS_TEST_FOLDER']}/{os.getpid()}")
    executor = rs.Executor.parallel(max_workers=1)
    with rs.CodeRepository([asset], resources={"store": store}, default_executor=executor) as repo:
        repo.materialize()
        return repo.load_node(asset.name)


@rs.Asset(io_handler="store")
def nests() -> tuple[int, Any]:
    return os.getpid(), nested(worker_steps.pid)


@rs.Asset(io_handler="store")
def nests_twice() -> tuple[int, Any]:
    return os.getpid(), nested(nests)


@rs.Asset(io_handler="store")
def nests_a_sleeper() -> tuple[int, Any]:
    worker_steps.say("nesting")
    return os.getpid(), nested(worker_steps.sleeps)


def square(number: int) -> int:
    return number * number


@rs.Asset(io_handler="store")
def pools() -> list[list[int]]:
    results = []
    for method in ("spawn", "forkserver", "fork"):
        with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
            results.append(list(pool.map(square, range(4))))
    return results


@rs.Asset(io_handler="store")
def sleeps_with_a_child() -> int:
    child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    child.start()
    worker_steps.say("asleep")
    child.join()
    return 1
