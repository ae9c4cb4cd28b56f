"""The controller's side: starts a worker for each attempt, passes on its events, and reports its end.

submit ──▶ thread ──▶ python -m rivers_executor_acme.worker
             │  stdin:  one line of JSON, then the encoded StepSpec ──▶ worker
             │  a pipe: encoded events                              ◀── worker
             ▼
           emit(StepStarted), emit(LogRecord), …   and, when the process is gone, emit(StepResult): once

Replace `_start`, `_signal` and `_reap` by what your platform has for them; the rest may stay.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Connection

from rivers.exceptions import SpecDecodeError
from rivers.protocol import (
    Ending,
    Evidence,
    StepResult,
    StepSpec,
    StepStarted,
    decode_event,
    describe_exception,
    encode_spec,
    lost,
)
from rivers.spi import Capabilities, ExecutorBackend, Reach, Run, Sink
from rivers_executor_acme.executor import AcmeExecutor

__all__ = ["AcmeBackend"]


class AcmeBackend(ExecutorBackend[AcmeExecutor]):
    """The backend of `AcmeExecutor`: a thread and a process for each attempt, both gone when it has ended."""

    executor_type = AcmeExecutor
    spi_version = (1, 0)  # what this class is made for; rivers refuses it where that does not fit

    def __init__(self, executor: AcmeExecutor) -> None:
        super().__init__(executor)
        self._attempts: dict[str, AcmeAttempt] = {}

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            isolation="process",  # a crash takes its own step with it and no other
            timeout="kill",
            closures="none",  # functions travel by name
            reach=Reach.MACHINE,  # values must be stored where another process of this machine finds them
            max_steps=self.executor.max_workers,
        )

    def open(self, run: Run, emit: Sink) -> None:
        self._run, self._emit = run, emit

    def submit(self, spec: StepSpec) -> None:
        # Encoded before anything is started: what is too large is refused here and costs no process.
        attempt = AcmeAttempt(spec.attempt_id, encode_spec(spec), self._run.grace, self._emit)
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


class AcmeAttempt:
    """One attempt and its process, which leads a process group."""

    def __init__(self, attempt_id: str, spec: bytes, grace: float, emit: Sink) -> None:
        self._attempt_id, self._spec, self._grace, self._emit = attempt_id, spec, grace, emit
        self._lock = threading.Lock()  # held while the process begins and ends, so that a signal hits it or nobody
        self._process: subprocess.Popen[bytes] | None = None
        self._killer: threading.Timer | None = None
        self._cancelled = False
        self._started = False
        # It stays until the worker has gone: the kernel kills a worker when the thread that started it ends.
        self.thread = threading.Thread(target=self._run, name=f"acme-{attempt_id}", daemon=True)

    def cancel(self, grace: float) -> None:
        """Ask the worker to stop, and kill it and what it has started after `grace` seconds; does not wait."""
        self._cancelled = True
        self._signal(signal.SIGTERM)
        self._kill_after(grace)

    def _run(self) -> None:
        try:
            result = self._attend()
        except Exception as error:  # noqa: BLE001 - whatever it was, every submit has exactly one end
            detail = describe_exception(error)
            result = lost(self._attempt_id, Evidence(cancelled=self._cancelled, detail=detail), started=self._started)
        self._emit(result)

    def _attend(self) -> StepResult:
        readable, writable = os.pipe()
        with Connection(readable, writable=False) as events:
            try:
                with self._lock:
                    if self._cancelled:
                        return StepResult(attempt_id=self._attempt_id, ending=Ending.CANCELLED)
                    self._process = _start(writable)
            finally:
                os.close(writable)
            result, detail = self._listen(self._process, events)
            evidence = self._reap(self._process, detail)
        return result or lost(self._attempt_id, evidence, started=self._started)

    def _listen(self, process: subprocess.Popen[bytes], events: Connection) -> tuple[StepResult | None, str | None]:
        """Send the worker its task and pass on its events; return its result, or a description of a broken stream."""
        assert process.stdin is not None
        task = {"attempt_id": self._attempt_id, "grace": self._grace, "path": sys.path}
        with contextlib.suppress(OSError), process.stdin as stdin:  # it may die first; how it ended says more
            stdin.write(json.dumps(task).encode() + b"\n" + self._spec)
        result: StepResult | None = None
        try:
            while True:
                event = decode_event(events.recv_bytes())
                if event.attempt_id != self._attempt_id:
                    raise SpecDecodeError(f"an event for attempt {event.attempt_id!r}")
                if isinstance(event, StepResult):
                    result = event  # kept until the process has gone, and that must not take longer than the grace
                    self._kill_after(self._grace)
                else:
                    self._started = self._started or isinstance(event, StepStarted)
                    self._emit(event)
        except (EOFError, OSError):
            return result, None
        except SpecDecodeError as error:
            self._signal(signal.SIGKILL)
            return result, f"it wrote what is no event: {error}"

    def _reap(self, process: subprocess.Popen[bytes], detail: str | None) -> Evidence:
        """Wait for the worker to end, kill what it has left behind, and return the evidence."""
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # not reaped yet: its number is still its own
        self._signal(signal.SIGKILL)
        with self._lock:
            code = process.wait()
        if self._killer is not None:
            self._killer.cancel()
            self._killer.join()
        return Evidence(
            exit_code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            worker=f"pid {process.pid}",
            cancelled=self._cancelled,
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
            if self._process is not None and self._process.returncode is None:
                if self._killer is not None:
                    self._killer.cancel()
                self._killer = threading.Timer(seconds, self._signal, [signal.SIGKILL])
                self._killer.daemon = True
                self._killer.start()


def _start(events: int) -> subprocess.Popen[bytes]:
    """Start a worker in a process group of its own."""
    command = [sys.executable, "-P", "-m", "rivers_executor_acme.worker", str(os.getpid()), str(events)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=(events,), process_group=0)
