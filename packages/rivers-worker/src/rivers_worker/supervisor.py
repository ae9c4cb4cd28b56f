"""The body's process, as its server sees it: started at once, told what to do, outlived.

    start ──▶ GO ──▶ (CHECK …) ──▶ SPEC ──▶ events ──▶ RESULT ──▶ the process ends by itself
                                     │
             cancel: SIGTERM, SIGKILL to its group after the grace       it ends without a RESULT: a Lost event

It is started by exec and in a session of its own: it holds no key, and a signal for it reaches what it has started.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

from rivers_worker import frames
from rivers_worker.ending import Exit, leave_outcome
from rivers_worker.evidence import memory_limit, memory_peak, oom_kills
from rivers_worker.journal import Journal
from rivers_worker.settings import INTERNAL, Settings
from rivers_worker.v1 import worker_pb2 as pb

__all__ = ["Supervisor"]

PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 4, 36
DRAIN = 2.0
"""Seconds in which the last frames of a process that has ended are read; a grandchild may hold its pipe open."""
MOST_TRACE = 32 << 10
SHORT_TRACE = 1500
"""Bytes of a native traceback in the stream, and in the last words."""


class Supervisor:
    """Owns the body's process; `code` is the exit code that the attempt's end makes of the server's."""

    def __init__(self, settings: Settings, journal: Journal) -> None:
        self.code: int = Exit.DONE
        self._settings = settings
        self._journal = journal
        self._began = self._cancelled = False
        self._problems: list[tuple[int, str]] | None = None
        self._checked = threading.Event()
        self._write_lock = threading.Lock()
        self._timer: threading.Timer | None = None
        _protect_this_process()
        self._oom_kills = oom_kills()
        self._process, self._inbox, self._outbox, self._trace = _start(settings)
        self._reader = threading.Thread(target=self._read, name="rivers-body-events", daemon=True)
        self._reader.start()
        threading.Thread(target=self._wait, name="rivers-body-end", daemon=True).start()

    def go(self) -> None:
        """Let it import the user's code."""
        self._tell(frames.GO)

    def check(self, specs: list[bytes], seconds: float) -> list[tuple[int, str]]:
        """Have the refs of encoded specs looked up: position and what is wrong, for each that leads nowhere."""
        self._checked.clear()
        self._tell(frames.CHECK, json.dumps([spec.hex() for spec in specs]).encode())
        if not self._checked.wait(seconds) or self._problems is None:
            return [(0, "the worker's process for user code has ended or is stuck while importing: see its log")]
        return self._problems

    def execute(self, spec: bytes, pickle_key: bytes) -> None:
        """Hand over the encoded spec, and the key of the run's pickles."""
        self._tell(frames.SPEC, len(pickle_key).to_bytes(2, "big") + pickle_key + spec)

    def cancel(self, grace: float) -> None:
        """Ask the body to stop, and kill it after so many seconds; asked again, the earlier end counts."""
        self._cancelled = True
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        timer = threading.Timer(max(0.0, grace), self.kill)
        timer.daemon = True
        timer.start()
        self._timer = timer

    def kill(self) -> None:
        """End the body and everything in its group."""
        if self._process.returncode is None:  # until it is waited for, its number is nobody else's
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def end(self) -> None:
        """Leave no process behind: those that have left the body's group are this process's children by then."""
        self.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(DRAIN)
        for path in Path("/proc/self/task").glob("*/children"):
            for child in path.read_text().split():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(int(child), signal.SIGKILL)

    def _tell(self, kind: int, payload: bytes = b"") -> None:
        with self._write_lock, contextlib.suppress(OSError):  # its end is told by whoever waits for it
            frames.write_frame(self._inbox, kind, payload)

    # ── threads ──

    def _read(self) -> None:
        while (frame := frames.read_frame(self._outbox)) is not None:
            kind, payload = frame
            if kind == frames.LOG:
                self._journal.add("step_event", payload, log=True)
            elif kind == frames.STARTED:
                self._began = True
                self._journal.add("step_event", payload)
            elif kind == frames.CHECKED:
                self._problems = [(int(index), str(text)) for index, text in json.loads(payload)]
                self._checked.set()
            elif kind == frames.RESULT:
                self._take_result(payload)

    def _take_result(self, payload: bytes) -> None:
        """An exit code, a brief result that fits into the last words, and the whole one."""
        code, length = payload[0], int.from_bytes(payload[1:5], "big")
        brief, whole = payload[5 : 5 + length], payload[5 + length :]
        self.code = code
        outcome = pb.Outcome(attempt_id=self._settings.attempt_id, step_event=brief)
        leave_outcome(self._settings.termination_log, outcome)
        self._journal.add("step_event", whole, last=True)

    def _wait(self) -> None:
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)  # what it has left in its group
        self._reader.join(DRAIN)
        status = self._process.wait()
        if self._timer is not None:
            self._timer.cancel()
        self._checked.set()
        if not self._journal.ended:
            self._tell_loss(status)

    def _tell_loss(self, status: int) -> None:
        lost = pb.Lost(started=self._began, cancelled=self._cancelled)
        if status < 0:
            lost.signal = -status
        else:
            lost.exit_code = status
        before, after = self._oom_kills, oom_kills()
        if before is not None and after is not None and after > before:
            lost.oom_kills = after - before
        if (peak := memory_peak()) is not None:
            lost.memory_peak = peak
        if (limit := memory_limit()) is not None:
            lost.memory_limit = limit
        if trace := _available(self._trace):
            lost.native_traceback = trace
        self.code = Exit.FAILED
        brief = pb.Lost()
        brief.CopyFrom(lost)
        if trace:
            brief.native_traceback = trace[:SHORT_TRACE]
        leave_outcome(self._settings.termination_log, pb.Outcome(attempt_id=self._settings.attempt_id, lost=brief))
        self._journal.add("lost", lost.SerializeToString(), last=True)


def _protect_this_process() -> None:
    """Its memory holds the key, and a body has the same user: no ptrace, no /proc/…/mem, no core file."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_DUMPABLE, 0)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _start(settings: Settings) -> tuple[subprocess.Popen[bytes], int, int, int]:
    """The process, and our ends of its inbox, its outbox and the pipe for native tracebacks."""
    (to_body, inbox), (outbox, from_body), (trace, to_trace) = os.pipe(), os.pipe(), os.pipe()
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
        return os.read(fd, MOST_TRACE).decode(errors="replace")
    except OSError:
        return ""
