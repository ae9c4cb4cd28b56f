"""What `validate`, `resolve` and a run refuse beyond the graph itself: unreachable stores, refs, retries."""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rivers as rs
from rivers.exceptions import ConfigurationError, GraphValidationError, Problem, RefResolutionError, RiversError

Install = Callable[..., type]


@rs.Asset
def made() -> int:
    return 1


def problems(*assets: rs.Asset, **settings: Any) -> tuple[Problem, ...]:
    with pytest.raises(GraphValidationError) as caught:
        rs.CodeRepository(list(assets), **settings).resolve()
    return caught.value.problems


def on(executor: str, **settings: Any) -> rs.Asset:
    return rs.Asset(lambda: 1, name="one", metadata={"rivers/executor": executor}, **settings)


class TestReach:
    @pytest.mark.parametrize("kind", ["parallel", "kubernetes"])
    def test_memory(self, kind: str) -> None:
        """D5: an InMemoryIOHandler on a step that runs elsewhere is refused, with asset, handler and what to write."""
        (problem,) = problems(on(kind, io_handler=rs.InMemoryIOHandler()))

        assert "one" == problem.asset
        assert str(problem.where).startswith(__file__)
        for part in ("'one'", "InMemoryIOHandler", repr(kind), "io_handler=rs.PickleIOHandler("):
            assert part in problem.message

    def test_default_store(self) -> None:
        """D5: nothing set at all is good for every executor of this machine, and refused on kubernetes."""
        rs.CodeRepository([on("parallel")]).resolve()

        (problem,) = problems(on("kubernetes"))

        assert "the repository's default store, whose values stay within this machine" in problem.message
        assert 'rs.PickleIOHandler("s3://bucket/folder")' in problem.message

    def test_local_store(self, tmp_path: Path) -> None:
        """A store of this machine is good for parallel and refused on kubernetes; one that all reach is not."""
        local, far = rs.PickleIOHandler(str(tmp_path)), rs.PickleIOHandler("s3://bucket")
        rs.CodeRepository([on("parallel", io_handler=local)]).resolve()
        rs.CodeRepository([on("kubernetes", io_handler=far)]).resolve()

        (problem,) = problems(on("kubernetes", io_handler=local))

        assert "s3://" in problem.message

    def test_inputs(self) -> None:
        """What a step elsewhere loads must reach it, too: values of this process, external ones and by override."""
        memory, far = rs.InMemoryIOHandler(), rs.PickleIOHandler("s3://bucket")

        def reader(here: int, outside: int, far: int) -> int:
            return here + outside + far

        assets = [
            rs.Asset(lambda: 1, name="here", io_handler=memory),
            rs.Asset.external(name="outside", io_handler=memory),
            rs.Asset(lambda: 1, name="far", io_handler=far),
            rs.Asset(
                reader,
                io_handler=far,
                metadata={"rivers/executor": "kubernetes"},
                deps=[rs.AssetDef.input("far", io_handler=memory)],
            ),
        ]

        assert ["'here'", "'outside'", "'far'"] == [problem.message.split()[2] for problem in problems(*assets)]

    def test_job_and_default(self) -> None:
        """It is found for the default executor and for each job's, each asset once, and for one given to a run."""
        one, two = made, rs.Asset(lambda: 1, name="two")
        kubernetes = rs.Executor.kubernetes()
        jobs = [rs.Job("j", [one], executor=kubernetes), rs.Job("k", [one, two], executor=kubernetes)]

        assert ["made", "two"] == [problem.asset for problem in problems(one, two, jobs=jobs)]
        assert ["made", "two"] == [problem.asset for problem in problems(one, two, default_executor=kubernetes)]
        with pytest.raises(GraphValidationError, match="default store"):
            rs.CodeRepository([one]).materialize(executor=kubernetes)

    def test_inside_a_fused_graph(self) -> None:
        """Within a graph asset that is one step, values stay in its worker: only what leaves or enters it counts."""

        @rs.Task(io_handler=rs.InMemoryIOHandler())
        def first() -> int:
            return 1

        @rs.Task
        def second(x: int) -> int:
            return x

        metadata = {"rivers/executor": "kubernetes", "rivers/node/executor": "in_process"}
        far = rs.PickleIOHandler("s3://bucket")

        def graph(**settings: Any) -> rs.Asset:
            return rs.Asset.from_graph(lambda: second(first()), name="g", metadata=metadata, **settings)

        rs.CodeRepository([graph(io_handler=far)]).resolve()
        assert ["g"] == [problem.asset for problem in problems(graph())]

    def test_plugin(self, install: Install) -> None:
        """An installed executor says itself how far its steps run, and the default store reaches this machine."""
        install("machine", reach="MACHINE")
        install("cluster", reach="ANYWHERE")
        rs.CodeRepository([on("machine")]).resolve()

        (problem,) = problems(on("cluster"))

        assert "default store" in problem.message

    def test_async_steps(self) -> None:
        """What parallel awaits runs in this process: memory is good for it, and a sync step's is refused."""

        async def awaited() -> int:
            return 1

        memory = rs.InMemoryIOHandler()
        here = rs.Asset(awaited, io_handler=memory, metadata={"rivers/executor": "parallel"})
        rs.CodeRepository([here]).resolve()

        assert ["one"] == [problem.asset for problem in problems(here, on("parallel", io_handler=memory))]


class TestRefs:
    def test_no_module_scope(self, install: Install) -> None:
        """D3: a `<locals>` function on an executor that imports by name is refused before anything starts."""
        install("far", closures="none")
        ran: list[str] = []

        def local() -> int:
            ran.append("local")
            return 1

        first = rs.Asset(lambda: ran.append("first"), name="first")
        far = rs.Asset(local, metadata={"rivers/executor": "far"}, io_handler=rs.InMemoryIOHandler())
        repository = rs.CodeRepository([first, far])

        with pytest.raises(RiversError, match=r"(?s)<locals>\.local.*module scope") as caught:
            repository.materialize()

        assert isinstance(caught.value, RefResolutionError | GraphValidationError)
        assert [] == ran

    def test_resource(self, install: Install) -> None:
        """D6: a resource that does not survive the way as JSON is refused before anything starts, naming the field."""
        install("far", closures="none")

        # A function that any process can import by name; its parameter `s` gets the resource.
        uses = rs.Asset(string.capwords, name="uses", metadata={"rivers/executor": "far"})
        repository = rs.CodeRepository([uses], resources={"s": Connection(socket=object())})

        with pytest.raises(RiversError, match=r"resource 's'.*Connection.*socket") as caught:
            repository.materialize()

        assert isinstance(caught.value, ConfigurationError | GraphValidationError)


class Connection(rs.Resource):
    socket: Any = None


class TestRetries:
    def test_names(self) -> None:
        """Every unknown policy name of assets, tasks, jobs and the repository is reported, with the closest."""

        @rs.Task(retry="oftne")
        def task() -> int:
            return 1

        found = problems(
            rs.Asset(lambda: 1, name="a", retry="ofte"),
            rs.Asset.from_graph(lambda: task(), name="g", retry="oftenn"),  # noqa: PLW0108 - no composition otherwise
            retries={"often": rs.RetryPolicy(3)},
            jobs=[rs.Job("j", ["a"], retry="oftem")],
            default_retry_policy="ooften",
        )

        assert 5 == len(found)
        assert {"often"} == {problem.closest for problem in found}

    def test_of_a_run(self) -> None:
        """A policy's name given to a run is checked before it starts."""
        with pytest.raises(ConfigurationError, match="did you mean 'often'"):
            rs.CodeRepository([made], retries={"often": rs.RetryPolicy(3)}).materialize(retry="oftn")


class TestValidate:
    def test_as_often_as_you_like(self) -> None:
        """`validate` and `resolve` find the same, again and again, and an error leaves nothing half done."""
        bad = rs.CodeRepository([on("paralel")])
        texts = []
        for use in (bad.validate, bad.resolve, bad.validate, bad.plan, bad.materialize):
            with pytest.raises(GraphValidationError) as caught:
                use()
            texts.append(str(caught.value))
        good = rs.CodeRepository([made])
        good.validate()
        good.resolve()
        good.validate()

        assert 1 == len(set(texts))
        assert good.materialize().success

    def test_value_error(self) -> None:
        """What a definition raises is a ValueError too, so that nobody needs our classes to catch it."""
        with pytest.raises(ValueError, match="is no executor"):
            rs.CodeRepository([on("paralel")]).resolve()
