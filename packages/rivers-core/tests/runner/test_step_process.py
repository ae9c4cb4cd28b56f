"""A StepProcess and its other side: one attempt, and every way in which its process can end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rivers as rs
from rivers.protocol import (
    Ending,
    Evidence,
    ImportRef,
    LogRecord,
    LogSettings,
    Output,
    PickledRef,
    StepEvent,
    StepResult,
    StepSpec,
    StepStarted,
    decode_event,
    encode_spec,
)
from rivers.spi import StepProcess

BODIES = """
import os, signal, subprocess, sys, threading, time

def twenty():
    print("a line")
    os.write(1, b"by descriptor\\n")
    return 20

def dies():
    os.kill(os.getpid(), signal.SIGKILL)

def exits():
    os._exit(0)

def sleeps():
    print("asleep")
    time.sleep(60)

def stubborn():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("asleep")
    time.sleep(60)

def leaves_behind():
    threading.Thread(target=time.sleep, args=(60,)).start()
    subprocess.Popen(["sleep", "60"])
    return 1
"""


class Execution:
    """One attempt of a body, with the events that it has reported."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "bodies_here.py").write_text(BODIES)
        monkeypatch.syspath_prepend(str(tmp_path))
        self._store = tmp_path / "store"
        self.events: list[StepEvent] = []
        self.process = StepProcess("here")
        self.on_event: Callable[[StepEvent], None] = lambda event: None

    def run(self, name: str, grace: float = 5.0, **fields: Any) -> Evidence:
        ref = rs.protocol.ConfiguredRef(
            cls=ImportRef(module="rivers", qualname="PickleIOHandler"), json=f'{{"store": "{self._store}"}}'
        )
        function = fields.pop("function", ImportRef(module="bodies_here", qualname=name))
        output = Output(name=name, key=name, io_handler=ref)
        spec = StepSpec(
            run_id="run",
            step=name,
            attempt_id="one",
            function=function,
            outputs=(output,),
            logs=LogSettings(capture=True),
        )
        return self.process.run("one", encode_spec(spec), self._take, grace=grace, key=b"k" * 32)

    def _take(self, payloads: list[bytes]) -> None:
        for payload in payloads:
            self.events.append(decode_event(payload))
            self.on_event(self.events[-1])

    @property
    def result(self) -> StepResult:
        (result,) = [event for event in self.events if isinstance(event, StepResult)]
        return result


@pytest.fixture
def execution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Execution:
    return Execution(tmp_path, monkeypatch)


def test_events_come_in_order(execution: Execution) -> None:
    """StepStarted, what the body prints by any way, and the result; the evidence is a clean exit."""
    evidence = execution.run("twenty")

    started, *logs, result = execution.events
    assert isinstance(started, StepStarted)
    assert isinstance(result, StepResult)
    assert {"a line", "by descriptor"} == {log.message for log in logs if isinstance(log, LogRecord)}
    assert (Ending.SUCCEEDED, started.worker) == (result.ending, result.worker)
    assert (0, None, started.worker) == (evidence.exit_code, evidence.signal, evidence.worker)
    assert started.worker.startswith("here pid ")


@pytest.mark.parametrize(("name", "code", "number"), [("dies", None, signal.SIGKILL), ("exits", 0, None)])
def test_an_end_without_a_result(execution: Execution, name: str, code: int | None, number: int | None) -> None:
    """A process that ends by a signal or an exit code has reported its start, and no result."""
    evidence = execution.run(name)

    assert (code, number) == (evidence.exit_code, evidence.signal)
    assert [StepStarted] == [type(event) for event in execution.events]


@pytest.mark.parametrize(("name", "number"), [("sleeps", None), ("stubborn", signal.SIGKILL)])
def test_stop(execution: Execution, name: str, number: int | None) -> None:
    """A body that is stopped ends as cancelled; one that ignores it is killed after the grace, and leaves its stack."""
    execution.on_event = lambda event: execution.process.stop(1.0) if isinstance(event, LogRecord) else None

    evidence = execution.run(name)

    assert number == evidence.signal
    if number is None:
        assert Ending.CANCELLED is execution.result.ending


def test_stop_before_the_start(execution: Execution) -> None:
    """An attempt that is stopped before its process begins starts none."""
    execution.process.stop(1.0)

    assert Evidence(cancelled=True) == execution.run("twenty")
    assert [] == execution.events


def test_what_a_body_leaves(execution: Execution) -> None:
    """A thread and a process that a body leaves neither delay the end nor outlive it, however long the grace is."""
    execution.run("leaves_behind", grace=3600)

    assert Ending.SUCCEEDED is execution.result.ending
    group = subprocess.run(
        ["ps", "-e", "-o", "pgid=,stat="], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    # A zombie has ended, and waits for init.
    assert [] == [line for line in group if line.split()[0] == execution.result.worker.split()[-1] and "Z" not in line]


@pytest.mark.parametrize("allow", ["", "1"])
def test_pickles(execution: Execution, monkeypatch: pytest.MonkeyPatch, allow: str) -> None:
    """A pickle is loaded only where the environment allows it and the run has signed it; this one would abort."""
    monkeypatch.setenv("RIVERS_ALLOW_PICKLE", allow)
    ref = PickledRef(payload=b"cos\nabort\n(tR.", sha256=bytes(32), hmac=bytes(32))

    execution.run("pickled", function=ref)

    failure = execution.result.failure
    assert failure is not None
    assert ("signature" if allow else "does not allow pickles") in failure.message


def test_bytes_that_are_no_frame(execution: Execution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that writes no frame is killed, and the evidence says why."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "msgspec.py").write_text(
        "import os, sys, time\nos.write(int(sys.argv[2]), b'\\xff' * 64)\ntime.sleep(60)"
    )

    evidence = execution.run("twenty")

    assert signal.SIGKILL == evidence.signal
    assert "it wrote no event: a frame of 4294967295 bytes" in (evidence.detail or "")


def test_an_orphan(tmp_path: Path) -> None:
    """A process that finds its parent dead when it begins runs nothing and exits with 13."""
    command = [sys.executable, "-P", "-m", "rivers._runner.step_process_main", "1", "1", "1"]

    assert 13 == subprocess.run(command, input=b"", check=False).returncode


def test_the_kernel_kills_it_with_its_parent(tmp_path: Path) -> None:
    """The parent's SIGKILL takes the process with it, which would sleep for a minute."""
    (tmp_path / "bodies_here.py").write_text(BODIES)
    program = f"""
import sys; sys.path.insert(0, {str(tmp_path)!r})
from rivers.protocol import ImportRef, StepSpec, encode_spec, decode_event
from rivers.spi import StepProcess
spec = StepSpec(run_id="run", step="x", attempt_id="one", function=ImportRef(module="bodies_here", qualname="sleeps"))
StepProcess().run("one", encode_spec(spec), lambda got: print(decode_event(got[0]).worker, file=sys.stderr), grace=1)
"""
    # Not by stdout, to which the body prints.
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert parent.stderr is not None
    pid = int(parent.stderr.readline().removeprefix("pid "))

    parent.kill()
    parent.wait()
    parent.stderr.close()

    for _ in range(250):
        # A zombie has ended, and waits for init.
        if "Z" in state_of(pid):
            break
        time.sleep(0.02)
    assert "Z" in state_of(pid)


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"
