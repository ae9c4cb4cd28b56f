"""The rule by which values travel in specs and results instead of storage."""

from __future__ import annotations

from rivers._io.shared.default_store import DefaultStore
from rivers._plan.plan import Step

__all__ = ["is_inline"]


def is_inline(step: Step, handler: object) -> bool:
    """Return whether a step in another process gets or gives a handler's values inline.

    Only those of the default store: whoever names a handler wants values to be where it stores them.
    """
    return step.executor.has_inline_values and isinstance(handler, DefaultStore)
