"""Write and read the line in which a worker announces its port and its certificate.

    rivers-worker 1 <port> <certificate: base64 of DER>

The process that started the worker reads it over a channel that it trusts: a pod's log, the stdout of ssh, a pipe. The
line is a claim until the handshake has proved that the worker holds the certificate's key (docs: security).
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from rivers_worker.errors import AnnouncementError

__all__ = ["MAX_ANNOUNCEMENT_BYTES", "PROTOCOL_MINOR", "PROTOCOL_VERSION", "Announcement", "announcement_in"]

PROTOCOL_VERSION = 1
"""The version of the calls (proto/rivers_worker/v1/worker.proto) and of this line; both sides must have the same."""
PROTOCOL_MINOR = 1
"""The minor version of the calls: each side copes with an older one of the other."""

MAX_ANNOUNCEMENT_BYTES = 16 * 1024
"""Bytes at the beginning of the output that may hold the line."""

_WORD = "rivers-worker"
_MARK = re.compile(rb"rivers-worker (\d{1,9}) ")
# An EC certificate takes about 540 characters of base64.
_LONGEST = 4096


@dataclass(frozen=True, slots=True)
class Announcement:
    """A worker's port and its certificate (DER)."""

    port: int
    certificate: bytes

    @property
    def line(self) -> str:
        """The line, without its end."""
        return f"{_WORD} {PROTOCOL_VERSION} {self.port} {base64.b64encode(self.certificate).decode()}"


def announcement_in(output: bytes) -> Announcement | None:
    """Return the announcement in the first 16 KiB of a worker's output, or None if it has not come yet.

    The first line of this form counts; other lines are ignored, and so is a line that has not ended yet.

    Raises:
        AnnouncementError: a line has its form and cannot be read or is of another version, or 16 KiB hold none.
    """
    head = output[:MAX_ANNOUNCEMENT_BYTES]
    whole, _, _ = head.rpartition(b"\n")
    for line in whole.split(b"\n"):
        mark = _MARK.match(line)
        if mark:
            return _parsed(line.rstrip(b"\r"), mark)
    if len(output) >= MAX_ANNOUNCEMENT_BYTES:
        raise AnnouncementError(f"the first {MAX_ANNOUNCEMENT_BYTES} bytes of the worker's output hold no announcement")
    return None


def _parsed(line: bytes, mark: re.Match[bytes]) -> Announcement:
    words = line[mark.end() :].split(b" ")
    shown = line[:100].decode("ascii", "backslashreplace")
    version = int(mark[1])
    if version != PROTOCOL_VERSION:
        raise AnnouncementError(
            f"the worker speaks version {version} of the protocol, and this controller {PROTOCOL_VERSION}: {shown!r}"
        )
    if len(line) > _LONGEST or len(words) != 2 or not words[1]:
        raise AnnouncementError(f"the worker's announcement has another form than port and certificate: {shown!r}")
    port, certificate = words
    if not (port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
        raise AnnouncementError(f"the worker announced {port[:20]!r}, which is no port: {shown!r}")
    try:
        return Announcement(int(port), base64.b64decode(certificate, validate=True))
    except binascii.Error:
        raise AnnouncementError(f"the worker announced a certificate that is no base64: {shown!r}") from None
