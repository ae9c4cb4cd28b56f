"""The header of a run: what is known before its first event, as plain data."""

from __future__ import annotations

import msgspec

__all__ = ["FORMAT", "ExecutorHeader", "GitCommit", "RunHeader", "StepHeader"]

FORMAT = 1
"""The version of the record's format: it changes when a reader of the last one would misread the files."""


class GitCommit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The git commit of the folder that the run was started in; `is_dirty` if tracked files differed from it."""

    commit: str
    branch: str | None = None
    is_dirty: bool = False


class ExecutorHeader(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An executor of the run: its kind, its repr without secrets, and the number of steps at once where it has one."""

    kind: str
    text: str
    slots: int | None = None


class StepHeader(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A planned step.

    `executor` and `deps` are indices into the header's `executors` and `steps`. `mapped_over` is the index of the step
    whose elements it has an instance for (`key[map key]`). `location` is `file:line` of the definition. `outputs` are
    the storage keys of what it stores, `stores` the index in the header's `stores` for each of them. `code` is a digest
    of its code, empty where that cannot be known.
    """

    key: str
    executor: int
    level: int
    deps: tuple[int, ...] = ()
    mapped_over: int | None = None
    assets: tuple[str, ...] = ()
    kind: str = "asset"
    group: str | None = None
    kinds: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    description: str | None = None
    location: str | None = None
    inner: tuple[str, ...] = ()
    max_attempts: int | None = None
    timeout: float | None = None
    code_version: str | None = None
    code: str = ""
    outputs: tuple[str, ...] = ()
    stores: tuple[int, ...] = ()


class RunHeader(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The header of a run, written as `header.json` beside its events.

    `started` is seconds since the epoch, `repository` the target that was run, `selection` the names that were chosen
    (None: all), `versions` those of Python and of the packages of rivers, `command` the arguments of the command line.
    `partition` is the one that its partitioned steps make. `executor` and `settings` are those that its caller chose by
    name, `configs` JSON texts by asset, with `***` for secrets. `stores` describes the IO handlers: their class and
    their fields as JSON. `durable` says whether a later controller may adopt attempts, `skip_unchanged` is the run's
    argument of that name.
    """

    format: int
    run_id: str
    started: float
    repository: str = ""
    selection: tuple[str, ...] | None = None
    job: str | None = None
    tags: dict[str, str] = {}
    executors: tuple[ExecutorHeader, ...] = ()
    steps: tuple[StepHeader, ...] = ()
    versions: dict[str, str] = {}
    host: str = ""
    pid: int = 0
    folder: str = ""
    git: GitCommit | None = None
    command: tuple[str, ...] = ()
    partition: str | None = None
    retry_of: str | None = None
    executor: str | None = None
    settings: tuple[str, ...] = ()
    configs: dict[str, str] = {}
    stores: tuple[str, ...] = ()
    durable: bool = False
    skip_unchanged: bool | None = None
