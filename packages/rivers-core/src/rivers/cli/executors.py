"""`rivers executors`: the executors of this environment, and a check of one."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from rivers._definitions.executor import BUILT_IN, Executor
from rivers._executor.backend import Capabilities
from rivers._executor.registry import backend_for, default_of, installed
from rivers._io.base import Reach
from rivers._plan.placement import Placement
from rivers._repository.describe import slots_of
from rivers._repository.repository import CodeRepository
from rivers._repository.run import RunResult
from rivers._terminal.text import duration
from rivers.cli.errors import ExitCode, exit_code_of, explain
from rivers.cli.executor_options import find_executor, parse_pairs, set_fields
from rivers.cli.laws import check_laws, find_laws
from rivers.cli.printer import Printer, stdout
from rivers.cli.probe import make_probe
from rivers.cli.tables import print_table
from rivers.exceptions import ExecutorNotInstalledError, RiversError
from rivers.protocol.exception_text import describe_exception

__all__ = ["check", "list_executors"]


def list_executors(as_json: bool) -> ExitCode:
    """Print every executor that has a name here, with its package, its version and its capabilities."""
    found = [_describe(kind) for kind in dict.fromkeys([*BUILT_IN, *sorted(installed())])]
    printer = stdout()
    if as_json:
        printer(json.dumps(found, ensure_ascii=False))
        return ExitCode.OK
    rows = [
        (
            (one["kind"], "bold"),
            (one["version"], "green") if one["problem"] is None else ("not installed", "yellow"),
            _summary(one["capabilities"]) if one["capabilities"] else one["problem"],
        )
        for one in found
    ]
    print_table(printer, ("executor", "version", "capabilities"), rows)
    return ExitCode.OK


def _describe(kind: str) -> dict[str, Any]:
    point = installed().get(kind)
    package = point.dist.name if point is not None and point.dist is not None else "rivers-core"
    version = point.dist.version if point is not None and point.dist is not None else _core_version()
    facts: dict[str, Any] = {"kind": kind, "package": package, "version": version, "problem": None}
    try:
        executor = BUILT_IN[kind]() if kind in BUILT_IN else default_of(kind)
        capabilities = _facts(executor, backend_for(executor).capabilities)
    except RiversError as error:
        hint = f"; {error.hint}" if error.hint else ""
        is_missing = isinstance(error, ExecutorNotInstalledError) and point is None
        problem = error.hint if is_missing else f"{error.message}{hint}"
        return {**facts, "package": None, "version": None, "problem": problem, "default": None, "capabilities": None}
    return {**facts, "default": repr(executor), "capabilities": capabilities}


def _core_version() -> str:
    # An entry point of rivers-core itself.
    point = installed().get("scripted")
    return point.dist.version if point is not None and point.dist is not None else "?"


def _facts(executor: Executor, capabilities: Capabilities) -> dict[str, Any]:
    return {
        "slots": slots_of(executor, capabilities),
        "isolation": capabilities.isolation,
        "timeout": capabilities.timeout,
        "reach": capabilities.reach.name.lower(),
        "closures": capabilities.closures,
        "live_logs": capabilities.live_logs,
        "streams": capabilities.streams,
        "provisions": capabilities.provisions,
        "warm": capabilities.warm,
    }


def _summary(facts: dict[str, Any]) -> str:
    slots = "any number of steps at once" if facts["slots"] is None else f"{facts['slots']} at once"
    isolation = {"none": "in this process", "process": "in a process", "container": "in a container"}
    timeout = {"kill": "kills after a timeout", "cooperative": "ends async steps after a timeout"}
    words = [slots, isolation[facts["isolation"]], timeout.get(facts["timeout"], "does not end overdue steps")]
    words += [text for name, text in (("provisions", "honours compute"), ("warm", "keeps workers")) if facts[name]]
    return ", ".join(words)


def check(kind: str, settings: Sequence[str], names: Sequence[str] = (), verbose: bool = False) -> ExitCode:
    """Load an executor, run two steps on it, and judge it by the laws of the conformance kit; print each result.

    Raises:
        CommandError, RiversError: there is no such executor or law, or a setting is wrong.
    """
    printer = stdout()
    laws = find_laws(names)
    placement = Placement(plugins={name: partial(default_of, name) for name in installed()})
    executor = set_fields(find_executor(kind, placement), parse_pairs(settings, "--set"))
    backend = backend_for(executor)
    point = installed().get(kind)
    _pass(printer, "loads", point.value if point is not None else type(backend).__qualname__)
    _pass(printer, "value", repr(executor))
    capabilities = backend.capabilities
    _pass(printer, "capabilities", _summary(_facts(executor, capabilities)))
    with make_probe(capabilities.reach is Reach.ANYWHERE) as repository:
        code = _run_probe(printer, repository, executor)
    # Where two plain steps do not run, each law would say the same again.
    return code if code is not ExitCode.OK else check_laws(executor, capabilities, laws, verbose)


def _run_probe(printer: Printer, repository: CodeRepository, executor: Executor) -> ExitCode:
    """Run the probe: preflight refuses by raising, and everything later is in the result."""
    began = time.monotonic()
    try:
        result = repository.materialize(executor=executor, raise_on_error=False, record=False)
    except Exception as error:  # noqa: BLE001 - a third party's executor may raise anything, and that is the result
        first, *rest = explain(error)
        _fail(printer, "preflight", first.removeprefix("error: "))
        for line in rest:
            printer(line)
        return exit_code_of(error)
    _pass(printer, "preflight", "no problems")
    problem = _problem_of(result, repository)
    if problem is not None:
        _fail(printer, "run", problem)
        return ExitCode.INFRASTRUCTURE
    _pass(printer, "run", f"two steps in {duration(time.monotonic() - began)}")
    return ExitCode.OK


def _problem_of(result: RunResult, repository: CodeRepository) -> str | None:
    for report in result.steps.values():
        if report.failure is not None:
            return f"step {report.step!r} failed: {report.failure.summary}"
    if not result.success:
        return f"the run ended as {result.status}"
    try:
        value = repository.load_node("second")
    except Exception as error:  # noqa: BLE001 - whatever loading raises is the result of the check
        return f"its value cannot be loaded: {describe_exception(error)}"
    # 20 from the handler of machines without a common store, which loads a constant.
    return None if value in (20, 40) else f"its value is {value!r:.40}: expected 40"


def _pass(printer: Printer, name: str, text: str) -> None:
    printer(f"{'✓' if printer.has_unicode else 'ok'} {name:<13} {text}")


def _fail(printer: Printer, name: str, text: str) -> None:
    printer(f"{'✗' if printer.has_unicode else 'FAILED'} {name:<13} {text}")
