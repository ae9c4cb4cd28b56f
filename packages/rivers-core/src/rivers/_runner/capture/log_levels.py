"""The levels of the controller's loggers, which hold in workers as well."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from rivers.protocol.spec import LoggerLevel, LogSettings

__all__ = ["AppliedLevels", "log_settings"]

_MOST_LOGGERS = 500
# Of a logger's name. What is beyond these two does not travel with each spec.
_MOST_CHARACTERS = 200


def log_settings(capture: bool) -> LogSettings:
    """Return what a run captures, with the levels that loggers of this process have now.

    A record is an event where its logger lets it through, and of those without a level of their own from INFO on.
    """
    found = [*logging.root.manager.loggerDict.items()]
    loggers = [
        LoggerLevel(name=name, level=logger.level)
        for name, logger in found
        if isinstance(logger, logging.Logger) and logger.level != logging.NOTSET and _can_travel(name)
    ]
    if logging.root.level != logging.WARNING:
        loggers.insert(0, LoggerLevel(name="root", level=logging.root.level))
    level = min([logging.INFO, *(logger.level for logger in loggers)])
    return LogSettings(level=level, capture=capture, loggers=tuple(loggers[:_MOST_LOGGERS]))


def _can_travel(name: str) -> bool:
    return len(name) <= _MOST_CHARACTERS and name.isascii() and name.isprintable()


class AppliedLevels:
    """Gives the loggers of a worker the controller's levels, for one run."""

    def __init__(self) -> None:
        self._before: dict[logging.Logger, int] = {}
        self._wanted: dict[LoggerLevel, logging.Logger] = {}

    def apply(self, loggers: Iterable[LoggerLevel]) -> None:
        """Set the levels that differ, such as those that a module has set as it was imported."""
        for wanted in loggers:
            logger = self._wanted.get(wanted)
            if logger is None:
                logger = self._wanted[wanted] = logging.getLogger(wanted.name)
            if logger.level != wanted.level:
                self._before.setdefault(logger, logger.level)
                logger.setLevel(wanted.level)

    def undo(self) -> None:
        """Restore the levels that this worker had before the run."""
        for logger, level in self._before.items():
            logger.setLevel(level)
        self._before.clear()
