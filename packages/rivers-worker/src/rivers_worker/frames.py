"""Define the kinds of frames that the server and the body's process exchange over two pipes.

server ──▶ GO, CHECK, SPEC ──▶ body          GO: the worker has announced itself, import these modules
server ◀── CHECKED, TAKEN, STARTED, LOG, MODULES, RESULT ◀── body

TAKEN: the spec has arrived, so its code may run. MODULES: the modules of the spec that were imported.
"""

from __future__ import annotations

__all__ = ["CHECK", "CHECKED", "GO", "LOG", "MAX_PAYLOAD", "MODULES", "RESULT", "SPEC", "STARTED", "TAKEN"]

GO, SPEC, CHECK, STARTED, LOG, RESULT, CHECKED, TAKEN, MODULES = (bytes([number]) for number in range(1, 10))
MAX_PAYLOAD = 16 << 20
"""Bytes of a frame's payload; a larger one means that user code has written to the pipe."""
