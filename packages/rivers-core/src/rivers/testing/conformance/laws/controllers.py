"""Laws of controllers that are killed, and of many steps."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator

from rivers.protocol import Ending
from rivers.testing.conformance.controller import READY, make_task
from rivers.testing.conformance.law import Law, expect, law
from rivers.testing.conformance.laws.leftovers import find_marked, marked_environment
from rivers.testing.conformance.needs import ISOLATED, KILLS, SENDABLE
from rivers.testing.conformance.session import BackendSession
from rivers.testing.conformance.subject import Subject
from rivers_process.processes import find_marked_processes, kill_processes

__all__ = ["LAWS"]

STEPS = 1_000


@law(
    "controller-killed",
    demand="When the controller is killed by SIGKILL, nothing that it had started runs on.",
    reason="the OOM killer and a closed laptop give no chance to clean up, and workers would run for nobody.",
    needs=(ISOLATED, KILLS, SENDABLE),
)
def controller_killed(subject: Subject) -> None:
    """Kill a controller whose bodies run, one of them deaf, and wait for the end of all its processes."""
    objects = set(subject.orphans())
    with marked_environment(subject.new_folder()) as mark:
        try:
            with _controller(subject) as process:
                process.kill()
                process.wait(subject.patience)
            until = time.monotonic() + subject.orphans_end_within
            while (left := _left(subject, mark, objects)) and time.monotonic() < until:
                time.sleep(0.05)
        finally:
            # What the executor left is no reason to leave it for the next law.
            kill_processes(find_marked_processes(mark))
    expect(not left, f"{subject.orphans_end_within:g} s after its kill there are still {', '.join(left[:5])}")


def _left(subject: Subject, mark: str, objects: set[str]) -> list[str]:
    return find_marked(mark) + sorted(set(subject.orphans()) - objects)


@contextlib.contextmanager
def _controller(subject: Subject) -> Iterator[subprocess.Popen[bytes]]:
    """Start a controller, and wait until its bodies run."""
    command = [sys.executable, "-c", "from rivers.testing.conformance.controller import main; main()"]
    # The executor may be importable here by sys.path alone.
    path = os.pathsep.join(entry for entry in sys.path if entry)
    process = subprocess.Popen(  # noqa: S603 - the kit's own program
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env={**os.environ, "PYTHONPATH": path}
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process, process.stdin:
        try:
            process.stdin.write(make_task(subject))
            process.stdin.close()
            _wait_for_ready(process, 2 * subject.patience)
            yield process
        finally:
            process.kill()


def _wait_for_ready(process: subprocess.Popen[bytes], within: float) -> None:
    assert process.stdout is not None
    until, lines = time.monotonic() + within, b""
    # Bodies print to the same stdout.
    while READY.encode() not in lines.split(b"\n"):
        left = until - time.monotonic()
        is_readable = left > 0 and select.select([process.stdout], [], [], left)[0]
        expect(is_readable, f"a controller of its own has not started its bodies within {within:g} s")
        data = process.stdout.read(4096)
        expect(data, "a controller of its own ended before its bodies ran: see what it wrote to stderr")
        lines += data


@law(
    "throughput",
    demand="A thousand steps run to their end, and the steps per second are reported.",
    reason="the overhead of a step decides what may be one.",
    tier="full",
)
def throughput(subject: Subject) -> None:
    """Run bodies that do nothing, as many at once as there are slots."""
    with BackendSession(subject) as session:
        session.run("nothing")
        began = time.monotonic()
        attempts = [session.submit("nothing") for _ in range(STEPS)]
        endings = [session.result(attempt).ending for attempt in attempts]
        seconds = time.monotonic() - began
    failed = sum(ending is not Ending.SUCCEEDED for ending in endings)
    expect(failed == 0, f"{failed} of {STEPS} steps did not succeed")
    subject.figures |= {"steps": STEPS, "seconds": round(seconds, 2), "steps_per_second": round(STEPS / seconds, 1)}


LAWS: tuple[Law, ...] = (controller_killed, throughput)
