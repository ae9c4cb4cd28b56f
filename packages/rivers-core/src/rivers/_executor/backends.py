"""Check, open and close the backends of one run together; an error of one does not reach the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rivers._events.dispatcher import EventDispatcher
from rivers._executor.backend import ExecutorBackend, Sink
from rivers._plan.plan import Plan, Step
from rivers._plan.specify import Specifier
from rivers._plan.unit import ExecutorLimits, Unit
from rivers.exceptions import GraphValidationError, Problem, RiversError
from rivers.protocol.codec import encode_spec
from rivers.protocol.exception_text import describe_exception
from rivers.protocol.spec import StepSpec

__all__ = ["Backends"]

CLOSE_DEADLINE = 20.0
"""Seconds that a backend gets for `close`."""


class Backends:
    """The backends that carry out `plan.executors`, in the same order."""

    def __init__(self, plan: Plan, backends: Sequence[ExecutorBackend], dispatcher: EventDispatcher) -> None:
        self._plan = plan
        self.all = backends
        self._dispatcher = dispatcher
        self._asked: list[ExecutorBackend] = []
        self._opened: list[ExecutorBackend] = []
        self._is_cancelled = False
        self._checking: ExecutorBackend | None = None
        self.can = [backend.capabilities for backend in backends]
        self.places = [
            ExecutorLimits(
                executor.kind,
                can.max_sync,
                can.max_async,
                can.blocking,
                # A stream is fed by name, and a value that travels inline has no other place than the spec.
                can.streams and not executor.has_inline_values,
                can.max_steps,
                can.grace,
                can.compute,
            )
            for executor, can in zip(plan.executors, self.can, strict=True)
        ]
        self.closures = {(i, how): can.of(how).closures for i, can in enumerate(self.can) for how in (False, True)}

    def __getitem__(self, executor_index: int) -> ExecutorBackend:
        return self.all[executor_index]

    def is_remote(self, step: Step) -> bool:
        """Return whether a step's function and IO handlers are built anew where it runs."""
        return self.closures[step.executor_index, step.is_async] != "local"

    def preflight(self, specifier: Specifier, emit: Sink) -> None:
        """Ask the backends for problems, with the specs that they would get; `emit` takes what they report meanwhile.

        A backend that runs live objects gets no specs here, as it makes none of them.

        Raises:
            GraphValidationError: they found problems; it has all of them.
        """
        problems: list[Problem] = []
        for index, backend in enumerate(self.all):
            specs = list(self._specs(index, specifier, problems))
            backend.observe(emit)
            self._checking = backend
            # Read after it is set: a cancel that comes now finds the backend, or was seen here.
            if not self._is_cancelled:
                self._asked.append(backend)
                problems.extend(backend.preflight(specs))
            self._checking = None
        if problems:
            raise GraphValidationError(problems)

    def cancel_preflight(self) -> None:
        """Ask no more backends, and have the one that is being asked return soon; from any thread."""
        self._is_cancelled = True
        backend = self._checking
        if backend is not None:
            backend.cancel_preflight()

    def open(self, open_one: Callable[[int, ExecutorBackend], None]) -> None:
        """Open the backends in order; one that raises refuses the run, and `close` also closes that one.

        A run that was cancelled before opens none: no step of it starts.
        """
        for index, backend in enumerate(self.all):
            if self._is_cancelled:
                return
            # Before it is opened: one that was interrupted half-way has something to close.
            self._opened.append(backend)
            open_one(index, backend)

    def cancel(self, unit: Unit, grace: float) -> None:
        """Ask a backend to stop an attempt; where that raises, the attempt is given up after its grace."""
        try:
            self.all[unit.step.executor_index].cancel(unit.attempt_id, grace)
        except Exception as error:  # noqa: BLE001 - a third party's backend may raise anything
            self._dispatcher.warn(f"cancelling {unit.key!r} raised {describe_exception(error)}", unit.key)

    def close(self) -> None:
        """Close the backends that `open` has reached."""
        for backend in self._opened:
            self._end("closing", backend, backend.close)

    def abandon(self) -> None:
        """Release what backends have prepared in preflight that `open` has not reached."""
        for backend in self._asked:
            if backend not in self._opened:
                self._end("abandoning", backend, backend.abandon)

    def _end(self, what: str, backend: ExecutorBackend, call: Callable[[float], None]) -> None:
        try:
            call(CLOSE_DEADLINE)
        except Exception as error:  # noqa: BLE001 - it must not keep the others from being ended
            self._dispatcher.warn(f"{what} the executor {backend.executor!r} raised {describe_exception(error)}")

    def _specs(self, executor_index: int, specifier: Specifier, problems: list[Problem]) -> Iterator[StepSpec]:
        for step in self._plan.steps:
            if step.executor_index == executor_index and self.is_remote(step):
                try:
                    spec = specifier.prepare(step)
                    self._check_size(step, spec)
                    yield spec
                except RiversError as error:
                    hint = f" ({error.hint})" if error.hint else ""
                    problems.append(Problem(error.message + hint, step.key, step.node.definition.where))

    def _check_size(self, step: Step, spec: StepSpec) -> None:
        """Encode the spec, so that one that is too large refuses the run instead of failing when its turn comes."""
        # A tenth of the controller's time for a step without a body, so it is done once for all runs of a plan.
        is_of_plan = spec.config is None and spec.run_tags is None
        if not is_of_plan or step.index not in self._plan.encodable:
            encode_spec(spec)
            if is_of_plan:
                self._plan.encodable.add(step.index)
