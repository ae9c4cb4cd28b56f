"""The composition of a graph asset: its function is called once with stand-ins, and the calls are written down.

@rs.Asset.from_graph
def total(numbers):                 Upstream("numbers")
    parts = split(numbers)          Call split      ← Upstream
    done = parts.map(double)        Call double     ← Element of split, once per element
    return add(done.collect())      Call add        ← Collected of double
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from rivers._definitions.asset import GraphAsset
from rivers._definitions.output import DynamicOutput
from rivers._definitions.task import BashTask, Task, recording
from rivers.exceptions import AssetDefinitionError, TaskDefinitionError

__all__ = [
    "Call",
    "Collected",
    "Composition",
    "Constant",
    "Element",
    "FromCall",
    "MappedOutput",
    "NodeOutput",
    "Upstream",
    "compose",
]


@dataclass(frozen=True, slots=True)
class Upstream:
    """The value of an upstream asset, or of a resource, by the name of the graph function's parameter."""

    name: str


@dataclass(frozen=True, slots=True)
class FromCall:
    """The value of another call."""

    call: int


@dataclass(frozen=True, slots=True)
class Element:
    """One element of the value of a call that is mapped over, or this instance's result of a mapped call."""

    call: int


@dataclass(frozen=True, slots=True)
class Collected:
    """All results of a mapped call: a list, or an iterator when `stream`."""

    call: int
    stream: bool = False
    ordered: bool = False


@dataclass(frozen=True, slots=True)
class Constant:
    """A value written into the composition."""

    value: Any


Argument: TypeAlias = Upstream | FromCall | Element | Collected | Constant


@dataclass(slots=True)
class Call:
    """One call of a task: a step of the graph, or one step per element when `mapped_over` another call."""

    index: int
    name: str
    task: Task | BashTask
    arguments: dict[str, Argument]
    after: tuple[Argument, ...] = ()
    mapped_over: int | None = None
    max_concurrency: int | None = None


@dataclass(slots=True)
class Composition:
    """The calls of a graph asset in the order they were made, and the call that gives the asset's value."""

    asset: GraphAsset
    calls: list[Call] = field(default_factory=list)
    result: int = -1

    def call(self, task: Task | BashTask, args: tuple[Any, ...], kwargs: dict[str, Any]) -> NodeOutput:
        """Write down a call (what `Task.__call__` does inside a composition)."""
        return NodeOutput(self, self.add(task, args, kwargs).index)

    def add(
        self,
        task: Task | BashTask,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        mapped_over: int | None = None,
        max_concurrency: int | None = None,
    ) -> Call:
        """Write down a call, mapped or not."""
        arguments, after = _bind(self, task, args, kwargs)
        used = {call.name for call in self.calls}
        name, n = task.name, 2
        while name in used:
            name, n = f"{task.name}_{n}", n + 1
        call = Call(len(self.calls), name, task, arguments, after, mapped_over, max_concurrency)
        self.calls.append(call)
        return call


class NodeOutput:
    """Stands for the value of a step inside a composition: pass it to tasks, or map a task over it."""

    __slots__ = ("_composition", "argument")

    def __init__(self, composition: Composition, source: int | str) -> None:
        self._composition = composition
        self.argument: Argument = Upstream(source) if isinstance(source, str) else FromCall(source)

    @property
    def node_name(self) -> str:
        """The name of the task or upstream that this is the value of."""
        if isinstance(self.argument, Upstream):
            return self.argument.name
        assert isinstance(self.argument, FromCall)
        return self._composition.calls[self.argument.call].name

    def map(self, task: Task, *, max_concurrency: int | None = None, **arguments: Any) -> MappedOutput:
        """Run `task` once for each element of this value, at most `max_concurrency` at once (None: no limit).

        The element is the task's first parameter; further `arguments`, by name, are the same for all instances.
        """
        source = self
        if isinstance(self.argument, Upstream):
            source = self._composition.call(_EACH, (self,), {})
        assert isinstance(source.argument, FromCall)
        return _map(self._composition, source.argument.call, task, max_concurrency, arguments)

    def __iter__(self) -> Iterator[Any]:
        raise TaskDefinitionError(
            f"the value of {self.node_name!r} is not known while the graph is composed, so it cannot be iterated",
            hint="use .map(task) to run a task for each element, or do the loop inside a task",
        )

    def __bool__(self) -> bool:
        raise TaskDefinitionError(
            f"the value of {self.node_name!r} is not known while the graph is composed, so it cannot be tested",
            hint="make the decision inside a task",
        )


class MappedOutput:
    """Stands for the results of a mapped task: `collect()` them, stream them, or map another task over them."""

    __slots__ = ("_call", "_composition")

    def __init__(self, composition: Composition, call: int) -> None:
        self._composition = composition
        self._call = call

    @property
    def node_name(self) -> str:
        """The name of the mapped task."""
        return self._composition.calls[self._call].name

    def collect(self) -> Any:
        """All results as a list, in the order of the elements, once all instances have succeeded."""
        return _CollectedOutput(self._composition, Collected(self._call))

    def collect_stream(self, *, ordered: bool = False) -> Any:
        """An iterator over the results as instances finish; with `ordered`, in the order of the elements."""
        return _CollectedOutput(self._composition, Collected(self._call, True, ordered))

    def map(self, task: Task, *, max_concurrency: int | None = None, **arguments: Any) -> MappedOutput:
        """Run another task on each result, as soon as that result is there."""
        return _map(self._composition, self._call, task, max_concurrency, arguments)


class _CollectedOutput(NodeOutput):
    __slots__ = ()

    def __init__(self, composition: Composition, argument: Collected) -> None:
        self._composition = composition
        self.argument = argument

    @property
    def node_name(self) -> str:
        assert isinstance(self.argument, Collected)
        return self._composition.calls[self.argument.call].name

    def map(self, task: Task, *, max_concurrency: int | None = None, **arguments: Any) -> MappedOutput:
        return self._composition.call(_EACH, (self,), {}).map(task, max_concurrency=max_concurrency, **arguments)


def compose(asset: GraphAsset) -> Composition:
    """Call the graph asset's function with stand-ins and return the calls it made.

    Raises:
        AssetDefinitionError: it takes a context, or does not return the output of a task.
    """
    if asset.function is None or asset.signature is None:
        raise AssetDefinitionError(
            f"graph asset {asset.name!r} has no function to compose", hint="decorate one with it"
        )
    if asset.signature.context is not None:
        raise AssetDefinitionError(
            f"graph asset {asset.name!r} takes a context, but its function only composes",
            hint="take the context in the tasks",
        )
    composition = Composition(asset)
    token = recording.set(composition)
    try:
        positional = [NodeOutput(composition, p.name) for p in asset.signature.parameters if p.positional_only]
        named = {p.name: NodeOutput(composition, p.name) for p in asset.signature.parameters if not p.positional_only}
        result = asset.function(*positional, **named)
    finally:
        recording.reset(token)
    if isinstance(result, _CollectedOutput):
        result = composition.call(_GATHER, (result,), {})
    if not isinstance(result, NodeOutput) or not isinstance(result.argument, FromCall):
        raise AssetDefinitionError(
            f"graph asset {asset.name!r} must return the output of a task, not {_described(result)}",
            hint="return what the last task call gave; .collect() what was mapped",
        )
    composition.result = result.argument.call
    return composition


def each(values: Any) -> list[Any]:
    """The elements of a value that is mapped over as it comes from an upstream; a dict's keys are mapping keys."""
    if isinstance(values, dict):
        return [DynamicOutput(str(key), value) for key, value in values.items()]
    return list(values)


def gather(values: Any) -> list[Any]:
    """A collected list as a graph asset's own value."""
    return list(values)


_EACH = Task(each)
_GATHER = Task(gather)


def _map(
    composition: Composition, source: int, task: Task, max_concurrency: int | None, arguments: dict[str, Any]
) -> MappedOutput:
    if not isinstance(task, Task) or task.signature is None:
        raise TaskDefinitionError(f".map() takes a rs.Task with a function, not {task!r:.80}")
    if max_concurrency is not None and (
        isinstance(max_concurrency, bool) or not isinstance(max_concurrency, int) or max_concurrency < 1
    ):
        raise TaskDefinitionError(
            f".map(max_concurrency={max_concurrency!r:.80}): a whole number above 0 or None is allowed"
        )
    if not task.signature.parameters:
        raise TaskDefinitionError(f"task {task.name!r} is mapped, but has no parameter for the element")
    element = _Stand(Element(source))
    call = composition.add(task, (element,), arguments, mapped_over=source, max_concurrency=max_concurrency)
    return MappedOutput(composition, call.index)


@dataclass(frozen=True, slots=True)
class _Stand:
    argument: Argument


def _bind(
    composition: Composition, task: Task | BashTask, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[dict[str, Argument], tuple[Argument, ...]]:
    """Give each argument the name of its parameter, as Python would."""
    if isinstance(task, BashTask):
        return {name: _argument(task, value) for name, value in kwargs.items()}, tuple(_argument(task, a) for a in args)
    assert task.signature is not None
    names = [parameter.name for parameter in task.signature.parameters]
    if len(args) > len(names):
        raise TaskDefinitionError(f"task {task.name!r} takes {len(names)} arguments, {len(args)} were given")
    bound = {name: _argument(task, value) for name, value in zip(names, args, strict=False)}
    for name, value in kwargs.items():
        if name not in names:
            raise TaskDefinitionError(
                f"task {task.name!r} has no parameter {name!r}; it has {', '.join(names) or 'none'}"
            )
        if name in bound:
            raise TaskDefinitionError(f"task {task.name!r}: {name!r} is given twice")
        bound[name] = _argument(task, value)
    return bound, ()


def _argument(task: Task | BashTask, value: Any) -> Argument:
    if isinstance(value, NodeOutput | _Stand):
        return value.argument
    if isinstance(value, MappedOutput):
        raise TaskDefinitionError(
            f"task {task.name!r} is given the mapped output of {value.node_name!r}",
            hint="end the fan-out with .collect() or .collect_stream(), or .map() this task, too",
        )
    return Constant(value)


def _described(value: Any) -> str:
    if isinstance(value, MappedOutput):
        return f"the mapped output of {value.node_name!r}, which needs .collect()"
    if isinstance(value, NodeOutput):
        return f"its own upstream {value.node_name!r}"
    return f"{value!r:.80} ({type(value).__name__})"
