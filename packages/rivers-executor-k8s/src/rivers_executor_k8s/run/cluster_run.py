"""A run that goes on in the cluster: its lock, its session, its attempts by id. Everything here happens in the loop."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
import traceback

from rivers.protocol import Evidence, StepResult, StepSpec, describe_exception, lost
from rivers.spi import Run, Sink, warning_record
from rivers_executor_k8s.api.client import ApiError, ApiUnreachableError
from rivers_executor_k8s.pod.roles import OPTIONAL
from rivers_executor_k8s.run.attempt import Attempt
from rivers_executor_k8s.run.context import Connection
from rivers_executor_k8s.run.lease import RunLock
from rivers_executor_k8s.run.orphans import sweep
from rivers_executor_k8s.run.preflight import is_allowed
from rivers_executor_k8s.run.session import Session
from rivers_executor_k8s.run.waiting import ANSWER, wait_for

__all__ = ["Running"]

LAST = 2.0
"""Seconds of the time to close that are left for the lock."""


class Running:
    """From `begin` to `end`; `end` also follows a `begin` that raised half-way."""

    def __init__(self, connection: Connection, run: Run, emit: Sink) -> None:
        self._connection = connection
        self._run = run
        self._emit = emit
        self._attempts: dict[str, Attempt] = {}
        self._lock: RunLock | None = None
        self._session: Session | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self._hurry = False

    async def begin(self) -> None:
        """Take the run's lock and begin to watch.

        Raises:
            RunLockedError: another controller carries out this run.
            ApiError, ApiUnreachableError: the API server refuses, or does not answer.
        """
        run, cluster = self._run, self._connection.cluster
        setting = await self._connection.setting(run.run_id, key=run.key)
        self._lock = RunLock(cluster, run.run_id, setting.owner)
        text = f"the cluster at {cluster.server} has not answered yet"
        now = await wait_for(self._lock.take(self._warn), lambda: text, self._warn, calm=ANSWER)
        setting = await self._connection.setting(run.run_id, epoch=self._lock.epoch, key=run.key)
        self._session = Session(cluster, setting, self._emit)
        await self._session.start()
        self._sweeping = asyncio.ensure_future(self._look_around(now))

    def submit(self, spec: StepSpec) -> None:
        """Begin an attempt."""
        assert self._session is not None
        attempt = self._attempts[spec.attempt_id] = Attempt(spec, self._session)
        self._session.spawn(self._carry(attempt))

    def cancel(self, attempt_id: str, grace: float) -> None:
        """End an attempt; nothing happens for one that is over."""
        self._hurry = True
        attempt = self._attempts.get(attempt_id)
        if attempt is not None:
            attempt.cancel(grace)

    async def end(self, deadline: float) -> None:
        """End everything; takes about `deadline` seconds at most."""
        until = time.monotonic() + deadline
        for attempt in list(self._attempts.values()):
            attempt.cancel(0.0)
        problems: list[str] = []
        if self._session is not None:
            try:
                problems = await self._session.close(until - LAST)
            except (ApiError, ApiUnreachableError) as error:
                problems = [f"the pods of the run could not be looked for: {error}"]
        if self._sweeping is not None:
            if not self._hurry:  # nobody waits for pods of others to go when a run is cancelled
                await asyncio.wait((self._sweeping,), timeout=max(0.0, until - LAST - time.monotonic()))
            self._sweeping.cancel()
            await asyncio.wait((self._sweeping,), timeout=1.0)
        if self._lock is not None:
            await self._lock.let_go()
        for problem in problems:
            self._warn(problem)

    async def _carry(self, attempt: Attempt) -> None:
        try:
            result = await attempt.run()
        except Exception as error:  # noqa: BLE001 - a bug of ours ends the attempt that met it, and says so
            result = _bug(attempt, error)
        self._attempts.pop(attempt.spec.attempt_id, None)
        self._emit(result)

    async def _look_around(self, now: dt.datetime) -> None:
        """What need not be known before the first step: rights that are missing and not needed, pods of the dead."""
        cluster = self._connection.cluster
        try:
            for permission in OPTIONAL:
                if not await is_allowed(cluster, permission):
                    self._warn(f"this user may not {permission}, and {permission.why} cannot be told")
            count = await sweep(cluster, self._run.run_id, now)
        except (ApiError, ApiUnreachableError) as error:
            self._warn(f"pods of dead controllers could not be looked for: {error}")
            return
        if count:
            self._warn(f"deleted {count} pods that controllers which are gone had left behind")

    def _warn(self, text: str) -> None:
        self._emit(warning_record(text, logger="rivers.kubernetes"))


def _bug(attempt: Attempt, error: BaseException) -> StepResult:
    trace = "".join(traceback.format_exception(error))[-4000:]
    detail = f"a bug in rivers-executor-k8s: {describe_exception(error)}\n{trace}"
    return lost(attempt.spec.attempt_id, Evidence(worker=attempt.name, detail=detail))
