"""A bench for runners: specs of live functions, a store in memory, and the emitted events."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import rivers as rs
from rivers.protocol import LogRecord, StepEvent, StepResult, StepSpec
from rivers.protocol.ref import LocalRef
from rivers.protocol.spec import LogSettings, Output, ResourceInput, StoredInput
from rivers.spi import AsyncRunner, Runner

DEADLINE = 20.0


class Bench:
    """Creates specs and runners, collects their events, and waits for some."""

    def __init__(self) -> None:
        self.local: dict[str, Any] = {}
        self.memory = rs.InMemoryIOHandler()
        self.events: list[StepEvent] = []
        self.errors: dict[str, BaseException] = {}
        self._told = threading.Condition()

    def ref(self, found: Any) -> LocalRef:
        """Return a ref of this object."""
        token = str(id(found))
        self.local[token] = found
        return LocalRef(token=token)

    def spec(
        self,
        body: Callable[..., Any] | rs.Asset,
        attempt_id: str = "1",
        *,
        reads: dict[str, Any] | None = None,
        resources: dict[str, rs.Resource] | None = None,
        store: rs.BaseIOHandler | None = None,
        capture: bool = False,
        **fields: Any,
    ) -> StepSpec:
        """Return an attempt with the inputs `reads`, values by parameter; its value is stored under its attempt id."""
        handler = self.ref(store if store is not None else self.memory)
        for key, value in (reads or {}).items():
            self.memory.handle_output(rs.OutputContext(key), value)
        inputs = [StoredInput(parameter=key, key=key, io_handler=handler) for key in reads or {}]
        given = [ResourceInput(parameter=n, name=n, ref=self.ref(r)) for n, r in (resources or {}).items()]
        return StepSpec(
            run_id="run",
            step=f"step {attempt_id}",
            attempt_id=attempt_id,
            function=self.ref(body),
            inputs=(*inputs, *given),
            outputs=(Output(name="", key=attempt_id, io_handler=handler),),
            logs=LogSettings(capture=capture),
            **fields,
        )

    def emit(self, event: StepEvent) -> None:
        """Take an event, from any thread."""
        with self._told:
            self.events.append(event)
            self._told.notify_all()

    def runner(self, **options: Any) -> Runner:
        """Return a runner of one step at a time, in this thread."""
        return Runner(self.emit, local=self.local, keep_error=self.errors.__setitem__, **{"grace": 0.05, **options})

    def async_runner(self, **options: Any) -> AsyncRunner:
        """Return a runner of many steps, in a thread of its own."""
        return AsyncRunner(
            self.emit, local=self.local, keep_error=self.errors.__setitem__, **{"grace": 0.05, **options}
        )

    def until(self, wanted: Callable[[], bool]) -> None:
        """Wait until the events make this true."""
        with self._told:
            assert self._told.wait_for(wanted, DEADLINE), f"not told within {DEADLINE} s; told was {self.events}"

    def result(self, attempt_id: str = "1") -> StepResult:
        """Wait for the result of an attempt."""
        self.until(lambda: bool(self.results(attempt_id)))
        return self.results(attempt_id)[0]

    def results(self, attempt_id: str) -> list[StepResult]:
        """Return the results of an attempt: one, if all is well."""
        return [event for event in self.events if isinstance(event, StepResult) and event.attempt_id == attempt_id]

    def logs(self, attempt_id: str = "1") -> list[str]:
        """Return the messages of an attempt."""
        return [
            event.message for event in self.events if isinstance(event, LogRecord) and event.attempt_id == attempt_id
        ]

    def stored(self, attempt_id: str = "1") -> Any:
        """Return the value that an attempt has stored."""
        return self.memory.load_input(rs.InputContext(attempt_id))
