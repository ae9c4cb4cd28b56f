"""All laws of the kit by name, in the order in which they run."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from rivers.testing.conformance.law import Law
from rivers.testing.conformance.laws import cancelling, crashes, results

__all__ = ["LAWS"]

LAWS: Mapping[str, Law] = MappingProxyType(
    {law.name: law for module in (results, crashes, cancelling) for law in module.LAWS}
)
"""Every law by its name."""
