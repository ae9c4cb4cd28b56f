"""An append-only file in which every process of a torture records its steps, before and after.

    begin   a body's first line          end      its last line
    store   before its value is stored   stored   after that was committed     linger   … and is not told yet

An entry is one `write` of less than a page to a file opened with O_APPEND: it is there whole or not at all, whoever is
killed, and the file's order is the order in which things happened.
"""

from __future__ import annotations

import functools
import os
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["JournalEntry", "StepJournal", "write"]

FOLDER = "RIVERS_TORTURE"
"""The environment variable with the folder of a torture; whatever bears it is part of that torture."""


@dataclass(frozen=True)
class JournalEntry:
    """An entry of process `pid`, begun at `life`, at `time` (nanoseconds since the epoch).

    `who` is an attempt's number or its id. Over a long torture the kernel uses pids again: `life` tells them apart.
    """

    what: str
    pid: int
    life: str
    run: str
    step: str
    who: str
    time: int


class StepJournal:
    """A reader of the entries that are new since its last call."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "journal"
        self._file.touch()
        self._offset = 0

    def news(self) -> list[JournalEntry]:
        """Return the new entries."""
        with self._file.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data.rpartition(b"\n")[0] + b"\n" if b"\n" in data else b""
        self._offset += len(whole)
        return [_entry(line) for line in whole.decode().splitlines()]


def write(what: str, run: str, step: str, who: str) -> None:
    """Append an entry."""
    descriptor, life = _opened(os.environ[FOLDER])
    line = "\t".join((what, str(os.getpid()), life, run, step, who, str(time.time_ns())))
    os.write(descriptor, f"{line}\n".encode())


@functools.cache
def _opened(folder: str) -> tuple[int, str]:
    descriptor = os.open(f"{folder}/journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    return descriptor, str(time.time_ns())


def _entry(line: str) -> JournalEntry:
    what, pid, life, run, step, who, at = line.split("\t")
    return JournalEntry(what, int(pid), life, run, step, who, int(at))
