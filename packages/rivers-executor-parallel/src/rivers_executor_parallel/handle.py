"""The controller's side of one worker process: its pipes, and the attempts that it was assigned."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import deque

from rivers.protocol import LIMITS, Evidence, StepResult
from rivers_executor_parallel import wire
from rivers_executor_parallel.pool_id import VARIABLE, find_processes_of
from rivers_executor_parallel.process import WorkerProcess, check_room
from rivers_executor_parallel.wire import RunParameters, SharedPage
from rivers_executor_parallel.worker import WorkerSettings, serve
from rivers_process.fork import close_in_children, keep_in_children
from rivers_process.frames import FrameReader
from rivers_process.processes import descendants, kill_processes

__all__ = ["DEPTH", "Assignment", "WorkerHandle"]

# A pipe in packet mode takes 16 packets; half of it hides the controller's latency behind steps of 30 µs and more.
DEPTH = 8
"""Attempts that a worker is assigned at most, the running one among them."""

EXIT_CODE_PATIENCE = 1.0
"""Seconds for a dead worker's exit code to become known."""

ROUNDS = 5
"""Searches for what an ended worker has left: a process that was just found may have started more."""


class Assignment:
    """An attempt for a worker: `data` is its encoded spec, `seq` its number among all of this backend."""

    __slots__ = ("attempt_id", "data", "is_cancelled", "is_started", "seq", "worker")

    def __init__(self, attempt_id: str, seq: int, data: bytes) -> None:
        self.attempt_id = attempt_id
        self.seq = seq
        self.data = data
        self.worker: WorkerHandle | None = None
        self.is_started = False
        self.is_cancelled = False


class WorkerHandle:
    """A worker process as its controller sees it.

    `assigned` holds the attempts that it was given and that have not ended, in order; the first one runs, or is about
    to since `turn_began`. `is_ready`: it can read specs. `has_reported`: it has reported an event. `is_leaving`: it
    takes no further attempt. `was_dismissed`: it leaves as it was asked to. `kill_at` is a time of `time.monotonic()`.

    Raises:
        OSError: the machine refuses a process, a pipe or memory.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self.assigned: deque[Assignment] = deque()
        self.run_id = ""
        self._sent_run = ("", b"")
        self.is_ready = self.is_leaving = self.is_spare = self.has_reported = self.was_dismissed = False
        self.kill_at: float | None = None
        self.last_result: StepResult | None = None
        self.boot_seconds = 0.0
        self.turn_began = 0.0
        check_room()
        opened: list[int] = []
        try:
            # The worker gets copies. The read end of the inbox stays open here as well, to take back unread specs.
            self._unread, self._inbox = wire.open_inbox()
            opened += [self._unread, self._inbox]
            self.events, outbox = os.pipe2(os.O_CLOEXEC)
            opened += [self.events, outbox]
            self._page_descriptor = SharedPage.create()
            opened.append(self._page_descriptor)
            self._crash = os.memfd_create("rivers-crash", os.MFD_CLOEXEC)
            opened.append(self._crash)
            handed = [os.dup(self._unread), outbox, os.dup(self._page_descriptor), os.dup(self._crash)]
            opened.remove(outbox)
            os.set_blocking(self.events, False)
            self.page = SharedPage(self._page_descriptor)
            self.process = WorkerProcess(serve, handed, settings, settings.env)
        except BaseException:
            for descriptor in opened:
                os.close(descriptor)
            raise
        self._descriptors = (self._inbox, self._unread, self.events, self._page_descriptor, self._crash)
        close_in_children(*self._descriptors, self.process.ended)
        self.frames = FrameReader(self.events, LIMITS.size)
        self.pid = self.process.pid
        self._name = settings.env[VARIABLE]

    def __repr__(self) -> str:
        state = "leaving" if self.is_leaving else "ready" if self.is_ready else "booting"
        return f"<WorkerHandle {self.pid} {state}, {len(self.assigned)} assigned>"

    # ── work ──

    def begin_run(self, run: RunParameters, encoded: bytes) -> bool:
        """Announce the run to the worker, once; return False when its inbox is full."""
        if self.run_id != run.run_id:
            packet = wire.encode_packet(0, wire.BEGIN_RUN, encoded)
            if not self._send(packet):
                return False
            self.run_id, self._sent_run = run.run_id, (run.run_id, packet)
        return True

    def request_run_end(self) -> None:
        """Ask the worker to end its run; it confirms, or it leaves."""
        if not self._send(wire.encode_packet(0, wire.END_RUN)):
            self.kill()

    def dismiss(self) -> None:
        """Ask the worker to exit once it is idle."""
        self.is_leaving = self.was_dismissed = True
        if not self._send(wire.encode_packet(0, wire.QUIT)):
            self.kill()

    def assign(self, assignment: Assignment) -> bool:
        """Send an attempt to the worker; return False when the worker has to read first."""
        if wire.fits_packet(assignment.data):
            packet = wire.encode_packet(assignment.seq, wire.SPEC, assignment.data)
        elif self.assigned:
            # The page has room for one spec, which the worker reads when it begins it.
            return False
        else:
            packet = wire.encode_packet(assignment.seq, wire.LARGE_SPEC, self.page.write_spec(assignment.data))
        if not self._send(packet):
            return False
        assignment.worker = self
        if not self.assigned:
            self.turn_began = time.monotonic()
        self.assigned.append(assignment)
        return True

    def take_back(self, most: int) -> list[Assignment]:
        """Return up to `most` attempts that the worker has not read yet, in order; it will not run them.

        All of them where it has not even read which run they belong to.
        """
        taken: list[Assignment] = []
        while len(taken) < most:
            try:
                data = os.read(self._unread, wire.PACKET)
            except BlockingIOError:
                break
            seq, kind, _ = wire.decode_packet(data)
            if kind in (wire.SPEC, wire.LARGE_SPEC):
                assignment = next(assignment for assignment in self.assigned if assignment.seq == seq)
                self.assigned.remove(assignment)
                assignment.worker = None
                taken.append(assignment)
            elif kind == wire.BEGIN_RUN:
                # It is sent before all specs of a run, and will be again.
                self.run_id, most = "", DEPTH
        # The worker may have read an attempt right after its run's packet was taken here: it waits for that packet.
        run_id, packet = self._sent_run
        if self.assigned and not self.run_id and self._send(packet):
            self.run_id = run_id
        return taken

    # ── the end ──

    def interrupt(self, assignment: Assignment) -> None:
        """Ask the worker to stop this attempt, and no other one."""
        self.page.cancelled_seq = assignment.seq
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Kill the worker and what its bodies have started, also outside of the worker's process group."""
        started = descendants(self.pid)
        self.kill_group()
        kill_processes(started)

    def kill_leftovers(self) -> None:
        """Kill what an ended worker has left running."""
        # Somebody else may have killed the worker: then its children have other parents, and only the mark in their
        # environment leads to those outside of its group.
        self.kill_group()
        for _ in range(ROUNDS):
            left = find_processes_of(self._name)
            if not left:
                return
            kill_processes(left)

    def kill_group(self) -> None:
        """Kill the worker's process group."""
        # The number of a group is taken for as long as any process of it lives: it cannot be another's by now.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def collect_evidence(
        self, cancelled: bool, oom_kills: int | None, memory_limit: int | None, detail: str | None
    ) -> Evidence:
        """Return what the kernel and the crash file show of a worker that has ended."""
        code = self.process.exit_code(EXIT_CODE_PATIENCE)
        killed = code == -signal.SIGKILL
        return Evidence(
            exit_code=code if code is not None and code >= 0 else None,
            signal=-code if code is not None and code < 0 else None,
            worker=f"pid {self.pid}",
            cancelled=cancelled,
            oom_kills=oom_kills if killed else None,
            memory_limit=memory_limit if killed and oom_kills else None,
            detail=detail,
            native_traceback=os.pread(self._crash, LIMITS.traceback // 4, 0).decode(errors="replace") or None,
        )

    def close(self) -> None:
        """Close all descriptors of a worker that has ended."""
        keep_in_children(*self._descriptors, self.process.ended)
        self.page.close()
        self.process.close()
        for descriptor in self._descriptors:
            os.close(descriptor)

    @property
    def age(self) -> float:
        """Seconds since the worker was started."""
        return time.monotonic() - self.process.started

    def _send(self, packet: bytes) -> bool:
        try:
            os.write(self._inbox, packet)
        except BlockingIOError:
            return False
        return True
