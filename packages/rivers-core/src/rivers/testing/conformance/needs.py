"""The capabilities that laws need; each text names the capability for the reason of a skip."""

from __future__ import annotations

from rivers.spi import Capabilities, Reach
from rivers.testing.conformance.controller import can_be_sent
from rivers.testing.conformance.law import Need
from rivers.testing.conformance.subject import Subject

__all__ = [
    "CLOSURES",
    "ISOLATED",
    "KILLS",
    "LEFTOVERS",
    "LIVE_LOGS",
    "LOCAL_FILES",
    "NOT_BLOCKING",
    "NO_CLOSURES",
    "PICKLES_REFUSABLE",
    "PROVISIONS",
    "SENDABLE",
    "SLOTS",
    "STORE",
    "TWO_SLOTS",
    "WARM",
]


def _has_store(can: Capabilities, subject: Subject) -> bool:
    return subject.has_store


NOT_BLOCKING = Need("needs Capabilities.blocking=False", lambda can, _: not can.blocking)
ISOLATED = Need("needs Capabilities.isolation='process' or 'container'", lambda can, _: can.isolation != "none")
KILLS = Need("needs Capabilities.timeout='kill'", lambda can, _: can.timeout == "kill")
LIVE_LOGS = Need("needs Capabilities.live_logs=True", lambda can, _: can.live_logs)
SLOTS = Need("needs Capabilities.max_steps or max_sync", lambda _, subject: subject.slots is not None)
TWO_SLOTS = Need(
    "needs two slots: Capabilities.max_steps or max_sync of at least 2", lambda _, subject: (subject.slots or 2) > 1
)
LOCAL_FILES = Need("needs Capabilities.reach=Reach.MACHINE", lambda can, _: can.reach < Reach.ANYWHERE)
CLOSURES = Need("needs Capabilities.closures='pickled' or 'local'", lambda can, _: can.closures != "none")
NO_CLOSURES = Need("needs Capabilities.closures='none'", lambda can, _: can.closures == "none")
PICKLES_REFUSABLE = Need("needs Capabilities.closures='none' or 'pickled'", lambda can, _: can.closures != "local")
PROVISIONS = Need("needs Capabilities.provisions=True", lambda can, _: can.provisions)
WARM = Need("needs Capabilities.warm=True", lambda can, _: can.warm)
LEFTOVERS = Need(
    "needs the hook leftovers(), which lists the objects of the platform",
    lambda _, subject: subject.leftovers is not None,
)
SENDABLE = Need(
    "needs an executor value that a pickle can hold, for a controller in a process of its own",
    lambda _, subject: can_be_sent(subject.executor),
)
STORE = Need("needs a store that Capabilities.reach=Reach.ANYWHERE requires: override io_handler(tmp_path)", _has_store)
