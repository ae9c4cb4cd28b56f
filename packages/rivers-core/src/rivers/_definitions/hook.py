"""Hooks: functions that the controller calls when a step has succeeded or failed."""

from __future__ import annotations

import inspect
import logging
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Generic, Literal, cast

from typing_extensions import TypeVar

from rivers._definitions.arguments import argument_error, short_repr
from rivers._definitions.functions import check_function, definition_name
from rivers._definitions.hints import list_hint
from rivers._definitions.locations import caller_location, source_location
from rivers.exceptions import ConfigurationError, DefinitionError
from rivers.protocol.failure import Failure
from rivers.protocol.result import Timings

__all__ = ["Hook", "HookContext", "check_hooks"]

ConfigT = TypeVar("ConfigT", default=Any)
HookType = Literal["success", "failure"]
_EXPECTED = "a function of one parameter, the rs.HookContext"


class HookContext(Generic[ConfigT]):
    """The step that a hook is called for, as its only argument; for a unit test of a hook make one by hand.

        HookContext("orders", "failure", error="KeyError: 'price'")

    Text is without the secrets that the controller knows; `exception` and `output` are the body's own objects, and are
    not searched for secrets.

    Args:
        asset_name: The asset whose step it is; the task's name for a task that runs by itself.
        hook_type: `success` or `failure`.
        run_id: The id of the run.
        error: The type and message of the failure; None on success.
        metadata: The metadata of the stored output; by output name for a multi-asset. None on failure.
        config: The config of the asset in this run, `{}` without one. With the annotation `HookContext[Model]` it is an
            instance of that pydantic model.
        step_key: The key of the step: the asset's name, `graph/task`, or `graph/task[mapping key]`; None is the asset's
            name.
        job_name: The job that is run, or None.
        hook_name: The name of the hook.
        tags: The tags of the run.
        assets: The assets that the step makes; none for a task before the last one of a graph asset.
        executor: The kind of the executor.
        worker: The process or pod of the last attempt.
        attempts: The number of attempts that the retry policy counts.
        timings: The seconds of the last attempt by phase.
        failure: The failure of the last attempt, with reason, traceback and evidence; None on success.
        exception: The exception of the body; rebuilt where it was raised in another process. None on success.
        partition: The partition that the step makes, or None.
        load_output: A function that returns `output`; called when `output` is read for the first time.
    """

    __slots__ = (
        "_load_output",
        "_output",
        "asset_name",
        "assets",
        "attempts",
        "config",
        "error",
        "exception",
        "executor",
        "failure",
        "hook_name",
        "hook_type",
        "job_name",
        "metadata",
        "partition",
        "run_id",
        "step_key",
        "tags",
        "timings",
        "worker",
    )

    def __init__(
        self,
        asset_name: str,
        hook_type: HookType = "success",
        *,
        run_id: str = "",
        error: str | None = None,
        metadata: dict[str, Any] | None = None,
        config: ConfigT | None = None,
        step_key: str | None = None,
        job_name: str | None = None,
        hook_name: str = "",
        tags: Mapping[str, str] | None = None,
        assets: Sequence[str] = (),
        executor: str = "",
        worker: str = "",
        attempts: int = 1,
        timings: Timings = Timings(),  # noqa: B008 - frozen
        failure: Failure | None = None,
        exception: BaseException | None = None,
        partition: str | None = None,
        load_output: Callable[[], Any] | None = None,
    ) -> None:
        self.asset_name = asset_name
        self.hook_type = hook_type
        self.run_id = run_id
        self.error = error
        self.metadata = metadata
        self.config: ConfigT = cast(ConfigT, {} if config is None else config)
        self.step_key = asset_name if step_key is None else step_key
        self.job_name = job_name
        self.hook_name = hook_name
        self.tags = dict(tags or {})
        self.assets = tuple(assets)
        self.executor = executor
        self.worker = worker
        self.attempts = attempts
        self.timings = timings
        self.failure = failure
        self.exception = exception
        self.partition = partition
        self._load_output = load_output
        self._output: Any = None

    @property
    def output(self) -> Any:
        """The stored value, a dict by output name for a multi-asset; None on failure.

        The IO handler loads it when it is read for the first time, since values stay where their workers store them.

        Raises:
            InputLoadError: the value cannot be loaded in this process.
        """
        # Not before it is asked for: most hooks send a message, and the value may be gigabytes.
        if self._load_output is not None:
            self._output = self._load_output()
            self._load_output = None
        return self._output

    @property
    def log(self) -> logging.Logger:
        """A logger of this hook, `rivers.hook.<name>`."""
        return logging.getLogger(f"rivers.hook.{self.hook_name}")

    def __repr__(self) -> str:
        return f"<HookContext of {self.step_key!r}, {self.hook_type}>"


class Hook:
    """A function that the controller calls with a HookContext: `@rs.Hook.success` or `@rs.Hook.failure`.

        @rs.Hook.failure
        def page(context: rs.HookContext) -> None: ...

        @rs.Asset(hooks=[page])
        def orders() -> int: ...

    Calling the hook calls the function, for unit tests. `Hook.Success` and `Hook.Failure` are its kinds, for
    `isinstance`.
    """

    __slots__ = ("function", "name", "parameter", "where")
    Success: ClassVar[type[SuccessHook]]
    Failure: ClassVar[type[FailureHook]]
    hook_type: ClassVar[HookType]

    def __init__(self, function: Callable[..., Any] | None = None, *, name: str | None = None) -> None:
        if type(self) is Hook:
            raise ConfigurationError(
                "a hook is for success or for failure", hint="write rs.Hook.success(...) or rs.Hook.failure(...)"
            )
        # Before check_function, which would take it for any callable.
        if isinstance(function, Hook):
            raise ConfigurationError(f"{function!r} is a hook already", hint="decorate the function once")
        self.function = check_function(function, "hook", ConfigurationError)
        self.name: str = definition_name(self.function, name, "hook", ConfigurationError)
        self.parameter = _parameter(self.function) if self.function is not None else ""
        self.where = (source_location(self.function) if self.function is not None else None) or caller_location()

    @staticmethod
    def success(function: Callable[..., Any] | None = None, *, name: str | None = None) -> SuccessHook:
        """Make a hook that is called once for each step that succeeds; without a function, a decorator.

        Args:
            function: A function, sync or async, of one parameter.
            name: The name in warnings and logs; None is the function's.

        Raises:
            ConfigurationError: the function cannot be called with one argument.
        """
        return SuccessHook(function, name=name)

    @staticmethod
    def failure(function: Callable[..., Any] | None = None, *, name: str | None = None) -> FailureHook:
        """Make a hook that is called once for each step that fails for good; without a function, a decorator.

        Args:
            function: A function, sync or async, of one parameter.
            name: The name in warnings and logs; None is the function's.

        Raises:
            ConfigurationError: the function cannot be called with one argument.
        """
        return FailureHook(function, name=name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function; on a hook without one, return a new hook of the given function."""
        if self.function is not None:
            return self.function(*args, **kwargs)
        if len(args) != 1 or kwargs or args[0] is None:
            raise ConfigurationError(f"hook {self.name!r} has no function: it decorates exactly one function")
        return type(self)(args[0], name=self.name or None)

    @property
    def config_model(self) -> Any:
        """The argument of the annotation `HookContext[Model]`, or None."""
        try:
            hint = typing.get_type_hints(self.function).get(self.parameter)
        except (NameError, TypeError, AttributeError):
            return None
        arguments = typing.get_args(hint) if typing.get_origin(hint) is HookContext else ()
        return arguments[0] if arguments and isinstance(arguments[0], type) else None

    def __repr__(self) -> str:
        return f"<Hook.{self.hook_type} {self.name!r}>"


class SuccessHook(Hook):
    """A hook for success; see `Hook.success`."""

    __slots__ = ()
    hook_type = "success"


class FailureHook(Hook):
    """A hook for failure; see `Hook.failure`."""

    __slots__ = ()
    hook_type = "failure"


Hook.Success, Hook.Failure = SuccessHook, FailureHook


def _parameter(function: Callable[..., Any]) -> str:
    """Return the name of a hook's parameter.

    Raises:
        ConfigurationError: the function is a generator, or cannot be called with one argument.
    """
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise argument_error("function", function, _EXPECTED, "it is a generator, which a call does not run")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        # A builtin without a signature: the call will show.
        return ""
    try:
        signature.bind(None)
    except TypeError as problem:
        hint = f"it cannot be called with one argument: {problem}"
        raise argument_error("function", function, _EXPECTED, hint) from None
    return next(iter(signature.parameters), "")


def check_hooks(hooks: object, owner: str, error: type[DefinitionError]) -> tuple[Hook, ...]:
    """Return a list of hooks as a tuple, None as an empty one.

    Raises:
        DefinitionError: it is something else.
    """
    if hooks is None:
        return ()
    # No set, as Dagster takes: hooks are called in their order.
    if isinstance(hooks, Hook) or not isinstance(hooks, list | tuple):
        hint = list_hint("hooks", hooks, (Hook,))
        if hint is None and callable(hooks):
            hint = "write hooks=[rs.Hook.failure(function)]"
        raise argument_error("hooks", hooks, "a list of rs.Hook", hint, owner=owner, error=error)
    for position, hook in enumerate(hooks):
        hint = None
        if not isinstance(hook, Hook):
            if callable(hook) and not isinstance(hook, type):
                name = getattr(hook, "__name__", "function")
                hint = f"write rs.Hook.success({name}) or rs.Hook.failure({name})"
            raise argument_error(f"hooks[{position}]", hook, "an rs.Hook", hint, owner=owner, error=error)
        if hook.function is None:
            hint = f"decorate a function with it: @rs.Hook.{hook.hook_type}({short_repr(hook.name)})"
            raise argument_error(f"hooks[{position}]", hook, "a hook with a function", hint, owner=owner, error=error)
    return tuple(hooks)
