"""Restore the loggers that a body has reconfigured."""

from __future__ import annotations

import logging
from typing import Any

from rivers._runner.capture.streams import Capture

__all__ = ["LoggerSnapshot"]

_MOST_NAMES = 5
# A logger whose level the capture sets, which concurrent runs install and remove.
_OWN = "rivers.step"


class LoggerSnapshot:
    """The level, `disabled`, `propagate`, handlers and filters of all loggers, and the level of `logging.disable`."""

    __slots__ = ("_count", "_disabled", "_live", "_loggers", "_states")

    def __init__(self) -> None:
        self._count = len(logging.root.manager.loggerDict)
        self._loggers = [logging.root, *_all_loggers()]
        # One comparison of these two is the cheapest way to look at all loggers: 0.1 us for each.
        self._live = [vars(logger) for logger in self._loggers]
        self._states = [
            {**state, "handlers": [*state["handlers"]], "filters": [*state["filters"]]} for state in self._live
        ]
        self._disabled = logging.root.manager.disable

    def is_complete(self) -> bool:
        """Return whether no logger was created since."""
        return len(logging.root.manager.loggerDict) == self._count

    def is_changed(self) -> bool:
        """Return whether a logger differs, or one that was created since is configured."""
        return (
            self._live != self._states
            or logging.root.manager.disable != self._disabled
            or (not self.is_complete() and any(map(_is_configured, self._new())))
        )

    def restore(self, *, keep_added: bool) -> list[str]:
        """Restore the loggers and name them; with `keep_added` restore only what was removed or replaced."""
        changed = [
            logger.name
            for logger, before in zip(self._loggers, self._states, strict=True)
            if vars(logger) != before and _restore(logger, before, keep_added)
        ]
        if not keep_added:
            changed += [logger.name for logger in self._new() if _restore(logger, _UNCONFIGURED, keep_added)]
        if logging.root.manager.disable != self._disabled:
            logging.disable(self._disabled)
            changed.append("logging.disable")
        if not changed:
            return []
        more = f" and {len(changed) - _MOST_NAMES} more" if len(changed) > _MOST_NAMES else ""
        return [f"the logging configuration was restored: {', '.join(changed[:_MOST_NAMES])}{more}"]

    def _new(self) -> list[logging.Logger]:
        known = {*self._loggers}
        return [logger for logger in _all_loggers() if logger not in known]


def _all_loggers() -> list[logging.Logger]:
    found = [*logging.root.manager.loggerDict.values()]
    return [logger for logger in found if isinstance(logger, logging.Logger) and logger.name != _OWN]


_UNCONFIGURED = {"level": logging.NOTSET, "disabled": False, "propagate": True, "handlers": [], "filters": []}


def _is_configured(logger: logging.Logger) -> bool:
    return any(vars(logger)[name] != value for name, value in _UNCONFIGURED.items())


def _restore(logger: logging.Logger, before: dict[str, Any], keep_added: bool) -> bool:
    level, disabled, propagate = before["level"], before["disabled"], before["propagate"]
    handlers, filters = before["handlers"], before["filters"]
    changed = False
    unset = level == logging.NOTSET or (logger is logging.root and not Capture.foreign_handlers(handlers))
    if logger.level != level and not (keep_added and unset):
        logger.setLevel(level)
        changed = True
    if (logger.disabled, logger.propagate) != (disabled, propagate):
        logger.disabled, logger.propagate = disabled, propagate
        changed = True
    kept = [handler for handler in logger.handlers if handler not in handlers] if keep_added else []
    if Capture.restore_handlers(logger, [*handlers, *kept]):
        changed = True
    kept_filters = [one for one in logger.filters if one not in filters] if keep_added else []
    if logger.filters != [*filters, *kept_filters]:
        logger.filters[:] = [*filters, *kept_filters]
        changed = True
    return changed
