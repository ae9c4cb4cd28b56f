"""By which way a backend's events come in: in the calling thread, through the pump, or straight from its own thread."""

from __future__ import annotations

from collections.abc import Callable

from rivers._executor.backend import Capabilities, Sink
from rivers._executor.interrupts import Interrupts
from rivers._executor.pump import Pump
from rivers.protocol.result import StepEvent, StepStarted

__all__ = ["Intake"]


class Intake:
    """Gives each backend its `emit`. `emit` takes an event in, `taken` is called after one that came straight.

    `applying` is true while a change is carried out: what a backend reports from within a call to it then waits, as the
    change comes first.
    """

    def __init__(
        self,
        emit: Callable[[StepEvent], None],
        taken: Callable[[], None],
        pump: Pump | None,
        interrupts: Interrupts,
        observed: bool,
    ) -> None:
        self.applying = False
        self._emit = emit
        self._taken = taken
        self._pump = pump
        self._interrupts = interrupts
        self._observed = observed

    def emit_for(self, can: Capabilities) -> Sink:
        """The callback of a backend with these capabilities."""
        if self._pump is None or can.blocking:
            return self._here
        # Listeners may take their time, and a backend's own thread has none.
        return self._straight if can.reentrant and not self._observed else self._pump.put

    def _here(self, event: StepEvent) -> None:
        if type(event) is StepStarted and self._pump is None and not self._observed:
            return  # nobody is told, and no timeout begins
        self._interrupts.shield()
        try:
            self._emit(event)
        finally:
            self._interrupts.unshield()

    def _straight(self, event: StepEvent) -> None:
        """In a backend's own thread: what is owed for the event is handed over from there, without a hop."""
        assert self._pump is not None
        if self.applying:
            self._pump.put(event)
            return
        try:
            self._emit(event)
        except BaseException as error:  # noqa: BLE001 - raised in the calling thread, which would wait forever otherwise
            self._pump.bug = error
        self._taken()
