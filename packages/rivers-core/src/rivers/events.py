"""The events of a run, which `on_event=` takes, and sinks for them.

Match them by class: `isinstance(event, rs.events.StepFailed)`.
"""

from rivers._events.event import (
    Event,
    RunEnding,
    RunFinished,
    RunStarted,
    RunWarning,
    StepCancelled,
    StepFailed,
    StepLog,
    StepRetrying,
    StepReused,
    StepSkipped,
    StepStarted,
    StepSubmitted,
    StepSucceeded,
    StepUnchanged,
)
from rivers._events.sink import EventSink, JsonLinesSink, ListSink, LoggingSink

__all__ = [
    "Event",
    "EventSink",
    "JsonLinesSink",
    "ListSink",
    "LoggingSink",
    "RunEnding",
    "RunFinished",
    "RunStarted",
    "RunWarning",
    "StepCancelled",
    "StepFailed",
    "StepLog",
    "StepRetrying",
    "StepReused",
    "StepSkipped",
    "StepStarted",
    "StepSubmitted",
    "StepSucceeded",
    "StepUnchanged",
]
