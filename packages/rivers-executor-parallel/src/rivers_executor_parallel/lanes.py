"""The lanes of one backend: what each is given, and what becomes of it. State only; the keeper does the waiting.

    submit ──▶ backlog ──▶ the emptiest lane ──▶ its worker
                  ▲              │
                  └── taken back ┘      what a worker has not read: when another one idles, or when it has died

A crash is charged to the attempt that ran; what its worker had not begun is given to another one for nothing.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable

import msgspec

from rivers.exceptions import ExecutionError
from rivers.protocol import (
    Ending,
    Evidence,
    Failure,
    FailureReason,
    StepEvent,
    StepResult,
    StepSpec,
    StepStarted,
    describe_exception,
    encode_spec,
    lost,
)
from rivers.spi import Run, Sink, warning_record
from rivers_executor_parallel.lane import DEPTH, Lane, Task
from rivers_executor_parallel.wire import RunSettings
from rivers_process.cgroup import MemoryCgroup

__all__ = ["Lanes"]

FAILED_BOOTS = 3
"""Workers in a row that end before they tell anything of an attempt, as where importing a module ends the process: then
what waits fails, instead of another one being started."""
LEAVE_DEADLINE = 5.0
"""Seconds for a worker to be gone after it said that it leaves."""
_NO_RUN = RunSettings("", 0.0, b"")


class Lanes:
    """At most `most` lanes. `nudge` is called when a worker should be started or a timer has changed.

    Every method may be called from any thread; `emit` is never called with the lock held.
    """

    def __init__(self, most: int, nudge: Callable[[], None]) -> None:
        self.most = most
        self.all: list[Lane] = []
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.idle_since: float | None = None
        self.broken: str | None = None
        self._nudge = nudge
        self._backlog: deque[Task] = deque()
        self._tasks: dict[str, Task] = {}
        self._seq = 0
        self._emit: Sink = _nobody
        self._run = _NO_RUN
        self._encoded_run = b""
        self._closing = False
        self._is_expecting = False
        self._failed_boots = 0
        self._memory = MemoryCgroup()
        self._oom_kills = 0

    # ── a run ──

    def open(self, run: Run, emit: Sink) -> None:
        """A run begins."""
        with self.lock:
            self._run = RunSettings(run.run_id, run.grace, run.key)
            self._encoded_run = msgspec.msgpack.encode(self._run)
            self._emit = emit
            self._closing = False
            self.idle_since = None
            self._failed_boots = 0
            self._oom_kills = self._memory.oom_kills() or 0
            self._is_expecting = not self.all
            if self._is_expecting:
                self._nudge()

    def submit(self, spec: StepSpec) -> None:
        """Take an attempt.

        Raises:
            SpecDecodeError: its spec cannot cross.
            ExecutionError: the keeper has failed.
        """
        data = encode_spec(spec)
        with self.lock:
            if self.broken is not None:
                raise ExecutionError(self.broken)
            self._seq += 1
            task = self._tasks[spec.attempt_id] = Task(spec.attempt_id, self._seq, data)
            self._backlog.append(task)
            self._feed()
            if self.wanted > 0:
                self._nudge()

    def cancel(self, attempt_id: str, grace: float) -> None:
        """End an attempt: one that has not begun never does, a running one is asked, and killed after its grace."""
        with self.lock:
            task = self._tasks.get(attempt_id)
            if task is None or task.cancelled:
                return
            task.cancelled = True
            lane = task.lane
            if lane is not None:
                self._backlog.extendleft(reversed(lane.take_back(DEPTH)))
            if task.lane is None:
                self._backlog.remove(task)
                del self._tasks[attempt_id]
            else:
                task.lane.stop(task)
                task.lane.kill_at = time.monotonic() + grace
                self._nudge()
            self._feed()
        if task.lane is None:
            self._emit(StepResult(attempt_id=attempt_id, ending=Ending.CANCELLED))

    def end_run(self, until: float) -> None:
        """Nothing is to run any more: kill what does, let every worker end the run, by the deadline at the latest."""
        with self.lock:
            self._closing = True
            self._is_expecting = False
            self._backlog.clear()
            for lane in self.all:
                if lane.flight:
                    lane.kill()
                elif lane.run_id:
                    lane.end_run()
            self._nudge()
            self._wait_until(lambda: not any(lane.run_id for lane in self.all), until)
            for lane in self.all:
                if lane.run_id:
                    lane.kill()
            self._wait_until(lambda: not any(lane.run_id for lane in self.all), until + 1.0)
            self._tasks.clear()
            self._emit, self._run = _nobody, _NO_RUN
            self.idle_since = time.monotonic()

    def retire(self) -> None:
        """Let every worker go; new ones take what comes."""
        with self.lock:
            for lane in self.all:
                if not lane.leaving:
                    lane.quit()

    def quit(self, until: float) -> None:
        """Let every worker go; those that do not are killed."""
        with self.lock:
            for lane in self.all:
                if not lane.ready:  # it has begun nothing
                    lane.kill()
            self.retire()
            self._nudge()
            self._wait_until(lambda: not self.all, until)
            for lane in self.all:
                lane.kill()
            self._wait_until(lambda: not self.all, until + 1.0)

    def _wait_until(self, reached: Callable[[], bool], until: float) -> None:
        self.changed.wait_for(reached, max(0.0, until - time.monotonic()))

    # ── giving ──

    @property
    def wanted(self) -> int:
        """How many more workers there is work for."""
        serving = sum(not lane.leaving and not lane.spare for lane in self.all)
        return max(0, min(self.most, max(len(self._tasks), self._is_expecting)) - serving)

    @property
    def busy(self) -> bool:
        """Whether anything waits or runs."""
        return bool(self._tasks)

    def _feed(self) -> None:
        """Give what waits to the lanes, the emptiest first."""
        while self._backlog:
            lane = self._emptiest()
            if lane is None or not lane.begin(self._run, self._encoded_run) or not lane.give(self._backlog[0]):
                return
            self._backlog.popleft()

    def _relieve(self) -> None:
        """Where a lane idles, let it have half of what the fullest one has not begun."""
        idle = self._emptiest()
        fullest = max(self.all, key=_load)
        if idle is not None and not idle.flight and len(fullest.flight) > 1:
            self._backlog.extend(fullest.take_back(len(fullest.flight) // 2))
            self._feed()

    def _emptiest(self) -> Lane | None:
        found = None
        for lane in self.all:
            if lane.ready and not lane.leaving and not lane.spare and (found is None or _load(lane) < _load(found)):
                found = lane
        return found if found is not None and len(found.flight) < DEPTH else None

    # ── what the keeper sees ──

    def add(self, lane: Lane) -> None:
        """A worker was started."""
        with self.lock:
            self._is_expecting = False
            self.all.append(lane)

    def said_hello(self, lane: Lane) -> None:
        """A worker is ready for work."""
        with self.lock:
            lane.ready = True
            lane.boot = lane.age
            if lane.spare:
                return
            self._feed()
            self._relieve()

    def ended_run(self, lane: Lane) -> None:
        """A worker holds nothing of the run any more."""
        with self.lock:
            lane.run_id = ""
            self.changed.notify_all()

    def leaves(self, lane: Lane) -> None:
        """A worker takes nothing any more; what it has not read goes to the others."""
        with self.lock:
            lane.leaving = True
            lane.kill_at = time.monotonic() + LEAVE_DEADLINE
            self._requeue(lane)

    def told(self, lane: Lane, event: StepEvent, last: bool) -> None:
        """A worker tells something of its attempt; the `last` it tells waits for its end, and so for what it started.

        Raises:
            ValueError: it is about another attempt.
        """
        with self.lock:
            if not lane.flight or lane.flight[0].attempt_id != event.attempt_id:
                raise ValueError(f"an event for attempt {event.attempt_id!r}")
            lane.served, self._failed_boots = True, 0
            if type(event) is StepStarted:
                lane.flight[0].started = True
            elif type(event) is StepResult:
                if lane.boot:
                    timings = msgspec.structs.replace(event.timings, boot=lane.boot)
                    event, lane.boot = msgspec.structs.replace(event, timings=timings), 0.0
                if last:
                    lane.last = event
                    self.leaves(lane)
                    return
                lane.flight.popleft()
                lane.since = time.monotonic()
                lane.kill_at = None
                del self._tasks[event.attempt_id]
                if self._backlog:
                    self._feed()
                elif not lane.flight:
                    self._relieve()
        self._emit(event)

    def warned(self, message: str) -> None:
        """Something about the run, and no attempt of it, is to be told."""
        self._emit(warning_record(message))

    def ended(self, lane: Lane, detail: str | None) -> None:
        """A worker's process has ended, and all that it told was taken in; `detail` says why it was killed, if so."""
        lane.kill_rest()
        with self.lock:
            self.all.remove(lane)
            evidence = self._evidence(lane, detail)
            self._requeue(lane)
            results = self._ends(lane, evidence)
            if not (lane.served or lane.sent_away or results):
                self._failed_boots += 1
                if self._failed_boots >= FAILED_BOOTS:
                    results += self._give_up(evidence)
            for result in results:
                self._tasks.pop(result.attempt_id, None)
            lane.run_id = ""
            self._feed()
            self.changed.notify_all()
        lane.close()
        for result in results:
            self._emit(result)

    def not_started(self, error: OSError, limit: str) -> None:
        """No worker could be started; those that are there go on, and without any what waits fails."""
        with self.lock:
            serving = any(not lane.leaving for lane in self.all)
            why = f"no worker could be started: {describe_exception(error)}; {limit}"
            results = [] if serving else self._give_up(Evidence(detail=why))
            for result in results:
                del self._tasks[result.attempt_id]
        if serving:
            self.warned(f"one worker less: {error}; {limit}")
        for result in results:
            self._emit(result)

    def abandon(self, error: BaseException) -> None:
        """The keeper has failed, and nobody will hear or bury a worker any more: all that was to run is told so."""
        with self.lock:
            self.broken = f"the thread that keeps the workers failed with {describe_exception(error)}"
            for lane in self.all:
                self._backlog.extend(lane.flight)
                with contextlib.suppress(Exception):  # the others are ended all the same
                    lane.kill_rest()
                    lane.process.exit_code(1.0)
                    lane.close()
            self.all.clear()
            results = self._give_up(Evidence(detail=self.broken))
            self._tasks.clear()
            self.changed.notify_all()
        for result in results:
            self._emit(result)

    def promote_spare(self) -> bool:
        """Let the spare worker serve, if there is work for it; one that still boots is ahead of a new one."""
        with self.lock:
            for lane in self.all:
                if lane.spare and not lane.leaving and self.wanted > 0:
                    lane.spare = False
                    if lane.ready:
                        self._feed()
                        self._relieve()
                    return True
        return False

    def _requeue(self, lane: Lane) -> None:
        self._backlog.extendleft(reversed(lane.take_back(DEPTH)))
        self._feed()

    def _ends(self, lane: Lane, evidence: Evidence) -> list[StepResult]:
        """How what the worker had begun has ended: by its own last word, or as lost."""
        results: list[StepResult] = []
        while lane.flight:
            task = lane.flight.popleft()
            if lane.last is not None and lane.last.attempt_id == task.attempt_id:
                results.append(lane.last)
            elif self._closing:
                continue
            else:
                started = task.started or lane.page.running == task.seq
                results.append(lost(task.attempt_id, evidence, started=started))
        return results

    def _evidence(self, lane: Lane, detail: str | None) -> Evidence:
        kills = self._memory.oom_kills()
        new = max(0, kills - self._oom_kills) if kills is not None else None
        cancelled = any(task.cancelled for task in lane.flight)
        if detail is None and lane.flight:
            detail = f"{time.monotonic() - lane.since:.1f} s after its attempt had its turn"
        evidence = lane.evidence(cancelled, new, self._memory.limit(), detail)
        if evidence.oom_kills:
            self._oom_kills += 1
        return evidence

    def _give_up(self, evidence: Evidence) -> list[StepResult]:
        """The ends of all that waits for a worker, where none can be had."""
        self._failed_boots = 0
        failure = Failure(
            reason=FailureReason.INFRASTRUCTURE,
            type="",
            message=evidence.detail or f"{FAILED_BOOTS} workers in a row ended before they could begin",
            evidence=evidence,
            transient=False,
        )
        results = [StepResult(attempt_id=t.attempt_id, ending=Ending.FAILED, failure=failure) for t in self._backlog]
        self._backlog.clear()
        return results


def _load(lane: Lane) -> int:
    return len(lane.flight)


def _nobody(event: StepEvent) -> None:
    """Where events go when no run is open."""
