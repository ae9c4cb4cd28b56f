"""The options of one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from rivers._events.event import Event
from rivers._events.sink import EventSink
from rivers._io.shared.default_store import DefaultStore
from rivers._plan.restored import RestoredUnit
from rivers._plan.reuse import Reuse
from rivers._record.private import PrivateFolder
from rivers.protocol.spec import TraceContext

__all__ = ["BeginAttempt", "EndListener", "MakeReuse", "RunOptions"]

BeginAttempt: TypeAlias = Callable[[str, str, int, float, str | None], TraceContext | None]
"""Begins the span of an attempt, given its step, id, number, seconds in the queue, and the name of its function."""


MakeReuse: TypeAlias = Callable[[Callable[[str], None]], Reuse]
"""Reads the memos of stored values, given the function that warns of a store that cannot be read."""


class EndListener(Protocol):
    """A listener to the ends of steps that does not count as one of the run's sinks."""

    def begin(self, warn: Callable[[str, str], None], errors: Mapping[str, BaseException]) -> None:
        """Take the function that warns of a problem at a step, and the live exceptions of bodies by step."""

    def __call__(self, event: Event) -> None: ...

    def finish(self) -> None:
        """Finish before the run's last event; called once, after the last step has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """All that a run needs beside its plan and its backends.

    `epoch` counts the controllers that have carried out the run before. `key` signs pickled refs, `random` gives
    numbers in [0, 1) for the jitter of retries. `journal` is the sink that also takes intents. `configs` are JSON texts
    by asset. `grace` is how many seconds a cancelled body gets. `folders` hold values for as long as this process
    lives. `private` is the folder of a durable run, None for all others. `store` is the default store, for values that
    travel inline. `hooks` takes the ends of steps, and `begin_attempt` traces attempts. `restored` has what is known of
    units from earlier controllers or from the run that this one retries; `notes` are warnings by step, or by "".
    `make_reuse` reads from the stores what need not run.
    """

    run_id: str
    epoch: int = 0
    key: bytes
    random: Callable[[], float]
    sinks: Sequence[EventSink] = ()
    journal: EventSink | None = None
    configs: Mapping[str, str] = field(default_factory=dict)
    tags: dict[str, str] | None = None
    job: str | None = None
    grace: float = 10.0
    folders: tuple[str, ...] = ()
    private: PrivateFolder | None = None
    store: DefaultStore | None = None
    hooks: EndListener | None = None
    begin_attempt: BeginAttempt | None = None
    restored: Mapping[str, RestoredUnit] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    make_reuse: MakeReuse | None = None
