"""A job bound to its repository, as `CodeRepository.get_job` returns it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rivers._definitions.job import Job
from rivers._events.sink import EventSink
from rivers._repository.observe import Durability, Observe, Record
from rivers._repository.run import RunResult

__all__ = ["BoundJob"]


class BoundJob(Job):
    """A job that can be executed, as it is bound to a repository."""

    __slots__ = ("_run",)

    def __init__(self, job: Job, run: Callable[..., RunResult]) -> None:
        super().__init__(job.name, job.assets, job.executor, job.retry, job.tags, job.hooks)
        self._run = run

    def execute(
        self,
        tags: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        raise_on_error: bool = True,
        config: Mapping[str, Mapping[str, Any]] | None = None,
        on_event: EventSink | None = None,
        record: Record = None,
        progress: bool | None = None,
        durability: Durability = "process",
        skip_unchanged: bool | None = None,
        durable: bool = False,
        partition: str | None = None,
    ) -> RunResult:
        """Run the job in this thread and return its result; see `CodeRepository.materialize`."""
        observe = Observe(on_event=on_event, record=record, progress=progress, durability=durability)
        return self._run(
            self,
            tags=tags,
            raise_on_error=raise_on_error,
            config=config,
            executor=None,
            observe=observe,
            skip_unchanged=skip_unchanged,
            durable=durable,
            partition=partition,
        )
