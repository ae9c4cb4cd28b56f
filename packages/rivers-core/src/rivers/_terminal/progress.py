"""The state of a run for a display: its view, what is active now, and an estimate of the time that is left."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator

import msgspec

from rivers._events.event import Event, RunWarning, StepCancelled, StepFailed, StepLog, StepRetrying
from rivers._record.header import RunHeader
from rivers._record.redact import Redactor
from rivers._record.view import RunView, StepView, ViewState

__all__ = ["ACTIVE", "Estimate", "RunProgress"]

ACTIVE = frozenset({ViewState.RUNNING, ViewState.STARTING, ViewState.RETRYING})
_DONE = (ViewState.SUCCEEDED, ViewState.UNCHANGED)
SCANNED = 50
"""Waiting steps that are looked at in one frame to say what they wait for."""


class RunProgress:
    """The view of a run with indices that cost nothing per frame for the steps that did not change.

    `active` has the running, starting and retrying steps, the longest active first; `since` when each of them came into
    its present state; `mapped` the number of instances of each mapped step by state. Log records of `log_level` and
    above are shown one by one, of the others the last one of each step.
    """

    def __init__(
        self, header: RunHeader | None, redactor: Redactor | None = None, log_level: int | None = None
    ) -> None:
        self.view = RunView(header, keeps_logs=False)
        self.active: dict[str, StepView] = {}
        self.since: dict[str, float] = {}
        self.mapped: dict[str, Counter[ViewState]] = {}
        self.estimate = Estimate()
        self.log_level = log_level
        self._redactor = redactor or Redactor(())
        self._states: dict[str, ViewState] = {}
        self._planned = list(self.view.steps.values())
        self._first_waiting = 0

    def take(self, events: list[Event]) -> list[Event]:
        """Take in the next events, and return them without secrets."""
        taken = self._without_old_logs(events)
        if self._redactor:
            taken = [self._redacted(event) for event in taken]
        apply = self.view.apply
        for event in taken:
            apply(event)
        self._index()
        return taken

    def _without_old_logs(self, events: list[Event]) -> list[Event]:
        """Drop each log record that another one of its step follows: some bodies log a lot."""
        if not any(type(event) is StepLog for event in events):
            return events
        kept: list[Event] = []
        seen: set[str] = set()
        for event in reversed(events):
            if isinstance(event, StepLog) and not self.is_shown(event):
                if event.step in seen:
                    continue
                seen.add(event.step)
            kept.append(event)
        kept.reverse()
        return kept

    def is_shown(self, event: StepLog) -> bool:
        """Return whether a log record is shown by itself; printed text is on the terminal already."""
        return self.log_level is not None and event.stream == "log" and event.level >= self.log_level

    def _redacted(self, event: Event) -> Event:
        if isinstance(event, StepLog | RunWarning):
            return msgspec.structs.replace(event, message=self._redactor.text(event.message))
        if isinstance(event, StepFailed | StepRetrying | StepCancelled):
            # A failure holds texts in many fields.
            encoded = self._redactor.line(msgspec.json.encode(event))
            return msgspec.json.decode(encoded, type=type(event))
        return event

    def _index(self) -> None:
        now = self.view.last_time or 0.0
        has_begun = self.estimate.began is not None
        for key in self.view.changed:
            step = self.view.steps[key]
            if not has_begun and step.attempts and step.attempts[0].started is not None:
                self.estimate.began = min(self.estimate.began or now, step.attempts[0].started)
            if step.state in ACTIVE:
                if self._states.get(key) is not step.state:
                    self.since[key] = _since(step) or now
                self.active[key] = step
            elif self.active.pop(key, None) is not None:
                del self.since[key]
            if step.map_key is not None:
                counts = self.mapped.setdefault(step.base_key, Counter())
                before = self._states.get(key)
                if before is not None:
                    counts[before] -= 1
                counts[step.state] += 1
            self._states[key] = step.state
        self.view.changed.clear()

    def waiting(self) -> Iterator[tuple[StepView, str | None]]:
        """Return the first waiting steps, each with a step that it waits for, or None when it waits for a slot."""
        planned = self.view.header.steps if self.view.header is not None else ()
        number = self._first_waiting
        has_passed = True
        # No planned step waits again once it has not.
        for step in self._planned[number : number + SCANNED]:
            if step.state is ViewState.WAITING and step.header is not None:
                has_passed = False
                keys = (planned[dependency].key for dependency in step.header.deps)
                yield step, next((key for key in keys if not self._is_done(key)), None)
            elif has_passed:
                number += 1
        self._first_waiting = number

    def _is_done(self, key: str) -> bool:
        step = self.view.steps.get(key)
        if step is not None:
            return step.state in _DONE
        counts = self.mapped.get(key)
        return counts is not None and sum(counts[state] for state in _DONE) >= self.view.instance_count(key)


def _since(step: StepView) -> float | None:
    """Return when a step came into its state, None where no event of an attempt says it."""
    if step.last is None or step.state is ViewState.STARTING:
        return None
    return step.last.started if step.state is ViewState.RUNNING else step.last.ended


class Estimate:
    """An estimate of the time that is left, from the rate at which steps ended lately.

    `began` is when the first step has started: before that, workers and pods start, which takes no longer for more
    steps.
    """

    WINDOW = 120.0
    LEAST_SECONDS = 3.0
    LEAST_STEPS = 3

    def __init__(self) -> None:
        self.began: float | None = None
        self._samples: deque[tuple[float, int]] = deque()

    def seconds_left(self, view: RunView, now: float) -> float | None:
        """Return the seconds that are left, or None while too little is known; call it once a frame."""
        samples = self._samples
        if self.began is None:
            return None
        if not samples:
            samples.append((self.began, 0))
        # Ten samples a second would be as many as there are steps.
        if now - samples[-1][0] >= 1:
            samples.append((now, view.done))
        while len(samples) > 2 and now - samples[1][0] > self.WINDOW:
            samples.popleft()
        since, before = samples[0]
        ended = view.done - before
        left = view.total - view.done
        if left <= 0 or ended < self.LEAST_STEPS or now - since < self.LEAST_SECONDS:
            return None
        return (now - since) / ended * left
