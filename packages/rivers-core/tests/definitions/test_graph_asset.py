"""Graph assets: what a composition may do, and the words for what it may not (contract.md §3)."""

# ruff: noqa: PLW0108, RUF034 - a composition is a function that calls tasks, and these make mistakes on purpose

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import rivers as rs
from rivers.exceptions import GraphValidationError


@rs.Task
def load() -> list[int]:
    return [1, 2, 3]


@rs.Task
def double(x: int) -> int:
    return 2 * x


@rs.Task
def scale(x: int, factor: int, offset: int = 0) -> int:
    return x * factor + offset


@rs.Task
def total(values: Any) -> int:
    return sum(values)


@rs.Task
def pair(a: Any, /, b: Any, *, c: Any = None) -> Any:
    return a, b, c


@rs.Asset
def base() -> int:
    return 10


@rs.Asset
def numbers() -> list[int]:
    return [4, 5]


class Unit(rs.Resource):
    size: int = 7


def value_of(body: Callable[..., Any], **settings: Any) -> Any:
    g = rs.Asset.from_graph(body, name="g", **settings)
    repository = rs.CodeRepository([g, base, numbers], resources={"unit": Unit()})
    repository.materialize()
    return repository.load_node("g")


class TestWiring:
    def test_arguments(self) -> None:
        """Values go by position and by name, constants as they are, upstreams and resources by the graph's names."""

        def body(base: int, *, unit: Any) -> Any:
            return pair(base, c=unit, b={"constant": (1, None)})

        a, b, c = value_of(body)

        assert (10, {"constant": (1, None)}, 7) == (a, b, c.size)

    def test_by_name(self) -> None:
        """A task's parameter that the composition does not give is an asset or a resource by name, or its default."""

        @rs.Task
        def needs(x: int, base: int, unit: Unit, other: int = 5) -> int:
            return x + base + unit.size + other

        assert 1 + 10 + 7 + 5 == value_of(lambda: needs(1))

    def test_default_of_the_graph(self) -> None:
        """A graph function's parameter with a default is an upstream where there is one, and a constant elsewhere."""

        def body(base: int = 1, limit: int = 3) -> Any:
            return scale(base, limit)

        assert 30 == value_of(body)

    def test_same_task_twice(self) -> None:
        """A task may be called often; its steps are numbered, and a task of such a name does not collide."""

        @rs.Task(name="double_2")
        def other(x: int) -> int:
            return x + 1

        def body() -> Any:
            return pair(double(1), double(2), c=other(double(3)))

        g = rs.Asset.from_graph(body, name="g")
        repository = rs.CodeRepository([g])
        keys = [step.key for step in repository.plan().steps]
        repository.materialize()

        assert (2, 4, 7) == repository.load_node("g")
        assert ["g/double", "g/double_2", "g/double_2_2", "g/double_3", "g/pair"] == sorted(keys)

    def test_shared(self) -> None:
        """Two graph assets use the same tasks, each with steps of its own."""
        first = rs.Asset.from_graph(lambda: total(load()), name="first")
        second = rs.Asset.from_graph(lambda first: double(first), name="second")
        repository = rs.CodeRepository([second, first])
        repository.materialize()

        assert 12 == repository.load_node("second")
        assert [1, 2, 3] == repository.load_node("first/load")

    def test_unused_upstream(self) -> None:
        """An upstream that no task takes still comes first; one that does not exist is reported."""
        order: list[str] = []

        @rs.Task
        def first() -> None:
            order.append("task")

        @rs.Asset
        def before() -> None:
            order.append("before")

        g = rs.Asset.from_graph(lambda before: first(), name="g")
        rs.CodeRepository([g, before]).materialize()

        assert ["before", "task"] == order
        with pytest.raises(GraphValidationError, match="'before' is neither an asset"):
            rs.CodeRepository([g]).resolve()

    def test_deps(self) -> None:
        """The graph's deps come before all of its tasks, and its inputs are loaded as they say."""
        order: list[str] = []

        class Fifty(rs.InMemoryIOHandler):
            def load_input(self, context: rs.InputContext) -> Any:
                return 50

        @rs.Task
        def one() -> int:
            order.append("one")
            return 1

        @rs.Task
        def two(x: int) -> int:
            order.append("two")
            return x

        @rs.Asset
        def before() -> None:
            order.append("before")

        def body(base: int) -> Any:
            one()
            return two(base)

        deps = [before, rs.AssetDef.input("base", io_handler=Fifty())]
        g = rs.Asset.from_graph(body, name="g", deps=deps)
        repository = rs.CodeRepository([g, base, before])
        repository.materialize()

        assert "before" == order[0]
        assert 50 == repository.load_node("g")

    def test_handlers(self) -> None:
        """Tasks store with their own handler, else the graph's `node_io_handler`, else its `io_handler`."""
        own, node, graph = rs.InMemoryIOHandler(), rs.InMemoryIOHandler(), rs.InMemoryIOHandler()
        kept = rs.Task(double.function, name="kept", io_handler=own)

        def body() -> Any:
            return pair(load(), kept(1))

        both = rs.Asset.from_graph(body, name="g", io_handler=graph, node_io_handler="node")
        only = rs.Asset.from_graph(body, name="h", io_handler=graph)
        repository = rs.CodeRepository([both, only], resources={"node": node})

        expected = {"g/load": node, "g/kept": own, "g": graph, "h/load": graph, "h/kept": own, "h": graph}
        for key, handler in expected.items():
            assert handler is repository.io_handler_for_output(key), key

    def test_bash(self) -> None:
        """A bash task's arguments by name are environment variables; those by position only come first."""
        order: list[str] = []
        echo = rs.BashTask("echo", 'printf "%s" "$WORD-$N"')

        @rs.Task
        def first() -> None:
            order.append("first")

        @rs.Task
        def shout(text: str) -> str:
            return text.upper()

        def body() -> Any:
            return shout(echo(first(), WORD="hi", N=double(2)))

        assert "HI-4" == value_of(body)
        assert ["first"] == order


class TestMap:
    def test_collected(self) -> None:
        """`map` runs a task per element: chained, with further arguments, over an upstream, collected twice."""

        @rs.Task
        def listed(a: Any, b: Any, *, c: Any) -> Any:
            return a, sorted(b), c

        def body(numbers: Any, base: int) -> Any:
            mapped = load().map(double).map(scale, factor=base, offset=1)
            again = numbers.map(scale, max_concurrency=1, factor=total(mapped.collect()))
            return listed(mapped.collect(), again.collect_stream(), c=total(again.collect_stream(ordered=True)))

        assert ([21, 41, 61], [492, 615], 1107) == value_of(body)

    def test_result(self) -> None:
        """A collected output may be the graph's own value, and a mapped step's source may be it, too."""

        def source_is_the_value() -> Any:
            values = load()
            values.map(double)
            return values

        assert [2, 4, 6] == value_of(lambda: load().map(double).collect())
        assert [1, 2, 3] == value_of(source_is_the_value)

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            pytest.param(lambda: load().map(lambda x: x).collect(), "takes a rs.Task", id="function"),
            pytest.param(lambda: load().map(rs.BashTask("b", "true")).collect(), "takes a rs.Task", id="bash"),
            pytest.param(lambda: load().map(load).collect(), "no parameter for the element", id="no parameter"),
            pytest.param(lambda: load().map(double, max_concurrency=0).collect(), "max_concurrency=0", id="0"),
            pytest.param(lambda: load().map(double, max_concurrency=True).collect(), "max_concurrency=True", id="True"),
            pytest.param(lambda: load().map(double, max_concurrency=1.5).collect(), "max_concurrency=1.5", id="1.5"),
            pytest.param(lambda: load().map(double, x=3).collect(), "first parameter gets the element", id="element"),
            pytest.param(lambda: load().map(scale, by=3).collect(), "no parameter 'by'.*factor", id="unknown"),
            pytest.param(lambda: load().map(scale).collect(), "gets no value for its parameter 'factor'", id="missing"),
            pytest.param(lambda: load().map(double), "mapped output of 'double', which needs .collect", id="returned"),
            pytest.param(lambda: total(load().map(double)), "end the fan-out with .collect", id="given on"),
            pytest.param(lambda: [x for x in load().map(double)], "iterated.*map", id="iterated"),  # noqa: C416
            pytest.param(lambda: load().map(double).map(double).map(total), "needs .collect", id="chain"),
        ],
    )
    def test_wrong(self, body: Any, message: str) -> None:
        """A fan-out that is not ended, or ended wrongly, is reported with what to write."""
        with pytest.raises(GraphValidationError, match=f"(?s){message}"):
            value_of(body)


OTHER: list[Any] = []


def leaking() -> Any:
    OTHER.append(load())
    return OTHER[0]


async def waiting() -> Any:
    return load()


def yielding() -> Any:
    yield load()


class TestMistakes:
    @pytest.mark.parametrize(
        ("body", "message"),
        [
            pytest.param(lambda: [x for x in load()], "cannot be iterated.*use .map", id="iterated"),  # noqa: C416
            pytest.param(lambda: double(*load()), "cannot be iterated", id="unpacked"),
            pytest.param(lambda: load() if load() else total(load()), "cannot be tested.*inside a task", id="tested"),
            pytest.param(lambda: load() if load() == [] else load(), "cannot be compared", id="compared"),
            pytest.param(lambda: load() if load() != [] else load(), "cannot be compared", id="compared not"),
            pytest.param(lambda: double(load()[0]), "cannot be indexed.*inside a task", id="indexed"),
            pytest.param(lambda: double(load() + 1), "TypeError.*values are known within tasks", id="added"),
            pytest.param(lambda: double(len(load())), "TypeError.*values are known within tasks", id="measured"),
            pytest.param(lambda: double(load().size), "AttributeError.*values are known within tasks", id="attribute"),
            pytest.param(lambda: None, "must return the output of a task, not None", id="nothing"),
            pytest.param(lambda: 3, "must return the output of a task, not 3", id="constant"),
            pytest.param(lambda: (load(), load()), "must return the output of a task, not", id="two"),
            pytest.param(lambda base: base, "not its own upstream 'base'", id="upstream"),
            pytest.param(lambda: base(), "asset 'base' is called inside a composition.*parameter", id="asset called"),
            pytest.param(lambda: double(base), "given the asset 'base' itself.*parameter", id="asset given"),
            pytest.param(lambda: total(load), "given the task 'load' itself.*call it", id="task given"),
            pytest.param(lambda: total([load(), 3]), "what is in it is not known", id="list"),
            pytest.param(lambda: total({"a": (load(),)}), "what is in it is not known", id="nested"),
            pytest.param(lambda: double(), "gets no value for its parameter 'x'", id="missing"),
            pytest.param(lambda: double(1, 2), "takes 1 arguments by position, 2 were given", id="too many"),
            pytest.param(lambda: pair(1, 2, 3), "takes 2 arguments by position.*by name: c", id="keyword only"),
            pytest.param(lambda: double(1, x=2), "'x' is given twice", id="twice"),
            pytest.param(lambda: double(y=2), "has no parameter 'y'; it has x", id="unknown"),
            pytest.param(lambda: 1 / 0, "ZeroDivisionError", id="raises"),
            pytest.param(lambda context: load(), "takes a context.*in the tasks", id="context"),
            pytest.param(waiting, "async or a generator.*plain def", id="async"),
            pytest.param(yielding, "async or a generator.*plain def", id="generator"),
            pytest.param(lambda gone: double(gone), "'gone' is neither an asset nor a resource", id="unknown upstream"),
            pytest.param(lambda g: double(g), "needs itself, by its parameter 'g'", id="itself"),
            pytest.param(lambda: rs.BashTask("b", "true")("x"), "'x' by position.*give it by name", id="bash constant"),
        ],
    )
    def test_problem(self, body: Any, message: str) -> None:
        """A mistake in a composition is one problem, with the asset, the source location and a remedy."""
        with pytest.raises(GraphValidationError, match=f"(?s){message}") as caught:
            value_of(body)

        (problem,) = caught.value.problems
        assert "g" == problem.asset
        assert str(problem.where).startswith(__file__)

    def test_place(self) -> None:
        """The location is the line of the mistake, not only its function."""

        def body() -> Any:
            values = load()
            return double(values[0])

        with pytest.raises(GraphValidationError, match=f"at {__file__}:{body.__code__.co_firstlineno + 2}"):
            value_of(body)

    def test_asset_body_does_not_run(self) -> None:
        """An asset called inside a composition does not run its body, nor does a graph asset."""
        ran: list[str] = []

        @rs.Asset
        def noting() -> int:
            ran.append("ran")
            return 1

        @rs.Asset.from_graph
        def inner() -> Any:
            ran.append("inner")
            return load()

        for called in (noting, inner):
            with pytest.raises(GraphValidationError, match="called inside a composition"):
                value_of(lambda called=called: double(called()))

        assert [] == ran

    def test_foreign(self) -> None:
        """A value of one composition is no value of another."""
        OTHER.clear()
        first = rs.Asset.from_graph(leaking, name="first")
        second = rs.Asset.from_graph(lambda: OTHER[0], name="second")
        third = rs.Asset.from_graph(lambda: total(OTHER[0]), name="third")

        with pytest.raises(GraphValidationError) as caught:
            rs.CodeRepository([first, second, third]).resolve()

        assert ["second", "third"] == [problem.asset for problem in caught.value.problems]
        assert all("belongs to graph asset 'first'" in problem.message for problem in caught.value.problems)

    def test_recording_ends(self) -> None:
        """After a composition that failed, tasks are functions again."""
        with pytest.raises(GraphValidationError):
            value_of(lambda: 1 / 0)

        assert [1, 2, 3] == load()

    def test_problem_once(self) -> None:
        """A handler that is none is reported once, however many tasks would use it."""
        with pytest.raises(GraphValidationError) as caught:
            value_of(lambda: double(double(double(1))), node_io_handler="nothing")

        assert 1 == len(caught.value.problems)

    def test_wrong_node_handler(self) -> None:
        """`node_io_handler` is checked like `io_handler`, where it is written."""
        with pytest.raises(rs.exceptions.AssetDefinitionError, match="graph asset 'g'"):
            rs.Asset.from_graph(lambda: load(), name="g", node_io_handler=3)


@pytest.mark.parametrize("make", [lambda: iter([1, 2]), lambda: {"numbers": map(int, "12")}], ids=["iter", "map"])
def test_constant_that_can_be_read_once(make: Callable[[], Any]) -> None:
    """An iterator as a constant of a composition is refused: a second run would find it empty."""

    @rs.Task
    def total(numbers: Any) -> int:
        return 0

    @rs.Asset.from_graph
    def graph() -> Any:
        return total(make())

    with pytest.raises(GraphValidationError, match="can be read only once"):
        rs.CodeRepository([graph]).resolve()
