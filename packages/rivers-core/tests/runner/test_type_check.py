"""The check of a value against a type hint."""

from __future__ import annotations

import collections
import datetime as dt
import enum
import typing
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    Protocol,
    TypedDict,
    TypeVar,
)

import numpy as np
import numpy.typing as npt
import pandas as pd  # type: ignore[import-untyped]  # no stubs in the types session
import pytest
from pydantic import BaseModel, Field

from rivers._runner.type_check import checker

T = TypeVar("T")
UserId = NewType("UserId", int)


class Row(TypedDict):
    id: int
    note: NotRequired[str]


class Tree(TypedDict):
    children: list[Tree]


class Model(BaseModel):
    x: int


class Generic(BaseModel, typing.Generic[T]):
    x: T


@dataclass
class Data:
    x: int


class Coordinates(NamedTuple):
    x: int


class Color(enum.IntEnum):
    RED = 1


class HasX(Protocol):
    x: int


@typing.runtime_checkable
class Closes(Protocol):
    def close(self) -> None: ...


class Numbers(list[T]):
    pass


FITS: list[tuple[Any, Any]] = [
    (int, 1),
    (int, True),
    (float, 1),
    (complex, 1.0),
    (float, np.float64(1)),
    (None, None),
    (Any, object()),
    (object, 1),
    (T, 1),
    (Optional[int], None),  # noqa: UP045 - both spellings are users'
    (int | None, True),
    (float | None, np.float64(1)),
    (dt.date | None, dt.datetime(2020, 1, 1)),  # noqa: DTZ001
    (dt.datetime | None, pd.Timestamp("2020")),
    (list[int], []),
    (list[int], [1, True, Color.RED]),
    (list[float], [1, 2.0, np.float64(3)]),
    (list[str], [np.str_("a")]),
    (list[int], Numbers([1])),
    (Numbers[int], Numbers(["not looked into"])),
    (typing.List[int], [1]),  # noqa: UP006 - users write it
    (tuple[int, str], (1, "a")),
    (tuple[int, ...], ()),
    (tuple[()], ()),
    (tuple[int], Coordinates(1)),
    (dict[str, int], collections.OrderedDict(a=1)),
    (dict[str, Any], {"a": object()}),
    (Mapping[str, int], {"a": 1}),
    (collections.defaultdict[str, int], collections.defaultdict(int, a=1)),
    (collections.Counter[str], collections.Counter("a")),
    (collections.deque[int], collections.deque([1])),
    (frozenset[int], frozenset([1])),
    (Sequence[int], range(3)),
    (Iterable[int], iter(["not touched"])),
    (Iterator[int], iter(["not touched"])),
    (Literal["a", 1], 1),
    (type[int], bool),
    (Callable[[int], int], len),
    (Awaitable[int], 1),
    (Final[int], 1),
    (UserId, 1),
    (Annotated[int, "of cats"], 1),
    (Annotated[int, Field(gt=0)], 1),
    (Row, {"id": 1}),
    (Row, {"id": 1, "note": "n", "more": 1}),
    (Tree, {"children": [{"children": []}]}),
    (Model, Model(x=1)),
    (list[Model], [Model(x=1)]),
    (Generic[int], Generic[int](x=1)),
    (Data, Data(1)),
    (Coordinates, Coordinates(1)),
    (Color, Color.RED),
    (HasX, 1),
    (Path, Path("x")),
    (pd.DataFrame, pd.DataFrame()),
    (pd.DataFrame | None, None),
    (np.ndarray, np.zeros(1)),
    (npt.NDArray[np.float64], np.zeros(1)),
    (typing.Never, 1),
    (typing.LiteralString, "a"),
    ("not resolved", 1),
]

DIFFERS: list[tuple[Any, Any, str]] = [
    (int, "1", "expected int, got str"),
    (int, np.int64(1), "expected int, got int64"),
    (bool, np.bool_(True), f"expected bool, got numpy.{np.bool_.__qualname__}"),
    (str, b"x", "expected str, got bytes"),
    (None, 0, "expected None, got int"),
    (int | None, "x", "expected int | None, got str"),
    (list[int] | None, ["x"], "expected list[int], got list: at 0: expected int, got str"),
    (list[int], (1,), "expected list[int], got tuple"),
    (list[int], [1, "2"], "expected list[int], got list: at 1: expected int, got str"),
    (list[list[int]], [[1], [None]], "at 1: expected list[int], got list: at 0: expected int, got None"),
    (set[int], frozenset([1]), "expected set[int], got frozenset"),
    (tuple[int, str], (1, 2), "at 1: expected str, got int"),
    (tuple[int, str], (1,), "got tuple of 1"),
    (tuple[int, ...], [1], "got list"),
    (dict[str, int], {"a": "x"}, "at 'a': expected int, got str"),
    (dict[str, int], {1: 1}, "at the key 1: expected str, got int"),
    (dict[str, pd.DataFrame], {"a": 1}, "at 'a': expected DataFrame, got int"),
    (Literal["a"], "b", "got 'b'"),
    (Literal[1], True, "got True"),
    (type[int], str, "got str"),
    (Callable[[int], int], 3, "got int"),
    (Awaitable[int], "x", "expected int, got str"),
    (UserId, "x", "expected int, got str"),
    (Annotated[int, Field(gt=0)], 0, "greater than 0"),
    (typing.LiteralString, 1, "expected str, got int"),
    (Row, {"id": "x"}, "at 'id': expected int, got str"),
    (Row, {}, "got dict without 'id'"),
    (Row, [], "expected Row, got list"),
    (list[Row], [{"id": 1}, {}], "at 1: expected Row, got dict without 'id'"),
    (Tree, {"children": [{"children": [1]}]}, "expected Tree, got int"),
    (Model, {"x": 1}, "expected Model, got dict"),
    (list[Model], [{"x": 1}], "at 0: expected Model, got dict"),
    (Data, {"x": 1}, "expected Data, got dict"),
    (Closes, 1, "expected Closes, got int"),
    (pd.DataFrame | None, [], "got list"),
    (npt.NDArray[np.float64], [1.0], "got list"),
    (Iterable[int], 3, "got int"),
    (Iterable[int], ["x"], "at 0: expected int, got str"),
]


def named(rows: Sequence[tuple[Any, ...]]) -> list[str]:
    return [f"{number}-{row[0]!s:.40}" for number, row in enumerate(rows)]


@pytest.mark.parametrize(("hint", "value"), FITS, ids=named(FITS))
def test_fits(hint: Any, value: Any) -> None:
    """A value that a type checker would accept is accepted, subclasses in containers too."""
    check = checker(hint)

    assert check is None or check(value) is None


@pytest.mark.parametrize(("hint", "value", "text"), DIFFERS, ids=named(DIFFERS))
def test_differs(hint: Any, value: Any, text: str) -> None:
    """The message for a wrong value has the expected type, the actual one and the position."""
    check = checker(hint)

    assert check is not None
    assert text in (check(value) or "")


def test_an_iterator_is_not_consumed() -> None:
    """Checking an iterator takes nothing out of it."""
    check = checker(Iterable[int])
    value = iter([1, 2])
    assert check is not None

    assert check(value) is None
    assert [1, 2] == list(value)


def test_nothing_is_warned_of(recwarn: pytest.WarningsRecorder) -> None:
    """Making a check for an odd hint is silent."""
    for hint in (typing.NoReturn, typing.Self, Annotated[np.ndarray, Field(min_length=1)]):
        checker(hint)

    assert [] == recwarn.list
