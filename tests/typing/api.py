"""What users write, as a type checker sees it: this file must pass `mypy --strict` without an ignore.

It is checked, never run (`nox -s types`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, assert_type

from pydantic import BaseModel

import rivers as rs
from rivers.exceptions import RiversError

# ---- definitions ----------------------------------------------------------------------------------------------------


class Window(BaseModel):
    days: int = 7


class Database(rs.Resource):
    url: str = "sqlite://"

    def setup(self) -> None:
        self.url.strip()

    def teardown(self) -> None:
        self.url.strip()

    def rows(self, table: str) -> list[int]:
        return [len(table)]


class TextHandler(rs.BaseIOHandler):
    folder: str = "."

    def handle_output(self, context: rs.OutputContext, obj: Any) -> None:
        print(self.folder, context.asset_name, obj)

    def load_input(self, context: rs.InputContext) -> Any:
        return context.asset_name


@rs.Asset
def numbers() -> list[int]:
    return [3, 1, 2]


@rs.Asset(
    name="total",
    tags=["team-a"],
    kinds=["python"],
    group="sums",
    code_version="1",
    io_handler=rs.InMemoryIOHandler(),
    metadata={"rivers/executor": "in_process"},
    deps=["numbers"],
    retry=rs.RetryPolicy(
        max_retries=2,
        backoff=rs.Backoff.exponential(1.0),
        retry_on=[ConnectionError, rs.FailureReason.TIMEOUT],
    ),
    compute=rs.Compute(cpu="500m", memory="512Mi"),
    timeout=30.0,
)
def total(numbers: list[int], database: Database) -> int:
    return sum(numbers) + sum(database.rows("t"))


@rs.Asset
def with_config(context: rs.AssetExecutionContext[Window], numbers: list[int]) -> int:
    assert_type(context.config, Window)
    context.log.info("attempt %d of %s in %s", context.attempt, context.asset_name, context.run_id)
    context.add_output_metadata({"rows": len(numbers)})
    context.register_data_version("v1")
    return context.config.days


@rs.Asset(io_handler="named")
async def later(with_config: int) -> int:
    return with_config


@rs.Asset
def generated() -> Iterator[rs.Output]:
    yield rs.Output(1, metadata={"rows": 1}, data_version="1")


@rs.Asset
async def generated_later() -> AsyncIterator[rs.Output]:
    yield rs.Output(1)


@rs.Asset.from_multi(output_defs=[rs.AssetDef("small"), rs.AssetDef("large")])
def halves(numbers: list[int]) -> dict[str, list[int]]:
    return {"small": numbers[:1], "large": numbers[1:]}


@rs.Task
def keys(numbers: list[int]) -> list[rs.DynamicOutput]:
    return [rs.DynamicOutput(str(number), number) for number in numbers]


@rs.Task
def double(number: int) -> int:
    return 2 * number


@rs.Task
def add(context: rs.TaskExecutionContext, doubled: list[int]) -> int:
    context.log.info("run %s", context.run_id)
    return sum(doubled)


listing = rs.BashTask(name="listing", command="ls", env={"LANG": "C"}, cwd=".")


@rs.Asset.from_graph
def doubled(numbers: list[int]) -> Any:
    return add(keys(numbers).map(double, max_concurrency=2).collect())


@rs.Hook.failure
def page(context: rs.HookContext[Window]) -> None:
    context.log.error("%s: %s", context.asset_name, context.error)
    assert_type(context.config, Window)
    assert_type(context.exception, BaseException | None)


@rs.Hook.success(name="announce")
async def say_done(context: rs.HookContext) -> None:
    print(context.output, context.metadata, context.timings.run, isinstance(page, rs.Hook.Failure))


watched = rs.Asset(double, name="watched", hooks=[page, say_done])

outside = rs.Asset.external(name="outside", io_handler=TextHandler(folder="/data"))

# ---- executors: values, checked when they are made ------------------------------------------------------------------

here = rs.Executor.in_process()
cores = rs.Executor.parallel(max_workers=4, max_async_concurrent=100)
pods = rs.Executor.kubernetes("registry.example/image:1", max_concurrent_steps=10, worker_cpu="1", worker_memory="1Gi")
executors: list[rs.Executor] = [here, cores, pods]
assert_type(isinstance(here, rs.Executor.InProcess), bool)

# ---- jobs, repository, running --------------------------------------------------------------------------------------

nightly = rs.Job(
    name="nightly",
    assets=[numbers, total],
    executor=cores,
    retry=rs.RetryPolicy(max_retries=1, backoff=rs.Backoff.constant(0.5), retry_on=rs.RetryOn.TRANSIENT),
    tags={"when": "night"},
)

repo = rs.CodeRepository(
    assets=[numbers, total, with_config, later, generated, generated_later, halves, doubled, outside],
    tasks=[keys, double, add, listing],
    jobs=[nightly],
    default_executor=here,
    executors={"gpu": pods},
    resources={"database": Database(), "named": rs.PickleIOHandler("file:///data", prefix="runs")},
    retries={"often": rs.RetryPolicy(max_retries=5)},
    default_retry_policy=rs.RetryPolicy(max_retries=0),
)


def use() -> None:
    repo.validate()
    repo.resolve()
    repo.plan(["total"])
    try:
        result = repo.materialize(
            ["total"],
            tags={"by": "hand"},
            raise_on_error=False,
            config={"with_config": {"days": 3}},
            include_upstream=True,
            executor=here,
            on_event=print,
        )
    except RiversError as error:
        print(error)
    else:
        assert_type(result, rs.RunResult)
        assert_type(result.success, bool)
        assert_type(result.run_id, str)
        for name, message in result.failed_assets:
            print(name.upper(), message.upper())
    assert_type(repo.get_job("nightly").execute(), rs.RunResult)
    handle = repo.submit(["total"])
    assert_type(handle, rs.RunHandle)
    handle.cancel()
    assert_type(handle.wait(), rs.RunResult)
    print(repo.load_node("total"), handle.status)


with repo:
    use()
repo.shutdown()
