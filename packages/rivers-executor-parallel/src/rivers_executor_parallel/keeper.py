"""The keeper: one thread per backend that starts its workers, hears what they tell, kills and buries them.

The kernel ends a worker with the thread that has started it, so this thread lives for as long as there are workers.
"""

from __future__ import annotations

import contextlib
import errno
import multiprocessing.util
import os
import selectors
import threading
import time
from collections.abc import Callable

from rivers.exceptions import SpecDecodeError
from rivers.protocol import decode_event
from rivers_executor_parallel import wire
from rivers_executor_parallel.guard import Guard
from rivers_executor_parallel.lane import Lane
from rivers_executor_parallel.lanes import Lanes
from rivers_executor_parallel.pool_id import find_processes_of
from rivers_executor_parallel.worker import Settings
from rivers_process.processes import kill_processes

__all__ = ["Keeper"]

BOOT_DEADLINE = 60.0
"""Seconds for a worker to say hello; importing rivers takes 0.2 s on a quiet machine."""
SPARE_AFTER = 5.0
"""Seconds that workers have worked before a spare one is started: a short run does not pay for it."""
EXIT_DEADLINE = 5.0
"""Seconds that workers get to leave when the interpreter ends."""
PAUSE = 1.0
"""Seconds before the next try to start one more worker, after the machine has refused one."""
IDLE = 300.0
"""Seconds without a run after which workers are let go; a later run starts new ones."""
LONGEST_WAIT = 30.0
"""Seconds between two looks at the clock, when nothing is due."""


class Keeper:
    """Keeps the workers of `lanes`; `settings` gives those of a new one, `family` is the name they share."""

    def __init__(self, most: int, settings: Callable[[], Settings], family: str) -> None:
        self.lanes = Lanes(most, self.nudge)
        self.guard: Guard | None = None
        self._settings = settings
        self._family = family
        self._folders: set[str] = set()
        self._try_again = 0.0
        self._stopping = self._over = False
        self._pid = os.getpid()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake, selectors.EVENT_READ, self._woken)
        self._thread = threading.Thread(target=self._work, name="rivers-lanes", daemon=True)

    def start(self) -> None:
        """Start the thread, and the guard that outlives it.

        Raises:
            RuntimeError: no thread can be had.
        """
        self.guard = Guard(self._family)
        try:
            self._thread.start()
        except BaseException:
            self._close()
            raise
        # Before multiprocessing waits for its children at the end of the interpreter, or of a process of its own.
        self._at_exit = multiprocessing.util.Finalize(None, self.stop, args=(EXIT_DEADLINE,), exitpriority=100)

    def watch_folders(self, folders: tuple[str, ...]) -> None:
        """Have these removed when this process is killed."""
        for folder in folders:
            if folder not in self._folders and self.guard is not None:
                self._folders.add(folder)
                self.guard.watch_folder(folder)

    def stop(self, deadline: float) -> None:
        """Let all workers go and end the thread."""
        if os.getpid() != self._pid:  # a forked child of the controller has none of its workers
            return
        if self._over:
            return
        self._over = True
        self._at_exit.cancel()
        self.lanes.quit(time.monotonic() + deadline)
        self._stopping = True
        self.nudge()
        self._thread.join(deadline + 1.0)
        kill_processes(find_processes_of(self._family))
        self._close()

    def _close(self) -> None:
        if self.guard is not None:
            self.guard.close()
        if not self._thread.is_alive():
            self._selector.close()
            os.close(self._wake)

    def nudge(self) -> None:
        """Let the thread look again at what is wanted and what is due."""
        os.eventfd_write(self._wake, 1)

    def _work(self) -> None:
        try:
            while not self._stopping:
                self._start_wanted()
                self._kill_overdue()
                self._let_idle_go()
                for key, _ in self._selector.select(self._patience()):
                    if key.fd in self._selector.get_map():  # it may have been buried in this very round
                        key.data()
        except BaseException as error:  # noqa: BLE001 - whatever it was, nobody waits for it in vain
            self.lanes.abandon(error)

    def _woken(self) -> None:
        os.eventfd_read(self._wake)

    # ── starting ──

    def _start_wanted(self) -> None:
        lanes = self.lanes
        while lanes.wanted > 0 and not lanes.promote_spare():
            if time.monotonic() < self._try_again or not self._start(spare=False):
                return
        if self._lacks_spare():
            self._start(spare=True)

    def _start(self, spare: bool) -> bool:
        try:
            lane = Lane(self._settings())
        except OSError as error:
            self._try_again = time.monotonic() + PAUSE
            self.lanes.not_started(error, _limit(error))
            return False
        lane.spare = spare
        if self.guard is not None:
            self.guard.watch_group(lane.pid)
        self._selector.register(lane.events, selectors.EVENT_READ, lambda: self._hear(lane))
        self._selector.register(lane.process.ended, selectors.EVENT_READ, lambda: self._bury(lane, None))
        self.lanes.add(lane)
        return True

    def _lacks_spare(self) -> bool:
        """One warm worker waits for a kill, once all lanes have been at work for a while."""
        lanes = self.lanes
        with lanes.lock:
            if not lanes.busy or any(lane.spare for lane in lanes.all) or len(lanes.all) < lanes.most:
                return False
            return all(lane.ready and lane.age > SPARE_AFTER for lane in lanes.all)

    # ── hearing ──

    def _hear(self, lane: Lane) -> None:
        try:
            lane.frames.fill()
            for kind, payload in lane.frames.take():
                self._heard(lane, kind, payload)
        except EOFError:
            self._selector.unregister(lane.events)  # its process ends, too, or a body has closed the pipe
            self.lanes.leaves(lane)
        except (ValueError, SpecDecodeError) as error:
            self._kill(lane, f"it told what is no event: {error}")

    def _heard(self, lane: Lane, kind: bytes, payload: bytes) -> None:
        if kind in (wire.EVENT, wire.LAST):
            self.lanes.told(lane, decode_event(payload), kind == wire.LAST)
        elif kind == wire.WARNING:
            self.lanes.warned(payload.decode(errors="replace"))
        elif kind == wire.HELLO:
            self.lanes.said_hello(lane)
        elif kind == wire.RUN_ENDED:
            self.lanes.ended_run(lane)
        elif kind == wire.LEAVING:
            self.lanes.leaves(lane)
        else:
            raise ValueError(f"a frame of kind {kind!r}")

    # ── ending ──

    def _kill(self, lane: Lane, why: str) -> None:
        lane.kill()
        self._bury(lane, why)

    def _bury(self, lane: Lane, why: str | None) -> None:
        """The process has ended or was just killed: take in the last it has told, then say what became of it."""
        for descriptor in (lane.events, lane.process.ended):
            with contextlib.suppress(KeyError):
                self._selector.unregister(descriptor)
        if why is None:
            with contextlib.suppress(EOFError):
                while lane.frames.fill():
                    try:
                        for kind, payload in lane.frames.take():
                            self._heard(lane, kind, payload)
                    except (ValueError, SpecDecodeError) as error:
                        why = f"it told what is no event: {error}"
                        break
        self.lanes.ended(lane, why)
        if self.guard is not None:
            self.guard.group_ended(lane.pid)

    def _kill_overdue(self) -> None:
        now = time.monotonic()
        for lane in self.lanes.all[:]:
            if lane.kill_at is not None and lane.kill_at <= now:
                lane.kill_at = None
                lane.kill()
            elif not lane.ready and lane.age > BOOT_DEADLINE:
                lane.kill()

    def _let_idle_go(self) -> None:
        since = self.lanes.idle_since
        if since is not None and time.monotonic() - since > IDLE:
            self.lanes.retire()

    def _patience(self) -> float:
        now = time.monotonic()
        due = [now + LONGEST_WAIT if self._try_again <= now else self._try_again]
        for lane in self.lanes.all[:]:
            if lane.kill_at is not None:
                due.append(lane.kill_at)
            if not lane.ready:
                due.append(lane.process.started + BOOT_DEADLINE)
            elif lane.age < SPARE_AFTER:
                due.append(lane.process.started + SPARE_AFTER)
        return max(0.0, min(due) - now) + 0.001


def _limit(error: OSError) -> str:
    """The limit that a refusal of the kernel is about."""
    limits = {
        errno.EMFILE: "open files of this process (RLIMIT_NOFILE, ulimit -n)",
        errno.ENFILE: "open files of this machine (fs.file-max)",
        errno.EAGAIN: "processes of this user (RLIMIT_NPROC, ulimit -u) or of the cgroup (pids.max)",
        errno.ENOMEM: "memory",
    }
    return f"the limit is that of {limits.get(error.errno or 0, 'the system')}"
