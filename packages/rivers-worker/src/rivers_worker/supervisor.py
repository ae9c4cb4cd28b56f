"""Supervise the body's process for the server: start it, send it work, read its events, reap it.

    start ──▶ GO ──▶ (CHECK …) ──▶ SPEC ──▶ events ──▶ RESULT ──▶ the process ends by itself
                                     │
             cancel: SIGTERM, SIGKILL to its group after the grace       it ends without a RESULT: a Lost event

It is started by exec, so it holds no key, and in a session of its own, so a signal reaches what it has started.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

from rivers_process import prctl
from rivers_process.cgroup import MemoryCgroup
from rivers_process.frames import FrameReader, write_frame
from rivers_worker import frames
from rivers_worker.exit_codes import Exit, write_outcome
from rivers_worker.journal import Journal
from rivers_worker.orphans import kill_children, reap_until
from rivers_worker.settings import INTERNAL, ServeSettings
from rivers_worker.v1 import worker_pb2 as pb

__all__ = ["Supervisor"]

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
    """The owner of the body's process; `code` is the server's exit code once the attempt has ended."""

    def __init__(self, settings: ServeSettings, journal: Journal) -> None:
        self.code: int = Exit.DONE
        self._settings = settings
        self._journal = journal
        self._has_started = self._is_cancelled = self._is_closing = False
        self._detail = ""
        self._lock = threading.Lock()
        self._has_ended = False
        self._answers: dict[int, SimpleQueue[Problems | None]] = {}
        self._questions = 0
        self._kill_at = float("inf")
        _protect_this_process()
        self._memory = MemoryCgroup()
        self._oom_kills = self._memory.oom_kills()
        self._process, self._inbox, self._outbox, self._trace = _start(settings)
        self._outgoing: SimpleQueue[tuple[bytes, bytes]] = SimpleQueue()
        _thread("rivers-body-inbox", self._write)
        self._reader = _thread("rivers-body-events", self._read)
        self._waiter = _thread("rivers-body-end", self._wait)

    def go(self) -> None:
        """Let the body's process import the user's code."""
        self._outgoing.put((frames.GO, b""))

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

    def execute(self, spec: bytes, pickle_key: bytes) -> None:
        """Send the encoded spec, and the key of the run's pickles."""
        self._outgoing.put((frames.SPEC, len(pickle_key).to_bytes(4, "big") + pickle_key + spec))

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
            timer = threading.Timer(grace, self.kill)
            # The server may end before the timer: `end` kills what is left.
            timer.daemon = True
            timer.start()

    def kill(self) -> None:
        """Kill the body and everything in its process group."""
        self._send(os.killpg, signal.SIGKILL)

    def end(self) -> None:
        """Leave no process behind; events from now on are lost."""
        if self._journal.is_ended:
            self._waiter.join(LINGER)
        self._is_closing = True
        self.kill()
        self._waiter.join(2 * DRAIN)

    def _send(self, send: Callable[[int, int], None], number: int) -> None:
        """Send a signal to the body or its group."""
        with self._lock, contextlib.suppress(ProcessLookupError, PermissionError):
            # Until it is waited for, the kernel gives its pid to no other process.
            if self._process.returncode is None:
                send(self._process.pid, number)

    # ── threads ──

    def _write(self) -> None:
        """Write frames in a thread of its own: a body that imports for minutes does not read its pipe."""
        # EPIPE means that it has ended, which the thread that waits for it reports.
        with contextlib.suppress(OSError):
            while True:
                write_frame(self._inbox, *self._outgoing.get())

    def _read(self) -> None:
        try:
            reader = FrameReader(self._outbox, frames.MAX_PAYLOAD)
            while (frame := reader.next()) is not None:
                self._handle(*frame)
        except (ValueError, IndexError, TypeError) as error:
            # User code can write to any descriptor of its process, ours among them.
            self._detail = f"its process sent a frame that cannot be read: {type(error).__name__}: {error}"
            self.kill()

    def _handle(self, kind: bytes, payload: bytes) -> None:
        if kind == frames.LOG:
            self._journal.add("step_event", payload, log=True)
        elif kind == frames.STARTED:
            self._has_started = True
            self._journal.add("step_event", payload)
        elif kind == frames.CHECKED:
            number, problems = json.loads(payload)
            with self._lock:
                if number in self._answers:
                    self._answers[number].put([(int(index), str(text)) for index, text in problems])
        elif kind == frames.RESULT:
            self._handle_result(payload)
        else:
            raise ValueError(f"a frame of kind {kind!r}")

    def _handle_result(self, payload: bytes) -> None:
        """Handle an exit code, a brief result that fits into the termination message, and the whole one."""
        # The termination message is written before the result is sent: the controller may delete the pod at once.
        code, length = payload[0], int.from_bytes(payload[1:5], "big")
        brief, whole = payload[5 : 5 + length], payload[5 + length :]
        self.code = code
        self._write_outcome(pb.Outcome(attempt_id=self._settings.attempt_id, step_event=brief))
        self._journal.add("step_event", whole, last=True)

    def _wait(self) -> None:
        reap_until(self._process.pid)
        # The process is a zombie until `wait` below, so its group's id is not in use again.
        self.kill()
        # A process that it left behind may hold the pipe open, so the reader may not see its end.
        self._reader.join(DRAIN)
        with self._lock:
            status = self._process.wait()
            self._has_ended = True
            for answer in self._answers.values():
                answer.put(None)
        kill_children(DRAIN)
        if not (self._journal.is_ended or self._is_closing):
            self._report_loss(status)

    def _report_loss(self, status: int) -> None:
        lost = pb.Lost(started=self._has_started, cancelled=self._is_cancelled)
        if status < 0:
            lost.signal = -status
        else:
            lost.exit_code = status
        # The kernel does not say whom it has killed for memory, only how many in the cgroup.
        before, after = self._oom_kills, self._memory.oom_kills()
        if before is not None and after is not None and after > before:
            lost.oom_kills = after - before
        if (peak := self._memory.peak()) is not None:
            lost.memory_peak = peak
        if (limit := self._memory.limit()) is not None:
            lost.memory_limit = limit
        if self._detail:
            lost.detail = self._detail
        brief = pb.Lost.FromString(lost.SerializeToString())
        if trace := _available(self._trace):
            lost.native_traceback, brief.native_traceback = trace, trace[:SHORT_TRACE]
        self.code = Exit.FAILED
        self._write_outcome(pb.Outcome(attempt_id=self._settings.attempt_id, lost=brief))
        self._journal.add("lost", lost.SerializeToString(), last=True)

    def _write_outcome(self, outcome: pb.Outcome) -> None:
        write_outcome(self._settings.termination_log, outcome)


def _unknown(count: int) -> Problems:
    text = "the worker's process for user code ended while it imported this or another one: see the worker's log"
    return [(index, text) for index in range(count)]


def _thread(name: str, target: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=target, name=name, daemon=True)
    thread.start()
    return thread


def _protect_this_process() -> None:
    """Close this process's memory, which holds the key, to the body: it runs as the same user."""
    prctl.forbid_inspection()
    # As a subreaper it inherits daemons that the body has started, and can kill them.
    prctl.adopt_orphans()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _start(settings: ServeSettings) -> tuple[subprocess.Popen[bytes], int, int, int]:
    """Start the process; return it and this side's ends of its inbox, its outbox and the pipe for native tracebacks."""
    (to_body, inbox), (outbox, from_body), (trace, to_trace) = os.pipe(), os.pipe(), os.pipe()
    # Nobody reads this pipe before the end: faulthandler must not wait for room in it while the process crashes.
    os.set_blocking(to_trace, False)
    own = {
        "parent": os.getpid(),
        "attempt_id": settings.attempt_id,
        "worker": settings.worker,
        "grace": settings.grace,
        "modules": settings.modules,
        "allowed": settings.allowed,
        "allow_pickle": settings.allow_pickle,
    }
    theirs = (to_body, from_body, to_trace)
    command = [sys.executable, "-m", "rivers_worker.body", json.dumps(own), *map(str, theirs)]
    process = subprocess.Popen(  # noqa: S603 - this interpreter, a module of ours
        command,
        stdin=subprocess.DEVNULL,
        env={name: value for name, value in os.environ.items() if name not in INTERNAL},
        pass_fds=theirs,
        start_new_session=True,
    )
    for fd in theirs:
        os.close(fd)
    return process, inbox, outbox, trace


def _available(fd: int) -> str:
    os.set_blocking(fd, False)
    try:
        return os.read(fd, MAX_TRACE).decode(errors="replace")
    except OSError:
        return ""
