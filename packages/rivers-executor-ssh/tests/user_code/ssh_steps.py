"""Steps that hosts run."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import rivers as rs

HOST = "RIVERS_TEST_HOST"


def host() -> str:
    """The name of the host that this process runs on."""
    return Path(os.environ[HOST]).name


def note(text: str) -> None:
    """Add a line to the notes, which outlive their writers."""
    with open(os.environ["NOTES"], "a") as notes:
        fcntl.flock(notes, fcntl.LOCK_EX)
        notes.write(f"{text}\n")


@contextlib.contextmanager
def noted(name: str) -> Iterator[None]:
    note(f"+{name}@{host()}")
    yield
    note(f"-{name}@{host()}")


@rs.Asset
def where() -> str:
    return host()


@rs.Asset
def after(where: str) -> str:
    return f"{where} {os.getcwd()} {os.environ.get('COLOUR')}"


@rs.Asset
def killed() -> int:
    os.kill(os.getpid(), 11)
    return 0


@rs.Asset
def exits() -> int:
    os._exit(0)


@rs.Asset
def killed_worker() -> int:
    """The worker itself dies, as by the OOM killer, while a child of the body goes on."""
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    os.kill(os.getppid(), 9)
    time.sleep(60)
    return 0


@rs.Asset(timeout=1)
def hangs() -> int:
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    time.sleep(600)
    return 0


@rs.Asset
def waits() -> str:
    """Go on until the file `go` exists."""
    with noted("waits"):
        print("it waits")
        while not os.path.exists(os.environ["GO"]):
            time.sleep(0.02)
        print("it went on")
        return host()


def busy(context: rs.AssetExecutionContext) -> str:
    with noted(context.asset_name):
        time.sleep(0.3)
        return host()


def many(count: int) -> list[rs.Asset]:
    return [rs.Asset(busy, name=f"busy{number}") for number in range(count)]
