"""Ends the processes of a fake cluster, also when the test that made it is killed: a program that waits for that.

    python -I -S guard.py <mark> <folder> <pid>

Processes are known by a mark in their environment, which whatever they start inherits. Imports no package of ours: it
is run by its path, and starts in some milliseconds.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import time

__all__ = ["MARK", "kill", "marked"]

# The variable of a container's environment; its value is `<cluster>/<pod's uid>`
MARK = "RIVERS_FAKE_CLUSTER"


def marked(mark: str) -> list[int]:
    """The processes whose mark begins with this, but for this one."""
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
            continue  # it has ended meanwhile, or is another user's
    return found


def kill(mark: str, number: int = signal.SIGKILL) -> None:
    """Send a signal to all of these processes; SIGKILL until there is none, for at most 5 s."""
    until = time.monotonic() + 5.0
    while found := marked(mark):
        for pid in found:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
        if number != signal.SIGKILL or time.monotonic() > until:
            return
        time.sleep(0.002)


def main(mark: str, folder: str, pid: int) -> None:
    """Wait until this process has ended, then let nothing of its cluster live on."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    parent = os.pidfd_open(pid)
    if os.getppid() == pid:
        ended = select.poll()
        ended.register(parent, select.POLLIN)
        ended.poll()
    kill(mark)
    time.sleep(0.05)  # one that was just being started
    kill(mark)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
