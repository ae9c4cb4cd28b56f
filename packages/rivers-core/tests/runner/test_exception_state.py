"""An exception that crosses a process arrives equal, or not at all."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from rivers._runner.exception_state import rebuild
from rivers._runner.failures import make_failure
from rivers.protocol import Ending, StepResult, decode_event, encode_event
from rivers.protocol.failure import Failure, FailureReason
from rivers.protocol.protobuf import decode_event_protobuf, encode_event_protobuf
from rivers.testing.conformance.cases.raising import RAISING, ServerError, facts_of


def caught(body: Callable[[], Any]) -> Exception:
    try:
        body()
    except Exception as error:
        return error
    raise AssertionError("the body raised nothing")


def failure(error: BaseException) -> Failure:
    return make_failure(error, FailureReason.ERROR)


def crossed(sent: Failure, form: str) -> Failure:
    """A failure after its way through a codec."""
    result = StepResult(attempt_id="1", ending=Ending.FAILED, failure=sent)
    if form == "msgpack":
        arrived = decode_event(encode_event(result))
    else:
        arrived = decode_event_protobuf(encode_event_protobuf(result))
    assert isinstance(arrived, StepResult)
    assert arrived.failure is not None
    return arrived.failure


@pytest.mark.parametrize("form", ["msgpack", "protobuf"])
@pytest.mark.parametrize("name", RAISING)
def test_arrives_equal(name: str, form: str) -> None:
    """Type, text, arguments, attributes and notes are those of the error that was raised, through either codec."""
    error = caught(RAISING[name])
    arrived = rebuild(crossed(failure(error), form))

    assert arrived is not None
    assert facts_of(error) == facts_of(arrived)
    assert str(error) == str(arrived)
    assert getattr(error, "__notes__", []) == getattr(arrived, "__notes__", [])


class Stamped(Exception):
    """Its text is another one each time."""

    count = 0

    def __str__(self) -> str:
        Stamped.count += 1
        return f"number {Stamped.count}"


class Needy(Exception):
    """Cannot be shown without what does not travel."""

    def __init__(self) -> None:
        super().__init__(object())
        self.where = object()

    def __str__(self) -> str:
        return str(self.where)


class Wide(Exception):
    def __init__(self, size: int) -> None:
        super().__init__("wide")
        self.small = 1
        self.wide = "\0" * size
        self.last = 2


@pytest.mark.parametrize(
    "error", [Stamped("x"), Needy(), SystemExit(3), KeyboardInterrupt()], ids=lambda e: repr(e)[:9]
)
def test_nothing_half_made(error: BaseException) -> None:
    """What cannot be made equal is not made: nor is what would end the process."""
    assert rebuild(failure(error)) is None


def test_large_attributes_are_left_out() -> None:
    """An attribute for which there is no room is left out, the others arrive, and the result can be sent."""
    for size in (50_000, 10_000_000):
        arrived = rebuild(crossed(failure(Wide(size)), "msgpack"))
        assert isinstance(arrived, Wide)
        assert {"small": 1, "last": 2} == vars(arrived)


def test_an_error_with_everything_large_can_be_sent() -> None:
    """Text, notes, arguments and attributes of a megabyte each leave a result that fits into one message."""
    error = ServerError(404, "x" * 1_000_000)
    error.args = ("y" * 60_000, b"z" * 60_000)
    for _ in range(100):
        error.add_note("n" * 100_000)

    assert "ServerError" in crossed(failure(error), "protobuf").type


def test_a_class_is_not_imported(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class is looked for among the loaded modules; neither an import nor a module's `__getattr__` runs for it."""
    (tmp_path / "not_loaded.py").write_text("class Lost(Exception): pass")
    monkeypatch.syspath_prepend(tmp_path)
    lazy = types.ModuleType("lazy_for_test")
    lazy.__getattr__ = pytest.fail  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "lazy_for_test", lazy)

    for name in ("not_loaded.Lost", "lazy_for_test.Lost", "os.system", "rivers.exceptions.Problem", "", "..", "os."):
        assert rebuild(Failure(reason=FailureReason.ERROR, type=name, message="x", args='["x"]')) is None
    assert "not_loaded" not in sys.modules


@pytest.mark.parametrize(
    "state",
    [
        {"attributes": {"add_note": 1, "__class__": "x", "__dict__": {}, "args": []}},
        {"attributes": {"x": {"newer": 1}}},
        {"attributes": {"x": {}}},
        {"attributes": {"x": {"exception": {"type": "os.system", "message": "", "notes": []}}}},
        {"args": 5},
        {"args": [{"bytes": "?"}]},
        {"attributes": 7},
    ],
    ids=str,
)
def test_hostile_state(state: dict[str, Any]) -> None:
    """What no worker of ours writes makes no error of a wrong kind, and raises nothing."""
    hostile = Failure(
        reason=FailureReason.ERROR,
        type="ValueError",
        message="x",
        args='["x"]',
        state=msgspec.json.encode(state).decode(),
    )
    arrived = rebuild(hostile)

    assert arrived is None or (type(arrived) is ValueError and str(arrived) == "x")
