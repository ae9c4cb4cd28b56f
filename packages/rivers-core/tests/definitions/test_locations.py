"""Source locations of functions and classes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from rivers._definitions.locations import source_location


def traced(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


@traced
def decorated() -> None: ...


class Plain:
    colour = "blue"

    def method(self) -> None: ...


def line_of(definition: Any) -> int:
    return inspect.getsourcelines(definition)[1]


class TestSourceLocation:
    def test_function(self) -> None:
        """A function is found at the line where it begins."""
        assert f"{__file__}:{line_of(traced)}" == source_location(traced)

    def test_decorated(self) -> None:
        """Through functools.wraps the user's function is found, not the decorator's."""
        assert f"{__file__}:{line_of(decorated)}" == source_location(decorated)

    def test_partial_and_method(self) -> None:
        """Partials and bound methods lead to the function below."""
        expected = f"{__file__}:{line_of(Plain.method)}"

        assert expected == source_location(functools.partial(Plain().method))

    def test_class(self) -> None:
        """A class is found at its class line."""
        assert f"{__file__}:{line_of(Plain)}" == source_location(Plain)

    @pytest.mark.parametrize("definition", [len, int, None, 5, type("Made", (), {"__module__": "nowhere"})])
    def test_no_source(self, definition: object) -> None:
        """What has no source has no location."""
        assert source_location(definition) is None

    def test_endless_wrapping(self) -> None:
        """A function that claims to wrap itself does not hang the search."""

        def loop() -> None: ...

        loop.__wrapped__ = loop  # type: ignore[attr-defined]

        assert f"{__file__}:{loop.__code__.co_firstlineno}" == source_location(loop)
