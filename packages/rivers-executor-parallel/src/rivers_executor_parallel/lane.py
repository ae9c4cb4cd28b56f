"""A lane, seen from the controller: one worker process, what was handed to it, and the pipes in between."""

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
from rivers_executor_parallel.wire import Page, RunSettings
from rivers_executor_parallel.worker import Settings, serve
from rivers_process.fork import close_in_children, keep_in_children
from rivers_process.frames import FrameReader
from rivers_process.processes import descendants, kill_processes

__all__ = ["DEPTH", "Lane", "Task"]

DEPTH = 8
"""Specs that a lane holds at most, the running one among them. A packet pipe takes 16 packets; half of it hides the
controller's latency behind steps of 30 µs and more."""

EXIT_CODE_PATIENCE = 1.0
"""Seconds for a dead worker's exit code to become known."""

ROUNDS = 5
"""How often what an ended worker has left is looked for: what has just been found may have started more."""


class Task:
    """One attempt on its way: `data` is its encoded spec, `seq` its number among all of this backend."""

    __slots__ = ("attempt_id", "cancelled", "data", "lane", "seq", "started")

    def __init__(self, attempt_id: str, seq: int, data: bytes) -> None:
        self.attempt_id = attempt_id
        self.seq = seq
        self.data = data
        self.lane: Lane | None = None
        self.started = False
        self.cancelled = False


class Lane:
    """One worker. `flight` holds what it was given and has not ended, in order: the first one runs, or is about to.

    `ready` is whether it has said hello, `served` whether it has told anything of an attempt, `leaving` whether it
    takes nothing any more, `sent_away` whether for being asked to; `kill_at` is when to kill it, `since` when the first
    of its flight got its turn.

    Raises:
        OSError: no process, pipe or memory can be had.
    """

    def __init__(self, settings: Settings) -> None:
        self.flight: deque[Task] = deque()
        self.run_id = ""
        self.ready = self.leaving = self.spare = self.served = self.sent_away = False
        self.kill_at: float | None = None
        self.last: StepResult | None = None
        self.boot = 0.0
        self.since = 0.0
        check_room()
        opened: list[int] = []
        try:
            taken, self._inbox = wire.open_inbox()
            opened += [taken, self._inbox]
            self.events, told = os.pipe2(os.O_CLOEXEC)
            opened += [self.events, told]
            self._page_descriptor = Page.make()
            opened.append(self._page_descriptor)
            self._crash = os.memfd_create("rivers-crash", os.MFD_CLOEXEC)
            opened.append(self._crash)
            # The worker gets copies; the read end of the inbox stays here as well, to take back what it has not read.
            self._unread = taken
            handed = [os.dup(taken), told, os.dup(self._page_descriptor), os.dup(self._crash)]
            opened.remove(told)
            os.set_blocking(self.events, False)
            self.page = Page(self._page_descriptor)
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
        state = "leaving" if self.leaving else "ready" if self.ready else "booting"
        return f"<Lane {self.pid} {state}, {len(self.flight)} in flight>"

    # ── work ──

    def begin(self, run: RunSettings, encoded: bytes) -> bool:
        """Tell the worker of the run, once; False when its inbox is full."""
        if self.run_id != run.run_id:
            if not self._put(wire.packet(0, wire.BEGIN_RUN, encoded)):
                return False
            self.run_id = run.run_id
        return True

    def end_run(self) -> None:
        """Ask the worker to end its run; it answers, or it leaves."""
        if not self._put(wire.packet(0, wire.END_RUN)):
            self.kill()

    def quit(self) -> None:
        """Ask the worker to leave once it has nothing to do."""
        self.leaving = self.sent_away = True
        if not self._put(wire.packet(0, wire.QUIT)):
            self.kill()

    def give(self, task: Task) -> bool:
        """Hand over an attempt; False when the worker has to read first."""
        if wire.fits(task.data):
            packet = wire.packet(task.seq, wire.SPEC, task.data)
        elif self.flight:
            return False  # there is room for one spec behind the page, and a spec is read when it is begun
        else:
            packet = wire.packet(task.seq, wire.LARGE_SPEC, self.page.put(task.data))
        if not self._put(packet):
            return False
        task.lane = self
        if not self.flight:
            self.since = time.monotonic()
        self.flight.append(task)
        return True

    def take_back(self, most: int) -> list[Task]:
        """What the worker has not read yet, in order; none of it has begun, or will here.

        At most `most`; everything where the worker has not even read what run it is.
        """
        taken: list[Task] = []
        while len(taken) < most:
            try:
                data = os.read(self._unread, wire.PACKET)
            except BlockingIOError:
                break
            seq, kind, _ = wire.parse(data)
            if kind in (wire.SPEC, wire.LARGE_SPEC):
                task = next(task for task in self.flight if task.seq == seq)
                self.flight.remove(task)
                task.lane = None
                taken.append(task)
            elif kind == wire.BEGIN_RUN:  # it came before all specs, and will again
                self.run_id, most = "", DEPTH
        return taken

    # ── the end ──

    def stop(self, task: Task) -> None:
        """Ask the worker to stop this attempt, and no other one."""
        self.page.unwanted = task.seq
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Kill the worker and what its bodies have started, also what has left the worker's process group."""
        started = descendants(self.pid)
        self.kill_group()
        kill_processes(started)

    def kill_rest(self) -> None:
        """Kill what an ended worker has left: an outsider may have killed it, and so have let go of all below it."""
        self.kill_group()
        for _ in range(ROUNDS):
            left = find_processes_of(self._name)
            if not left:
                return
            kill_processes(left)

    def kill_group(self) -> None:
        """Kill what is left of the worker's process group; its number is taken for as long as anything is."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def evidence(
        self, cancelled: bool, oom_kills: int | None, memory_limit: int | None, detail: str | None
    ) -> Evidence:
        """What can be seen of a worker that has ended."""
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
        """Let go of everything; only when the worker has ended."""
        keep_in_children(*self._descriptors, self.process.ended)
        self.page.close()
        self.process.close()
        for descriptor in self._descriptors:
            os.close(descriptor)

    @property
    def age(self) -> float:
        """Seconds since the worker was started."""
        return time.monotonic() - self.process.started

    def _put(self, packet: bytes) -> bool:
        try:
            os.write(self._inbox, packet)
        except BlockingIOError:
            return False
        return True
