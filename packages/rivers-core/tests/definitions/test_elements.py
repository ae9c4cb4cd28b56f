"""The elements of a value that a task is mapped over."""

from __future__ import annotations

from array import array
from collections import OrderedDict, UserList, deque
from types import MappingProxyType
from typing import Any

import pytest
from pydantic import BaseModel

import rivers as rs
from rivers._definitions.elements import elements_of
from rivers.exceptions import ResultDefinitionError


class Frame:
    """Iterates over its column names, like a DataFrame."""

    def __iter__(self) -> Any:
        return iter(["price", "amount"])

    def __len__(self) -> int:
        return 2


class Model(BaseModel):
    x: int = 1


class TestElements:
    @pytest.mark.parametrize(
        "value",
        [[10, 20], (10, 20), range(10, 30, 10), deque([10, 20]), UserList([10, 20]), array("i", [10, 20])],
        ids=lambda value: type(value).__name__,
    )
    def test_sequences(self, value: Any) -> None:
        """A sequence gives its items under their positions."""
        assert {"0": 10, "1": 20} == elements_of(value, "v")

    @pytest.mark.parametrize(
        "make",
        [iter, lambda xs: map(int, xs), lambda xs: (x for x in xs)],
        ids=["iter", "map", "generator"],
    )
    def test_iterators(self, make: Any) -> None:
        """An iterator gives its items under their positions, once."""
        assert {"0": 10, "1": 20} == elements_of(make([10, 20]), "v")

    @pytest.mark.parametrize("kind", [dict, OrderedDict, MappingProxyType])
    def test_mappings(self, kind: Any) -> None:
        """A mapping gives its values under its keys as text."""
        assert {"north": 10, "2": 20} == elements_of(kind({"north": 10, 2: 20}), "v")

    def test_own_keys(self) -> None:
        """Dynamic outputs have keys of their own, in any iterable."""
        outputs = [rs.DynamicOutput("a", 1), rs.DynamicOutput("b", 2)]

        assert {"a": 1, "b": 2} == elements_of(outputs, "v") == elements_of(dict.fromkeys(outputs).keys(), "v")

    def test_mixed(self) -> None:
        """Items without a key keep their positions beside those with one."""
        assert {"a": 1, "1": 2} == elements_of([rs.DynamicOutput("a", 1), 2], "v")


class TestRefused:
    @pytest.mark.parametrize(
        "value",
        ["abc", b"abc", bytearray(b"a"), memoryview(b"a"), 3, None, {1, 2}, {"a": 1}.values(), Frame(), Model()],
        ids=lambda value: type(value).__name__,
    )
    def test_types(self, value: Any) -> None:
        """Text, numbers, sets and frames have no elements in an order; the error names value and type."""
        with pytest.raises(ResultDefinitionError, match=f"value of 'v', which is of type {type(value).__name__}: exp"):
            elements_of(value, "v")

    @pytest.mark.parametrize(
        "value",
        [[rs.DynamicOutput("a", 1), rs.DynamicOutput("a", 2)], [rs.DynamicOutput("1", 1), 2], {"1": 1, 1: 2}],
        ids=["outputs", "position", "mapping"],
    )
    def test_same_key(self, value: Any) -> None:
        """Two elements with the same mapping key are refused."""
        with pytest.raises(ResultDefinitionError, match=r"'v' has the mapping key '.' twice"):
            elements_of(value, "v")

    @pytest.mark.parametrize("key", ["", "a[b", "x" * 129, "new\nline"])
    def test_keys(self, key: str) -> None:
        """A key of a mapping that cannot be a mapping key is refused."""
        with pytest.raises(ResultDefinitionError, match="mapping key"):
            elements_of({key: 1}, "v")

    def test_two_keys(self) -> None:
        """A dynamic output inside a mapping would have two keys."""
        with pytest.raises(ResultDefinitionError, match="two keys for one element: 'a' and 'b'"):
            elements_of({"a": rs.DynamicOutput("b", 1)}, "v")
