"""The identity that a later controller of a run finds again."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from rivers_worker.credentials import SKEW, Identity
from rivers_worker.errors import CredentialsError
from rivers_worker.identity_file import IDENTITY_FILE, find_identity, make_identity


def test_the_same_again(tmp_path: Path) -> None:
    """The second controller has the certificate and the key of the first one; only its user can read them."""
    assert find_identity(tmp_path, "r") is None
    made = make_identity(tmp_path, "r")

    assert made == find_identity(tmp_path, "r")
    assert 0o600 == stat.S_IMODE((tmp_path / IDENTITY_FILE).stat().st_mode)
    assert [IDENTITY_FILE] == [path.name for path in tmp_path.iterdir()]
    assert "PRIVATE" not in repr(made)


def test_interrupted_write(tmp_path: Path) -> None:
    """A file that was not written whole counts as none, and is written again."""
    (tmp_path / f".{IDENTITY_FILE}").write_bytes(b"-----BEGIN")

    assert find_identity(tmp_path, "r") is None
    assert make_identity(tmp_path, "r") == find_identity(tmp_path, "r")


def test_expired(tmp_path: Path) -> None:
    """A certificate that workers refuse counts as none."""
    old = Identity.of_controller("r", lifetime=-SKEW.total_seconds() - 10.0)
    (tmp_path / IDENTITY_FILE).write_bytes(old.pem)

    assert find_identity(tmp_path, "r") is None
    assert make_identity(tmp_path, "r") == find_identity(tmp_path, "r")


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"nonsense",
        Identity.of_controller("other").pem,
        Identity.of_controller("r").pem.replace(b"BEGIN PRIVATE", b"BEGIN PUBLIC"),
        Identity.of_controller("r").pem.partition(b"-----BEGIN CERT")[0]
        + b"-----BEGIN CERT"
        + Identity.of_controller("r").pem.partition(b"-----BEGIN CERT")[2],
    ],
    ids=["empty", "nonsense", "another-run", "no-key", "not-a-pair"],
)
def test_damaged(tmp_path: Path, pem: bytes) -> None:
    """A file that holds no identity of the run is an error that does not show it."""
    (tmp_path / IDENTITY_FILE).write_bytes(pem)

    with pytest.raises(CredentialsError) as refused:
        find_identity(tmp_path, "r")
    assert "PRIVATE" not in str(refused.value)
