"""How a worker is called: the channel to it, how long to wait for what, and what a failed call means."""

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

__all__ = ["MOST_MESSAGE", "Calls", "Deadlines", "check_certificates", "fingerprint", "meaning", "pauses", "said"]

MOST_MESSAGE = 4 << 20
"""Bytes of one message, either way; a spec, an event and a log record stay below a quarter of it."""

_OPTIONS = (
    # A worker has no DNS name and no proxy on its way, whatever the environment says of proxies.
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
    ("grpc.max_receive_message_length", MOST_MESSAGE),
    ("grpc.max_send_message_length", MOST_MESSAGE),
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
    """How long a client waits, in seconds.

    `connect`: for the first answer of a worker that was announced. `handshake`: for one answer to a call. `silence`:
    for anything on a stream, heartbeats included, before it is broken. `lost`: since a worker was last heard of, before
    it is given up.
    """

    connect: float = 60.0
    handshake: float = 10.0
    silence: float = 15.0
    lost: float = 90.0


class Calls:
    """The methods of the step server, over one channel of the running loop; streams yield undecoded events."""

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

    async def close(self) -> None:
        """Let go of the connection; what is still being called ends as cancelled."""
        await self._channel.close()


def check_certificates(announced: Announcement, attempt_id: str, identity: Identity, now: dt.datetime) -> None:
    """Say what is wrong with either certificate; in a TLS handshake it would all look like a dead worker.

    Raises:
        CredentialsError: the announced one cannot be read, or is not of this attempt's worker; or one is not valid now.
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
            f"the announced certificate is that of {', '.join(shown)[:200] or 'nobody'}, and not of the worker of"
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
    """A certificate (DER) in few words: the start of its SHA-256."""
    return f"SHA-256 {hashlib.sha256(certificate).hexdigest()[:16]}…"


def said(error: grpc.aio.AioRpcError) -> str:
    """What an answer that is an error says, in one line."""
    return f"{error.code().name}: {(error.details() or 'no details')[:500]}"


def meaning(error: grpc.aio.AioRpcError) -> WorkerError | None:
    """What an answer that is an error means for good; None where the way was broken and calling again may mend it."""
    code = error.code()
    if code in _REFUSED:
        return WorkerRefusedError(f"the worker refused: {said(error)}")
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return CredentialsError(f"the worker does not know this controller: {said(error)}")
    if code in _BROKEN_PROTOCOL:
        return WorkerProtocolError(f"the worker and this controller do not understand each other: {said(error)}")
    return None


def pauses() -> Iterator[float]:
    """Seconds to wait before calling again: 0.05 at first, up to 2."""
    pause = 0.05
    while True:
        yield pause
        pause = min(2 * pause, 2.0)
