"""`--retry-failed`: the steps of a recorded run that did not succeed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rivers._plan.graph import AssetGraph
from rivers._record.header import RunHeader
from rivers._record.reader import read_header, read_run
from rivers._record.view import RunView, ViewState
from rivers.cli.errors import CommandError
from rivers.cli.records import SHORT_ID, records_of
from rivers.exceptions import RecordError

__all__ = ["LATEST", "Retried", "find_retried", "unfinished_names"]

LATEST = "latest"


@dataclass(frozen=True, slots=True)
class Retried:
    """A run that is over and whose steps are run again."""

    header: RunHeader
    view: RunView


def find_retried(run: str, target: str, home: Path | None) -> Retried:
    """Return the run that a text names; `latest` is the newest one of the same target, else the newest.

    Raises:
        RecordError: there is no such record.
        CommandError: the run goes on, or its record has no header.
    """
    records = records_of(home)
    path = None
    if run == LATEST:
        path = next((folder for folder in records.folders() if _target_of(folder) == target), None)
    path = path or records.find(run)
    view, _ = read_run(path, keeps_logs=False)
    if view.header is None:
        raise CommandError(f"the record {path} has no header: expected the folder of a run")
    if not view.is_over:
        raise CommandError(
            f"run {view.run_id[:SHORT_ID]} still goes on in process {view.header.pid}",
            hint=f"wait for its end: rivers watch {view.run_id[:SHORT_ID]}",
        )
    return Retried(view.header, view)


def _target_of(folder: Path) -> str | None:
    try:
        header = read_header(folder)
    except RecordError:
        return None
    return header.repository if header is not None else None


def unfinished_names(retried: Retried, graph: AssetGraph) -> tuple[str, ...]:
    """Return the assets and tasks of which a step did not succeed, in the order of the repository.

    A graph asset is run whole, as its tasks cannot be selected.

    Raises:
        CommandError: the repository has none of them any more.
    """
    steps = retried.view.steps.values()
    seen = {step.base_key for step in steps}
    keys = {step.base_key for step in steps if step.state not in (ViewState.SUCCEEDED, ViewState.UNCHANGED)}
    # A mapped step without instances: the run ended before its source, and nobody has skipped it.
    keys |= {
        planned.key
        for planned in retried.header.steps
        if planned.key not in seen
        and planned.mapped_over is not None
        and retried.header.steps[planned.mapped_over].key in keys
    }
    # By the repository as it is now: names may have gone since.
    owners = {node.key: node.owner.name for node in graph.nodes}
    names = {owners.get(key, key if key in graph.assets else "") for key in keys} - {""}
    if keys and not names:
        raise CommandError(
            f"the repository has none of the steps that did not succeed in run {retried.view.run_id[:SHORT_ID]}",
            hint=f"they are {', '.join(sorted(keys)[:10])}",
        )
    return tuple(dict.fromkeys(node.owner.name for node in graph.nodes if node.owner.name in names))
