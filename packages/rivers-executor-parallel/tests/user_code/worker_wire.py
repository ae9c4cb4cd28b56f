"""Assets that meddle with the pipes of their worker."""

from __future__ import annotations

import os
import pickle
import time
from pathlib import Path
from typing import Any

import worker_steps

import rivers as rs


class Marker:
    """Leaves a note where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return worker_steps.note, ("unpickled",)


def pipes() -> list[int]:
    """Return the descriptors of pipes that this process can write to, but for its own output."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
            flags = int(Path(f"/proc/self/fdinfo/{name}").read_text().split("flags:")[1].split()[0], 8)
        except OSError:
            continue
        if target.startswith("pipe:") and int(name) > 2 and flags & os.O_WRONLY:
            found.append(int(name))
    return found


@rs.Asset(io_handler="store")
def writes_garbage() -> int:
    """Write bytes that are no frames, and then pickles, into all that can be written to."""
    for descriptor in pipes():
        for data in (b"\xff" * 64, pickle.dumps(Marker())):
            try:
                os.write(descriptor, data)
            except OSError:
                break
    time.sleep(60)  # killed in here, before anything is stored
    return 1


@rs.Asset(io_handler="store")
def closes_its_pipes() -> int:
    os.closerange(3, 100)
    return 1


@rs.Asset(io_handler="store")
def writes_a_false_event() -> int:
    """Write a whole frame that reports the end of another attempt."""
    import struct

    from rivers.protocol import Ending, StepResult, encode_event

    event = encode_event(StepResult(attempt_id="somebody else's", ending=Ending.SUCCEEDED))
    for descriptor in pipes():
        try:
            os.write(descriptor, struct.pack("<Ic", len(event), b"e") + event)
        except OSError:
            continue
    time.sleep(60)  # killed in here, before anything is stored
    return 1


@rs.Asset(io_handler="store")
def sockets() -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if target.startswith("socket:"):
            found.append(target)
    return found
