"""A small correct executor, whose wrong relatives in `sinners` change one part of it each."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from multiprocessing import connection, forkserver
from typing import Any, ClassVar

import zoo_worker

import rivers as rs
from rivers.protocol import (
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

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["rivers.testing.conformance.bodies", "rivers.spi"])
PROCESSES = threading.Lock()
"""Held while a process is started or reaped: multiprocessing lets two threads read one exit status."""


@dataclass(frozen=True)
class ZooExecutor(rs.Executor):
    """Every attempt in a forked process, with a `sin` of the backend or none."""

    kind = "zoo"
    sin: str = ""
    max_workers: int = 2


@cache
def sinners() -> dict[str, type[ZooBackend]]:
    """Return the wrong backends by their sin."""
    return dict(import_module("sinners").SINNERS)


class ZooBackend(ExecutorBackend[ZooExecutor]):
    """The correct backend; the methods below `close` are there for sinners to override."""

    executor_type = ZooExecutor
    spi_version = (1, 0)
    can: ClassVar[dict[str, Any]] = {}
    work: ClassVar[Callable[..., None]] = staticmethod(zoo_worker.work)
    attempt_type: ClassVar[type[ZooAttempt]]

    def __new__(cls, executor: ZooExecutor) -> ZooBackend:
        return super().__new__(sinners()[executor.sin] if executor.sin else cls)

    def __init__(self, executor: ZooExecutor) -> None:
        super().__init__(executor)
        # It and its tracker stay for as long as this process, and are no leftovers of a run.
        forkserver.ensure_running()
        self.attempts: dict[str, ZooAttempt] = {}

    @property
    def capabilities(self) -> Capabilities:
        given = {"timeout": "kill", "reach": Reach.MACHINE, "max_steps": self.executor.max_workers}
        return Capabilities(**{**given, **self.can})

    def open(self, run: Run, emit: Sink) -> None:
        self.run, self.emit = run, emit
        self.attempts = {}

    def submit(self, spec: StepSpec) -> None:
        attempt = self.attempts[spec.attempt_id] = self.attempt_type(self, spec, encode_spec(spec))
        attempt.thread.start()

    def cancel(self, attempt_id: str, grace: float) -> None:
        attempt = self.attempts.get(attempt_id)
        if attempt is not None:
            attempt.stop(grace)

    def close(self, deadline: float) -> None:
        until = time.monotonic() + deadline
        for attempt in self.attempts.values():
            attempt.stop(0)
        for attempt in self.attempts.values():
            attempt.thread.join(max(0.0, until - time.monotonic()))
        self.attempts = {}

    def forward(self, attempt: ZooAttempt, event: StepEvent) -> None:
        """Report an event that is no result."""
        self.emit(event)

    def finish(self, attempt: ZooAttempt, result: StepResult | None, evidence: Evidence) -> None:
        """Report the result of an attempt, once its process has ended."""
        self.emit(result or lost(attempt.id, evidence, started=attempt.has_started))

    def task(self, spec: StepSpec, data: bytes) -> zoo_worker.Task:
        # Workers are forked from a process that was started earlier, in another environment.
        return zoo_worker.Task(spec.attempt_id, data, self.run.grace, dict(os.environ))


class ZooAttempt:
    """One attempt: a thread, and a process that leads a group of its own."""

    def __init__(self, backend: ZooBackend, spec: StepSpec, data: bytes) -> None:
        self.backend = backend
        self.id = spec.attempt_id
        self.spec = spec
        self.task = backend.task(spec, data)
        self.thread = threading.Thread(target=self.run, name=f"zoo-{self.id}", daemon=True)
        self.process: Any = None
        self.has_started = self.is_over = False
        self.is_cancelled = False
        self.kill_at = float("inf")
        self.lock = threading.Lock()

    def run(self) -> None:
        try:
            self.attend()
        except Exception as error:  # every submit has exactly one end
            detail = describe_exception(error)
            self.backend.emit(lost(self.id, Evidence(cancelled=self.is_cancelled, detail=detail), started=False))
        finally:
            self.is_over = True

    def stop(self, grace: float) -> None:
        """Ask the process to end, and have it killed after `grace` seconds."""
        with self.lock:
            self.is_cancelled = True
            self.kill_at = min(self.kill_at, time.monotonic() + grace)
            self.signal(signal.SIGTERM)

    def signal(self, number: int) -> None:
        if self.process is not None:
            try:
                self.signal_group(number)
            except ProcessLookupError:
                # It has not made its group yet, or it has ended.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.process.pid, number)

    def signal_group(self, number: int) -> None:
        os.killpg(self.process.pid, number)

    def attend(self) -> None:
        """Run the process, pass on its events, and report the result when it has ended."""
        reader, writer = CONTEXT.Pipe(duplex=False)
        with reader:
            with writer, self.lock:
                if self.is_cancelled:
                    self.backend.emit(StepResult(attempt_id=self.id, ending=Ending.CANCELLED))
                    return
                process = CONTEXT.Process(target=self.backend.work, args=(self.task, writer))
                with PROCESSES:
                    process.start()
                self.process = process
            result = self.listen(reader)
        evidence = self.reap()
        self.backend.finish(self, result, evidence)

    def listen(self, reader: connection.Connection) -> StepResult | None:
        result = None
        while True:
            ready = connection.wait([reader, self.process.sentinel], 0.02)
            if reader in ready:
                try:
                    event = decode_event(reader.recv_bytes())
                except (EOFError, OSError):
                    return result
                if isinstance(event, StepResult):
                    result = event
                    self.kill_at = min(self.kill_at, time.monotonic() + self.backend.run.grace)
                else:
                    self.has_started = self.has_started or isinstance(event, StepStarted)
                    self.backend.forward(self, event)
            elif ready:
                return result
            self.kill_if_due()

    def is_running(self) -> bool:
        return not connection.wait([self.process.sentinel], 0)

    def kill_if_due(self) -> None:
        if time.monotonic() > self.kill_at:
            self.signal(signal.SIGKILL)

    def reap(self) -> Evidence:
        """Wait for the process to end, kill what is left of its group, and return how it ended."""
        while not connection.wait([self.process.sentinel], 0.02):
            self.kill_if_due()
        with contextlib.suppress(ProcessLookupError):
            self.signal_group(signal.SIGKILL)
        with PROCESSES:
            self.process.join()
        code, pid = self.process.exitcode, self.process.pid
        with self.lock:
            self.process.close()
            self.process = None
        return Evidence(
            exit_code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            worker=f"pid {pid}",
            cancelled=self.is_cancelled,
        )

    @property
    def stores_nothing(self) -> bool:
        """Whether the step has no output, as most steps of the kit's own and none of a repository.

        Finer sinners spoil only these, so that the laws of parity do not catch them as well.
        """
        return not self.spec.outputs


ZooBackend.attempt_type = ZooAttempt
