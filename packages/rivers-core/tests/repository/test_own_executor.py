"""A third party's executor is an equal of the built-in ones: its class says what core needs to know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

import rivers as rs
from rivers.exceptions import ExecutorNotInstalledError, GraphValidationError
from rivers.io_handlers import Reach

Install = Callable[..., type]


@dataclass(frozen=True)
class Lsf(rs.Executor):
    """Runs elsewhere; its backend is not installed here."""

    kind = "lsf"
    requirement = "rivers-lsf>=2"
    reach = Reach.ANYWHERE

    queue: str = "default"


@dataclass(frozen=True)
class Threads(rs.Executor):
    """Runs sync steps on this machine and async steps in this process; its backend is not installed here."""

    kind = "threads"
    async_reach = Reach.PROCESS


@dataclass(frozen=True)
class Here(rs.Executor):
    """Runs steps in the thread that calls them."""

    kind = "here"
    reach = Reach.PROCESS
    is_inline = True


def one() -> int:
    return 1


async def one_async() -> int:
    return 1


def executors_of(repository: rs.CodeRepository) -> dict[str, rs.Executor]:
    return {step.key: step.executor for step in repository.plan().steps}


class TestNotInstalled:
    def test_requirement(self) -> None:
        """A run is refused with the command that installs the package."""
        repository = rs.CodeRepository(
            [rs.Asset(one, io_handler=rs.PickleIOHandler("s3://bucket/x"))], default_executor=Lsf()
        )

        with pytest.raises(ExecutorNotInstalledError, match="pip install 'rivers-lsf>=2'"):
            repository.materialize()

    @pytest.mark.parametrize(
        ("executor", "handler", "function", "refused"),
        [
            (Lsf(), rs.PickleIOHandler("/a/folder"), one, True),
            (Lsf(), rs.InMemoryIOHandler(), one, True),
            (Threads(), rs.PickleIOHandler("/a/folder"), one, False),
            (Threads(), rs.InMemoryIOHandler(), one, True),
            (Threads(), rs.InMemoryIOHandler(), one_async, False),
            (Here(), rs.InMemoryIOHandler(), one, False),
        ],
        ids=["anywhere-folder", "anywhere-memory", "machine-folder", "machine-memory", "async-memory", "here-memory"],
    )
    def test_reach(self, executor: rs.Executor, handler: rs.BaseIOHandler, function: Any, refused: bool) -> None:
        """`resolve` knows how far the steps are away, and refuses IO handlers that do not reach them."""
        repository = rs.CodeRepository([rs.Asset(function, io_handler=handler)], default_executor=executor)

        if not refused:
            repository.resolve()
            return
        with pytest.raises(GraphValidationError, match=f"its executor '{executor.kind}' runs it in another process"):
            repository.resolve()

    @pytest.mark.parametrize("where", ["job", "default", "named"])
    def test_kind(self, where: str) -> None:
        """The kind of a configured executor means that executor, as with a built-in one."""
        asset = rs.Asset(one, metadata={"rivers/executor": "lsf"}, io_handler=rs.PickleIOHandler("s3://bucket/x"))
        given: dict[str, Any] = {
            "job": {"jobs": [rs.Job("j", [asset], executor=Lsf("job"))]},
            "default": {"default_executor": Lsf("default")},
            "named": {"executors": {"big": Lsf("named")}},
        }[where]
        repository = rs.CodeRepository([asset], **given)

        if where == "job":
            with pytest.raises(ExecutorNotInstalledError, match="rivers-lsf"):
                repository.get_job("j").execute()
        else:
            assert {"one": Lsf(where)} == executors_of(repository)

    def test_name_of_another_kind(self) -> None:
        """A configured kind's name cannot be the key of an executor of another kind."""
        repository = rs.CodeRepository(
            [rs.Asset(one)], default_executor=Here(), executors={"here": rs.Executor.in_process()}
        )

        with pytest.raises(GraphValidationError, match=r"invalid executors\['here'\]=.*expected an executor of"):
            repository.resolve()


class TestInline:
    def graph(self, node: str) -> rs.GraphAsset:
        task = rs.Task(one)

        def body() -> Any:
            return task()

        metadata = {"rivers/executor": "lsf", "rivers/node/executor": node}
        handler = rs.PickleIOHandler("s3://bucket/x")
        return rs.Asset.from_graph(body, name="g", metadata=metadata, io_handler=handler)

    @pytest.mark.parametrize("node", ["in_process", "here"])
    def test_fused(self, node: str) -> None:
        """Tasks on an inline executor run inside the step of their graph asset."""
        repository = rs.CodeRepository([self.graph(node)], executors={"a": Lsf(), "b": Here()})

        assert {"g": Lsf()} == executors_of(repository)

    def test_apart(self) -> None:
        """Tasks on another executor are steps of their own."""
        repository = rs.CodeRepository([self.graph("lsf")], executors={"a": Lsf()})

        assert {"g/one": Lsf()} == executors_of(repository)
