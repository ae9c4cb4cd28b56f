"""The pipes between the controller and a worker: both ends in one file, so that they cannot drift apart.

    inbox    controller ──▶ worker    packets: specs and commands. A pipe in packet mode: a read returns one whole
                                      packet, so that the controller can take back what the worker has not read
    events   worker ──▶ controller    frames: encoded events, and the state of the worker
    page     both                     16 bytes of memory: which spec runs, and which one is cancelled

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

__all__ = [
    "Inbox",
    "Outbox",
    "RunParameters",
    "SharedPage",
    "decode_packet",
    "encode_packet",
    "fits_packet",
    "open_inbox",
]

PACKET = select.PIPE_BUF
"""Bytes that a pipe takes in one piece (4096 on Linux)."""

SPEC, LARGE_SPEC, BEGIN_RUN, END_RUN, QUIT = b"S", b"L", b"R", b"E", b"Q"
EVENT, LAST, WARNING, READY, RUN_ENDED, LEAVING = b"e", b"f", b"w", b"h", b"r", b"l"
"""LAST is an event after which the worker exits, as it holds what a body has left behind. WARNING is a text about the
run, while events are about attempts."""

_PACKET_HEAD = struct.Struct("<Qc")
_SEQ = struct.Struct("<Q")


class RunParameters(msgspec.Struct, frozen=True):
    """The facts of a run that its workers need; `grace` is in seconds, `key` signs pickles."""

    run_id: str
    grace: float
    key: bytes


def open_inbox() -> tuple[int, int]:
    """Return the read end and the write end of a pipe in packet mode; neither blocks."""
    return os.pipe2(os.O_DIRECT | os.O_CLOEXEC | os.O_NONBLOCK)


def encode_packet(seq: int, kind: bytes, payload: bytes = b"") -> bytes:
    """Return one packet for an inbox."""
    return _PACKET_HEAD.pack(seq, kind) + payload


def decode_packet(data: bytes) -> tuple[int, bytes, bytes]:
    """Return the number, the kind and the payload of a packet."""
    seq, kind = _PACKET_HEAD.unpack_from(data)
    return seq, kind, data[_PACKET_HEAD.size :]


def fits_packet(payload: bytes) -> bool:
    """Return whether a payload goes into one packet."""
    return len(payload) + _PACKET_HEAD.size <= PACKET


class Inbox:
    """The worker's end of the inbox."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    def has_packet(self) -> bool:
        """Return whether `next` would return or raise at once."""
        return bool(self._poll.poll(0))

    def next(self) -> tuple[int, bytes, bytes]:
        """Wait for the next packet and return it decoded.

        Raises:
            EOFError: the controller has closed its end.
        """
        while True:
            try:
                data = os.read(self._descriptor, PACKET)
            except BlockingIOError:
                self._poll.poll()  # ends: the controller writes, or it dies and the pipe hangs up
                continue
            if not data:
                raise EOFError
            return decode_packet(data)


class Outbox:
    """The worker's end of the events; a frame is written whole or not at all."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def write(self, kind: bytes, payload: bytes = b"") -> None:
        """Write a frame; a full pipe makes the step wait that floods it."""
        data = encode_frame(kind, payload)
        if len(data) <= PACKET:
            self._write(data)
            return
        # The handler of SIGTERM raises in whatever the main thread does: it must not cut a frame in two.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            self._write(data)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _write(self, data: bytes) -> None:
        with self._lock:
            write_whole(self._descriptor, data)


class SharedPage:
    """16 bytes that controller and worker share, and behind them room for a spec that is too large for a packet."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._memory = mmap.mmap(descriptor, PACKET)

    @staticmethod
    def create() -> int:
        """Return the descriptor of a new page: memory without a name, which ends with its last process."""
        descriptor = os.memfd_create("rivers-worker-page", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, PACKET)
        return descriptor

    @property
    def running_seq(self) -> int:
        """The number of the spec that runs in the worker, or 0."""
        return int(_SEQ.unpack_from(self._memory, 0)[0])

    @running_seq.setter
    def running_seq(self, seq: int) -> None:
        _SEQ.pack_into(self._memory, 0, seq)

    @property
    def cancelled_seq(self) -> int:
        """The number of the spec that SIGTERM is about."""
        # Without it a signal that comes late would stop the next spec.
        return int(_SEQ.unpack_from(self._memory, 8)[0])

    @cancelled_seq.setter
    def cancelled_seq(self, seq: int) -> None:
        _SEQ.pack_into(self._memory, 8, seq)

    def write_spec(self, data: bytes) -> bytes:
        """Write a spec behind the page; return the payload of the packet that announces it."""
        os.pwrite(self._descriptor, data, PACKET)
        return _SEQ.pack(len(data))

    def read_spec(self, payload: bytes) -> bytes:
        """Return the spec that a packet with this payload announces."""
        return os.pread(self._descriptor, _SEQ.unpack(payload)[0], PACKET)

    def close(self) -> None:
        """Unmap the memory."""
        self._memory.close()
