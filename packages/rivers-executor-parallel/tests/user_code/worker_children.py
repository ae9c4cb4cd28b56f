"""Assets that leave executors and threads behind, or read what a forked child of theirs holds."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import threading
import time

import rivers as rs


@rs.Asset
def leaves_loky() -> int:
    from loky import get_reusable_executor

    return get_reusable_executor(max_workers=1).submit(abs, -1).result()


@rs.Asset
def leaves_processes() -> int:
    return concurrent.futures.ProcessPoolExecutor(1).submit(abs, -1).result()


@rs.Asset
def leaves_threads() -> int:
    threading.Thread(target=time.sleep, args=(600,)).start()
    return concurrent.futures.ThreadPoolExecutor(1).submit(abs, -1).result()


@rs.Asset
def ten() -> int:
    return 10


@rs.Asset
def after_ten(ten: int) -> int:
    return ten + 1


def _opened() -> set[str]:
    """The pipes that this process has beside its standard streams, and the file for crashes."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{number}")
            if int(number) > 2 and ("rivers-crash" in target or target.startswith("pipe:")):
                found.add(target)
    return found


@rs.Asset
def held_by_a_child() -> tuple[set[str], set[str]]:
    """Return what a worker has open, and the part of it that a forked child has open."""
    own = _opened()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        os.write(write, "\n".join(own & _opened()).encode())
        os._exit(0)
    os.close(write)
    with open(read, encoding="utf-8") as reported:
        held = set(reported.read().splitlines())
    os.waitpid(pid, 0)
    return own, held
