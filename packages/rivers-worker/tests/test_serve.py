"""Tests of `rivers-worker serve`: its start, its exit codes and what it leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from running.left_behind import marked, wait_for_none
from served_worker import Served, next_told, numbered, refused, told

from rivers.protocol import Ending, StepResult
from rivers_worker.announcement import announcement_in
from rivers_worker.client import outcome_in
from rivers_worker.credentials import Identity

Serve = Callable[..., Served]


def test_an_attempt(serve: Serve) -> None:
    """From the handshake to the end: the body runs once, its value is stored, and after the ack the code is 0."""
    worker = serve()
    hello = worker.handshake()
    events = worker.run(worker.spec("quick", store=True))
    worker.ack(events[-1].seq)

    assert (1, "the worker") == (hello.protocol_version, hello.worker)
    assert [1, 2] == [event.seq for event in events]
    assert [False, True] == [event.last for event in events]
    result = told(events)[-1]
    assert isinstance(result, StepResult)
    assert (Ending.SUCCEEDED, "the worker") == (result.ending, result.worker)
    assert 0 == worker.ended()
    assert ["quick"] == worker.notes
    assert [worker.folder / "store" / "quick.pkl"] == list((worker.folder / "store").glob("*.pkl"))
    assert outcome_in(worker.termination, worker.attempt_id) == result


class TestExitCodes:
    def test_a_failed_step(self, serve: Serve) -> None:
        """A step that failed and whose failure was sent ends the worker with 10."""
        worker = serve()
        result = worker.result(worker.spec("fails"))
        worker.ack()

        assert result.failure is not None
        assert ("ValueError", "no such thing") == (result.failure.type.rpartition(".")[2], result.failure.message)
        assert 10 == worker.ended()

    def test_a_spec_that_cannot_be_read(self, serve: Serve) -> None:
        """Bytes that are no spec are a failure that is not transient, and end the worker with 11."""
        worker = serve()
        (event,) = numbered(worker.execute(b"\xff\xff"))
        worker.ack()

        (result,) = told([event])
        assert isinstance(result, StepResult)
        assert result.failure is not None
        assert result.failure.transient is False
        assert 11 == worker.ended()

    def test_the_spec_of_another_attempt(self, serve: Serve) -> None:
        """A spec of another attempt is not run, and ends the worker with 11."""
        worker = serve()
        result = worker.result(worker.spec("quick", attempt_id="another"))
        worker.ack()

        assert result.failure is not None
        assert "'another'" in result.failure.message
        assert 11 == worker.ended()
        assert [] == worker.notes

    @pytest.mark.parametrize("name", ["RIVERS_RUN_ID", "RIVERS_ATTEMPT_ID", "RIVERS_CONTROLLER_CERTIFICATE"])
    def test_whom_to_serve_is_not_said(self, serve: Serve, name: str) -> None:
        """Without run, attempt or controller it names the missing one, announces nothing and ends with 12."""
        worker = serve(announces=False, **{name: None})

        assert 12 == worker.ended()
        assert f"{name} is not set" in worker.errors
        assert "" == worker.output

    def test_a_scratch_folder_that_is_missing(self, serve: Serve, tmp_path: Path) -> None:
        """A session whose scratch folder cannot be read announces nothing and ends with 12."""
        worker = serve(announces=False, RIVERS_MAX_ATTEMPTS="2", RIVERS_SCRATCH=str(tmp_path / "missing"))

        assert 12 == worker.ended()
        assert "invalid RIVERS_SCRATCH" in worker.errors
        assert "" == worker.output

    def test_a_certificate_that_is_none(self, serve: Serve) -> None:
        """A controller's certificate that cannot be read ends it with 12, and leaves no body behind."""
        worker = serve(announces=False, RIVERS_CONTROLLER_CERTIFICATE="bm9uZQ==")

        assert 12 == worker.ended()
        assert "no certificate" in worker.errors
        assert "" == worker.output

    def test_another_version_of_the_protocol(self, serve: Serve) -> None:
        """A controller of another version gets both versions, and the worker ends with 14."""
        worker = serve()
        with refused(grpc.StatusCode.UNIMPLEMENTED, "version 1", "version 2"):
            worker.handshake(version=2)

        assert 14 == worker.ended()

    def test_another_version_while_a_body_runs(self, serve: Serve) -> None:
        """A handshake of another version ends no attempt that is going on."""
        worker = serve()
        stream = worker.execute(worker.spec("soon", is_async=True))
        next_told(stream)
        with refused(grpc.StatusCode.UNIMPLEMENTED):
            worker.handshake(version=2)

        assert Ending.SUCCEEDED is told(numbered(stream))[-1].ending  # type: ignore[union-attr]
        worker.ack()
        assert 0 == worker.ended()

    def test_an_output_that_cannot_be_stored(self, serve: Serve) -> None:
        """A value that its IO handler cannot keep ends the worker with 15."""
        worker = serve()
        (worker.folder / "store").write_text("a file where a folder belongs")
        result = worker.result(worker.spec("quick", store=True))
        worker.ack()

        assert result.failure is not None
        assert "rivers.exceptions.OutputCommitError" == result.failure.type
        assert 15 == worker.ended()

    def test_an_address_that_is_taken(self, serve: Serve) -> None:
        """A port that is in use ends it with 70 and names the address."""
        first = serve()
        address = f"127.0.0.1:{first.announcement.port}"
        second = serve(announces=False, RIVERS_LISTEN=address)

        assert 70 == second.ended()
        assert f"cannot listen on {address}" in second.errors


class TestNobodyCalls:
    def test_from_the_start(self, serve: Serve) -> None:
        """A worker that no controller calls ends with 13 after `orphan_ttl`, its body with it."""
        worker = serve(RIVERS_ORPHAN_TTL="1")

        assert 13 == worker.ended()
        assert "" == worker.termination

    def test_while_the_body_runs(self, serve: Serve, nothing_is_left: str) -> None:
        """A body whose controller has gone is killed after `orphan_ttl`, and leaves no outcome: it was not its own."""
        worker = serve(RIVERS_ORPHAN_TTL="1.5")
        stream = worker.execute(worker.spec("waits"))
        next_told(stream)
        worker.noted("waits")
        stream.cancel()

        assert 13 == worker.ended()
        assert ["waits"] == worker.notes
        assert "" == worker.termination
        assert [] == wait_for_none(lambda: marked(nothing_is_left))

    def test_a_stream_is_a_controller(self, serve: Serve) -> None:
        """While a controller listens it is there, however long nothing happens; once it has gone, the time runs."""
        worker = serve(RIVERS_ORPHAN_TTL="1")
        stream = worker.execute(worker.spec("waits"))
        worker.noted("waits")
        time.sleep(2.5)

        assert None is worker.process.poll()
        stream.cancel()
        assert 13 == worker.ended()

    def test_a_call_is_a_controller(self, serve: Serve) -> None:
        """Each call starts the time anew."""
        worker = serve(RIVERS_ORPHAN_TTL="1.5")
        for _ in range(4):
            time.sleep(0.7)
            worker.handshake()

        assert 13 == worker.ended()

    def test_a_stranger_is_none(self, serve: Serve, tmp_path: Path) -> None:
        """Calls of somebody else, who gets nowhere, keep no worker alive."""
        worker = serve(RIVERS_ORPHAN_TTL="1.5")
        stranger = Identity.of_controller(worker.run_id).channel_credentials(worker.announcement.certificate)
        with grpc.secure_channel(f"127.0.0.1:{worker.announcement.port}", stranger) as channel:
            until = time.monotonic() + 10
            while worker.process.poll() is None and time.monotonic() < until:
                with refused(grpc.StatusCode.UNAVAILABLE):
                    channel.unary_unary("/rivers_worker.v1.StepWorker/Handshake")(b"", timeout=2)
                time.sleep(0.05)

        assert 13 == worker.ended(0.1)

    def test_nobody_acknowledges(self, serve: Serve) -> None:
        """A result without an acknowledgement is kept for `orphan_ttl`; the exit code is that of the attempt then."""
        worker = serve(RIVERS_ORPHAN_TTL="1")
        result = worker.result(worker.spec("fails"))

        assert 10 == worker.ended()
        assert Ending.FAILED is result.ending


class TestSigterm:
    def test_before_an_attempt(self, serve: Serve) -> None:
        """A worker that has nothing to do goes at once, with 143."""
        worker = serve(RIVERS_GRACE="30")
        worker.process.terminate()

        assert 143 == worker.ended(5)
        assert "" == worker.termination

    def test_on_its_way_into_a_wait(self, serve: Serve) -> None:
        """A SIGTERM that does not interrupt the main thread's wait is noticed all the same."""
        worker = serve(prefix=[sys.executable, str(Path(__file__).with_name("deaf_main_thread.py"))])
        worker.process.terminate()

        assert 143 == worker.ended(5)

    def test_before_it_is_ready(self, serve: Serve) -> None:
        """A SIGTERM that comes while it still starts is not lost, as it would be for a container's first process."""
        worker = serve(announces=False)
        until = time.monotonic() + 10
        while not [line for line in marked(os.environ["RIVERS_TEST_MARK"]) if "rivers_worker.body" in line]:
            assert time.monotonic() < until
            time.sleep(0.002)
        worker.process.terminate()

        assert 143 == worker.ended(10)

    def test_a_body_that_stops(self, serve: Serve) -> None:
        """The body may clean up, its result is sent and acknowledged, and the code is 143."""
        worker = serve()
        stream = worker.execute(worker.spec("waits"))
        worker.noted("waits")
        worker.process.terminate()
        events = numbered(stream)

        result = told(events)[-1]
        assert isinstance(result, StepResult)
        assert Ending.CANCELLED is result.ending
        assert ["waits", "cleaned up"] == worker.notes
        assert None is worker.process.poll(), "it waits for the ack"
        worker.ack(events[-1].seq)
        assert 143 == worker.ended(2)
        assert Ending.CANCELLED is outcome_in(worker.termination, worker.attempt_id).ending  # type: ignore[union-attr]

    def test_a_body_that_does_not_stop(self, serve: Serve) -> None:
        """It is killed in time to send its result before the grace is over."""
        worker = serve(RIVERS_GRACE="3")
        stream = worker.execute(worker.spec("ignores"))
        worker.noted("ignores")
        began = time.monotonic()
        worker.process.terminate()
        last = told(numbered(stream))[-1]

        assert signal.SIGKILL == last.signal  # type: ignore[union-attr]
        assert last.cancelled  # type: ignore[union-attr]
        assert 143 == worker.ended(5)
        assert time.monotonic() - began < 5
        assert "asked" in worker.notes

    def test_nothing_new_is_begun(self, serve: Serve) -> None:
        """While it goes it joins who asks for the attempt that runs, and takes no other."""
        worker = serve()
        stream = worker.execute(worker.spec("ignores"))
        worker.noted("ignores")
        worker.process.terminate()
        worker.noted("asked")
        again = worker.execute(worker.spec("ignores"))
        next_told(again)
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "another spec"):
            next(worker.execute(worker.spec("quick")))

        assert numbered(stream)[-1] == numbered(again)[-1]

    def test_nobody_listens(self, serve: Serve) -> None:
        """Without a controller it goes as soon as the body has ended."""
        worker = serve(RIVERS_GRACE="30")
        stream = worker.execute(worker.spec("waits"))
        worker.noted("waits")
        stream.cancel()
        worker.process.terminate()

        assert 143 == worker.ended(10)
        assert ["waits", "cleaned up"] == worker.notes


class TestSigkill:
    def test_of_the_server(self, serve: Serve, nothing_is_left: str) -> None:
        """The kernel kills the body along with its server, in whatever it does."""
        worker = serve()
        stream = worker.execute(worker.spec("hogs"))
        worker.noted("hogs")
        worker.process.kill()

        with refused(grpc.StatusCode.UNAVAILABLE):
            list(stream)
        assert [] == wait_for_none(lambda: marked(nothing_is_left), 3)


class TestTheAnnouncement:
    def test_user_code_cannot_come_before_it(self, serve: Serve) -> None:
        """A module that prints an announcement at import comes after the worker, also if it is imported at once."""
        worker = serve("--module", "announces_itself", RIVERS_MODULES="notes_at_import")
        worker.noted("imported")
        worker.handshake(worker.spec("quick"))

        lines = worker.output.splitlines()
        assert worker.announcement.line == lines[0]
        assert "rivers-worker 1 1 TUlJ" == lines[1]
        assert worker.announcement == announcement_in((worker.output + worker.errors).encode())

    def test_is_one_line(self, serve: Serve) -> None:
        """The line is the worker's whole output."""
        worker = serve()
        worker.run(worker.spec("quick"))
        worker.ack()

        assert 0 == worker.ended()
        assert f"{worker.announcement.line}\n" == worker.output
        assert "" == worker.errors


class TestVersion:
    def test_it_needs_little(self) -> None:
        """`rivers-worker --version` prints the version, and loads neither gRPC nor rivers for it."""
        code = (
            "import sys, rivers_worker.__main__ as command\n"
            "try:\n command.main(['--version'])\n"
            "finally:\n print({'grpc', 'cryptography', 'rivers', 'msgspec', 'pydantic'} & {*sys.modules})"
        )
        printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

        assert ["0.1.0", "set()"] == printed.splitlines()

    def test_without_a_command(self) -> None:
        """Without a command it prints its usage, and its code is not one of an attempt's."""
        done = subprocess.run([sys.executable, "-m", "rivers_worker"], capture_output=True, text=True, check=False)

        assert 2 == done.returncode
        assert "serve" in done.stderr
