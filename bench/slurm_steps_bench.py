"""Bodies for bench/slurm.py, which jobs import."""

import os
import time

import rivers as rs

WIDTH = 100


def nap() -> None:
    time.sleep(float(os.environ["RIVERS_BENCH_SECONDS"]))


@rs.Task
def keys() -> list[rs.DynamicOutput]:
    return [rs.DynamicOutput(str(n), n) for n in range(WIDTH)]


@rs.Task
def no_op(n: int) -> int:
    return n


@rs.Task
def total(values: list[int]) -> int:
    return sum(values)


def fan_out() -> object:
    return total(keys().map(no_op).collect())
