"""Run one attempt in a process of its own: start it, pass on its events, end it.

For executors whose own worker must survive a body: a task of a queue, a service on a node, a thread of the controller.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import BinaryIO

from rivers.protocol.failure import Evidence
from rivers.protocol.limits import LIMITS
from rivers_process.cgroup import MemoryCgroup
from rivers_process.frames import FrameReader

__all__ = ["EVENT", "RESULT", "StepProcess"]

# The kinds of frames: the result is the last event but for warnings about the end of the process.
EVENT, RESULT = b"e", b"r"


class StepProcess:
    """The process of one attempt on this machine; `worker` names where it is started, in front of its pid.

    It leads a process group, which is killed as a whole. The kernel kills it when the thread that has called `run`
    ends, and that stays until the process has gone: it comes to that only when this process is killed.
    """

    def __init__(self, worker: str = "") -> None:
        self._worker = f"{worker} " if worker else ""
        # Held while the process begins and ends, so that a signal hits it or nobody.
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._killer: threading.Timer | None = None
        self._stopped = False

    def run(
        self, attempt_id: str, spec: bytes, emit: Callable[[list[bytes]], None], *, grace: float, key: bytes = b""
    ) -> Evidence:
        """Run an encoded spec to its end; pass on its encoded events as they come; return what was observed.

        The result is among the events, if there is one; `rivers.protocol.lost` makes one of the evidence. After its
        result the process has `grace` seconds for teardowns. `key` is that of the run (`Run.key`): it is used if
        RIVERS_ALLOW_PICKLE=1 is in the environment.

        Raises:
            OSError: the process cannot be started.
        """
        memory = MemoryCgroup()
        kills = memory.oom_kills()
        readable, writable = os.pipe()
        with open(readable, "rb", buffering=0) as events, tempfile.TemporaryFile() as crash:
            try:
                with self._lock:
                    if self._stopped:
                        return Evidence(cancelled=True)
                    process = self._process = _start(writable, crash.fileno())
            finally:
                os.close(writable)
            task = {
                "attempt_id": attempt_id,
                "grace": grace,
                "key": key.hex(),
                "worker": self._worker,
                "path": sys.path,
            }
            self._feed(process, json.dumps(task).encode() + b"\n" + spec)
            detail = self._listen(events, emit, grace)
            code = self._reap(process)
            crash.seek(0)
            stack = crash.read(LIMITS.traceback // 4).decode(errors="replace")
        # Another process of the cgroup may have been the one: only a SIGKILL can be the OOM killer's.
        now = memory.oom_kills() if code == -signal.SIGKILL else None
        return Evidence(
            exit_code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            worker=f"{self._worker}pid {process.pid}",
            native_traceback=stack or None,
            oom_kills=now - kills if now is not None and kills is not None and now > kills else None,
            detail=detail,
        )

    def stop(self, grace: float) -> None:
        """Ask the process to stop, and kill it and those that it has started after `grace` seconds; do not wait."""
        self._stopped = True
        if grace <= 0:
            self._signal(signal.SIGKILL)
        else:
            self._signal(signal.SIGTERM)
            self._kill_after(grace)

    def _feed(self, process: subprocess.Popen[bytes], data: bytes) -> None:
        assert process.stdin is not None
        # It may die before it has read all; its end is the evidence then.
        with contextlib.suppress(OSError), process.stdin as stdin:
            stdin.write(data)

    def _listen(self, events: BinaryIO, emit: Callable[[list[bytes]], None], grace: float) -> str | None:
        """Pass on the encoded events until the pipe ends; return a description of a broken stream."""
        reader = FrameReader(events.fileno(), LIMITS.size)
        try:
            while reader.fill():
                if frames := reader.take():
                    emit([payload for _, payload in frames])
                # The result is there: a teardown must not take longer than the grace.
                if any(kind == RESULT for kind, _ in frames) and self._killer is None:
                    self._kill_after(grace)
        except EOFError:
            return None
        except ValueError as error:
            self._signal(signal.SIGKILL)
            return f"it wrote no event: {error}"
        return None

    def _reap(self, process: subprocess.Popen[bytes]) -> int:
        """Wait for the process to end, kill what it has left behind, and return its code."""
        # Not reaped yet: its number is still its own, and that of its group.
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        self._signal(signal.SIGKILL)
        with self._lock:
            code = process.wait()
        if self._killer is not None:
            self._killer.cancel()
            self._killer.join()
        return code

    def _signal(self, number: signal.Signals) -> None:
        """Send a signal to the process's group, if it has begun and is not reaped."""
        with self._lock:
            if self._process is not None and self._process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, number)

    def _kill_after(self, seconds: float) -> None:
        with self._lock:
            if self._process is None or self._process.returncode is not None:
                return
            if self._killer is not None:
                self._killer.cancel()
            self._killer = threading.Timer(seconds, self._signal, [signal.SIGKILL])
            self._killer.daemon = True
            self._killer.start()


def _start(events: int, crash: int) -> subprocess.Popen[bytes]:
    """Start the process in a group of its own."""
    command = [sys.executable, "-P", "-m", "rivers._runner.step_process_main"]
    return subprocess.Popen(  # noqa: S603 - our own module, by this interpreter
        [*command, str(os.getpid()), str(events), str(crash)],
        stdin=subprocess.PIPE,
        pass_fds=(events, crash),
        process_group=0,
    )
