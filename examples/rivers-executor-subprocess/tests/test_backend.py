"""The backend and its worker through the SPI alone: one attempt at a time, and every one ends once."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rivers_executor_subprocess import SubprocessBackend, SubprocessExecutor

import rivers as rs
from rivers.protocol import (
    Ending,
    FailureReason,
    ImportRef,
    LogRecord,
    LogSettings,
    Output,
    PickledRef,
    StepEvent,
    StepResult,
    StepSpec,
    StepStarted,
    encode_spec,
)
from rivers.spi import Run


class Opened:
    """A backend that is open for a run, with the events it has emitted."""

    def __init__(self, grace: float = 5.0) -> None:
        self.events: queue.SimpleQueue[StepEvent] = queue.SimpleQueue()
        self.backend = SubprocessBackend(SubprocessExecutor(max_workers=2))
        self.backend.open(Run(run_id="run", grace=grace, key=b"k" * 32), self.events.put)

    def until(self, kind: type[StepEvent]) -> Any:
        while type(event := self.events.get(timeout=30)) is not kind:
            pass
        return event


@pytest.fixture
def opened() -> Iterator[Opened]:
    opened = Opened()
    yield opened
    opened.backend.close(10.0)
    assert opened.events.empty()


def spec(name: str, tmp_path: Path, **fields: Any) -> StepSpec:
    """The spec of an asset of the user's module, stored below tmp_path."""
    handler = rs.protocol.ConfiguredRef(
        cls=ImportRef(module="rivers", qualname="PickleIOHandler"), json=f'{{"store": "{tmp_path}"}}'
    )
    given = {
        "run_id": "run",
        "step": name,
        "attempt_id": "run-1",
        "function": ImportRef(module="user_steps", qualname=name),
        "outputs": (Output(name=name, key=name, io_handler=handler),),
        "logs": LogSettings(capture=True),
    }
    return StepSpec(**{**given, **fields})


def test_an_attempt_tells_its_start_its_output_and_its_end(opened: Opened, tmp_path: Path) -> None:
    """A submit is answered by StepStarted, what the body prints, and one StepResult, all under its attempt id."""
    opened.backend.submit(spec("base", tmp_path))

    started, result = opened.until(StepStarted), opened.until(StepResult)

    assert ("run-1", "run-1", Ending.SUCCEEDED) == (started.attempt_id, result.attempt_id, result.ending)
    assert started.worker == result.worker


@pytest.mark.parametrize("name", ["stubborn", "holds_the_gil"])
def test_what_does_not_stop_is_killed_after_the_grace(opened: Opened, tmp_path: Path, name: str) -> None:
    """A body that ignores being asked, or hangs in C with the GIL, is killed; its stack is in the evidence (L7, L8)."""
    opened.backend.submit(spec(name, tmp_path))
    opened.until(LogRecord)

    opened.backend.cancel("run-1", grace=0.3)
    result = opened.until(StepResult)

    assert Ending.CANCELLED is result.ending
    assert (FailureReason.CANCELLED, signal.SIGKILL) == (result.failure.reason, result.failure.evidence.signal)
    assert f"in {name}" in result.failure.evidence.native_traceback


def test_a_cancel_right_after_the_submit(opened: Opened, tmp_path: Path) -> None:
    """An attempt that is cancelled before or while its worker begins ends once, as cancelled."""
    opened.backend.submit(spec("sleeps", tmp_path))
    opened.backend.cancel("run-1", grace=5.0)

    assert Ending.CANCELLED is opened.until(StepResult).ending


def test_a_cancel_of_what_does_not_run(opened: Opened, tmp_path: Path) -> None:
    """Cancelling an unknown attempt, or one that has ended, is nothing."""
    opened.backend.submit(spec("base", tmp_path))
    opened.until(StepResult)

    opened.backend.cancel("run-1", grace=0.1)
    opened.backend.cancel("never", grace=0.1)


def test_a_teardown_without_end(tmp_path: Path) -> None:
    """A worker that has reported its result and does not exit is killed after the grace; the result stands."""
    opened = Opened(grace=0.3)
    ref = rs.protocol.ConfiguredRef(cls=ImportRef(module="user_steps", qualname="Endless"), json="{}")
    endless = rs.protocol.ResourceInput(parameter="endless", name="endless", ref=ref)
    opened.backend.submit(spec("with_endless", tmp_path, inputs=(endless,)))

    assert Ending.SUCCEEDED is opened.until(StepResult).ending
    opened.backend.close(10.0)


@pytest.mark.parametrize("name", ["leaves_a_thread", "leaves_a_process", "forks"])
def test_stragglers_do_not_hold_up_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A thread, a process or a fork that a body leaves behind does not delay its end, however long the grace is."""
    monkeypatch.setenv("RIVERS_TEST_NOTES", str(tmp_path / "notes"))
    opened = Opened(grace=3600)
    opened.backend.submit(spec(name, tmp_path))

    assert Ending.SUCCEEDED is opened.until(StepResult).ending
    opened.backend.close(10.0)


def test_close_kills_what_still_runs(tmp_path: Path) -> None:
    """Closing a backend ends its workers at once, and each of its attempts still ends."""
    opened = Opened()
    opened.backend.submit(spec("stubborn", tmp_path))
    opened.until(LogRecord)

    opened.backend.close(10.0)

    assert Ending.CANCELLED is opened.until(StepResult).ending


def test_a_worker_that_cannot_be_started(opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt whose process cannot be started ends as not started, which costs the user no retry."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
    opened.backend.submit(spec("base", tmp_path))

    result = opened.until(StepResult)

    assert Ending.NOT_STARTED is result.ending
    assert "FileNotFoundError" in result.failure.message


def test_a_worker_that_cannot_begin(opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that exits before the attempt has started says by its code that another attempt is pointless."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "msgspec.py").write_text("raise SystemExit(3)")
    opened.backend.submit(spec("base", tmp_path))

    result = opened.until(StepResult)

    assert (Ending.FAILED, FailureReason.INFRASTRUCTURE) == (result.ending, result.failure.reason)
    assert (3, False) == (result.failure.evidence.exit_code, result.failure.transient)


def test_a_worker_killed_before_it_begins(opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is killed while it starts had not begun: the attempt is to be dispatched again free of charge."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "msgspec.py").write_text("import os; os.kill(os.getpid(), 9)")
    opened.backend.submit(spec("base", tmp_path))

    result = opened.until(StepResult)

    assert (Ending.NOT_STARTED, signal.SIGKILL) == (result.ending, result.failure.evidence.signal)


@pytest.mark.parametrize(
    ("data", "reported"),
    [
        (b"\xff\xff\xff\xffgarbage", "bytes, allowed are"),
        (b"\x00\x00\x00\x02hi", "no StepEvent"),
        (len(b).to_bytes(4, "big") + b if (b := rs.protocol.encode_event(StepStarted(attempt_id="x"))) else b"", "'x'"),
    ],
    ids=["too large", "no event", "for another attempt"],
)
def test_a_worker_that_lies(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, reported: str
) -> None:
    """A worker that sends no event, or one for another attempt, is killed, and its own attempt says why."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "msgspec.py").write_text(f"import os, sys, time; os.write(int(sys.argv[2]), {data!r}); time.sleep(60)")
    opened.backend.submit(spec("base", tmp_path))

    result = opened.until(StepResult)

    assert "run-1" == result.attempt_id
    assert reported in result.failure.evidence.detail


def test_a_spec_that_is_too_large_costs_no_process(opened: Opened, tmp_path: Path) -> None:
    """A spec beyond the limits is refused by submit and by preflight, naming the field (S9)."""
    large = spec("base", tmp_path, metadata={str(n): "x" * 200_000 for n in range(6)})

    with pytest.raises(rs.exceptions.SpecLimitError, match="metadata"):
        opened.backend.submit(large)
    (problem,) = opened.backend.preflight([large])

    assert "metadata" in problem.message


def test_a_pickle_needs_the_worker_s_consent(opened: Opened, tmp_path: Path) -> None:
    """A pickle that reaches a worker whose environment does not allow it is not loaded: it would have left a note."""
    canary = b"cos\nabort\n(tR."
    ref = PickledRef(payload=canary, sha256=bytes(32), hmac=bytes(32))
    opened.backend.submit(spec("base", tmp_path, function=ref))

    failure = opened.until(StepResult).failure

    assert (FailureReason.INFRASTRUCTURE, False) == (failure.reason, failure.transient)
    assert "does not allow pickles" in failure.message


def test_a_pickle_needs_the_run_s_signature(opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pickle that was not signed with the key of the run is not loaded, also where pickles are allowed."""
    monkeypatch.setenv("RIVERS_ALLOW_PICKLE", "1")
    ref = PickledRef(payload=b"cos\nabort\n(tR.", sha256=bytes(32), hmac=bytes(32))
    opened.backend.submit(spec("base", tmp_path, function=ref))

    assert "signature" in opened.until(StepResult).failure.message


# ---- the worker alone: what an older or newer or hostile controller could send ---------------------------------------


def work(spec: bytes, tmp_path: Path) -> tuple[int, list[StepEvent]]:
    """Start a worker as the backend does and hand it these bytes; returns its exit code and its events."""
    readable, writable = os.pipe()
    with open(readable, "rb") as events, open(tmp_path / "crash", "wb") as crash:
        command = [sys.executable, "-P", "-m", "rivers_executor_subprocess.worker", str(os.getpid())]
        header = f'{{"attempt_id": "run-1", "grace": 1, "key": "", "path": {sys.path!r}}}\n'.replace("'", '"').encode()
        ended = subprocess.run(
            [*command, str(writable), str(crash.fileno())],
            input=header + spec,
            pass_fds=(writable, crash.fileno()),
            check=False,
        )
        os.close(writable)
        data = events.read()
    reported = []
    while data:
        size = 4 + int.from_bytes(data[:4], "big")
        reported.append(rs.protocol.decode_event(data[4:size]))
        data = data[size:]
    return ended.returncode, reported


def test_another_protocol_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A spec of another major version is refused with both versions and exit code 14, nothing is imported (S5)."""
    monkeypatch.setenv("RIVERS_TEST_NOTES", str(tmp_path / "notes"))
    tripwire = spec("base", tmp_path, function=ImportRef(module="tripwire", qualname="function"))
    data = encode_spec(tripwire).replace(b"\xb0protocol_version\x01", b"\xb0protocol_version\x63")

    code, reported = work(data, tmp_path)

    assert 14 == code
    (result,) = reported
    assert isinstance(result, StepResult)
    assert result.failure is not None
    assert ("run-1", Ending.FAILED, False) == (result.attempt_id, result.ending, result.failure.transient)
    assert "rivers.exceptions.SpecVersionError" == result.failure.type
    assert f"version 99; this side speaks version {rs.protocol.PROTOCOL_VERSION}" in result.failure.message
    assert not (tmp_path / "notes").exists()


@pytest.mark.parametrize(
    ("change", "reported"),
    [
        (lambda data: data[: len(data) // 2], "SpecDecodeError"),
        (lambda data: data.replace(b"\xa5asset", b"\xa5asse?"), "SpecDecodeError"),
        (lambda data: data.replace(b"\xa6import", b"\xa6xmport"), "SpecDecodeError"),
        (lambda data: data.replace(b"user_steps", b"user__step"), ""),
        (lambda data: b"\x91" * 5000, "SpecTooDeepError"),
        (lambda data: b"", "SpecDecodeError"),
    ],
    ids=["cut off", "unknown node kind", "unknown ref kind", "unknown module", "nested", "empty"],
)
def test_a_spec_that_is_none(tmp_path: Path, change: Any, reported: str) -> None:
    """Bytes that are no acceptable spec end as a typed failure of the attempt with exit code 11 (S10)."""
    code, events = work(change(encode_spec(spec("base", tmp_path))), tmp_path)

    result = events[-1]
    assert isinstance(result, StepResult)
    assert result.failure is not None
    assert (FailureReason.INFRASTRUCTURE, False) == (result.failure.reason, result.failure.transient)
    assert (11, f"rivers.exceptions.{reported}") == (code, result.failure.type) if reported else 0 == code


def test_a_worker_whose_controller_is_gone(tmp_path: Path) -> None:
    """A worker that finds its controller dead when it begins runs nothing and exits with 13."""
    command = [sys.executable, "-P", "-m", "rivers_executor_subprocess.worker", "1", "1", "1"]

    assert 13 == subprocess.run(command, input=b"", check=False).returncode
