"""Restore the interval timers of the process, whose signals end it once their handlers are gone."""

from __future__ import annotations

import signal
import time

__all__ = ["Timers", "pending_timers", "restore_timers"]

_NAMES = ("ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF")
_KINDS = tuple(map(int, (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)))
# Seconds: setting a due timer to 0 would cancel it.
_AT_ONCE = 1e-6

Timers = tuple[tuple[float, float], ...]


def pending_timers() -> Timers:
    """Return for each kind the seconds until it is due (0.0 if none is pending) and between repetitions."""
    return tuple(map(signal.getitimer, _KINDS))


def restore_timers(before: Timers, since: float) -> list[str]:
    """Cancel the timers that were not pending before, and set again those that were; returns one line for each.

    `since` is the monotonic time of `before`. A timer of the program that has only gone on is left alone.
    """
    changed: list[str] = []
    passed = time.monotonic() - since
    for kind, name, (due, repeats), (left, repeats_now) in zip(_KINDS, _NAMES, before, pending_timers(), strict=True):
        if due == 0.0:
            if left:
                signal.setitimer(kind, 0)
                changed.append(f"a pending timer was cancelled: {name}, due in {left:.3g} s")
            continue
        if repeats_now == repeats and (0.0 < left <= max(due, repeats) or (not left and not repeats and passed >= due)):
            continue
        # ITIMER_VIRTUAL and ITIMER_PROF count processor time, which passes no faster than this clock for one thread.
        signal.setitimer(kind, max(due - passed, repeats, _AT_ONCE), repeats)
        changed.append(f"a timer of the program was set again: {name}")
    return changed
