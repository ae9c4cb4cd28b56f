"""A function prepared for calls by specs: signature, type checks of its outputs, kind of context."""

from __future__ import annotations

from types import CodeType
from typing import Any

from rivers._definitions.asset import Asset, MultiAsset
from rivers._definitions.signature import Signature
from rivers._definitions.task import Task
from rivers._runner.type_check import Check, checker
from rivers.exceptions import AssetDefinitionError, RefResolutionError

__all__ = ["Callee"]


class Callee:
    """A function prepared for calls by specs, once per function and worker.

    `checks` and `output_hints` are keyed by the output names of a multi-asset, and by "" for the return value.
    """

    __slots__ = (
        "can_change_process",
        "checks",
        "config_model",
        "context",
        "function",
        "hints",
        "output_hints",
        "positional",
        "signature",
    )

    def __init__(self, found: Any) -> None:
        if isinstance(found, Asset | Task):
            if found.function is None or found.signature is None:
                raise RefResolutionError(f"{found!r} has no function to call")
            self.signature = found.signature
        elif callable(found):
            self.signature = Signature(found, AssetDefinitionError)
        else:
            raise RefResolutionError(f"{found!r:.80} is no function, Asset or Task")
        self.function = self.signature.function
        self.context = self.signature.context
        self.positional = self.signature.positional
        self.hints = self.signature.hints
        self.config_model = self.signature.config_model if self.context is not None else None
        self.can_change_process = not _uses_only_its_variables(self.function)
        self.checks: dict[str, Check | None] = {}
        streamed = self.signature.is_generator or self.signature.is_async_generator
        hint = self.hints.get("return")
        self.checks[""] = None if streamed or hint is None else checker(hint)
        self.output_hints: dict[str, Any] = {"": hint}
        if isinstance(found, MultiAsset):
            for output in found.output_defs:
                self.checks[output.name] = checker(output.type_hint) if output.type_hint is not None else None
                self.output_hints[output.name] = output.type_hint


def _uses_only_its_variables(function: Any) -> bool:
    """Return whether a function refers to no global name, no attribute and no closure, so that it calls nothing.

    Looking for changes of the process costs 9 us, which is a third of a step whose body does so little.
    """
    code = getattr(function, "__code__", None)
    return (
        code is not None
        and not code.co_names
        and not code.co_freevars
        and not any(type(constant) is CodeType for constant in code.co_consts)
    )
