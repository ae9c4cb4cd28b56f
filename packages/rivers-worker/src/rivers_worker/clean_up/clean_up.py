"""Clean up after an attempt: its processes, its files, and what it has changed about the processes that stay.

    kill every descendant ──▶ restore the processes that stay ──▶ restore fds 0–2 ──▶ empty folders ──▶ IPC objects,
    termination log

No cgroup is needed: the server is a subreaper, so whatever an attempt starts stays among its descendants.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from rivers_worker.clean_up.container import ContainerObjects
from rivers_worker.clean_up.descendants import kill_descendants
from rivers_worker.clean_up.descriptors import StandardStreams
from rivers_worker.clean_up.process_state import ProcessState
from rivers_worker.clean_up.scratch import ScratchFolder
from rivers_worker.clean_up.termination_log import TerminationLog

__all__ = ["CleanUp"]

MAX_REASONS = 3
MAX_REASON = 300
"""Characters of one reason."""


class CleanUp:
    """The clean-up after each attempt; its creation, before the first one, takes the state to return to.

    `scratch` are the folders to empty: they must be this worker's own. `keep` returns the ids of the child processes
    that stay. They must have started with this process's limits and priorities. `termination_log` is a path, None if
    nobody reads one.

    Raises:
        OSError: a scratch folder cannot be read.
    """

    def __init__(
        self, scratch: Sequence[Path], keep: Callable[[], Collection[int]], termination_log: str | None = None
    ) -> None:
        self._keep = keep
        self._state = ProcessState()
        self._streams = StandardStreams()
        self._folders = [ScratchFolder(path) for path in scratch]
        # The first process of a PID namespace is the first of a container, whose IPC objects are this worker's own.
        self._container = ContainerObjects() if os.getpid() == 1 else None
        self._log = None if termination_log is None else TerminationLog(termination_log)

    def run(self, deadline: float) -> str | None:
        """Clean up until `deadline`, a time of `time.monotonic`; return the reason for what cannot be cleaned up.

        To be called while no attempt runs and none is started, by one thread at a time.
        """
        reasons = [*self._clean(deadline)]
        more = f"; and {len(reasons) - MAX_REASONS} more" if len(reasons) > MAX_REASONS else ""
        return "; ".join(map(_printable, reasons[:MAX_REASONS])) + more if reasons else None

    def _clean(self, deadline: float) -> Iterator[str]:
        # The limits first: with RLIMIT_NOFILE at 0 nothing below could open a file.
        yield from self._state.restore_limits(os.getpid())
        survivors = kill_descendants(self._keep(), deadline)
        if survivors:
            yield survivors
        yield from self._state.restore_threads(os.getpid())
        for pid in self._keep():
            yield from self._state.restore_kept(pid, deadline)
        yield from self._streams.restore()
        for folder in self._folders:
            yield from folder.empty(deadline)
        if self._container is not None:
            yield from self._container.restore(deadline)
        if self._log is not None:
            yield from self._log.restore()


def _printable(reason: str) -> str:
    """Return the reason as text that UTF-8 can encode; file names may hold any bytes."""
    text = reason.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= MAX_REASON else f"{text[:MAX_REASON]}…"
