"""Checks of the arguments of CodeRepository and its methods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from rivers._definitions.arguments import argument_error, plain_number, plain_text
from rivers._definitions.asset import Asset
from rivers._definitions.executor import Executor, check_executor
from rivers._definitions.hints import call_hint
from rivers._definitions.job import Job
from rivers._definitions.lists import check_dict, check_list
from rivers._definitions.names import closest
from rivers._definitions.resource import Resource
from rivers._definitions.retry import RetryPolicy
from rivers._definitions.task import BashTask, Task
from rivers._events.sink import EventSink
from rivers._io.base import BaseIOHandler

__all__ = [
    "check_assets",
    "check_default_handler",
    "check_executors",
    "check_job_name",
    "check_jobs_argument",
    "check_listener",
    "check_node_name",
    "check_resources",
    "check_retry_names",
    "check_tasks",
    "selected_names",
]

_HOMES = {Asset: "assets", Task: "tasks", BashTask: "tasks", Job: "jobs"}


def check_assets(assets: object) -> list[Asset]:
    """Return the assets as a list."""
    return check_list("assets", assets, (Asset,), "an asset", "assets", make="decorate it with @rs.Asset", homes=_HOMES)


def check_tasks(tasks: object) -> list[Task | BashTask]:
    """Return the tasks as a list; None is an empty one."""
    if tasks is None:
        return []
    kinds = (Task, BashTask)
    return check_list("tasks", tasks, kinds, "a task", "tasks", make="decorate it with @rs.Task", homes=_HOMES)


def check_jobs_argument(jobs: object) -> list[Job]:
    """Return the jobs as a list; None is an empty one."""
    if jobs is None:
        return []
    return check_list("jobs", jobs, (Job,), "a job", "jobs", make="write rs.Job(name, assets=[...])", homes=_HOMES)


def check_executors(executors: object) -> dict[str, Executor]:
    """Return the named executors."""
    if executors is None:
        return {}
    found = check_dict("executors", executors, (object,), "an Executor")
    for name, executor in found.items():
        if check_executor(executor, f"executors[{name!r}]") is None:
            raise argument_error(f"executors[{name!r}]", None, "an Executor, such as rs.Executor.parallel()")
    return found


def check_resources(resources: object) -> dict[str, Any]:
    """Return the resources and IO handlers by name."""

    def hint_of(value: object) -> str | None:
        if isinstance(value, type):
            return call_hint(value)
        if isinstance(value, BaseModel):
            return f"derive {type(value).__name__} from rs.Resource"
        if isinstance(value, Asset | Task | BashTask | Job):
            return f"write it in {next(home for kind, home in _HOMES.items() if isinstance(value, kind))}=[...]"
        if hasattr(value, "handle_output"):
            return f"derive {type(value).__name__} from rs.BaseIOHandler"
        return call_hint(value) or "make it in setup() of an rs.Resource, whose fields are plain values"

    return check_dict("resources", resources, (Resource, BaseIOHandler), "an rs.Resource or an IO handler", hint_of)


def check_retry_names(retries: object) -> dict[str, RetryPolicy]:
    """Return the retry policies by name."""

    def hint_of(value: object) -> str | None:
        return f"write rs.RetryPolicy({value})" if plain_number(value) is not None else call_hint(value)

    return check_dict("retries", retries, (RetryPolicy,), "an rs.RetryPolicy", hint_of)


def selected_names(selection: Any) -> tuple[str, ...] | None:
    """Return the names in a selection, which is one asset, task or name, or several; None for None.

    Raises:
        ConfigurationError: it holds something else.
    """
    if selection is None:
        return None
    if isinstance(selection, Asset | Task | BashTask):
        return (selection.name,)
    if isinstance(selection, str):
        return (plain_text(selection) or "",)
    if not isinstance(selection, Iterable):
        hint = "give the asset itself, without calling it"
        if isinstance(selection, Job):
            hint = f"write repository.get_job({selection.name!r}).execute()"
        raise argument_error("selection", selection, "assets, their names or a list of them", hint)
    found: list[str] = []
    for position, item in enumerate(selection):
        name = item.name if isinstance(item, Asset | Task | BashTask) else plain_text(item)
        if name is None:
            own = f"write {item.__name__!r}" if callable(item) and hasattr(item, "__name__") else None
            raise argument_error(f"selection[{position}]", item, "an asset or the name of one", own)
        found.append(name)
    return tuple(found)


def check_node_name(name: object) -> str:
    """Return the name of an asset or a task, given itself or by name.

    Raises:
        ConfigurationError: it is something else.
    """
    text = name.name if isinstance(name, Asset | Task | BashTask) else plain_text(name)
    if text is None:
        raise argument_error("name", name, "an asset, a task or the name of one")
    return text


def check_job_name(name: object) -> str:
    """Return the name of a job, given itself or by name.

    Raises:
        ConfigurationError: it is something else.
    """
    text = name.name if isinstance(name, Job) else plain_text(name)
    if text is None:
        raise argument_error("name", name, "a job or the name of one")
    return text


def check_listener(on_event: object) -> EventSink | None:
    """Return the function that takes a run's events, or None.

    Raises:
        ConfigurationError: it is something else.
    """
    if on_event is None or (callable(on_event) and not isinstance(on_event, type)):
        return on_event
    hint = call_hint(on_event)
    if isinstance(on_event, list | tuple):
        hint = "write a function that calls each of them"
    raise argument_error("on_event", on_event, "a function that takes an event, or None", hint)


def check_default_handler(given: Any, resources: Mapping[str, Any]) -> BaseIOHandler | None:
    """Return the default IO handler, given itself or by its name among the resources, or None.

    Raises:
        ConfigurationError: it is something else, or no resource has that name.
    """
    if given is None or isinstance(given, BaseIOHandler):
        return given
    handlers = {name: value for name, value in resources.items() if isinstance(value, BaseIOHandler)}
    expected = "an IO handler, the name of one among the resources, or None"
    if not isinstance(given, str):
        raise argument_error("default_io_handler", given, expected, call_hint(given))
    if given not in handlers:
        near = closest(given, handlers)
        hint = f"did you mean {near!r}?" if near else f"handlers among the resources: {', '.join(handlers) or 'none'}"
        if "/" in given and near is None:
            hint = f"write default_io_handler=rs.PickleIOHandler({given!r})"
        raise argument_error("default_io_handler", given, expected, hint)
    return handlers[given]
