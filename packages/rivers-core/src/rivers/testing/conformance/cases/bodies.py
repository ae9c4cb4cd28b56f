"""Cases of bodies: what they may be, what they may return, what they are given."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, Field, SecretStr

import rivers as rs
from rivers.testing.conformance.cases.case import Fails, fails, succeeds

__all__ = ["CASES"]

OUTPUT = "rivers.exceptions.AssetOutputValidationError"
F = TypeVar("F", bound=Callable[..., Any])

# ── kinds of bodies ──


@rs.Asset
def one() -> int:
    return 1


@rs.Asset
def two(one: int) -> int:
    return one + 1


@rs.Asset
async def awaited() -> int:
    await asyncio.sleep(0)
    return 3


@rs.Asset
def items() -> Iterator[int]:
    yield 1
    yield 2


@rs.Asset
async def async_items() -> AsyncIterator[int]:
    for number in (1, 2):
        await asyncio.sleep(0)
        yield number


@rs.Asset
def nothing() -> None:
    pass


@rs.Asset
def after_nothing(nothing: None) -> str:
    return f"got {nothing}"


def logged(function: F) -> F:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper  # type: ignore[return-value]  # as decorators are typed


@rs.Asset
@logged
def wrapped(one: int) -> int:
    return one + 10


@rs.Asset
@logged
async def wrapped_async(one: int) -> int:
    return one + 20


@rs.Asset
def hands_over_a_coroutine() -> Coroutine[Any, Any, int]:
    async def inner() -> int:
        return 4

    return inner()


@rs.Asset
def keyword_only(*, one: int, factor: int = 10) -> int:
    return one * factor


@rs.Asset
def positional_only(one: int, /, two: int) -> tuple[int, int]:
    return one, two


@rs.Asset
def optional_upstream(one: int = 100, missing: int = 7) -> int:
    return one + missing


@rs.Asset(deps=[rs.AssetDef.dep("one")])
def ordered_only() -> str:
    return "after one"


# ── outputs ──


@rs.Asset
def output() -> rs.Output:
    return rs.Output(5, metadata={"rows": 2}, data_version="v1")


@rs.Asset
def yielded_output() -> Iterator[rs.Output]:
    yield rs.Output(6, metadata={"rows": 3})


@rs.Asset
async def async_yielded_output() -> AsyncIterator[rs.Output]:
    yield rs.Output(7)


@rs.Asset
def two_outputs() -> Iterator[rs.Output]:
    yield rs.Output(1)
    yield rs.Output(2)


@rs.Asset
def misnamed_output() -> rs.Output:
    return rs.Output(1, output_name="other")


AB = [rs.AssetDef("a"), rs.AssetDef("b", type_hint=int)]


@rs.Asset.from_multi(output_defs=AB)
def as_dict() -> dict[str, Any]:
    return {"b": 2, "a": rs.Output(1, metadata={"x": 1})}


@rs.Asset.from_multi(output_defs=AB)
def as_tuple() -> tuple[str, int]:
    return "first", 2


@rs.Asset.from_multi(output_defs=AB)
def as_yields(one: int) -> Iterator[rs.Output]:
    yield rs.Output(one, output_name="b", data_version="v2")
    yield rs.Output("x", output_name="a")


@rs.Asset.from_multi(output_defs=AB)
async def as_async_yields() -> AsyncIterator[rs.Output]:
    yield rs.Output("y", output_name="a")
    yield rs.Output(8, output_name="b")


@rs.Asset.from_multi(output_defs=AB)
def named_out_of_order() -> tuple[rs.Output, rs.Output]:
    return rs.Output(9, output_name="b"), rs.Output("z", output_name="a")


@rs.Asset
def uses_b(b: int) -> int:
    return b * 10


@rs.Asset.from_multi(output_defs=AB)
def misses_b() -> dict[str, Any]:
    return {"a": 1}


@rs.Asset.from_multi(output_defs=AB)
def unknown_c() -> dict[str, Any]:
    return {"a": 1, "b": 2, "c": 3}


@rs.Asset.from_multi(output_defs=AB)
def a_twice() -> Iterator[rs.Output]:
    yield rs.Output(1, output_name="a")
    yield rs.Output(2, output_name="a")


@rs.Asset.from_multi(output_defs=AB)
def b_is_text() -> dict[str, Any]:
    return {"a": 1, "b": "2"}


@rs.Asset.from_multi(output_defs=AB)
def three_values() -> tuple[int, int, int]:
    return 1, 2, 3


@rs.Asset.from_multi(output_defs=AB)
def no_outputs() -> int:
    return 1


# ── contexts and config ──


class Settings(BaseModel):
    size: int
    secret: SecretStr = SecretStr("unset")
    label: str = Field("none", alias="name")


@rs.Asset(tags=["t"], kinds=["k"], group="g", code_version="7", metadata={"owner": "me"})
def whole_context(context: rs.AssetExecutionContext) -> dict[str, Any]:
    assert len(context.run_id) >= 8
    assert isinstance(context.log, logging.Logger)
    return {
        "asset_name": context.asset_name,
        "attempt": context.attempt,
        "tags": list(context.tags),
        "kinds": list(context.kinds),
        "group": context.group,
        "code_version": context.code_version,
        "metadata": dict(context.asset_metadata or {}),
        "config": context.config,
    }


@rs.Asset
def configured(context: rs.AssetExecutionContext[Settings]) -> tuple[int, str, str]:
    return context.config.size, context.config.secret.get_secret_value(), context.config.label


@rs.Asset
def facts(ctx: rs.AssetExecutionContext) -> int:
    ctx.add_output_metadata({"rows": 1, "path": "p"})
    ctx.add_output_metadata({"rows": 2})
    ctx.register_data_version("abc")
    return 1


@rs.Asset
def talks(context: rs.AssetExecutionContext) -> int:
    print("printed", 1, end="")
    print(" and", 2)
    context.log.info("logged %d", 3)
    context.log.debug("not told")
    logging.getLogger("a.library").warning("warned")
    print("no newline", end="")
    return 1


WHOLE = {
    "asset_name": "whole_context",
    "attempt": 1,
    "tags": ["t"],
    "kinds": ["k"],
    "group": "g",
    "code_version": "7",
    "metadata": {"owner": "me"},
    "config": {"size": 1},
}

CASES = [
    succeeds("sync", one, values={"one": 1}, kinds={"one": ("StepStarted", "StepSucceeded")}),
    succeeds("upstream by parameter name", two, one, values={"two": 2}),
    succeeds("async", awaited, values={"awaited": 3}),
    succeeds("generator", items, values={"items": [1, 2]}),
    succeeds("async generator", async_items, values={"async_items": [1, 2]}),
    succeeds("none is a value", nothing, after_nothing, values={"nothing": None, "after_nothing": "got None"}),
    succeeds("wrapped", one, wrapped, wrapped_async, values={"wrapped": 11, "wrapped_async": 21}),
    succeeds("coroutine from a plain function", hands_over_a_coroutine, values={"hands_over_a_coroutine": 4}),
    succeeds("keyword only", one, keyword_only, values={"keyword_only": 10}),
    succeeds("positional only", one, two, positional_only, values={"positional_only": (1, 2)}),
    succeeds("default is an upstream if there is one", one, optional_upstream, values={"optional_upstream": 8}),
    succeeds("order without a value", one, ordered_only, values={"ordered_only": "after one"}),
    succeeds("output", output, values={"output": 5}, metadata={"output": {"rows": 2}}, versions={"output": "v1"}),
    succeeds("yielded output", yielded_output, values={"yielded_output": 6}, metadata={"yielded_output": {"rows": 3}}),
    succeeds("async yielded output", async_yielded_output, values={"async_yielded_output": 7}),
    fails("two outputs of one value", two_outputs, Fails("error", OUTPUT, "yielded 2 items")),
    fails("output of another name", misnamed_output, Fails("error", OUTPUT, "'other'")),
    succeeds("multi as dict", as_dict, values={"a": 1, "b": 2}, metadata={"a": {"x": 1}}),
    succeeds("multi as tuple", as_tuple, values={"a": "first", "b": 2}),
    succeeds("multi as yields", one, as_yields, uses_b, values={"a": "x", "b": 1, "uses_b": 10}, versions={"b": "v2"}),
    succeeds("multi as async yields", as_async_yields, values={"a": "y", "b": 8}),
    succeeds("multi by name before place", named_out_of_order, values={"a": "z", "b": 9}),
    fails("multi misses one", misses_b, Fails("error", OUTPUT, "'b'")),
    fails("multi unknown", unknown_c, Fails("error", OUTPUT, "'c'; declared are a, b")),
    fails("multi twice", a_twice, Fails("error", OUTPUT, "'a' twice")),
    fails("multi type hint", b_is_text, Fails("error", OUTPUT, "expected int, got str")),
    fails("multi too many", three_values, Fails("error", OUTPUT, "3 values for 2 outputs")),
    fails("multi no outputs", no_outputs, Fails("error", "ResultDefinitionError", "not int")),
    succeeds("context", whole_context, values={"whole_context": WHOLE}, run={"config": {"whole_context": {"size": 1}}}),
    succeeds(
        "config model",
        configured,
        values={"configured": (2, "s3cret", "n")},
        run={"config": {"configured": {"size": 2, "secret": "s3cret", "name": "n"}}},
    ),
    succeeds(
        "facts",
        facts,
        values={"facts": 1},
        metadata={"facts": {"rows": 2, "path": "p"}},
        versions={"facts": "abc"},
    ),
    succeeds(
        "logs", talks, values={"talks": 1}, logs={"talks": ("printed 1 and 2", "logged 3", "warned", "no newline")}
    ),
]
