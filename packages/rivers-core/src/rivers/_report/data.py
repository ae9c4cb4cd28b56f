"""The data of a page: a run as columns of plain values, so that a run of many steps stays small.

    run       what is known of the run as a whole
    nodes     the planned steps, one value a column for each: a mapped step is one node
    steps     the steps and the instances of mapped steps; `node` is an index into the nodes
    attempts  the attempts; `step` is an index into the steps, times are milliseconds since the start of the run
    outputs, logs, failures   what the panel of a step shows; texts are indices into `texts`, -1 where one was cut
    analysis  lanes, critical path and hints

An update of a page that is open has the same form, with the rows of some steps: `steps.index` says which.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from rivers._record.header import StepHeader
from rivers._record.view import RunView, StepView, ViewState
from rivers._report.analysis import analyse
from rivers._report.bounds import Texts
from rivers._report.dependencies import ready_time
from rivers._report.details import Failures, add_logs, add_outputs
from rivers._report.phases import AttemptPhases, phases_of

__all__ = ["Json", "all_phases", "page_data", "run_data", "step_data"]

Json: TypeAlias = dict[str, Any]

FORMAT = 1
"""The version of this data; the page and what writes it are installed together, and a test reads it."""
MOST_TEXT = 24 * 2**20
"""Characters of logs, tracebacks and metadata in one page."""
STATES = tuple(ViewState)
_DONE = (ViewState.SUCCEEDED, ViewState.UNCHANGED)
_STATE_INDEX = {state: index for index, state in enumerate(STATES)}


def page_data(view: RunView, now: float | None = None) -> Json:
    """Return all data of a page. Attempts that have not ended last until `now`, by default the present time."""
    now = _end_of(view, now)
    phases = all_phases(view, now)
    return {
        "format": FORMAT,
        "states": [state.value for state in STATES],
        "run": run_data(view, now),
        "nodes": _nodes(view),
        **step_data(view, range(len(view.steps)), dict(enumerate(phases))),
        "analysis": analyse(view, phases, now),
    }


def all_phases(view: RunView, now: float) -> list[list[AttemptPhases]]:
    """Return the phases of the attempts of each step."""
    origin = view.started or now
    return [phases_of(step, origin, now, ready_time(view, step)) for step in view.steps.values()]


def _end_of(view: RunView, now: float | None) -> float:
    """Return when the run ended: for a run that was lost, the time of its last event."""
    if view.ended is not None:
        return view.ended
    # Nothing is known of a run that was killed after its last event.
    if view.is_over and view.last_time is not None:
        return view.last_time
    return now if now is not None else time.time()


def run_data(view: RunView, now: float) -> Json:
    """Return what is known of the run as a whole."""
    now = _end_of(view, now)
    header = view.header
    data: Json = {
        "id": view.run_id,
        "status": view.status,
        "started": view.started,
        "seconds": max(0.0, now - (view.started or now)),
        "counts": {state.value: count for state, count in view.counts.items() if count},
        "total": view.total,
        "warnings": [[warning.message, warning.step] for warning in view.warnings[-200:]],
        "warningCount": len(view.warnings),
    }
    if header is not None:
        data |= {
            "repository": header.repository,
            "job": header.job,
            "partition": header.partition,
            "selection": header.selection,
            "tags": header.tags,
            "executors": [[one.kind, one.text, one.slots] for one in header.executors],
            "versions": header.versions,
            "host": header.host,
            "pid": header.pid,
            "folder": header.folder,
            "git": [header.git.commit, header.git.branch, header.git.is_dirty] if header.git is not None else None,
            "command": header.command,
            "retryOf": header.retry_of,
        }
    return data


def _nodes(view: RunView) -> Json:
    nodes: Sequence[StepHeader] = view.header.steps if view.header is not None else ()
    return {
        "key": [node.key for node in nodes],
        "executor": [node.executor for node in nodes],
        "level": [node.level for node in nodes],
        "deps": [node.deps for node in nodes],
        "mapped": [index for index, node in enumerate(nodes) if node.mapped_over is not None],
        "kind": _interned([node.kind for node in nodes]),
        "group": _interned([node.group or "" for node in nodes]),
        "assets": _sparse(nodes, lambda node: None if node.assets in ((), (node.key,)) else node.assets),
        "kinds": _sparse(nodes, lambda node: node.kinds),
        "tags": _sparse(nodes, lambda node: node.tags),
        "description": _sparse(nodes, lambda node: node.description),
        "location": _sparse(nodes, lambda node: node.location),
        "inner": _sparse(nodes, lambda node: node.inner),
        "maxAttempts": _sparse(nodes, lambda node: node.max_attempts),
        "timeout": _sparse(nodes, lambda node: node.timeout),
    }


def _interned(values: Sequence[str]) -> list[Any]:
    """Return the distinct values, and the index of each value among them."""
    distinct = {value: index for index, value in enumerate(dict.fromkeys(values))}
    return [list(distinct), [distinct[value] for value in values]]


def _sparse(rows: Sequence[Any], field: Any) -> Json:
    """Return a column of which most values are missing, as an object by index."""
    return {str(index): value for index, row in enumerate(rows) if (value := field(row))}


def step_data(view: RunView, indices: Sequence[int], phases: Mapping[int, Sequence[AttemptPhases]]) -> Json:
    """Return the rows of the steps at these indices of `view.steps`, with their attempts, outputs and logs.

    `phases` has the phases of the attempts of each of these steps.
    """
    # A list, as steps are looked up by index; the view only ever adds to its dict.
    every = list(view.steps.values())
    chosen = [(index, every[index]) for index in indices]
    node_index = {node.key: index for index, node in enumerate(view.header.steps)} if view.header is not None else {}
    texts = Texts(MOST_TEXT)
    failures = Failures(texts)
    data: Json = {
        "steps": _steps(chosen, node_index),
        "attempts": _attempts(chosen, phases, view.started or 0.0, failures),
        # Failures before logs: they are what a reader needs most, where the table of texts is full.
        "failures": failures.rows,
        "outputs": add_outputs(chosen, texts),
        "logs": add_logs(chosen, view.started or 0.0, texts),
        "texts": texts.table,
        "textsCut": texts.cut,
    }
    return data


def _steps(chosen: Sequence[tuple[int, StepView]], node_index: dict[str, int]) -> Json:
    steps = [step for _, step in chosen]
    return {
        "index": [index for index, _ in chosen],
        "node": [node_index.get(step.base_key, -1) for step in steps],
        "state": [_STATE_INDEX[step.state] for step in steps],
        # The key of an ordinary step is its node's.
        "key": _sparse(steps, lambda step: None if step.base_key in node_index else step.key),
        "mapKey": {str(row): step.map_key for row, step in enumerate(steps) if step.map_key is not None},
        "cause": _sparse(steps, lambda step: step.cause),
        "message": _sparse(steps, lambda step: None if step.state in _DONE else step.message[:300]),
        "logCount": _sparse(steps, lambda step: step.log_count),
        "retryAt": _sparse(steps, lambda step: step.retry_at if step.state is ViewState.RETRYING else None),
    }


def _attempts(
    chosen: Sequence[tuple[int, StepView]],
    phases: Mapping[int, Sequence[AttemptPhases]],
    origin: float,
    failures: Failures,
) -> Json:
    rows = [
        (step, index, attempt, times)
        for index, step in chosen
        for attempt, times in zip(step.attempts, phases[index], strict=True)
    ]
    return {
        "step": [index for _, index, _, _ in rows],
        "number": [attempt.number for _, _, attempt, _ in rows],
        "executor": _interned([attempt.executor for _, _, attempt, _ in rows]),
        "worker": _interned([attempt.worker for _, _, attempt, _ in rows]),
        "begin": [_ms(times.begin - origin) for *_, times in rows],
        "phases": [[_ms(seconds) for seconds in times[1:]] for *_, times in rows],
        "open": [row for row, (step, _, one, _) in enumerate(rows) if one.ended is None and one is step.last],
        "free": [row for row, (_, _, attempt, _) in enumerate(rows) if attempt.is_free],
        "failure": {
            str(row): failures.add(attempt.failure)
            for row, (_, _, attempt, _) in enumerate(rows)
            if attempt.failure is not None
        },
    }


def _ms(seconds: float) -> float:
    """Return milliseconds, to a tenth where a second has no more than ten of them: JSON of 50,000 steps is long."""
    value = seconds * 1000
    return round(value, 1) if 0 < value < 100 else round(value)
