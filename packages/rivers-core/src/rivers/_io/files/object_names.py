"""The names of the objects below a prefix of a bucket, and what stands in them of commits."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from rivers._io.files.key import SUFFIX, flat_name, object_path
from rivers._io.files.trailer import Names

__all__ = ["Commit", "ObjectNames", "Stored"]


class Commit(NamedTuple):
    """A step's commit: its time (the store's clock, the writer's clock), the winner, and the object of each key."""

    when: tuple[datetime, int]
    attempt_id: str
    sources: dict[str, str]


class Stored(NamedTuple):
    """The end of a stored object: its names, the store's time of it, whether it is a pointer, and its bytes."""

    names: Names
    modified: datetime
    is_pointer: bool
    size: int


class ObjectNames:
    """The names of objects as `value_files` describes them."""

    def __init__(self, prefix: str) -> None:
        self._base = f"{prefix}/" if prefix else ""

    def _latest(self, key: str) -> str:
        return self._base + object_path(key)

    def _run(self, run_id: str) -> str:
        return f"{self._base}.rivers/runs/{flat_name(run_id)}"

    def _version(self, run: str, key: str) -> str:
        return f"{run}/{flat_name(key)}{SUFFIX}"

    def _marker(self, run: str, step: str) -> str:
        return f"{run}/{flat_name(step)}.commit"

    def _staged(self, run: str, attempt_id: str, key: str) -> str:
        return f"{run}/{flat_name(attempt_id)}~{flat_name(key)}"

    def _end_mark(self, run_id: str) -> str:
        return f"{self._base}.rivers/ended/{flat_name(run_id)}"
