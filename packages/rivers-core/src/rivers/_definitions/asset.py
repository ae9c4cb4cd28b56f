"""Assets: functions whose values are kept under a name.

    Asset            one function, one value                 @rs.Asset
    MultiAsset       one function, several values            @rs.Asset.from_multi(output_defs=[...])
    GraphAsset       a composition of tasks, one value       @rs.Asset.from_graph
    ExternalAsset    made elsewhere, only loaded here        rs.Asset.external(io_handler=...)

An asset without a function is a decorator: each function it is given becomes a new asset with the same settings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload

from rivers._definitions.compute import Compute
from rivers._definitions.names import check_name, closest, where
from rivers._definitions.output import (
    AssetDef,
    DepDef,
    check_io_handler,
    check_static_metadata,
    check_strings,
)
from rivers._definitions.retry import RetryPolicy
from rivers._definitions.signature import Signature
from rivers._io.base import BaseIOHandler
from rivers.exceptions import AssetDefinitionError, DefinitionError

__all__ = ["Asset", "ExternalAsset", "GraphAsset", "MultiAsset", "check_placement", "check_retry", "check_timeout"]

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
        if function is not None and not callable(function):
            raise AssetDefinitionError(
                f"an asset wraps a function, not {function!r:.80}", hint=f"write @rs.Asset(name={function!r:.80})"
            )
        if name is None and function is not None:
            name = getattr(function, "__name__", None)
        self.name: str = check_name(name, "asset", error=AssetDefinitionError) if name is not None else ""
        what = f"asset {self.name!r}"
        self.function = function
        self.signature = Signature(function, AssetDefinitionError) if function is not None else None
        self.where = where(function) if function is not None else None
        self.tags = check_strings(tags, "tags", self.name)
        self.kinds = check_strings([kinds] if isinstance(kinds, str) else kinds, "kinds", self.name)
        self.group = _check_text(group, "group", what)
        self.code_version = _check_text(code_version, "code_version", what)
        self.io_handler = check_io_handler(io_handler, what)
        self.metadata = check_static_metadata(metadata, what)
        check_placement(self.metadata, what, AssetDefinitionError)
        self.deps = tuple(_dep(dep, what) for dep in deps or ())
        self.retry = check_retry(retry, what, AssetDefinitionError)
        if compute is not None and not isinstance(compute, Compute):
            raise AssetDefinitionError(f"{what}: compute={compute!r:.80}: an rs.Compute(...) is allowed")
        self.compute = compute
        self.timeout = check_timeout(timeout, what, AssetDefinitionError)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function; on an asset without one, return a new asset that wraps the given function."""
        if self.function is not None:
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
        self.output_defs = tuple(output_defs)
        if not self.output_defs or not all(isinstance(output, AssetDef) for output in self.output_defs):
            raise AssetDefinitionError(
                f"{what}: output_defs={output_defs!r:.80}: a list of at least one rs.AssetDef is allowed"
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


def _check_text(value: object, field: str, what: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise AssetDefinitionError(f"{what}: {field}={value!r:.80}: a str is allowed")


def _dep(dep: DepDef | Asset | str, what: str) -> DepDef:
    if isinstance(dep, DepDef):
        return dep
    if isinstance(dep, str):
        return AssetDef.dep(dep)
    if isinstance(dep, Asset):
        return AssetDef.dep(dep.name)
    raise AssetDefinitionError(
        f"{what}: deps holds {dep!r:.80}: allowed are rs.AssetDef.dep(...), rs.AssetDef.input(...), an asset or a name"
    )
