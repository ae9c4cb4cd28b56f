"""A run of three steps with small disks under its record and its values; `middle` fails while a file says so."""

from __future__ import annotations

import json
import os
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from small_run import note

import rivers as rs

SIZE = 100_000
"""Bytes of each value."""


def fill_record() -> None:
    """Print so much that the disk of a record that has little room is full in the middle of the run."""
    for number in range(20):
        print(f"{number:01000}")


def make_repository(folder: Path) -> rs.CodeRepository:
    """Return three assets after one another, whose values are in `folder/data`."""

    @rs.Asset
    def first() -> bytes:
        note(folder, "first")
        fill_record()
        return bytes(SIZE)

    @rs.Asset
    def middle(first: bytes) -> bytes:
        note(folder, "middle")
        fill_record()
        if (folder / "fail").exists():
            raise ConnectionError("not yet")
        return first

    @rs.Asset
    def last(middle: bytes) -> int:
        note(folder, "last")
        fill_record()
        return len(middle)

    return rs.CodeRepository([first, middle, last], default_io_handler=rs.PickleIOHandler(folder / "data", fsync=False))


def fail_run(folder: Path) -> str:
    """Let `middle` fail in a run, and return the run's id."""
    (folder / "fail").touch()
    result = make_repository(folder).materialize(record=folder / "records", raise_on_error=False)
    assert "failure" == result.status
    (folder / "fail").unlink()
    return result.run_id


def resume(folder: Path, run_id: str, **settings: Any) -> Any:
    """Resume the run and return its result; a record that breaks costs a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return make_repository(folder).resume(run_id, record=folder / "records", **settings)


def submitted(folder: Path, run_id: str) -> list[str]:
    """Return the ids of all attempts in the lines of the record that can be read."""
    found = []
    for line in (folder / "records/runs" / run_id / "events.jsonl").read_bytes().splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if event["event"] == "StepSubmitted":
            found.append(event["attempt_id"])
    return found


@contextmanager
def mounted(folder: Path, size: int = 1024) -> Iterator[None]:
    """Mount a disk of so many KiB at a folder, with what is in it."""
    folder.mkdir(exist_ok=True)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a tmpfs needs root and the right to mount")
    for name, data in before.items():
        (folder / name).write_bytes(data)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make a mounted disk read-only."""
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)


@contextmanager
def full(folder: Path, left: int) -> Iterator[None]:
    """Fill a disk, so that about so many bytes are left."""
    filler = folder / "filler"
    free = os.statvfs(folder)
    filler.write_bytes(bytes(max(0, free.f_bavail * free.f_bsize - left)))
    try:
        yield
    finally:
        filler.unlink()
