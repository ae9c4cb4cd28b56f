"""Keep the state of one attempt in its worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from rivers_worker.journal import Journal
from rivers_worker.supervisor import Supervisor

__all__ = ["ServedAttempt"]


@dataclass(slots=True)
class ServedAttempt:
    """An attempt from its Execute on: its spec, its events, and the supervisor of the process that runs it.

    `is_acknowledged` once its controller has its result; then only the clean-up is under way. `is_restarted` once it
    was given to a second process. `grace` is that of a Cancel.
    """

    id: str
    spec: bytes
    pickle_key: bytes
    body: Supervisor
    journal: Journal = field(default_factory=Journal)
    is_acknowledged: bool = False
    is_restarted: bool = False
    grace: float | None = None

    def start(self, restart: Callable[[], bool]) -> None:
        """Give the attempt to its process; `restart` is called if that ends before it has taken the spec."""
        self.body.execute(self.id, self.spec, self.pickle_key, self.journal, restart)
