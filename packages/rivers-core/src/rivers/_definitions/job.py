"""Jobs: named selections of a repository, with settings of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rivers._definitions.asset import Asset, check_retry
from rivers._definitions.executor import Executor
from rivers._definitions.names import called_from, check_name
from rivers._definitions.retry import RetryPolicy
from rivers._definitions.task import BashTask, Task
from rivers.exceptions import ConfigurationError, ExecutionError, GraphValidationError

__all__ = ["Job", "check_executor", "check_tags"]


class Job:
    """A named selection of assets and tasks that run together; `assets` holds definitions or names.

    `executor` and `retry` are defaults for its steps: an asset's own wins. `execute` works on the job that
    `CodeRepository.get_job` returns.

    Raises:
        GraphValidationError: `assets` is empty or holds something else.
        ConfigurationError: another setting is not acceptable.
    """

    __slots__ = ("assets", "executor", "name", "retry", "tags", "where")

    def __init__(
        self,
        name: str,
        assets: Sequence[Asset | Task | BashTask | str],
        executor: Executor | None = None,
        retry: RetryPolicy | str | None = None,
        tags: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
    ) -> None:
        self.name = check_name(name, "job", error=ConfigurationError)
        if isinstance(assets, str) or not isinstance(assets, Sequence) or not assets:
            raise GraphValidationError(f"job {name!r}: assets={assets!r:.80}: a list of at least one asset is allowed")
        for asset in assets:
            if not isinstance(asset, Asset | Task | BashTask | str):
                raise GraphValidationError(f"job {name!r}: assets holds {asset!r:.80}, which is no asset, task or name")
        self.assets: tuple[Asset | Task | BashTask | str, ...] = tuple(assets)
        self.executor = check_executor(executor, f"job {name!r}: executor")
        self.retry = check_retry(retry, f"job {name!r}", ConfigurationError)
        self.tags = check_tags(tags)
        self.where = called_from()

    @property
    def selection(self) -> tuple[str, ...]:
        """The names of what the job runs."""
        return tuple(asset if isinstance(asset, str) else asset.name for asset in self.assets)

    def execute(
        self,
        tags: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        raise_on_error: bool = True,
        config: Mapping[str, Mapping[str, Any]] | None = None,
        on_event: Callable[[Any], None] | None = None,
    ) -> Any:
        """Run the job here and now and return its RunResult; see `CodeRepository.materialize` for the parameters.

        Raises:
            ExecutionError: this job was not obtained from `CodeRepository.get_job`.
        """
        raise ExecutionError(
            f"job {self.name!r} belongs to no repository yet",
            hint=f"call repository.get_job({self.name!r}).execute()",
        )

    def __repr__(self) -> str:
        return f"<Job {self.name!r}>"


def check_executor(executor: object, what: str) -> Executor | None:
    """An Executor value or None."""
    if executor is None or isinstance(executor, Executor):
        return executor
    raise ConfigurationError(
        f"{what}={executor!r:.80}: an Executor is allowed, such as rs.Executor.in_process() or rs.Executor.parallel()"
    )


def check_tags(tags: Mapping[str, str] | Sequence[tuple[str, str]] | None) -> dict[str, str]:
    """Tags of a run as a dict; a mapping or pairs of strings."""
    if tags is None:
        return {}
    try:
        found = dict(tags)
    except (TypeError, ValueError):
        found = {None: None}  # type: ignore[dict-item]  # refused below, with the same text
    if not all(isinstance(key, str) and isinstance(value, str) for key, value in found.items()):
        raise ConfigurationError(f"tags={tags!r:.80}: a dict of str to str, or pairs of them, is allowed")
    return found
