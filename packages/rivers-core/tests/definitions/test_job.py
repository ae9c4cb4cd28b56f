"""Jobs: named selections with settings of their own (contract.md §4)."""

from __future__ import annotations

from typing import Any

import pytest

import rivers as rs
from rivers.exceptions import (
    ConfigurationError,
    ExecutionError,
    GraphValidationError,
    NodeNotFoundError,
)


@rs.Asset
def first() -> int:
    return 1


@rs.Asset
def second(first: int) -> int:
    return first + 1


@rs.Task
def chore() -> str:
    return "done"


@rs.Asset.from_multi(output_defs=[rs.AssetDef("a"), rs.AssetDef("b")])
def both() -> tuple[int, int]:
    return 1, 2


@rs.Asset.from_graph
def graph() -> Any:
    return chore()


def repository(*jobs: rs.Job) -> rs.CodeRepository:
    return rs.CodeRepository(
        [first, second, both, graph], tasks=[rs.Task(chore.function, name="alone")], jobs=list(jobs)
    )


class TestSelection:
    @pytest.mark.parametrize(
        ("assets", "steps"),
        [
            ([first], ["first"]),
            (["first", second], ["first", "second"]),
            ([second, "first", first], ["first", "second"]),
            (("a",), ["both"]),
            ([both, graph], ["both", "graph/chore"]),
            (["alone"], ["alone"]),
        ],
        ids=["asset", "mixed", "twice", "output", "graph", "task"],
    )
    def test_runs(self, assets: Any, steps: list[str]) -> None:
        """A job holds assets, tasks and names in any mixture, and runs just these, each after what it needs."""
        result = repository(rs.Job("j", assets)).get_job("j").execute()

        assert steps == list(result.steps)
        assert result.success

    @pytest.mark.parametrize("assets", [[], "first", None, first, 3, [3], [None]], ids=repr)
    def test_wrong(self, assets: Any) -> None:
        """`assets` is a list of at least one asset, task or name."""
        with pytest.raises(GraphValidationError, match="job 'j': invalid assets"):
            rs.Job("j", assets)

    def test_unknown(self) -> None:
        """All names of all jobs that are none are reported together, with the closest and where the job was made."""
        jobs = [rs.Job("j", ["frist", "first", "secnd"]), rs.Job("k", ["grap"])]

        with pytest.raises(GraphValidationError) as caught:
            repository(*jobs).resolve()

        assert ["first", "second", "graph"] == [problem.closest for problem in caught.value.problems]
        assert all(str(problem.where).startswith(f"{__file__}:") for problem in caught.value.problems)

    def test_external(self) -> None:
        """An external asset in a job is reported by `resolve`: no step makes it."""
        outside = rs.Asset.external(name="outside", io_handler=rs.InMemoryIOHandler())

        with pytest.raises(GraphValidationError, match="job 'j': asset 'outside' is external"):
            rs.CodeRepository([outside], jobs=[rs.Job("j", [outside])]).resolve()

    def test_same_name(self) -> None:
        """Two jobs of one name are reported, both with their source locations."""
        jobs = [rs.Job("j", [first]), rs.Job("j", [second])]

        with pytest.raises(GraphValidationError, match="two jobs are called 'j'") as caught:
            repository(*jobs).resolve()

        assert 2 == str(caught.value).count(f"{__file__}:")


class TestSettings:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"name": ""}, "job name"),
            ({"name": 3}, "job name"),
            ({"executor": "parallel"}, "job 'j': invalid executor='parallel'"),
            ({"retry": 3}, "job 'j': invalid retry=3"),
            ({"tags": {"a": 1}}, "tags="),
            ({"tags": ["a"]}, "tags="),
        ],
        ids=repr,
    )
    def test_wrong(self, settings: Any, message: str) -> None:
        """A wrong setting is refused where it is written."""
        with pytest.raises(ConfigurationError, match=message):
            rs.Job(**{"name": "j", "assets": [first], **settings})

    def test_retry_name(self) -> None:
        """A retry policy's name that is none is reported by `resolve`, with the ones that are."""
        bad = rs.CodeRepository(
            [first], jobs=[rs.Job("j", [first], retry="oftn")], retries={"often": rs.RetryPolicy(1)}
        )

        with pytest.raises(GraphValidationError, match="did you mean 'often'"):
            bad.resolve()

    def test_without_a_repository(self) -> None:
        """A job by itself cannot run, and says how."""
        with pytest.raises(ExecutionError, match=r"get_job\('j'\)"):
            rs.Job("j", [first]).execute()

    def test_get(self) -> None:
        """`get_job` of an unknown name names the closest and the others."""
        with pytest.raises(NodeNotFoundError, match=r"(?s)did you mean 'nightly'.*hourly"):
            repository(rs.Job("nightly", [first]), rs.Job("hourly", [first])).get_job("nightli")
