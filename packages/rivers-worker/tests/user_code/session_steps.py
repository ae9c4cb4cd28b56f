"""Bodies that look at their process, or attack those that serve all attempts of a session."""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from served_steps import note

from rivers_worker import body, frames

state = {"attempts": 0}


def looks_around() -> None:
    """Notes what a fresh process has, and changes it."""
    state["attempts"] += 1
    masked = sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1]))
    facts = {
        "attempts": state["attempts"],
        "leader": os.getsid(0) == os.getpid(),
        "threads": threading.active_count(),
        "descriptors": sorted(fd for fd in map(int, os.listdir("/proc/self/fd")) if _is_socket(fd)),
        "arguments": sys.argv[1:],
        "left": os.environ.get("LEFT"),
        "umask": oct(os.umask(0)),
        "folder": Path.cwd() == Path("/"),
        "masked": masked,
        "interrupts": signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL,
        "dumpable": os.stat("/proc/self/environ").st_uid == os.getuid(),
        "parent": "rivers_worker" in Path(f"/proc/{os.getppid()}/cmdline").read_text().split("\0"),
    }
    note(facts)
    os.environ["LEFT"] = "behind"
    os.chdir("/")
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def _is_socket(fd: int) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{fd}").startswith("socket:")
    except OSError:
        return False


def kills_fork_server() -> None:
    os.kill(fork_server(), signal.SIGKILL)
    # The signal is delivered when that process runs next.
    while fork_server_of_parent():
        time.sleep(0.01)


def stops_fork_server() -> None:
    os.kill(fork_server(), signal.SIGSTOP)


def fork_server() -> int:
    pid = fork_server_of_parent()
    if not pid:
        raise RuntimeError("there is no fork server")
    return pid


def fork_server_of_parent() -> int:
    """The pid of the fork server of this process's worker, 0 if there is none."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = path.joinpath("stat").read_text().rpartition(")")[2].split()[1]
            if (
                path.name != str(os.getpid())
                and int(parent) == os.getppid()
                and "rivers_worker.fork_server" in path.joinpath("cmdline").read_text()
            ):
                return int(path.name)
        except (OSError, ValueError):
            continue
    return 0


SPY = """
import ctypes, sys

for pid in sys.argv[1:]:
    got = []
    try:
        open(f"/proc/{pid}/mem", "rb").close()
        got.append("mem")
    except OSError:
        pass
    if ctypes.CDLL(None).ptrace(0x4206, int(pid), None, None) == 0:
        got.append("ptrace")
    print(got)
"""


def spies() -> None:
    """Notes what a child gets of the server, of the fork server and of this process."""
    pids = map(str, (os.getppid(), fork_server(), os.getpid()))
    command = [sys.executable, "-c", SPY, *pids]
    note(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n"))


def forges_an_outcome() -> None:
    """Leaves what the environment gives in the termination log, after its own result."""
    atexit.register(lambda: _written_log().write_text(os.environ["FORGED"]))


def links_the_log() -> None:
    """Leaves a link in the place of the termination log."""
    atexit.register(_replace_log, lambda log: log.symlink_to(os.environ["RIVERS_TEST_NOTES"]))


def puts_a_pipe_for_the_log() -> None:
    """Leaves a FIFO, which nobody reads, in the place of the termination log."""
    atexit.register(_replace_log, os.mkfifo)


def replaces_the_log() -> None:
    """Leaves another file in the place of the termination log."""
    atexit.register(_replace_log, Path.touch)


def forges_the_report() -> None:
    """Makes its own runner report another module."""
    body._imported_modules = lambda spec: ["notes_at_import"]


def reports_twice() -> None:
    """Reports a module before its runner does, and waits until its server has read that twice."""
    for _ in range(2):
        _report()
    time.sleep(60)


def reports_at_its_exit() -> None:
    """Reports a module after its result, and waits until its server has read that."""
    atexit.register(time.sleep, 60)
    atexit.register(_report)


def _report() -> None:
    (own,) = [found for found in gc.get_objects() if isinstance(found, body.Body)]
    own._send_frame(frames.MODULES, json.dumps(["notes_at_import"]).encode())


def _replace_log(replace: Callable[[Path], object]) -> None:
    log = _written_log()
    log.unlink()
    replace(log)


def _written_log() -> Path:
    """Return the termination log once the server has written this attempt's outcome."""
    log = Path(os.environ["RIVERS_TEST_NOTES"]).with_name("termination")
    while not log.read_text():
        time.sleep(0.001)
    return log
