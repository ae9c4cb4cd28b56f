"""Assets: functions whose values are kept under a name.

    Asset            one function, one value                 @rs.Asset
    MultiAsset       one function, several values            @rs.Asset.from_multi(output_defs=[...])
    GraphAsset       a composition of tasks, one value       @rs.Asset.from_graph
    ExternalAsset    made elsewhere, only loaded here        rs.Asset.external(io_handler=...)

An asset without a function is a decorator: each function it is given becomes a new asset with the same settings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, overload

from rivers._definitions.compute import Compute
from rivers._definitions.names import called_from, check_name, closest, where
from rivers._definitions.output import (
    AssetDef,
    DepDef,
    check_io_handler,
    check_static_metadata,
    check_strings,
    check_text_or_none,
)
from rivers._definitions.recording import recording
from rivers._definitions.retry import RetryPolicy
from rivers._definitions.signature import Signature
from rivers._io.base import BaseIOHandler
from rivers.exceptions import AssetDefinitionError, DefinitionError

__all__ = [
    "Asset",
    "ExternalAsset",
    "GraphAsset",
    "MultiAsset",
    "check_placement",
    "check_retry",
    "check_timeout",
    "named",
]

Self = TypeVar("Self", bound="Asset")

PLACEMENT_KEYS = ("rivers/executor", "rivers/node/executor")
MAX_TIMEOUT = 30 * 24 * 3600.0


class Asset:
    """A function whose value is kept under a name: `@rs.Asset`, or `@rs.Asset(name=..., ...)` with settings.

    Upstreams are the parameters that bear an asset's name, resources those that bear a resource's; a first parameter
    named `context` (or annotated so) gets an `AssetExecutionContext`. The body may be sync, async, a generator or an
    async generator. Calling the asset calls the function, so that it can be tested as one.

    `retry` is a policy or a name in `CodeRepository(retries=...)`, `timeout` is in seconds, `io_handler` an instance or
    a resource's name, `deps` are upstreams beyond the parameters: `AssetDef.dep("name")`, an asset or a name.

    Raises:
        AssetDefinitionError: a setting or the function's signature is not acceptable.
        InvalidMetadataError: metadata is not strings under strings.
    """

    __slots__ = (
        "all_deps",
        "code_version",
        "compute",
        "deps",
        "function",
        "group",
        "io_handler",
        "kinds",
        "metadata",
        "name",
        "retry",
        "signature",
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
        metadata: dict[str, str] | None = None,
        deps: Sequence[DepDef | Asset | str] | None = None,
        retry: RetryPolicy | str | None = None,
        compute: Compute | None = None,
        timeout: float | None = None,
    ) -> None:
        self.name: str = named(function, name, "asset", AssetDefinitionError)
        what = f"asset {self.name!r}"
        self.function = function
        self.signature = Signature(function, AssetDefinitionError) if function is not None else None
        self.where = (where(function) if function is not None else None) or called_from()
        self.tags = check_strings(tags, "tags", what)
        self.kinds = check_strings([kinds] if isinstance(kinds, str) else kinds, "kinds", what)
        self.group = check_text_or_none(group, "group", what)
        self.code_version = check_text_or_none(code_version, "code_version", what)
        self.io_handler = check_io_handler(io_handler, what)
        self.metadata = check_static_metadata(metadata, what)
        check_placement(self.metadata, what, AssetDefinitionError)
        self.deps = self.all_deps = _deps(deps, what)
        self.retry = check_retry(retry, what, AssetDefinitionError)
        if compute is not None and not isinstance(compute, Compute):
            raise AssetDefinitionError(f"{what}: compute={compute!r:.80}: an rs.Compute(...) is allowed")
        self.compute = compute
        self.timeout = check_timeout(timeout, what, AssetDefinitionError)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function; on an asset without one, return a new asset that wraps the given function.

        Raises:
            AssetDefinitionError: it is called inside a composition, which only wires tasks.
        """
        if self.function is not None:
            if recording.get() is not None:
                raise AssetDefinitionError(
                    f"asset {self.name!r} is called inside a composition, which would run its body while composing",
                    hint=f"name it as a parameter of the graph asset's function: def ...({self.name})",
                )
            return self.function(*args, **kwargs)
        if len(args) != 1 or kwargs or not callable(args[0]):
            raise AssetDefinitionError(f"asset {self.name!r} has no function: it decorates exactly one function")
        return self._wrapping(args[0])

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
        }

    def _wrapping(self: Self, function: Callable[..., Any]) -> Self:
        return type(self)(function, **self._settings())

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names under which this asset's values are kept."""
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
        function: Callable[..., Any] | None = None, /, *, output_defs: Sequence[AssetDef], **settings: Any
    ) -> MultiAsset:
        """One function that makes several assets; see `MultiAsset`."""
        return MultiAsset(function, output_defs=output_defs, **settings)

    @overload
    @staticmethod
    def from_graph(function: Callable[..., Any], /, **settings: Any) -> GraphAsset: ...
    @overload
    @staticmethod
    def from_graph(**settings: Any) -> GraphAsset: ...
    @staticmethod
    def from_graph(function: Callable[..., Any] | None = None, /, **settings: Any) -> GraphAsset:
        """An asset whose value comes from composing tasks; see `GraphAsset`."""
        return GraphAsset(function, **settings)

    @staticmethod
    def external(
        function: Callable[..., Any] | None = None, /, *, io_handler: BaseIOHandler | str, **settings: Any
    ) -> ExternalAsset:
        """An asset that is made elsewhere and only loaded here, by `io_handler`; see `ExternalAsset`."""
        return ExternalAsset(function, io_handler=io_handler, **settings)


class MultiAsset(Asset):
    """One function whose several values are assets of their own; it runs and is retried as one step.

    The body returns a dict by output name, a tuple in the order of `output_defs`, or yields `rs.Output(value,
    output_name=...)`. All outputs are stored together or, where an IO handler allows it, none.
    """

    __slots__ = ("output_defs",)

    def __init__(
        self, function: Callable[..., Any] | None = None, *, output_defs: Sequence[AssetDef], **settings: Any
    ) -> None:
        super().__init__(function, **settings)
        what = f"multi-asset {self.name!r}"
        given = output_defs if isinstance(output_defs, Sequence) else ()
        if not given or not all(isinstance(output, AssetDef) for output in given):
            raise AssetDefinitionError(
                f"{what}: output_defs={output_defs!r:.80}: a list of at least one rs.AssetDef is allowed",
                hint='write output_defs=[rs.AssetDef("name"), ...]',
            )
        self.output_defs = tuple(given)
        for output in self.output_defs:
            self.all_deps += _deps(output.deps, f"{what}: output {output.name!r}")
            placed = [key for key in output.metadata or () if key.startswith("rivers/")]
            if placed:
                raise AssetDefinitionError(
                    f"{what}: output {output.name!r} has metadata {placed[0]!r}, but all outputs are made by one step",
                    hint="give it to the multi-asset itself",
                )
        names = [output.name for output in self.output_defs]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise AssetDefinitionError(f"{what}: output_defs name {twice} more than once")
        if self.name in names and len(names) > 1:
            raise AssetDefinitionError(
                f"{what}: an output bears the multi-asset's own name", hint="give the multi-asset another name=..."
            )

    def _settings(self) -> dict[str, Any]:
        return {**super()._settings(), "output_defs": self.output_defs}

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(output.name for output in self.output_defs)


class GraphAsset(Asset):
    """An asset whose value comes from composing tasks.

    The function is called once, by `resolve()`, with stand-ins for its upstreams; the tasks it calls become the steps
    `asset/task`. `node_io_handler` stores what is handed between them (default: the asset's own handler).
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
        self.node_io_handler = check_io_handler(node_io_handler, f"graph asset {self.name!r}")

    def _settings(self) -> dict[str, Any]:
        return {**super()._settings(), "node_io_handler": self.node_io_handler}


class ExternalAsset(Asset):
    """An asset that is made elsewhere: no step makes it, whoever needs it loads it with its `io_handler`.

    The function, if there is one, lends its name and docstring and is never called.
    """

    __slots__ = ()
    _needs_function = False

    def __init__(
        self, function: Callable[..., Any] | None = None, *, io_handler: BaseIOHandler | str, **settings: Any
    ) -> None:
        super().__init__(function, io_handler=io_handler, **settings)
        if io_handler is None:
            raise AssetDefinitionError(f"external asset {self.name!r}: io_handler is what loads it, and is not given")


def named(function: object, name: object, what: str, error: type[DefinitionError]) -> str:
    """The name of what wraps `function`: the given one, else the function's own; empty for a decorator to be.

    Raises:
        DefinitionError: `function` cannot be wrapped, has no name of its own, or the name is not acceptable.
    """
    if function is not None:
        if not callable(function):
            raise error(f"{what}s wrap a function, not {function!r:.80}", hint=f"write name={function!r:.80}")
        if isinstance(getattr(function, "signature", None), Signature):
            raise error(f"{function!r} is a definition already and cannot become a second one", hint="decorate it once")
        if name is None:
            name = getattr(function, "__name__", None)
            if name is None:
                raise error(f"{function!r:.80} has no name of its own", hint=f'give the {what} one: name="..."')
    return check_name(name, what, error=error) if name is not None else ""


def check_placement(metadata: dict[str, str] | None, what: str, error: type[DefinitionError]) -> None:
    """Refuse a `rivers/…` key that is none: a typo there would silently run a step elsewhere."""
    for key in metadata or ():
        if key.startswith("rivers/") and key not in PLACEMENT_KEYS:
            near = closest(key, PLACEMENT_KEYS)
            raise error(
                f"{what}: metadata key {key!r} is not one that rivers knows; allowed are {', '.join(PLACEMENT_KEYS)}"
                + (f"; did you mean {near!r}?" if near else "")
            )


def check_retry(retry: object, what: str, error: type[DefinitionError]) -> RetryPolicy | str | None:
    """A policy, the name of one, or None."""
    if retry is None or isinstance(retry, RetryPolicy | str):
        return retry
    raise error(f"{what}: retry={retry!r:.80}: an rs.RetryPolicy(...) or the name of one is allowed")


def check_timeout(timeout: object, what: str, error: type[DefinitionError]) -> float | None:
    """Seconds, above 0 and up to 30 days, or None."""
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= MAX_TIMEOUT:
        raise error(
            f"{what}: timeout={timeout!r:.80}: seconds above 0 and up to {MAX_TIMEOUT:.0f} (30 days) are allowed"
        )
    return float(timeout)


def _deps(deps: object, what: str) -> tuple[DepDef, ...]:
    if deps is None:
        return ()
    if isinstance(deps, str) or not isinstance(deps, Iterable):
        raise AssetDefinitionError(
            f"{what}: deps={deps!r:.80}: a list of upstreams is allowed", hint=f"write deps=[{deps!r:.80}]"
        )
    return tuple(_dep(dep, what) for dep in deps)


def _dep(dep: object, what: str) -> DepDef:
    if isinstance(dep, DepDef):
        return dep
    if isinstance(dep, str):
        return AssetDef.dep(dep)
    if isinstance(dep, Asset) and dep.name:
        return AssetDef.dep(dep.name)
    raise AssetDefinitionError(
        f"{what}: deps holds {dep!r:.80}: allowed are rs.AssetDef.dep(...), rs.AssetDef.input(...), an asset or a name"
    )
