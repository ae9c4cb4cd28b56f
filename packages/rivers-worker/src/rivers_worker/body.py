"""Run the body of one attempt: `python -m rivers_worker.body`, started by the server only, or a fork server's fork.

It imports rivers while the server starts, and the user's modules once the worker has announced itself, so that no user
code can print a line before the announcement. Then it runs one spec, sends its events, and ends.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

import msgspec
from msgspec.structs import replace

from rivers.exceptions import RiversError, SpecDecodeError
from rivers.protocol import (
    ConfiguredRef,
    Ending,
    ImportRef,
    LogRecord,
    NodeKind,
    Ref,
    StepEvent,
    StepResult,
    StepSpec,
    StepStarted,
    describe_exception,
    without_values,
)
from rivers.protocol.protobuf import decode_spec_protobuf, encode_event_protobuf
from rivers.spi import Runner, interrupted_result, unsendable_result, warning_record
from rivers_process import prctl
from rivers_process.exit import end_process
from rivers_process.fork import close_in_children, dump_tracebacks, ignore_signal, set_signal
from rivers_process.frames import FrameReader, write_frame
from rivers_worker import frames
from rivers_worker.exit_codes import Exit

__all__ = ["Body", "BodySettings", "main", "run_body"]

MAX_BRIEF = 2900
"""Bytes of a result that fits into the termination message, in base64 and with its frame."""
PIECE = select.PIPE_BUF
"""Bytes that a pipe takes at once if it takes any."""


class BodySettings(msgspec.Struct, frozen=True):
    """The settings that the supervisor passes on; `parent` is its process id."""

    parent: int
    worker: str
    grace: float
    allowed: tuple[str, ...]
    allow_pickle: bool


class Body:
    """The loop over the inbox, and the one attempt."""

    def __init__(self, settings: BodySettings, inbox: int, outbox: int) -> None:
        self._settings = settings
        self._inbox = FrameReader(inbox, frames.MAX_PAYLOAD)
        self._outbox = outbox
        self._container_log = os.dup(2)
        self._lock = threading.Lock()
        self._runner: Runner | None = None
        self._attempt_id = ""
        self._is_cancelled = self._importing = False

    def work(self) -> None:
        """Handle the server's frames until the attempt is over or the server is gone."""
        while (frame := self._inbox.next()) is not None:
            kind, payload = frame
            if kind == frames.GO:
                self._import(json.loads(payload))
            elif kind == frames.CHECK:
                number, specs = json.loads(payload)
                problems = [
                    (index, text) for index, data in enumerate(specs) for text in self._problems_of(bytes.fromhex(data))
                ]
                self._send_frame(frames.CHECKED, json.dumps([number, problems]).encode())
            elif kind == frames.SPEC:
                self._send_frame(frames.TAKEN)
                length = int.from_bytes(payload[:4], "big")
                head = json.loads(payload[4 : 4 + length])
                self._attempt_id = head["attempt_id"]
                self._run(payload[4 + length :], bytes.fromhex(head["pickle_key"]))
                return

    def handle_sigterm(self, number: int, frame: FrameType | None) -> None:
        """Cancel the attempt on SIGTERM, even before it has come."""
        self._is_cancelled = True
        if self._runner is not None:
            self._runner.stop(self._attempt_id)
        elif self._importing:
            # Only once: a second KeyboardInterrupt could come in the handler of the first.
            self._importing = False
            raise KeyboardInterrupt("the attempt was cancelled")

    def _import(self, modules: list[str]) -> None:
        for name in modules:
            try:
                self._importing = not self._is_cancelled
                if self._importing:
                    importlib.import_module(name)
            # A module may call sys.exit() when it is imported.
            except BaseException as error:  # noqa: BLE001 - a step that needs it fails, others do not need it
                self._log(f"importing {name!r} raised {describe_exception(error)}")
            finally:
                self._importing = False

    def _problems_of(self, data: bytes) -> list[str]:
        """Return a text for each problem of a spec's refs; nothing is run."""
        try:
            spec = decode_spec_protobuf(data)
        except SpecDecodeError as error:
            return [str(error)]
        looking = self._new_runner(b"")
        found = []
        checks: list[Callable[[], object]] = [functools.partial(looking.look_up, ref) for ref in _refs_of(spec)]
        checks.append(functools.partial(looking.check, spec))
        for check in checks:
            try:
                check()
            except RiversError as error:
                found.append(str(error))
            except BaseException as error:  # noqa: BLE001 - a handler's own checks may raise anything
                found.append(describe_exception(error))
        return found

    def _run(self, data: bytes, pickle_key: bytes) -> None:
        own = self._attempt_id
        try:
            spec = decode_spec_protobuf(data)
            if spec.attempt_id != own:
                raise SpecDecodeError(f"the spec is of attempt {spec.attempt_id!r}, and the caller's is {own!r}")
        except SpecDecodeError as error:
            self._end(unsendable_result(own, error), Exit.SPEC_REJECTED)
            return
        self._runner = runner = self._new_runner(pickle_key)
        if self._is_cancelled:
            runner.stop(spec.attempt_id)
        try:
            result = runner.run_step(spec)
        except KeyboardInterrupt as error:  # raised by the body itself; the run ends for it
            result = interrupted_result(spec.attempt_id, error, runner.worker)
        # The end of the attempt is sent last: nothing may follow it.
        for problem in runner.close():
            self._emit(warning_record(problem, spec.attempt_id))
        ignore_signal(signal.SIGTERM)  # the attempt is over
        self._send_frame(frames.MODULES, json.dumps(_imported_modules(spec)).encode())
        self._end(result, _code_of(result))

    def _new_runner(self, pickle_key: bytes) -> Runner:
        settings = self._settings
        return Runner(
            self._emit,
            worker=settings.worker,
            grace=settings.grace,
            allowed=settings.allowed,
            pickle_key=pickle_key if settings.allow_pickle else b"",
            guard=True,
            owns_process=True,
        )

    # ── frames to the server ──

    def _end(self, result: StepResult, code: int) -> None:
        try:
            whole = encode_event_protobuf(result)
        except SpecDecodeError as error:
            result, code = unsendable_result(result.attempt_id, error), Exit.FAILED
            whole = encode_event_protobuf(result)
        # The termination message is in the pod's status, where everybody who may list pods reads it.
        bare = without_values(result)
        brief = encode_event_protobuf(bare) if bare is not result else whole
        if len(brief) > MAX_BRIEF:
            brief = encode_event_protobuf(_brief(bare))
        self._send_frame(frames.RESULT, bytes([code]) + len(brief).to_bytes(4, "big") + brief + whole)

    def _emit(self, event: StepEvent) -> None:
        # Printed text reaches the container's log by itself.
        if isinstance(event, LogRecord) and event.stream == "log":
            self._log(event.message)
        kind = frames.STARTED if isinstance(event, StepStarted) else frames.LOG
        self._send_frame(kind, encode_event_protobuf(event))

    def _log(self, text: str) -> None:
        """Write to the container's log too, unless its reader is too slow."""
        data = f"{text}\n".encode(errors="replace")
        # A runtime that stops reading fills this pipe, and the body must not hang for it. Others write to it, so
        # it stays blocking: a write of at most PIPE_BUF bytes after POLLOUT does not wait.
        ready = select.poll()
        ready.register(self._container_log, select.POLLOUT)
        with contextlib.suppress(OSError):
            for start in range(0, len(data), PIECE):
                if [event for _, event in ready.poll(0)] != [select.POLLOUT]:
                    return
                os.write(self._container_log, data[start : start + PIECE])

    def _send_frame(self, kind: bytes, payload: bytes = b"") -> None:
        with self._lock:
            write_frame(self._outbox, kind, payload)


def _refs_of(spec: StepSpec) -> list[Ref]:
    """Return every ref that the attempt resolves; a command travels in the spec itself."""
    refs: list[Ref] = [output.io_handler for output in spec.outputs]
    if spec.node is not NodeKind.BASH:
        refs.append(spec.function)
    refs += [inner.function for inner in spec.inner if inner.node is not NodeKind.BASH]
    for given in (*spec.inputs, *(value for inner in spec.inner for value in inner.inputs)):
        refs += [getattr(given, name) for name in ("io_handler", "ref") if hasattr(given, name)]
    return list(dict.fromkeys(refs))


def _imported_modules(spec: StepSpec) -> list[str]:
    """Return the modules that the spec names and that were imported for it."""
    refs = (ref.cls if isinstance(ref, ConfiguredRef) else ref for ref in _refs_of(spec))
    names = dict.fromkeys(ref.module for ref in refs if isinstance(ref, ImportRef))
    return [name for name in names if name in sys.modules]


def _code_of(result: StepResult) -> int:
    if result.ending is Ending.SUCCEEDED:
        return Exit.DONE
    uncommitted = result.failure is not None and result.failure.type == "rivers.exceptions.OutputCommitError"
    return Exit.NOT_COMMITTED if uncommitted else Exit.FAILED


def _brief(result: StepResult) -> StepResult:
    """Return the result without its long texts; one of very many outputs may still be too long."""
    failure = result.failure
    if failure is not None:
        failure = replace(
            failure, message=failure.message[:400], traceback=None, notes=(), args=None, state=None, mro=failure.mro[:8]
        )
    outputs = tuple(replace(output, metadata=None) for output in result.outputs)
    return replace(result, failure=failure, outputs=outputs)


def run_body(
    settings: BodySettings, inbox: int, outbox: int, trace: int, report_start: Callable[[], None] = lambda: None
) -> NoReturn:
    """Run in this process, a child of the server's, and end it; `report_start` is called once it handles signals."""
    close_in_children(inbox, outbox, trace)
    ignore_signal(signal.SIGINT)
    body = Body(settings, inbox, outbox)
    set_signal(signal.SIGTERM, body.handle_sigterm)
    # Python handlers run between bytecodes only; this one is C code, so a hang in native code leaves its stack.
    dump_tracebacks(signal.SIGTERM, trace)
    report_start()
    body.work()
    end_process()


def main() -> None:
    """Set this process up as a child of the supervisor, and run."""
    settings = msgspec.json.decode(sys.argv[1], type=BodySettings)
    inbox, outbox, trace = map(int, sys.argv[2:5])
    for fd in (inbox, outbox, trace):
        os.set_inheritable(fd, False)
    # The supervisor may have died before the kernel was asked to kill this process with it.
    if not prctl.die_with_parent(settings.parent):
        return
    # User code may read sys.argv at its import.
    sys.argv[1:] = []
    run_body(settings, inbox, outbox, trace)


if __name__ == "__main__":
    main()
