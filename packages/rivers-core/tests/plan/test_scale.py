"""Large repositories plan in linear time, without recursion; a slower algorithm meets the time limit."""

from __future__ import annotations

from typing import Any

import pytest

import rivers as rs
from rivers.exceptions import GraphValidationError


def zero() -> int:
    return 0


def asset(name: str, *upstreams: str) -> rs.Asset:
    return rs.Asset(zero, name=name, deps=upstreams)


def chain(length: int) -> list[rs.Asset]:
    return [asset("n0"), *(asset(f"n{n}", f"n{n - 1}") for n in range(1, length))]


class TestPlan:
    def test_wide(self) -> None:
        """50,000 assets, each needing one of a hundred, are planned."""
        assets = [asset(f"n{n}", *((f"n{n % 100}",) if n >= 100 else ())) for n in range(50_000)]
        plan = rs.CodeRepository(assets).plan()

        assert [100, 49_900] == [len(level[0].steps) for level in plan.levels]

    def test_deep(self) -> None:
        """P3: a chain of 5,000 has 5,000 levels, and so has one of 50,000, forwards and backwards."""
        for assets in (chain(5_000), chain(50_000)[::-1]):
            plan = rs.CodeRepository(assets).plan()

            assert len(assets) == len(plan.levels)
            assert len(assets) - 1 == plan.steps[-1].level

    def test_fan_in(self) -> None:
        """One asset may need 50,000 others."""
        names = [f"n{n}" for n in range(50_000)]
        plan = rs.CodeRepository([*map(asset, names), asset("last", *names)]).plan()

        assert 50_000 == len(plan.steps[-1].deps)

    def test_selection(self) -> None:
        """With its upstream, the end of a chain of 20,000 is all of it; so are 20,000 selected one by one."""
        repository = rs.CodeRepository(chain(20_000))

        assert 20_000 == len(repository.plan("n19999", include_upstream=True))
        assert 20_000 == len(repository.plan([f"n{n}" for n in range(20_000)]))

    def test_deep_run(self) -> None:
        """P3: a chain of 5,000 runs, too."""
        result = rs.CodeRepository(chain(5_000)).materialize()

        assert 5_000 == len(result.materialized_assets)

    def test_jobs(self) -> None:
        """2,000 jobs over 2,000 assets, half of them with an executor of their own, are checked together."""
        assets = [asset(f"n{n}") for n in range(2_000)]
        here = rs.Executor.in_process()
        jobs = [rs.Job(f"j{n}", [f"n{n}"], executor=here if n % 2 else None) for n in range(2_000)]

        rs.CodeRepository(assets, jobs=jobs).resolve()


@rs.Task
def number() -> int:
    return 1


@rs.Task
def add(x: int, y: int) -> int:
    return x + y


class TestGraphs:
    def test_many_calls(self) -> None:
        """A composition of 10,000 calls of two tasks is planned, its steps numbered."""

        def body() -> Any:
            value = number()
            for _ in range(5_000):
                value = add(value, number())
            return value

        plan = rs.CodeRepository([rs.Asset.from_graph(body, name="g")]).plan()

        assert 10_001 == len(plan)
        assert "g/add_5000" == plan.steps[-1].key

    def test_many_graphs(self) -> None:
        """4,000 graph assets in a chain are planned, as steps of their own and fused."""
        placed = {"rivers/executor": "parallel", "rivers/node/executor": "in_process"}
        store = rs.PickleIOHandler("/nowhere")
        for metadata in (None, placed):
            graphs = []
            for index in range(4_000):
                names: dict[str, Any] = {"add": add}
                exec(
                    f"def body({f'g{index - 1}' if index else ''}): return add({f'g{index - 1}' if index else 1}, 1)",
                    names,
                )
                graphs.append(rs.Asset.from_graph(names["body"], name=f"g{index}", metadata=metadata, io_handler=store))
            plan = rs.CodeRepository(graphs).plan("g3999", include_upstream=True)

            assert 4_000 == len(plan) == len(plan.levels)


class TestFanOut:
    def test_100_000(self) -> None:
        """P2: a fan-out of 100,000 instances is planned and runs."""

        @rs.Task
        def source() -> list[int]:
            return list(range(100_000))

        @rs.Task
        def each(x: int) -> int:
            return x

        @rs.Task
        def total(xs: list[int]) -> int:
            return sum(xs)

        repository = rs.CodeRepository([rs.Asset.from_graph(lambda: total(source().map(each).collect()), name="g")])
        result = repository.materialize()

        assert 100_002 == len(result.steps)
        assert sum(range(100_000)) == repository.load_node("g")

    def test_empty(self) -> None:
        """P4: nothing to fan out over is a success with no instances, also through a chain and a stream."""

        @rs.Task
        def source() -> list[int]:
            return []

        @rs.Task
        def each(x: int) -> int:
            return x

        @rs.Task
        def both(xs: list[int], ys: Any) -> Any:
            return xs, list(ys)

        def body() -> Any:
            mapped = source().map(each).map(each)
            return both(mapped.collect(), mapped.collect_stream())

        repository = rs.CodeRepository([rs.Asset.from_graph(body, name="g")])
        result = repository.materialize()

        assert result.success
        assert ([], []) == repository.load_node("g")

    @pytest.mark.parametrize(
        ("values", "said"),
        [
            ("[rs.DynamicOutput('a', 1), rs.DynamicOutput('b', 2), rs.DynamicOutput('a', 3)]", "'a'"),
            ("[rs.DynamicOutput(3, 1)]", "mapping key"),
            ("3", "int"),
            ("None", "None"),
        ],
    )
    def test_wrong_keys(self, values: str, said: str) -> None:
        """P4: repeated keys, keys that are no str, and values without elements fail the step that made them."""
        ran: list[int] = []

        def source() -> Any:
            return eval(values, {"rs": rs})

        @rs.Task
        def each(x: int) -> int:
            ran.append(x)
            return x

        graph = rs.Asset.from_graph(lambda: rs.Task(source)().map(each).collect(), name="g")
        result = rs.CodeRepository([graph]).materialize(raise_on_error=False)

        failed = {key for key, report in result.steps.items() if report.state.value == "failed"}
        assert {"g/source"} == failed
        assert said in str(result.steps["g/source"].failure)
        assert [] == ran


def test_error_of_many_circles() -> None:
    """Of 10,000 cycles the first are reported, in bounded time and length."""
    assets = [asset(f"{side}{n}", f"{other}{n}") for n in range(10_000) for side, other in ("ab", "ba")]

    with pytest.raises(GraphValidationError) as caught:
        rs.CodeRepository(assets).resolve()

    assert "a0 → b0 → a0" in caught.value.problems[0].message
    assert 20 == len(caught.value.problems)
