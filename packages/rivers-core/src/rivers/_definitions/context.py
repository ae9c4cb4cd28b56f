"""The context of a body: its run, its attempt, its config, its logger and its metadata."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Generic, cast

from typing_extensions import TypeVar

from rivers._definitions.output import check_metadata

__all__ = ["AssetExecutionContext", "TaskExecutionContext"]

ConfigT = TypeVar("ConfigT", default=Any)


class _Context(Generic[ConfigT]):
    __slots__ = ("_name", "attempt", "config", "data_version", "output_metadata", "partition", "run_id", "tags")

    def __init__(
        self,
        name: str,
        *,
        tags: Sequence[str] = (),
        config: ConfigT | None = None,
        run_id: str = "",
        attempt: int = 1,
        partition: str | None = None,
    ) -> None:
        self._name = name
        self.tags = list(tags)
        self.config: ConfigT = cast(ConfigT, {} if config is None else config)
        self.run_id = run_id
        self.attempt = attempt
        self.partition = partition
        self.output_metadata: dict[str, Any] | None = None
        self.data_version: str | None = None

    @property
    def log(self) -> logging.Logger:
        """A logger of this step; its records become events of the run."""
        return logging.getLogger(f"rivers.step.{self._name}")

    def add_output_metadata(self, metadata: dict[str, Any]) -> None:
        """Attach metadata to the output (rows, a path, a schema): JSON values under strings, at most 256 KiB.

        Raises:
            InvalidMetadataError: a key is no str or a value is no JSON.
        """
        check_metadata(metadata)
        self.output_metadata = {**(self.output_metadata or {}), **metadata}

    def register_data_version(self, version: str) -> None:
        """Record a version of the output that depends on its content, such as a checksum."""
        self.data_version = version


class AssetExecutionContext(_Context[ConfigT]):
    """The context of an asset's body: the first parameter where it is named `context` or annotated so.

    With the annotation `AssetExecutionContext[Model]`, `config` is an instance of that pydantic model. Without a model
    it is the dict given for this asset, or `{}`. `partition` is the key of the partition to make, None where the asset
    has none. For a unit test of a body make one by hand: `AssetExecutionContext("orders", config=Model(...))`.
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
        partition: str | None = None,
    ) -> None:
        super().__init__(asset_name, tags=tags, config=config, run_id=run_id, attempt=attempt, partition=partition)
        self.kinds = list(kinds)
        self.group = group
        self.code_version = code_version
        self.asset_metadata = asset_metadata

    @property
    def asset_name(self) -> str:
        """The name of the asset."""
        return self._name


class TaskExecutionContext(_Context[ConfigT]):
    """The context of a task's body, like `AssetExecutionContext` for an asset's."""

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
        partition: str | None = None,
    ) -> None:
        super().__init__(task_name, tags=tags, config=config, run_id=run_id, attempt=attempt, partition=partition)
        self.task_metadata = task_metadata

    @property
    def task_name(self) -> str:
        """The name of the step: `graph/task`, with `[mapping key]` for a mapped instance."""
        return self._name
