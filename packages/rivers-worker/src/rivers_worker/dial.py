"""Open the channel to a worker, with deadlines for its calls and a meaning for each gRPC status."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import grpc
import grpc.aio
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from rivers_worker.announcement import Announcement
from rivers_worker.credentials import Identity, worker_name
from rivers_worker.errors import CredentialsError, WorkerError, WorkerProtocolError, WorkerRefusedError
from rivers_worker.v1 import worker_pb2 as pb

__all__ = [
    "MAX_MESSAGE",
    "Deadlines",
    "WorkerStub",
    "backoff",
    "check_certificates",
    "describe_status",
    "fingerprint",
    "permanent_error",
]

MAX_MESSAGE = 4 << 20
"""Bytes of one message in either direction; specs, events and log records stay below a quarter of it."""

_OPTIONS = (
    # A worker has no DNS name, and there is no proxy to it, whatever the environment says of proxies.
    ("grpc.enable_http_proxy", 0),
    # Another channel's connection to this address is another attempt's.
    ("grpc.use_local_subchannel_pool", 1),
    # A connection that is half open ends within 10 s; the server allows a ping every 4 s. Without the ping's own
    # timeout it takes 65 s: while a connection is probed for its bandwidth, keepalive's is not used.
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # It dials again soon after a break; one dial, the TLS handshake included, may take 5 s.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # The client calls again by itself: it knows which calls may be repeated, and how.
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", MAX_MESSAGE),
)

_REFUSED = {
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
}
_BROKEN_PROTOCOL = {
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.OUT_OF_RANGE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """Deadlines of a client in seconds.

    `connect`: for the first answer of an announced worker. `handshake`: for the answer to one call. `silence`: for the
    next message of a stream, heartbeats included, before it counts as broken. `lost`: since the last contact with a
    worker, before it is given up.
    """

    connect: float = 60.0
    handshake: float = 10.0
    silence: float = 15.0
    lost: float = 90.0


class WorkerStub:
    """The methods of the step server over one channel of the running loop; streams yield encoded events."""

    def __init__(self, target: str, attempt_id: str, certificate: bytes, identity: Identity) -> None:
        name = ("grpc.ssl_target_name_override", worker_name(attempt_id))
        credentials = identity.channel_credentials(certificate)
        self._channel = grpc.aio.secure_channel(target, credentials, options=(*_OPTIONS, name))
        prefix = f"/{pb.DESCRIPTOR.services_by_name['StepWorker'].full_name}/"
        unary, stream = self._channel.unary_unary, self._channel.unary_stream
        self.handshake = unary(prefix + "Handshake", pb.HandshakeRequest.SerializeToString)
        self.execute = stream(prefix + "Execute", pb.ExecuteRequest.SerializeToString)
        self.attach = stream(prefix + "Attach", pb.AttachRequest.SerializeToString)
        self.cancel = unary(prefix + "Cancel", pb.CancelRequest.SerializeToString)
        self.ack = unary(prefix + "Ack", pb.AckRequest.SerializeToString)

    @property
    def is_connected(self) -> bool:
        """True if the connection stands; a peer that is gone without a word is noticed after some seconds."""
        return bool(self._channel.get_state() is grpc.ChannelConnectivity.READY)

    async def close(self) -> None:
        """Close the channel; calls under way end as cancelled."""
        await self._channel.close()


def check_certificates(announced: Announcement, attempt_id: str, identity: Identity, now: dt.datetime) -> None:
    """Check both certificates before the TLS handshake, where every fault would look like a dead worker.

    Raises:
        CredentialsError: the announced one cannot be read or is not of this attempt's worker; or one is not valid now.
    """
    try:
        theirs = x509.load_der_x509_certificate(announced.certificate)
        names = theirs.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        usages = theirs.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (ValueError, x509.ExtensionNotFound) as error:
        raise CredentialsError(f"the worker announced a certificate that cannot be read: {error}") from None
    shown = names.get_values_for_type(x509.DNSName)
    if shown != [worker_name(attempt_id)] or list(usages) != [ExtendedKeyUsageOID.SERVER_AUTH]:
        raise CredentialsError(
            f"the announced certificate is that of {', '.join(shown)[:200] or 'nobody'}, expected that of the worker of"
            f" attempt {attempt_id}, {worker_name(attempt_id)}"
        )
    _check_dates("the worker's", theirs, now)
    _check_dates("the controller's", x509.load_der_x509_certificate(identity.certificate), now)


def _check_dates(whose: str, certificate: x509.Certificate, now: dt.datetime) -> None:
    since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not since <= now <= until:
        raise CredentialsError(
            f"{whose} certificate is valid from {since:%Y-%m-%d %H:%M:%S} to {until:%Y-%m-%d %H:%M:%S} UTC, and here"
            f" it is {now:%Y-%m-%d %H:%M:%S}: check the clocks of both machines"
        )


def fingerprint(certificate: bytes) -> str:
    """Return the beginning of a certificate's SHA-256, for error texts; `certificate` is DER."""
    return f"SHA-256 {hashlib.sha256(certificate).hexdigest()[:16]}…"


def describe_status(error: grpc.aio.AioRpcError) -> str:
    """Return a gRPC error as one line."""
    return f"{error.code().name}: {(error.details() or 'no details')[:500]}"


def permanent_error(error: grpc.aio.AioRpcError) -> WorkerError | None:
    """Return the error that a gRPC status means for good; None if the connection failed, and a retry may work."""
    code = error.code()
    if code in _REFUSED:
        return WorkerRefusedError(f"the worker refused: {describe_status(error)}")
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return CredentialsError(f"the worker does not know this controller: {describe_status(error)}")
    if code in _BROKEN_PROTOCOL:
        return WorkerProtocolError(
            f"the worker and this controller do not understand each other: {describe_status(error)}"
        )
    return None


def backoff() -> Iterator[float]:
    """Yield the seconds to wait before each retry: 0.05 at first, up to 2."""
    pause = 0.05
    while True:
        yield pause
        pause = min(2 * pause, 2.0)
