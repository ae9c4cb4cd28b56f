"""Supervise one body's process for the server: send it work, read its events, reap it.

    GO ──▶ (CHECK …) ──▶ SPEC ──▶ events ──▶ RESULT ──▶ the process ends by itself
                           │
    cancel: SIGTERM, SIGKILL to its group after the grace       it ends without a RESULT: a Lost event

It descends from no process that holds a key, and has a session of its own, so a signal reaches what it has started.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from queue import Empty, SimpleQueue

from rivers_process import prctl
from rivers_process.cgroup import MemoryCgroup
from rivers_process.frames import FrameReader, write_frame
from rivers_worker import frames
from rivers_worker.body_process import BodyProcess, BodyStartError
from rivers_worker.clean_up.descendants import kill_descendants
from rivers_worker.exit_codes import Exit, write_outcome
from rivers_worker.journal import Journal
from rivers_worker.orphans import reap_until
from rivers_worker.reported_modules import modules_to_import
from rivers_worker.settings import ServeSettings
from rivers_worker.v1 import worker_pb2 as pb

__all__ = ["LINGER", "Problems", "Supervisor", "protect_this_process"]

DRAIN = 2.0
"""Seconds in which the last frames of an ended process are read."""
LINGER = 2.0
"""Seconds for the exit hooks of a body that has sent its result, when the server ends."""
MAX_GRACE = 1e6
MAX_TRACE = 32 << 10
SHORT_TRACE = 1500
"""Bytes of a native traceback in the stream, and in the termination message."""

Problems = list[tuple[int, str]]


class Supervisor:
    """The owner of one body's process; `code` is the exit code of its attempt once that has ended.

    `modules` are those that the next attempt's process may import, as this one reports. `keep` returns the children of
    this process that are no descendants of a body.
    """

    def __init__(
        self,
        settings: ServeSettings,
        body: BodyProcess,
        memory: MemoryCgroup,
        *,
        peak_before: int = 0,
        keep: Callable[[], Collection[int]] = tuple,
    ) -> None:
        self.code: int = Exit.DONE
        self.modules: tuple[str, ...] = ()
        self._settings = settings
        self._body = body
        self._process = body.process
        self._keep = keep
        self._attempt_id = ""
        self._journal: Journal | None = None
        self._restart: Callable[[], bool] = lambda: False
        self._is_taken = self._is_zombie = self._has_modules = False
        self._start_error = self._trace = self._survivors = ""
        self._has_started = self._is_cancelled = self._is_closing = self._is_lost = False
        self._detail = ""
        self._lock = threading.Lock()
        self._has_ended = False
        self._answers: dict[int, SimpleQueue[Problems | None]] = {}
        self._questions = 0
        self._kill_at = float("inf")
        self._timers: list[threading.Timer] = []
        self._begun = threading.Event()
        self._memory = memory
        self._oom_kills = memory.oom_kills()
        self._peak_before = peak_before
        self._outgoing: SimpleQueue[tuple[bytes, bytes] | None] = SimpleQueue()
        _thread("rivers-body-inbox", self._write)
        self._reader = _thread("rivers-body-events", self._read)
        self._waiter = _thread("rivers-body-end", self._wait)

    def go(self, modules: Sequence[str]) -> None:
        """Let the body's process import these modules, user code among them."""
        self._outgoing.put((frames.GO, json.dumps(modules).encode()))

    def check(self, specs: list[bytes], seconds: float) -> Problems | None:
        """Have the body's process resolve the refs of encoded specs; return position and cause of each problem.

        Return None if there is no answer in time: it imports user code first.
        """
        answer: SimpleQueue[Problems | None] = SimpleQueue()
        with self._lock:
            if self._has_ended:
                return _unknown(len(specs))
            self._questions += 1
            number = self._questions
            self._answers[number] = answer
        self._outgoing.put((frames.CHECK, json.dumps([number, [spec.hex() for spec in specs]]).encode()))
        try:
            found = answer.get(timeout=seconds)
        except Empty:
            return None
        finally:
            with self._lock:
                del self._answers[number]
        return _unknown(len(specs)) if found is None else found

    def wait_for_start(self) -> str:
        """Wait until the process exists; return the cause if there is none, else an empty text."""
        self._begun.wait()
        return self._start_error

    def execute(
        self, attempt_id: str, spec: bytes, pickle_key: bytes, journal: Journal, restart: Callable[[], bool]
    ) -> None:
        """Send the encoded spec of an attempt, and the key of the run's pickles; its events go to the journal.

        `restart` is called, and returns whether it has given the attempt to another process, if this one ends before
        it has taken the spec.
        """
        with self._lock:
            self._attempt_id, self._journal, self._restart = attempt_id, journal, restart
            ended = self._has_ended
        head = json.dumps({"attempt_id": attempt_id, "pickle_key": pickle_key.hex()}).encode()
        self._outgoing.put((frames.SPEC, len(head).to_bytes(4, "big") + head + spec))
        if ended and not restart():
            self._report_loss(journal)

    def cancel(self, grace: float) -> None:
        """Ask the body to stop, and kill it after `grace` seconds; of several calls the earliest end counts."""
        self._is_cancelled = True
        # To the body's process alone: its handler ends the body, which may want to end its own children in order.
        self._send(os.kill, signal.SIGTERM)
        grace = min(max(0.0, grace), MAX_GRACE)
        until = time.monotonic() + grace
        with self._lock:
            sooner, self._kill_at = until < self._kill_at, min(until, self._kill_at)
        if sooner:
            self._start_timer(grace, self.kill)

    def limit_imports(self, seconds: float) -> None:
        """Kill a process that has not taken its spec in `seconds`: it still imports an earlier attempt's modules."""
        self._start_timer(seconds, self._stop_imports)

    def kill(self) -> None:
        """Kill the body and everything in its process group."""
        self._send(os.killpg, signal.SIGKILL)

    def finish(self, seconds: float) -> str:
        """Wait for the process to end after its result, and kill it after `seconds`.

        Return the cause if the end was not a clean one, else an empty text.
        """
        self._waiter.join(seconds)
        if self._waiter.is_alive():
            has_ended = self._is_zombie
            self.kill()
            self._waiter.join(2 * DRAIN)
            if has_ended:
                return self._survivors
            return f"the process of attempt {self._attempt_id} did not end within {seconds:g} s of its result"
        code = self._process.returncode
        if code is None:
            return self._start_error
        if self._reader.is_alive():
            return f"the events of attempt {self._attempt_id} were not read to their end"
        if self._is_lost or code:
            how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            return f"the process of attempt {self._attempt_id} ended {how}" + " without a result" * self._is_lost
        kills = self._memory.oom_kills()
        if kills is not None and self._oom_kills is not None and kills > self._oom_kills:
            return f"the kernel killed {kills - self._oom_kills} process(es) for memory in attempt {self._attempt_id}"
        return ""

    def end(self) -> None:
        """Leave no process behind; events from now on are lost."""
        if self._journal is not None and self._journal.is_ended:
            self._waiter.join(LINGER)
        self._is_closing = True
        self.kill()
        self._waiter.join(2 * DRAIN)

    def _start_timer(self, seconds: float, action: Callable[[], None]) -> None:
        timer = threading.Timer(seconds, action)
        # The server may end before the timer: `end` kills what is left.
        timer.daemon = True
        timer.start()
        self._timers.append(timer)

    def _stop_imports(self) -> None:
        if not self._is_taken:
            sys.stderr.write(f"rivers-worker: gave up the imports for which attempt {self._attempt_id} waits\n")
            self.kill()

    def _send(self, send: Callable[[int, int], None], number: int) -> None:
        """Send a signal to the body or its group."""
        self._begun.wait()
        with self._lock, contextlib.suppress(ProcessLookupError, PermissionError):
            # Until it is waited for, the kernel gives its pid to no other process.
            if self._process.pid and self._process.returncode is None:
                send(self._process.pid, number)

    # ── threads ──

    def _write(self) -> None:
        """Write frames in a thread of its own: a body that imports for minutes does not read its pipe."""
        # EPIPE means that it has ended, which the thread that waits for it reports.
        with contextlib.suppress(OSError):
            while (frame := self._outgoing.get()) is not None:
                write_frame(self._body.inbox, *frame)
        os.close(self._body.inbox)

    def _read(self) -> None:
        try:
            reader = FrameReader(self._body.outbox, frames.MAX_PAYLOAD)
            while (frame := reader.next()) is not None:
                self._handle(*frame)
        except (ValueError, IndexError, TypeError, RecursionError) as error:
            # User code can write to any descriptor of its process, ours among them.
            self._detail = f"its process sent a frame that cannot be read: {type(error).__name__}: {error}"
            self.kill()
        os.close(self._body.outbox)

    def _handle(self, kind: bytes, payload: bytes) -> None:
        journal = self._journal
        if kind == frames.CHECKED:
            number, problems = json.loads(payload)
            with self._lock:
                if number in self._answers:
                    self._answers[number].put([(int(index), str(text)) for index, text in problems])
        elif journal is None:
            raise ValueError(f"a frame of kind {kind!r} before a spec")
        elif kind == frames.LOG:
            journal.add("step_event", payload, log=True)
        elif kind == frames.STARTED:
            self._has_started = True
            journal.add("step_event", payload)
        elif kind == frames.MODULES:
            # Its own one comes once, before the result.
            if self._has_modules or journal.is_ended:
                raise ValueError("modules that were reported before, or after the result")
            self._has_modules = True
            self.modules = modules_to_import(json.loads(payload), self._settings.allowed)
        elif kind == frames.RESULT:
            self._handle_result(payload, journal)
        elif kind == frames.TAKEN:
            self._is_taken = True
        else:
            raise ValueError(f"a frame of kind {kind!r}")

    def _handle_result(self, payload: bytes, journal: Journal) -> None:
        """Handle an exit code, a brief result that fits into the termination message, and the whole one."""
        # The termination message is written before the result is sent: the controller may delete the pod at once.
        code, length = payload[0], int.from_bytes(payload[1:5], "big")
        brief, whole = payload[5 : 5 + length], payload[5 + length :]
        self.code = code
        self._write_outcome(pb.Outcome(attempt_id=self._attempt_id, step_event=brief))
        journal.add("step_event", whole, last=True)

    def _wait(self) -> None:
        try:
            self._process.wait_for_start()
        except BodyStartError as error:
            self._detail = self._start_error = str(error)
        self._begun.set()
        if self._process.pid:
            reap_until(self._process.pid)
        self._is_zombie = True
        # The process is a zombie until `wait` below, so its group's id is not in use again.
        self.kill()
        # One that cannot be killed may hold the pipe open, so the reader may not see its end.
        kept = (*self._keep(), self._process.pid)
        self._survivors = kill_descendants(kept, time.monotonic() + DRAIN) or ""
        self._reader.join(DRAIN)
        # Starved of CPU time it may not have read TAKEN: no attempt is given to two processes for that.
        may_be_taken = self._reader.is_alive() or self._is_taken
        with self._lock:
            if self._process.pid:
                self._process.wait()
            # From here on another body may be started, which would be killed above.
            self._has_ended = True
            journal = self._journal
            for answer in self._answers.values():
                answer.put(None)
        for timer in self._timers:
            timer.cancel()
        self._outgoing.put(None)
        self._trace = _available(self._body.trace)
        os.close(self._body.trace)
        # A process that ended before it had taken the spec has run none of its code.
        is_lost = journal is not None and not (journal.is_ended or self._is_closing)
        if journal is not None and is_lost and (may_be_taken or self._is_cancelled or not self._restart()):
            self._report_loss(journal)

    def _report_loss(self, journal: Journal) -> None:
        self._is_lost = True
        lost = pb.Lost(started=self._has_started, cancelled=self._is_cancelled)
        status = self._process.returncode
        if status is not None and status < 0:
            lost.signal = -status
        elif status is not None:
            lost.exit_code = status
        # The kernel does not say whom it has killed for memory, only how many in the cgroup.
        before, after = self._oom_kills, self._memory.oom_kills()
        if before is not None and after is not None and after > before:
            lost.oom_kills = after - before
        # The kernel counts since the container's start: a peak that is as high as before may be another attempt's.
        if (peak := self._memory.peak()) is not None and peak > self._peak_before:
            lost.memory_peak = peak
        if (limit := self._memory.limit()) is not None:
            lost.memory_limit = limit
        if self._detail:
            lost.detail = self._detail
        brief = pb.Lost.FromString(lost.SerializeToString())
        if trace := self._trace:
            lost.native_traceback, brief.native_traceback = trace, trace[:SHORT_TRACE]
        self.code = Exit.FAILED
        self._write_outcome(pb.Outcome(attempt_id=self._attempt_id, lost=brief))
        journal.add("lost", lost.SerializeToString(), last=True)

    def _write_outcome(self, outcome: pb.Outcome) -> None:
        write_outcome(self._settings.termination_log, outcome)


def _unknown(count: int) -> Problems:
    text = "the worker's process for user code ended while it imported this or another one: see the worker's log"
    return [(index, text) for index in range(count)]


def _thread(name: str, target: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=target, name=name, daemon=True)
    thread.start()
    return thread


def protect_this_process() -> None:
    """Close this process's memory, which holds the key, to the body: it runs as the same user."""
    prctl.forbid_inspection()
    # As a subreaper it inherits daemons that the body has started, and can kill them.
    prctl.adopt_orphans()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _available(fd: int) -> str:
    os.set_blocking(fd, False)
    try:
        return os.read(fd, MAX_TRACE).decode(errors="replace")
    except OSError:
        return ""
