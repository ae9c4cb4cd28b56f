"""Decide whether a recorded run can be carried on with the repository as it is now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from rivers._plan.graph import AssetGraph
from rivers._plan.plan import Plan
from rivers._record.header import RunHeader, StepHeader
from rivers._record.redact import MASK
from rivers._record.replay import RunHistory
from rivers._repository.describe import Stores, describe_steps
from rivers.exceptions import Problem, ResumeError

__all__ = [
    "check_history",
    "check_plan",
    "find_changes",
    "names_of",
    "present_names_of",
    "recorded_config",
    "refuse",
    "retry_hint",
]

MOST_PROBLEMS = 20


def refuse(header: RunHeader, what: str, problems: Sequence[Problem], hint: str | None = None) -> ResumeError:
    """Return the error of a run that cannot be carried on, with all reasons."""
    lines = [f"\n  - {problem}" for problem in problems[:MOST_PROBLEMS]]
    if len(problems) > MOST_PROBLEMS:
        lines.append(f"\n  … and {len(problems) - MOST_PROBLEMS} more")
    return ResumeError(what + "".join(lines), hint=hint, run_id=header.run_id)


def retry_hint(header: RunHeader) -> str:
    """Return the remedy of a run that cannot be carried on."""
    return f"run what did not succeed in a new run: materialize(retry_of={header.run_id[:8]!r})"


def check_history(header: RunHeader, history: RunHistory) -> None:
    """Check that a run is not over, and that its record has what is needed.

    Raises:
        ResumeError: it is, or it has not.
    """
    again = retry_hint(header)
    if history.status == "success":
        raise ResumeError("the run has succeeded: there is nothing to resume", run_id=header.run_id)
    if history.ending not in (None, "success"):
        raise ResumeError(
            "an attempt of the run may still be running, so that the run was ended in its stores",
            hint=again,
            run_id=header.run_id,
        )
    if history.units and not history.has_intents:
        raise ResumeError(
            "the run was recorded by an earlier version of rivers, which did not keep it in its stores",
            hint=again,
            run_id=header.run_id,
        )


def names_of(header: RunHeader, graph: AssetGraph) -> tuple[str, ...]:
    """Return the assets and tasks of the repository that make the steps of a run.

    Raises:
        ResumeError: the repository has none of them, or lacks one.
    """
    owners = {node.key: node.owner.name for node in graph.nodes}
    owners |= {name: name for name in graph.assets}
    missing = [step.key for step in header.steps if step.key not in owners]
    if header.steps and len(missing) == len(header.steps):
        raise refuse(
            header,
            f"the run is one of another repository: this one has none of its steps, such as {missing[0]!r}",
            (),
        )
    if missing:
        raise _changed(header, [Problem("the repository no longer has this step", key) for key in missing])
    return tuple(dict.fromkeys(owners[step.key] for step in header.steps))


def present_names_of(header: RunHeader, graph: AssetGraph) -> tuple[str, ...]:
    """Return those of them that the repository still has.

    Raises:
        ResumeError: it has none of them.
    """
    owners = {node.key: node.owner.name for node in graph.nodes}
    owners |= {name: name for name in graph.assets}
    names = tuple(dict.fromkeys(owners[step.key] for step in header.steps if step.key in owners))
    if header.steps and not names:
        raise refuse(header, "the run is one of another repository: this one has none of its steps", ())
    return names


def check_plan(header: RunHeader, plan: Plan) -> None:
    """Check that the plan is the one that the run has begun with.

    Raises:
        ResumeError: a step is new or gone, or differs; it names all of them.
    """
    now = {step.key: step for step in describe_steps(plan)}
    before = {step.key: step for step in header.steps}
    problems = [Problem("the run has no such step", key, now[key].location) for key in now if key not in before]
    problems += [Problem("the plan no longer has this step", key) for key in before if key not in now]
    for key, changes in find_changes(header, plan).items():
        problems += [Problem(change, key, now[key].location) for change in changes]
    if problems:
        raise _changed(header, problems)


def find_changes(header: RunHeader, plan: Plan) -> dict[str, list[str]]:
    """Return what is different now in steps that the recorded run had, too, by their keys."""
    stores = Stores()
    now = {step.key: step for step in describe_steps(plan, stores)}
    keys = [step.key for step in plan.steps]
    found: dict[str, list[str]] = {}
    for step in header.steps:
        if step.key in now:
            old = _facts(step, [other.key for other in header.steps], header.stores)
            for name, was, value in _differences(old, _facts(now[step.key], keys, stores.texts)):
                found.setdefault(step.key, []).append(f"{name} is {value}, it was {was}")
    return found


def recorded_config(header: RunHeader) -> dict[str, Mapping[str, Any]]:
    """Return the config of the run.

    Raises:
        ResumeError: it held a secret, which records do not keep.
    """
    hidden = sorted(name for name, text in header.configs.items() if MASK in text)
    if hidden:
        raise ResumeError(
            f"the config of {', '.join(hidden)} held a secret, which the record does not keep",
            hint="give config= again",
            run_id=header.run_id,
        )
    return {name: msgspec.json.decode(text) for name, text in header.configs.items()}


def _changed(header: RunHeader, problems: Sequence[Problem]) -> ResumeError:
    count = len({problem.asset for problem in problems})
    # Relative folders of stores mean other ones elsewhere.
    is_elsewhere = header.folder not in ("", str(Path.cwd()))
    remedy = f"resume it in {header.folder}, where it was started" if is_elsewhere else "undo the change"
    return refuse(
        header,
        f"the plan has changed since the run began, in {count} step{'s' if count != 1 else ''}:",
        problems,
        f"{remedy}, or {retry_hint(header)}",
    )


def _facts(step: StepHeader, keys: Sequence[str], stores: Sequence[str]) -> dict[str, object]:
    """Return what must stay as it is: what a step is made of, and not where or how often it runs."""
    return {
        "the list of its upstreams": sorted(_at(keys, step.deps)),
        "the step that it is mapped over": None if step.mapped_over is None else _at(keys, (step.mapped_over,))[0],
        "the list of its tasks": list(step.inner),
        "code_version": step.code_version,
        "the list of its outputs": list(step.outputs),
        "its IO handler": _at(stores, step.stores),
    }


def _at(values: Sequence[str], indices: Iterable[int]) -> list[str]:
    return [values[index] if index < len(values) else "?" for index in indices]


def _differences(old: dict[str, object], new: dict[str, object]) -> Iterator[tuple[str, str, str]]:
    for name, was in old.items():
        # What was masked in the record cannot be compared.
        if was != new[name] and MASK not in str(was):
            yield name, _shown(was), _shown(new[name])


def _shown(value: object) -> str:
    text = ", ".join(map(str, value)) or "empty" if isinstance(value, list) else repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
