"""Which executor a step gets: the nearest of metadata, job and repository (contract.md §2)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import pytest

import rivers as rs
from rivers._executor.registry import installed
from rivers._plan.specify import _metadata
from rivers.exceptions import ConfigurationError, ExecutorNotInstalledError, GraphValidationError

PARALLEL = rs.Executor.parallel(max_workers=3)
KUBERNETES = rs.Executor.kubernetes("image:1", namespace="jobs")
IN_PROCESS = rs.Executor.in_process()


class NowhereIOHandler(rs.BaseIOHandler):
    """Says it reaches anywhere, so that every executor may be planned; keeps values in this process."""

    def model_post_init(self, context: Any, /) -> None:
        self._values: dict[str, Any] = {}

    def handle_output(self, context: rs.OutputContext, obj: Any) -> None:
        self._values[context.asset_name] = obj

    def load_input(self, context: rs.InputContext) -> Any:
        return self._values[context.asset_name]


ANYWHERE = NowhereIOHandler()


def asset(name: str = "one", metadata: dict[str, str] | None = None) -> rs.Asset:
    def body() -> int:
        return 1

    return rs.Asset(body, name=name, metadata=metadata, io_handler=ANYWHERE)


def graph(metadata: dict[str, str] | None = None, task: dict[str, str] | None = None, name: str = "g") -> rs.GraphAsset:
    @rs.Task(metadata=task)
    def only() -> int:
        return 1

    def body() -> Any:
        return only()

    return rs.Asset.from_graph(body, name=name, metadata=metadata, io_handler=ANYWHERE)


def executors_of(repository: rs.CodeRepository, **settings: Any) -> dict[str, rs.Executor]:
    return {step.key: step.executor for step in repository.plan(**settings).steps}


class TestAsset:
    @pytest.mark.parametrize("own", [None, "in_process", "parallel", "kubernetes"])
    @pytest.mark.parametrize("job", [None, PARALLEL, KUBERNETES, IN_PROCESS])
    @pytest.mark.parametrize("default", [None, PARALLEL, KUBERNETES])
    def test_order(self, own: str | None, job: rs.Executor | None, default: rs.Executor | None) -> None:
        """An asset's metadata wins over the job's executor, that over the default, and in_process is what is left."""
        one = asset(metadata={"rivers/executor": own} if own else None)
        repository = rs.CodeRepository([one], default_executor=default)
        kinds = [own, job and job.kind, default and default.kind, "in_process"]

        expected = next(kind for kind in kinds if kind)

        assert expected == executors_of(repository, executor=job)["one"].kind

    def test_kind_is_the_configured_one(self) -> None:
        """A kind's name means the configured executor of that kind: the job's, else the default, else a named one."""
        one = asset(metadata={"rivers/executor": "parallel"})
        default, named = rs.Executor.parallel(5), rs.Executor.parallel(7)

        everything = rs.CodeRepository([one], default_executor=default, executors={"wide": named})
        only_named = rs.CodeRepository([one], executors={"wide": named})
        nothing = rs.CodeRepository([one])

        assert {"one": PARALLEL} == executors_of(everything, executor=PARALLEL)
        assert {"one": default} == executors_of(everything)
        assert {"one": named} == executors_of(only_named)
        assert {"one": rs.Executor.parallel()} == executors_of(nothing)

    def test_kind_as_a_key(self) -> None:
        """A kind's name as a key of `executors` is the first of the named ones, but the job's own is nearer."""
        one = asset(metadata={"rivers/executor": "parallel"})
        named = {"wide": rs.Executor.parallel(7), "parallel": rs.Executor.parallel(9)}
        repository = rs.CodeRepository([one], executors=named)

        assert {"one": named["parallel"]} == executors_of(repository)
        assert {"one": PARALLEL} == executors_of(repository, executor=PARALLEL)

    def test_key(self) -> None:
        """A key of `executors` is a value of `rivers/executor`, whatever the job's executor is."""
        one = asset(metadata={"rivers/executor": "gpu"})
        repository = rs.CodeRepository([one], executors={"gpu": KUBERNETES})

        assert {"one": KUBERNETES} == executors_of(repository, executor=PARALLEL)

    def test_key_that_misnames_a_kind(self) -> None:
        """A key that is a kind's name for an executor of another kind is refused: it would mean two things."""
        repository = rs.CodeRepository([asset()], executors={"parallel": KUBERNETES})

        with pytest.raises(GraphValidationError, match=r"executors\['parallel'\].*kind 'kubernetes'"):
            repository.resolve()

    def test_node_key_is_for_graphs(self) -> None:
        """`rivers/node/executor` says nothing of an asset that is no graph."""
        repository = rs.CodeRepository([asset(metadata={"rivers/node/executor": "parallel"})])

        assert {"one": IN_PROCESS} == executors_of(repository)

    def test_multi_asset(self) -> None:
        """A multi-asset is one step; its own metadata chooses the executor."""

        @rs.Asset.from_multi(
            output_defs=[rs.AssetDef("a", io_handler=ANYWHERE), rs.AssetDef("b", io_handler=ANYWHERE)],
            metadata={"rivers/executor": "kubernetes"},
        )
        def both() -> tuple[int, int]:
            return 1, 2

        assert {"both": rs.Executor.kubernetes()} == executors_of(rs.CodeRepository([both]))


class TestTask:
    @pytest.mark.parametrize(
        ("task_node", "task_own", "graph_node", "graph_own"),
        [
            combination
            for combination in itertools.product((None, "parallel", "gpu"), repeat=4)
            if combination.count("gpu") <= 1
        ],
    )
    def test_order(
        self, task_node: str | None, task_own: str | None, graph_node: str | None, graph_own: str | None
    ) -> None:
        """A task's two keys win over its graph's two, each time `rivers/node/executor` over `rivers/executor`."""
        found = {"rivers/node/executor": task_node, "rivers/executor": task_own}
        above = {"rivers/node/executor": graph_node, "rivers/executor": graph_own}
        one = graph(
            {key: value for key, value in above.items() if value}, {key: value for key, value in found.items() if value}
        )
        repository = rs.CodeRepository([one], executors={"gpu": KUBERNETES})
        named = {"parallel": PARALLEL, "gpu": KUBERNETES}

        expected = next((named[v] for v in (task_node, task_own, graph_node, graph_own) if v), PARALLEL)

        assert {"g/only": expected} == executors_of(repository, executor=PARALLEL)

    def test_default_is_last(self) -> None:
        """A task that names no executor runs on the job's, else on the default."""
        repository = rs.CodeRepository([graph()], default_executor=KUBERNETES)

        assert {"g/only": KUBERNETES} == executors_of(repository)
        assert {"g/only": PARALLEL} == executors_of(repository, executor=PARALLEL)

    def test_bash_task(self) -> None:
        """The executor of a bash task is found like any other's."""
        hello = rs.BashTask("hello", "true", metadata={"rivers/node/executor": "parallel"})

        def body() -> Any:
            return hello()

        repository = rs.CodeRepository([rs.Asset.from_graph(body, name="g", io_handler=ANYWHERE)])

        assert {"g/hello": "parallel"} == {key: found.kind for key, found in executors_of(repository).items()}

    def test_standalone_task(self) -> None:
        """A task that runs by itself has the executor of its own two keys."""

        @rs.Task(metadata={"rivers/node/executor": "parallel", "rivers/executor": "kubernetes"}, io_handler=ANYWHERE)
        def alone() -> int:
            return 1

        assert "parallel" == executors_of(rs.CodeRepository([], tasks=[alone]))["alone"].kind


class TestFused:
    @pytest.mark.parametrize("outer", ["parallel", "kubernetes", "gpu"])
    def test_one_step(self, outer: str) -> None:
        """A graph asset on X whose tasks are all in_process is one step of X, its tasks in order inside it."""
        one = graph({"rivers/executor": outer, "rivers/node/executor": "in_process"})
        repository = rs.CodeRepository([one], executors={"gpu": KUBERNETES})

        (step,) = repository.plan().steps

        assert ("g", "kubernetes" if outer == "gpu" else outer) == (step.key, step.executor.kind)
        assert ["g/only"] == [node.key for node in step.inner]

    def test_by_the_tasks_own_word(self) -> None:
        """It is the same when the tasks say in_process themselves."""
        one = graph({"rivers/executor": "parallel"}, {"rivers/executor": "in_process"})

        assert {"g": "parallel"} == {k: v.kind for k, v in executors_of(rs.CodeRepository([one])).items()}

    def test_not_in_process(self) -> None:
        """With one task elsewhere, all tasks are steps; so they are when the graph itself is in_process."""
        apart = graph({"rivers/executor": "parallel"}, {"rivers/executor": "kubernetes"})
        here = graph({"rivers/executor": "in_process", "rivers/node/executor": "in_process"}, name="h")

        assert {"g/only": "kubernetes", "h/only": "in_process"} == {
            key: found.kind for key, found in executors_of(rs.CodeRepository([apart, here])).items()
        }

    def test_with_upstream_selected(self) -> None:
        """A graph asset that comes along as an upstream is fused, too, with the tasks that lead nowhere."""

        @rs.Task
        def aside() -> None:
            return None

        @rs.Task
        def value() -> int:
            return 1

        def body() -> Any:
            aside()
            return value()

        def after(g: int) -> int:
            return g

        metadata = {"rivers/executor": "parallel", "rivers/node/executor": "in_process"}
        g = rs.Asset.from_graph(body, name="g", io_handler=ANYWHERE, metadata=metadata)
        repository = rs.CodeRepository([g, rs.Asset(after)])

        plan = repository.plan("after", include_upstream=True)

        assert ["g", "after"] == [step.key for step in plan.steps]
        assert ["g/aside", "g/value"] == [node.key for node in plan.steps[0].inner]


class TestWrong:
    def test_all_at_once(self) -> None:
        """One error names every wrong value, with asset, file:line, the valid values and the closest."""
        assets = [
            asset("a", {"rivers/executor": "paralel"}),
            asset("b", {"rivers/executor": "kubernets"}),
            graph({"rivers/node/executor": "in-process"}, {"rivers/executor": "gpus"}),
        ]
        repository = rs.CodeRepository(assets, executors={"gpu": KUBERNETES})

        with pytest.raises(GraphValidationError) as caught:
            repository.validate()

        problems = [(problem.asset, problem.closest) for problem in caught.value.problems]
        assert [("a", "parallel"), ("b", "kubernetes"), ("g", "gpu"), ("g", "in_process")] == problems
        for problem, value in zip(caught.value.problems, ["paralel", "kubernets", "gpus", "in-process"], strict=True):
            assert repr(value) in problem.message
            assert {"gpu", "in_process", "kubernetes", "parallel"} <= set(problem.allowed)
            assert problem.where is not None
            assert problem.where.startswith(f"{__file__}:")
        assert "task 'only'" in caught.value.problems[2].message

    @pytest.mark.parametrize("value", ["", "Parallel", " parallel", "in_process ", "loky", "x" * 5000])
    def test_value(self, value: str) -> None:
        """Only the exact names count."""
        with pytest.raises(GraphValidationError, match="is no executor"):
            rs.CodeRepository([asset(metadata={"rivers/executor": value})]).resolve()

    @pytest.mark.parametrize("key", ["rivers/executer", "rivers/node", "rivers/nodes/executor", "rivers/"])
    def test_key(self, key: str) -> None:
        """A mistyped `rivers/…` key is refused where it is written: it would silently run the step elsewhere."""
        with pytest.raises(rs.exceptions.AssetDefinitionError, match="not one that rivers knows"):
            asset(metadata={key: "parallel"})

    @pytest.mark.parametrize(
        "executors", [{"gpu": "kubernetes"}, {"": PARALLEL}, {1: PARALLEL}, [PARALLEL], {"a": None}]
    )
    def test_executors(self, executors: Any) -> None:
        """`executors` is a dict of Executor values by name."""
        with pytest.raises(ConfigurationError, match="executors"):
            rs.CodeRepository([asset()], executors=executors)

    @pytest.mark.parametrize("given", ["parallel", rs.Executor.Parallel, 3])
    def test_no_executor(self, given: Any) -> None:
        """Where an Executor value is wanted, a name or a class is refused with what to write."""
        for make in (
            lambda: rs.CodeRepository([asset()], default_executor=given),
            lambda: rs.Job("j", ["one"], executor=given),
            lambda: rs.CodeRepository([asset()]).plan(executor=given),
            lambda: rs.CodeRepository([asset()]).materialize(executor=given),
        ):
            with pytest.raises(ConfigurationError, match=r"rs\.Executor\.parallel\(\)"):
                make()


@dataclass(frozen=True)
class Queue(rs.Executor):
    """An executor of another package, with parameters that metadata overrides."""

    kind = "queue"
    overridable = ("partition", "cpus")

    partition: str = "day"
    cpus: int | str = 1
    host: str = "here"

    def __post_init__(self) -> None:
        if not str(self.cpus).isdecimal():
            raise ConfigurationError(f"invalid cpus={self.cpus!r}: expected a whole number")


class TestParameters:
    def test_for_step(self) -> None:
        """`rivers/<kind>/<parameter>` overrides a parameter of the executor for one step."""
        metadata = {"rivers/queue/partition": "night", "rivers/slurm/account": "x", "rivers/executor": "queue"}

        assert Queue(partition="night", cpus=2) == Queue(cpus=2).for_step(metadata)
        assert Queue(cpus=2) == Queue(cpus=2).for_step({"rivers/slurm/account": "x"})
        assert IN_PROCESS == IN_PROCESS.for_step(None)

    def test_accepted(self) -> None:
        """Parameters of an executor whose package is not installed here are no problem."""
        metadata = {"rivers/queue/cpus": "4", "rivers/elsewhere/account": "x"}

        rs.CodeRepository([asset(metadata=metadata)], default_executor=Queue()).resolve()

    @pytest.mark.parametrize(
        ("key", "value", "problem"),
        [
            ("rivers/queue/partitoin", "night", "did you mean 'rivers/queue/partition'"),
            ("rivers/queue/host", "there", "expected one of the parameters that metadata overrides: partition, cpus"),
            ("rivers/queue/cpus", "many", "invalid cpus='many'"),
            ("rivers/quue/cpus", "4", "'quue' is no executor"),
            ("rivers/parallel/max_workers", "4", "overrides: none"),
        ],
    )
    def test_refused(self, key: str, value: str, problem: str) -> None:
        """`resolve()` names what cannot be overridden, a wrong value, and what looks like a typo."""
        repository = rs.CodeRepository([asset(metadata={key: value})], default_executor=Queue())

        with pytest.raises(GraphValidationError) as caught:
            repository.resolve()

        assert problem in str(caught.value)
        assert "one" == caught.value.problems[0].asset

    def test_task_of_graph(self) -> None:
        """A task has the overrides of its graph asset, unless it has its own."""
        given = graph({"rivers/queue/partition": "night", "rivers/queue/cpus": "2", "team": "a"})
        own = rs.Task(lambda: 1, name="t", metadata={"rivers/queue/cpus": "3"})

        assert {"rivers/queue/partition": "night", "rivers/queue/cpus": "3"} == _metadata(own, given)


class TestNotInstalled:
    def test_running(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is not installed is planned; running it raises, with the pip command, and starts nothing."""
        kind = "kubernetes"
        monkeypatch.delitem(installed(), kind, raising=False)  # a developer's environment has it
        ran: list[str] = []

        def first() -> int:
            ran.append("first")
            return 1

        one = rs.Asset(first, io_handler=ANYWHERE)
        two = asset("two", {"rivers/executor": kind})
        repository = rs.CodeRepository([one, two], jobs=[rs.Job("j", [one, two])])

        for run in (repository.materialize, repository.get_job("j").execute):
            with pytest.raises(ExecutorNotInstalledError, match=rf"pip install 'rivers-core\[{kind}\]'"):
                run()

        assert [] == ran

    def test_own_class_without_a_package(self) -> None:
        """An executor class that no installed package carries out is refused when it is to run."""

        class Nowhere(rs.Executor):
            kind = "nowhere"

        repository = rs.CodeRepository([asset()], default_executor=Nowhere())

        assert "nowhere" == executors_of(repository)["one"].kind
        with pytest.raises(ExecutorNotInstalledError, match="nowhere"):
            repository.materialize()
