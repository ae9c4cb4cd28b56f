"""Iterators in what a body returns become lists; everything else stays the very object."""

from __future__ import annotations

from typing import Any

import pytest

import rivers as rs
from rivers._runner.iterators import list_iterators


@pytest.mark.parametrize(
    "value",
    [1, "x", [1], (1, object()), {"a": object()}, [object()] * 20, {n: object() for n in range(20)}, {1}, object()],
)
def test_same_object(value: Any) -> None:
    """A value without an iterator is not copied."""
    assert value is list_iterators(value)


def test_within_records() -> None:
    """Iterators are found in records and in Outputs, and in a list of Outputs of any length."""
    assert {"a": [1], "b": 2} == list_iterators({"a": iter([1]), "b": 2})
    assert ([1], 2) == list_iterators((iter([1]), 2))
    assert [1] == list_iterators(rs.Output(iter([1]))).value
    many = list_iterators(rs.DynamicOutput(str(number), iter([number])) for number in range(30))
    assert [[number] for number in range(30)] == [output.value for output in many]
