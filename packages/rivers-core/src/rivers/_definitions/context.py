"""What a body may ask for about the attempt it runs in: its first parameter, annotated or named `context`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Generic, cast

from typing_extensions import TypeVar

from rivers._definitions.output import check_metadata

__all__ = ["AssetExecutionContext", "TaskExecutionContext"]

ConfigT = TypeVar("ConfigT", default=Any)


class _Context(Generic[ConfigT]):
    __slots__ = ("_name", "attempt", "config", "data_version", "output_metadata", "run_id", "tags")

    def __init__(
        self,
        name: str,
        *,
        tags: Sequence[str] = (),
        config: ConfigT | None = None,
        run_id: str = "",
        attempt: int = 1,
    ) -> None:
        self._name = name
        self.tags = list(tags)
        self.config: ConfigT = cast(ConfigT, {} if config is None else config)
        self.run_id = run_id
        self.attempt = attempt
        self.output_metadata: dict[str, Any] | None = None
        self.data_version: str | None = None

    @property
    def log(self) -> logging.Logger:
        """A `logging.Logger` of this step's own; its records become events of the run."""
        return logging.getLogger(f"rivers.step.{self._name}")

    def add_output_metadata(self, metadata: dict[str, Any]) -> None:
        """Attach facts about the output (rows, a path, a schema): JSON values under string keys, at most 256 KiB.

        Raises:
            InvalidMetadataError: a key is no string or a value is no JSON.
        """
        check_metadata(metadata)
        self.output_metadata = {**(self.output_metadata or {}), **metadata}

    def register_data_version(self, version: str) -> None:
        """Record a content-addressable version of the output."""
        self.data_version = version


class AssetExecutionContext(_Context[ConfigT]):
    """Given to an asset's body; `AssetExecutionContext[Model]` has `config` as an instance of that pydantic model.

    Make one by hand to call a body in a unit test: `AssetExecutionContext("orders", config=Model(...))`. Without a
    model, `config` is the dict given for this asset, `{}` when none was.
    """

    __slots__ = ("asset_metadata", "code_version", "group", "kinds")

    def __init__(
        self,
        asset_name: str,
        tags: Sequence[str] = (),
        kinds: Sequence[str] = (),
        group: str | None = None,
        code_version: str | None = None,
        asset_metadata: dict[str, str] | None = None,
        *,
        config: ConfigT | None = None,
        run_id: str = "",
        attempt: int = 1,
    ) -> None:
        super().__init__(asset_name, tags=tags, config=config, run_id=run_id, attempt=attempt)
        self.kinds = list(kinds)
        self.group = group
        self.code_version = code_version
        self.asset_metadata = asset_metadata

    @property
    def asset_name(self) -> str:
        """The asset being materialized."""
        return self._name


class TaskExecutionContext(_Context[ConfigT]):
    """Given to a task's body, like `AssetExecutionContext` to an asset's."""

    __slots__ = ("task_metadata",)

    def __init__(
        self,
        task_name: str,
        tags: Sequence[str] = (),
        task_metadata: dict[str, str] | None = None,
        *,
        config: ConfigT | None = None,
        run_id: str = "",
        attempt: int = 1,
    ) -> None:
        super().__init__(task_name, tags=tags, config=config, run_id=run_id, attempt=attempt)
        self.task_metadata = task_metadata

    @property
    def task_name(self) -> str:
        """The step that runs: `graph/task`, with `[mapping key]` for a mapped instance."""
        return self._name
