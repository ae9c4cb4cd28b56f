"""Jobs: named selections of a repository, with settings of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rivers._definitions.arguments import argument_error, plain_number, plain_text
from rivers._definitions.asset import Asset
from rivers._definitions.executor import Executor, check_executor
from rivers._definitions.hook import Hook, check_hooks
from rivers._definitions.lists import check_list
from rivers._definitions.locations import caller_location
from rivers._definitions.names import check_name
from rivers._definitions.retry import RetryPolicy, check_retry
from rivers._definitions.task import BashTask, Task
from rivers.exceptions import ConfigurationError, ExecutionError, GraphValidationError

__all__ = ["Job", "check_tags"]


class Job:
    """A named selection of assets and tasks that run together.

        rs.Job("nightly", [orders, totals], executor=rs.Executor.parallel())

    `CodeRepository.get_job(name).execute()` runs it.

    Args:
        name: The job's name, unique in its repository.
        assets: Assets, tasks or their names; at least one.
        executor: The executor of steps that name none, in place of the repository's default.
        retry: The retry policy of steps without one of their own, or the name of one in `CodeRepository(retries=...)`.
        tags: Tags of each run, as a dict or as pairs of strings.
        hooks: Hooks of every step of its runs, after those of the assets.

    Raises:
        GraphValidationError: `assets` is empty or holds something else.
        ConfigurationError: another argument is invalid.
    """

    __slots__ = ("assets", "executor", "hooks", "name", "retry", "tags", "where")

    def __init__(
        self,
        name: str,
        assets: Sequence[Asset | Task | BashTask | str],
        executor: Executor | None = None,
        retry: RetryPolicy | str | None = None,
        tags: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        hooks: Sequence[Hook] | None = None,
    ) -> None:
        self.name = check_name(name, "job", error=ConfigurationError)
        owner = f"job {self.name!r}"
        self.assets = _members(assets, owner)
        self.executor = check_executor(executor, "executor", owner)
        self.retry = check_retry(retry, "retry", owner, ConfigurationError)
        self.tags = check_tags(tags, owner)
        self.hooks = check_hooks(hooks, owner, ConfigurationError)
        self.where = caller_location()

    @property
    def selection(self) -> tuple[str, ...]:
        """The names of the assets and tasks in the job."""
        return tuple(asset if isinstance(asset, str) else asset.name for asset in self.assets)

    def execute(
        self,
        tags: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        raise_on_error: bool = True,
        config: Mapping[str, Mapping[str, Any]] | None = None,
        on_event: Callable[[Any], None] | None = None,
    ) -> Any:
        """Run the job, wait for its end and return its RunResult; see `CodeRepository.materialize` for the parameters.

        Raises:
            ExecutionError: the job does not come from `CodeRepository.get_job`.
        """
        raise ExecutionError(
            f"job {self.name!r} belongs to no repository yet",
            hint=f"call repository.get_job({self.name!r}).execute()",
        )

    def __repr__(self) -> str:
        return f"<Job {self.name!r}>"


def _members(assets: object, owner: str) -> tuple[Asset | Task | BashTask | str, ...]:
    kinds = (Asset, Task, BashTask, str)
    try:
        found = check_list(
            "assets",
            assets,
            kinds,
            "an asset, a task or a name",
            "assets, tasks or names",
            make="decorate it with @rs.Asset",
            owner=owner,
        )
        if not found:
            raise argument_error("assets", assets, "at least one asset, task or name", owner=owner)
    except ConfigurationError as error:
        raise GraphValidationError(str(error)) from None
    return tuple(plain_text(asset) or asset for asset in found)


def check_tags(tags: Any, owner: str = "") -> dict[str, str]:
    """Return the tags of a run, given as a mapping or as pairs of strings, as a dict.

    Raises:
        ConfigurationError: they are something else.
    """
    if tags is None:
        return {}
    hint = 'write tags={"name": "value"}'
    if isinstance(tags, str | Asset | Task | BashTask):
        hint += ", and several assets as one list: [first, second]"
    expected = "a dict of str to str, or pairs of them"
    try:
        pairs: dict[Any, Any] = dict(tags)
    except (TypeError, ValueError):
        raise argument_error("tags", tags, expected, hint, owner=owner) from None
    found: dict[str, str] = {}
    for key, value in pairs.items():
        name, text = plain_text(key), plain_text(value)
        if name is None or text is None or isinstance(tags, str):
            number = f"write {{{name!r}: '{value}'}}" if name and plain_number(value) is not None else hint
            raise argument_error("tags", tags, expected, number, owner=owner)
        found[name] = text
    return found
