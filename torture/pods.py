"""The pipeline for pods: a fan-out in one graph asset, and sync and async assets beside it.

    seeds ──▶ first[k0] ──▶ second[k0] ──┐
      ├─────▶ first[k1] ──▶ second[k1] ──┼──▶ total          single_0   single_1 …
      ┆                                  ┆

Each body notes down in which pod it begins and ends, and sleeps for a moment that the seed and its step say. Its value
is a number that follows from those of its inputs.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path
from typing import Any

import journal
import work

import rivers as rs
from rivers.spi import Reach

__all__ = ["RETRIES", "Shared", "find_wrong_values", "repository", "steps_of"]

RETRIES = rs.RetryPolicy(50, retry_on=[rs.FailureReason.INFRASTRUCTURE, rs.FailureReason.OUT_OF_MEMORY])
LONGEST = 1.5
"""Seconds that a body sleeps at most."""

Context = rs.TaskExecutionContext | rs.AssetExecutionContext


class Shared(rs.PickleIOHandler):
    """A folder that counts as reached from anywhere, as the pods of a fake cluster are on this machine."""

    @property
    def reach(self) -> Reach:
        """Anywhere."""
        return Reach.ANYWHERE


def note(context: Context, what: str, step: str) -> None:
    """Record a step of this pod in the journal."""
    journal.write(what, context.run_id, step, os.environ["HOSTNAME"])


def moment(step: str) -> float:
    """Return the seconds that a step sleeps."""
    return random.Random(f"{os.environ[work.SEED]} {step}").uniform(0.0, LONGEST)


def body(context: Context, step: str, *upstreams: int) -> int:
    """Run the body of every sync step."""
    note(context, "begin", step)
    time.sleep(moment(step))
    note(context, "end", step)
    return work.number_of(step, *upstreams)


@rs.Task
def seeds(context: rs.TaskExecutionContext, keys: int) -> list[rs.DynamicOutput]:
    """The source of the fan-out."""
    number = body(context, context.task_name)
    return [rs.DynamicOutput(f"k{i}", number + i) for i in range(keys)]


@rs.Task
def first(context: rs.TaskExecutionContext, seed: int) -> int:
    """The first link of a chain."""
    return body(context, context.task_name, seed)


@rs.Task
def second(context: rs.TaskExecutionContext, before: int) -> int:
    """The last one."""
    return body(context, context.task_name, before)


@rs.Task
def total(context: rs.TaskExecutionContext, ends: list[int]) -> int:
    """What all chains lead to."""
    return body(context, context.task_name, *ends)


def single(context: rs.AssetExecutionContext) -> int:
    """An asset for itself."""
    return body(context, context.asset_name)


async def awaited(context: rs.AssetExecutionContext) -> int:
    """The same, async."""
    note(context, "begin", context.asset_name)
    await asyncio.sleep(moment(context.asset_name))
    note(context, "end", context.asset_name)
    return work.number_of(context.asset_name)


def repository(folder: Path, seed: int, keys: int, singles: int, **settings: Any) -> rs.CodeRepository:
    """Build the definitions with values below `folder`; `settings` are those of the executor."""

    def flow() -> Any:
        return total(seeds(keys).map(first).map(second).collect())

    env = {journal.FOLDER: str(folder), work.SEED: str(seed)}
    return rs.CodeRepository(
        [
            rs.Asset.from_graph(flow, name="flow"),
            *(rs.Asset(awaited if i % 2 else single, name=f"single_{i}") for i in range(singles)),
        ],
        tasks=[seeds, first, second, total],
        default_executor=rs.Executor.kubernetes("torture:1", env=env, **settings),
        default_io_handler=Shared(store=str(folder / "values"), fsync=False),
        default_retry_policy=RETRIES,
    )


def steps_of(keys: int, singles: int) -> dict[str, int]:
    """Return every step of a run with the number that its value has to have."""
    numbers = {"flow/seeds": work.number_of("flow/seeds")}
    for i in range(keys):
        number = numbers["flow/seeds"] + i
        for task in ("first", "second"):
            step = f"flow/{task}[k{i}]"
            number = numbers[step] = work.number_of(step, number)
    ends = [numbers[f"flow/second[k{i}]"] for i in range(keys)]
    numbers["flow/total"] = work.number_of("flow/total", *ends)
    return numbers | {step: work.number_of(step) for step in (f"single_{i}" for i in range(singles))}


def find_wrong_values(repo: rs.CodeRepository, numbers: dict[str, int]) -> list[str]:
    """Describe values that are missing or wrong."""
    wrong = []
    for step, number in numbers.items():
        if step == "flow/seeds":
            continue  # its values are elements; `first` has loaded each
        try:
            value = repo.load_node("flow" if step == "flow/total" else step)
        except rs.exceptions.RiversError as error:
            wrong.append(f"{step}: {error}")
            continue
        if value != number:
            wrong.append(f"{step} was to make {number}, found {str(value)[:200]}")
    return wrong
