"""Restore a terminal whose process was killed, by a shell that waits for the end of a pipe."""

from __future__ import annotations

import contextlib
import subprocess

from rivers_process.fork import close_in_children, keep_in_children

__all__ = ["TerminalGuard"]

DEADLINE = 2.0


class TerminalGuard:
    """A small process that writes `text` to the terminal behind a descriptor, unless it is dismissed before.

    It covers what Python cannot clean up after: SIGKILL, the OOM killer, a crash in C code, a second Ctrl-C. Without a
    shell there is no guard.
    """

    def __init__(self, descriptor: int, text: str) -> None:
        octal = "".join(f"\\{byte:03o}" for byte in text.encode())
        # A session of its own: Ctrl-C and a killed process group must not end it first.
        with contextlib.suppress(OSError):
            self._process = subprocess.Popen(  # noqa: S603 - our own text, in octal
                ["/bin/sh", "-c", f"read -r line || printf '{octal}'"],
                stdin=subprocess.PIPE,
                stdout=descriptor,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            assert self._process.stdin is not None
            self._pipe = self._process.stdin.fileno()
            # A child that outlives this process would hold the pipe open.
            close_in_children(self._pipe)

    def dismiss(self) -> None:
        """End the process; the terminal is restored already."""
        process = getattr(self, "_process", None)
        if process is None:
            return
        keep_in_children(self._pipe)
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            process.communicate(b"\n", DEADLINE)
