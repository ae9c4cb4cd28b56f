"""The composition of a graph asset: its function is called once with placeholders, and its calls are recorded.

@rs.Asset.from_graph
def total(numbers):                 Upstream("numbers")
    parts = split(numbers)          Call split      ← Upstream
    done = parts.map(double)        Call double     ← Element of split, once per element
    return add(done.collect())      Call add        ← Collected of double
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NoReturn

from rivers._definitions.arguments import check_count
from rivers._definitions.asset import Asset, GraphAsset
from rivers._definitions.calls import Argument, Call, Collected, Constant, Element, FromCall, Upstream
from rivers._definitions.elements import elements_of
from rivers._definitions.recording import recording
from rivers._definitions.task import BashTask, Task
from rivers._io.one_shot import is_one_shot
from rivers.exceptions import AssetDefinitionError, TaskDefinitionError

__all__ = ["Composition", "MappedOutput", "NodeOutput", "compose"]


@dataclass(slots=True)
class Composition:
    """The calls of a graph asset in their order, and the call whose value is the asset's."""

    asset: GraphAsset
    calls: list[Call] = field(default_factory=list)
    result: int = -1
    _used: dict[str, int] = field(default_factory=dict)

    def call(self, task: Task | BashTask, args: tuple[Any, ...], kwargs: dict[str, Any]) -> NodeOutput:
        """Record a call of a task and return the placeholder of its output."""
        return NodeOutput(self, self.add(task, args, kwargs).index)

    def add(
        self,
        task: Task | BashTask,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        mapped_over: int | None = None,
        max_concurrency: int | None = None,
    ) -> Call:
        """Record a call, mapped or not, under a name that is unique in the composition."""
        arguments, after = _bind(self, task, args, kwargs)
        if not task.name:
            raise TaskDefinitionError(f"{task!r} has neither a name nor a function", hint="decorate a function with it")
        name = task.name
        # A task that is called twice makes two steps: `load` and `load_2`.
        while name in self._used:
            self._used[task.name] += 1
            name = f"{task.name}_{self._used[task.name]}"
        self._used[name] = 1
        call = Call(len(self.calls), name, task, arguments, after, mapped_over, max_concurrency)
        self.calls.append(call)
        return call


class _Placeholder(ABC):
    """A placeholder for a value while the graph is composed; it refuses every use as a value."""

    __slots__ = ("_composition",)

    def __init__(self, composition: Composition) -> None:
        self._composition = composition

    @property
    @abstractmethod
    def node_name(self) -> str:
        """The name of the task or upstream whose value this is."""

    def _refuse(self, what: str, hint: str) -> NoReturn:
        raise TaskDefinitionError(
            f"the value of {self.node_name!r} is not known while the graph is composed, so it cannot be {what}",
            hint=hint,
        )

    def __iter__(self) -> Iterator[Any]:
        self._refuse("iterated", "use .map(task) to run a task for each element, or do the loop inside a task")

    def __bool__(self) -> bool:  # noqa: PLE0304 - never returns
        self._refuse("tested", "make the decision inside a task")

    def __eq__(self, other: object) -> bool:
        self._refuse("compared", "make the comparison inside a task")

    def __hash__(self) -> int:
        return id(self)

    def __getitem__(self, key: object) -> Any:
        self._refuse("indexed", "take the part inside a task")

    def __repr__(self) -> str:
        return f"<the value of {self.node_name!r}>"


class NodeOutput(_Placeholder):
    """The placeholder for the value of a step inside a composition: pass it to tasks, or map a task over it."""

    __slots__ = ("argument",)

    def __init__(self, composition: Composition, source: int | str) -> None:
        super().__init__(composition)
        self.argument: Argument = Upstream(source) if isinstance(source, str) else FromCall(source)

    @property
    def node_name(self) -> str:
        """The name of the task or upstream whose value this is."""
        if isinstance(self.argument, Upstream):
            return self.argument.name
        assert isinstance(self.argument, FromCall)
        return self._composition.calls[self.argument.call].name

    def map(self, task: Task, *, max_concurrency: int | None = None, **arguments: Any) -> MappedOutput:
        """Run `task` once for each element of this value, at most `max_concurrency` at once (None: no limit).

        The element is the task's first parameter. Further `arguments`, by name, are the same for all instances.

        Raises:
            TaskDefinitionError: `task` is no task with a parameter for the element, or an argument is invalid.
        """
        source = self
        if isinstance(self.argument, Upstream):
            # An upstream is stored as one value; the step `each` stores its elements one by one.
            source = self._composition.call(_EACH, (self, self.node_name), {})
        assert isinstance(source.argument, FromCall)
        return _map(self._composition, source.argument.call, task, max_concurrency, arguments)


class MappedOutput(_Placeholder):
    """The placeholder for the results of a mapped task: collect them, stream them, or map another task over them."""

    __slots__ = ("_call",)

    def __init__(self, composition: Composition, call: int) -> None:
        super().__init__(composition)
        self._call = call

    @property
    def node_name(self) -> str:
        """The name of the mapped task."""
        return self._composition.calls[self._call].name

    def collect(self) -> Any:
        """Return a placeholder for the list of all results, in the order of the elements."""
        return _CollectedOutput(self._composition, Collected(self._call))

    def collect_stream(self, *, ordered: bool = False) -> Any:
        """Return a placeholder for an iterator over the results as instances finish.

        With `ordered` the results come in the order of the elements.
        """
        return _CollectedOutput(self._composition, Collected(self._call, True, ordered))

    def map(self, task: Task, *, max_concurrency: int | None = None, **arguments: Any) -> MappedOutput:
        """Run another task on each result as soon as it is there; like `NodeOutput.map`."""
        return _map(self._composition, self._call, task, max_concurrency, arguments)


class _CollectedOutput(NodeOutput):
    __slots__ = ()

    def __init__(self, composition: Composition, argument: Collected) -> None:
        super().__init__(composition, argument.call)
        self.argument = argument

    @property
    def node_name(self) -> str:
        assert isinstance(self.argument, Collected)
        return self._composition.calls[self.argument.call].name

    def map(self, task: Task, *, max_concurrency: int | None = None, **arguments: Any) -> MappedOutput:
        return self._composition.call(_EACH, (self, self.node_name), {}).map(
            task, max_concurrency=max_concurrency, **arguments
        )


def compose(asset: GraphAsset, known: Callable[[str], bool]) -> Composition:
    """Call the graph asset's function with placeholders and return the calls it made.

    `known` returns whether an asset or a resource has a name; other parameters with a default keep it.

    Raises:
        AssetDefinitionError: the function takes a context, is async or a generator, or does not return a task's output.
    """
    signature = asset.signature
    if asset.function is None or signature is None:
        raise AssetDefinitionError(
            f"graph asset {asset.name!r} has no function to compose", hint="decorate one with it"
        )
    if signature.context is not None:
        raise AssetDefinitionError(
            f"graph asset {asset.name!r} takes a context, but its function only composes",
            hint="take the context in the tasks",
        )
    if signature.needs_loop or signature.is_generator:
        raise AssetDefinitionError(
            f"graph asset {asset.name!r} is async or a generator, but its function only composes",
            hint="write a plain def; its tasks may be async",
        )
    composition = Composition(asset)
    # A parameter with a default keeps it unless an asset or a resource has its name.
    given = [p for p in signature.parameters if not p.has_default or known(p.name)]
    token = recording.set(composition)
    try:
        positional = [NodeOutput(composition, p.name) for p in given if p.positional_only]
        named = {p.name: NodeOutput(composition, p.name) for p in given if not p.positional_only}
        result = asset.function(*positional, **named)
    finally:
        recording.reset(token)
    composition.result = _result(composition, result)
    return composition


def _result(composition: Composition, result: Any) -> int:
    """Return the call whose value is the graph asset's."""
    if isinstance(result, _CollectedOutput):
        result = composition.call(_GATHER, (result,), {})
    if isinstance(result, NodeOutput) and isinstance(result.argument, FromCall):
        _check_own(composition, result)
        return result.argument.call
    raise AssetDefinitionError(
        f"graph asset {composition.asset.name!r} must return the output of a task, not {_describe(result)}",
        hint="return what the last task call gave; .collect() what was mapped",
    )


def each(values: Any, name: str) -> dict[str, Any]:
    """Return the elements by mapping key of the value of `name`, an upstream that is mapped over."""
    return elements_of(values, name)


def gather(values: Any) -> list[Any]:
    """Return a collected list as a graph asset's own value."""
    return list(values)


_EACH = Task(each)
_GATHER = Task(gather)


def _map(
    composition: Composition, source: int, task: Task, max_concurrency: int | None, arguments: dict[str, Any]
) -> MappedOutput:
    if not isinstance(task, Task) or task.signature is None:
        raise TaskDefinitionError(f".map() takes a rs.Task with a function, not {task!r:.80}", hint=_map_hint(task))
    check_count("max_concurrency", max_concurrency, optional=True, owner=".map()", error=TaskDefinitionError)
    if not task.signature.parameters:
        raise TaskDefinitionError(f"task {task.name!r} is mapped, but has no parameter for the element")
    element = _ElementArgument(Element(source))
    first = task.signature.parameters[0].name
    if first in arguments:
        raise TaskDefinitionError(f".map({task.name}, {first}=...): the first parameter gets the element")
    call = composition.add(task, (), {first: element, **arguments}, mapped_over=source, max_concurrency=max_concurrency)
    return MappedOutput(composition, call.index)


def _map_hint(task: object) -> str | None:
    if isinstance(task, BashTask):
        return "call the bash task in a rs.Task, or map a rs.Task over the elements"
    if isinstance(task, Task):
        return "decorate a function with it"
    if isinstance(task, NodeOutput):
        return f"give the task itself, without calling it: .map({task.node_name})"
    return "decorate it with @rs.Task" if callable(task) else None


@dataclass(frozen=True, slots=True)
class _ElementArgument:
    argument: Argument


def _bind(
    composition: Composition, task: Task | BashTask, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[dict[str, Argument], tuple[Argument, ...]]:
    """Bind arguments to the names of the task's parameters, as Python would."""

    def argument(value: Any) -> Argument:
        return _argument(composition, task, value)

    if isinstance(task, BashTask):
        return {name: argument(value) for name, value in kwargs.items()}, tuple(argument(value) for value in args)
    assert task.signature is not None
    names = [parameter.name for parameter in task.signature.parameters]
    positional = len(names) - task.signature.keyword_only
    if len(args) > positional:
        raise TaskDefinitionError(
            f"task {task.name!r} takes {positional} arguments by position, {len(args)} were given"
            + (f"; the rest go by name: {', '.join(names[positional:])}" if positional < len(names) else "")
        )
    bound = {name: argument(value) for name, value in zip(names, args, strict=False)}
    for name, value in kwargs.items():
        if name not in names:
            raise TaskDefinitionError(
                f"task {task.name!r} has no parameter {name!r}; it has {', '.join(names) or 'none'}"
            )
        if name in bound:
            raise TaskDefinitionError(f"task {task.name!r}: {name!r} is given twice")
        bound[name] = argument(value)
    return bound, ()


def _argument(composition: Composition, task: Task | BashTask, value: Any) -> Argument:
    if isinstance(value, _ElementArgument):
        return value.argument
    if isinstance(value, NodeOutput):
        _check_own(composition, value)
        return value.argument
    if isinstance(value, MappedOutput):
        raise TaskDefinitionError(
            f"task {task.name!r} is given the mapped output of {value.node_name!r}",
            hint="end the fan-out with .collect() or .collect_stream(), or .map() this task, too",
        )
    _check_constant(task, value, value)
    return Constant(value)


def _check_own(composition: Composition, value: _Placeholder) -> None:
    if value._composition is not composition:
        raise TaskDefinitionError(
            f"{value!r} belongs to graph asset {value._composition.asset.name!r}, not to {composition.asset.name!r}",
            hint="name that graph asset as a parameter of this one's function",
        )


# Deep and huge constants are not searched through: this check is a courtesy, not a proof.
_NESTED = 4
_LOOKED_AT = 1000


def _check_constant(task: Task | BashTask, value: Any, whole: Any, depth: int = 0) -> None:
    """Refuse definitions, and placeholders within a container, in the role of a constant."""
    if isinstance(value, Asset):
        raise TaskDefinitionError(
            f"task {task.name!r} is given the asset {value.name!r} itself",
            hint=f"name it as a parameter of the graph asset's function and pass that: def ...({value.name})",
        )
    if isinstance(value, Task | BashTask):
        raise TaskDefinitionError(
            f"task {task.name!r} is given the task {value.name!r} itself", hint=f"call it: {value.name}(...)"
        )
    # As a constant it would travel to a worker, which could not load it.
    if isinstance(value, _Placeholder):
        raise TaskDefinitionError(
            f"task {task.name!r} is given {whole!r:.80}, and what is in it is not known while the graph is composed",
            hint="give each value to a parameter of its own",
        )
    if is_one_shot(value):
        raise TaskDefinitionError(
            f"task {task.name!r} is given {whole!r:.80}, and {type(value).__name__} can be read only once",
            hint="give a list of its items or its content, or open it inside the task",
        )
    if depth < _NESTED and isinstance(value, list | tuple | set | frozenset | dict):
        items: Iterable[Any] = value.values() if isinstance(value, dict) else value
        for item in islice(items, _LOOKED_AT):
            _check_constant(task, item, whole, depth + 1)


def _describe(value: Any) -> str:
    if isinstance(value, _CollectedOutput):
        return f"the collected output of {value.node_name!r}"
    if isinstance(value, MappedOutput):
        return f"the mapped output of {value.node_name!r}, which needs .collect()"
    if isinstance(value, NodeOutput):
        return f"its own upstream {value.node_name!r}"
    return f"{value!r:.80} ({type(value).__name__})"
