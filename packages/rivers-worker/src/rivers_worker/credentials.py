"""Create the keys and certificates of controllers and workers: each side trusts exactly one, the other's.

    controller   clientAuth, SAN controller.<run>.rivers.internal   travels to the worker in its environment
    worker       serverAuth, SAN <attempt>.rivers.internal          travels back in the worker's announcement

No key leaves the process that created it, so there is nothing to store, distribute or revoke. The reasons are on the
documentation's page on security.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import ssl
from dataclasses import dataclass

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from rivers_worker.errors import CredentialsError

__all__ = ["Identity", "controller_name", "decode_certificate", "is_peer", "worker_name"]

SKEW = dt.timedelta(hours=1)
"""Margin of a certificate's validity at both ends, as clocks of machines differ."""
LIFETIME = 32 * 24 * 3600.0
"""Seconds of validity: longer than any timeout, as a broken connection is dialled again. The keys end before."""


def controller_name(run_id: str) -> str:
    """Return the DNS name in the certificate of a run's controller."""
    return f"controller.{_label(run_id)}.rivers.internal"


def worker_name(attempt_id: str) -> str:
    """Return the DNS name in the certificate of an attempt's worker; clients expect it, as pods have no names."""
    return f"{_label(attempt_id)}.rivers.internal"


def _label(text: str) -> str:
    """Return a text as one DNS label: itself if it can be one, else a digest of it."""
    plain = text.isascii() and text.replace("-", "").isalnum() and text == text.lower()
    if plain and len(text) <= 63 and not text.startswith("-") and not text.endswith("-"):
        return text
    return "h" + hashlib.sha256(text.encode()).hexdigest()[:40]


@dataclass(frozen=True, slots=True)
class Identity:
    """A key of this process, and its self-signed certificate (DER)."""

    name: str
    certificate: bytes
    _key: bytes

    @classmethod
    def of_controller(cls, run_id: str, lifetime: float = LIFETIME) -> Identity:
        """Create the identity of a run's controller, which calls workers; `lifetime` is in seconds."""
        return cls._made(controller_name(run_id), ExtendedKeyUsageOID.CLIENT_AUTH, lifetime)

    @classmethod
    def of_worker(cls, attempt_id: str, lifetime: float = LIFETIME) -> Identity:
        """Create the identity of an attempt's worker, which serves calls; `lifetime` is in seconds."""
        return cls._made(worker_name(attempt_id), ExtendedKeyUsageOID.SERVER_AUTH, lifetime)

    @classmethod
    def from_pem(cls, run_id: str, pem: bytes) -> Identity:
        """Return the identity of a run's controller from `pem`.

        Raises:
            CredentialsError: the text holds no key and certificate of this run's controller.
        """
        name = controller_name(run_id)
        try:
            key = serialization.load_pem_private_key(pem, None)
            shown = x509.load_pem_x509_certificate(pem)
        except ValueError as error:
            raise CredentialsError(f"no key and certificate of {name} in PEM") from error
        certificate = shown.public_bytes(serialization.Encoding.DER)
        names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        is_pair = key.public_key() == shown.public_key()
        if not is_pair or names.get_values_for_type(x509.DNSName) != [name]:
            raise CredentialsError(f"the key and certificate are not those of {name}")
        return cls(name, certificate, _pem_of(key))

    @classmethod
    def _made(cls, name: str, usage: x509.ObjectIdentifier, lifetime: float) -> Identity:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "rivers")])
        now = dt.datetime.now(dt.UTC)
        # Self-signed: each side is given the other's certificate as its only root.
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - SKEW)
            .not_valid_after(now + dt.timedelta(seconds=lifetime) + SKEW)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(name, certificate.public_bytes(serialization.Encoding.DER), _pem_of(key))

    def __repr__(self) -> str:
        return f"Identity({self.name!r})"

    @property
    def pem(self) -> bytes:
        """The key and the certificate as PEM; it is secret."""
        return self._key + _pem(self.certificate)

    @property
    def is_expired(self) -> bool:
        """True once peers refuse the certificate."""
        return dt.datetime.now(dt.UTC) > x509.load_der_x509_certificate(self.certificate).not_valid_after_utc - SKEW

    @property
    def text(self) -> str:
        """The certificate as base64 of DER, for an environment variable; it is public."""
        return base64.b64encode(self.certificate).decode()

    def server_credentials(self, client: bytes) -> grpc.ServerCredentials:
        """Return the credentials of a server that trusts only the certificate `client` (DER)."""
        return grpc.ssl_server_credentials(
            [(self._key, _pem(self.certificate))], root_certificates=_pem(client), require_client_auth=True
        )

    def channel_credentials(self, server: bytes) -> grpc.ChannelCredentials:
        """Return the credentials of a client that trusts only the certificate `server` (DER)."""
        return grpc.ssl_channel_credentials(
            root_certificates=_pem(server), private_key=self._key, certificate_chain=_pem(self.certificate)
        )


def _pem_of(key: PrivateKeyTypes) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _pem(certificate: bytes) -> bytes:
    return ssl.DER_cert_to_PEM_cert(certificate).encode()


def decode_certificate(text: str) -> bytes:
    """Return the DER of a certificate from `Identity.text`.

    Raises:
        CredentialsError: the text is no certificate.
    """
    try:
        certificate = base64.b64decode(text, validate=True)
        x509.load_der_x509_certificate(certificate)
    except ValueError as error:
        raise CredentialsError(f"no certificate in base64 of DER: {text[:40]!r}") from error
    return certificate


def is_peer(pem: bytes, expected: bytes, name: str, usage: x509.ObjectIdentifier) -> bool:
    """Return whether a peer's certificate (PEM) has the expected one's key (DER), and this role and name.

    TLS has proved that the peer holds the key. A certificate with the right key and another role would be a mistake of
    ours, and is refused here.
    """
    try:
        shown = x509.load_pem_x509_certificate(pem)
        usages = shown.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return False
    same_key = hmac.compare_digest(_spki(shown), _spki(x509.load_der_x509_certificate(expected)))
    return same_key and list(usages) == [usage] and names.get_values_for_type(x509.DNSName) == [name]


def _spki(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
