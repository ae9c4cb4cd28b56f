"""Cases of return hints: what a body returns is checked before anything is stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypedDict

from pydantic import BaseModel

import rivers as rs
from rivers.testing.conformance.cases.case import Fails, fails, succeeds

__all__ = ["CASES"]

OUTPUT = "rivers.exceptions.AssetOutputValidationError"


class Row(TypedDict):
    id: int


class Point(BaseModel):
    x: int


@dataclass
class Pair:
    left: int


class Sized(Protocol):
    def __len__(self) -> int: ...


@rs.Asset
def int_is_text() -> int:
    return "1"  # type: ignore[return-value]  # what the case is about


@rs.Asset
def list_of_text() -> list[int]:
    return [1, "2"]  # type: ignore[list-item]  # what the case is about


@rs.Asset
def row_without_id() -> Row:
    return {}  # type: ignore[typeddict-item]  # what the case is about


@rs.Asset
def rows() -> list[Row]:
    return [{"id": 1}]


@rs.Asset
def dict_for_model() -> Point:
    return {"x": 1}  # type: ignore[return-value]  # what the case is about


@rs.Asset
def models() -> list[Point]:
    return [Point(x=1)]


@rs.Asset
def dataclass_or_none() -> Pair | None:
    return Pair(1)


@rs.Asset
def defined_later() -> Later:
    return Later()


class Later:
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Later)

    __hash__ = None  # type: ignore[assignment]  # as Python does it


@rs.Asset
def protocol() -> Sized:
    return [1, 2]


@rs.Asset
def none_is_one() -> None:
    return 1  # type: ignore[return-value]  # what the case is about


CASES = [
    fails("hint int", int_is_text, Fails("error", OUTPUT, "expected int, got str; nothing was stored")),
    fails("hint list", list_of_text, Fails("error", OUTPUT, "at 1: expected int, got str")),
    fails("hint typed dict", row_without_id, Fails("error", OUTPUT, "without 'id'")),
    fails("hint model", dict_for_model, Fails("error", OUTPUT, "expected Point, got dict")),
    fails("hint none", none_is_one, Fails("error", OUTPUT, "expected None, got int")),
    succeeds("hint rows", rows, values={"rows": [{"id": 1}]}),
    succeeds("hint models", models, values={"models": [Point(x=1)]}),
    succeeds("hint union", dataclass_or_none, values={"dataclass_or_none": Pair(1)}),
    succeeds("hint defined later", defined_later, values={"defined_later": Later()}),
    succeeds("hint protocol", protocol, values={"protocol": [1, 2]}),
]
