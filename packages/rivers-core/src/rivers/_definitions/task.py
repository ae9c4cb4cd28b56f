"""Tasks: the functions that a graph asset composes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from rivers._definitions.arguments import argument_error, as_text
from rivers._definitions.bash import run_bash
from rivers._definitions.compute import Compute, check_compute
from rivers._definitions.functions import check_function, definition_name
from rivers._definitions.locations import caller_location, calling_module, source_location
from rivers._definitions.names import check_name
from rivers._definitions.recording import recording
from rivers._definitions.retry import RetryPolicy, check_retry
from rivers._definitions.settings import (
    check_environment,
    check_io_handler,
    check_metadata_strings,
    check_placement,
    check_strings,
    check_timeout,
)
from rivers._definitions.signature import Signature
from rivers._io.base import BaseIOHandler
from rivers.exceptions import TaskDefinitionError

__all__ = ["BashTask", "Task"]


class Task:
    """A function to compose in `@rs.Asset.from_graph`: `@rs.Task`, or `@rs.Task(name=..., ...)` with settings.

    Inside a composition a call becomes a step; anywhere else it calls the function. The settings are those of `Asset`;
    `metadata` may hold `rivers/node/executor` or `rivers/executor`.

    Raises:
        TaskDefinitionError: a setting or the function's signature is invalid.
        InvalidMetadataError: `metadata` is no dict of str to str.
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
        metadata: Mapping[str, str] | None = None,
        retry: RetryPolicy | str | None = None,
        compute: Compute | None = None,
        timeout: float | timedelta | None = None,
    ) -> None:
        self.function = check_function(function, "task", TaskDefinitionError)
        self.signature = Signature(self.function, TaskDefinitionError) if self.function is not None else None
        self.name: str = definition_name(self.function, name, "task", TaskDefinitionError)
        owner = f"task {self.name!r}"
        self.where = (source_location(self.function) if self.function is not None else None) or caller_location()
        self.tags = check_strings(tags, "tags", owner, TaskDefinitionError)
        self.io_handler = check_io_handler(io_handler, owner, TaskDefinitionError)
        self.metadata = check_metadata_strings(metadata, owner)
        check_placement(self.metadata, owner, TaskDefinitionError)
        self.retry = check_retry(retry, "retry", owner, TaskDefinitionError)
        self.compute = check_compute(compute, owner, TaskDefinitionError)
        self.timeout = check_timeout(timeout, owner, TaskDefinitionError)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Record a step inside a composition, else call the function; without a function, wrap the given one."""
        if self.function is None:
            if len(args) != 1 or kwargs or args[0] is None:
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
    """A command as a task; its value is the command's stdout, as str.

        rs.BashTask("fetch", ["curl", "-sS", "https://shop.example/orders.csv"], timeout=60)

    In a composition, arguments by name become environment variables, and arguments by position only run before. In an
    asset with partitions, RIVERS_PARTITION has the key. A code other than 0 fails the step, with the end of stderr in
    the message.

    Args:
        name: The task's name.
        command: Text for `sh`, or a list of arguments, or the path of a program.
        env: Environment variables over those of the worker: text, numbers or paths.
        cwd: The working directory.

    Raises:
        TaskDefinitionError: an argument is invalid.
        InvalidMetadataError: `metadata` is no dict of str to str.
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
    # A command needs nothing of the user's modules: its settings travel as constants.
    function: None = None
    signature: None = None

    def __init__(
        self,
        name: str,
        command: str | os.PathLike[str] | Sequence[str | os.PathLike[str] | float],
        env: Mapping[str, str | float | os.PathLike[str]] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        *,
        tags: Sequence[str] | None = None,
        io_handler: BaseIOHandler | str | None = None,
        metadata: Mapping[str, str] | None = None,
        retry: RetryPolicy | str | None = None,
        compute: Compute | None = None,
        timeout: float | timedelta | None = None,
    ) -> None:
        self.name = check_name(name, "task", error=TaskDefinitionError)
        owner = f"bash task {self.name!r}"
        self.command: str | list[str] = _command(command, owner)
        self.env = check_environment(env, owner, TaskDefinitionError) if env is not None else None
        self.cwd = _folder(cwd, owner) if cwd is not None else None
        self.where = caller_location()
        self.module = calling_module()
        self.tags = check_strings(tags, "tags", owner, TaskDefinitionError)
        self.io_handler = check_io_handler(io_handler, owner, TaskDefinitionError)
        self.metadata = check_metadata_strings(metadata, owner)
        check_placement(self.metadata, owner, TaskDefinitionError)
        self.retry = check_retry(retry, "retry", owner, TaskDefinitionError)
        self.compute = check_compute(compute, owner, TaskDefinitionError)
        self.timeout = check_timeout(timeout, owner, TaskDefinitionError)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Record a step inside a composition, else run the command and return its stdout."""
        recorder = recording.get()
        if recorder is not None:
            return recorder.call(self, args, kwargs)
        return run_bash(
            self.command, self.env, self.cwd, {name: str(value) for name, value in kwargs.items()}, self.timeout
        )

    def __repr__(self) -> str:
        return f"<BashTask {self.name!r}>"


def _command(command: object, owner: str) -> str | list[str]:
    """Return text for the shell as it is, and a path or a list as the list of arguments."""
    # A path names a program, not a text for the shell, which would split it at spaces.
    if isinstance(command, os.PathLike):
        command = [command]
    words = [command] if isinstance(command, str) else list(command) if isinstance(command, Sequence) else []
    texts = [] if isinstance(command, bytes) else [as_text(word) for word in words]
    if not texts or not all(texts):
        expected = "a str for the shell, or a list of arguments, none of them empty"
        raise argument_error("command", command, expected, owner=owner, error=TaskDefinitionError)
    return texts[0] if isinstance(command, str) else texts  # type: ignore[return-value]  # None is refused above


def _folder(cwd: object, owner: str) -> str:
    folder = os.fspath(cwd) if isinstance(cwd, str | os.PathLike) else None
    if not isinstance(folder, str):
        raise argument_error("cwd", cwd, "the path of a folder, or None", owner=owner, error=TaskDefinitionError)
    return folder
