"""What rivers reads off a function: parameters, context, hints; for every kind of callable (contract.md §3)."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
import types
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from pydantic import BaseModel

import rivers as rs
from rivers import AssetExecutionContext as Renamed
from rivers.exceptions import AssetDefinitionError, GraphValidationError, TaskDefinitionError


class Limits(BaseModel):
    rows: int = 3


def one() -> int:
    return 1


ONE = rs.Asset(one)


def value_of(function: Callable[..., Any], name: str | None = "made", **settings: Any) -> Any:
    """What an asset of this function makes, where the asset `one` is 1 and the resource `unit` exists."""
    config = settings.pop("config", None)
    made = rs.Asset(function, name=name, **settings)
    repository = rs.CodeRepository([ONE, made], resources={"unit": Unit()})
    repository.materialize(config=config)
    return repository.load_node(made.name)


class Unit(rs.Resource):
    size: int = 10


class TestParameters:
    def test_upstream_and_resource(self) -> None:
        """A parameter that bears an asset's name gets its value, one that bears a resource's gets the resource."""

        def body(one: int, unit: Unit) -> int:
            return one + unit.size

        assert 11 == value_of(body)

    def test_keyword_only(self) -> None:
        """Keyword-only parameters are upstreams and resources like others."""

        def body(*, one: int, unit: Unit) -> int:
            return one + unit.size

        assert 11 == value_of(body)

    def test_positional_only(self) -> None:
        """Positional-only parameters work, with a context and with keyword-only ones beside them."""

        def body(context: rs.AssetExecutionContext, one: int, /, *, unit: Unit) -> tuple[str, int, int]:
            return context.asset_name, one, unit.size

        assert ("made", 1, 10) == value_of(body)

    def test_default(self) -> None:
        """A parameter with a default is an upstream where such an asset exists, and left at the default elsewhere."""

        def body(one: int = 7, other: int = 8) -> tuple[int, int]:
            return one, other

        assert (1, 8) == value_of(body)

    def test_positional_only_default(self) -> None:
        """A positional-only parameter with a default may be left at it."""

        def body(one: int, other: int = 8, /) -> tuple[int, int]:
            return one, other

        assert (1, 8) == value_of(body)

    @pytest.mark.parametrize(
        "body",
        [lambda *one: 1, lambda **one: 1, lambda one, *rest: 1, lambda one, **rest: 1, lambda *a, **k: 1],
        ids=["args", "kwargs", "rest", "named rest", "both"],
    )
    @pytest.mark.parametrize(("make", "error"), [(rs.Asset, AssetDefinitionError), (rs.Task, TaskDefinitionError)])
    def test_variadic(self, make: Any, error: type[Exception], body: Any) -> None:
        """*args and **kwargs are refused where they are written: upstreams are found by the names of parameters."""
        with pytest.raises(error, match=r"\*args or \*\*kwargs.*functools\.wraps|name each upstream") as caught:
            make(body)

        assert __file__ in str(caught.value)

    def test_no_signature(self) -> None:
        """A callable whose parameters cannot be read is refused."""
        with pytest.raises(AssetDefinitionError, match="cannot be read"):
            rs.Asset(dict.fromkeys, name="x") if _unreadable(dict.fromkeys) else rs.Asset(type, name="x")


def _unreadable(function: Any) -> bool:
    try:
        inspect.signature(function)
    except ValueError:
        return True
    return False


class TestContext:
    def test_by_name(self) -> None:
        """A first parameter named `context` gets it, annotated or not."""

        def body(context, one):  # type: ignore[no-untyped-def]
            return context.asset_name, one

        assert ("made", 1) == value_of(body)

    @pytest.mark.parametrize(
        "annotation", ["rs.AssetExecutionContext", "Renamed", "AssetExecutionContext", "'Renamed'"]
    )
    def test_by_text(self, annotation: str) -> None:
        """A first parameter of any name that is annotated as a context gets it, also where annotations are texts."""
        names: dict[str, Any] = {"rs": rs, "Renamed": Renamed, "__name__": "somewhere"}
        exec(f"from __future__ import annotations\ndef body(ctx: {annotation}, one): return ctx.asset_name, one", names)

        assert ("made", 1) == value_of(names["body"])

    def test_by_type(self) -> None:
        """It is the same where annotations are types."""
        names: dict[str, Any] = {"rs": rs, "Limits": Limits}
        exec("def body(ctx: rs.AssetExecutionContext[Limits], one): return ctx.config.rows + one", names, names)

        assert 4 == value_of(names["body"])

    def test_model(self) -> None:
        """`AssetExecutionContext[Model]` has the config as an instance of the model, its defaults filled in."""

        def body(ctx: rs.AssetExecutionContext[Limits]) -> Any:
            return ctx.config

        assert Limits(rows=3) == value_of(body)
        assert Limits(rows=5) == value_of(body, config={"made": {"rows": 5}})

    def test_local_model(self) -> None:
        """A model that is local to the function that defines the asset is found, too."""

        class Local(BaseModel):
            rows: int = 4

        @rs.Asset
        def local(ctx: Renamed[Local]) -> Any:
            return ctx.config.rows

        repository = rs.CodeRepository([local])
        repository.materialize()

        assert 4 == repository.load_node("local")

    @pytest.mark.parametrize(
        ("annotation", "message"),
        [
            ("rs.AssetExecutionContext[Missing]", "cannot be resolved"),
            ("rs.AssetExecutionContext[Plain]", "Plain .* is no pydantic model"),
        ],
    )
    def test_no_model(self, annotation: str, message: str) -> None:
        """A model that cannot be found, or is none, is reported by resolve(): the config could not be checked."""
        names: dict[str, Any] = {"rs": rs, "Plain": type("Plain", (), {})}
        exec(f"from __future__ import annotations\ndef body(ctx: {annotation}): pass", names)

        with pytest.raises(GraphValidationError, match=message):
            rs.CodeRepository([rs.Asset(names["body"])]).resolve()

    @pytest.mark.parametrize("inner", ["dict", "dict[str, int]", "Any"])
    def test_free_config(self, inner: str) -> None:
        """Without a model the config is the dict that was given."""
        names: dict[str, Any] = {"rs": rs, "Any": Any}
        exec(f"def body(ctx: rs.AssetExecutionContext[{inner}]): return ctx.config", names)

        assert {"rows": 5} == value_of(names["body"], config={"made": {"rows": 5}})

    def test_not_first(self) -> None:
        """A context that is not the first parameter is reported as that, by name and by annotation."""

        def by_name(one: int, context: Any) -> None: ...

        def by_type(one: int, ctx: rs.AssetExecutionContext) -> None: ...

        repository = rs.CodeRepository([ONE, rs.Asset(by_name), rs.Asset(by_type)])
        with pytest.raises(GraphValidationError, match="to the first parameter only") as caught:
            repository.resolve()

        assert ["by_name", "by_type"] == [problem.asset for problem in caught.value.problems]

    def test_keyword_only(self) -> None:
        """A keyword-only context works as well."""

        def body(*, context: rs.AssetExecutionContext, one: int) -> Any:
            return context.run_id != "", one

        assert (True, 1) == value_of(body)

    def test_task(self) -> None:
        """A task gets a TaskExecutionContext in the same ways."""

        @rs.Task
        def named(ctx: rs.TaskExecutionContext, one: int) -> tuple[str, str, int]:
            return type(ctx).__name__, ctx.task_name, one

        def g(one: int) -> Any:
            return named(one)

        repository = rs.CodeRepository([ONE, rs.Asset.from_graph(g)])
        repository.materialize()

        assert ("TaskExecutionContext", "g/named", 1) == repository.load_node("g")


class Doubling:
    def __call__(self, one: int) -> int:
        return 2 * one

    def method(self, one: int, *, unit: Unit) -> int:
        return one + unit.size

    @classmethod
    def of_class(cls, one: int) -> str:
        return f"{cls.__name__}{one}"

    @staticmethod
    def static(one: int) -> int:
        return one


class AsyncDoubling:
    async def __call__(self, ctx: rs.AssetExecutionContext, one: int) -> Any:
        await asyncio.sleep(0)
        return ctx.asset_name, 2 * one


def added(one: int, amount: int, *, unit: Unit) -> int:
    return one + amount + unit.size


async def waited(one: int) -> int:
    await asyncio.sleep(0)
    return one


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


class TestCallables:
    @pytest.mark.parametrize(
        ("function", "expected"),
        [
            pytest.param(Doubling(), 2, id="instance"),
            pytest.param(AsyncDoubling(), ("made", 2), id="async instance"),
            pytest.param(Doubling().method, 11, id="method"),
            pytest.param(Doubling.of_class, "Doubling1", id="class method"),
            pytest.param(Doubling.static, 1, id="static method"),
            pytest.param(functools.partial(added, amount=5), 16, id="partial"),
            pytest.param(functools.partial(functools.partial(added, amount=5), amount=6), 17, id="partial of partial"),
            pytest.param(functools.partial(waited), 1, id="async partial"),
            pytest.param(wrapped(one), 1, id="wrapped"),
            pytest.param(wrapped(waited), 1, id="wrapped async"),
            pytest.param(wrapped(wrapped(Doubling().method)), 11, id="wrapped method"),
            pytest.param(functools.lru_cache(one), 1, id="cached"),
            pytest.param(lambda one: one, 1, id="lambda"),
            pytest.param(lambda one: (yield one), [1], id="lambda generator"),
        ],
    )
    def test_value(self, function: Callable[..., Any], expected: Any) -> None:
        """Instances with `__call__`, methods, partials, wrapped functions and lambdas are bodies like functions."""
        assert expected == value_of(function)

    @pytest.mark.parametrize("function", [Doubling(), functools.partial(waited)])
    def test_without_a_name(self, function: Any) -> None:
        """What has no `__name__` needs a name, and the error says so."""
        with pytest.raises(AssetDefinitionError, match='name="'):
            rs.Asset(function)
        with pytest.raises(TaskDefinitionError, match='name="'):
            rs.Task(function)

    @pytest.mark.parametrize("function", [waited, functools.partial(waited), AsyncDoubling()])
    def test_async(self, function: Any) -> None:
        """That a body is async is known before it is called."""
        assert rs.Asset(function, name="x").signature.is_async  # type: ignore[union-attr]

    def test_where(self) -> None:
        """The location of a wrapped function, a partial and an instance is that of their code."""
        line = added.__code__.co_firstlineno

        for function in (functools.partial(added, amount=1), wrapped(added)):
            assert f"{__file__}:{line}" == rs.Asset(function, name="x").where
        assert f"{__file__}:{Doubling.__call__.__code__.co_firstlineno}" == rs.Asset(Doubling(), name="x").where

    def test_unbound_method(self) -> None:
        """A method that is decorated within its class asks for `self`, and the error says what to do."""

        class Holder:
            @rs.Asset
            def body(self, one: int) -> int:
                return one

        with pytest.raises(GraphValidationError, match="bound method"):
            rs.CodeRepository([ONE, Holder.body]).resolve()

    def test_builtin(self) -> None:
        """The location of a builtin is the call that makes the asset."""
        line = sys._getframe().f_lineno + 1
        made = rs.Asset(len, name="x")

        assert f"{__file__}:{line}" == made.where

    def test_generators(self) -> None:
        """Generators and async generators give the list of what they yield."""

        def plain(one: int) -> Iterator[int]:
            yield from range(one + 2)

        async def waiting(one: int) -> AsyncIterator[int]:
            for number in range(one + 2):
                yield number

        assert [0, 1, 2] == value_of(plain)
        assert [0, 1, 2] == value_of(waiting)

    def test_calling_an_asset(self) -> None:
        """An asset called outside a composition calls its function, so that it can be tested as one."""
        assert 4 == rs.Asset(Doubling(), name="x")(2)

    def test_signature_override(self) -> None:
        """A function's `__signature__` is what counts, as for everybody else who inspects it."""

        def body(*values: Any, **named: Any) -> Any:
            return named

        one_parameter = inspect.Parameter("one", inspect.Parameter.KEYWORD_ONLY)
        body.__signature__ = inspect.Signature([one_parameter])  # type: ignore[attr-defined]

        assert {"one": 1} == value_of(body)

    def test_wraps_circle(self) -> None:
        """A `__wrapped__` that leads back to itself hangs nothing."""

        def body(one: int) -> int:
            return one

        body.__wrapped__ = body  # type: ignore[attr-defined]

        with pytest.raises(AssetDefinitionError, match="cannot be read"):
            rs.Asset(body)
        assert isinstance(body, types.FunctionType)
