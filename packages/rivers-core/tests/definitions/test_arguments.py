"""Checks of single arguments and the texts of their errors."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from fractions import Fraction
from numbers import Integral
from pathlib import Path

import pytest

from rivers._definitions.arguments import (
    argument_error,
    as_text,
    check_count,
    check_number,
    check_seconds,
    plain_text,
    short_repr,
)
from rivers.exceptions import ConfigurationError


class Text(str, Enum):  # noqa: UP042 - str() of its members is not their text
    A = "a"


class Whole:
    """A whole number that is no int, like numpy's."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __int__(self) -> int:
        return self.value


Integral.register(Whole)


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class TestParameters:
    def test_short_repr_is_short_and_never_raises(self) -> None:
        """A value in an error text takes 80 characters at most, also when its repr is broken."""
        assert len(short_repr("x" * 10_000)) == 80
        assert "<Unprintable without a repr>" == short_repr(Unprintable())

    def test_error(self) -> None:
        """An error names argument, value, its type where the value does not show it, owner and what is expected."""
        assert "invalid p=0: expected a b" == argument_error("p", 0, "a b").message
        assert "invalid p=(1,) (of type tuple): expected a b" == argument_error("p", (1,), "a b").message
        assert "asset 'x': invalid p=0: expected a b" == argument_error("p", 0, "a b", owner="asset 'x'").message

    @pytest.mark.parametrize("value", [0, -1, True, False, "4", 4.0, None, 11, [4]])
    def test_no_count(self, value: object) -> None:
        """Zero, negatives, bools, texts, floats and what is above the most are no counts."""
        with pytest.raises(ConfigurationError, match=r"^invalid p=.*: expected a whole number from 1 to 10$"):
            check_count("p", value, most=10)

    @pytest.mark.parametrize("value", [0, -1, True, "4", None, float("nan"), float("inf"), 10**400])
    def test_no_number(self, value: object) -> None:
        """NaN, infinities, bools, texts and what is outside the limits are no numbers; a huge int does not overflow."""
        with pytest.raises(ConfigurationError, match=r"^invalid p=.*: expected a number above 0 and up to 10$"):
            check_number("p", value, above=0, most=10)
        expected = r"^invalid p=.*: expected a number of seconds above 0 and up to 10, or a timedelta($|\n)"
        with pytest.raises(ConfigurationError, match=expected):
            check_seconds("p", value, above=0, most=10)

    @pytest.mark.parametrize("value", [1, 2, 10])
    def test_count_and_number(self, value: int) -> None:
        """Whole numbers within the limits are both, and None is where it is optional."""
        check_count("p", value, most=10)
        check_number("p", value, above=0, most=10)
        check_count("p", None, optional=True)
        check_number("p", None, optional=True)

    def test_plain_forms(self) -> None:
        """Other number types, durations and string enums come back as int, float and str."""
        assert (4, int) == (check_count("p", Whole(4)), type(check_count("p", Whole(4))))
        assert (0.5, float) == (check_number("p", Fraction(1, 2)), type(check_number("p", Fraction(1, 2))))
        assert 90.0 == check_seconds("p", timedelta(minutes=1.5))
        assert ("a", str) == (plain_text(Text.A), type(plain_text(Text.A)))

    def test_text(self) -> None:
        """Text, numbers and paths have a text; a bool, None and bytes do not."""
        assert ["a", "4", "0.5", "/x", "a"] == [as_text(value) for value in ("a", 4, 0.5, Path("/x"), Text.A)]
        assert [None] * 4 == [as_text(value) for value in (True, None, b"a", [])]

    def test_seconds_in_quotes(self) -> None:
        """A number in quotes is answered with the number."""
        with pytest.raises(ConfigurationError, match="write p=5, a number"):
            check_seconds("p", "5")
