"""The context variables that each attempt starts with."""

from __future__ import annotations

import contextvars
import decimal
from typing import Any

__all__ = ["StepContexts"]


class StepContexts:
    """Copies of the context variables of one moment, one for each attempt.

    A copy shares the objects behind the variables. The one that bodies change in place, the context of `decimal`, is
    copied as well.
    """

    def __init__(self) -> None:
        self._base = contextvars.copy_context()
        values: list[Any] = [*self._base.values()]
        self._decimals = next((value for value in values if isinstance(value, decimal.Context)), None)

    def new(self) -> contextvars.Context:
        """Return the variables for one attempt."""
        scope = self._base.copy()
        if self._decimals is not None:
            scope.run(decimal.setcontext, self._decimals.copy())
        return scope
