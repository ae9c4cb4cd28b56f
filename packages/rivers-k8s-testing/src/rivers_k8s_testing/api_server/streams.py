"""Apply faults to streams: turn the lines that a watch would send into those that it sends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from rivers_k8s_testing.faults import Fault

__all__ = ["CutError", "apply_fault"]


class CutError(Exception):
    """Request to break the connection within the stream."""


class _LineReader:
    """A reader of single lines whose wait for the next one can be interrupted and resumed."""

    def __init__(self, lines: AsyncIterator[bytes]) -> None:
        self._lines = lines
        self._next: asyncio.Task[bytes | None] | None = None

    async def line(self, within: float | None = None) -> bytes | None:
        """Return the next line, b"" if none arrives in time, None at the end."""
        # A wait that has timed out keeps its task, so that no line is lost.
        if self._next is None:
            self._next = asyncio.ensure_future(anext(self._lines, None))
        done, _ = await asyncio.wait({self._next}, timeout=within)
        if not done:
            return b""
        task, self._next = self._next, None
        return task.result()

    async def close(self) -> None:
        """Stop reading and close the lines."""
        task, self._next = self._next, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        await self._lines.aclose()  # type: ignore[attr-defined]


async def apply_fault(fault: Fault, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the lines of a stream with a fault.

    Raises:
        CutError: after the last line, if the connection has to break there.
    """
    pull = _LineReader(lines)
    try:
        async with contextlib.aclosing(_FAULTS[fault.kind](fault, pull)) as through:
            async for line in through:
                yield line
    finally:
        await pull.close()


async def _cut(fault: Fault, pull: _LineReader) -> AsyncIterator[bytes]:
    clock = asyncio.get_running_loop().time
    until = None if fault.seconds is None else clock() + fault.seconds
    count = 0
    while fault.events is None or count < fault.events:
        line = await pull.line(None if until is None else max(0.0, until - clock()))
        if not line:
            break
        yield line
        count += 1
    if fault.body:
        yield fault.body
        raise CutError


async def _some(fault: Fault, pull: _LineReader) -> AsyncIterator[bytes]:
    for _ in range(fault.events or 0):
        if line := await pull.line():
            yield line


async def _rest(pull: _LineReader) -> AsyncIterator[bytes]:
    while line := await pull.line():
        yield line


async def _stall(fault: Fault, pull: _LineReader) -> AsyncIterator[bytes]:
    async for line in _some(fault, pull):
        yield line
    await asyncio.Event().wait()  # until the client closes, or the cluster


async def _line(fault: Fault, pull: _LineReader) -> AsyncIterator[bytes]:
    async for line in _some(fault, pull):
        yield line
    yield fault.body + b"\n"
    async for line in _rest(pull):
        yield line


async def _error(fault: Fault, pull: _LineReader) -> AsyncIterator[bytes]:
    async for line in _some(fault, pull):
        yield line
    yield fault.body + b"\n"


async def _duplicate(fault: Fault, pull: _LineReader) -> AsyncIterator[bytes]:
    async for line in _rest(pull):
        yield line
        yield line


async def _replay(fault: Fault, pull: _LineReader) -> AsyncIterator[bytes]:
    seen = []
    async for line in _some(fault, pull):
        seen.append(line)
        yield line
    for line in seen:
        yield line
    async for line in _rest(pull):
        yield line


async def _reorder(fault: Fault, pull: _LineReader) -> AsyncIterator[bytes]:
    while first := await pull.line():
        second = await pull.line(fault.seconds)
        if second:
            yield second
        yield first
        if second is None:
            return


_FAULTS: dict[str, Any] = {
    "cut": _cut,
    "stall": _stall,
    "line": _line,
    "error": _error,
    "duplicate": _duplicate,
    "replay": _replay,
    "reorder": _reorder,
}
