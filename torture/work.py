"""The pipeline of a torture: a fan-out of chains in one graph asset, and single assets beside it.

    seeds ──▶ first[k0] ──▶ second[k0] ──▶ third[k0] ──┐
      ├─────▶ first[k1] ──▶ second[k1] ──▶ third[k1] ──┼──▶ flow          single_0   single_1 …
      ┆                                                ┆

Half of the values go to PickleIOHandler, the others, those of `first` and `third` among them, to the default store.
Each body does something else, as a draw from the seed, its step and its run says: nothing, sleep, burn CPU, return
much, print, or start a process that nobody but it ends. Its value holds who made it and a number that follows from the
numbers of its inputs, so that whoever loads it can tell whether it is right.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import journal

import rivers as rs

__all__ = ["RETRIES", "JournaledPickles", "find_wrong_values", "repository", "steps_of"]

SEED = "RIVERS_TORTURE_SEED"
RETRIES = rs.RetryPolicy(50, retry_on=[rs.FailureReason.INFRASTRUCTURE])
"""A step may be hit again and again; what a body raises is never tried again."""

DOINGS = ("nothing", "sleep", "burn", "much", "print", "child", "session", "daemon")
WEIGHTS = (16, 8, 8, 4, 2, 2, 1, 1)
DAEMON = "setsid sleep 600 > /dev/null & echo $!"

Value = dict[str, Any]


class JournaledPickles(rs.PickleIOHandler):
    """PickleIOHandler that records when it begins to store and when it has committed.

    Every eighth attempt lingers then, so that some are killed that have committed and have not said so.
    """

    def handle_output(self, context: rs.OutputContext, obj: Any) -> None:
        journal.write("store", context.run_id, context.step, context.attempt_id)
        super().handle_output(context, obj)
        journal.write("stored", context.run_id, context.step, context.attempt_id)
        if zlib.crc32(context.attempt_id.encode()) % 8 == 0:
            journal.write("linger", context.run_id, context.step, context.attempt_id)
            time.sleep(0.01)

    def commit(self, run_id: str, step: str, attempt_id: str, keys: Sequence[str]) -> None:
        super().commit(run_id, step, attempt_id, keys)
        journal.write("stored", run_id, step, attempt_id)


def number_of(step: str, *upstreams: int) -> int:
    """Return the number of a step's value."""
    return zlib.crc32(repr((step, *upstreams)).encode())


def body(context: rs.TaskExecutionContext | rs.AssetExecutionContext, step: str, *upstreams: int) -> Value:
    """Run the body of every step."""
    journal.write("begin", context.run_id, step, str(context.attempt))
    draw = random.Random(f"{os.environ[SEED]} {step} {context.run_id}")
    (doing,) = draw.choices(DOINGS, WEIGHTS)
    seconds = draw.uniform(0.001, 0.02)
    number = number_of(step, *upstreams)
    blob = b""
    if doing == "sleep":
        time.sleep(seconds)
    elif doing == "burn":
        until = time.process_time() + seconds
        while time.process_time() < until:
            number_of(step)
    elif doing == "much":
        blob = number.to_bytes(4, "big") * draw.randrange(1 << 14, 1 << 17)
    elif doing == "print":
        print(f"{step} says {number}")
    elif doing in ("child", "session"):
        # It outlives this body only if that is killed, and then its end is the executor's business.
        with subprocess.Popen(["sleep", "600"], start_new_session=doing == "session") as child:
            time.sleep(seconds)
            child.kill()
    elif doing == "daemon":
        daemon = int(subprocess.run(["sh", "-c", DAEMON], stdout=subprocess.PIPE, check=True).stdout)
        time.sleep(seconds)
        os.kill(daemon, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):  # it is the worker's, unless that has lost it already
            os.waitpid(daemon, 0)
    value = {"step": step, "attempt": context.attempt, "number": number, "blob": blob}
    journal.write("end", context.run_id, step, str(context.attempt))
    return value


@rs.Task
def seeds(context: rs.TaskExecutionContext, keys: int) -> Iterator[rs.DynamicOutput]:
    """The source of the fan-out."""
    value = body(context, context.task_name)
    for i in range(keys):
        yield rs.DynamicOutput(f"k{i}", value["number"] + i)


@rs.Task
def first(context: rs.TaskExecutionContext, seed: int) -> Value:
    """The first link of a chain."""
    return body(context, context.task_name, seed)


@rs.Task(io_handler="pickles")
def second(context: rs.TaskExecutionContext, before: Value) -> Value:
    """The second one."""
    return body(context, context.task_name, before["number"])


@rs.Task(timeout=60)
def third(context: rs.TaskExecutionContext, before: Value) -> Value:
    """The last one; its timeout has its start reported at once."""
    return body(context, context.task_name, before["number"])


@rs.Task(io_handler="pickles")
def total(context: rs.TaskExecutionContext, ends: list[Value]) -> Value:
    """What all chains lead to."""
    return body(context, context.task_name, *(value["number"] for value in ends))


def single(context: rs.AssetExecutionContext) -> Value:
    """An asset for itself, some with more configuration than fits into a packet."""
    return body(context, context.asset_name)


def repository(folder: Path, keys: int, singles: int, workers: int) -> rs.CodeRepository:
    """Build the definitions with pickles below `folder`."""

    def flow() -> Any:
        return total(seeds(keys).map(first).map(second).map(third).collect())

    def one(i: int) -> rs.Asset:
        return rs.Asset(single, name=f"single_{i}", io_handler="pickles" if i % 2 else None)

    return rs.CodeRepository(
        [
            rs.Asset.from_graph(flow, name="flow"),
            *(one(i) for i in range(singles)),
        ],
        tasks=[seeds, first, second, third, total],
        resources={"pickles": JournaledPickles(store=str(folder / "values"), fsync=False)},
        default_executor=rs.Executor.parallel(max_workers=workers),
        default_retry_policy=RETRIES,
    )


def config(singles: int) -> dict[str, dict[str, Any]]:
    """Return configuration for every eighth single asset: its spec is larger than a pipe's packet."""
    return {f"single_{i}": {"text": "x" * 6000} for i in range(0, singles, 8)}


def steps_of(keys: int, singles: int) -> dict[str, int]:
    """Return every step of a run with the number that its value has to have."""
    numbers = {"flow/seeds": number_of("flow/seeds")}
    for i in range(keys):
        number = numbers["flow/seeds"] + i
        for task in ("first", "second", "third"):
            step = f"flow/{task}[k{i}]"
            number = numbers[step] = number_of(step, number)
    ends = [numbers[f"flow/third[k{i}]"] for i in range(keys)]
    numbers["flow/total"] = number_of("flow/total", *ends)
    return numbers | {step: number_of(step) for step in (f"single_{i}" for i in range(singles))}


def find_wrong_values(repo: rs.CodeRepository, result: rs.RunResult, numbers: dict[str, int]) -> list[str]:
    """Describe values that are missing, wrong, or of another attempt than the one that succeeded."""
    wrong = []
    for step, number in numbers.items():
        if step == "flow/seeds":
            continue  # its values are elements; `first` has loaded each
        try:
            value = repo.load_node("flow" if step == "flow/total" else step)
        except rs.exceptions.RiversError as error:
            wrong.append(f"{step}: {error}")
            continue
        attempts = result.steps[step].attempts if step in result.steps else None
        expected = (step, attempts, number, number.to_bytes(4, "big") * (len(value["blob"]) // 4))
        if expected != tuple(value[name] for name in ("step", "attempt", "number", "blob")):
            wrong.append(f"{step}: attempt {attempts} was to make {number}, found {str(value)[:200]}")
    return wrong
