"""Who is not the controller, or not the worker, gets nowhere: every method of the service, and no handler is entered.

The methods are those of the descriptor, so that a new one is covered as soon as it is there.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from real_worker import RealWorker, started
from scripted_worker import ATTEMPT, RUN, SERVICE, SPEC, ScriptedWorker, Telling, closing, run, serving

from rivers.protocol import Ending
from rivers.protocol.protobuf import encode_spec_protobuf
from rivers_worker.announcement import Announcement
from rivers_worker.client import CredentialsError, Deadlines, WorkerClient, WorkerRefusedError, WorkerUnreachableError
from rivers_worker.credentials import Identity, controller_name, worker_name
from rivers_worker.v1 import worker_pb2 as pb

CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)
PATIENCE = 5.0
REFUSALS = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED}
"""Refused in the TLS handshake, which looks like a dead server, or by the server's guard of every method."""


def made(
    name: str, usage: x509.ObjectIdentifier, since: dt.datetime = NOW - DAY, until: dt.datetime = NOW + DAY
) -> Identity:
    """An identity with any dates and any role."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "rivers")])
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), since, until)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Identity(name, certificate.public_bytes(serialization.Encoding.DER), pem)


def root(certificate: bytes) -> bytes:
    return x509.load_der_x509_certificate(certificate).public_bytes(serialization.Encoding.PEM)


def request_of(method: Any, caller: pb.Caller, spec: bytes) -> Any:
    """A request that would work: this attempt's caller with a high epoch, and a spec that can be run."""
    request = getattr(pb, method.input_type.name)()
    given = {"caller": caller, "protocol_version": 1, "spec": spec, "grace": 0.0}
    for field in method.input_type.fields:
        if field.name == "caller":
            request.caller.CopyFrom(caller)
        elif field.name in given:
            setattr(request, field.name, given[field.name])
    return request


async def outcome_of(channel: grpc.aio.Channel, method: Any, request: Any) -> grpc.StatusCode:
    """How a call of any method ends; OK for an answer."""
    path = f"/{SERVICE.full_name}/{method.name}"
    make = channel.unary_stream if method.server_streaming else channel.unary_unary
    call = make(path, lambda message: message.SerializeToString())(request, timeout=PATIENCE)
    try:
        if method.server_streaming:
            await call.read()
        else:
            await call
    except grpc.aio.AioRpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    finally:
        call.cancel()
    return grpc.StatusCode.OK


async def outcomes(
    target: str, credentials: grpc.ChannelCredentials | None, name: str, caller: pb.Caller, spec: bytes
) -> dict[str, grpc.StatusCode]:
    """How each method of the service ends, each over a connection of its own."""
    options = [("grpc.ssl_target_name_override", name), ("grpc.use_local_subchannel_pool", 1)]
    found = {}
    for method in SERVICE.methods:
        if credentials is None:
            channel = grpc.aio.insecure_channel(target, options)
        else:
            channel = grpc.aio.secure_channel(target, credentials, options)
        async with channel:
            found[method.name] = await outcome_of(channel, method, request_of(method, caller, spec))
    return found


Attack = Callable[[RealWorker], grpc.ChannelCredentials | None]

ATTACKS: dict[str, Attack] = {
    "no certificate": lambda w: grpc.ssl_channel_credentials(root(w.announcement.certificate)),
    "another controller of this run": lambda w: Identity.of_controller(w.run_id).channel_credentials(
        w.announcement.certificate
    ),
    "another run's controller": lambda w: Identity.of_controller("other").channel_credentials(
        w.announcement.certificate
    ),
    "a server's certificate": lambda w: Identity.of_worker(w.attempt_id).channel_credentials(
        w.announcement.certificate
    ),
    "plaintext": lambda w: None,
    "a wrong pinned server": lambda w: w.controller.channel_credentials(Identity.of_worker(w.attempt_id).certificate),
}


def high(worker: RealWorker) -> pb.Caller:
    """A caller whose epoch, once it has got through, would shut the true controller out."""
    return pb.Caller(run_id=worker.run_id, attempt_id=worker.attempt_id, epoch=99)


async def attack(worker: RealWorker, credentials: grpc.ChannelCredentials | None, name: str = "") -> None:
    """Every method is refused, in bounded time."""
    begun = time.monotonic()
    spec = encode_spec_protobuf(worker.spec("quick"))
    name = name or worker_name(worker.attempt_id)
    found = await outcomes(f"127.0.0.1:{worker.port}", credentials, name, high(worker), spec)

    assert {method.name for method in SERVICE.methods} == found.keys()
    assert set(found.values()) <= REFUSALS, found
    assert time.monotonic() - begun < PATIENCE * len(found)


async def assert_untouched(worker: RealWorker) -> None:
    """Nothing has reached the server: the true controller, with its low epoch, finds it waiting and runs it once."""
    async with closing(worker.client()) as client:
        assert "waiting" == (await client.connect()).state
        assert [] == worker.notes
        assert Ending.SUCCEEDED is (await client.execute(worker.spec("quick"), [].append)).ending
        await client.ack()
    assert 0 == await worker.ended()
    assert ["quick"] == worker.notes
    assert "Traceback" not in worker.errors


class TestTheServer:
    @pytest.mark.parametrize("who", ATTACKS)
    def test_strangers_before_the_attempt(self, who: str) -> None:
        """Whoever is not this run's controller, or dials somebody else, gets no method through, and changes nothing."""

        async def test() -> None:
            async with started() as worker:
                await attack(worker, ATTACKS[who](worker))
                await assert_untouched(worker)

        run(test)

    def test_one_who_expects_another_attempt(self) -> None:
        """Even the controller does not get through while it takes the worker for that of another attempt."""

        async def test() -> None:
            async with started() as worker:
                credentials = worker.controller.channel_credentials(worker.announcement.certificate)
                await attack(worker, credentials, name=worker_name("other"))
                await assert_untouched(worker)

        run(test)

    def test_strangers_while_it_runs(self) -> None:
        """While the attempt runs no stranger sees its events, cancels or acknowledges it, or takes it over."""

        async def test() -> None:
            async with started() as worker, closing(worker.client()) as client:
                told = Telling()
                executing = asyncio.create_task(client.execute(worker.spec("waits"), told.append))
                await told.reach(2)
                for credentials in ATTACKS.values():
                    await attack(worker, credentials(worker))
                assert "running" == (await client.connect()).state
                assert not executing.done()
                await client.cancel(1.0)
                assert Ending.CANCELLED is (await executing).ending
                assert ["waits"] == worker.notes

        run(test)

    @pytest.mark.parametrize(
        ("since", "until"), [(NOW - 2 * DAY, NOW - DAY), (NOW + DAY, NOW + 2 * DAY)], ids=["expired", "not yet valid"]
    )
    def test_a_controller_that_is_not_valid_now(self, since: dt.datetime, until: dt.datetime) -> None:
        """The pinned controller cannot connect before or after its certificate's time, and its client says so."""
        name = controller_name("run")
        controller = made(name, CLIENT, since, until)

        async def test() -> None:
            async with started(RIVERS_CONTROLLER_CERTIFICATE=controller.text) as worker:
                await attack(worker, controller.channel_credentials(worker.announcement.certificate))
                assert [] == worker.notes
                with pytest.raises(CredentialsError, match="controller's certificate is valid from"):
                    worker.client(identity=controller)

        run(test)

    @pytest.mark.parametrize(
        "controller",
        [made(controller_name("other"), CLIENT), made(controller_name("run"), SERVER)],
        ids=["another run's name", "a server's role"],
    )
    def test_the_pinned_key_in_another_role(self, controller: Identity) -> None:
        """A worker started with the wrong certificate obeys no controller, not even the holder of its key (G11)."""

        async def test() -> None:
            async with started(RIVERS_CONTROLLER_CERTIFICATE=controller.text) as worker:
                await attack(worker, controller.channel_credentials(worker.announcement.certificate))
                assert [] == worker.notes

        run(test)

    @pytest.mark.parametrize(("run_id", "attempt_id"), [("run", "other"), ("other", None)])
    def test_the_controller_means_another(self, run_id: str, attempt_id: str | None) -> None:
        """The controller that asks for another attempt or run is refused by every method, and nothing has changed."""

        async def test() -> None:
            async with started() as worker:
                caller = pb.Caller(run_id=run_id, attempt_id=attempt_id or worker.attempt_id, epoch=99)
                credentials = worker.controller.channel_credentials(worker.announcement.certificate)
                target, spec = f"127.0.0.1:{worker.port}", encode_spec_protobuf(worker.spec("quick"))
                found = await outcomes(target, credentials, worker_name(worker.attempt_id), caller, spec)
                assert {method.name: grpc.StatusCode.FAILED_PRECONDITION for method in SERVICE.methods} == found
                await assert_untouched(worker)

        run(test)

    def test_a_method_that_is_not_there(self) -> None:
        """A method that the service does not have is unknown to the controller, and out of reach to others."""

        async def test() -> None:
            async with started() as worker:
                own = worker.controller.channel_credentials(worker.announcement.certificate)
                other = Identity.of_controller(worker.run_id).channel_credentials(worker.announcement.certificate)
                codes = []
                for credentials in (own, other):
                    options = [("grpc.ssl_target_name_override", worker_name(worker.attempt_id))]
                    async with grpc.aio.secure_channel(f"127.0.0.1:{worker.port}", credentials, options) as channel:
                        for path in (f"/{SERVICE.full_name}/Shell", "/grpc.reflection.v1.ServerReflection/Info"):
                            with pytest.raises(grpc.aio.AioRpcError) as raised:
                                await channel.unary_unary(path)(b"", timeout=PATIENCE)
                            codes.append(raised.value.code())
                assert [grpc.StatusCode.UNIMPLEMENTED] * 2 + [grpc.StatusCode.UNAVAILABLE] * 2 == codes
                await assert_untouched(worker)

        run(test)

    def test_a_recorded_execute(self) -> None:
        """What a spy has recorded of a whole attempt and sends again means nothing to the server (G13)."""

        async def test() -> None:
            async with started() as worker:
                recorded: list[bytes] = []
                port, close = await _recording(worker.port, recorded)
                async with closing(worker.client(port=port)) as client:
                    assert Ending.SUCCEEDED is (await client.execute(worker.spec("quick"), [].append)).ending
                    for _ in range(3):
                        reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
                        writer.write(b"".join(recorded))
                        async with asyncio.timeout(PATIENCE):
                            while await reader.read(65536):
                                pass
                        writer.close()
                    assert "ended" == (await client.connect()).state
                    await client.ack()
                await close()
                assert 0 == await worker.ended()
                assert ["quick"] == worker.notes

        run(test)


async def _recording(target: int, recorded: list[bytes]) -> tuple[int, Callable[[], Any]]:
    """A proxy's port that writes down what the client sends."""
    tasks: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, record: bool) -> None:
        while data := await reader.read(65536):
            if record:
                recorded.append(data)
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, there = await asyncio.open_connection("127.0.0.1", target)
        tasks.add(asyncio.create_task(pump(reader, there, True)))
        tasks.add(asyncio.create_task(pump(back, writer, False)))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)

    async def close() -> None:
        server.close()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()

    return server.sockets[0].getsockname()[1], close


class TestTheClient:
    """Errors of a client that meets another worker than the announced one; it sends nothing to any of them."""

    BRIEF = Deadlines(connect=0.4, handshake=0.3, silence=0.3, lost=0.4)

    async def assert_gets_nowhere(self, worker: ScriptedWorker, client: WorkerClient) -> None:
        async with closing(client), asyncio.timeout(10):
            with pytest.raises(WorkerUnreachableError, match=r"Expected was attempt\.rivers\.internal"):
                await client.connect()
            with pytest.raises(WorkerUnreachableError, match="no contact"):
                await client.execute(SPEC, [].append)
            with pytest.raises(WorkerUnreachableError, match="within"):
                await client.cancel(0.0)
            await client.ack()
        assert [] == worker.calls

    @pytest.mark.parametrize(
        "identity",
        [
            Identity.of_worker(ATTEMPT),
            Identity.of_worker("other"),
            made(worker_name(ATTEMPT), CLIENT),
            made(worker_name(ATTEMPT), SERVER, NOW - 2 * DAY, NOW - DAY),
            made(worker_name(ATTEMPT), SERVER, NOW + DAY, NOW + 2 * DAY),
        ],
        ids=["another key", "another attempt", "a client's role", "expired", "not yet valid"],
    )
    def test_another_worker_answers(self, identity: Identity) -> None:
        """Where another answers than was announced, as on a pod's address that is used again, nothing is sent (K53)."""

        async def test() -> None:
            worker = ScriptedWorker()
            announced = worker.identity
            worker.identity = identity
            async with serving(worker):
                worker.identity = announced
                await self.assert_gets_nowhere(worker, worker.client(self.BRIEF))

        run(test)

    @pytest.mark.parametrize(
        "identity",
        [
            made(worker_name(ATTEMPT), SERVER, NOW - 2 * DAY, NOW - DAY),
            made(worker_name(ATTEMPT), SERVER, NOW + DAY, NOW + 2 * DAY),
            Identity.of_worker("other"),
        ],
        ids=["expired", "not yet valid", "another attempt"],
    )
    def test_an_announced_certificate_that_is_wrong(self, identity: Identity) -> None:
        """A worker that announces a certificate of no use is refused with words; without them TLS refuses it, too."""

        async def test() -> None:
            worker = ScriptedWorker()
            worker.identity = identity
            async with serving(worker):
                with pytest.raises(CredentialsError):
                    worker.client(self.BRIEF)
                credentials = worker.controller.channel_credentials(identity.certificate)
                caller = pb.Caller(run_id=RUN, attempt_id=ATTEMPT)
                found = await outcomes(
                    f"127.0.0.1:{worker.port}", credentials, worker_name(ATTEMPT), caller, encode_spec_protobuf(SPEC)
                )
                assert {method.name: grpc.StatusCode.UNAVAILABLE for method in SERVICE.methods} == found
                assert [] == worker.calls

        run(test)

    def test_a_forged_announcement(self) -> None:
        """A client with a forged announcement reaches no worker; one that was cut is refused before a dial (G12)."""

        async def test() -> None:
            async with serving(ScriptedWorker()) as worker:
                forged = Announcement(worker.port, Identity.of_worker(ATTEMPT).certificate)
                cut = Announcement(worker.port, worker.identity.certificate[:-20])
                given: dict[str, Any] = {"run_id": RUN, "attempt_id": ATTEMPT, "deadlines": self.BRIEF}
                target = f"127.0.0.1:{worker.port}"
                await self.assert_gets_nowhere(worker, WorkerClient(target, forged, worker.controller, **given))
                with pytest.raises(CredentialsError, match="cannot be read"):
                    WorkerClient(target, cut, worker.controller, **given)

        run(test)

    def test_one_without_tls(self) -> None:
        """A server that speaks no TLS gets nothing but the start of a handshake."""

        async def test() -> None:
            heard = bytearray()

            async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                heard.extend(await reader.read(65536))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                writer.close()

            server = await asyncio.start_server(listen, "127.0.0.1", 0)
            worker = ScriptedWorker()
            worker.port = server.sockets[0].getsockname()[1]
            await self.assert_gets_nowhere(worker, worker.client(self.BRIEF))
            server.close()
            await server.wait_closed()
            assert heard.startswith(b"\x16\x03")
            assert b"StepWorker" not in heard

        run(test)

    def test_a_refusal_by_the_guard(self) -> None:
        """A controller that the worker's interceptor does not know gets a credentials error at once."""
        controller = made(controller_name("other"), CLIENT)

        async def test() -> None:
            async with started(RIVERS_CONTROLLER_CERTIFICATE=controller.text) as worker:
                async with closing(worker.client(identity=controller)) as client:
                    calls = (
                        client.connect(),
                        client.check([worker.spec("quick")]),
                        client.execute(worker.spec("quick"), [].append),
                        client.cancel(1.0),
                        client.ack(),
                    )
                    for call in calls:
                        with pytest.raises(CredentialsError, match="does not know this controller"):
                            await call
                assert [] == worker.notes

        run(test)

    def test_the_wrong_attempt_is_a_refusal(self) -> None:
        """The right worker that is asked for another run says so, and nothing is tried again."""

        async def test() -> None:
            async with started() as worker, closing(worker.client(run_id="other")) as client:
                with pytest.raises(WorkerRefusedError, match="FAILED_PRECONDITION"):
                    await client.connect()
                await assert_untouched(worker)

        run(test)
