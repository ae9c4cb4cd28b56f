"""The controller's side: starts a worker, passes on its events, and reports its end.

submit ──▶ thread ──▶ python -m rivers_executor_subprocess.worker
             │  stdin:  one line of JSON, then the encoded StepSpec ──▶ worker
             │  events: 4 bytes of length, then an encoded event    ◀── worker     (a pipe of its own)
             ▼
           emit(StepStarted), emit(LogRecord), …   and, when the process is gone, emit(StepResult): once
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from typing import BinaryIO

from rivers.exceptions import Problem, SpecDecodeError
from rivers.protocol import (
    LIMITS,
    Ending,
    Evidence,
    StepEvent,
    StepResult,
    StepSpec,
    StepStarted,
    decode_event,
    describe_exception,
    encode_spec,
    lost,
)
from rivers.spi import Capabilities, ExecutorBackend, Reach, Run, Sink
from rivers_executor_subprocess.executor import SubprocessExecutor

__all__ = ["SubprocessBackend"]


class SubprocessBackend(ExecutorBackend[SubprocessExecutor]):
    """The backend of `SubprocessExecutor`: a thread and a process for each attempt, both gone when it has ended."""

    executor_type = SubprocessExecutor
    spi_version = (1, 0)  # what it is made for; rivers refuses it where that does not fit

    def __init__(self, executor: SubprocessExecutor) -> None:
        super().__init__(executor)
        self._allow_pickle = executor.allow_pickle
        self._max_workers = executor.max_workers
        self._attempts: dict[str, _Attempt] = {}

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            isolation="process",  # a crash takes its own step with it and no other
            timeout="kill",
            closures="pickled" if self._allow_pickle else "none",
            reach=Reach.MACHINE,  # values must be stored where another process of this machine finds them
            max_steps=self._max_workers,
        )

    def preflight(self, specs: Iterable[StepSpec]) -> Sequence[Problem]:
        if self._allow_pickle and os.environ.get("RIVERS_ALLOW_PICKLE") != "1":
            message = "allow_pickle=True needs RIVERS_ALLOW_PICKLE=1 in the environment, which workers inherit and obey"
            return [Problem(f"executor {self.executor!r}: {message}")]
        problems = []
        for spec in specs:
            try:
                encode_spec(spec)
            except SpecDecodeError as error:
                problems.append(Problem(str(error), spec.step))
        return problems

    def open(self, run: Run, emit: Sink) -> None:
        self._run, self._emit = run, emit

    def submit(self, spec: StepSpec) -> None:
        # Encoded before anything is started: what is too large is refused here and costs no process.
        attempt = _Attempt(spec.attempt_id, encode_spec(spec), self._run, self._emit)
        attempt.thread.start()
        self._attempts = {key: other for key, other in self._attempts.items() if other.thread.is_alive()}
        self._attempts[spec.attempt_id] = attempt

    def cancel(self, attempt_id: str, grace: float) -> None:
        attempt = self._attempts.get(attempt_id)
        if attempt is not None:
            attempt.cancel(grace)

    def close(self, deadline: float) -> None:
        until = time.monotonic() + deadline
        for attempt in self._attempts.values():
            attempt.cancel(grace=0)
        for attempt in self._attempts.values():
            attempt.thread.join(max(0.0, until - time.monotonic()))


class _Attempt:
    """One attempt and its process.

    The kernel kills the worker when the thread that started it ends (the worker asks for that): this thread stays until
    the worker has gone, so it comes to that only when the whole controller is killed.
    """

    def __init__(self, attempt_id: str, spec: bytes, run: Run, emit: Sink) -> None:
        self._attempt_id = attempt_id
        self._spec = spec
        self._grace = run.grace
        self._key = run.key
        self._emit = emit
        self._lock = threading.Lock()  # held while the process begins and ends, so that a signal hits it or nobody
        self._process: subprocess.Popen[bytes] | None = None
        self._killer: threading.Timer | None = None
        self._cancelled = False
        self._started = False
        self.thread = threading.Thread(target=self._run, name=f"rivers-subprocess-{attempt_id}", daemon=True)

    def _run(self) -> None:
        try:
            result = self._attempt()
        except Exception as error:  # noqa: BLE001 - whatever it was, every submit has exactly one end
            detail = describe_exception(error)
            result = lost(self._attempt_id, Evidence(cancelled=self._cancelled, detail=detail), started=self._started)
        self._emit(result)

    def cancel(self, grace: float) -> None:
        """Ask the worker to stop, and kill it and what it started after `grace` seconds; does not wait."""
        self._cancelled = True
        self._signal(signal.SIGTERM)
        self._kill_after(grace)

    def _attempt(self) -> StepResult:
        readable, writable = os.pipe()
        with open(readable, "rb") as events, tempfile.TemporaryFile() as crash:
            try:
                with self._lock:
                    if self._cancelled:
                        return StepResult(attempt_id=self._attempt_id, ending=Ending.CANCELLED)
                    self._process = _start(writable, crash.fileno())
            finally:
                os.close(writable)
            result, detail = self._listen(self._process, events)
            evidence = self._reap(self._process, crash, detail)
        return result or lost(self._attempt_id, evidence, started=self._started)

    def _listen(self, process: subprocess.Popen[bytes], events: BinaryIO) -> tuple[StepResult | None, str | None]:
        """Send the worker its task and pass on its events; return its result, or a description of a broken stream."""
        assert process.stdin is not None
        task = {"attempt_id": self._attempt_id, "grace": self._grace, "key": self._key.hex(), "path": sys.path}
        try:
            with process.stdin as stdin:
                stdin.write(json.dumps(task).encode() + b"\n" + self._spec)
        except OSError:
            pass  # it died before it had read all; how it ended says more
        result: StepResult | None = None
        try:
            while (event := _read(events)) is not None:
                if event.attempt_id != self._attempt_id:
                    raise SpecDecodeError(f"an event for attempt {event.attempt_id!r}")
                if isinstance(event, StepResult):
                    result = event  # kept until the process has gone, and that must not take longer than the grace
                    if self._killer is None:
                        self._kill_after(self._grace)
                else:
                    self._started = self._started or isinstance(event, StepStarted)
                    self._emit(event)
        except SpecDecodeError as error:
            self._signal(signal.SIGKILL)
            return result, f"it wrote what is no event: {error}"
        return result, None

    def _reap(self, process: subprocess.Popen[bytes], crash: BinaryIO, detail: str | None) -> Evidence:
        """Wait for the worker to end, kill what it has left behind, and return the evidence."""
        with contextlib.suppress(ChildProcessError):  # the application reaps all children by itself
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # not reaped yet: its number is still its own
        self._signal(signal.SIGKILL)
        with self._lock:
            code = process.wait()
        if self._killer is not None:
            self._killer.cancel()
            self._killer.join()
        crash.seek(0)
        return Evidence(
            exit_code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            worker=f"pid {process.pid}",
            cancelled=self._cancelled,
            native_traceback=crash.read(LIMITS.traceback // 4).decode(errors="replace") or None,
            detail=detail,
        )

    def _signal(self, number: signal.Signals) -> None:
        """Send a signal to the worker's process group, if the worker has begun and is not reaped."""
        with self._lock:
            if self._process is not None and self._process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, number)

    def _kill_after(self, seconds: float) -> None:
        with self._lock:
            if self._process is None or self._process.returncode is not None:
                return
            if self._killer is not None:
                self._killer.cancel()
            self._killer = threading.Timer(seconds, self._signal, [signal.SIGKILL])
            self._killer.daemon = True
            self._killer.start()


def _start(events: int, crash: int) -> subprocess.Popen[bytes]:
    """Start a worker in a process group of its own."""
    command = [sys.executable, "-P", "-m", "rivers_executor_subprocess.worker"]
    return subprocess.Popen(
        [*command, str(os.getpid()), str(events), str(crash)],
        stdin=subprocess.PIPE,
        pass_fds=(events, crash),
        process_group=0,
    )


def _read(events: BinaryIO) -> StepEvent | None:
    """Return the next event, or None at the end."""
    size = int.from_bytes(events.read(4), "big")
    if size > LIMITS.size:
        raise SpecDecodeError(f"{size} bytes, allowed are {LIMITS.size}")
    data = events.read(size)
    return decode_event(data) if data and len(data) == size else None
