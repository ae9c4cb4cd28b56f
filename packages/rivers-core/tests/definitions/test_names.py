from __future__ import annotations

from enum import Enum, StrEnum
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rivers._definitions import names
from rivers._definitions.names import check_name, closest
from rivers.exceptions import AssetDefinitionError, ConfigurationError, TaskDefinitionError


class Text(str, Enum):  # noqa: UP042 - str() of its members is not their text
    """Members are made by the functional API."""


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

    @pytest.mark.parametrize("kind", [StrEnum, Text])
    def test_enums(self, kind: Any) -> None:
        """A member of a string enum is its text, as a plain str."""
        name = check_name(kind("Names", {"RAW": "raw_orders"}).RAW)

        assert ("raw_orders", str) == (name, type(name))

    @pytest.mark.parametrize(
        ("name", "why"),
        [
            ("", "is empty"),
            (None, "(of type NoneType): expected a str"),
            (b"a", "(of type bytes): expected a str"),
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

        assert caught.value.message.startswith("invalid task name ")
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
