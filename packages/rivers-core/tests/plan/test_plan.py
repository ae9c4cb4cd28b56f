"""The plan: levels and batches by executor, and its text form."""

from __future__ import annotations

from typing import Any

import pytest

import rivers as rs

STORE = rs.PickleIOHandler("s3://bucket")
PARALLEL, KUBERNETES = rs.Executor.parallel(2), rs.Executor.kubernetes("image")


def asset(name: str, *upstreams: str, on: str | None = None) -> rs.Asset:
    return rs.Asset(
        lambda: 0, name=name, deps=upstreams, metadata={"rivers/executor": on} if on else None, io_handler=STORE
    )


def shape(plan: rs.Plan) -> list[list[tuple[str, list[str]]]]:
    return [[(batch.executor.kind, [step.key for step in batch.steps]) for batch in level] for level in plan.levels]


class TestLevels:
    def test_diamond(self) -> None:
        """Independent steps are grouped by level, whatever the order of definition."""
        repository = rs.CodeRepository([asset("d", "b", "c"), asset("c", "a"), asset("b", "a"), asset("a"), asset("x")])

        assert [
            [("in_process", ["a", "x"])],
            [("in_process", ["c", "b"])],
            [("in_process", ["d"])],
        ] == shape(repository.plan())

    def test_batches(self) -> None:
        """In a level, steps of one executor are one batch, those of different ones separate; equal values are one."""
        assets = [
            asset("a"),
            asset("b", on="parallel"),
            asset("c", on="gpu"),
            asset("d", on="kubernetes"),
            asset("e", on="parallel"),
            asset("f", "b", on="other"),
            asset("g", "a"),
        ]
        executors = {"gpu": KUBERNETES, "other": rs.Executor.parallel(3)}
        repository = rs.CodeRepository(assets, default_executor=PARALLEL, executors=executors)

        assert [
            [("parallel", ["a", "b", "e"]), ("kubernetes", ["c", "d"])],
            [("parallel", ["g"]), ("parallel", ["f"])],
        ] == shape(repository.plan())

    def test_level_is_the_longest_way(self) -> None:
        """A step's level is one more than the highest of those it needs."""
        repository = rs.CodeRepository([asset("a"), asset("b", "a"), asset("c", "b"), asset("d", "a", "c")])

        assert {"a": 0, "b": 1, "c": 2, "d": 3} == {step.key: step.level for step in repository.plan().steps}

    def test_fused_graph(self) -> None:
        """A graph asset that is one step comes after every upstream of its tasks."""

        @rs.Task
        def early() -> int:
            return 1

        @rs.Task
        def late(x: int, y: int) -> int:
            return x + y

        def body(slow: int) -> Any:
            return late(early(), slow)

        def slow(a: int) -> int:
            return a

        metadata = {"rivers/executor": "parallel", "rivers/node/executor": "in_process"}
        graph = rs.Asset.from_graph(body, name="g", metadata=metadata, io_handler=STORE)
        repository = rs.CodeRepository([graph, rs.Asset(slow, io_handler=STORE), asset("a"), asset("after", "g")])

        assert [
            [("in_process", ["a"])],
            [("in_process", ["slow"])],
            [("parallel", ["g"])],
            [("in_process", ["after"])],
        ] == shape(repository.plan())

    def test_fan_out(self) -> None:
        """A mapped task is one step of the plan, one level below the task that it is mapped over."""

        @rs.Task
        def source() -> list[int]:
            return [1]

        @rs.Task
        def each(x: int) -> int:
            return x

        @rs.Task
        def gather(xs: Any) -> Any:
            return list(xs)

        graph = rs.Asset.from_graph(lambda: gather(source().map(each).collect_stream()), name="g")
        plan = rs.CodeRepository([graph]).plan()

        assert [["g/source"], ["g/each"], ["g/gather"]] == [
            [step.key for batch in level for step in batch.steps] for level in plan.levels
        ]


class TestText:
    def test_print(self) -> None:
        """`print(plan)` has a line for each level and each batch, with the executor as it can be pasted back."""
        repository = rs.CodeRepository([asset("a"), asset("b", "a", on="parallel"), asset("c", "a")])

        assert (
            f"level 0\n  Executor.InProcess(): a\nlevel 1\n  Executor.InProcess(): c\n  {rs.Executor.parallel()!r}: b"
        ) == str(repository.plan())
        assert "<Plan of 3 steps>" == repr(repository.plan())
        assert 3 == len(repository.plan())

    def test_nothing(self) -> None:
        """An empty repository has an empty plan, and an empty selection too; running them succeeds."""
        empty = rs.CodeRepository([])

        assert ("", 0) == (str(empty.plan()), len(empty.plan()))
        assert empty.materialize().success
        assert 0 == len(rs.CodeRepository([asset("a")]).plan([]))

    def test_does_nothing(self) -> None:
        """Planning runs no body and stores nothing; a composition is looked at once, however often one plans."""
        seen: list[str] = []

        @rs.Task
        def task() -> None:
            seen.append("task")

        def body() -> Any:
            seen.append("composed")
            return task()

        repository = rs.CodeRepository([rs.Asset.from_graph(body, name="g")])
        repository.plan()
        repository.plan("g")

        assert ["composed"] == seen


@pytest.mark.parametrize("again", [1, 2])
def test_same_every_time(again: int) -> None:
    """The same repository gives the same plan: order does not hang on hashes."""
    names = [f"n{number}" for number in range(200)]
    assets = [
        asset(name, *(names[index] for index in range(number % 7, number, 17))) for number, name in enumerate(names)
    ]

    assert str(rs.CodeRepository(assets).plan()) == str(rs.CodeRepository(assets).plan())
