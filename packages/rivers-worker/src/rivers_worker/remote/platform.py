"""Start and end workers on a platform: the part of a remote executor that knows hosts, queues or clouds.

    check(specs) ──▶ open(run_id, warn) ──▶ start(order) ──▶ RemoteWorker ──▶ stop() ──▶ close(deadline)
                                              ▲   any number of them, at once    │
                                              └──────────────────────────────────┘

Everything runs in one event loop. A method that blocks would stop all attempts of the run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rivers.exceptions import Problem
from rivers.protocol import Evidence, StepSpec
from rivers_worker.announcement import Announcement

__all__ = ["RemoteWorker", "StartRefusedError", "WorkerOrder", "WorkerPlatform"]


class StartRefusedError(Exception):
    """A worker that has not started, and of which nothing is left; the text says what was seen.

    `reason` is the platform's own word, such as `QOSMaxJobsPerUser`. Its attempt has failed as infrastructure; with
    `is_transient` another attempt may succeed, so that a retry policy applies.
    """

    def __init__(self, text: str, *, reason: str | None = None, is_transient: bool = True) -> None:
        super().__init__(text)
        self.reason = reason
        self.is_transient = is_transient


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOrder:
    """A worker that is wanted.

    `spec` is the attempt that it is started for, from which a platform takes resources and metadata; it gets the spec
    itself, and others of the same shape, by gRPC. `environment` are the variables for `rivers-worker serve`, none of
    them secret; a platform may add its own. `report` takes the text of what the start waits for, such as a place in a
    queue. `deadline` is a time of the monotonic clock.
    """

    spec: StepSpec
    environment: Mapping[str, str]
    report: Callable[[str], None]
    deadline: float


class RemoteWorker(ABC):
    """A worker that has announced itself and can be dialled.

    `name` is shown in events and results, `node` is its machine. `target` is the address to dial, `host:port`; it
    stays the same if a tunnel behind it is renewed.
    """

    name: str
    node: str | None
    announcement: Announcement
    target: str

    @property
    @abstractmethod
    def is_over(self) -> bool:
        """True once the platform has reported its end."""

    @abstractmethod
    async def wait_until_over(self) -> Evidence:
        """Wait until the platform reports its end, and return the evidence; callable many times and at once."""

    def suspect(self) -> None:
        """Take notice that its connection has broken: a platform that reports no ends by itself looks now."""
        return

    @abstractmethod
    async def stop(self) -> None:
        """End it, whatever it does, with its body and all that was made for it; return when it is gone or has to be.

        It has a deadline of its own, and is called once, also for a worker that is over.
        """


class WorkerPlatform(ABC):
    """A platform for the workers of one run."""

    logger: ClassVar[str]
    """The logger of its warnings, such as `rivers.ssh`."""

    limit_changed: Callable[[int | None], None] = staticmethod(lambda limit: None)
    """Called by a platform whose number of slots changes; set before `open`."""

    async def check(self, specs: Sequence[StepSpec]) -> list[Problem]:
        """Return the problems by which these specs would fail; start none of them.

        What it opens is used by the `open` that follows, or ended by `close`.
        """
        return []

    def shape(self, spec: StepSpec) -> Hashable:
        """Return what workers that may serve this spec have in common: resources, options, an environment."""
        return spec.compute

    async def open(self, run_id: str, warn: Callable[[str], None]) -> None:
        """Get ready for a run; `warn` takes warnings that are of no single attempt. Raise to refuse the run."""
        return

    @abstractmethod
    async def start(self, order: WorkerOrder) -> RemoteWorker:
        """Start a worker, and return it once it has announced itself.

        When it is cancelled, it removes what it has begun.

        Raises:
            StartRefusedError: it has not started.
        """

    async def close(self, deadline: float) -> list[str]:
        """Release what belongs to the run, within `deadline` seconds; return what could not be done.

        All workers were stopped before. It is also called after an `open` that raised.
        """
        return []
