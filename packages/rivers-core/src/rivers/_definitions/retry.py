"""When a failed step is tried again, and how long to wait before: pure values and pure decisions.

RetryPolicy ── retries(failure, n)? ──▶ yes ── Backoff.delay(n, random) ──▶ seconds to wait
                                            └─ ComputeEscalation ──▶ what the next attempt asks for
"""

from __future__ import annotations

import enum
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, TypeAlias

from rivers._definitions.compute import ComputeEscalation
from rivers._definitions.names import check_count, check_number, pasted, refusal
from rivers.protocol.failure import Failure, FailureReason

__all__ = ["LONGEST_DELAY", "MAX_RETRIES", "Backoff", "FailureReason", "RetryOn", "RetryPolicy"]

MAX_RETRIES = 999
"""So that an attempt's number stays within 1,000."""

LONGEST_DELAY = 366 * 86_400
"""Seconds; no wait is longer, whatever the schedule computes, so that every clock and lock can take it."""


@dataclass(frozen=True, repr=False, kw_only=True)
class Backoff(ABC):
    """How long to wait before each retry, in seconds. Made by `constant`, `linear`, `exponential` and `fixed`.

    `max_delay` cuts the computed wait; `jitter`, a fraction from 0 to 1, then takes a random part off it: a wait of
    10 s with a jitter of 0.3 becomes one between 7 and 10 s. Only downward, and after the cut: no wait is longer
    than written, and steps that failed together spread out also at the ceiling. A jitter of 1 is called full jitter.

    Raises:
        ConfigurationError: a number is negative, not finite, above a year, or no number.
    """

    shape: ClassVar[str]
    shown_first: ClassVar[str]

    jitter: float = 0.0
    max_delay: float | None = None

    def __post_init__(self) -> None:
        check_number("jitter", self.jitter, least=0, most=1)
        check_number("max_delay", self.max_delay, above=0, most=LONGEST_DELAY, unit="seconds", optional=True)

    def __repr__(self) -> str:
        return pasted(self, name=f"Backoff.{self.shape}", first=self.shown_first)

    @abstractmethod
    def _computed(self, retry: int) -> float:
        """The wait by the schedule alone; may be infinite or raise OverflowError where it is beyond a float."""

    def delay(self, retry: int, random: float) -> float:
        """Seconds to wait before the `retry`-th retry, counted from 1; `random` is a number from 0 to 1.

        Pure: the same arguments give the same wait. Never below 0, never above `max_delay`.
        """
        try:
            computed = self._computed(retry)
        except OverflowError:
            computed = math.inf
        ceiling = LONGEST_DELAY if self.max_delay is None else self.max_delay
        return float(min(computed, ceiling) * (1 - self.jitter * random))

    @staticmethod
    def constant(delay: float, *, jitter: float = 0.0, max_delay: float | None = None) -> Backoff:
        """Wait `delay` seconds before every retry."""
        return _Constant(wait=delay, jitter=jitter, max_delay=max_delay)

    @staticmethod
    def linear(step: float, *, initial: float = 0.0, jitter: float = 0.0, max_delay: float | None = None) -> Backoff:
        """Wait `initial + step * n` seconds before retry n."""
        return _Linear(step=step, initial=initial, jitter=jitter, max_delay=max_delay)

    @staticmethod
    def exponential(
        initial: float, *, factor: float = 2.0, jitter: float = 0.0, max_delay: float | None = None
    ) -> Backoff:
        """Wait `initial` seconds before the first retry and `factor` times the last wait before each further one."""
        return _Exponential(initial=initial, factor=factor, jitter=jitter, max_delay=max_delay)

    @staticmethod
    def fixed(schedule: Iterable[float], *, jitter: float = 0.0) -> Backoff:
        """Wait as listed, in seconds; the last entry holds for all further retries."""
        return _Fixed(schedule=_seconds(schedule), jitter=jitter)


def _check_seconds(parameter: str, value: object) -> None:
    check_number(parameter, value, least=0, most=LONGEST_DELAY, unit="seconds")


def _seconds(schedule: object) -> tuple[float, ...]:
    rule = "a list of at least one wait in seconds"
    if not isinstance(schedule, Iterable) or isinstance(schedule, str | bytes):
        raise refusal("schedule", schedule, rule)
    waits = tuple(schedule)
    if not waits:
        raise refusal("schedule", schedule, rule)
    for position, wait in enumerate(waits):
        _check_seconds(f"schedule[{position}]", wait)
    return waits


@dataclass(frozen=True, repr=False, kw_only=True)
class _Constant(Backoff):
    shape = "constant"
    shown_first = "wait"

    wait: float

    def __post_init__(self) -> None:
        _check_seconds("delay", self.wait)
        super().__post_init__()

    def _computed(self, retry: int) -> float:
        return self.wait


@dataclass(frozen=True, repr=False, kw_only=True)
class _Linear(Backoff):
    shape = "linear"
    shown_first = "step"

    step: float
    initial: float = 0.0

    def __post_init__(self) -> None:
        _check_seconds("step", self.step)
        _check_seconds("initial", self.initial)
        super().__post_init__()

    def _computed(self, retry: int) -> float:
        return self.initial + self.step * retry


@dataclass(frozen=True, repr=False, kw_only=True)
class _Exponential(Backoff):
    shape = "exponential"
    shown_first = "initial"

    initial: float
    factor: float = 2.0

    def __post_init__(self) -> None:
        # From 0 every wait would be 0, which is what `constant(0)` says.
        check_number("initial", self.initial, above=0, most=LONGEST_DELAY, unit="seconds")
        check_number("factor", self.factor, least=1, most=1000)
        super().__post_init__()

    def _computed(self, retry: int) -> float:
        return self.initial * float(self.factor) ** (retry - 1)


@dataclass(frozen=True, repr=False, kw_only=True)
class _Fixed(Backoff):
    shape = "fixed"
    shown_first = "schedule"

    schedule: tuple[float, ...]

    def _computed(self, retry: int) -> float:
        return self.schedule[min(retry, len(self.schedule)) - 1]


class RetryOn(enum.Enum):
    """Which failures are worth another attempt.

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
    """How often a failed step is tried again, after which failures, and how long to wait before.

        rs.RetryPolicy(3, backoff=rs.Backoff.exponential(1, max_delay=60, jitter=0.5), retry_on=[ConnectionError])

    `max_retries` counts the attempts after the first one, 0 to 999. `backoff` None retries at once. `retry_on` is
    `RetryOn.ALL` (the default), `RetryOn.TRANSIENT`, or a list of exception types, whose subclasses count too, and
    FailureReasons. `escalate` asks for more memory at each retry, where the executor provisions.

    Raises:
        ConfigurationError: a parameter is not acceptable.
    """

    max_retries: int = 1
    _: KW_ONLY
    backoff: Backoff | None = None
    retry_on: RetryOn | Cause | Iterable[Cause] | None = None
    escalate: ComputeEscalation | None = None

    def __post_init__(self) -> None:
        check_count("max_retries", self.max_retries, least=0, most=MAX_RETRIES)
        _check_backoff(self.backoff)
        _check_escalate(self.escalate)
        if self.retry_on is not None and not isinstance(self.retry_on, RetryOn):
            object.__setattr__(self, "retry_on", _causes(self.retry_on))

    def __repr__(self) -> str:
        return pasted(self, name="RetryPolicy", always=("max_retries",))

    def retries(self, failure: Failure, retry: int) -> bool:
        """Whether this failure is to be followed by the `retry`-th retry, counted from 1. Pure.

        Never after a cancellation, nor where the failure says that another attempt cannot help.
        """
        if retry > self.max_retries or failure.reason is FailureReason.CANCELLED or not failure.transient:
            return False
        if self.retry_on is None or self.retry_on is RetryOn.ALL:
            return True
        if self.retry_on is RetryOn.TRANSIENT:
            return failure.reason in _TRANSIENT
        return any(_causes_it(cause, failure) for cause in _causes(self.retry_on))


def _check_backoff(given: object) -> None:
    if given is not None and not isinstance(given, Backoff):
        seconds = isinstance(given, int | float) and not isinstance(given, bool)
        hint = f"write rs.Backoff.constant({given})" if seconds else None
        raise refusal("backoff", given, "an rs.Backoff, such as rs.Backoff.exponential(1), or None,", hint)


def _check_escalate(given: object) -> None:
    if given is not None and not isinstance(given, ComputeEscalation):
        raise refusal("escalate", given, 'an rs.ComputeEscalation(max_memory="…") or None')


def _causes(retry_on: object) -> tuple[Cause, ...]:
    rule = "RetryOn.ALL, RetryOn.TRANSIENT or a list of exception types and FailureReasons"
    given = (retry_on,) if isinstance(retry_on, type | FailureReason) else retry_on
    if not isinstance(given, Iterable) or isinstance(given, str | bytes):
        raise refusal("retry_on", retry_on, rule)
    causes = tuple(given)
    if not causes:
        raise refusal("retry_on", retry_on, rule, "max_retries=0 is how to say: never")
    for position, cause in enumerate(causes):
        if cause is FailureReason.CANCELLED:
            raise refusal(f"retry_on[{position}]", cause, rule, "a cancelled step is never retried")
        if not isinstance(cause, FailureReason) and not (isinstance(cause, type) and issubclass(cause, BaseException)):
            raise refusal(f"retry_on[{position}]", cause, "an exception type or a FailureReason")
    return causes


def _causes_it(cause: Cause, failure: Failure) -> bool:
    """Types are compared by name: the failure comes from another process, and nothing is imported for what it names."""
    if isinstance(cause, FailureReason):
        return cause is failure.reason
    name = cause.__qualname__ if cause.__module__ == "builtins" else f"{cause.__module__}.{cause.__qualname__}"
    return name == failure.type or name in failure.mro
