"""Executors of third parties: found by entry point, chosen by kind, in jobs and in runs (contract.md §2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import rivers as rs
from rivers.exceptions import GraphValidationError

Install = Callable[..., type]


def asset(name: str = "one", metadata: dict[str, str] | None = None, **settings: Any) -> rs.Asset:
    return rs.Asset(lambda: 1, name=name, metadata=metadata, **settings)


def graph(metadata: dict[str, str]) -> rs.GraphAsset:
    @rs.Task
    def only() -> int:
        return 1

    def body() -> Any:
        return only()

    return rs.Asset.from_graph(body, name="g", metadata=metadata)


def ran_on(result: rs.RunResult) -> dict[str, str]:
    return {key: report.worker for key, report in result.steps.items()}


class TestPlugin:
    def test_by_name(self, install: Install) -> None:
        """The kind of an installed package is a value of `rivers/executor`, and means its executor with defaults."""
        install("here")
        repository = rs.CodeRepository([asset(metadata={"rivers/executor": "here"}), asset("two")])

        result = repository.materialize()

        assert ("here", "in_process") == (result.steps["one"].executor, result.steps["two"].executor)
        assert "Here(lane='default')" == ran_on(result)["one"]

    def test_in_a_job(self, install: Install) -> None:
        """In a job, a kind's name means the job's executor of that kind; metadata wins over the job's executor."""
        here = install("here")
        assets = [asset("a", {"rivers/executor": "here"}), asset("b"), asset("c", {"rivers/executor": "in_process"})]
        jobs = [
            rs.Job("same", assets, executor=here(lane="job")),
            rs.Job("other", assets, executor=rs.Executor.in_process()),
            rs.Job("none", assets),
        ]
        repository = rs.CodeRepository(assets, jobs=jobs, executors={"named": here(lane="named")})

        same, other, none = (ran_on(repository.get_job(job.name).execute()) for job in jobs)

        assert ["Here(lane='job')", "Here(lane='job')"] == [same["a"], same["b"]]
        assert "Here" not in same["c"]
        assert ["Here(lane='named')", False] == [other["a"], "Here" in other["b"]]
        assert ["Here(lane='named')", False] == [none["a"], "Here" in none["b"]]

    def test_materialize_executor(self, install: Install) -> None:
        """`materialize(executor=…)` stands where a job's executor stands."""
        here = install("here")
        repository = rs.CodeRepository([asset("a", {"rivers/executor": "here"}), asset("b")])

        result = repository.materialize(executor=here(lane="run"))

        assert {"a": "Here(lane='run')", "b": "Here(lane='run')"} == ran_on(result)

    def test_fused(self, install: Install) -> None:
        """A graph asset on a plug-in whose tasks are in_process really runs there, in one attempt."""
        install("here")
        repository = rs.CodeRepository([graph({"rivers/executor": "here", "rivers/node/executor": "in_process"})])

        result = repository.materialize()

        assert {"g": "Here(lane='default')"} == ran_on(result)
        assert 1 == repository.load_node("g")

    @pytest.mark.parametrize("value", [{"north": 10, "south": 20}, [rs.DynamicOutput("north", 10), 20]])
    def test_fused_map(self, install: Install, value: Any) -> None:
        """In a graph asset that runs as one step, a task maps over a dict's values and over dynamic outputs, too."""
        install("here")

        @rs.Task
        def made() -> Any:
            return value

        @rs.Task
        def double(x: int) -> int:
            return 2 * x

        @rs.Task
        def both(xs: list[int], whole: Any) -> Any:
            return xs, whole

        def body() -> Any:
            source = made()
            return both(source.map(double).collect(), source)

        metadata = {"rivers/executor": "here", "rivers/node/executor": "in_process"}
        repository = rs.CodeRepository([rs.Asset.from_graph(body, name="g", metadata=metadata)])
        repository.materialize()

        assert ([20, 40], value if isinstance(value, dict) else [10, 20]) == repository.load_node("g")

    def test_stands_in_for_kubernetes(self, install: Install) -> None:
        """A package that registers the kind of a built-in executor is what carries that out."""
        install("kubernetes", executor="rs.Executor.Kubernetes")
        repository = rs.CodeRepository([asset(metadata={"rivers/executor": "kubernetes"})])

        result = repository.materialize(executor=rs.Executor.kubernetes("image:1"))

        assert {"one": "Executor.Kubernetes(worker_image='image:1')"} == ran_on(result)

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("import nothing_of_that_name", "nothing_of_that_name"),
            ("Backend = 3", "no rivers.spi.ExecutorBackend"),
            ("raise OSError('no scheduler here')", "no scheduler here"),
        ],
    )
    def test_broken_package(self, install: Install, source: str, message: str) -> None:
        """A package that cannot be used is a problem like any other, and only for who names it."""
        install("bad", source=source)
        named = rs.CodeRepository([asset("a", {"rivers/executor": "bad"}), asset("b", {"rivers/executor": "wrong"})])

        with pytest.raises(GraphValidationError, match=message) as caught:
            named.resolve()

        assert ["a", "b"] == [problem.asset for problem in caught.value.problems]
        rs.CodeRepository([asset("c")]).materialize()
