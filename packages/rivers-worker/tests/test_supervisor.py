"""Tests of the supervisor of a body's process, without a worker around it."""

from __future__ import annotations

import os
import subprocess

import pytest

from rivers_process.cgroup import MemoryCgroup
from rivers_process.processes import child_processes
from rivers_worker import supervisor
from rivers_worker.body_process import BodyProcess, ExecutedProcess, open_pipes
from rivers_worker.journal import Journal
from rivers_worker.settings import ServeSettings
from rivers_worker.supervisor import Supervisor

SETTINGS = ServeSettings.from_environment(
    {
        "RIVERS_RUN_ID": "run",
        "RIVERS_ATTEMPT_ID": "attempt",
        "RIVERS_CONTROLLER_CERTIFICATE": "c",
        "RIVERS_TERMINATION_LOG": "",
    }
)


@pytest.mark.parametrize("is_read", [True, False])
def test_a_process_that_may_have_taken_its_spec(monkeypatch: pytest.MonkeyPatch, is_read: bool) -> None:
    """An attempt is restarted only if all of its first process's frames were read and say that it has not begun."""
    monkeypatch.setattr(supervisor, "DRAIN", 0.3)
    others = [child.pid for child in child_processes(os.getpid())]
    ours, theirs = open_pipes()
    process = ExecutedProcess(["sleep", "60"], stdin=subprocess.DEVNULL, start_new_session=True)
    owner = Supervisor(SETTINGS, BodyProcess(process, *ours), MemoryCgroup(), keep=lambda: others)
    restarts: list[str] = []
    journal = Journal()
    try:
        owner.execute("attempt", b"", b"", journal, lambda: not restarts.append("restarted"))  # type: ignore[func-returns-value]
        if is_read:
            os.close(theirs[1])
        # Otherwise the reader waits for more, as one that has got no CPU time yet.
        process.kill()
        reason = owner.finish(5.0)

        assert (["restarted"] if is_read else []) == restarts
        assert journal.is_ended is not is_read
        assert ("not read" in reason) is not is_read
    finally:
        for fd in (theirs[0], theirs[2], *([] if is_read else [theirs[1]])):
            os.close(fd)
        owner._reader.join(5.0)
