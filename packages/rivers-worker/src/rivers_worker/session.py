"""Serve a worker's attempts, one at a time: a process that waits for the next one, and a clean-up behind each.

spare process ──▶ Execute ──▶ current attempt ──▶ its last event ──▶ Ack ──▶ clean-up ──▶ spare process
                                                                                └── cannot clean: the worker ends
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from queue import SimpleQueue

from rivers_process.cgroup import MemoryCgroup
from rivers_worker.attempt import ServedAttempt
from rivers_worker.body_process import BodyStartError, exec_body
from rivers_worker.clean_up import CleanUp
from rivers_worker.errors import CredentialsError
from rivers_worker.exit_codes import Exit
from rivers_worker.forks import ForkServer
from rivers_worker.journal import Journal
from rivers_worker.settings import ServeSettings
from rivers_worker.supervisor import LINGER, Problems, Supervisor, protect_this_process
from rivers_worker.v1 import worker_pb2 as pb

__all__ = ["SessionRefusedError", "WorkerSession"]

CLEAN_UP_WITHIN = 5.0
"""Seconds for cleaning up behind an attempt."""
ANSWER_WITHIN = 15.0
"""Seconds that a repeated Ack waits for the first one's answer."""
IMPORT_WITHIN = 30.0
"""Seconds after Execute in which a process has imported the modules that the last attempt reported."""
MAX_EARLY_CANCELS = 64


class SessionRefusedError(Exception):
    """A call that does not fit the state of the worker's attempts; the text names it."""


class WorkerSession:
    """The attempts of one worker, from its start to its end.

    A worker without `max_attempts` serves the one attempt that it was started for. `ends` gets a cause when the worker
    shall end, and None when the time at which it ends by itself may have changed. No method waits for user code, but
    for `check` and `acknowledge`.
    """

    def __init__(self, settings: ServeSettings, ends: SimpleQueue[Exit | None]) -> None:
        protect_this_process()
        self._settings = settings
        self._ends = ends
        self._began = time.monotonic()
        self._memory = MemoryCgroup()
        # A process that has ended is replaced within `execute`.
        self._lock = threading.RLock()
        self._current: ServedAttempt | None = None
        self._last: ServedAttempt | None = None
        # These never run again.
        self._acknowledged: set[str] = set()
        self._last_acknowledged: str | None = None
        self._answer: Future[pb.AckReply] = Future()
        self._early_cancels: dict[str, float] = {}
        self._left = settings.max_attempts or 1
        self._is_leaving = self._is_closing = False
        self._fork_server = ForkServer(settings) if self._left > 1 else None
        try:
            # A worker for one attempt leaves its log to that.
            log = None if self._fork_server is None else settings.termination_log
            self._clean_up = CleanUp(settings.scratch, self._kept, log)
        except OSError as error:
            self._end_fork_server()
            raise CredentialsError(f"invalid RIVERS_SCRATCH: expected folders that can be read: {error}") from error
        self._spare = self._new_body()

    # ── state ──

    @property
    def code(self) -> int:
        """The exit code of the last attempt."""
        return self._last.body.code if self._last is not None else Exit.DONE

    @property
    def current(self) -> ServedAttempt | None:
        """The attempt that was not acknowledged yet, or behind which the worker cleans up."""
        return self._current

    @property
    def state(self) -> pb.State:
        """The state of the current attempt."""
        attempt = self._current
        if attempt is None:
            return pb.STATE_ENDED if self._is_leaving else pb.STATE_WAITING
        return pb.STATE_ENDED if attempt.journal.is_ended else pb.STATE_RUNNING

    @property
    def attempts_left(self) -> int:
        """The number of attempts that are still taken, a current one included."""
        with self._lock:
            attempt = self._current
            return self._left * (not self._is_leaving) + (attempt is not None and not attempt.is_acknowledged)

    def serves(self, run_id: str, attempt_id: str) -> bool:
        """Return whether a call for this attempt is for this worker."""
        own = self._settings
        return run_id == own.run_id and (own.max_attempts is not None or attempt_id == own.attempt_id)

    def time_left(self, seconds_alone: float) -> tuple[float, Exit]:
        """Return the seconds until the worker ends by itself, and the cause; `seconds_alone` without a controller."""
        own = self._settings
        orphaned = own.orphan_ttl - seconds_alone, Exit.CONTROLLER_LOST
        if self._current is not None or self._last is None:
            return orphaned
        idle = min(own.idle_ttl - seconds_alone, own.max_age - self._age), Exit.DONE
        # An idle controller makes no calls, so that the time of orphans would cut a longer `idle_ttl` short.
        return idle if own.idle_ttl < math.inf else min(idle, orphaned)

    # ── calls ──

    def go(self) -> None:
        """Let the first process import the user's code: the worker has announced itself."""
        self._spare.go(self._settings.modules)

    def check(self, specs: list[bytes], seconds: float) -> Problems | None:
        """Have the waiting process resolve the refs of encoded specs; None if there is no answer in time."""
        with self._lock:
            if self._current is not None or self._is_leaving:
                raise SessionRefusedError("refs are looked up before Execute, not while an attempt runs or after it")
            spare = self._spare
        return spare.check(specs, seconds)

    def execute(self, attempt_id: str, spec: bytes, pickle_key: bytes) -> ServedAttempt:
        """Start an attempt, or join it if it is the current one."""
        with self._lock:
            self._check_open(attempt_id)
            is_new = self._current is None
            attempt = self._current or self._begin(attempt_id, spec, pickle_key)
            if attempt.id != attempt_id:
                raise SessionRefusedError(
                    f"attempt {attempt.id} has to be acknowledged before this worker takes attempt {attempt_id}"
                )
            # A client whose connection broke does not know whether its first call arrived, and repeats it.
            if attempt.spec != spec:
                raise SessionRefusedError(f"this worker runs another spec of attempt {attempt_id}")
            body, grace = attempt.body, attempt.grace
        if is_new and grace is not None:
            # Its Cancel has come first.
            body.cancel(grace)
        return attempt

    def journal_of(self, attempt_id: str) -> Journal:
        """Return the events of an attempt that was not acknowledged."""
        attempt = self._current
        self._check_open(attempt_id)
        if attempt is None or attempt.id != attempt_id:
            raise SessionRefusedError(f"this worker has no spec yet of attempt {attempt_id}")
        return attempt.journal

    def cancel(self, attempt_id: str, grace: float) -> None:
        """Cancel an attempt, also one whose Execute comes later."""
        with self._lock:
            attempt = self._current
            if attempt is None or attempt.id != attempt_id:
                if attempt_id not in self._acknowledged:
                    self._early_cancels.setdefault(attempt_id, grace)
                # Those of attempts that never came: the oldest first.
                while len(self._early_cancels) > MAX_EARLY_CANCELS:
                    del self._early_cancels[next(iter(self._early_cancels))]
                return
            attempt.grace = grace
            body = attempt.body
        body.cancel(grace)

    def acknowledge(self, attempt_id: str) -> pb.AckReply:
        """Clean up behind an attempt that has ended, or end a worker that has run none; return what comes next."""
        with self._lock:
            attempt = self._current
            is_repeated = attempt_id == self._last_acknowledged
            if not is_repeated:
                self._check_acknowledged(attempt_id)
                self._acknowledged.add(attempt_id)
                self._last_acknowledged, self._answer = attempt_id, Future()
                if attempt is None:
                    # No Execute may come before `_close`, which would drop its attempt.
                    self._is_leaving = True
                else:
                    attempt.is_acknowledged = True
            answer = self._answer
        if is_repeated:
            # The client did not get the first answer.
            return answer.result(ANSWER_WITHIN)
        reply = pb.AckReply()
        try:
            reply = self._close(attempt)
        finally:
            answer.set_result(reply)
            self._ends.put(None if reply.ready else Exit.DONE)
        return reply

    # ── the end ──

    def stop_accepting(self) -> ServedAttempt | None:
        """Start no attempt from now on; return the current one, if it was not acknowledged."""
        with self._lock:
            self._is_leaving = True
            attempt = self._current
            return None if attempt is None or attempt.is_acknowledged else attempt

    def end_for_another_version(self) -> None:
        """End the worker for a controller of another protocol version, unless an attempt is under way."""
        # Nobody can use such a worker; one that runs an attempt goes on with it.
        if self._current is None:
            self._ends.put(Exit.PROTOCOL_VERSION)

    def stop_if_idle(self) -> bool:
        """Start no attempt from now on, if none is under way, and return whether that is so."""
        with self._lock:
            self._is_leaving = self._is_leaving or self._current is None
            return self._is_leaving

    def end(self) -> None:
        """Leave no process behind; events from now on are lost."""
        with self._lock:
            self._is_leaving = self._is_closing = True
            body = self._spare
        self._end_fork_server()
        body.end()

    # ── inside ──

    @property
    def _age(self) -> float:
        return time.monotonic() - self._began

    def _begin(self, attempt_id: str, spec: bytes, pickle_key: bytes) -> ServedAttempt:
        if self._is_leaving or not self._left:
            raise SessionRefusedError("this worker is terminating: it starts nothing")
        self._left -= 1
        attempt = ServedAttempt(attempt_id, spec, pickle_key, self._spare)
        is_first = self._last is None
        self._current = self._last = attempt
        attempt.start(lambda: self._restart(attempt))
        if not is_first:
            # User code has chosen the modules. Those of the first attempt are the worker's own, and may take long.
            attempt.body.limit_imports(IMPORT_WITHIN)
        attempt.grace = self._early_cancels.pop(attempt_id, None)
        return attempt

    def _restart(self, attempt: ServedAttempt) -> bool:
        """Give an attempt to a fresh process, once; return whether that is under way."""
        # The modules of an earlier attempt may have ended its first process, which is no fault of this one.
        if self._fork_server is None or attempt.is_restarted:
            return False
        attempt.is_restarted = True
        with self._lock:
            if self._is_closing:
                return False
            try:
                attempt.body = self._spare = self._new_body()
            except BodyStartError:
                return False
            grace = attempt.grace
        attempt.start(lambda: False)
        if grace is not None:
            attempt.body.cancel(grace)
        return True

    def _check_open(self, attempt_id: str) -> None:
        if attempt_id in self._acknowledged:
            raise SessionRefusedError(f"attempt {attempt_id} is over, and its result was acknowledged")

    def _check_acknowledged(self, attempt_id: str) -> None:
        """Refuse an Ack that is not for the current attempt, or comes before its end."""
        self._check_open(attempt_id)
        attempt = self._current
        if attempt is None:
            if self._last is not None or attempt_id != self._settings.attempt_id:
                raise SessionRefusedError(f"this worker has not run attempt {attempt_id}")
        elif attempt.id != attempt_id:
            raise SessionRefusedError(f"this worker runs attempt {attempt.id}, not {attempt_id}")
        elif not attempt.journal.is_ended:
            raise SessionRefusedError("the attempt still runs: there is nothing to acknowledge")

    def _close(self, attempt: ServedAttempt | None) -> pb.AckReply:
        """Make the worker ready for the next attempt, or let it take no more; return the answer to Ack."""
        cause = ""
        if attempt is not None and self._left:
            try:
                cause = self._prepare(attempt)
            except Exception as error:  # noqa: BLE001 - whatever it is, the worker is not clean
                cause = f"the clean-up raised {type(error).__name__}: {error}"
        with self._lock:
            self._current = None
            ready = bool(attempt is not None and self._left and not cause and not self._is_leaving)
            self._is_leaving = not ready
        if cause:
            sys.stderr.write(f"rivers-worker: takes no more attempts: {cause}\n")
        return pb.AckReply(ready=ready, retires=cause)

    def _prepare(self, attempt: ServedAttempt) -> str:
        """Clean up behind an attempt and start the next one's process; return the cause if that is not possible."""
        cause = attempt.body.finish(LINGER) or self._clean_up.run(time.monotonic() + CLEAN_UP_WITHIN)
        if not cause and self._age >= self._settings.max_age:
            cause = f"it is older than {self._settings.max_age:g} s"
        return cause or self._start_spare(attempt.body.modules)

    def _start_spare(self, modules: Sequence[str]) -> str:
        """Start the process of the next attempt, which imports the modules; return the cause if there is none."""
        try:
            with self._lock:
                if self._is_closing:
                    return ""
                spare = self._spare = self._new_body()
        except BodyStartError as error:
            return str(error)
        spare.go(modules)
        return spare.wait_for_start()

    def _end_fork_server(self) -> None:
        if self._fork_server is not None:
            self._fork_server.end()

    def _kept(self) -> tuple[int, ...]:
        return () if self._fork_server is None else self._fork_server.pids

    def _new_body(self) -> Supervisor:
        body = exec_body(self._settings) if self._fork_server is None else self._fork_server.fork()
        peak = 0 if self._last is None else self._memory.peak() or 0
        return Supervisor(self._settings, body, self._memory, peak_before=peak, keep=self._kept)
