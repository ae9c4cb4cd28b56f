"""The worker process: runs one spec after another until it is dismissed.

inbox ──▶ decode ──▶ Runner.run_step ──▶ outbox          in the main thread, where signals can stop a body
                                          ▲
                     what it prints ──────┘
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import select
import signal
import sys
import threading
from multiprocessing.connection import Connection
from types import FrameType

import msgspec

from rivers.exceptions import SpecDecodeError
from rivers.protocol import (
    LIMITS,
    FailureReason,
    StepEvent,
    StepStarted,
    decode_spec,
    encode_event,
)
from rivers.spi import Runner, interrupted_result, unsendable_result
from rivers_executor_parallel import wire
from rivers_executor_parallel.code import LoadedCode
from rivers_executor_parallel.memory import MemoryGrowth
from rivers_executor_parallel.wire import Inbox, Outbox, RunParameters, SharedPage
from rivers_process import prctl
from rivers_process.exit import end_process, run_exit_hooks
from rivers_process.fork import close_in_children, dump_tracebacks, ignore_signal, set_signal
from rivers_process.processes import descendants, kill_processes

__all__ = ["WorkerSettings", "serve"]


class WorkerSettings(msgspec.Struct, frozen=True):
    """The settings of a worker for its life.

    `controller` is a process id; `modules` are imported while there is nothing to do; a worker whose own memory has
    grown by `memory_growth` bytes since its first step is replaced.
    """

    controller: int
    cwd: str
    path: list[str]
    env: dict[str, str]
    modules: list[str]
    memory_growth: int = 1 << 30


def serve(inbox: Connection, events: Connection, page: Connection, crash: Connection, settings: WorkerSettings) -> None:
    """Run the specs of the inbox; the target of a worker process."""
    _detach(settings)
    # Those of loky are inheritable, and a program that a body starts must not hold them.
    descriptors = [os.dup(connection.fileno()) for connection in (inbox, events, page, crash)]
    for connection in (inbox, events, page, crash):
        connection.close()
    inbox_fd, events_fd, page_fd, crash_fd = descriptors
    _watch_controller(inbox_fd)
    close_in_children(*descriptors)
    worker = Worker(Inbox(inbox_fd), Outbox(events_fd), SharedPage(page_fd), settings)
    set_signal(signal.SIGTERM, worker.handle_sigterm)
    # A hang in native code leaves its stack, too, when it is asked to stop.
    dump_tracebacks(signal.SIGTERM, crash_fd)
    # Masks survive exec, and the thread that started this process may block what stops a body.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    try:
        worker.work()
    except (EOFError, BrokenPipeError):  # the controller is gone
        os.killpg(0, signal.SIGKILL)
    _exit()


class Worker:
    """The loop over the inbox; with `_is_is_spent` the process exits after what it does now."""

    def __init__(self, inbox: Inbox, outbox: Outbox, page: SharedPage, settings: WorkerSettings) -> None:
        self._inbox = inbox
        self._outbox = outbox
        self._page = page
        self._settings = settings
        self._runner: Runner | None = None
        self._held: tuple[int, bytes] | None = None
        self._attempt_id = ""
        self._skips_start = True
        self._is_spent = False
        self._code = LoadedCode()
        self._memory = MemoryGrowth(settings.memory_growth)

    def work(self) -> None:
        """Announce that the worker is ready, then handle packets until it is dismissed or spent."""
        self._outbox.write(wire.READY)
        for name in self._settings.modules:
            # A step that waits imports what it needs; what others need is imported while there is nothing to do.
            while self._inbox.has_packet() and not self._is_over():
                self._handle_packet()
            with contextlib.suppress(Exception, SystemExit):  # a step that needs it reports the error
                importlib.import_module(name)
        while not self._is_over():
            self._handle_packet()
        self._end_run()
        self._outbox.write(wire.LEAVING)

    def _is_over(self) -> bool:
        return self._is_spent or self._memory.exceeds_limit()

    def _handle_packet(self) -> None:
        seq, kind, payload = self._inbox.next()
        if kind == wire.SPEC:
            self._run(seq, payload)
        elif kind == wire.LARGE_SPEC:
            self._run(seq, self._page.read_spec(payload))
        elif kind == wire.BEGIN_RUN:
            self._begin_run(msgspec.msgpack.decode(payload, type=RunParameters))
        elif kind == wire.END_RUN:
            self._end_run()
            self._is_spent = not _is_clean()
            if not self._is_spent:
                self._outbox.write(wire.RUN_ENDED)
        else:
            self._is_spent = True

    def handle_sigterm(self, number: int, frame: FrameType | None) -> None:
        """Stop the running attempt, if it is the cancelled one."""
        if self._runner is not None and self._page.cancelled_seq == self._page.running_seq != 0:
            self._is_spent = True  # what it leaves behind ends with this process
            self._runner.stop(self._attempt_id)

    def _begin_run(self, run: RunParameters) -> None:
        self._end_run()
        if self._code.find_changed() is not None:  # it was imported for an earlier run, and is another one now
            self._is_spent = True
            return
        self._runner = Runner(
            self._emit,
            worker=f"pid {os.getpid()}",
            grace=run.grace,
            pickle_key=run.key,
            guard=True,
            owns_process=True,
        )
        if self._held is not None:
            held, self._held = self._held, None
            self._run(*held)

    def _end_run(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            for problem in runner.close():
                self._outbox.write(wire.WARNING, problem.encode(errors="replace")[: LIMITS.log])
        self._code.record()

    def _run(self, seq: int, data: bytes) -> None:
        if self._runner is None:
            # The controller took the packet of the run back, and this one was read before it could follow. It sends
            # the run again.
            self._held = seq, data
            return
        self._page.running_seq = seq
        spec = decode_spec(data)
        self._attempt_id = spec.attempt_id
        # Its start is an event where somebody listens or a timeout begins. Else the page shows it, should this end.
        self._skips_start = spec.timeout is None and not spec.logs.capture
        if self._page.cancelled_seq == seq:
            self._runner.stop(spec.attempt_id)
        try:
            result = self._runner.run_step(spec)
        except KeyboardInterrupt as error:  # raised by the body itself; the run ends for it
            result = interrupted_result(spec.attempt_id, error, self._runner.worker)
        self._page.running_seq = 0
        if result.failure is not None and result.failure.reason is FailureReason.OUT_OF_MEMORY:
            self._is_spent = True
        try:
            data = encode_event(result)
        except SpecDecodeError as error:
            data = encode_event(unsendable_result(spec.attempt_id, error, self._runner.worker))
        self._outbox.write(wire.LAST if self._is_spent else wire.EVENT, data)

    def _emit(self, event: StepEvent) -> None:
        if not (self._skips_start and type(event) is StepStarted):
            self._outbox.write(wire.EVENT, encode_event(event))


def _detach(settings: WorkerSettings) -> None:
    """Give this process a group, environment and path of its own, and tie its life to the controller's."""
    os.setpgid(0, 0)  # Ctrl-C at the terminal is for the controller alone
    ignore_signal(signal.SIGINT)
    prctl.adopt_orphans()  # what daemonizes itself in a body stays in reach of a kill
    if not prctl.die_with_parent(settings.controller):
        os._exit(0)
    multiprocessing.current_process().daemon = False
    multiprocessing.set_start_method(None, force=True)  # loky's own, which a pool of a body could not start
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.environ.clear()
    os.environ.update(settings.env)
    sys.path[:] = settings.path
    with contextlib.suppress(OSError):
        os.chdir(settings.cwd)


def _watch_controller(inbox: int) -> None:
    """Kill this process's group when the controller's end of the inbox hangs up."""
    # The kernel does that with the thread that has started a worker; a sandbox's kernel may not.

    def wait() -> None:
        hung_up = select.poll()
        hung_up.register(inbox, 0)
        hung_up.poll()  # POLLHUP and POLLERR alone end it
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait, name="rivers-watch", daemon=True).start()


def _is_clean() -> bool:
    """Return whether no thread and no process of a body is left that would go on into the next run."""
    if _has_children():
        return False
    own = ("MainThread", "rivers-watch", "rivers-output")
    return all(
        (thread.daemon and thread.name in own) or thread.name == "MainThread" for thread in threading.enumerate()
    )


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _exit() -> None:
    """Exit as the interpreter does, but wait for no thread of a body, and leave no process behind."""
    run_exit_hooks()
    if _has_children():  # those that have left the group are in reach as long as this process lives
        kill_processes(descendants(os.getpid()))
    end_process()
