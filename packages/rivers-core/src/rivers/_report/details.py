"""The details of steps: their failures, outputs and logs, with each text once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from rivers._events.event import StepLog
from rivers._record.view import StepView
from rivers._report.bounds import MOST_MESSAGE, Texts, cut_text, kept_logs, log_allowances
from rivers._report.tracebacks import fold_traceback, user_frame
from rivers.protocol.failure import Failure, describe

__all__ = ["Failures", "add_logs", "add_outputs"]

MOST_TRACEBACK = 32_000
"""Characters."""
MOST_MAP_KEYS = 50
"""Keys of a mapped output that are listed."""


class Failures:
    """The failures of a page, each once: instances of a mapped step often fail alike."""

    def __init__(self, texts: Texts) -> None:
        self.rows: list[dict[str, Any]] = []
        self._texts = texts
        self._index: dict[Failure, int] = {}

    def add(self, failure: Failure) -> int:
        """Return the index of a failure."""
        index = self._index.get(failure)
        if index is None:
            index = self._index[failure] = len(self.rows)
            self.rows.append(self._row(failure))
        return index

    def _row(self, failure: Failure) -> dict[str, Any]:
        row: dict[str, Any] = {
            "reason": failure.reason.value,
            "type": failure.type,
            "message": self._texts.add(cut_text(failure.message, 8_000)),
        }
        if failure.notes:
            row["notes"] = failure.notes
        if not failure.transient:
            row["final"] = True
        if failure.traceback:
            row["frame"] = user_frame(failure.traceback)
            parts = fold_traceback(cut_text(failure.traceback, MOST_TRACEBACK))
            row["traceback"] = [[self._texts.add(part.text), part.is_folded, part.frames] for part in parts]
        if failure.evidence is not None:
            known = msgspec.structs.asdict(failure.evidence)
            native = known.pop("native_traceback")
            row["evidence"] = {name: value for name, value in known.items() if value not in (None, False)}
            row["evidenceText"] = describe(failure.evidence)
            if native:
                row["native"] = self._texts.add(cut_text(native, MOST_TRACEBACK))
        return row


def add_outputs(chosen: Sequence[tuple[int, StepView]], texts: Texts) -> dict[str, Any]:
    """Return the outputs of the steps as columns; `key` is left out where it is the step's."""
    rows = [(index, step, output) for index, step in chosen for output in step.outputs]
    return {
        "step": [index for index, _, _ in rows],
        "name": {str(row): output.name for row, (_, _, output) in enumerate(rows) if output.name != "result"},
        "key": {str(row): output.key for row, (_, step, output) in enumerate(rows) if output.key != step.key},
        "metadata": {str(row): texts.add(o.metadata) for row, (_, _, o) in enumerate(rows) if o.metadata},
        "version": {str(row): o.data_version for row, (_, _, o) in enumerate(rows) if o.data_version},
        "mapKeys": {
            str(row): [len(output.map_keys), *output.map_keys[:MOST_MAP_KEYS]]
            for row, (_, _, output) in enumerate(rows)
            if output.map_keys is not None
        },
    }


def add_logs(chosen: Sequence[tuple[int, StepView]], origin: float, texts: Texts) -> dict[str, Any]:
    """Return the logs of the steps by their index: `[first records, last records]`, the first only if some are cut."""
    allowances = log_allowances([step for _, step in chosen])
    found: dict[str, Any] = {}
    for index, step in chosen:
        most = allowances.get(step.key, 0)
        if most:
            first, last = kept_logs(step.logs, most)
            found[str(index)] = [_log_rows(first, origin, texts), _log_rows(last, origin, texts)]
    return found


def _log_rows(logs: Sequence[StepLog], origin: float, texts: Texts) -> list[list[Any]]:
    return [
        [
            round((log.time - origin) * 1000),
            log.level if log.stream == "log" else log.stream,
            texts.add(cut_text(log.message, MOST_MESSAGE)),
            log.logger,
            log.attempt,
        ][: 5 if log.attempt > 1 else 4 if log.logger else 3]
        for log in logs
    ]
