"""The options of one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from rivers._events.sink import EventSink

__all__ = ["RunOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """All that a run needs beside its plan and its backends.

    `key` signs pickled refs, `random` gives numbers in [0, 1) for the jitter of retries. `configs` are JSON texts by
    asset. `grace` is how many seconds a cancelled body gets. `folders` hold values for as long as this process lives.
    """

    run_id: str
    key: bytes
    random: Callable[[], float]
    sinks: Sequence[EventSink] = ()
    configs: Mapping[str, str] = field(default_factory=dict)
    tags: dict[str, str] | None = None
    job: str | None = None
    grace: float = 10.0
    folders: tuple[str, ...] = ()
