"""What goes through a lane's pipes: both ends in one file, so that they cannot drift apart.

    inbox    controller ──▶ worker    one packet each: what to do next. A pipe in packet mode: whoever reads gets one
                                      whole packet, so that the controller can take back what the worker has not read
    events   worker ──▶ controller    frames: encoded events, and the worker's own few words
    page     both                     16 bytes of memory: what the worker is at, and what it shall stop

Only bytes of `rivers.protocol` come out of a worker. A spec that does not fit into a packet lies behind the page.
"""

from __future__ import annotations

import mmap
import os
import select
import signal
import struct
import threading

import msgspec

from rivers_process.frames import encode_frame, write_whole

__all__ = ["Inbox", "Outbox", "Page", "RunSettings", "open_inbox"]

PACKET = select.PIPE_BUF
"""Bytes that a pipe takes in one piece (4096 on Linux)."""

SPEC, LARGE_SPEC, BEGIN_RUN, END_RUN, QUIT = b"S", b"L", b"R", b"E", b"Q"
EVENT, LAST, WARNING, HELLO, RUN_ENDED, LEAVING = b"e", b"f", b"w", b"h", b"r", b"l"
"""LAST is an event after which the worker leaves, as it holds what a body has left behind; WARNING is a text about the
run, while events are about attempts."""

_PACKET_HEAD = struct.Struct("<Qc")
_SEQ = struct.Struct("<Q")


class RunSettings(msgspec.Struct, frozen=True):
    """What a worker has to know of a run."""

    run_id: str
    grace: float
    key: bytes


def open_inbox() -> tuple[int, int]:
    """A pipe in packet mode, as its read and its write end; neither blocks."""
    return os.pipe2(os.O_DIRECT | os.O_CLOEXEC | os.O_NONBLOCK)


def packet(seq: int, kind: bytes, payload: bytes = b"") -> bytes:
    """One packet for an inbox."""
    return _PACKET_HEAD.pack(seq, kind) + payload


def parse(data: bytes) -> tuple[int, bytes, bytes]:
    """The number, the kind and the payload of a packet."""
    seq, kind = _PACKET_HEAD.unpack_from(data)
    return seq, kind, data[_PACKET_HEAD.size :]


def fits(payload: bytes) -> bool:
    """Whether a payload goes into one packet."""
    return len(payload) + _PACKET_HEAD.size <= PACKET


class Inbox:
    """The worker's end of the inbox."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    def holds_one(self) -> bool:
        """Return whether a packet waits, or nobody will write one any more."""
        return bool(self._poll.poll(0))

    def next(self) -> tuple[int, bytes, bytes]:
        """Wait for the next packet and take it; EOFError when nobody will write one any more."""
        while True:
            try:
                data = os.read(self._descriptor, PACKET)
            except BlockingIOError:
                self._poll.poll()  # ends: the controller writes, or it dies and the pipe hangs up
                continue
            if not data:
                raise EOFError
            return parse(data)


class Outbox:
    """The worker's end of the events; a frame is written whole or not at all."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def write(self, kind: bytes, payload: bytes = b"") -> None:
        """Write a frame, waiting while the controller is behind: a step that floods slows itself."""
        data = encode_frame(kind, payload)
        if len(data) <= PACKET:
            self._write(data)
            return
        # Being asked to stop raises in whatever the main thread does: it must not cut a frame in two.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            self._write(data)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _write(self, data: bytes) -> None:
        with self._lock:
            write_whole(self._descriptor, data)


class Page:
    """16 bytes that controller and worker share, and behind them room for a spec that is too large for a packet."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._memory = mmap.mmap(descriptor, PACKET)

    @staticmethod
    def make() -> int:
        """The descriptor of a new one: memory without a name, which is gone with its last process."""
        descriptor = os.memfd_create("rivers-lane", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, PACKET)
        return descriptor

    @property
    def running(self) -> int:
        """The number of the spec that the worker has begun last; 0 when none runs."""
        return int(_SEQ.unpack_from(self._memory, 0)[0])

    @running.setter
    def running(self, seq: int) -> None:
        _SEQ.pack_into(self._memory, 0, seq)

    @property
    def unwanted(self) -> int:
        """The number of the spec that SIGTERM is about: a signal that comes late must not hit the next one."""
        return int(_SEQ.unpack_from(self._memory, 8)[0])

    @unwanted.setter
    def unwanted(self, seq: int) -> None:
        _SEQ.pack_into(self._memory, 8, seq)

    def put(self, data: bytes) -> bytes:
        """Lay a spec behind the page; returns what the packet has to say of it."""
        os.pwrite(self._descriptor, data, PACKET)
        return _SEQ.pack(len(data))

    def take(self, told: bytes) -> bytes:
        """The spec that a packet speaks of."""
        return os.pread(self._descriptor, _SEQ.unpack(told)[0], PACKET)

    def close(self) -> None:
        """Let go of the memory."""
        self._memory.close()
