"""A law of the conformance kit: its name, its demand, and the function that judges an executor by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from rivers.spi import Capabilities
from rivers.testing.conformance.subject import Subject

__all__ = ["Check", "Law", "LawViolation", "Need", "Tier", "expect", "law"]

Check: TypeAlias = Callable[[Subject], None]
Tier: TypeAlias = Literal["quick", "full"]


class LawViolation(AssertionError):
    """The observation by which an executor breaks a law."""


@dataclass(frozen=True, slots=True)
class Need:
    """A condition of a law; `text` names the capability, and is the reason of the skip where it is not met."""

    text: str
    is_met: Callable[[Capabilities, Subject], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """A law: `demand` is one sentence, `reason` says why it matters, `check` raises LawViolation.

    `needs` are the capabilities without which it does not apply. A law of the tier `full` takes long.
    """

    name: str
    demand: str
    reason: str
    check: Check
    needs: tuple[Need, ...] = ()
    tier: Tier = "quick"

    @property
    def page(self) -> str:
        """Return the page and heading of the documentation that explains the law."""
        return f"docs/conformance.md#{self.name}"

    def missing(self, subject: Subject) -> str | None:
        """Return the text of the first need that the executor does not meet, or None."""
        return next((need.text for need in self.needs if not need.is_met(subject.capabilities, subject)), None)


def law(
    name: str, *, demand: str, reason: str, needs: tuple[Need, ...] = (), tier: Tier = "quick"
) -> Callable[[Check], Law]:
    """Make a law of the function that judges by it."""

    def make(check: Check) -> Law:
        return Law(name=name, demand=demand, reason=reason, check=check, needs=needs, tier=tier)

    return make


def expect(condition: object, seen: str) -> None:
    """Raise LawViolation with what was `seen`, unless the condition is true."""
    if not condition:
        raise LawViolation(seen)
