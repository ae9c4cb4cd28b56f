"""`rivers plan` and `rivers validate`: look at a repository without running it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

from rivers._executor.registry import backend_for
from rivers._plan.plan import Plan
from rivers._plan.render import plan_to_data, plan_to_dot, plan_to_mermaid, plan_to_text
from rivers._repository.checks import check_reach
from rivers._repository.skipping import explain_plan
from rivers._terminal.text import count_of
from rivers.cli.errors import CommandError, ExitCode
from rivers.cli.printer import Printer, divert_stdout
from rivers.cli.request import Chosen, PlanRequest, checked_config, choose
from rivers.exceptions import ExecutorNotInstalledError, GraphValidationError

__all__ = ["plan", "validate"]

FORMATS = ("text", "mermaid", "dot", "json")


def plan(request: PlanRequest, form: str, *, is_explained: bool = False) -> ExitCode:
    """Print the steps of a run in levels and batches, and why they would run if unchanged ones were skipped.

    Raises:
        CommandError, RiversError: an option is wrong, or the repository is.
    """
    if form not in FORMATS:
        raise CommandError(f"invalid --format {form!r}: expected one of {', '.join(FORMATS)}")
    if is_explained and form not in ("text", "json"):
        raise CommandError(f"invalid --format {form!r} with --why: expected text or json")
    # What the module prints when it is imported would be a part of the drawing.
    with divert_stdout(sys.stderr) as printer:
        chosen = choose(request)
        found = _checked_plan(chosen, is_compared=is_explained)
        if is_explained:
            repository, config = chosen.repository, checked_config(request, chosen)
            found = explain_plan(repository._planner.graph, found, repository._resources, config)
        printer(_draw(found, form, printer.width))
    return ExitCode.OK


def _checked_plan(chosen: Chosen, *, is_compared: bool) -> Plan:
    # What is stored can be compared for one partition only.
    found = chosen.make_plan(is_run=is_compared)
    if chosen.executor is not None:
        # As a run does: an IO handler may not reach the executor that the command line names.
        graph = chosen.repository._planner.graph
        problems = check_reach(graph, found, chosen.repository._default_store, collect=True)
        if problems:
            raise GraphValidationError(problems)
    return found


def _draw(found: Plan, form: str, width: int) -> str:
    draw: dict[str, Callable[[Plan], str]] = {
        "text": lambda plan: plan_to_text(plan.steps, plan.executors, width) + _reasons_text(plan),
        "mermaid": lambda plan: plan_to_mermaid(plan.steps, plan.executors),
        "dot": lambda plan: plan_to_dot(plan.steps, plan.executors),
        "json": lambda plan: json.dumps(plan_to_data(plan.steps, plan.executors, plan.reasons), ensure_ascii=False),
    }
    return draw[form](found)


def _reasons_text(plan: Plan) -> str:
    """Return a line for each step: unchanged, or why it would run."""
    if plan.reasons is None:
        return ""
    width = max((len(key) for key in plan.reasons), default=0)
    unchanged = sum(not found for found in plan.reasons.values())
    lines = [f"{key:<{width}}  {', '.join(found) or 'unchanged'}" for key, found in plan.reasons.items()]
    return "\n".join(["", "", *lines, "", f"{unchanged:,} of {count_of(len(lines), 'step')} unchanged"])


def validate(request: PlanRequest, as_json: bool) -> ExitCode:
    """Check that the definitions of a repository fit together, and print all problems at once.

    Raises:
        CommandError, RiversError: the target cannot be loaded, or the repository is not valid.
    """
    with divert_stdout(sys.stderr) as printer:
        return _validate(request, as_json, printer)


def _validate(request: PlanRequest, as_json: bool, printer: Printer) -> ExitCode:
    try:
        found = choose(request).plan
    except GraphValidationError as error:
        # Printed as all errors are.
        if not as_json:
            raise
        problems = [
            {"message": one.message, "asset": one.asset, "location": one.where, "closest": one.closest}
            for one in error.problems
        ]
        printer(json.dumps({"valid": False, "problems": problems}, ensure_ascii=False))
        return ExitCode.USAGE
    missing = _missing(found)
    if as_json:
        printer(json.dumps({"valid": True, "problems": [], "steps": len(found), "warnings": missing}))
        return ExitCode.OK
    assets = {name for step in found.steps for name in step.assets}
    printer(f"valid: {count_of(len(assets), 'asset')}, {count_of(len(found), 'step')}")
    for warning in missing:
        printer(f"warning: {warning}")
    return ExitCode.OK


def _missing(found: Plan) -> list[str]:
    """Return the executors of a plan that are not installed: elsewhere they may be."""
    missing: list[str] = []
    for executor in found.executors:
        try:
            backend_for(executor)
        except ExecutorNotInstalledError as error:
            missing.append(f"{error.message}; {error.hint}")
    return missing
