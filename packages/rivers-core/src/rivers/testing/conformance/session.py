"""A backend that is opened for a run of the kit's own: specs in, recorded events out, each call with a deadline."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
import uuid
from collections.abc import Callable
from types import TracebackType
from typing import Any

from msgspec.json import encode

from rivers._executor.registry import backend_for
from rivers._io.base import BaseIOHandler
from rivers._plan.refs import Refs
from rivers.protocol import (
    ImportRef,
    Input,
    LiteralInput,
    LogSettings,
    NodeKind,
    Output,
    StepResult,
    StepSpec,
    StoredInput,
    describe_exception,
)
from rivers.spi import Run
from rivers.testing.conformance.law import LawViolation, expect
from rivers.testing.conformance.recorder import RecordingSink
from rivers.testing.conformance.subject import Subject

__all__ = ["BackendSession"]

BODIES = "rivers.testing.conformance.bodies"
AT_MOST = 8
"""Attempts at once on an executor without a limit."""
CLOSE_DEADLINE = 10.0
"""Seconds that `close` gets, as a run gives it."""


class BackendSession:
    """One run of the executor's backend, driven as core drives it; a context manager that closes it.

    The backend is called from one thread of its own, so that a call that never returns breaks a law and does not stop
    the kit.
    """

    def __init__(self, subject: Subject, *, grace: float = 1.0, handler: BaseIOHandler | None = None) -> None:
        self.subject = subject
        self.grace = grace
        self.run_id = uuid.uuid4().hex
        self.events = RecordingSink()
        self.backend = backend_for(subject.executor)
        self.submitted: list[str] = []
        self.key = uuid.uuid4().bytes * 2
        self._refs = Refs(self.key)
        self._handler = handler or subject.io_handler()
        self._thread = CallThread()
        self._is_open = False
        self.last_call_took = 0.0

    def __enter__(self) -> BackendSession:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.end()
            return
        # The law is broken already, and its violation says more than what goes wrong now.
        with contextlib.suppress(Exception):
            self.end()

    def open(self) -> None:
        """Open the backend for the run."""
        closures = self.subject.capabilities.closures
        # A live object where the backend shares this process, else its class and fields.
        self._handler_ref = self._refs.object(self._handler, closures, "IO handler", "store")
        run = Run(run_id=self.run_id, local=self._refs.local, grace=self.grace, key=self.key)
        self.call("open", lambda: self.backend.open(run, self.events))
        self._is_open = True

    def end(self) -> None:
        """Close the run and shut the backend down."""
        if self._is_open:
            self.close()
        self.call("shutdown", lambda: self.backend.shutdown(CLOSE_DEADLINE))
        self._thread.end()

    def close(self, deadline: float = CLOSE_DEADLINE) -> float:
        """Close the run; return the seconds that it took."""
        # Before the call: what has raised is not closed a second time by the end of the session.
        self._is_open = False
        began = time.monotonic()
        self.call("close", lambda: self.backend.close(deadline), deadline + self.subject.patience)
        self.events.mark_closed()
        return time.monotonic() - began

    def spec(self, body: str, *, spec_type: type[StepSpec] = StepSpec, **more: Any) -> StepSpec:
        """Return the spec of a body of the kit; keyword arguments that are no field of a spec are its parameters."""
        number = len(self.submitted)
        fields = {name: value for name, value in more.items() if name in spec_type.__struct_fields__}
        arguments = {name: value for name, value in more.items() if name not in fields}
        given: tuple[Input, ...] = tuple(
            LiteralInput(parameter=name, json=encode(value).decode()) for name, value in arguments.items()
        )
        fields["inputs"] = (*fields.get("inputs", ()), *given)
        name = f"{body}-{number}"
        own: dict[str, Any] = {
            "run_id": self.run_id,
            "step": name,
            "attempt_id": f"{self.run_id}-{number}",
            "node": NodeKind.TASK,
            "function": ImportRef(module=BODIES, qualname=body),
            "logs": LogSettings(capture=True),
        }
        return spec_type(**{**own, **fields})

    def output(self, key: str) -> Output:
        """Return an output of a body that is stored under a key."""
        return Output(name="result", key=key, io_handler=self._handler_ref)

    def stored(self, parameter: str, key: str) -> StoredInput:
        """Return the input of a body that loads what was stored under a key."""
        return StoredInput(parameter=parameter, key=key, io_handler=self._handler_ref, run_id=self.run_id)

    def submit(self, body: str | StepSpec, **more: Any) -> str:
        """Submit a body of the kit, or a spec; return the id of the attempt."""
        spec = body if isinstance(body, StepSpec) else self.spec(body, **more)
        self.wait_for_slot()
        self.submitted.append(spec.attempt_id)
        if self.subject.capabilities.blocking:
            # It returns when the body has ended; `result` waits for that.
            self._thread.start_call(lambda: self.backend.submit(spec))
        else:
            self.call("submit", lambda: self.backend.submit(spec))
        return spec.attempt_id

    def run(self, body: str | StepSpec, **more: Any) -> StepResult:
        """Submit a body and wait for its result."""
        return self.result(self.submit(body, **more))

    def wait_for_slot(self) -> None:
        """Wait until the executor may be given one more attempt, as core does."""
        slots = AT_MOST if self.subject.slots is None else self.subject.slots
        is_free = self.events.wait_for(lambda: self._in_flight() < slots, self.subject.patience)
        expect(is_free, f"{self._in_flight()} attempts have no StepResult within {self.subject.patience:g} s")

    def _in_flight(self) -> int:
        return sum(not self.events.has_result(attempt_id) for attempt_id in self.submitted)

    def cancel(self, attempt_id: str, grace: float | None = None) -> float:
        """Cancel an attempt; return the seconds that the call took."""
        seconds = self.grace if grace is None else grace
        began = time.monotonic()
        if self.subject.capabilities.blocking:
            self.backend.cancel(attempt_id, seconds)
        else:
            self.call("cancel", lambda: self.backend.cancel(attempt_id, seconds))
        return time.monotonic() - began

    def result(self, attempt_id: str, within: float | None = None) -> StepResult:
        """Wait for the result of an attempt."""
        seconds = self.subject.patience if within is None else within
        self.events.wait_for(lambda: bool(self.events.results(attempt_id)), seconds)
        results = self.events.results(attempt_id)
        expect(results, f"no StepResult within {seconds:g} s, only {self.events.describe(attempt_id)}")
        return results[0]

    def wait_for_text(self, attempt_id: str, text: str, within: float | None = None) -> None:
        """Wait until an attempt has logged a text; without live logs, until it has started."""
        seconds = self.subject.patience if within is None else within
        if not self.subject.capabilities.live_logs:
            found = self.events.wait_for(lambda: bool(self.events.starts(attempt_id)), seconds)
            expect(found, f"no StepStarted within {seconds:g} s")
            return
        self.events.wait_for(
            lambda: text in self.events.texts(attempt_id) or bool(self.events.results(attempt_id)), seconds
        )
        seen = self.events.describe(attempt_id)
        expect(
            text in self.events.texts(attempt_id), f"no LogRecord {text!r} of a running body in {seconds:g} s: {seen}"
        )

    def call(self, name: str, function: Callable[[], object], within: float | None = None) -> None:
        """Call the backend in its thread; a call that raises or does not return breaks the law."""
        seconds = self.subject.patience if within is None else within
        began = time.monotonic()
        call = self._thread.start_call(function)
        expect(call.done.wait(seconds), f"{name} has not returned within {seconds:g} s")
        self.last_call_took = time.monotonic() - began
        if call.error is not None:
            raise LawViolation(f"{name} raised {describe_exception(call.error)}") from call.error


class PendingCall:
    """A call that a CallThread carries out."""

    def __init__(self, function: Callable[[], object]) -> None:
        self.function = function
        self.done = threading.Event()
        self.error: Exception | None = None


class CallThread:
    """A thread that makes calls one after another; workers that die with their starting thread need it to stay."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[PendingCall | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="rivers-conformance", daemon=True)
        self._thread.start()

    def start_call(self, function: Callable[[], object]) -> PendingCall:
        """Have a function called; return at once."""
        call = PendingCall(function)
        self._calls.put(call)
        return call

    def end(self) -> None:
        """End the thread once its calls are done."""
        self._calls.put(None)
        self._thread.join(1.0)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                call.function()
            except Exception as error:  # noqa: BLE001 - whatever a backend raises is what the law reports
                call.error = error
            finally:
                call.done.set()
