"""Backends that leave something behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import zoo_worker
from sinner import sinner
from zoo_backend import ZooAttempt, ZooBackend
from zoo_worker import Task

LEFT: list[Callable[[], object]] = []
"""Functions that remove what was left, for the end of a test."""


def remove_left() -> None:
    """Remove what wrong backends have left."""
    while LEFT:
        # What was in a folder of a law is gone with it.
        with contextlib.suppress(OSError):
            LEFT.pop()()


@sinner("leaks a process", "no-process-left")
class LeaksProcess(ZooBackend):
    def close(self, deadline: float) -> None:
        super().close(deadline)
        sleeping = subprocess.Popen(["sleep", "60"])
        LEFT.extend([sleeping.wait, sleeping.kill])


@sinner("leaves zombies", "no-process-left", only=True)
class LeavesZombies(ZooBackend):
    def close(self, deadline: float) -> None:
        super().close(deadline)
        child = subprocess.Popen(["true"])
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        LEFT.append(child.wait)


@sinner("leaks a thread", "no-thread-left", only=True)
class LeaksThread(ZooBackend):
    def close(self, deadline: float) -> None:
        super().close(deadline)
        ended = threading.Event()
        threading.Thread(target=ended.wait, args=(60,), name="zoo-left", daemon=True).start()
        LEFT.append(ended.set)


@sinner("leaks a descriptor", "no-descriptor-left", only=True)
class LeaksDescriptor(ZooBackend):
    def close(self, deadline: float) -> None:
        super().close(deadline)
        descriptor = os.open(os.devnull, os.O_RDONLY)
        LEFT.append(lambda: os.close(descriptor))


@sinner("leaks a socket", "no-socket-left", only=True)
class LeaksSocket(ZooBackend):
    def close(self, deadline: float) -> None:
        super().close(deadline)
        LEFT.append(socket.create_server(("127.0.0.1", 0)).close)


@sinner("leaks a temporary file", "no-file-left", only=True)
class LeaksFile(ZooBackend):
    def close(self, deadline: float) -> None:
        super().close(deadline)
        descriptor, path = tempfile.mkstemp(prefix="zoo-")
        os.close(descriptor)
        LEFT.append(lambda: os.unlink(path))


@sinner("changes the environment", "process-as-found", only=True)
class ChangesEnvironment(ZooBackend):
    def close(self, deadline: float) -> None:
        super().close(deadline)
        os.environ["ZOO_RUN"] = str(time.monotonic())
        LEFT.append(lambda: os.environ.pop("ZOO_RUN", None))


class LooseAttempt(ZooAttempt):
    """An attempt that kills its process alone, and nothing that the body has started."""

    def signal_group(self, number: int) -> None:
        LEFT.append(partial(os.killpg, self.process.pid, signal.SIGKILL))
        os.kill(self.process.pid, number)


@sinner("leaves the children of a body", "no-process-of-a-body-left", only=True)
class LeavesGrandchildren(ZooBackend):
    attempt_type = LooseAttempt


def work_survives(task: Task, pipe: Any) -> None:
    """Go on after the controller was killed."""
    zoo_worker.end_with_controller = os.setpgrp
    zoo_worker.work(task, pipe)


@sinner("survives the controller's kill", "controller-killed", only=True)
class SurvivesController(ZooBackend):
    work = staticmethod(work_survives)
