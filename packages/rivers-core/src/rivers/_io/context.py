"""Contexts: the facts that an IO handler gets about the value it stores or loads."""

from __future__ import annotations

from typing import Any

__all__ = ["InputContext", "OutputContext"]


class OutputContext:
    """Facts about a value to store, for `BaseIOHandler.handle_output`.

    `asset_name` is the storage key: the asset's name, `graph/task` for a task inside a graph asset, and
    `graph/task[mapping key]` for a mapped instance; with a partition `asset@partition`, and that key alone is
    `partition`. `run_id`, `step`, `attempt` and `attempt_id` identify the writer.
    An attempt id is never used twice, so your own handler can build a staging name from it. `fingerprint` is a text of
    one line to store with the value and to return from `read_memo`, or None; `note` is another one, to return from
    `AtomicIOHandler.recall`. `data_version` is the version that the body has registered, if it is set.
    """

    __slots__ = (
        "asset_metadata",
        "asset_name",
        "attempt",
        "attempt_id",
        "data_version",
        "fingerprint",
        "note",
        "output_metadata",
        "partition",
        "run_id",
        "step",
        "type_hint",
    )

    def __init__(
        self,
        asset_name: str,
        asset_metadata: dict[str, str] | None = None,
        type_hint: Any = None,
        *,
        run_id: str = "",
        step: str = "",
        attempt: int = 1,
        attempt_id: str = "",
        fingerprint: str | None = None,
        data_version: str | None = None,
        partition: str | None = None,
        note: str | None = None,
    ) -> None:
        self.asset_name = asset_name
        self.asset_metadata = asset_metadata
        self.type_hint = type_hint
        self.run_id = run_id
        self.partition = partition
        self.step = step
        self.attempt = attempt
        self.attempt_id = attempt_id
        self.output_metadata: dict[str, Any] | None = None
        self.fingerprint = fingerprint
        self.data_version = data_version
        self.partition = partition
        self.note = note

    def add_output_metadata(self, metadata: dict[str, Any]) -> None:
        """Attach facts about what was stored (path, size, duration): JSON values under string keys."""
        if self.output_metadata is None:
            self.output_metadata = dict(metadata)
        else:
            self.output_metadata.update(metadata)

    def register_data_version(self, version: str) -> None:
        """Record a content-addressable version of the stored value."""
        self.data_version = version


class InputContext:
    """Facts about a value to load, for `BaseIOHandler.load_input`.

    `asset_name` is the storage key as in `OutputContext`, `downstream_asset` the reader, `type_hint` the annotation of
    its parameter. `run_id` is the run whose version is wanted, or None for the latest committed one. `partition` is
    that of the value, or None.
    """

    __slots__ = ("asset_metadata", "asset_name", "downstream_asset", "partition", "run_id", "type_hint")

    def __init__(
        self,
        asset_name: str,
        downstream_asset: str = "",
        asset_metadata: dict[str, str] | None = None,
        type_hint: Any = None,
        *,
        run_id: str | None = None,
        partition: str | None = None,
    ) -> None:
        self.asset_name = asset_name
        self.downstream_asset = downstream_asset
        self.asset_metadata = asset_metadata
        self.type_hint = type_hint
        self.run_id = run_id
        self.partition = partition
