"""Tests of the announcement: the one line of a worker's output that is found among any others."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rivers_worker.announcement import MAX_ANNOUNCEMENT_BYTES, PROTOCOL_VERSION, Announcement, announcement_in
from rivers_worker.credentials import Identity
from rivers_worker.errors import AnnouncementError

GOOD = Announcement(7433, b"a certificate's DER")
OTHER = Announcement(7434, b"another certificate's DER")

announcements = st.builds(Announcement, st.integers(1, 65535), st.binary(min_size=1, max_size=1000))
# Lines that other programs print; what begins like an announcement has tests of its own.
noise = st.lists(st.binary(max_size=200).filter(lambda line: b"\n" not in line and not line.startswith(b"rivers-w")))
ends = st.sampled_from([b"\n", b"\r\n"])


def lines(*given: bytes, end: bytes = b"\n") -> bytes:
    return b"".join(line + end for line in given)


@given(announcements, noise, noise, ends)
def test_it_is_found_among_other_output(announced: Announcement, before: list[bytes], after: list[bytes], end: bytes):
    """The line is found whatever was printed before and after it, with either end of line."""
    output = lines(*before, announced.line.encode(), *after, end=end)

    assert announced == announcement_in(output)


@given(announcements, noise, ends)
def test_a_line_that_has_not_ended_is_none(announced: Announcement, before: list[bytes], end: bytes) -> None:
    """Cut anywhere before its end, the output holds no announcement yet; it is never one of half a certificate."""
    whole = lines(*before, announced.line.encode(), end=end)

    assert [None] * len(whole) == [announcement_in(whole[:cut]) for cut in range(len(whole))]


@given(announcements, announcements, noise)
def test_the_first_one_counts(announced: Announcement, forged: Announcement, between: list[bytes]) -> None:
    """A second announcement that comes later changes nothing; neither does the same line again."""
    first = announced.line.encode()

    assert announced == announcement_in(lines(first, *between, forged.line.encode(), first))


@given(st.binary(max_size=300))
@example(b"rivers-worker 1 7433 \xff\n")
@example(b"rivers-worker 1\n")
@example(b"\n\r\n\0")
def test_garbage_is_none_or_a_typed_error(output: bytes) -> None:
    """Any bytes are no announcement, or an AnnouncementError; nothing else is raised."""
    found: object
    try:
        found = announcement_in(output)
    except AnnouncementError as error:
        found = error

    assert found is None or b"rivers-worker " in output


@given(st.lists(st.sampled_from([b"rivers-worker", b" ", b"1", b"2", b"7433", b"YQ==", b"\n", b"\r", b"x", b"="])))
def test_what_has_been_found_stays(words: list[bytes]) -> None:
    """While output grows, the answer changes once at most: from none yet to an announcement, or to an error."""

    def answer(output: bytes) -> object:
        try:
            return announcement_in(output)
        except AnnouncementError:
            return "error"

    output = b"".join(words)
    answers = [answer(output[:cut]) for cut in range(len(output) + 1)]
    changes = [now for before, now in pairwise(answers) if now != before]

    assert answers[0] is None
    assert len(changes) <= 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"rivers-worker 1 7433", "another form"),
        (b"rivers-worker 1 7433 ", "another form"),
        (b"rivers-worker 1 7433 YQ== YQ==", "another form"),
        (b"rivers-worker 1 7433 " + b"YWFh" * 2000, "another form"),
        (b"rivers-worker 1 0 YQ==", "no port"),
        (b"rivers-worker 1 65536 YQ==", "no port"),
        (b"rivers-worker 1 -1 YQ==", "no port"),
        (b"rivers-worker 1 0000000000000000000007433 YQ==", "no port"),
        (b"rivers-worker 1 seven YQ==", "no port"),
        ("rivers-worker 1 ７ YQ==".encode(), "no port"),
        (b"rivers-worker 1 7433 Y", "no base64"),
        (b"rivers-worker 1 7433 YQ=", "no base64"),
        (b"rivers-worker 1 7433 Y\xc3\xa9==", "no base64"),
        (b"rivers-worker 1 7433 YQ==\0", "no base64"),
        (b"rivers-worker 2 7433 YQ==", "version 2"),
        (b"rivers-worker 0 anything", "version 0"),
    ],
)
def test_a_line_of_the_form_that_cannot_be_read(line: bytes, said: str) -> None:
    """A line that begins as an announcement and is none is an error that shows it; a good one later may be forged."""
    with pytest.raises(AnnouncementError, match=said) as raised:
        announcement_in(lines(b"booting", line, GOOD.line.encode()))

    assert f": {line[:100].decode('ascii', 'backslashreplace')!r}" in str(raised.value)
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize(
    "line", [b"rivers-worker 0.1.0 starts", b"rivers-workers 1 7433 YQ==", b" rivers-worker 1 2 YQ=="]
)
def test_other_lines_that_look_alike(line: bytes) -> None:
    """A line that only resembles the form is other output."""
    assert GOOD == announcement_in(lines(line, GOOD.line.encode()))


class TestTheFirst16KiB:
    def test_it_may_end_there(self) -> None:
        """A line whose end is the last byte of the first 16 KiB is found."""
        line = lines(GOOD.line.encode())
        output = lines(b"x" * (MAX_ANNOUNCEMENT_BYTES - len(line) - 1)) + line

        assert MAX_ANNOUNCEMENT_BYTES == len(output)
        assert GOOD == announcement_in(output)
        assert GOOD == announcement_in(output + b"more")

    def test_behind_it_there_is_none(self) -> None:
        """A line that ends one byte later is not taken, and to wait for more is of no use: an error."""
        line = lines(GOOD.line.encode())
        output = lines(b"x" * (MAX_ANNOUNCEMENT_BYTES - len(line))) + line

        assert announcement_in(output[: MAX_ANNOUNCEMENT_BYTES - 1]) is None
        with pytest.raises(AnnouncementError, match="16384 bytes"):
            announcement_in(output)

    def test_one_line_that_never_ends(self) -> None:
        """16 KiB without an end of line are an error, too."""
        with pytest.raises(AnnouncementError, match="16384 bytes"):
            announcement_in(GOOD.line.encode() + b"A" * MAX_ANNOUNCEMENT_BYTES)


def test_the_line_of_a_real_certificate() -> None:
    """A worker's own certificate makes a line of less than 700 characters, which names the version and the port."""
    announced = Announcement(7433, Identity.of_worker("attempt").certificate)

    assert announced.line.startswith(f"rivers-worker {PROTOCOL_VERSION} 7433 MII")
    assert len(announced.line) < 700
    assert announced == announcement_in(lines(announced.line.encode()))
