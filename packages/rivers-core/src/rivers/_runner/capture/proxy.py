"""The object that stands in for sys.stdout or sys.stderr while bodies are captured."""

from __future__ import annotations

import io
import threading
from typing import Any, Protocol, TextIO

from rivers._runner.capture.step_output import current

__all__ = ["Route", "StreamProxy"]


class Route(Protocol):
    """Another way for the text of a proxy, in place of its target."""

    def write(self, text: str) -> int:
        """Take text as a stream does."""

    def flush(self) -> None:
        """Write what is held."""


class StreamProxy(io.TextIOBase):
    """A text stream that writes to `target` and reports to the current attempt, if there is one.

    There is one for each of stdout and stderr, and it is never freed. CPython before 3.13 prints to sys.stdout without
    a reference of its own, so freeing an object that was ever sys.stdout crashes a thread that is printing to it. Code
    that keeps the proxy, such as a logging handler, may use it at any time: without a run it only delegates.

    `route` takes the text instead of `target` in a process that belongs to one runner.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.target: TextIO | None = None
        self.route: Route | None = None
        self._probe: tuple[int, list[bool]] | None = None

    def write(self, text: str) -> int:
        route = self.route
        if route is not None:
            return route.write(text)
        target = self.target
        try:
            if text:
                return target.write(text) if target is not None else len(text)
            return self._write_nothing()
        finally:
            # Also where the terminal is gone.
            output = current.get()
            if output is not None:
                output.text(self.name, text)

    def is_wrapped_by(self, stream: TextIO) -> bool:
        """Return whether what is written to another stream comes here, as with a tee around this one."""
        found: list[bool] = []
        self._probe = threading.get_ident(), found
        try:
            stream.write("")
        except Exception:  # noqa: BLE001 - it is closed, or no stream at all
            return False
        finally:
            self._probe = None
        return bool(found)

    def flush(self) -> None:
        stream = self.route or self.target
        if stream is not None:
            stream.flush()

    def close(self) -> None:
        """Flush only: the target belongs to the program."""
        self.flush()

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self.target is not None and self.target.isatty()

    def fileno(self) -> int:
        if self.target is None:
            raise io.UnsupportedOperation("fileno")
        return self.target.fileno()

    @property
    def closed(self) -> bool:
        return self.target is not None and self.target.closed

    @property
    def encoding(self) -> str:  # type: ignore[override]  # io types these as plain attributes
        return self.target.encoding if self.target is not None else "utf-8"

    @property
    def errors(self) -> str | None:  # type: ignore[override]  # the same
        return self.target.errors if self.target is not None else None

    @property
    def newlines(self) -> Any:  # type: ignore[override]  # the same
        return self.target.newlines if self.target is not None else None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.target, name)

    def _write_nothing(self) -> int:
        probe = self._probe
        if probe is not None and probe[0] == threading.get_ident():
            probe[1].append(True)
        return 0
