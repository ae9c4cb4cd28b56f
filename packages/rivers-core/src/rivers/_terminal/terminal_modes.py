"""Undo what a body has done to the modes of a terminal, such as `stty -echo`: they would stay with the user's shell."""

from __future__ import annotations

import contextlib
import os
import termios

__all__ = ["TerminalModes"]


class TerminalModes:
    """The modes that the terminal behind a descriptor has at first."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._modes = None
        with contextlib.suppress(termios.error):
            self._modes = termios.tcgetattr(descriptor)

    def restore(self) -> None:
        """Give the terminal these modes again, unless it has them or is gone."""
        with contextlib.suppress(OSError, termios.error):
            # The kernel stops a job in the background that changes its terminal.
            is_foreground = os.tcgetpgrp(self._descriptor) == os.getpgrp()
            if is_foreground and self._modes is not None and termios.tcgetattr(self._descriptor) != self._modes:
                termios.tcsetattr(self._descriptor, termios.TCSANOW, self._modes)
