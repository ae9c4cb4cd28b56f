"""The pipes between the controller and a worker: packets, frames, the page, and who may believe what."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator

import pytest
import worker_steps as steps
import worker_wire as meddling

import rivers as rs
from rivers_executor_parallel import wire
from rivers_executor_parallel.wire import Inbox, Outbox, SharedPage
from rivers_process.frames import FrameReader


@pytest.fixture
def inbox() -> Iterator[tuple[int, int]]:
    """Both ends of an inbox."""
    ends = wire.open_inbox()
    yield ends
    for end in ends:
        os.close(end)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe for frames, whose read end does not block."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    yield read, write
    for end in (read, write):
        os.close(end)


def test_packets_stay_whole_and_in_order(inbox: tuple[int, int]) -> None:
    """Each read returns one packet, however many were written, as it was written."""
    read, write = inbox
    sent = [(number, wire.SPEC, b"x" * size) for number, size in enumerate((0, 1, 1000, 4087))]
    for number, kind, payload in sent:
        os.write(write, wire.encode_packet(number, kind, payload))
    reader = Inbox(read)

    assert sent == [reader.next() for _ in sent]


def test_what_fits_is_one_packet(inbox: tuple[int, int]) -> None:
    """`fits_packet` is true exactly to what the kernel leaves in one piece."""
    read, write = inbox
    most = next(size for size in range(wire.PACKET, 0, -1) if wire.fits_packet(b"x" * size))
    packet = wire.encode_packet(7, wire.SPEC, b"x" * most)
    os.write(write, packet)

    assert (wire.PACKET, packet) == (len(packet), os.read(read, 2 * wire.PACKET))


def test_a_packet_has_one_reader(inbox: tuple[int, int]) -> None:
    """A packet goes either to the worker or back to the controller, however they race."""
    read, write = inbox
    got: dict[str, list[int]] = {"worker": [], "controller": []}

    def take(who: str) -> None:
        while sum(map(len, got.values())) < 3000:
            try:
                got[who].append(wire.decode_packet(os.read(read, wire.PACKET))[0])
            except BlockingIOError:
                continue

    threads = [threading.Thread(target=take, args=(who,)) for who in got]
    for thread in threads:
        thread.start()
    number = 0
    while number < 3000:
        try:
            os.write(write, wire.encode_packet(number, wire.SPEC, b"x" * (number % 100)))
            number += 1
        except BlockingIOError:
            continue
    for thread in threads:
        thread.join(30)

    assert list(range(3000)) == sorted(got["worker"] + got["controller"])


def test_an_inbox_ends_with_its_writer() -> None:
    """A worker that waits for a packet gets EOFError when its writer is gone."""
    read, write = wire.open_inbox()
    os.close(write)
    with pytest.raises(EOFError):
        Inbox(read).next()
    os.close(read)


def test_an_outbox_writes_more_than_a_pipe_holds(pipe: tuple[int, int]) -> None:
    """A frame larger than the pipe waits for the reader and arrives whole; two threads do not mix theirs."""
    read, write = pipe
    outbox = Outbox(os.dup(write))
    payloads = [bytes([number]) * 200_000 for number in (1, 2)]
    threads = [threading.Thread(target=outbox.write, args=(wire.EVENT, payload)) for payload in payloads]
    for thread in threads:
        thread.start()
    frames, got = FrameReader(read, 1 << 20), []
    while len(got) < 2:
        if frames.fill():
            got += frames.take()
    for thread in threads:
        thread.join(30)
    os.close(outbox._descriptor)

    assert payloads == sorted(payload for _, payload in got)


def test_the_page_is_shared() -> None:
    """One side reads what the other one has written; a large spec behind the page comes back as it was."""
    descriptor = SharedPage.create()
    here, there = SharedPage(descriptor), SharedPage(descriptor)
    here.cancelled_seq, there.running_seq = 7, 2**63
    spec = os.urandom(100_000)

    assert (2**63, 7, spec) == (here.running_seq, there.cancelled_seq, there.read_spec(here.write_spec(spec)))
    here.close()
    there.close()
    os.close(descriptor)


# ---- with real workers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asset", [meddling.writes_garbage, meddling.writes_a_false_event], ids=lambda asset: asset.name
)
def test_what_a_worker_writes_is_not_believed(
    repository: Callable[..., rs.CodeRepository], notes: Callable[[], list[str]], asset: rs.Asset
) -> None:
    """Garbage, a pickle or another's result in a worker's pipe fail its step alone; nothing is unpickled."""
    result = repository(asset, steps.base, steps.after_base).materialize(raise_on_error=False)

    report = result.steps[asset.name]
    assert report.failure is not None
    assert rs.FailureReason.INFRASTRUCTURE is report.failure.reason
    assert "it wrote what is no event" in report.failure.message
    assert [] == notes()
    assert {("succeeded", 1)} == {
        (other.state.value, other.attempts) for key, other in result.steps.items() if key != asset.name
    }


def test_a_worker_that_closes_its_pipes(repository: Callable[..., rs.CodeRepository]) -> None:
    """A body that closes all descriptors loses its own step at most, and the run ends."""
    result = repository(meddling.closes_its_pipes, steps.base, steps.after_base).materialize(raise_on_error=False)

    assert {"succeeded"} == {report.state.value for key, report in result.steps.items() if key != "closes_its_pipes"}
    assert result.steps["closes_its_pipes"].state in ("failed", "succeeded")


def test_no_socket_is_opened(repository: Callable[..., rs.CodeRepository]) -> None:
    """Neither the controller nor a worker has a socket that was not there before."""

    def here() -> set[str]:
        names = set()
        for name in os.listdir("/proc/self/fd"):
            try:
                names.add(os.readlink(f"/proc/self/fd/{name}"))
            except OSError:
                continue
        return {name for name in names if name.startswith("socket:")}

    before, during = here(), set()
    repo = repository(meddling.sockets)
    repo.materialize(on_event=lambda event: during.update(here()))

    assert set() == during - before
    # A worker may have inherited the standard streams of whoever runs these tests.
    assert set() == set(repo.load_node("sockets")) - before


def test_specs_of_any_size(repository: Callable[..., rs.CodeRepository]) -> None:
    """Specs that do not fit into a packet reach their worker, one after the other, in between small ones."""
    assets = [steps.base]
    for number in range(6):
        tags = [f"t{n}" for n in range(900 if number % 2 else 1)]

        def sized(context: rs.AssetExecutionContext) -> int:
            return len(context.tags or ())

        assets.append(rs.Asset(name=f"sized_{number}", io_handler="store", tags=tags)(sized))
    repo = repository(*assets, workers=1)
    repo.materialize()

    assert [1, 900] * 3 == [repo.load_node(f"sized_{number}") for number in range(6)]
