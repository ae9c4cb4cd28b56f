"""The thread that supervises the workers of a backend: starts them, reads their events, kills and reaps them."""

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
from rivers_executor_parallel.guard import ProcessGuard
from rivers_executor_parallel.handle import WorkerHandle
from rivers_executor_parallel.pool import WorkerPool
from rivers_executor_parallel.pool_id import find_processes_of
from rivers_executor_parallel.worker import WorkerSettings
from rivers_process.processes import kill_processes

__all__ = ["WorkerSupervisor"]

BOOT_DEADLINE = 60.0
"""Seconds for a worker to become ready; importing rivers takes 0.2 s on a quiet machine."""
SPARE_AFTER = 5.0
"""Seconds that workers have worked before a spare one is started: a short run does not pay for it."""
EXIT_DEADLINE = 5.0
"""Seconds for the workers to exit when the interpreter ends."""
PAUSE = 1.0
"""Seconds before the next try to start a worker, after the machine has refused one."""
IDLE = 300.0
"""Seconds without a run after which workers are dismissed; a later run starts new ones."""
LONGEST_WAIT = 30.0
"""Seconds between two looks at the clock, when nothing is due."""


class WorkerSupervisor:
    """Supervises the workers of `pool`, from a thread of its own.

    `settings` returns those of a new worker, `pool_id` is the name that all of them share.
    """

    def __init__(self, size: int, settings: Callable[[], WorkerSettings], pool_id: str) -> None:
        self.pool = WorkerPool(size, self.wake)
        self.guard: ProcessGuard | None = None
        self._settings = settings
        self._pool_id = pool_id
        self._folders: set[str] = set()
        self._try_again = 0.0
        self._is_stopping = self._is_stopped = False
        self._pid = os.getpid()
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wakeup, selectors.EVENT_READ, self._clear_wakeup)
        # The kernel kills a worker when the thread that has started it ends, so this one lives as long as they do.
        self._thread = threading.Thread(target=self._run, name="rivers-workers", daemon=True)

    def start(self) -> None:
        """Start the thread, and the guard that outlives it.

        Raises:
            RuntimeError: the machine refuses a thread.
        """
        self.guard = ProcessGuard(self._pool_id)
        try:
            self._thread.start()
        except BaseException:
            self._close()
            raise
        # Before multiprocessing waits for its children at the end of the interpreter, or of a process of its own.
        self._at_exit = multiprocessing.util.Finalize(None, self.stop, args=(EXIT_DEADLINE,), exitpriority=100)

    def watch_folders(self, folders: tuple[str, ...]) -> None:
        """Have these folders removed when this process is killed."""
        for folder in folders:
            if folder not in self._folders and self.guard is not None:
                self._folders.add(folder)
                self.guard.watch_folder(folder)

    def stop(self, deadline: float) -> None:
        """End all workers within `deadline` seconds, and the thread."""
        # A forked child of the controller has none of its workers.
        if os.getpid() != self._pid:
            return
        if self._is_stopped:
            return
        self._is_stopped = True
        self._at_exit.cancel()
        self.pool.shut_down(time.monotonic() + deadline)
        self._is_stopping = True
        self.wake()
        self._thread.join(deadline + 1.0)
        kill_processes(find_processes_of(self._pool_id))
        self._close()

    def _close(self) -> None:
        if self.guard is not None:
            self.guard.close()
        if not self._thread.is_alive():
            self._selector.close()
            os.close(self._wakeup)

    def wake(self) -> None:
        """Let the thread look again for workers to start and for timers."""
        os.eventfd_write(self._wakeup, 1)

    def _run(self) -> None:
        try:
            while not self._is_stopping:
                self._start_missing()
                self._kill_overdue()
                self._retire_idle()
                for key, _ in self._selector.select(self._timeout()):
                    # It may have been reaped in this very round.
                    if key.fd in self._selector.get_map():
                        key.data()
            self._end_rest()
        except BaseException as error:  # noqa: BLE001 - whatever it was, nobody waits for it in vain
            self.pool.fail(error)

    def _clear_wakeup(self) -> None:
        os.eventfd_read(self._wakeup)

    # ── starting ──

    def _start_missing(self) -> None:
        pool = self.pool
        while pool.missing > 0 and not pool.promote_spare():
            if time.monotonic() < self._try_again or not self._start(spare=False):
                return
        if self._needs_spare():
            self._start(spare=True)

    def _start(self, spare: bool) -> bool:
        try:
            worker = WorkerHandle(self._settings())
        except OSError as error:
            self._try_again = time.monotonic() + PAUSE
            self.pool.record_failed_start(error, _exceeded_limit(error))
            return False
        worker.is_spare = spare
        if self.guard is not None:
            self.guard.watch_group(worker.pid)
        self._selector.register(worker.events, selectors.EVENT_READ, lambda: self._read_events(worker))
        self._selector.register(worker.process.ended, selectors.EVENT_READ, lambda: self._reap(worker, None))
        self.pool.add(worker)
        return True

    def _needs_spare(self) -> bool:
        """Return whether all workers have been at work for a while and none is warm for the case of a kill."""
        pool = self.pool
        with pool.lock:
            if not pool.is_busy or any(worker.is_spare for worker in pool.workers) or len(pool.workers) < pool.size:
                return False
            return all(worker.is_ready and worker.age > SPARE_AFTER for worker in pool.workers)

    # ── reading ──

    def _read_events(self, worker: WorkerHandle) -> None:
        try:
            worker.frames.fill()
            for kind, payload in worker.frames.take():
                self._handle_frame(worker, kind, payload)
        except EOFError:
            # Its process ends, too, or a body has closed the pipe.
            self._selector.unregister(worker.events)
            self.pool.mark_leaving(worker)
        except (ValueError, SpecDecodeError) as error:
            worker.kill()
            self._reap(worker, f"it wrote what is no event: {error}")

    def _handle_frame(self, worker: WorkerHandle, kind: bytes, payload: bytes) -> None:
        if kind in (wire.EVENT, wire.LAST):
            self.pool.record_event(worker, decode_event(payload), kind == wire.LAST)
        elif kind == wire.WARNING:
            self.pool.warn(payload.decode(errors="replace"))
        elif kind == wire.READY:
            self.pool.mark_ready(worker)
        elif kind == wire.RUN_ENDED:
            self.pool.mark_run_ended(worker)
        elif kind == wire.LEAVING:
            self.pool.mark_leaving(worker)
        else:
            raise ValueError(f"a frame of kind {kind!r}")

    # ── ending ──

    def _reap(self, worker: WorkerHandle, why: str | None) -> None:
        """Read the last events of a worker that has ended or was just killed, and remove it."""
        for descriptor in (worker.events, worker.process.ended):
            with contextlib.suppress(KeyError):
                self._selector.unregister(descriptor)
        if why is None:
            with contextlib.suppress(EOFError):
                while worker.frames.fill():
                    try:
                        for kind, payload in worker.frames.take():
                            self._handle_frame(worker, kind, payload)
                    except (ValueError, SpecDecodeError) as error:
                        why = f"it wrote what is no event: {error}"
                        break
        self.pool.remove(worker, why)
        if self.guard is not None:
            self.guard.forget_group(worker.pid)

    def _end_rest(self) -> None:
        """End the workers that `WorkerPool.shut_down` has not seen, as they were just being started."""
        for worker in self.pool.workers[:]:
            worker.kill()
            worker.process.exit_code(1.0)
            self._reap(worker, None)

    def _kill_overdue(self) -> None:
        now = time.monotonic()
        for worker in self.pool.workers[:]:
            if worker.kill_at is not None and worker.kill_at <= now:
                worker.kill_at = None
                worker.kill()
            elif not worker.is_ready and worker.age > BOOT_DEADLINE:
                worker.kill()

    def _retire_idle(self) -> None:
        since = self.pool.idle_since
        if since is not None and time.monotonic() - since > IDLE:
            self.pool.retire()

    def _timeout(self) -> float:
        """Return the seconds until the next timer is due."""
        now = time.monotonic()
        due = [now + LONGEST_WAIT if self._try_again <= now else self._try_again]
        for worker in self.pool.workers[:]:
            if worker.kill_at is not None:
                due.append(worker.kill_at)
            if not worker.is_ready:
                due.append(worker.process.started + BOOT_DEADLINE)
            elif worker.age < SPARE_AFTER:
                due.append(worker.process.started + SPARE_AFTER)
        return max(0.0, min(due) - now) + 0.001


def _exceeded_limit(error: OSError) -> str:
    """Return the limit that a refusal of the kernel is about."""
    limits = {
        errno.EMFILE: "open files of this process (RLIMIT_NOFILE, ulimit -n)",
        errno.ENFILE: "open files of this machine (fs.file-max)",
        errno.EAGAIN: "processes of this user (RLIMIT_NPROC, ulimit -u) or of the cgroup (pids.max)",
        errno.ENOMEM: "memory",
    }
    return f"the limit is that of {limits.get(error.errno or 0, 'the system')}"
