"""The results of runs, and the errors that they raise."""

from __future__ import annotations

import asyncio
import logging
import traceback
from typing import Any

import pytest
from pydantic import BaseModel

import rivers as rs
from rivers.exceptions import (
    AssetOutputValidationError,
    ConfigurationError,
    InputLoadError,
    StepFailedError,
    StepTimeoutError,
)


class Payment(Exception):
    def __init__(self, amount: int, to: str) -> None:
        super().__init__(f"{amount} to {to}")
        self.amount = amount


class NoNotes(Exception):
    def add_note(self, note: str) -> None:
        raise RuntimeError("no notes here")


class Sealed(Exception):
    def __setattr__(self, name: str, value: object) -> None:
        raise TypeError("sealed")


ERROR = Payment(5, "me")


@rs.Asset
def pays() -> int:
    raise ERROR


@rs.Asset
def other() -> int:
    raise KeyError("other")


@rs.Asset
def needs(pays: int) -> int:
    return pays


@rs.Asset
def fine() -> int:
    return 1


@rs.Asset
def sized(context: rs.AssetExecutionContext[Size]) -> int:
    return context.config.size


class Size(BaseModel):
    """Defined after its use, as a module may."""

    size: int


@rs.Asset(timeout=0.001)
async def late() -> None:
    await asyncio.sleep(600)


def raising(error: BaseException) -> rs.Asset:
    def body() -> None:
        raise error

    return rs.Asset(body)


def run(*assets: rs.Asset, **arguments: Any) -> rs.RunResult:
    return rs.CodeRepository(list(assets)).materialize(**arguments)


def test_result_fields() -> None:
    """A RunResult has the assets that were made, those that failed and why, and a report for every step."""
    result = run(fine, pays, needs, raise_on_error=False)

    assert not result.success
    assert "failure" == result.status
    assert ["fine"] == result.materialized_assets
    assert [("pays", f"{Payment.__module__}.Payment: 5 to me")] == result.failed_assets
    assert ["fine", "pays", "needs"] == list(result.steps)
    assert len(result.run_id) >= 16


def test_step_report_fields() -> None:
    """A StepReport has state, executor, attempts, worker, timings by phase, and the failure with its traceback."""
    report = run(pays, raise_on_error=False).steps["pays"]

    assert ("pays", "failed", "in_process", 1) == (report.step, report.state, report.executor, report.attempts)
    assert report.worker.startswith("pid ")
    assert report.timings.run > 0
    assert 0 == report.timings.store
    assert report.failure is report.failures[-1]
    assert report.failure is not None
    assert "raise ERROR" in (report.failure.traceback or "")


def test_the_very_exception_is_raised() -> None:
    """raise_on_error raises the body's own exception object, once the run is over, with the RunResult on it."""
    with pytest.raises(Payment) as caught:
        run(pays, fine)

    assert caught.value is ERROR
    assert 5 == caught.value.amount
    result: rs.RunResult = caught.value.result  # type: ignore[attr-defined]  # put on exceptions that are not ours
    assert ["fine"] == result.materialized_assets


def test_notes_say_where_and_what_else() -> None:
    """The notes name asset, executor, attempt and worker, the other failures and how many steps were skipped."""
    with pytest.raises(Payment) as caught:
        run(pays, other, needs)

    text = "".join(traceback.format_exception(caught.value))
    assert "'pays' failed on executor 'in_process', attempt 1" in text
    assert "worker pid" in text
    assert "also failed: 'other' (error: KeyError: 'other')" in text
    assert "1 step was skipped" in text


@pytest.mark.parametrize("error", [SystemExit(3), NoNotes("x"), Sealed("x"), GeneratorExit()], ids=repr)
def test_what_cannot_be_raised_is_the_cause(error: BaseException) -> None:
    """An exception that would end the process, or takes no notes, becomes the cause of a StepFailedError."""
    with pytest.raises(StepFailedError) as caught:
        run(raising(error))

    assert caught.value.__cause__ is error
    assert "body" == caught.value.step
    assert caught.value.result.failed_assets


def test_group_is_raised_as_it_is() -> None:
    """except* works on what a run raises."""
    caught: list[str] = []

    try:
        run(raising(ExceptionGroup("g", [ValueError("v"), KeyError("k")])))
    except* ValueError as group:
        caught += [str(error) for error in group.exceptions]
    except* KeyError as group:
        caught += [str(error) for error in group.exceptions]

    assert ["v", "'k'"] == caught


def test_timeout_error_knows_its_place() -> None:
    """A timeout is a StepTimeoutError and a TimeoutError that says run, step, attempt and executor."""
    with pytest.raises(TimeoutError) as caught:
        run(late)

    assert isinstance(caught.value, StepTimeoutError)
    assert ("late", 1, "in_process") == (caught.value.step, caught.value.attempt, caught.value.executor)
    assert caught.value.run_id == caught.value.result.run_id


def test_missing_upstream_says_what_to_do() -> None:
    """A value that was never stored is an InputLoadError that names the upstream and how to get it."""
    with pytest.raises(InputLoadError, match="'pays'") as caught:
        run(pays, needs, selection=["needs"])

    assert "include" in str(caught.value)


def test_keyboard_interrupt_in_a_body() -> None:
    """KeyboardInterrupt ends the run, is raised on, and brings what was made until then."""
    with pytest.raises(KeyboardInterrupt) as caught:
        run(fine, raising(KeyboardInterrupt()), other)

    result: rs.RunResult = caught.value.result  # type: ignore[attr-defined]  # put on exceptions that are not ours
    assert "cancelled" == result.status
    assert {"fine": "succeeded", "body": "cancelled", "other": "cancelled"} == {
        step: report.state.value for step, report in result.steps.items()
    }


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"sized": {"size": "big"}}, "size: Input should be a valid integer"),
        ({"sized": {}}, "size: Field required"),
        ({}, "size: Field required"),
        ({"sized": 3}, "a dict of fields"),
    ],
    ids=str,
)
def test_config_is_refused_before_anything_runs(config: Any, text: str) -> None:
    """A config that does not fit its model refuses the run, naming the asset and the field; no body runs."""
    ran: list[int] = []

    def earlier() -> None:
        ran.append(1)

    with pytest.raises(ConfigurationError, match=text):
        run(rs.Asset(earlier), sized, config=config)
    assert [] == ran


def test_config_of_nobody_is_refused() -> None:
    """A config for a name that is no asset says which one was meant."""
    with pytest.raises(rs.exceptions.AssetNotFoundError, match="did you mean 'sized'"):
        run(sized, config={"size": {"size": 1}})


def test_types_of_the_defining_function_count() -> None:
    """A model and a return hint that are local to the function which defines the asset are checked like any other."""

    class Local(BaseModel):
        n: int

    @rs.Asset
    def made(context: rs.AssetExecutionContext[Local]) -> Local:
        return context.config if context.config.n else "none"  # type: ignore[return-value]  # what the test is about

    assert run(made, config={"made": {"n": 1}}).success
    with pytest.raises(ConfigurationError, match="n: Input"):
        run(made, config={"made": {"n": "x"}})
    with pytest.raises(AssetOutputValidationError, match="Local, got str"):
        run(made, config={"made": {"n": 0}})


def test_a_failure_is_named_with_its_type() -> None:
    """Results and log lines name a failure by type and message: of a KeyError the message is the key alone."""
    lines: list[str] = []
    logger = logging.getLogger("test.named")
    logger.addHandler(handler := logging.Handler())
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    try:
        result = rs.CodeRepository([raising(KeyError("x")), silent]).materialize(
            raise_on_error=False, on_event=rs.LoggingSink(logger)
        )
    finally:
        logger.removeHandler(handler)

    assert {"KeyError: 'x'", "ValueError"} == {message for _, message in result.failed_assets}
    assert any(line.endswith("KeyError: 'x'") for line in lines)


@rs.Asset
def silent() -> int:
    raise ValueError
