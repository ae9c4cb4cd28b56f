"""A process that belongs to its runner, and reports the output of its bodies on fd 1 and 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HOST = """
import json, os, resource, sys, threading
import bodies
from rivers.protocol import LocalRef, LogSettings, NodeKind, StepSpec
from rivers.spi import Runner

EVENTS, CAPTURE, *NAMES = sys.argv[1:]
lock = threading.Lock()

def tell(**event):
    with lock, open(int(EVENTS), "w", closefd=False) as file:
        file.write(json.dumps(event) + "\\n")

def emit(event):
    if hasattr(event, "message"):
        tell(attempt=event.attempt_id, stream=event.stream, text=event.message)

def state():
    files = [(fd, os.fstat(fd)[:3]) for fd in map(int, os.listdir("/proc/self/fd")) if fd_open(fd)]
    return [files, id(sys.stdout), id(sys.stderr), threading.active_count()]

def fd_open(fd):
    try:
        return os.fstat(fd)
    except OSError:
        return None

os.set_inheritable(int(EVENTS), False)
before = state()
runner = Runner(emit, owns_process=True, local=vars(bodies))
for name in NAMES:
    if name.startswith("between"):
        getattr(bodies, name)()
        continue
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    logs = LogSettings(capture=CAPTURE == "capture")
    result = runner.run_step(
        StepSpec(run_id="run", step=name, attempt_id=name, node=NodeKind.TASK, function=LocalRef(token=name), logs=logs)
    )
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - rss
    tell(attempt=name, ending=result.ending.value, failure=result.failure and result.failure.message, grown=grown)
runner.close()
tell(attempt="", restored=state() == before)
"""

IMPORTS = """
import ctypes, fcntl, logging, os, signal, subprocess, sys, threading
"""


class Host:
    """Such a process and its reports, line by line while it runs."""

    def __init__(self, folder: Path, bodies: str, *names: str, capture: bool = True, **options: Any) -> None:
        (folder / "host.py").write_text(HOST)
        (folder / "bodies.py").write_text(IMPORTS + bodies)
        self.out, self.err = folder / "out", folder / "err"
        readable, writable = os.pipe()
        words = [sys.executable, "host.py", str(writable), "capture" if capture else "leave", *names]
        with self.out.open("wb") as out, self.err.open("wb") as err:
            options = {"stdout": out, "stderr": err, **options}
            before = options.pop("before", [])
            fds = (writable, *options.pop("fds", ()))
            # Not unbuffered, whatever the tests run with: C's stdout then would not be, either.
            options["env"] = {**os.environ, "PYTHONUNBUFFERED": "", **options.pop("env", {})}
            self.process = subprocess.Popen([*before, *words], cwd=folder, pass_fds=fds, **options)
        os.close(writable)
        self._events = os.fdopen(readable, "rb")
        self.seen: list[dict[str, Any]] = []

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        self._events.close()
        self.process.kill()
        self.process.wait()

    def until(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Read reports up to that event."""
        for line in self._events:
            self.seen.append(json.loads(line))
            if wanted(self.seen[-1]):
                return
        raise AssertionError(f"the host ended: {self.err.read_bytes().decode()} {self.seen[-20:]}")

    def finish(self) -> Host:
        """Read to the end; check that the attempts succeeded and the process is as before."""
        self.until(lambda event: event["attempt"] == "")
        assert 0 == self.process.wait(timeout=30)
        assert [] == [event for event in self.seen if event.get("ending", "succeeded") != "succeeded"]
        assert self.seen[-1]["restored"]
        return self

    def texts(self, attempt: str) -> list[str]:
        return [event["text"] for event in self.seen if event["attempt"] == attempt and "text" in event]

    def streams(self, attempt: str) -> set[str]:
        return {event["stream"] for event in self.seen if event["attempt"] == attempt and "stream" in event}
