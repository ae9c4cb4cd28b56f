"""Feed the consumers of `collect_stream` while the instances that they read still run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

from rivers._executor.run_state import RunState
from rivers._plan.unit import Unit
from rivers.exceptions import RiversError

__all__ = ["LiveStreams"]


class LiveStreams:
    """Gives running consumers the mapping keys of their streams, one after another, as instances end.

    A consumer in the calling thread holds the one slot that its instances need: they run within its wait, by
    `run_local`. `check_interrupts` raises or cancels for what ends the run from outside.
    """

    def __init__(
        self, state: RunState, run_local: Callable[[Unit], None], check_interrupts: Callable[[], None]
    ) -> None:
        self._state = state
        self._run_local = run_local
        self._check_interrupts = check_interrupts
        self._caller = 0

    def begin(self) -> None:
        """Note that this is the thread in which blocking backends run."""
        self._caller = threading.get_ident()

    def next_item(self, attempt_id: str, parameter: str, n: int) -> str | None:
        """Wait for the n-th mapping key of a stream, counted from 0; return None at the stream's end.

        Raises:
            StepCancelledError: an instance did not succeed, or the run was cancelled.
        """
        if threading.get_ident() != self._caller:
            return self._next_item_elsewhere(attempt_id, parameter, n)
        state = self._state
        while True:
            state.interrupts.shield()
            try:
                with state.lock:
                    item = state.frontier.item(attempt_id, parameter, n)
                    if item.is_known:
                        return item.key_or_end(parameter)
                    feeders = state.frontier.feeders(attempt_id, parameter)
                    lent = state.local.pop_of(feeders) or state.frontier.lend(attempt_id, feeders)
                    if lent is not None:
                        # Back into the queue until `_run_local`: should Ctrl-C come in between, it is not lost.
                        state.local.put_first(lent)
                    else:
                        state.stream_waiters.append(state.local.incoming)
                if lent is None:
                    self._wait(parameter)
            finally:
                state.interrupts.unshield()
            if lent is not None and state.local.pop() is lent:
                self._run_local(lent)

    def _wait(self, parameter: str) -> None:
        state = self._state
        if state.pump is None and state.frontier.next_due is None:
            raise RiversError(f"the stream {parameter!r} waits for an instance that nothing runs", run_id=state.run_id)
        if not state.local.wait(state.seconds_to_wait()):
            state.tick()
        self._check_interrupts()

    def _next_item_elsewhere(self, attempt_id: str, parameter: str, n: int) -> str | None:
        """Do the same for a consumer that runs in a thread of its backend."""
        state = self._state
        changed: SimpleQueue[Unit | None] = SimpleQueue()
        while True:
            with state.lock:
                item = state.frontier.item(attempt_id, parameter, n)
                if item.is_known:
                    return item.key_or_end(parameter)
                state.stream_waiters.append(changed)
            # It returns in the end: instances end, and a cancel wakes all waiters, too.
            changed.get()
