"""The asset graph: names, circles, and all mistakes at once (faults D1, D2)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rivers as rs
from rivers._plan.cycles import find_cycles, sort_topologically
from rivers.exceptions import GraphValidationError, Problem


def asset(name: str, *upstreams: str) -> rs.Asset:
    return rs.Asset(lambda: 0, name=name, deps=upstreams)


def problems(*assets: rs.Asset, **settings: Any) -> tuple[Problem, ...]:
    with pytest.raises(GraphValidationError) as caught:
        rs.CodeRepository(list(assets), **settings).resolve()
    return caught.value.problems


class TestNames:
    def test_taken(self) -> None:
        """D1: `resolve` reports two definitions of one name, both with file:line, of any kind."""

        @rs.Asset(name="one")
        def first() -> int:
            return 1

        @rs.Task(name="one")
        def second() -> int:
            return 1

        @rs.Asset.from_multi(output_defs=[rs.AssetDef("one"), rs.AssetDef("two")])
        def third() -> tuple[int, int]:
            return 1, 1

        found = problems(first, third, tasks=[second])

        assert 2 == len(found)
        for problem, later in zip(found, (third, second), strict=True):
            assert later.where == problem.where
            assert str(first.where) in problem.message

    def test_listed_twice(self) -> None:
        """An asset that is listed twice is reported as such."""
        one = asset("one")

        assert ["it is listed twice"] == [problem.message for problem in problems(one, one)]

    def test_multi_asset_and_graph_tasks(self) -> None:
        """Names of outputs, of tasks within graphs and of assets share one space: values are kept under them."""

        @rs.Task
        def load() -> int:
            return 1

        @rs.Asset.from_multi(output_defs=[rs.AssetDef("g/load"), rs.AssetDef("x")])
        def multi() -> tuple[int, int]:
            return 1, 1

        def body() -> Any:
            load()
            return load()

        graph = rs.Asset.from_graph(body, name="g")

        assert "'g/load'" in problems(graph, multi)[0].message
        assert "'g/load'" in problems(multi, graph)[0].message
        assert "'g/load'" in problems(graph, asset("g/load"))[0].message


class TestUnknown:
    def test_closest(self) -> None:
        """D2: an upstream that does not exist is reported with the closest name."""

        def reader(custmers: int) -> int:
            return custmers

        (problem,) = problems(rs.Asset(reader), asset("customers"))

        assert ("reader", "customers") == (problem.asset, problem.closest)
        assert "'custmers'" in problem.message

    def test_all_at_once(self) -> None:
        """All mistakes of a repository are in one error, each with asset, location, cause and the closest name."""

        @rs.Task
        def task(x: int) -> int:
            return x

        def wants(nothing: int) -> int:
            return nothing

        assets = [
            rs.Asset(wants),
            asset("after", "wnts"),
            rs.Asset(lambda: 0, name="stored", io_handler="stor"),
            rs.Asset(lambda: 0, name="placed", metadata={"rivers/executor": "paralel"}),
            rs.Asset(lambda: 0, name="retried", retry="oftn"),
            rs.Asset.from_graph(lambda: task(), name="graph"),  # noqa: PLW0108 - the task itself is no composition
            asset("a", "b"),
            asset("b", "a"),
            rs.Asset(lambda: 0, name="far", metadata={"rivers/executor": "kubernetes"}),
        ]
        found = problems(
            *assets,
            resources={"store": rs.InMemoryIOHandler()},
            retries={"often": rs.RetryPolicy(1)},
            jobs=[rs.Job("j", ["aftr"]), rs.Job("j", ["after"])],
        )

        named = {"wants", "after", "stored", "placed", "retried", "graph", "a", "far", None}
        assert named == {problem.asset for problem in found}
        assert {"wants", "store", "parallel", "often", "after", None} == {problem.closest for problem in found}
        assert all(problem.where and problem.where.startswith(__file__) for problem in found)
        assert 10 == len(found)

    def test_text(self) -> None:
        """The error's text has a line for each problem."""
        with pytest.raises(GraphValidationError, match=r"2 problems(?s:.*)did you mean 'ab1'") as caught:
            rs.CodeRepository([asset("ab1", "ab2"), asset("x", "y")]).resolve()

        assert 3 == len(str(caught.value).splitlines())

    def test_many_mistakes(self) -> None:
        """2,000 mistakes in 20,000 assets are all reported; only the first have a suggestion."""
        good = [asset(f"asset_{number}") for number in range(18_000)]
        bad = [asset(f"bad_{number}", f"aset_{number}") for number in range(2_000)]

        found = problems(*good, *bad)

        assert 2_000 == len(found)
        assert "asset_0" == found[0].closest
        assert 50 == sum(problem.closest is not None for problem in found)


class TestCircles:
    def test_itself(self) -> None:
        """D2: an asset that needs itself, by parameter or by dep, is reported."""

        def one(one: int) -> int:
            return one

        assert "it needs itself, by its parameter 'one'" == problems(rs.Asset(one))[0].message
        assert "it comes after itself" in problems(asset("two", "two"))[0].message

    def test_shortest(self) -> None:
        """D2: a cycle is reported by its shortest path, however much depends on it."""
        found = problems(
            asset("tail", "d"),
            asset("a", "d", "c"),
            asset("b", "a"),
            asset("c", "b"),
            asset("d", "c"),
            asset("e", "tail"),
        )

        assert ["assets need each other in a circle: a → b → c → a"] == [problem.message for problem in found]

    def test_several(self) -> None:
        """Cycles that share no asset are each reported."""
        found = problems(asset("a", "b"), asset("b", "a"), asset("x", "y", "a"), asset("y", "z"), asset("z", "x"))

        assert ["a → b → a", "x → z → y → x"] == [problem.message.partition(": ")[2] for problem in found]

    def test_through_tasks(self) -> None:
        """A circle through a graph asset names the task that closes it."""

        @rs.Task
        def first() -> int:
            return 1

        @rs.Task
        def second(x: int, y: int) -> int:
            return x + y

        graph = rs.Asset.from_graph(lambda b: second(first(), b), name="g")
        (problem,) = problems(graph, asset("b", "g"))

        assert "g/second → b → g/second" in problem.message

    def test_through_a_side_task(self) -> None:
        """A graph asset that needs an asset which needs it is a cycle, though none of its tasks is in one."""

        @rs.Task
        def side(x: int) -> int:
            return x

        @rs.Task
        def value() -> int:
            return 1

        def body(b: int) -> Any:
            side(b)
            return value()

        (problem,) = problems(rs.Asset.from_graph(body, name="g"), asset("b", "g"))

        assert "g → b → g" in problem.message

    def test_long(self) -> None:
        """A circle of 2 with chains of 20,000 on both ends of it, and one of 20,000, are found in linear time."""
        above = [asset("u0")] + [asset(f"u{n}", f"u{n - 1}") for n in range(1, 20_000)]
        circle = [asset("a", "b", "u19999"), asset("b", "a")]
        below = [asset("d0", "a")] + [asset(f"d{n}", f"d{n - 1}") for n in range(1, 20_000)]
        ring = [asset(f"r{n}", f"r{(n - 1) % 20_000}") for n in range(20_000)]

        found = problems(*above, *circle, *below, *ring)

        assert "a → b → a" in found[0].message
        assert 2 == len(found)

    @given(st.lists(st.sets(st.integers(0, 11), max_size=3), min_size=12, max_size=12))
    @settings(max_examples=200, deadline=None)
    def test_any(self, upstream: list[set[int]]) -> None:
        """In any graph, there is an order exactly if there is no cycle, and each reported cycle is one."""
        edges = [tuple(sorted(needed)) for needed in upstream]
        order = sort_topologically(edges)
        cycles = find_cycles(edges, order)

        place = {index: position for position, index in enumerate(order)}
        assert all(place[above] < place[index] for index in order for above in edges[index])
        assert (len(order) < len(edges)) == bool(cycles)
        for cycle in cycles:
            assert all(before in edges[index] for before, index in zip([cycle[-1], *cycle], cycle, strict=False))
            assert len(set(cycle)) == len(cycle)
