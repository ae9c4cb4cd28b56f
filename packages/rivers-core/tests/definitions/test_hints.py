"""Arguments of the wrong kind: each likely mistake has a hint of its own."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import rivers as rs
from rivers.exceptions import RiversError


@rs.Asset
def one() -> int:
    return 1


@rs.Task
def task() -> int:
    return 1


def plain() -> int:
    return 1


async def waits() -> int:
    return 1


class Model(BaseModel):
    x: int = 1


class Database(rs.Resource):
    url: str = ""


class Duck:
    def handle_output(self, context: Any, obj: Any) -> None:
        """Store nothing."""


class Holder:
    @classmethod
    @rs.Asset
    def bound() -> int:
        return 1


JOB = rs.Job("j", [one])


def coroutine() -> Any:
    made = waits()
    made.close()
    return made


def repository(**arguments: Any) -> rs.CodeRepository:
    return rs.CodeRepository(**{"assets": [one], **arguments})


MISTAKES: list[tuple[Callable[[], Any], str, str]] = [
    # lists
    (lambda: repository(assets=one), "invalid assets=", "write assets=[one], a list of one"),
    (lambda: repository(assets=(a for a in [one])), "invalid assets=", "list(...): a generator"),
    (lambda: repository(assets={one}), "invalid assets=", "a set has no order"),
    (lambda: repository(assets={"one": one}), "invalid assets=", ".values())"),
    (lambda: repository(assets={"one": one}.values()), "invalid assets=", "write assets=list(...)"),
    (lambda: repository(assets="one"), "invalid assets='one': expected a list of assets", ""),
    (lambda: repository(assets=["one"]), "invalid assets[0]='one': expected an asset", "the object itself, not its n"),
    (lambda: repository(assets=[plain]), "invalid assets[0]=", "decorate it with @rs.Asset"),
    (lambda: repository(assets=[one, [one]]), "invalid assets[1]=", "assets=[*first, *second]"),
    (lambda: repository(assets=[task]), "invalid assets[0]=", "write it in tasks=[...]"),
    (lambda: repository(assets=[JOB]), "invalid assets[0]=", "write it in jobs=[...]"),
    (lambda: repository(assets=[math]), "invalid assets[0]=", "[math.first, math.second]"),
    (lambda: repository(assets=[rs.Asset]), "invalid assets[0]=", "make an instance of it: rs.Asset(...)"),
    (lambda: repository(assets=[one()]), "invalid assets[0]=1", "without calling it"),
    (lambda: repository(assets=[None]), "invalid assets[0]=None", "returned nothing"),
    (lambda: repository(assets=[Holder.bound]), "invalid assets[0]=", "remove the @classmethod"),
    (lambda: repository(tasks=task), "invalid tasks=", "a list of one"),
    (lambda: repository(tasks=[one]), "invalid tasks[0]=", "write it in assets=[...]"),
    (lambda: repository(tasks=[plain]), "invalid tasks[0]=", "decorate it with @rs.Task"),
    (lambda: repository(jobs=JOB), "invalid jobs=", "a list of one"),
    (lambda: repository(jobs=[one]), "invalid jobs[0]=", "write it in assets=[...]"),
    (lambda: repository(jobs=["j"]), "invalid jobs[0]='j'", "the object itself"),
    (lambda: rs.Job("j", one), "job 'j': invalid assets=", "a list of one"),
    (lambda: rs.Job("j", "one"), "job 'j': invalid assets='one'", "write assets=['one']"),
    (lambda: rs.Job("j", [plain]), "job 'j': invalid assets[0]=", "decorate it with @rs.Asset"),
    (lambda: rs.Asset(plain, tags="a"), "invalid tags='a'", "write tags=['a']"),
    (lambda: rs.Asset(plain, tags={"team": "x"}), "invalid tags=", "write tags=['team:x'], or metadata="),
    (lambda: rs.Asset(plain, deps="one"), "invalid deps='one'", "write deps=['one']"),
    (lambda: rs.Asset(plain, deps=one), "invalid deps=", "a list of one"),
    (lambda: rs.Asset(plain, deps=[task]), "invalid deps item=", "rs.AssetDef.dep('task')"),
    (lambda: rs.Asset.from_multi(plain, output_defs=["a"]), "invalid output_defs", "AssetDef('a')"),
    (lambda: rs.Asset.from_multi(plain, output_defs=rs.AssetDef("a")), "invalid output_defs", "[rs.AssetDef('a')"),
    # parentheses forgotten
    (
        lambda: rs.Asset.from_multi(plain),
        "multi-asset 'plain': invalid output_defs=None",
        "@rs.Asset.from_multi(output_defs=[",
    ),
    (
        lambda: rs.Asset.external(plain),
        "external asset 'plain': invalid io_handler=None",
        "rs.Asset.external(io_handler=",
    ),
    (
        lambda: repository(default_executor=rs.Executor.parallel),
        "invalid default_executor=",
        "call it: rs.Executor.par",
    ),
    (
        lambda: repository(default_executor=rs.Executor.Parallel),
        "invalid default_executor=",
        "rs.Executor.Parallel(...)",
    ),
    (
        lambda: repository(resources={"db": Database}),
        "invalid resources['db']=",
        "of it: Database(...)",
    ),
    (lambda: rs.Asset(plain, io_handler=rs.InMemoryIOHandler), "invalid io_handler=", "rs.InMemoryIOHandler(...)"),
    (lambda: rs.Asset(plain, retry=rs.RetryPolicy), "invalid retry=", "rs.RetryPolicy(...)"),
    (lambda: rs.Asset(plain, compute=rs.Compute), "invalid compute=", "rs.Compute(...)"),
    (
        lambda: rs.RetryPolicy(backoff=rs.Backoff.exponential),
        "invalid backoff=",
        "call it: rs.Backoff.exp",
    ),
    (lambda: rs.RetryPolicy(backoff=rs.Backoff), "invalid backoff=", "rs.Backoff.exponential(1), or constant"),
    (lambda: rs.RetryPolicy(retry_on=rs.RetryOn), "invalid retry_on=", "rs.RetryOn.TRANSIENT"),
    # functions
    (lambda: rs.Asset(classmethod(plain)), "expected a function for the asset", "a classmethod gets no class"),
    (lambda: rs.Asset(property(plain)), "expected a function for the asset", "a property has no instance"),
    (lambda: rs.Asset(functools.cached_property(plain)), "expected a function for the asset", "a property has"),
    (lambda: rs.Asset(rs.BashTask("b", "true")), "is a bash task", "compose it in @rs.Asset.from_graph"),
    (lambda: rs.Asset(functools.partial(plain)), "has no name of its own", 'name="..."'),
    (lambda: rs.Asset(lambda: 1), "a lambda has no name of its own", 'name="..."'),
    (lambda: rs.Asset(Model), "expected a function, not a class", "a function that returns Model(...)"),
    (lambda: rs.Asset(coroutine()), "expected a function", "without calling it: waits"),
    (lambda: rs.Asset(plain()), "expected a function", "without calling it"),
    (lambda: rs.Asset("one"), "expected a function", "write name='one'"),
    (lambda: rs.Asset([plain]), "expected a function", "one asset of each function"),
    (lambda: rs.Asset(math), "expected a function", "the functions of the module math"),
    (lambda: rs.Task(property(plain)), "expected a function for the task", "with @rs.Task"),
    (lambda: rs.Asset(name="x")(Model()), "expected a function for the asset", ""),
    # executors, retries, resources
    (lambda: repository(default_executor="paralel"), "invalid default_executor='paralel'", "rs.Executor.parallel()"),
    (lambda: repository(default_executor=4), "invalid default_executor=4", "rs.Executor.parallel(max_workers="),
    (lambda: repository(default_executor=ThreadPoolExecutor(1)), "invalid default_executor=", "max_workers="),
    (lambda: repository(executors=[rs.Executor.in_process()]), "invalid executors=", 'executors={"name": ...}'),
    (
        lambda: repository(executors={"gpu": "parallel"}),
        "invalid executors['gpu']='parallel'",
        "rs.Executor.parallel()",
    ),
    (lambda: repository(executors={"gpu": None}), "invalid executors['gpu']=None", ""),
    (lambda: rs.Asset(plain, retry=3), "invalid retry=3", "write retry=rs.RetryPolicy(3)"),
    (lambda: rs.Asset(plain, retry=rs.Backoff.constant(1)), "invalid retry=", "rs.RetryPolicy(backoff="),
    (lambda: repository(default_retry_policy=3), "invalid default_retry_policy=3", "=rs.RetryPolicy(3)"),
    (lambda: repository(retries={"often": 3}), "invalid retries['often']=3", "write rs.RetryPolicy(3)"),
    (lambda: repository(retries=[rs.RetryPolicy(1)]), "invalid retries=", 'retries={"name": ...}'),
    (lambda: repository(resources={"db": rs.PickleIOHandler}), "invalid resources['db']=", "rs.PickleIOHandler(...)"),
    (lambda: repository(default_io_handler="s3://x"), "invalid default_io_handler=", "rs.PickleIOHandler('s3://x')"),
    (lambda: repository(resources={"db": Model()}), "invalid resources['db']=", "derive Model from rs.Resource"),
    (lambda: repository(resources={"db": Duck()}), "invalid resources['db']=", "derive Duck from rs.BaseIOHandler"),
    (lambda: repository(resources={"db": object()}), "invalid resources['db']=", "setup() of an rs.Resource"),
    (lambda: repository(resources={"db": one}), "invalid resources['db']=", "write it in assets="),
    (lambda: rs.RetryPolicy(backoff=5), "invalid backoff=5", "rs.Backoff.constant(5)"),
    (lambda: rs.RetryPolicy(backoff=timedelta(seconds=5)), "invalid backoff=", "rs.Backoff.constant("),
    (lambda: rs.RetryPolicy(backoff=[1, 5]), "invalid backoff=[1, 5]", "rs.Backoff.fixed([1, 5])"),
    (lambda: rs.Backoff.fixed(5), "invalid schedule=5", "rs.Backoff.constant(5)"),
    (lambda: rs.RetryPolicy(retry_on="transient"), "invalid retry_on=", "rs.RetryOn.TRANSIENT"),
    (lambda: rs.RetryPolicy(retry_on=["timeout"]), "invalid retry_on[0]=", "rs.FailureReason.TIMEOUT"),
    (lambda: rs.RetryPolicy(retry_on=["ConectionError"]), "invalid retry_on[0]=", "retry_on=ConnectionError"),
    (lambda: rs.RetryPolicy(retry_on=[OSError()]), "invalid retry_on[0]=", "give its type: OSError"),
    (lambda: rs.RetryPolicy(retry_on=[rs.RetryOn.TRANSIENT]), "invalid retry_on[0]=", "=rs.RetryOn.TRANSIENT alone"),
    (lambda: rs.RetryPolicy(escalate=2), "invalid escalate=2", "rs.ComputeEscalation(factor=2"),
    # other settings
    (lambda: rs.Asset(plain, compute={"cpu": 2}), "invalid compute=", "write compute=rs.Compute(cpu=2)"),
    (lambda: rs.Asset(plain, compute=2), "invalid compute=2", "rs.Compute(cpu=2)"),
    (lambda: rs.Asset(plain, timeout="5"), "invalid timeout='5'", "write timeout=5, a number"),
    (lambda: rs.Asset(plain, metadata={"a": 1}), "invalid metadata['a']=1", "write {'a': '1'}"),
    (lambda: rs.Asset(plain, code_version=1.1), "invalid code_version=1.1", "write code_version='1.1'"),
    (lambda: rs.Asset(plain, io_handler=Path("x")), "invalid io_handler=", "rs.PickleIOHandler('x')"),
    (lambda: rs.Asset(plain, io_handler=Duck()), "invalid io_handler=", "derive Duck from rs.BaseIOHandler"),
    (lambda: rs.Job("j", [one], tags={"a": 1}), "job 'j': invalid tags=", "write {'a': '1'}"),
    (lambda: repository().materialize(JOB), "invalid selection=", "get_job('j').execute()"),
    (lambda: repository().materialize(one()), "invalid selection=1", "without calling it"),
    (lambda: repository().materialize(config={"one": 3}), "invalid config['one']=3", '{"field": value}'),
    (lambda: repository().materialize(config={"one": Model()}), "invalid config['one']=", "Model(...).model_dump()"),
    (lambda: repository().materialize([plain]), "invalid selection[0]=", "write 'plain'"),
    (lambda: repository().materialize("one", "two"), "invalid tags='two'", "several assets as one list"),
    (lambda: repository().materialize(one, one), "invalid tags=", "several assets as one list"),
    (lambda: repository().load_node(3), "invalid name=3: expected an asset, a task or the name of one", ""),
    (lambda: repository().get_job(one), "invalid name=<Asset 'one'>", ""),
    (lambda: repository().materialize(on_event=[print]), "invalid on_event=", "a function that calls each"),
    (lambda: repository().materialize(on_event=rs.ListSink), "invalid on_event=", "rs.ListSink(...)"),
    (lambda: rs.DynamicOutput(3, 1), "DynamicOutput: invalid key=3", "write key=str(...)"),
]


@pytest.mark.parametrize(
    ("make", "message", "hint"),
    MISTAKES,
    ids=[f"{n}-{text}" for n, (_, text, _) in enumerate(MISTAKES)],
)
def test_mistake(make: Callable[[], Any], message: str, hint: str) -> None:
    """The error names argument and value, and the hint fits the mistake."""
    with pytest.raises(RiversError, match=re.escape(message)) as caught:
        make()

    assert hint in str(caught.value)
    if not hint:
        assert "→" not in str(caught.value)


def test_staticmethod() -> None:
    """A staticmethod is the function in it, whichever decorator comes first."""

    class Group:
        @rs.Asset
        @staticmethod
        def first() -> int:
            return 1

        @staticmethod
        @rs.Asset
        def second(first: int) -> int:
            return first + 1

    repo = rs.CodeRepository(assets=[Group.first, Group.second])
    repo.materialize()

    assert (1, 2) == (repo.load_node("first"), repo.load_node("second"))


def test_objects_for_names() -> None:
    """Where a name is expected, the asset or the job itself is as good."""
    repo = repository(jobs=[JOB])
    repo.get_job(JOB).execute()

    assert 1 == repo.load_node(one)
    assert ["one", "one"] == [dep.name for dep in (rs.AssetDef.dep(one), rs.AssetDef.input(one))]
    assert repo.io_handler_for_output(one) is repo.io_handler_for_output("one")


@pytest.mark.parametrize("timeout", [90, 90.0, timedelta(minutes=1.5)], ids=repr)
def test_timeout(timeout: Any) -> None:
    """A timeout is seconds or a timedelta, on assets and tasks alike."""
    made = (
        rs.Asset(plain, timeout=timeout),
        rs.Task(plain, timeout=timeout),
        rs.BashTask("b", "true", timeout=timeout),
    )

    assert [90.0] * 3 == [one.timeout for one in made]
