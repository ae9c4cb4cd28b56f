"""Route the events of backends to the run loop: directly, or through the pump's thread."""

from __future__ import annotations

from collections.abc import Callable

from rivers._executor.backend import Capabilities, Sink
from rivers._executor.interrupts import Interrupts
from rivers._executor.pump import Pump
from rivers.protocol.result import StepEvent, StepStarted

__all__ = ["EventRouter"]


class EventRouter:
    """Gives each backend its `emit`.

    `handle` takes an event; `after_direct` is called after one that came in a backend's own thread. While `applying` is
    true, a change of the run's state is being carried out: what a backend reports from within a call to it then waits,
    as the change comes first.
    """

    def __init__(
        self,
        handle: Callable[[StepEvent], None],
        after_direct: Callable[[], None],
        pump: Pump | None,
        interrupts: Interrupts,
        observed: bool,
    ) -> None:
        self.applying = False
        self._handle = handle
        self._after_direct = after_direct
        self._pump = pump
        self._interrupts = interrupts
        self._observed = observed

    def emit_for(self, can: Capabilities) -> Sink:
        """Return the `emit` of a backend with these capabilities."""
        if self._pump is None or can.blocking:
            return self._emit_here
        # Sinks may take their time, and a backend's own thread has none.
        return self._emit_directly if can.reentrant and not self._observed else self._pump.put

    def _emit_here(self, event: StepEvent) -> None:
        """Handle an event in the calling thread, in which its attempt runs."""
        if type(event) is StepStarted and self._pump is None and not self._observed:
            # Nobody listens, and no timeout begins.
            return
        # KeyboardInterrupt between two lines of `handle` would leave the frontier half changed.
        self._interrupts.shield()
        try:
            self._handle(event)
        finally:
            self._interrupts.unshield()

    def _emit_directly(self, event: StepEvent) -> None:
        """Handle an event in a backend's own thread, and start from there what is ready: it saves a hop of threads."""
        assert self._pump is not None
        if self.applying:
            # The lock is reentrant, so that this event would be handled in the middle of the change.
            self._pump.put(event)
            return
        try:
            self._handle(event)
        except BaseException as error:  # noqa: BLE001 - raised in the calling thread, which would wait forever otherwise
            self._pump.bug = error
        self._after_direct()
