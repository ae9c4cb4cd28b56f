"""Retry policies and backoff schedules: pure values and pure decisions.

RetryPolicy ── retries(failure, n)? ──▶ yes ── Backoff.delay(n, random) ──▶ seconds to wait
                                            └─ ComputeEscalation ──▶ what the next attempt asks for
"""

from __future__ import annotations

import builtins
import enum
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from datetime import timedelta
from typing import ClassVar, TypeAlias

from rivers._definitions.arguments import (
    argument_error,
    check_count,
    check_number,
    check_seconds,
    constructor_repr,
    plain_number,
    plain_text,
)
from rivers._definitions.compute import ComputeEscalation
from rivers._definitions.hints import call_hint
from rivers._definitions.names import closest
from rivers.exceptions import DefinitionError
from rivers.protocol.failure import Failure, FailureReason

__all__ = ["LONGEST_DELAY", "MAX_RETRIES", "Backoff", "FailureReason", "RetryOn", "RetryPolicy", "check_retry"]

MAX_RETRIES = 999
"""So that an attempt's number stays within 1,000."""

LONGEST_DELAY = 366 * 86_400
"""Seconds; no wait is longer, whatever the schedule computes, so that every clock and lock can take it."""

Wait: TypeAlias = float | timedelta
"""A wait: seconds, or a `timedelta`."""


@dataclass(frozen=True, repr=False, kw_only=True)
class Backoff(ABC):
    """A schedule of waits before retries. Made by `constant`, `linear`, `exponential` and `fixed`.

    Waits are seconds or `timedelta`s. `max_delay` limits the wait. `jitter`, a fraction from 0 to 1, then takes
    a random part off it: a wait of 10 s with a jitter of 0.3 becomes one between 7 and 10 s. Steps that failed together
    spread out, also at the ceiling, and no wait is longer than written. A jitter of 1 is called full jitter.

    Raises:
        ConfigurationError: a number is negative, not finite, above a year, or no number.
    """

    shape: ClassVar[str]
    first_field: ClassVar[str]

    jitter: float = 0.0
    max_delay: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "jitter", check_number("jitter", self.jitter, least=0, most=1))
        if self.max_delay is not None:
            ceiling = check_seconds("max_delay", self.max_delay, above=0, most=LONGEST_DELAY)
            object.__setattr__(self, "max_delay", ceiling)

    def __repr__(self) -> str:
        return constructor_repr(self, name=f"Backoff.{self.shape}", first=self.first_field)

    @abstractmethod
    def _wait(self, retry: int) -> float:
        """Return the wait by the schedule alone; it may be infinite or raise OverflowError."""

    def delay(self, retry: int, random: float) -> float:
        """Return the seconds to wait before the `retry`-th retry, counted from 1; `random` is a number from 0 to 1.

        Pure: the same arguments give the same wait. Never below 0, never above `max_delay`.
        """
        try:
            wait = self._wait(retry)
        except OverflowError:
            wait = math.inf
        ceiling = LONGEST_DELAY if self.max_delay is None else self.max_delay
        return float(min(wait, ceiling) * (1 - self.jitter * random))

    @staticmethod
    def constant(delay: Wait, *, jitter: float = 0.0, max_delay: Wait | None = None) -> Backoff:
        """Wait `delay` before every retry."""
        return _Constant(wait=_delay("delay", delay), jitter=jitter, max_delay=_ceiling(max_delay))

    @staticmethod
    def linear(step: Wait, *, initial: Wait = 0.0, jitter: float = 0.0, max_delay: Wait | None = None) -> Backoff:
        """Wait `initial + step * n` before retry n."""
        return _Linear(
            step=_delay("step", step),
            initial=_delay("initial", initial),
            jitter=jitter,
            max_delay=_ceiling(max_delay),
        )

    @staticmethod
    def exponential(
        initial: Wait, *, factor: float = 2.0, jitter: float = 0.0, max_delay: Wait | None = None
    ) -> Backoff:
        """Wait `initial` before the first retry and `factor` times the last wait before each further one."""
        # From 0 every wait would be 0, which is what `constant(0)` says.
        first = check_seconds("initial", initial, above=0, most=LONGEST_DELAY)
        return _Exponential(initial=first, factor=factor, jitter=jitter, max_delay=_ceiling(max_delay))

    @staticmethod
    def fixed(schedule: Iterable[Wait], *, jitter: float = 0.0) -> Backoff:
        """Wait as listed; the last entry holds for all further retries."""
        return _Fixed(schedule=_delays(schedule), jitter=jitter)


def _delay(name: str, value: object) -> float:
    return check_seconds(name, value, least=0, most=LONGEST_DELAY)


def _ceiling(value: object) -> float | None:
    return None if value is None else check_seconds("max_delay", value, above=0, most=LONGEST_DELAY)


def _delays(schedule: object) -> tuple[float, ...]:
    rule = "a list of at least one wait in seconds"
    if not isinstance(schedule, Iterable) or isinstance(schedule, str | bytes):
        hint = f"write rs.Backoff.constant({schedule})" if plain_number(schedule) is not None else None
        raise argument_error("schedule", schedule, rule, hint)
    waits = tuple(_delay(f"schedule[{position}]", wait) for position, wait in enumerate(schedule))
    if not waits:
        raise argument_error("schedule", schedule, rule)
    return waits


@dataclass(frozen=True, repr=False, kw_only=True)
class _Constant(Backoff):
    shape = "constant"
    first_field = "wait"

    wait: float

    def _wait(self, retry: int) -> float:
        return self.wait


@dataclass(frozen=True, repr=False, kw_only=True)
class _Linear(Backoff):
    shape = "linear"
    first_field = "step"

    step: float
    initial: float = 0.0

    def _wait(self, retry: int) -> float:
        return self.initial + self.step * retry


@dataclass(frozen=True, repr=False, kw_only=True)
class _Exponential(Backoff):
    shape = "exponential"
    first_field = "initial"

    initial: float
    factor: float = 2.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "factor", check_number("factor", self.factor, least=1, most=1000))
        super().__post_init__()

    def _wait(self, retry: int) -> float:
        return self.initial * float(self.factor) ** (retry - 1)


@dataclass(frozen=True, repr=False, kw_only=True)
class _Fixed(Backoff):
    shape = "fixed"
    first_field = "schedule"

    schedule: tuple[float, ...]

    def _wait(self, retry: int) -> float:
        return self.schedule[min(retry, len(self.schedule)) - 1]


class RetryOn(enum.Enum):
    """The failures after which a step is retried.

    ALL: every one but a cancellation. TRANSIENT: only what the body did not raise itself, that is OUT_OF_MEMORY,
    TIMEOUT and INFRASTRUCTURE.
    """

    ALL = "all"
    TRANSIENT = "transient"


_TRANSIENT = frozenset({FailureReason.OUT_OF_MEMORY, FailureReason.TIMEOUT, FailureReason.INFRASTRUCTURE})

Cause: TypeAlias = type[BaseException] | FailureReason
"""One entry of a `retry_on` list."""


@dataclass(frozen=True, repr=False)
class RetryPolicy:
    """A rule for retries: how many, after which failures, and with which waits.

        rs.RetryPolicy(3, backoff=rs.Backoff.exponential(1, max_delay=60, jitter=0.5), retry_on=[ConnectionError])

    `max_retries` counts the attempts after the first one, 0 to 999. `backoff` None retries at once. `retry_on` is
    `RetryOn.ALL` (the default), `RetryOn.TRANSIENT`, or a list of exception types, whose subclasses count too, and
    FailureReasons. `escalate` asks for more memory at each retry, where the executor provisions.

    Raises:
        ConfigurationError: an argument is invalid.
    """

    max_retries: int = 1
    _: KW_ONLY
    backoff: Backoff | None = None
    retry_on: RetryOn | Cause | Iterable[Cause] | None = None
    escalate: ComputeEscalation | None = None

    def __post_init__(self) -> None:
        count = check_count("max_retries", self.max_retries, least=0, most=MAX_RETRIES)
        object.__setattr__(self, "max_retries", count)
        _check_backoff(self.backoff)
        _check_escalate(self.escalate)
        if self.retry_on is not None and not isinstance(self.retry_on, RetryOn):
            object.__setattr__(self, "retry_on", _causes(self.retry_on))

    def __repr__(self) -> str:
        return constructor_repr(self, name="RetryPolicy", always=("max_retries",))

    def retries(self, failure: Failure, retry: int) -> bool:
        """Return whether the `retry`-th retry, counted from 1, follows this failure. Pure.

        Never after a cancellation, nor where the failure says that another attempt cannot help.
        """
        if retry > self.max_retries or failure.reason is FailureReason.CANCELLED or not failure.transient:
            return False
        if self.retry_on is None or self.retry_on is RetryOn.ALL:
            return True
        if self.retry_on is RetryOn.TRANSIENT:
            return failure.reason in _TRANSIENT
        return any(_is_caused_by(cause, failure) for cause in _causes(self.retry_on))


def check_retry(value: object, name: str, owner: str, error: type[DefinitionError]) -> RetryPolicy | str | None:
    """Return a policy, the name of one, or None.

    Raises:
        DefinitionError: the value is something else.
    """
    if value is None or isinstance(value, RetryPolicy):
        return value
    text = plain_text(value)
    if text is not None:
        return text
    hint = call_hint(value)
    if plain_number(value) is not None:
        hint = f"write {name}=rs.RetryPolicy({value})"
    elif isinstance(value, Backoff):
        hint = f"write {name}=rs.RetryPolicy(backoff={value!r:.80})"
    expected = "an rs.RetryPolicy, the name of one in CodeRepository(retries=...), or None"
    raise argument_error(name, value, expected, hint, owner=owner, error=error)


def _check_backoff(value: object) -> None:
    if value is None or isinstance(value, Backoff):
        return
    hint = call_hint(value)
    if plain_number(value) is not None or isinstance(value, timedelta):
        hint = f"write rs.Backoff.constant({value!r})"
    elif isinstance(value, list | tuple):
        hint = f"write rs.Backoff.fixed({value!r:.80})"
    elif value is Backoff:
        hint = "write rs.Backoff.exponential(1), or constant, linear or fixed"
    raise argument_error("backoff", value, "an rs.Backoff, such as rs.Backoff.exponential(1), or None", hint)


def _check_escalate(value: object) -> None:
    if value is not None and not isinstance(value, ComputeEscalation):
        hint = f"write rs.ComputeEscalation(factor={value}, max_memory=...)" if plain_number(value) else None
        expected = 'an rs.ComputeEscalation(max_memory="…") or None'
        raise argument_error("escalate", value, expected, hint or call_hint(value))


def _causes(retry_on: object) -> tuple[Cause, ...]:
    rule = "RetryOn.ALL, RetryOn.TRANSIENT or a list of exception types and FailureReasons"
    if retry_on is RetryOn:
        raise argument_error("retry_on", retry_on, rule, "write rs.RetryOn.ALL or rs.RetryOn.TRANSIENT")
    given = (retry_on,) if isinstance(retry_on, type | FailureReason) else retry_on
    if not isinstance(given, Iterable) or isinstance(given, str | bytes):
        raise argument_error("retry_on", retry_on, rule, _cause_hint(given))
    causes = tuple(given)
    if not causes:
        raise argument_error("retry_on", retry_on, rule, "max_retries=0 is how to say: never")
    for position, cause in enumerate(causes):
        if cause is FailureReason.CANCELLED:
            raise argument_error(f"retry_on[{position}]", cause, rule, "a cancelled step is never retried")
        if not isinstance(cause, FailureReason) and not (isinstance(cause, type) and issubclass(cause, BaseException)):
            expected = "an exception type or a FailureReason"
            raise argument_error(f"retry_on[{position}]", cause, expected, _cause_hint(cause))
    return causes


def _cause_hint(cause: object) -> str | None:
    """Return a hint for an exception's instance, or for the name of a reason, a preset or a builtin exception."""
    if isinstance(cause, BaseException):
        return f"give its type: {type(cause).__name__}"
    if isinstance(cause, RetryOn):
        return f"write retry_on=rs.{cause} alone"
    if not isinstance(cause, str):
        return None
    names = {member.value: f"rs.{type(member).__name__}.{member.name}" for member in (*RetryOn, *FailureReason)}
    names |= {name: name for name, value in vars(builtins).items() if isinstance(value, type)}
    near = closest(cause, names)
    return f"write retry_on={names[near]}" if near is not None else None


def _is_caused_by(cause: Cause, failure: Failure) -> bool:
    # By name: the failure comes from another process, and nothing is imported for what it names.
    if isinstance(cause, FailureReason):
        return cause is failure.reason
    name = cause.__qualname__ if cause.__module__ == "builtins" else f"{cause.__module__}.{cause.__qualname__}"
    return name == failure.type or name in failure.mro
