"""The worker's side: one process, one runner, one spec after another, until it is told to go or has to.

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
from rivers_executor_parallel.wire import Inbox, Outbox, Page, RunSettings
from rivers_process import prctl
from rivers_process.exit import end_process, run_exit_hooks
from rivers_process.fork import close_in_children, dump_tracebacks, ignore_signal, set_signal
from rivers_process.processes import descendants, kill_processes

__all__ = ["Settings", "serve"]


class Settings(msgspec.Struct, frozen=True):
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


def serve(inbox: Connection, events: Connection, page: Connection, crash: Connection, settings: Settings) -> None:
    """Run what comes until the end; the target of a worker process."""
    _leave_the_family(settings)
    descriptors = [os.dup(connection.fileno()) for connection in (inbox, events, page, crash)]  # not inheritable
    for connection in (inbox, events, page, crash):
        connection.close()
    taken, told, shared, traces = descriptors
    _watch(taken)
    close_in_children(*descriptors)
    worker = Worker(Inbox(taken), Outbox(told), Page(shared), settings)
    set_signal(signal.SIGTERM, worker.asked_to_stop)
    # A hang in native code leaves its stack, too, when it is asked to stop.
    dump_tracebacks(signal.SIGTERM, traces)
    # Masks survive exec, and the thread that started this process may block what stops a body.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    try:
        worker.work()
    except (EOFError, BrokenPipeError):  # the controller is gone, and so is who would want to know
        os.killpg(0, signal.SIGKILL)
    _leave()


class Worker:
    """The loop over the inbox; `_spent` is whether it ends after what it does now."""

    def __init__(self, inbox: Inbox, outbox: Outbox, page: Page, settings: Settings) -> None:
        self._inbox = inbox
        self._outbox = outbox
        self._page = page
        self._settings = settings
        self._runner: Runner | None = None
        self._attempt_id = ""
        self._lazy = True
        self._spent = False
        self._code = LoadedCode()
        self._memory = MemoryGrowth(settings.memory_growth)

    def work(self) -> None:
        """Say hello, then do what the packets say."""
        self._outbox.write(wire.HELLO)
        for name in self._settings.modules:
            # A step that waits imports what it needs; what others need is imported while there is nothing to do.
            while self._inbox.holds_one() and not self._is_over():
                self._take()
            with contextlib.suppress(Exception, SystemExit):  # a step that needs it will tell
                importlib.import_module(name)
        while not self._is_over():
            self._take()
        self._end()
        self._outbox.write(wire.LEAVING)

    def _is_over(self) -> bool:
        return self._spent or self._memory.is_too_much()

    def _take(self) -> None:
        """Do what the next packet says."""
        seq, kind, payload = self._inbox.next()
        if kind == wire.SPEC:
            self._run(seq, payload)
        elif kind == wire.LARGE_SPEC:
            self._run(seq, self._page.take(payload))
        elif kind == wire.BEGIN_RUN:
            self._begin(msgspec.msgpack.decode(payload, type=RunSettings))
        elif kind == wire.END_RUN:
            self._end()
            self._spent = not _is_clean()
            if not self._spent:
                self._outbox.write(wire.RUN_ENDED)
        else:
            self._spent = True

    def asked_to_stop(self, number: int, frame: FrameType | None) -> None:
        """SIGTERM: stop the running attempt, if it is the one that is meant."""
        if self._runner is not None and self._page.unwanted == self._page.running != 0:
            self._spent = True  # what it has left behind goes with this process
            self._runner.stop(self._attempt_id)

    def _begin(self, run: RunSettings) -> None:
        self._end()
        if self._code.changed() is not None:  # it was imported for an earlier run, and is another one now
            self._spent = True
            return
        self._runner = Runner(
            self._emit,
            worker=f"pid {os.getpid()}",
            grace=run.grace,
            pickle_key=run.key,
            guard=True,
            owns_process=True,
        )

    def _end(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            for problem in runner.close():
                self._outbox.write(wire.WARNING, problem.encode(errors="replace")[: LIMITS.log])
        self._code.look()

    def _run(self, seq: int, data: bytes) -> None:
        assert self._runner is not None
        self._page.running = seq
        spec = decode_spec(data)
        self._attempt_id = spec.attempt_id
        # Its start is told where somebody listens or a timeout is to begin; else the page tells it, should this end.
        self._lazy = spec.timeout is None and not spec.logs.capture
        if self._page.unwanted == seq:
            self._runner.stop(spec.attempt_id)
        try:
            result = self._runner.run_step(spec)
        except KeyboardInterrupt as error:  # raised by the body itself; the run ends for it
            result = interrupted_result(spec.attempt_id, error, self._runner.worker)
        self._page.running = 0
        if result.failure is not None and result.failure.reason is FailureReason.OUT_OF_MEMORY:
            self._spent = True
        try:
            data = encode_event(result)
        except SpecDecodeError as error:
            data = encode_event(unsendable_result(spec.attempt_id, error, self._runner.worker))
        self._outbox.write(wire.LAST if self._spent else wire.EVENT, data)

    def _emit(self, event: StepEvent) -> None:
        if not (self._lazy and type(event) is StepStarted):
            self._outbox.write(wire.EVENT, encode_event(event))


def _leave_the_family(settings: Settings) -> None:
    """A group of its own, as Ctrl-C is the controller's; and an end when the controller ends, however it does."""
    os.setpgid(0, 0)
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


def _watch(inbox: int) -> None:
    """End with the controller also where the kernel does not see to it: its end of the inbox hangs up."""

    def wait() -> None:
        hung_up = select.poll()
        hung_up.register(inbox, 0)
        hung_up.poll()  # POLLHUP and POLLERR alone end it
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait, name="rivers-watch", daemon=True).start()


def _is_clean() -> bool:
    """Whether nothing of the steps is left in this process that would go on into the next run."""
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


def _leave() -> None:
    """End like an interpreter does, but wait for no thread that a body has left, and leave no process behind."""
    run_exit_hooks()
    if _has_children():  # those that have left the group are in reach for as long as this process lives
        kill_processes(descendants(os.getpid()))
    end_process()
