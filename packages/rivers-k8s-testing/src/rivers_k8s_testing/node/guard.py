"""Kill the processes of a FakeCluster when the process that created it has ended, however it did.

    python -I -S guard.py <mark> <folder> <pid>

Processes carry a mark in their environment, which their descendants inherit. This program imports nothing but the
standard library: it is run by its path and starts within milliseconds.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import time

__all__ = ["MARK", "find_marked", "kill"]

# The environment variable of the mark; its value is `<cluster>/<pod's uid>`
MARK = "RIVERS_FAKE_CLUSTER"


def find_marked(mark: str) -> list[int]:
    """Return the ids of the processes whose mark begins with this text, except this process."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                if any(line.startswith(wanted) for line in file.read().split(b"\0")):
                    found.append(int(name))
        except OSError:
            continue  # it has ended meanwhile, or belongs to another user
    return found


def kill(mark: str, number: int = signal.SIGKILL) -> None:
    """Send a signal to the marked processes; repeat SIGKILL until none is left, for at most 5 s."""
    until = time.monotonic() + 5.0
    while found := find_marked(mark):
        for pid in found:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
        if number != signal.SIGKILL or time.monotonic() > until:
            return
        time.sleep(0.002)


def main(mark: str, folder: str, pid: int) -> None:
    """Wait until a process has ended, then kill its cluster's processes and remove its folder."""
    # Ctrl-C reaches the whole foreground group; the guard has to outlive the test.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # A pidfd names this very process, also when its id is reused; ppid differs if it has ended before.
    parent = os.pidfd_open(pid)
    if os.getppid() == pid:
        ended = select.poll()
        ended.register(parent, select.POLLIN)
        ended.poll()
    kill(mark)
    time.sleep(0.05)  # for a process that was just being started
    kill(mark)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
