"""Define the kinds of frames that the server and the body's process exchange over two pipes.

server ──▶ GO, CHECK, SPEC ──▶ body          GO: the worker has announced itself, import the user's code
server ◀── CHECKED, STARTED, LOG, RESULT ◀── body
"""

from __future__ import annotations

__all__ = ["CHECK", "CHECKED", "GO", "LOG", "MAX_PAYLOAD", "RESULT", "SPEC", "STARTED"]

GO, SPEC, CHECK, STARTED, LOG, RESULT, CHECKED = (bytes([number]) for number in range(1, 8))
MAX_PAYLOAD = 16 << 20
"""Bytes of a frame's payload; a larger one means that user code has written to the pipe."""
