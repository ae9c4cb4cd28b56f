"""A `rivers-worker serve` in a process of its own, and plain calls to it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import grpc
import pytest

from rivers.protocol import (
    ConfiguredRef,
    ImportRef,
    LogRecord,
    LogSettings,
    Output,
    StepEvent,
    StepResult,
    StepSpec,
    StepStarted,
)
from rivers.protocol.protobuf import decode_event_protobuf, encode_spec_protobuf
from rivers_worker.announcement import Announcement, announcement_in
from rivers_worker.credentials import Identity, worker_name
from rivers_worker.v1 import worker_pb2 as pb

CODE = Path(__file__).parent / "user_code"
PATIENCE = 20.0
SERVICE = pb.DESCRIPTOR.services_by_name["StepWorker"]


class Served:
    """The process, `process`, with its output in files, and `call`s by a controller that it obeys.

    It is called once it was waited for, `announced`. `environment` is added to what it needs; a value of None leaves a
    variable out. `errors_to` is a file descriptor that it gets for its stderr. `prefix` is
    put before its command.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        errors_to: int | None = None,
        prefix: Sequence[str] = (),
        **environment: str | None,
    ) -> None:
        self.run_id, self.attempt_id = "run-1", uuid.uuid4().hex
        self.controller = Identity.of_controller(self.run_id)
        self.folder = folder
        self._notes = folder / "notes"
        self._notes.touch()
        given = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join([str(CODE), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "RIVERS_TEST_MARK": os.environ.get("RIVERS_TEST_MARK"),
            "RIVERS_TEST_NOTES": str(self._notes),
            "RIVERS_RUN_ID": self.run_id,
            "RIVERS_ATTEMPT_ID": self.attempt_id,
            "RIVERS_CONTROLLER_CERTIFICATE": self.controller.text,
            "RIVERS_TERMINATION_LOG": str(folder / "termination"),
            "RIVERS_WORKER": "the worker",
            "RIVERS_HEARTBEAT": "0.3",
            "RIVERS_ORPHAN_TTL": "30",
            "RIVERS_GRACE": "6",
            **environment,
        }
        with (folder / "output").open("wb") as output, (folder / "errors").open("wb") as errors:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "rivers_worker", "serve", *arguments],
                env={name: value for name, value in given.items() if value is not None},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors if errors_to is None else errors_to,
            )
        self.announcement = Announcement(0, b"")
        self._channel: Any = None

    def announced(self) -> Self:
        """Wait for its announcement."""
        until = time.monotonic() + PATIENCE
        while (found := announcement_in((self.folder / "output").read_bytes())) is None:
            assert self.process.poll() is None, self.errors
            assert time.monotonic() < until, self.errors
            time.sleep(0.01)
        self.announcement = found
        self._channel = grpc.secure_channel(
            f"127.0.0.1:{found.port}",
            self.controller.channel_credentials(found.certificate),
            options=(
                ("grpc.ssl_target_name_override", worker_name(self.attempt_id)),
                ("grpc.enable_http_proxy", 0),
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.enable_retries", 0),
            ),
        )
        return self

    def close(self) -> None:
        """Kill it, if it still lives."""
        if self._channel is not None:
            self._channel.close()
        self.process.kill()
        self.process.wait()

    # ── what it leaves ──

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text(errors="replace")

    @property
    def errors(self) -> str:
        return (self.folder / "errors").read_text(errors="replace")

    @property
    def notes(self) -> list[str]:
        return self._notes.read_text().splitlines()

    @property
    def termination(self) -> str:
        path = self.folder / "termination"
        return path.read_text() if path.exists() else ""

    def noted(self, text: str) -> None:
        """Wait until a body has noted this."""
        until = time.monotonic() + PATIENCE
        while text not in self.notes:
            assert time.monotonic() < until, f"{self.notes} {self.errors}"
            time.sleep(0.01)

    def ended(self, within: float = 10.0) -> int:
        """Its exit code."""
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the worker goes on: {self.errors}") from None

    # ── calls ──

    def caller(self, epoch: int = 0, **other: str) -> pb.Caller:
        return pb.Caller(**{"run_id": self.run_id, "attempt_id": self.attempt_id, "epoch": epoch, **other})

    def handshake(
        self, *specs: StepSpec, version: int = 1, caller: pb.Caller | None = None, timeout: float = PATIENCE
    ) -> pb.HandshakeReply:
        request = pb.HandshakeRequest(
            caller=caller or self.caller(), protocol_version=version, specs=map(encode_spec_protobuf, specs)
        )
        reply: pb.HandshakeReply = self._one("Handshake", pb.HandshakeReply)(request, timeout=timeout)
        return reply

    def execute(self, spec: StepSpec | bytes, *, key: bytes = b"", epoch: int = 0) -> Any:
        """The stream; each wait for an event ends after a while."""
        data = spec if isinstance(spec, bytes) else encode_spec_protobuf(spec)
        request = pb.ExecuteRequest(caller=self.caller(epoch), spec=data, pickle_key=key)
        return self._stream("Execute")(request, timeout=2 * PATIENCE)

    def attach(self, from_seq: int = 0, *, epoch: int = 0) -> Any:
        return self._stream("Attach")(
            pb.AttachRequest(caller=self.caller(epoch), from_seq=from_seq), timeout=2 * PATIENCE
        )

    def cancel(self, grace: float, *, epoch: int = 0) -> pb.CancelReply:
        request = pb.CancelRequest(caller=self.caller(epoch), grace=grace)
        reply: pb.CancelReply = self._one("Cancel", pb.CancelReply)(request, timeout=PATIENCE)
        return reply

    def ack(self, seq: int = 0, *, epoch: int = 0) -> pb.AckReply:
        request = pb.AckRequest(caller=self.caller(epoch), seq=seq)
        reply: pb.AckReply = self._one("Ack", pb.AckReply)(request, timeout=PATIENCE)
        return reply

    def run(self, spec: StepSpec, *, key: bytes = b"") -> list[pb.Event]:
        """Execute to the end; heartbeats are left out."""
        return numbered(self.execute(spec, key=key))

    def result(self, spec: StepSpec, *, key: bytes = b"") -> StepResult:
        last = told(self.run(spec, key=key))[-1]
        assert isinstance(last, StepResult), last
        return last

    def _one(self, name: str, reply: Any) -> Any:
        return self._channel.unary_unary(f"/{SERVICE.full_name}/{name}", _bytes_of, reply.FromString)

    def _stream(self, name: str) -> Any:
        return self._channel.unary_stream(f"/{SERVICE.full_name}/{name}", _bytes_of, pb.Event.FromString)

    # ── specs ──

    def spec(self, body: str, module: str = "served_steps", *, store: bool = False, **fields: Any) -> StepSpec:
        """A spec for a body of the user's code; with `store` its value is kept in `folder`."""
        given: dict[str, Any] = {
            "run_id": self.run_id,
            "step": body,
            "attempt_id": self.attempt_id,
            "function": ImportRef(module=module, qualname=body),
            "logs": LogSettings(level=20, capture=True),
            "outputs": (Output(name=body, key=body, io_handler=self.store),) if store else (),
        }
        return StepSpec(**{**given, **fields})

    @property
    def store(self) -> ConfiguredRef:
        cls = ImportRef(module="rivers", qualname="PickleIOHandler")
        return ConfiguredRef(cls=cls, json=f'{{"store": "{self.folder}/store"}}')


def _bytes_of(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data


def numbered(stream: Any) -> list[pb.Event]:
    """The events of a stream until it ends, but for the heartbeats."""
    return [event for event in stream if not event.HasField("heartbeat")]


def told(events: list[pb.Event]) -> list[StepEvent | pb.Lost]:
    """What the events say."""
    return [event.lost if event.HasField("lost") else decode_event_protobuf(event.step_event) for event in events]


def messages(events: list[pb.Event]) -> list[str]:
    """The texts of the log records."""
    return [event.message for event in told(events) if isinstance(event, LogRecord)]


def next_told(stream: Any, kind: type = StepStarted) -> StepEvent:
    """The next event of that kind."""
    for event in stream:
        if event.HasField("step_event") and isinstance(found := decode_event_protobuf(event.step_event), kind):
            return found
    raise AssertionError(f"the stream has ended without a {kind.__name__}")


@contextlib.contextmanager
def refused(code: grpc.StatusCode, *words: str) -> Iterator[None]:
    """Expect the call to end with this status and these words."""
    with pytest.raises(grpc.RpcError) as refusal:
        yield

    assert code is refusal.value.code(), refusal.value
    for word in words:
        assert word in refusal.value.details()
