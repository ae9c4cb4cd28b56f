"""`rivers run --live`: the picture of the run, served while it goes on."""

from __future__ import annotations

from rivers._record.header import RunHeader
from rivers._record.redact import Redactor
from rivers._report.live import LiveServer
from rivers.cli.errors import CommandError, ExitCode
from rivers.cli.printer import Printer
from rivers.cli.report import open_address

__all__ = ["serve"]

LINGER = 10.0
"""Seconds that the end of a short run waits for a browser which was started for it."""


def serve(header: RunHeader, redactor: Redactor, lines: Printer, is_opened: bool) -> LiveServer:
    """Serve the page of a run, print its address and open it if asked for.

    Raises:
        CommandError: no port is free.
    """
    try:
        server = LiveServer(header, redactor, linger=LINGER if is_opened else 0.0)
    except OSError as error:
        code = ExitCode.INFRASTRUCTURE
        raise CommandError(f"cannot serve the page of the run: {error.strerror}", code=code) from error
    lines(f"Live: {server.url}")
    if is_opened:
        open_address(server.url)
    return server
