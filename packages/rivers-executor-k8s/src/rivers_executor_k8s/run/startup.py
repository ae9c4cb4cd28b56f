"""Wait until a created pod runs its worker; report why it is pending, and give up on what cannot start.

`pending.find_cause` has the rules on what is fatal; this module adds the clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from rivers_executor_k8s.api.namespace import Cluster
from rivers_executor_k8s.pod.objects import Event
from rivers_executor_k8s.pod.pending import PendingCause, find_cause
from rivers_executor_k8s.pod.state import PodView
from rivers_executor_k8s.run.waiting import CALM

__all__ = ["StartError", "Startup"]

SILENT = 4.0
"""Seconds after which a pod is reported as pending though no component of the cluster has given a reason."""
ASK_EVENTS_EVERY = 10.0
"""Seconds between two requests for a pod's events: some causes (a volume's Secret) are found nowhere else."""


class StartError(Exception):
    """A pod that has not run its worker; `transient` says whether another pod could."""

    def __init__(self, text: str, *, reason: str | None = None, transient: bool = True) -> None:
        super().__init__(text)
        self.reason = reason
        self.transient = transient


class Startup:
    """The wait for the worker of one pod; `report` takes each cause once, until it is another one."""

    def __init__(self, cluster: Cluster, view: PodView, report: Callable[[PendingCause], None]) -> None:
        self._cluster = cluster
        self._view = view
        self._report = report
        self._event_cause: PendingCause | None = None
        self._since = time.monotonic()
        self._report_from = self._since + CALM
        self._ask_events_at = self._since + SILENT
        self._cause: PendingCause | None = None
        self._reported = ""

    async def wait_until_running(self, deadline: float, seconds: float) -> None:
        """Return once the worker's container runs, or has ended already.

        `deadline` is a moment of the monotonic clock, `seconds` what it was set to.

        Raises:
            StartError: it cannot start, or has not by the deadline.
        """
        self._report_from = min(self._report_from, deadline)
        while not (self._view.is_running or self._view.is_over):
            now = time.monotonic()
            if now >= min(self._ask_events_at, self._fatal_at()):  # what is to be fatal must still be so
                self._event_cause = await self._cause_by_events(deadline)
                self._ask_events_at = time.monotonic() + ASK_EVENTS_EVERY
            seen = find_cause(self._view.pod) if self._view.pod is not None else None
            self._assess(seen or self._event_cause, now)
            if now >= deadline:
                raise self._timeout_error(seconds)
            calm = self._report_from if now < self._report_from else float("inf")
            await self._view.wait_for_change(min(deadline, self._ask_events_at, self._fatal_at(), calm) - now)

    def _assess(self, cause: PendingCause | None, now: float) -> None:
        if cause is None or self._cause is None or cause.reason != self._cause.reason:
            self._since = now
        self._cause = cause
        if cause is not None and (cause.fatal or now >= self._report_from) and cause.message != self._reported:
            self._reported = cause.message
            self._report(cause)
        if cause is not None and now >= self._fatal_at():
            raise StartError(f"{cause.reason}: {cause.message}", reason=cause.reason, transient=False)

    def _fatal_at(self) -> float:
        fatal = self._cause is not None and self._cause.fatal
        return self._since + self._cause.patience if fatal and self._cause is not None else float("inf")

    def _timeout_error(self, seconds: float) -> StartError:
        cause = self._cause
        why = f"; last seen: {cause.reason}: {cause.message}" if cause is not None else ""
        return StartError(
            f"its worker did not run within startup_timeout={seconds:g} s{why}", reason=cause.reason if cause else None
        )

    async def _cause_by_events(self, deadline: float) -> PendingCause | None:
        pod = self._view.pod
        if pod is None or find_cause(pod) is not None:
            return None
        events: tuple[Event, ...] = ()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):  # the API server may hang
                events = await self._cluster.list_events(pod)
        silence = f"phase {pod.status.phase}, and no component of the cluster has said why it waits"
        return find_cause(pod, events) or PendingCause(reason="Pending", message=silence, fatal=False, patience=0.0)
