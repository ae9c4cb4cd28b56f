"""The pool of workers of one backend: assigns attempts to workers, and turns their ends into results.

    submit ──▶ backlog ──▶ the least loaded worker
                  ▲              │
                  └── taken back ┘      what a worker has not read: when another one idles, or when it has died

State only; the supervisor does the waiting. A crash is charged to the attempt that ran. What its worker had not begun
goes to another one, and is charged nothing.
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
from rivers_executor_parallel.handle import DEPTH, Assignment, WorkerHandle
from rivers_executor_parallel.wire import RunParameters
from rivers_process.cgroup import MemoryCgroup

__all__ = ["WorkerPool"]

FAILED_BOOTS = 3
"""Workers in a row that end before they report an event, after which the backlog fails instead of waiting for one more.

Importing a module that ends its process is such a case.
"""
LEAVE_DEADLINE = 5.0
"""Seconds for a worker to end after it has announced that it leaves."""
_NO_RUN = RunParameters("", 0.0, b"")


class WorkerPool:
    """At most `size` workers. `wake` is called when a worker should be started or a timer has changed.

    Every method may be called from any thread; `emit` is never called with the lock held.
    """

    def __init__(self, size: int, wake: Callable[[], None]) -> None:
        self.size = size
        self.workers: list[WorkerHandle] = []
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.idle_since: float | None = None
        self.failure: str | None = None
        self._wake = wake
        self._backlog: deque[Assignment] = deque()
        self._assignments: dict[str, Assignment] = {}
        self._seq = 0
        self._emit: Sink = _discard
        self._run = _NO_RUN
        self._encoded_run = b""
        self._is_closing = False
        self._expects_work = False
        self._failed_boots = 0
        self._memory = MemoryCgroup()
        self._oom_kills = 0

    # ── a run ──

    def open_run(self, run: Run, emit: Sink) -> None:
        """Begin a run, and have a first worker started where there is none."""
        with self.lock:
            self._run = RunParameters(run.run_id, run.grace, run.key)
            self._encoded_run = msgspec.msgpack.encode(self._run)
            self._emit = emit
            self._is_closing = False
            self.idle_since = None
            self._failed_boots = 0
            self._oom_kills = self._memory.oom_kills() or 0
            self._expects_work = not self.workers
            if self._expects_work:
                self._wake()

    def submit(self, spec: StepSpec) -> None:
        """Assign an attempt to a worker, or queue it.

        Raises:
            SpecDecodeError: the spec cannot be encoded.
            ExecutionError: the supervisor has failed.
        """
        data = encode_spec(spec)
        with self.lock:
            if self.failure is not None:
                raise ExecutionError(self.failure)
            self._seq += 1
            assignment = self._assignments[spec.attempt_id] = Assignment(spec.attempt_id, self._seq, data)
            self._backlog.append(assignment)
            self._dispatch()
            if self.missing > 0:
                self._wake()

    def cancel(self, attempt_id: str, grace: float) -> None:
        """Drop an attempt that has not begun; interrupt a running one, and kill its worker after `grace` seconds."""
        with self.lock:
            assignment = self._assignments.get(attempt_id)
            if assignment is None or assignment.is_cancelled:
                return
            assignment.is_cancelled = True
            worker = assignment.worker
            if worker is not None:
                self._backlog.extendleft(reversed(worker.take_back(DEPTH)))
            if assignment.worker is None:
                self._backlog.remove(assignment)
                del self._assignments[attempt_id]
            else:
                assignment.worker.interrupt(assignment)
                assignment.worker.kill_at = time.monotonic() + grace
                self._wake()
            self._dispatch()
        if assignment.worker is None:
            self._emit(StepResult(attempt_id=attempt_id, ending=Ending.CANCELLED))

    def end_run(self, until: float) -> None:
        """Kill the busy workers, have the others end the run by `until`, and end its attempts as cancelled."""
        with self.lock:
            self._is_closing = True
            self._expects_work = False
            self._backlog.clear()
            for worker in self.workers:
                if worker.assigned:
                    worker.kill()
                elif worker.run_id:
                    worker.request_run_end()
            self._wake()
            self._wait_until(lambda: not any(worker.run_id for worker in self.workers), until)
            for worker in self.workers:
                if worker.run_id:
                    worker.kill()
            self._wait_until(lambda: not any(worker.run_id for worker in self.workers), until + 1.0)
            results = [lost(attempt_id, Evidence(cancelled=True)) for attempt_id in self._assignments]
            self._assignments.clear()
            emit, self._emit, self._run = self._emit, _discard, _NO_RUN
            self.idle_since = time.monotonic()
        for result in results:
            emit(result)

    def retire(self) -> None:
        """Dismiss every worker; new ones take what comes."""
        with self.lock:
            for worker in self.workers:
                if not worker.is_leaving:
                    worker.dismiss()

    def shut_down(self, until: float) -> None:
        """Dismiss every worker, and kill those that are there at `until`."""
        with self.lock:
            for worker in self.workers:
                if not worker.is_ready:  # it has begun nothing
                    worker.kill()
            self.retire()
            self._wake()
            self._wait_until(lambda: not self.workers, until)
            for worker in self.workers:
                worker.kill()
            self._wait_until(lambda: not self.workers, until + 1.0)

    def _wait_until(self, reached: Callable[[], bool], until: float) -> None:
        self.changed.wait_for(reached, max(0.0, until - time.monotonic()))

    # ── dispatch ──

    @property
    def missing(self) -> int:
        """The number of workers to start for the attempts that there are."""
        serving = sum(not worker.is_leaving and not worker.is_spare for worker in self.workers)
        return max(0, min(self.size, max(len(self._assignments), self._expects_work)) - serving)

    @property
    def is_busy(self) -> bool:
        """True while an attempt waits or runs."""
        return bool(self._assignments)

    def _dispatch(self) -> None:
        """Assign the backlog, the least loaded worker first."""
        while self._backlog:
            worker = self._least_loaded()
            if worker is None or not worker.begin_run(self._run, self._encoded_run):
                return
            if not worker.assign(self._backlog[0]):
                return
            self._backlog.popleft()

    def _rebalance(self) -> None:
        """Give an idle worker half of what the most loaded one has not begun."""
        idle = self._least_loaded()
        fullest = max(self.workers, key=_load)
        if idle is not None and not idle.assigned and len(fullest.assigned) > 1:
            self._backlog.extend(fullest.take_back(len(fullest.assigned) // 2))
            self._dispatch()

    def _least_loaded(self) -> WorkerHandle | None:
        found = None
        for worker in self.workers:
            serves = worker.is_ready and not worker.is_leaving and not worker.is_spare
            if serves and (found is None or _load(worker) < _load(found)):
                found = worker
        return found if found is not None and len(found.assigned) < DEPTH else None

    # ── the supervisor's reports ──

    def add(self, worker: WorkerHandle) -> None:
        """Add a worker that was started."""
        with self.lock:
            self._expects_work = False
            self.workers.append(worker)

    def mark_ready(self, worker: WorkerHandle) -> None:
        """Let a worker that has booted take work."""
        with self.lock:
            worker.is_ready = True
            worker.boot_seconds = worker.age
            if worker.is_spare:
                return
            self._dispatch()
            self._rebalance()

    def mark_run_ended(self, worker: WorkerHandle) -> None:
        """Note that a worker holds nothing of the run any more."""
        with self.lock:
            worker.run_id = ""
            self.changed.notify_all()

    def mark_leaving(self, worker: WorkerHandle) -> None:
        """Assign nothing more to a worker; what it has not read goes to the others."""
        with self.lock:
            worker.is_leaving = True
            worker.kill_at = time.monotonic() + LEAVE_DEADLINE
            self._take_back_all(worker)

    def record_event(self, worker: WorkerHandle, event: StepEvent, last: bool) -> None:
        """Emit an event of a worker; its `last` one is emitted when its process, and what it started, has ended.

        Raises:
            ValueError: the event is about another attempt.
        """
        with self.lock:
            if not worker.assigned or worker.assigned[0].attempt_id != event.attempt_id:
                raise ValueError(f"an event for attempt {event.attempt_id!r}")
            worker.has_reported, self._failed_boots = True, 0
            if type(event) is StepStarted:
                worker.assigned[0].is_started = True
            elif type(event) is StepResult:
                if worker.boot_seconds:
                    timings = msgspec.structs.replace(event.timings, boot=worker.boot_seconds)
                    event, worker.boot_seconds = msgspec.structs.replace(event, timings=timings), 0.0
                if last:
                    worker.last_result = event
                    self.mark_leaving(worker)
                    return
                worker.assigned.popleft()
                worker.turn_began = time.monotonic()
                worker.kill_at = None
                del self._assignments[event.attempt_id]
                if self._backlog:
                    self._dispatch()
                elif not worker.assigned:
                    self._rebalance()
        self._emit(event)

    def warn(self, message: str) -> None:
        """Emit a warning about the run."""
        self._emit(warning_record(message))

    def remove(self, worker: WorkerHandle, detail: str | None) -> None:
        """Remove a worker whose process has ended, and emit the results of its attempts.

        `detail` is the reason if the supervisor has killed it.
        """
        worker.kill_leftovers()
        with self.lock:
            self.workers.remove(worker)
            evidence = self._collect_evidence(worker, detail)
            self._take_back_all(worker)
            results = self._results_of(worker, evidence)
            if not (worker.has_reported or worker.was_dismissed or results):
                self._failed_boots += 1
                if self._failed_boots >= FAILED_BOOTS:
                    results += self._fail_backlog(evidence)
            for result in results:
                self._assignments.pop(result.attempt_id, None)
            worker.run_id = ""
            self._dispatch()
            self.changed.notify_all()
        worker.close()
        for result in results:
            self._emit(result)

    def record_failed_start(self, error: OSError, limit: str) -> None:
        """Warn that a worker could not be started; where there is no other one, fail the backlog."""
        with self.lock:
            self._expects_work = False
            serving = any(not worker.is_leaving for worker in self.workers)
            why = f"no worker could be started: {describe_exception(error)}; {limit}"
            results = [] if serving else self._fail_backlog(Evidence(detail=why))
            for result in results:
                del self._assignments[result.attempt_id]
        if serving:
            self.warn(f"one worker less: {error}; {limit}")
        for result in results:
            self._emit(result)

    def fail(self, error: BaseException) -> None:
        """Fail every attempt and end every worker, as the supervisor's thread has failed with this error."""
        with self.lock:
            self.failure = f"the thread that supervises the workers failed with {describe_exception(error)}"
            for worker in self.workers:
                self._backlog.extend(worker.assigned)
                with contextlib.suppress(Exception):  # the others are ended all the same
                    worker.kill_leftovers()
                    worker.process.exit_code(1.0)
                    worker.close()
            self.workers.clear()
            results = self._fail_backlog(Evidence(detail=self.failure))
            self._assignments.clear()
            self.changed.notify_all()
        for result in results:
            self._emit(result)

    def promote_spare(self) -> bool:
        """Let the spare worker serve if there is work for it; return whether it does."""
        with self.lock:
            for worker in self.workers:
                if worker.is_spare and not worker.is_leaving and self.missing > 0:
                    # Also one that still boots: it is ahead of a new one.
                    worker.is_spare = False
                    if worker.is_ready:
                        self._dispatch()
                        self._rebalance()
                    return True
        return False

    def _take_back_all(self, worker: WorkerHandle) -> None:
        self._backlog.extendleft(reversed(worker.take_back(DEPTH)))
        self._dispatch()

    def _results_of(self, worker: WorkerHandle, evidence: Evidence) -> list[StepResult]:
        """Return the results of what an ended worker had begun: its own last one, else lost ones."""
        results: list[StepResult] = []
        while worker.assigned:
            assignment = worker.assigned.popleft()
            if worker.last_result is not None and worker.last_result.attempt_id == assignment.attempt_id:
                results.append(worker.last_result)
            elif not self._is_closing:
                started = assignment.is_started or worker.page.running_seq == assignment.seq
                results.append(lost(assignment.attempt_id, evidence, started=started))
        return results

    def _collect_evidence(self, worker: WorkerHandle, detail: str | None) -> Evidence:
        kills = self._memory.oom_kills()
        new = max(0, kills - self._oom_kills) if kills is not None else None
        cancelled = any(assignment.is_cancelled for assignment in worker.assigned)
        if detail is None and worker.assigned:
            detail = f"{time.monotonic() - worker.turn_began:.1f} s after it turned to the attempt"
        evidence = worker.collect_evidence(cancelled, new, self._memory.limit(), detail)
        if evidence.oom_kills:
            self._oom_kills += 1
        return evidence

    def _fail_backlog(self, evidence: Evidence) -> list[StepResult]:
        """Return failed results for all attempts that wait for a worker, and forget those."""
        self._failed_boots = 0
        failure = Failure(
            reason=FailureReason.INFRASTRUCTURE,
            type="",
            message=evidence.detail or f"{FAILED_BOOTS} workers in a row ended before they could begin",
            evidence=evidence,
            transient=False,
        )
        ids = [assignment.attempt_id for assignment in self._backlog]
        self._backlog.clear()
        return [StepResult(attempt_id=attempt_id, ending=Ending.FAILED, failure=failure) for attempt_id in ids]


def _load(worker: WorkerHandle) -> int:
    return len(worker.assigned)


def _discard(event: StepEvent) -> None:
    """Drop an event that comes while no run is open."""
