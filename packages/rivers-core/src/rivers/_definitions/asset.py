"""Assets: functions whose values are stored under a name.

    Asset            one function, one value                 @rs.Asset
    MultiAsset       one function, several values            @rs.Asset.from_multi(output_defs=[...])
    GraphAsset       a composition of tasks, one value       @rs.Asset.from_graph
    ExternalAsset    made elsewhere, only loaded here        rs.Asset.external(io_handler=...)

An asset without a function is a decorator: it makes a new asset with the same settings of each function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar, overload

from rivers._definitions.arguments import argument_error, plain_text
from rivers._definitions.compute import Compute, check_compute
from rivers._definitions.functions import check_function, definition_name
from rivers._definitions.hints import list_hint
from rivers._definitions.hook import Hook, check_hooks
from rivers._definitions.locations import caller_location, source_location
from rivers._definitions.output import AssetDef, DepDef
from rivers._definitions.partitions import Partitions, check_partitions
from rivers._definitions.recording import recording
from rivers._definitions.retry import RetryPolicy, check_retry
from rivers._definitions.settings import (
    check_io_handler,
    check_metadata_strings,
    check_optional_bool,
    check_optional_text,
    check_placement,
    check_strings,
    check_timeout,
)
from rivers._definitions.signature import Signature
from rivers._io.base import BaseIOHandler
from rivers.exceptions import AssetDefinitionError

__all__ = ["Asset", "ExternalAsset", "GraphAsset", "MultiAsset"]

Self = TypeVar("Self", bound="Asset")


class Asset:
    """A function whose value is stored under a name: `@rs.Asset`, or `@rs.Asset(name=..., ...)` with settings.

        @rs.Asset(tags=["sales"], retry=rs.RetryPolicy(3), timeout=600)
        def totals(orders: list[Order], db: Database) -> int: ...

    A parameter with the name of an asset is an upstream and gets that asset's value; a parameter with the name of a
    resource gets the resource. A first parameter named `context`, or annotated so, gets an `AssetExecutionContext`. The
    body may be sync, async, a generator or an async generator. Calling the asset calls the function, for unit tests.

    Args:
        function: The body; without one the asset is a decorator.
        name: The asset's name; None is the function's.
        tags: Labels for people and tools, also in the body's context.
        kinds: Kinds of technology or data, such as "python" or "table".
        group: A group of assets, for display.
        code_version: The version of the body's logic.
        io_handler: The IO handler that stores the value, or the name of a resource that is one.
        metadata: Strings under strings. `rivers/executor` chooses the executor, `rivers/worker_reuse` overrides its
            `worker_reuse`.
        deps: Upstreams beyond the parameters: `AssetDef.dep(...)`, `AssetDef.input(...)`, an asset or a name.
        retry: A retry policy, or the name of one in `CodeRepository(retries=...)`.
        compute: CPUs, memory and GPUs, where the executor provisions them.
        timeout: Seconds, or a `timedelta`, that the body may run; at most 30 days.
        skip_unchanged: True does not run it in any run if nothing has changed since its values were stored; False runs
            it always. None leaves it to the run.
        hooks: Hooks that are called in the controller once a step of the asset has succeeded or failed.
        partitions: The keys under which the asset has one value each; a run makes one of them, `partition=`.

    Raises:
        AssetDefinitionError: a setting or the function's signature is invalid.
        InvalidMetadataError: `metadata` is no dict of str to str.
    """

    __slots__ = (
        "all_deps",
        "code_version",
        "compute",
        "deps",
        "function",
        "group",
        "hooks",
        "io_handler",
        "kinds",
        "metadata",
        "name",
        "partitions",
        "retry",
        "signature",
        "skip_unchanged",
        "tags",
        "timeout",
        "where",
    )
    _needs_function = True

    def __init__(
        self,
        function: Callable[..., Any] | None = None,
        *,
        name: str | None = None,
        tags: Sequence[str] | None = None,
        kinds: str | Sequence[str] | None = None,
        group: str | None = None,
        code_version: str | None = None,
        io_handler: BaseIOHandler | str | None = None,
        metadata: Mapping[str, str] | None = None,
        deps: Sequence[DepDef | Asset | str] | None = None,
        retry: RetryPolicy | str | None = None,
        compute: Compute | None = None,
        timeout: float | timedelta | None = None,
        hooks: Sequence[Hook] | None = None,
        skip_unchanged: bool | None = None,
        partitions: Partitions | None = None,
    ) -> None:
        self.function = check_function(function, "asset", AssetDefinitionError)
        # Before the name: a lambda that takes *args is refused for that, named or not.
        self.signature = Signature(self.function, AssetDefinitionError) if self.function is not None else None
        self.name: str = definition_name(self.function, name, "asset", AssetDefinitionError)
        owner = f"asset {self.name!r}"
        self.where = (source_location(self.function) if self.function is not None else None) or caller_location()
        self.tags = check_strings(tags, "tags", owner)
        self.kinds = check_strings([kinds] if isinstance(kinds, str) else kinds, "kinds", owner)
        self.group = check_optional_text(group, "group", owner)
        self.code_version = check_optional_text(code_version, "code_version", owner)
        self.io_handler = check_io_handler(io_handler, owner)
        self.metadata = check_metadata_strings(metadata, owner)
        check_placement(self.metadata, owner, AssetDefinitionError)
        self.deps = self.all_deps = _deps(deps, owner)
        self.retry = check_retry(retry, "retry", owner, AssetDefinitionError)
        self.compute = check_compute(compute, owner, AssetDefinitionError)
        self.timeout = check_timeout(timeout, owner, AssetDefinitionError)
        self.hooks = check_hooks(hooks, owner, AssetDefinitionError)
        self.skip_unchanged = check_optional_bool(skip_unchanged, "skip_unchanged", owner)
        self.partitions = check_partitions(partitions, owner, AssetDefinitionError)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function; on an asset without one, return a new asset of the given function.

        Raises:
            AssetDefinitionError: the call is inside a composition, or the argument is no function.
        """
        if self.function is not None:
            # The call would run the body while the graph is built.
            if recording.get() is not None:
                raise AssetDefinitionError(
                    f"asset {self.name!r} is called inside a composition, which would run its body while composing",
                    hint=f"name it as a parameter of the graph asset's function: def ...({self.name})",
                )
            return self.function(*args, **kwargs)
        if len(args) != 1 or kwargs or args[0] is None:
            raise AssetDefinitionError(f"asset {self.name!r} has no function: it decorates exactly one function")
        return self._wrap(args[0])

    def _settings(self) -> dict[str, Any]:
        return {
            "name": self.name or None,
            "tags": self.tags,
            "kinds": self.kinds,
            "group": self.group,
            "code_version": self.code_version,
            "io_handler": self.io_handler,
            "metadata": self.metadata,
            "deps": self.deps,
            "retry": self.retry,
            "compute": self.compute,
            "timeout": self.timeout,
            "hooks": self.hooks,
            "skip_unchanged": self.skip_unchanged,
            "partitions": self.partitions,
        }

    def _wrap(self: Self, function: Callable[..., Any]) -> Self:
        return type(self)(function, **self._settings())

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names under which the values are stored."""
        return (self.name,)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    @overload
    @staticmethod
    def from_multi(
        function: Callable[..., Any], /, *, output_defs: Sequence[AssetDef], **settings: Any
    ) -> MultiAsset: ...
    @overload
    @staticmethod
    def from_multi(*, output_defs: Sequence[AssetDef], **settings: Any) -> MultiAsset: ...
    @staticmethod
    def from_multi(
        function: Callable[..., Any] | None = None, /, *, output_defs: Sequence[AssetDef] | None = None, **settings: Any
    ) -> MultiAsset:
        """Make several assets of one function; see `MultiAsset`."""
        return MultiAsset(function, output_defs=output_defs, **settings)

    @overload
    @staticmethod
    def from_graph(function: Callable[..., Any], /, **settings: Any) -> GraphAsset: ...
    @overload
    @staticmethod
    def from_graph(**settings: Any) -> GraphAsset: ...
    @staticmethod
    def from_graph(function: Callable[..., Any] | None = None, /, **settings: Any) -> GraphAsset:
        """Make an asset whose value comes from composing tasks; see `GraphAsset`."""
        return GraphAsset(function, **settings)

    @staticmethod
    def external(
        function: Callable[..., Any] | None = None,
        /,
        *,
        io_handler: BaseIOHandler | str | None = None,
        **settings: Any,
    ) -> ExternalAsset:
        """Declare an asset that is made elsewhere and only loaded here, by `io_handler`; see `ExternalAsset`."""
        return ExternalAsset(function, io_handler=io_handler, **settings)


class MultiAsset(Asset):
    """One function with several values, each an asset of its own; it runs and is retried as one step.

    The body returns a dict by output name, a tuple in the order of `output_defs`, or yields `rs.Output(value,
    output_name=...)`. All outputs are stored together or, where the IO handler allows it, none. Other settings are
    those of `Asset`.
    """

    __slots__ = ("output_defs",)

    def __init__(
        self,
        function: Callable[..., Any] | None = None,
        *,
        output_defs: Sequence[AssetDef] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(function, **settings)
        owner = f"multi-asset {self.name!r}"
        self.output_defs = _output_defs(output_defs, owner)
        for output in self.output_defs:
            self.all_deps += _deps(output.deps, f"{owner}: output {output.name!r}")
            # All outputs are made by one step, so an executor for one of them would have no effect.
            placed = [key for key in output.metadata or () if key.startswith("rivers/")]
            if placed:
                raise AssetDefinitionError(
                    f"{owner}: output {output.name!r} has metadata {placed[0]!r}, but all outputs are made by one step",
                    hint="give it to the multi-asset itself",
                )
        names = [output.name for output in self.output_defs]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise AssetDefinitionError(f"{owner}: output_defs name {twice} more than once")
        if self.name in names and len(names) > 1:
            raise AssetDefinitionError(
                f"{owner}: an output has the multi-asset's own name", hint="give the multi-asset another name=..."
            )

    def _settings(self) -> dict[str, Any]:
        return {**super()._settings(), "output_defs": self.output_defs}

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(output.name for output in self.output_defs)


class GraphAsset(Asset):
    """An asset whose value comes from a composition of tasks.

    `resolve()` calls the function once, with placeholders for its upstreams; each task that it calls becomes a step
    `asset/task`. `node_io_handler` stores the values between the tasks; None is the asset's own IO handler. Other
    settings are those of `Asset`.
    """

    __slots__ = ("node_io_handler",)

    def __init__(
        self,
        function: Callable[..., Any] | None = None,
        *,
        node_io_handler: BaseIOHandler | str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(function, **settings)
        self.node_io_handler = check_io_handler(node_io_handler, f"graph asset {self.name!r}", name="node_io_handler")

    def _settings(self) -> dict[str, Any]:
        return {**super()._settings(), "node_io_handler": self.node_io_handler}


class ExternalAsset(Asset):
    """An asset that is made elsewhere and only loaded here, with its `io_handler`.

    The function, if there is one, lends its name and docstring and is never called.
    """

    __slots__ = ()
    _needs_function = False

    def __init__(
        self,
        function: Callable[..., Any] | None = None,
        *,
        io_handler: BaseIOHandler | str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(function, io_handler=io_handler, **settings)
        if io_handler is None:
            raise argument_error(
                "io_handler",
                None,
                "the IO handler that loads it, or a resource's name",
                "write rs.Asset.external(io_handler=...)",
                owner=f"external asset {self.name!r}",
                error=AssetDefinitionError,
            )


def _output_defs(output_defs: object, owner: str) -> tuple[AssetDef, ...]:
    outputs = output_defs if isinstance(output_defs, Sequence) else ()
    if outputs and all(isinstance(output, AssetDef) for output in outputs):
        return tuple(outputs)
    hint = 'write output_defs=[rs.AssetDef("name"), ...]'
    if output_defs is None:
        hint = 'write @rs.Asset.from_multi(output_defs=[rs.AssetDef("name"), ...])'
    elif isinstance(output_defs, AssetDef):
        hint = f"write output_defs=[rs.AssetDef({output_defs.name!r}), ...], or @rs.Asset for a single value"
    elif outputs and all(isinstance(output, str) for output in outputs) and not isinstance(outputs, str):
        hint = f"write output_defs=[rs.AssetDef({outputs[0]!r}), ...]"
    raise argument_error(
        "output_defs", output_defs, "a list of at least one rs.AssetDef", hint, owner=owner, error=AssetDefinitionError
    )


def _deps(deps: object, owner: str) -> tuple[DepDef, ...]:
    if deps is None:
        return ()
    # Text is iterable, too: deps="ab" would be the upstreams a and b.
    if isinstance(deps, str | Mapping) or not isinstance(deps, Iterable):
        hint = list_hint("deps", deps, (str, Asset, DepDef))
        raise argument_error("deps", deps, "a list of upstreams", hint, owner=owner, error=AssetDefinitionError)
    return tuple(_dep(dep, owner) for dep in deps)


def _dep(dep: object, owner: str) -> DepDef:
    if isinstance(dep, DepDef):
        return dep
    text = plain_text(dep)
    if text is not None:
        return AssetDef.dep(text)
    name = getattr(dep, "name", None)
    if isinstance(dep, Asset) and dep.name:
        return AssetDef.dep(dep.name)
    hint = f"write rs.AssetDef.dep({name!r})" if isinstance(name, str) and name else None
    raise argument_error(
        "deps item",
        dep,
        "rs.AssetDef.dep(...), rs.AssetDef.input(...), an asset or a name",
        hint,
        owner=owner,
        error=AssetDefinitionError,
    )
