"""Frames on pipes: complete and in order, however they are cut; what is no frame is refused."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from rivers_process.frames import Frame, FrameReader, encode_frame, write_frame


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe whose read end does not block."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    yield read, write
    for end in (read, write):
        os.close(end)


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7, 4096])
def test_frames_may_be_cut_anywhere(pipe: tuple[int, int], step: int) -> None:
    """Frames come out complete and in order, wherever the bytes were cut on their way."""
    read, write = pipe
    sent = [(b"h", b""), (b"e", b"abc"), (b"f", bytes(range(256))), (b"r", b"")]
    data = b"".join(encode_frame(*frame) for frame in sent)
    reader, got = FrameReader(read, 1000), []
    for start in range(0, len(data), step):
        os.write(write, data[start : start + step])
        while reader.fill():
            got += reader.take()

    assert sent == got


def test_a_frame_that_is_too_large_is_refused(pipe: tuple[int, int]) -> None:
    """A length beyond the limit is refused by the head alone, before memory is taken for it."""
    read, write = pipe
    os.write(write, encode_frame(b"e", bytes(1001))[:5])
    reader = FrameReader(read, 1000)
    reader.fill()

    with pytest.raises(ValueError, match="1001 bytes, expected at most 1000"):
        reader.take()


def test_a_reader_that_waits() -> None:
    """What is written is read, in order, also where it is larger than the pipe; then comes the end."""
    read, write = os.pipe()
    written = [(b"g", b""), (b"l", b"x" * 300_000), (b"r", b"end")]

    def send() -> None:
        for frame in written:
            write_frame(write, *frame)
        os.close(write)

    sender = threading.Thread(target=send)
    sender.start()
    reader = FrameReader(read, 1 << 20)
    found = [reader.next() for _ in range(4)]
    sender.join()
    os.close(read)

    assert [*written, None] == found


@pytest.mark.parametrize("data", [b"", b"\0", b"\5\0\0\0\1abc"])
def test_a_cut_frame_is_the_end(data: bytes) -> None:
    """A frame whose writer ended in the middle of it is not returned."""
    assert None is read_one(data)


def test_a_length_that_no_frame_has() -> None:
    """A reader that waits refuses a length beyond the limit at once."""
    with pytest.raises(ValueError, match="4294967295 bytes"):
        read_one(b"\xff\xff\xff\xff\1")


def read_one(data: bytes) -> Frame | None:
    read, write = os.pipe()
    os.write(write, data)
    os.close(write)
    try:
        return FrameReader(read, 1 << 20).next()
    finally:
        os.close(read)
