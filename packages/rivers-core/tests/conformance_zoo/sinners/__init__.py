"""Wrong backends by theme; each spoils one part of the correct one."""

from sinner import CAUGHT_BY, ONLY, SINNERS

from sinners import cancels, closes, crashes, events, failures, leftovers, parity, platforms, slots, specs

__all__ = [
    "CAUGHT_BY",
    "ONLY",
    "SINNERS",
    "cancels",
    "closes",
    "crashes",
    "events",
    "failures",
    "leftovers",
    "parity",
    "platforms",
    "slots",
    "specs",
]
