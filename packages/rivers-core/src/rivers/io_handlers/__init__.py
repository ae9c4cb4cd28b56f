"""IO handlers: those that come with rivers, and what to build another from."""

from rivers._io.base import AtomicIOHandler, BaseIOHandler, Reach
from rivers._io.context import InputContext, OutputContext
from rivers._io.memo import Memo
from rivers._io.memory import InMemoryIOHandler
from rivers._io.pickle import PickleIOHandler

__all__ = [
    "AtomicIOHandler",
    "BaseIOHandler",
    "InMemoryIOHandler",
    "InputContext",
    "Memo",
    "OutputContext",
    "PickleIOHandler",
    "Reach",
]
