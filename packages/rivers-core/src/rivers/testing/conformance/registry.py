"""All laws of the kit by name, in the order in which they run."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from rivers.testing.conformance.law import Law
from rivers.testing.conformance.laws import (
    cancelling,
    closing,
    controllers,
    crashes,
    failures,
    leftovers,
    logs,
    parity,
    results,
    slots,
    specs,
)

__all__ = ["LAWS"]

_MODULES = (results, logs, failures, specs, crashes, cancelling, slots, closing, leftovers, controllers, parity)
LAWS: Mapping[str, Law] = MappingProxyType({law.name: law for module in _MODULES for law in module.LAWS})
"""Every law by its name."""
