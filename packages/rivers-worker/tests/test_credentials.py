"""Tests of keys and certificates: names, usages, and that no key can be seen."""

from __future__ import annotations

import base64
import datetime as dt
import ssl

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from rivers_worker.announcement import Announcement
from rivers_worker.credentials import Identity, controller_name, decode_certificate, is_peer, worker_name
from rivers_worker.dial import check_certificates
from rivers_worker.errors import CredentialsError

NOW = dt.datetime.now(dt.UTC)
CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
HOUR = 3600.0


def pem(identity: Identity) -> bytes:
    return ssl.DER_cert_to_PEM_cert(identity.certificate).encode()


def read(identity: Identity) -> x509.Certificate:
    return x509.load_der_x509_certificate(identity.certificate)


class TestNames:
    @given(st.text(min_size=1), st.text(min_size=1))
    def test_each_id_has_a_dns_name_of_its_own(self, one: str, other: str) -> None:
        """Any run or attempt id becomes one DNS label of at most 63 characters; different ids become different ones."""
        label = worker_name(one).removesuffix(".rivers.internal")

        assert 1 <= len(label) <= 63
        assert label.isascii()
        assert label == label.lower()
        assert label.replace("-", "").isalnum()
        assert (one == other) == (worker_name(one) == worker_name(other))
        assert (one == other) == (controller_name(one) == controller_name(other))

    @given(st.text(min_size=1), st.text(min_size=1))
    def test_a_worker_is_never_named_as_a_controller(self, run: str, attempt: str) -> None:
        """No attempt's name is that of a run's controller."""
        assert worker_name(attempt) != controller_name(run)

    def test_plain_ids_stay_readable(self) -> None:
        """An id that is a DNS label stands in the certificate as it is."""
        assert "01k9-a.rivers.internal" == worker_name("01k9-a")
        assert "controller.01k9-a.rivers.internal" == controller_name("01k9-a")


class TestAnIdentity:
    @pytest.mark.parametrize(
        ("identity", "name", "usage"),
        [
            (Identity.of_controller("run"), controller_name("run"), CLIENT),
            (Identity.of_worker("attempt"), worker_name("attempt"), SERVER),
        ],
    )
    def test_a_certificate_says_one_name_and_one_role(
        self, identity: Identity, name: str, usage: x509.ObjectIdentifier
    ) -> None:
        """A certificate is of one name and one usage, signs nothing, is valid from an hour ago for a day or more."""
        certificate = read(identity)
        extensions = certificate.extensions

        assert [name] == extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
            x509.DNSName
        )
        assert [usage] == list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        assert (
            NOW - dt.timedelta(hours=1, minutes=1) < certificate.not_valid_before_utc < NOW - dt.timedelta(minutes=59)
        )
        assert NOW + dt.timedelta(hours=24) < certificate.not_valid_after_utc

    def test_no_two_share_a_key(self) -> None:
        """Each identity has a key of its own, for the same attempt too."""
        one, other = Identity.of_worker("attempt"), Identity.of_worker("attempt")

        assert read(one).public_key() != read(other).public_key()

    def test_it_does_not_show_its_key(self) -> None:
        """Neither its repr nor its text holds the key; the text is the certificate, which is public."""
        identity = Identity.of_controller("run")

        assert "Identity('controller.run.rivers.internal')" == repr(identity)
        assert identity.certificate == base64.b64decode(identity.text) == decode_certificate(identity.text)

    @given(st.text())
    def test_what_is_no_certificate(self, text: str) -> None:
        """A text that is no base64 of a certificate is a typed error."""
        with pytest.raises(CredentialsError, match="no certificate"):
            decode_certificate(text)

    def test_half_a_certificate(self) -> None:
        """A certificate that was cut is a typed error, wherever it was cut."""
        whole = Identity.of_controller("run").certificate

        for cut in range(len(whole)):
            with pytest.raises(CredentialsError, match="no certificate"):
                decode_certificate(base64.b64encode(whole[:cut]).decode())


class TestThePeer:
    mine = Identity.of_controller("run")

    def test_the_expected_one(self) -> None:
        """The controller of this run, by its key, name and role, is the peer."""
        assert is_peer(pem(self.mine), self.mine.certificate, controller_name("run"), CLIENT)

    @pytest.mark.parametrize(
        "shown",
        [
            pem(Identity.of_controller("run")),
            pem(Identity.of_controller("other")),
            pem(Identity.of_worker("run")),
            b"",
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ],
        ids=["another key", "another run", "a worker", "nothing", "garbage"],
    )
    def test_nobody_else(self, shown: bytes) -> None:
        """Another key of the same name, another run's controller, a worker and garbage are not."""
        assert not is_peer(shown, self.mine.certificate, controller_name("run"), CLIENT)

    def test_the_right_key_in_another_role(self) -> None:
        """The expected key with another name or usage is not the peer."""
        assert not is_peer(pem(self.mine), self.mine.certificate, controller_name("other"), CLIENT)
        assert not is_peer(pem(self.mine), self.mine.certificate, controller_name("run"), SERVER)


class TestBeforeDialling:
    controller = Identity.of_controller("run")

    def check(self, certificate: bytes, identity: Identity | None = None, now: dt.datetime = NOW) -> None:
        check_certificates(Announcement(7433, certificate), "attempt", identity or self.controller, now)

    def test_both_are_right(self) -> None:
        """The certificate of the attempt's worker and a controller's that is valid are fine."""
        self.check(Identity.of_worker("attempt").certificate)

    def test_another_attempt_announced_itself(self) -> None:
        """The certificate of another attempt is refused with both names."""
        with pytest.raises(CredentialsError, match=r"(?s)other\.rivers.*attempt\.rivers"):
            self.check(Identity.of_worker("other").certificate)

    def test_a_controller_announced_itself(self) -> None:
        """A certificate that is none of a server is refused."""
        with pytest.raises(CredentialsError, match=r"controller\.attempt\.rivers"):
            self.check(Identity.of_controller("attempt").certificate)

    def test_one_that_cannot_be_read(self) -> None:
        """A forged announcement of bytes that are no certificate, or of half of one, is refused."""
        whole = Identity.of_worker("attempt").certificate

        for cut in (0, 1, 30, 200, len(whole) - 1):
            with pytest.raises(CredentialsError, match="cannot be read"):
                self.check(whole[:cut])

    @pytest.mark.parametrize("away", [dt.timedelta(hours=-2), dt.timedelta(days=40)], ids=["not yet", "no more"])
    def test_a_worker_that_is_not_valid_now(self, away: dt.timedelta) -> None:
        """Where the clocks are hours apart a worker is refused, with the dates and what to check (K46)."""
        with pytest.raises(CredentialsError, match=r"worker's certificate is valid from .* check the clocks"):
            self.check(Identity.of_worker("attempt").certificate, now=NOW + away)

    def test_a_controller_that_has_expired(self) -> None:
        """A controller whose own certificate has expired gets an error before it dials."""
        expired = Identity.of_controller("run", lifetime=-1.9 * HOUR)  # more than a session takes

        with pytest.raises(CredentialsError, match="controller's certificate is valid from"):
            self.check(Identity.of_worker("attempt").certificate, expired)
