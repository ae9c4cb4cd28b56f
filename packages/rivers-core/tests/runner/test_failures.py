"""An exception as a value, whatever the exception does when it is looked at."""

from __future__ import annotations

import threading
from typing import Any

import msgspec
import pytest

from rivers._runner.failures import make_failure
from rivers.protocol.exception_text import MAX_TEXT, exception_text
from rivers.protocol.failure import Failure, FailureReason


def caught(error: BaseException) -> Failure:
    try:
        raise error
    except BaseException as raised:
        return make_failure(raised, FailureReason.ERROR)


class Hostile(Exception):
    """Every method that may be called on it raises."""

    def __str__(self) -> str:
        raise SystemExit

    def __repr__(self) -> str:
        raise KeyError

    def __getattribute__(self, name: str) -> Any:
        if name in ("args", "__notes__"):
            raise MemoryError
        return super().__getattribute__(name)


def test_hostile_exception() -> None:
    """An exception whose text, repr, notes and arguments raise still becomes a failure with its name."""
    failure = caught(Hostile())

    assert failure.type.endswith("test_failures.Hostile")
    assert "text could not be made" in failure.message
    assert () == failure.notes
    assert failure.args is None
    assert "in caught" in (failure.traceback or "")


@pytest.mark.parametrize("text", ["x" * 50_000_000, "ü" * 1_000_000, "\udcff" * 100_000], ids=["ascii", "wide", "bad"])
def test_huge_text_is_bounded(text: str) -> None:
    """Message and traceback are at most 64 KiB of valid UTF-8; the middle is what goes."""
    failure = caught(ValueError(text))

    for part in (failure.message, failure.traceback or ""):
        assert len(part.encode()) <= MAX_TEXT
        assert "bytes left out" in part
    assert len(msgspec.msgpack.encode(failure)) < 4 * MAX_TEXT


def test_circular_and_long_chains() -> None:
    """Causes in a circle, or 10,000 of them, end."""
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    chain = ValueError("last")
    for number in range(10_000):
        after = ValueError(str(number))
        after.__cause__ = chain
        chain = after

    assert "second" in (caught(first).traceback or "")
    assert "9999" in (caught(chain).traceback or "")


def test_group_tells_all_its_parts() -> None:
    """All exceptions of a group are in the report, also the fiftieth, also nested ones."""
    nested = ExceptionGroup("inner", [KeyError(f"inner {number}") for number in range(20)])
    failure = caught(ExceptionGroup("outer", [*(ValueError(f"part {number}") for number in range(50)), nested]))

    told = failure.traceback or ""
    assert 50 == sum(f"part {number}\n" in told for number in range(50))
    assert 20 == sum(f"'inner {number}'" in told for number in range(20))


def test_arguments_that_are_no_plain_values() -> None:
    """An exception that holds a lock tells everything but its arguments."""
    failure = caught(ValueError("text", threading.Lock()))

    assert failure.args is None
    assert "text" in failure.message


def test_base_classes_are_told() -> None:
    """The names of all base classes travel, so that retry_on can name one of them."""
    failure = caught(ConnectionResetError(104, "reset"))

    assert ("ConnectionResetError", "ConnectionError", "OSError") == failure.mro[:3]
    assert '[104,"reset"]' == failure.args


def test_exit_says_its_code() -> None:
    """sys.exit() in a body is told as such, with the code."""
    assert "sys.exit('nope')" in exception_text(SystemExit("nope"))
