"""A program whose run is traced: `python traced.py in_process|parallel`."""

from __future__ import annotations

import logging
import sys

import pydantic
from opentelemetry import trace

import rivers as rs


class Vault(rs.Resource):
    token: pydantic.SecretStr = pydantic.SecretStr("tok-12345")


@rs.Asset(group="source", kinds=["python"], tags=["daily"])
def numbers() -> list[int]:
    with trace.get_tracer("shop").start_as_current_span("query"):
        logging.getLogger("shop").warning("the token is tok-12345")
    return [3, 1]


@rs.Asset
async def waits(numbers: list[int]) -> int:
    with trace.get_tracer("shop").start_as_current_span("await"):
        print("printed")
    return 1


@rs.Asset(retry=rs.RetryPolicy(1))
def fails(numbers: list[int]) -> int:
    raise ValueError("tok-12345 is refused")


@rs.Asset
def skipped(fails: int) -> int:
    return fails


@rs.Task
def split(numbers: list[int]) -> list[rs.DynamicOutput]:
    return [rs.DynamicOutput(key=str(number), value=number) for number in numbers]


@rs.Task
def twice(part: int) -> int:
    with trace.get_tracer("shop").start_as_current_span("double"):
        return part * 2


@rs.Task
def add(parts: list[int]) -> int:
    return sum(parts)


@rs.Asset.from_graph
def total(numbers: list[int]) -> object:
    return add(split(numbers).map(twice).collect())


@rs.Asset.from_graph(metadata={"rivers/executor": "parallel", "rivers/node/executor": "in_process"})
def fused(numbers: list[int]) -> object:
    return add(split(numbers).map(twice).collect())


def main() -> None:
    assets = [numbers, waits, fails, skipped, total]
    executor = rs.Executor.in_process()
    if sys.argv[1] == "parallel":
        executor = rs.Executor.parallel(max_workers=2)
        assets.append(fused)
    daily = rs.Job("daily", assets, executor=executor, tags={"team": "shop"})
    with rs.CodeRepository(assets, jobs=[daily], resources={"vault": Vault()}) as repository:
        result = repository.get_job("daily").execute(raise_on_error=False)
        print(result.run_id, result.status)


if __name__ == "__main__":
    # Importable by workers under this name.
    from traced import main as importable

    importable()
