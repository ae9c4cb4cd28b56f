"""Checks of a repository beyond its graph: retry policies, jobs, reach of IO handlers, config."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from rivers._definitions.arguments import argument_error
from rivers._definitions.asset import GraphAsset
from rivers._definitions.executor import Executor
from rivers._definitions.job import Job
from rivers._definitions.names import closest
from rivers._definitions.retry import RetryPolicy
from rivers._executor.backend import Capabilities
from rivers._executor.registry import backend_for
from rivers._io.base import BaseIOHandler, Reach
from rivers._plan.graph import AssetGraph, Node
from rivers._plan.inline import is_inline
from rivers._plan.plan import Plan, Step, select
from rivers.exceptions import AssetNotFoundError, ConfigurationError, ExecutorNotInstalledError, Problem
from rivers.protocol.exception_text import describe_exception

__all__ = [
    "check_configs",
    "check_handlers",
    "check_jobs",
    "check_reach",
    "check_retries",
    "config_model_of",
    "configured_nodes",
    "handlers_of",
    "reach_in",
]

_WORD = {Reach.PROCESS: "this process", Reach.MACHINE: "this machine", Reach.ANYWHERE: "anywhere"}


def check_retries(
    graph: AssetGraph, jobs: Sequence[Job], default: RetryPolicy | str | None, retries: Mapping[str, RetryPolicy]
) -> None:
    """Report every unknown name of a retry policy."""
    # By identity, as one definition may serve many steps.
    seen: set[int] = set()
    for node in graph.nodes:
        for definition in (node.definition, node.owner):
            if isinstance(definition.retry, str) and definition.retry not in retries and id(definition) not in seen:
                seen.add(id(definition))
                message = f"retry={definition.retry!r} is no policy of the repository"
                graph.add_problem(message, definition, retries, definition.retry, retries)
    for what, given in (("default_retry_policy", default), *((f"job {job.name!r}: retry", job.retry) for job in jobs)):
        if isinstance(given, str) and given not in retries:
            graph.add_problem(f"{what}={given!r} is no policy of the repository", None, retries, given, retries)


def check_jobs(graph: AssetGraph, jobs: Sequence[Job]) -> dict[Executor, set[int]]:
    """Report jobs with the same name and unknown members; return the nodes that run on the executors of jobs."""
    seen: dict[str, Job] = {}
    found: dict[Executor, set[int]] = {}
    for job in jobs:
        first = seen.setdefault(job.name, job)
        if first is not job:
            graph.add_problem(f"two jobs are called {job.name!r}; the first is at {first.where}", where=job.where)
        nodes: set[int] = set()
        for name in job.selection:
            if name not in graph.assets:
                message = f"job {job.name!r}: no asset or task {name!r} in the repository"
                graph.add_problem(message, None, (), name, graph.assets, job.where)
                continue
            try:
                nodes |= select(graph, name, False)
            except ConfigurationError as error:
                graph.add_problem(f"job {job.name!r}: {error.message}", where=job.where)
        if job.executor is not None:
            found.setdefault(job.executor, set()).update(nodes)
    return found


def check_reach(graph: AssetGraph, plan: Plan, default_store: BaseIOHandler, collect: bool = False) -> list[Problem]:
    """Find IO handlers whose values stay nearer than a step runs, such as memory for a step in another process.

    The problems are added to the graph's, or with `collect` only returned.
    """
    found: list[Problem] = []
    reach = reach_in(plan)
    known = {(problem.asset, problem.message) for problem in graph.problems}
    for step in plan.steps:
        needed = reach(step)
        if needed is Reach.PROCESS:
            continue
        for key, handler, verb in handlers_of(step):
            if handler.reach >= needed or is_inline(step, handler):
                continue
            name = "the repository's default store" if handler is default_store else type(handler).__name__
            store = '"/a/folder"' if needed is Reach.MACHINE else '"s3://bucket/folder"'
            # Only an executor that has the option can be asked for it.
            can_inline = handler is default_store and hasattr(step.executor, "inline_values")
            inline = ", or inline_values=True on the executor for small values" if can_inline else ""
            message = (
                f"it {verb} {key!r} with {name}, whose values stay within {_WORD[handler.reach]}, "
                f"but its executor {step.executor.kind!r} runs it in another process"
                f"{'' if needed is Reach.MACHINE else ', perhaps on another machine'}; "
                f"write io_handler=rs.PickleIOHandler({store}) on {key!r} instead{inline}"
            )
            problem = Problem(message, step.node.owner.name, step.node.owner.where)
            if (problem.asset, message) not in known:
                known.add((problem.asset, message))
                found.append(problem)
    if not collect:
        graph.problems.extend(found)
    return found


def check_handlers(graph: AssetGraph) -> None:
    """Report every IO handler that could not work in this process."""
    stores = ((node.owner, output.io_handler) for node in graph.nodes for output in node.outputs)
    loads = ((node.owner, source.io_handler) for node in graph.nodes for source in node.inputs)
    seen: set[int] = set()
    for owner, handler in chain(stores, loads):
        if handler is not None and id(handler) not in seen:
            seen.add(id(handler))
            problem = handler.preflight()
            if problem is not None:
                graph.add_problem(f"its IO handler {type(handler).__name__} cannot be used: {problem}", owner)


def reach_in(plan: Plan) -> Callable[[Step], Reach]:
    """Return a function that gives the distance from this process at which a step of the plan runs."""
    can = [_capabilities(executor) for executor in plan.executors]
    return lambda step: can[step.executor_index].of(step.is_async).reach


def handlers_of(step: Step) -> Iterable[tuple[str, Any, str]]:
    """Yield the storage keys of a step, each with its IO handler and "stores" or "loads"."""
    for output in step.node.outputs:
        yield output.key, output.io_handler, "stores"
    inner = {node.index for node in step.inner}
    for node in step.inner or (step.node,):
        for source in node.inputs:
            if source.io_handler is not None and source.node not in inner:
                yield source.key, source.io_handler, "loads"


def _capabilities(executor: Executor) -> Capabilities:
    try:
        return backend_for(executor).capabilities
    except ExecutorNotInstalledError:
        elsewhere = Capabilities(reach=executor.reach if executor.async_reach is None else executor.async_reach)
        return Capabilities(reach=executor.reach, awaits=elsewhere)


def check_configs(graph: AssetGraph, plan: Plan, config: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the config of each asset and task of a plan as JSON text, checked against its model if it has one.

    Raises:
        ConfigurationError: a field is unknown, of the wrong type, or required and missing.
        AssetNotFoundError: it names an unknown asset.
    """
    if config is not None and not (isinstance(config, Mapping) and all(isinstance(name, str) for name in config)):
        hint = 'write config={"asset": {"field": value}}'
        raise argument_error("config", config, "a dict of dicts by name of asset or task", hint)
    given = dict(config) if config is not None else {}
    found: dict[str, str] = {}
    known = configured_nodes(plan)
    for name, fields in given.items():
        if name not in known:
            _refuse_unknown(name, graph, known)
        if not isinstance(fields, Mapping):
            given_model = isinstance(fields, BaseModel)
            hint = f"write {type(fields).__name__}(...).model_dump()" if given_model else 'write {"field": value}'
            raise argument_error(f"config[{name!r}]", fields, "a dict of fields", hint)
    for name, node in known.items():
        model = config_model_of(node)
        values = given.get(name)
        if model is not None:
            try:
                instance = model.model_validate(dict(values or {}))
            except ValidationError as error:
                raise ConfigurationError(
                    f"config[{name!r}] does not fit {model.__name__} ({node.definition.where}): {_summarize(error)}",
                    hint=f"its fields are {', '.join(model.model_fields)}",
                ) from None
            if name in given:
                found[name] = _to_json(name, instance, dict(values or {}))
        elif values is not None:
            try:
                found[name] = msgspec.json.encode(dict(values)).decode()
            except (TypeError, ValueError, RecursionError) as error:
                raise ConfigurationError(f"config[{name!r}] is no JSON: {error}") from None
    return found


def configured_nodes(plan: Plan) -> dict[str, Node]:
    """Return a node of each definition of a plan by the name under which it has its config."""
    known: dict[str, Node] = {}
    for step in plan.steps:
        for node in step.inner or (step.node,):
            known.setdefault(node.definition.name, node)
    return known


def config_model_of(node: Node) -> type[BaseModel] | None:
    """Return the class that a step's config is validated by, None for one with a dict or without a config."""
    signature = node.definition.signature
    model = signature.config_model if signature is not None and signature.context is not None else None
    return model if isinstance(model, type) and issubclass(model, BaseModel) else None


def _to_json(name: str, instance: BaseModel, values: dict[str, Any]) -> str:
    """Return the given values as JSON, which the worker validates again."""
    try:
        # Not a dump of the instance, which would mask its secrets.
        text = to_json(values).decode()
        again = type(instance).model_validate_json(text)
    except (PydanticSerializationError, ValidationError) as error:
        raise ConfigurationError(
            f"config[{name!r}] does not survive the way to a worker as JSON: {describe_exception(error)}"
        ) from None
    for field in instance.model_fields_set:
        first, second = getattr(instance, field), getattr(again, field)
        # A NaN differs from itself.
        if first != second and first == first:  # noqa: PLR0124 - a NaN differs from itself
            raise ConfigurationError(
                f"config[{name!r}]: {field}={values.get(field)!r:.80} comes back from JSON as another value",
                hint="give plain values; a secret as str",
            )
    return text


def _refuse_unknown(name: str, graph: AssetGraph, known: Mapping[str, Node]) -> None:
    if isinstance(graph.assets.get(name), GraphAsset):
        raise ConfigurationError(
            f"config[{name!r}]: a graph asset's function only composes", hint="give config to its tasks"
        )
    if name in graph.assets:
        raise ConfigurationError(
            f"config[{name!r}]: the asset is not part of this run; it has {', '.join(sorted(known)[:10])}"
        )
    near = closest(name, [*graph.assets, *known])
    raise AssetNotFoundError(
        f"config names {name!r}, which is no asset" + (f"; did you mean {near!r}?" if near else "")
    )


def _summarize(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, problem['loc'])) or 'it'}: {problem['msg']}" for problem in error.errors(include_url=False)
    )
