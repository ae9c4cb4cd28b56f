"""The two-step repository that `rivers executors check` runs; workers import it by name."""

from __future__ import annotations

from typing import Any

from rivers._definitions.asset import Asset
from rivers._io.base import BaseIOHandler
from rivers._io.context import InputContext, OutputContext
from rivers._repository.repository import CodeRepository

__all__ = ["NUMBER", "ConstantHandler", "first", "make_probe", "second"]

NUMBER = 20


class ConstantHandler(BaseIOHandler):
    """A handler for machines that share no store: it stores nothing and loads the number of the probe."""

    def handle_output(self, context: OutputContext, obj: Any) -> None:
        """Store nothing."""

    def load_input(self, context: InputContext) -> int:
        """Return the number that `first` makes."""
        return NUMBER


def first() -> int:
    """Return a number."""
    return NUMBER


def second(first: int) -> int:
    """Return the double of the number."""
    return 2 * first


def make_probe(is_remote: bool) -> CodeRepository:
    """Return a repository of two steps; `is_remote` for steps that do not run on this machine."""
    handler = ConstantHandler() if is_remote else None
    return CodeRepository([Asset(first, io_handler=handler), Asset(second, io_handler=handler)])
