"""A forked child has the dispositions of before, and none of the descriptors; what ends a process runs its hooks."""

from __future__ import annotations

import subprocess
import sys

import pytest

PRELUDE = "import os, signal, sys, threading, time\nfrom rivers_process.fork import *\n"


def run(code: str, *arguments: str, within: float = 30) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own, where handlers and hooks are nobody else's."""
    command = [sys.executable, "-c", PRELUDE + code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=within)


def test_a_child_has_the_disposition_of_before() -> None:
    """A handler runs in its process alone, and its child ends by the signal, however early it comes."""
    ended = run(
        """
set_signal(signal.SIGTERM, lambda *_: print("handled", flush=True))
codes = set()
for _ in range(200):
    pid = os.fork()
    if pid == 0:
        time.sleep(30)
    os.kill(pid, signal.SIGTERM)
    codes.add(os.waitpid(pid, 0)[1])
os.kill(os.getpid(), signal.SIGTERM)
print(codes)
"""
    )

    assert ("handled\n{15}\n", "") == (ended.stdout, ended.stderr)


def test_the_handler_of_a_body_stays_in_its_child() -> None:
    """What a body has installed in place of ours its child inherits, as with any other program."""
    ended = run(
        """
set_signal(signal.SIGTERM, lambda *_: None)
crash = os.memfd_create("crash")
dump_tracebacks(signal.SIGTERM, crash)
signal.signal(signal.SIGTERM, lambda *_: os._exit(9))
pid = os.fork()
if pid == 0:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(30)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), os.fstat(crash).st_size)
"""
    )

    assert ("9 0\n", "") == (ended.stdout, ended.stderr)


def test_tracebacks_are_dumped_here_alone() -> None:
    """A signal leaves the traceback of this process and none of a child, also when the child crashes."""
    ended = run(
        """
import faulthandler, resource
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
set_signal(signal.SIGTERM, lambda *_: None)
crash = os.memfd_create("crash")
dump_tracebacks(signal.SIGTERM, crash)
sizes = []
for number in (signal.SIGTERM, signal.SIGSEGV):
    pid = os.fork()
    if pid == 0:
        os.kill(os.getpid(), number)
        os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    sizes.append((status, os.fstat(crash).st_size))
os.kill(os.getpid(), signal.SIGTERM)
print(sizes, os.fstat(crash).st_size > 0)
"""
    )

    assert "[(-15, 0), (-11, 0)] True\n" == ended.stdout, ended.stderr


@pytest.mark.parametrize(("before", "expected"), [("", "-2"), ("signal.SIG_IGN", "0")])
def test_an_ignored_signal_ends_programs(before: str, expected: str) -> None:
    """A signal that is ignored here ends a program that is started here, unless it was ignored from the start."""
    ended = run(
        f"""
import subprocess
if {before or None!r}:
    signal.signal(signal.SIGINT, {before or None})
ignore_signal(signal.SIGINT)
os.kill(os.getpid(), signal.SIGINT)
print(subprocess.run(["/bin/sh", "-c", "kill -INT $$; exit 0"]).returncode)
"""
    )

    assert expected == ended.stdout.strip(), ended.stderr


def test_a_handler_is_restored_once() -> None:
    """Undoing gives back the first disposition, also after two calls, and does nothing in a child."""
    ended = run(
        """
set_signal(signal.SIGTERM, lambda *_: None)
set_signal(signal.SIGTERM, print)
if os.fork() == 0:
    restore_signal(signal.SIGTERM)
    os._exit(signal.getsignal(signal.SIGTERM) != signal.SIG_DFL)
print(os.wait()[1])
restore_signal(signal.SIGTERM)
print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
"""
    )

    assert ("0\nTrue\n", "") == (ended.stdout, ended.stderr)


def test_the_mask_stays_what_it_was() -> None:
    """Neither side of a fork keeps a signal blocked that was not, nor the other way round."""
    ended = run(
        """
set_signal(signal.SIGTERM, lambda *_: None)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
if os.fork() == 0:
    os._exit(signal.pthread_sigmask(signal.SIG_BLOCK, ()) != {signal.SIGUSR1})
print(os.wait()[1], signal.pthread_sigmask(signal.SIG_BLOCK, ()) == {signal.SIGUSR1})
"""
    )

    assert ("0 True\n", "") == (ended.stdout, ended.stderr)


def test_descriptors_are_closed_in_children() -> None:
    """A child does not hold a pipe open, so that its reader sees the end; one that was given back it does hold."""
    ended = run(
        """
read, write = os.pipe()
other, kept = os.pipe()
close_in_children(write, kept)
keep_in_children(kept)
pid = os.fork()
if pid == 0:
    time.sleep(30)
os.close(write), os.close(kept)
os.set_blocking(other, False)
print(os.read(read, 1))
try:
    os.read(other, 1)
except BlockingIOError:
    print("held")
os.kill(pid, 9)
"""
    )

    assert ("b''\nheld\n", "") == (ended.stdout, ended.stderr)


def test_locks_are_renewed_in_children() -> None:
    """An object that another thread has locked at the fork is usable in the child; one that is gone costs nothing."""
    ended = run(
        """
class Locked:
    def __init__(self):
        self.lock = threading.Lock()
        renew_in_children(self, Locked.renew)
    def renew(self):
        self.lock = threading.Lock()
locked, gone = Locked(), Locked()
del gone
threading.Thread(target=lambda: locked.lock.acquire() and time.sleep(1), daemon=True).start()
while not locked.lock.locked():
    pass
if os.fork() == 0:
    os._exit(not locked.lock.acquire(timeout=10))
print(os.wait()[1])
"""
    )

    assert ("0\n", "") == (ended.stdout, ended.stderr)


def test_hooks_run_in_the_order_of_the_interpreter() -> None:
    """Hooks of threading run before those of atexit, the last one first; one that raises stops no other."""
    ended = run(
        """
import atexit
from rivers_process.exit import end_process
for name in "ab":
    threading._register_atexit(print, "threading", name)
    atexit.register(print, "atexit", name)
threading._register_atexit(lambda: 1 / 0)
threading.Thread(target=time.sleep, args=(60,)).start()
end_process(3)
"""
    )

    assert (3, "threading b\nthreading a\natexit b\natexit a\n") == (ended.returncode, ended.stdout)


@pytest.mark.parametrize("pool", ["ThreadPoolExecutor", "ProcessPoolExecutor"])
def test_executors_that_a_body_left_end(pool: str) -> None:
    """A pool of concurrent.futures that nobody shut down does not keep its process from ending."""
    ended = run(
        f"""
import concurrent.futures, multiprocessing
from rivers_process.exit import end_process
pool = concurrent.futures.{pool}(2)
print(pool.submit(abs, -1).result())
end_process()
"""
    )

    assert (0, "1\n") == (ended.returncode, ended.stdout)


@pytest.mark.parametrize(
    ("leave", "code", "printed"),
    [
        ("sys.exit()", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit('bye')", 1, "bye\n"),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("None", 0, ""),
    ],
)
def test_how_a_child_ends_that_came_out_of_a_body(leave: str, code: int, printed: str) -> None:
    """It ends as the interpreter would for the same error."""
    ended = run(
        f"""
from rivers_process.exit import end_forked_child
error = None
try:
    {leave}
except BaseException as raised:
    error = raised
end_forked_child(error)
"""
    )

    assert code == ended.returncode
    assert printed in ended.stderr
    assert bool(printed) == bool(ended.stderr)
