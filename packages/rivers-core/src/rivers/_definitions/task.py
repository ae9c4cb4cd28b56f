"""Tasks: the functions that a graph asset composes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rivers._definitions.asset import check_placement, check_retry, check_timeout, named
from rivers._definitions.bash import run_bash
from rivers._definitions.compute import Compute
from rivers._definitions.names import called_from, calling_module, check_name, where
from rivers._definitions.output import check_io_handler, check_static_metadata, check_strings
from rivers._definitions.recording import recording
from rivers._definitions.retry import RetryPolicy
from rivers._definitions.signature import Signature
from rivers._io.base import BaseIOHandler
from rivers.exceptions import TaskDefinitionError

__all__ = ["BashTask", "Task"]


class Task:
    """A function to compose in `@rs.Asset.from_graph`: `@rs.Task`, or `@rs.Task(name=..., ...)` with settings.

    Inside a composition a call stands for a step; anywhere else it calls the function. Settings mean what they mean on
    an asset; `metadata` may hold `rivers/node/executor` or `rivers/executor`.

    Raises:
        TaskDefinitionError: a setting or the function's signature is not acceptable.
    """

    __slots__ = (
        "compute",
        "function",
        "io_handler",
        "metadata",
        "name",
        "retry",
        "signature",
        "tags",
        "timeout",
        "where",
    )

    def __init__(
        self,
        function: Callable[..., Any] | None = None,
        *,
        name: str | None = None,
        tags: Sequence[str] | None = None,
        io_handler: BaseIOHandler | str | None = None,
        metadata: dict[str, str] | None = None,
        retry: RetryPolicy | str | None = None,
        compute: Compute | None = None,
        timeout: float | None = None,
    ) -> None:
        self.name: str = named(function, name, "task", TaskDefinitionError)
        what = f"task {self.name!r}"
        self.function = function
        self.signature = Signature(function, TaskDefinitionError) if function is not None else None
        self.where = (where(function) if function is not None else None) or called_from()
        self.tags = check_strings(tags, "tags", what, TaskDefinitionError)
        self.io_handler = check_io_handler(io_handler, what, TaskDefinitionError)
        self.metadata = check_static_metadata(metadata, what)
        check_placement(self.metadata, what, TaskDefinitionError)
        self.retry = check_retry(retry, what, TaskDefinitionError)
        self.compute = _check_compute(compute, what)
        self.timeout = check_timeout(timeout, what, TaskDefinitionError)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Record a step inside a composition, call the function elsewhere; without a function, wrap the given one."""
        if self.function is None:
            if len(args) != 1 or kwargs or not callable(args[0]):
                raise TaskDefinitionError(f"task {self.name!r} has no function: it decorates exactly one function")
            return Task(
                args[0],
                name=self.name or None,
                tags=self.tags,
                io_handler=self.io_handler,
                metadata=self.metadata,
                retry=self.retry,
                compute=self.compute,
                timeout=self.timeout,
            )
        recorder = recording.get()
        if recorder is None:
            return self.function(*args, **kwargs)
        return recorder.call(self, args, kwargs)

    def __repr__(self) -> str:
        return f"<Task {self.name!r}>"


class BashTask:
    """A command as a task; its value is what the command prints to stdout, as str.

    `command` is a text for `sh` or a list of arguments; `env` comes on top of the environment the worker has, `cwd` is
    where it runs. In a composition, arguments given by name become environment variables, arguments given by position
    only come first. A code other than 0 fails the step, with the end of stderr in the message.

    Raises:
        TaskDefinitionError: a setting is not acceptable.
    """

    __slots__ = (
        "command",
        "compute",
        "cwd",
        "env",
        "io_handler",
        "metadata",
        "module",
        "name",
        "retry",
        "tags",
        "timeout",
        "where",
    )
    function: None = None
    signature: None = None

    def __init__(
        self,
        name: str,
        command: str | Sequence[str],
        env: dict[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        *,
        tags: Sequence[str] | None = None,
        io_handler: BaseIOHandler | str | None = None,
        metadata: dict[str, str] | None = None,
        retry: RetryPolicy | str | None = None,
        compute: Compute | None = None,
        timeout: float | None = None,
    ) -> None:
        self.name = check_name(name, "task", error=TaskDefinitionError)
        what = f"bash task {name!r}"
        words = [command] if isinstance(command, str) else list(command) if isinstance(command, Sequence) else []
        if not words or not all(isinstance(word, str) and word for word in words):
            raise TaskDefinitionError(
                f"{what}: command={command!r:.80}: a text or a list of texts is allowed, none empty"
            )
        if env is not None and not (
            isinstance(env, Mapping) and all(isinstance(k, str) and isinstance(v, str) for k, v in env.items())
        ):
            raise TaskDefinitionError(f"{what}: env={env!r:.80}: a dict of str to str is allowed")
        if cwd is not None and not isinstance(cwd, str | os.PathLike):
            raise TaskDefinitionError(f"{what}: cwd={cwd!r:.80}: a path is allowed")
        self.command: str | list[str] = command if isinstance(command, str) else words
        self.env = dict(env) if env is not None else None
        self.cwd = os.fspath(cwd) if cwd is not None else None
        self.where = called_from()
        self.module = calling_module()
        self.tags = check_strings(tags, "tags", what, TaskDefinitionError)
        self.io_handler = check_io_handler(io_handler, what, TaskDefinitionError)
        self.metadata = check_static_metadata(metadata, what)
        check_placement(self.metadata, what, TaskDefinitionError)
        self.retry = check_retry(retry, what, TaskDefinitionError)
        self.compute = _check_compute(compute, what)
        self.timeout = check_timeout(timeout, what, TaskDefinitionError)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Record a step inside a composition; anywhere else run the command and return its stdout."""
        recorder = recording.get()
        if recorder is not None:
            return recorder.call(self, args, kwargs)
        return run_bash(
            self.command, self.env, self.cwd, {name: str(value) for name, value in kwargs.items()}, self.timeout
        )

    def __repr__(self) -> str:
        return f"<BashTask {self.name!r}>"


def _check_compute(compute: object, what: str) -> Compute | None:
    if compute is None or isinstance(compute, Compute):
        return compute
    raise TaskDefinitionError(f"{what}: compute={compute!r:.80}: an rs.Compute(...) is allowed")
