from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rivers._definitions import names
from rivers._definitions.names import check_count, check_name, check_number, closest, refusal, shown, where
from rivers.exceptions import AssetDefinitionError, ConfigurationError, TaskDefinitionError


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


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


class TestCheckName:
    @pytest.mark.parametrize(
        "name",
        [
            "a",
            "raw_orders",
            "team/orders",
            "Größe",
            "日本",
            "two words",
            "a.b",
            "...",
            "a/.hidden",
            "x" * 180,
            "é" * 90,
        ],
    )
    def test_accepts(self, name: str) -> None:
        """Printable names of up to 180 bytes, with slashes and other alphabets, come back unchanged."""
        assert name == check_name(name, error=AssetDefinitionError)

    @pytest.mark.parametrize(
        ("name", "why"),
        [
            ("", "is empty"),
            (None, "is of type NoneType, not str"),
            (b"a", "is of type bytes, not str"),
            ("a\nb", "cannot be printed"),
            ("a\x00", "cannot be printed"),
            ("a\u202eb", "cannot be printed"),
            ("a\u00a0b", "cannot be printed"),
            ("\ud800", "cannot be printed"),
            ("x" * 181, "is 181 bytes long"),
            ("é" * 126, "is 252 bytes long"),
            (" a", "white space at an end"),
            ("a ", "white space at an end"),
            ("a[0]", "contains '['"),
            ("a]", "contains ']'"),
            ("a*", "contains '*'"),
            ("a,b", "contains ','"),
            ("a//b", "has an empty part"),
            ("/a", "has an empty part"),
            ("a/", "has an empty part"),
            (".", "has the part '.'"),
            ("a/../b", "has the part '..'"),
        ],
    )
    def test_refuses(self, name: object, why: str) -> None:
        """What is no name is refused with the error class asked for, saying of what, why, and the rule."""
        with pytest.raises(TaskDefinitionError) as caught:
            check_name(name, "task", error=TaskDefinitionError)

        assert caught.value.message.startswith("task name ")
        assert why in caught.value.message
        assert names.NAME_RULE == caught.value.hint

    def test_message_is_short(self) -> None:
        """A name of any length makes a message of one short line."""
        with pytest.raises(ConfigurationError) as caught:
            check_name("x\n" * 100_000)

        assert len(caught.value.message) < 150
        assert "\n" not in caught.value.message

    @given(st.text(max_size=300))
    def test_is_safe_as_a_path(self, name: str) -> None:
        """No accepted name leads out of a folder, is cut by a file system or breaks a line."""
        try:
            check_name(name)
        except ConfigurationError:
            return

        assert len(name.encode()) <= 180
        assert all(part not in ("", ".", "..") for part in name.split("/"))
        assert name.isprintable()


class TestClosest:
    @pytest.mark.parametrize(
        ("given", "candidates", "expected"),
        [
            ("flihgts", ["flights", "airports"], "flights"),
            ("FLIGHTS", ["airports", "flights"], "flights"),
            ("paralell", ["in_process", "parallel", "kubernetes"], "parallel"),
            ("team/order", ["team/orders", "orders"], "team/orders"),
            ("zzz", ["flights", "airports"], None),
            ("flights", [], None),
            ("", ["a"], None),
            ("x", ["x"], "x"),
        ],
    )
    def test_table(self, given: str, candidates: list[str], expected: str | None) -> None:
        """The most similar candidate is named, and none where none is alike."""
        assert expected == closest(given, candidates)

    def test_many_candidates(self) -> None:
        """Among 50,000 names of the same length, few are compared properly and the right one is found."""
        candidates = [f"asset_{number:05}_x" for number in range(50_000)] + ["flights_total"]

        assert "flights_total" == closest("flihgts_totla", candidates)

    def test_bounded(self) -> None:
        """An endless supply of candidates is looked at only so far."""
        seen = count()
        endless = (f"n{next(seen)}" for _ in iter(int, 1))

        closest("flights", endless)

        assert names.MAX_CANDIDATES == next(seen)

    @given(st.text(max_size=400), st.lists(st.text(max_size=300), max_size=20))
    def test_is_one_of_them(self, name: str, candidates: list[str]) -> None:
        """The answer is always one of the candidates or None, whatever the texts are."""
        assert closest(name, candidates) in [*candidates, None]


class TestWhere:
    def test_function(self) -> None:
        """A function is found at the line where it begins."""
        assert f"{__file__}:{line_of(traced)}" == where(traced)

    def test_decorated(self) -> None:
        """Through functools.wraps the user's function is found, not the decorator's."""
        assert f"{__file__}:{line_of(decorated)}" == where(decorated)

    def test_partial_and_method(self) -> None:
        """Partials and bound methods lead to the function below."""
        expected = f"{__file__}:{line_of(Plain.method)}"

        assert expected == where(functools.partial(Plain().method))

    def test_class(self) -> None:
        """A class is found at its class line."""
        assert f"{__file__}:{line_of(Plain)}" == where(Plain)

    @pytest.mark.parametrize("definition", [len, int, None, 5, type("Made", (), {"__module__": "nowhere"})])
    def test_no_source(self, definition: object) -> None:
        """What has no source has no place."""
        assert where(definition) is None

    def test_endless_wrapping(self) -> None:
        """A function that claims to wrap itself does not hang the search."""

        def loop() -> None: ...

        loop.__wrapped__ = loop  # type: ignore[attr-defined]

        assert f"{__file__}:{loop.__code__.co_firstlineno}" == where(loop)


class TestParameters:
    def test_shown_is_short_and_never_raises(self) -> None:
        """A value in an error text takes 80 characters at most, also when its repr is broken."""
        assert len(shown("x" * 10_000)) == 80
        assert "<Unprintable without a repr>" == shown(Unprintable())

    def test_refusal(self) -> None:
        """A refusal names parameter, value, its type where the value does not tell, and what is allowed."""
        assert "p=0: a b is allowed" == refusal("p", 0, "a b").message
        assert "p=(1,) (of type tuple): a b is allowed" == refusal("p", (1,), "a b").message

    @pytest.mark.parametrize("value", [0, -1, True, False, "4", 4.0, None, 11, [4]])
    def test_no_count(self, value: object) -> None:
        """Zero, negatives, bools, texts, floats and what is above the most are no counts."""
        with pytest.raises(ConfigurationError, match=r"^p=.*: a whole number from 1 to 10 is allowed$"):
            check_count("p", value, most=10)

    @pytest.mark.parametrize("value", [0, -1, True, "4", None, float("nan"), float("inf"), 10**400])
    def test_no_number(self, value: object) -> None:
        """NaN, infinities, bools, texts and what is outside the limits are no numbers; a huge int does not overflow."""
        with pytest.raises(ConfigurationError, match=r"^p=.*: a number of seconds, above 0 and up to 10 is allowed$"):
            check_number("p", value, above=0, most=10, unit="seconds")

    @pytest.mark.parametrize("value", [1, 2, 10])
    def test_count_and_number(self, value: int) -> None:
        """Whole numbers within the limits are both, and None is where it is optional."""
        check_count("p", value, most=10)
        check_number("p", value, above=0, most=10)
        check_count("p", None, optional=True)
        check_number("p", None, optional=True)
