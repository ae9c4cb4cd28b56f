"""How much of a machine a step asks for, and how that grows when it was not enough.

Amounts are Kubernetes quantities: `"500m"` is half a CPU, `"512Mi"` is 512 · 2²⁰ bytes, `"1G"` is 10⁹ bytes
(kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction

from rivers._definitions.names import check_number, pasted, refusal
from rivers.exceptions import ConfigurationError
from rivers.protocol import spec
from rivers.protocol.failure import FailureReason

__all__ = ["Compute", "ComputeEscalation", "check_cpu", "check_memory", "escalate", "parse_quantity"]

_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE]([+-]?[0-9]{1,2})|([A-Za-z]*))")
_DECIMAL = ("n", "u", "m", "", "k", "M", "G", "T", "P", "E")
_BINARY = ("Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_UNITS = {suffix: Fraction(1000) ** power for power, suffix in enumerate(_DECIMAL, -3)} | {
    suffix: Fraction(1024) ** power for power, suffix in enumerate(_BINARY, 1)
}
_SUFFIXES = f"{' '.join(filter(None, _UNITS))}, or nothing"
_MOST = 2**63 - 1  # what Kubernetes holds in a quantity
_MILLI = Fraction(1, 1000)
_MEBI = 2**20

CPU_RULE = 'a str with a Kubernetes quantity of CPUs of at least "1m", such as "500m", "2" or "1.5",'
MEMORY_RULE = 'a str with a Kubernetes quantity of bytes above 0, such as "512Mi", "4Gi" or "2G",'
GPU_RULE = 'a str with a whole number of GPUs of at least 1, such as "1",'


def parse_quantity(text: str) -> Fraction:
    """The exact value of a Kubernetes quantity: CPUs, or bytes.

    Raises:
        ValueError: the text is no quantity, or it is negative.
    """
    match = _QUANTITY.fullmatch(text) if len(text) <= 64 else None
    if match is None:
        raise ValueError(f"a quantity is a number and then one of {_SUFFIXES}")
    number, exponent, suffix = match.groups()
    if exponent is not None:
        return Fraction(number) * Fraction(10) ** int(exponent)
    if suffix not in _UNITS:
        raise ValueError(f"{suffix!r} is no suffix of a quantity; they are {_SUFFIXES}")
    return Fraction(number) * _UNITS[suffix]


def check_cpu(parameter: str, value: object) -> None:
    """Refuse all but CPUs as a quantity; Kubernetes counts them in thousandths."""
    amount = _amount(parameter, value, CPU_RULE)
    if amount < _MILLI or amount % _MILLI:
        raise refusal(parameter, value, CPU_RULE, "nothing finer than a thousandth of a CPU can be asked for")


def check_memory(parameter: str, value: object) -> None:
    """Refuse all but whole bytes as a quantity."""
    amount = _amount(parameter, value, MEMORY_RULE)
    if amount < 1 or amount.denominator != 1:
        hint = None
        if isinstance(value, str) and value.endswith("m"):
            hint = f'"m" is a thousandth of a byte; did you mean "{value[:-1]}Mi"?'
        raise refusal(parameter, value, MEMORY_RULE, hint)


def check_gpu(parameter: str, value: object) -> None:
    """Refuse all but a whole number of GPUs as a quantity; no GPU is None."""
    amount = _amount(parameter, value, GPU_RULE)
    if amount < 1 or amount.denominator != 1:
        raise refusal(parameter, value, GPU_RULE, "leave it out for no GPU" if amount == 0 else None)


def _amount(parameter: str, value: object, rule: str) -> Fraction:
    if not isinstance(value, str):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        raise refusal(parameter, value, rule, f'write it in quotes: {parameter}="{value}"' if number else None)
    try:
        amount = parse_quantity(value)
    except ValueError as error:
        byte = re.fullmatch(r"([0-9.]+)([KkMGT]i?)[Bb]", value)
        hint = f'quantities have no "B": write "{byte[1]}{byte[2].replace("k", "K")}i"' if byte else str(error)
        raise refusal(parameter, value, rule, hint.replace("ii", "i")) from None
    if amount > _MOST:
        raise refusal(parameter, value, rule, "Kubernetes holds quantities up to 2**63 - 1")
    return amount


def _memory(amount: Fraction) -> str:
    """Bytes as a quantity: exact where a unit of at least 1 MB divides them, else rounded up to whole Mi."""
    size = math.ceil(amount)
    for suffix in ("Ei", "Pi", "Ti", "Gi", "Mi", "E", "P", "T", "G", "M"):
        count, rest = divmod(size, int(_UNITS[suffix]))
        if count and not rest:
            return f"{count}{suffix}"
    return str(size) if size < _MEBI else f"{-(-size // _MEBI)}Mi"


def _cpu(amount: Fraction) -> str:
    """CPUs as a quantity, rounded up to thousandths."""
    milli = math.ceil(amount * 1000)
    return f"{milli}m" if milli % 1000 else str(milli // 1000)


@dataclass(frozen=True, repr=False, kw_only=True)
class Compute:
    """What a step asks of an executor that provisions machines (kubernetes); elsewhere `resolve()` warns.

        @rs.Asset(compute=rs.Compute(cpu="2", memory="8Gi", gpu="1"))

    Each is a Kubernetes quantity as text and is both request and limit; None takes the executor's default.

    Raises:
        ConfigurationError: a quantity is malformed, zero, or finer than a thousandth of a CPU or a byte.
    """

    cpu: str | None = None
    memory: str | None = None
    gpu: str | None = None

    def __post_init__(self) -> None:
        for parameter, value, check in (
            ("cpu", self.cpu, check_cpu),
            ("memory", self.memory, check_memory),
            ("gpu", self.gpu, check_gpu),
        ):
            if value is not None:
                check(parameter, value)

    def __repr__(self) -> str:
        return pasted(self, name="Compute")

    def to_protocol(self) -> spec.Compute:
        """The same as a part of a StepSpec."""
        return spec.Compute(cpu=self.cpu, memory=self.memory, gpu=self.gpu)


@dataclass(frozen=True, repr=False, kw_only=True)
class ComputeEscalation:
    """Ask for more at each retry of a step that was ended for want of memory, up to a ceiling.

        rs.RetryPolicy(3, escalate=rs.ComputeEscalation(max_memory="16Gi"))

    Memory is multiplied by `factor` until `max_memory`; CPUs by `cpu_factor` until `max_cpu`, which go together and are
    left alone otherwise. `on` lists the failure reasons that escalate: OUT_OF_MEMORY alone, unless told.

    Raises:
        ConfigurationError: a quantity or factor is not acceptable, or one of `cpu_factor` and `max_cpu` is missing.
    """

    max_memory: str
    factor: float = 2.0
    cpu_factor: float | None = None
    max_cpu: str | None = None
    on: Iterable[FailureReason] | None = None

    def __post_init__(self) -> None:
        check_memory("max_memory", self.max_memory)
        check_number("factor", self.factor, above=1, most=1000)
        check_number("cpu_factor", self.cpu_factor, above=1, most=1000, optional=True)
        if self.max_cpu is not None:
            check_cpu("max_cpu", self.max_cpu)
        if (self.cpu_factor is None) != (self.max_cpu is None):
            missing, given = ("cpu_factor", "max_cpu") if self.cpu_factor is None else ("max_cpu", "cpu_factor")
            raise ConfigurationError(
                f"{missing}=None: with {given}={getattr(self, given)!r} it must be given, too",
                hint="CPUs grow by cpu_factor up to max_cpu; leave both out to let them be",
            )
        if self.on is not None:
            object.__setattr__(self, "on", _reasons(self.on))

    def __repr__(self) -> str:
        return pasted(self, name="ComputeEscalation")

    @property
    def reasons(self) -> frozenset[FailureReason]:
        """The failure reasons after which more is asked for."""
        return frozenset({FailureReason.OUT_OF_MEMORY} if self.on is None else self.on)


def _reasons(on: object) -> tuple[FailureReason, ...]:
    given = (on,) if isinstance(on, FailureReason) else on
    if not isinstance(given, Iterable) or isinstance(given, str) or not (items := tuple(given)):
        raise refusal("on", on, "a list of at least one rs.FailureReason")
    for item in items:
        if not isinstance(item, FailureReason) or item is FailureReason.CANCELLED:
            names = ", ".join(str(reason) for reason in FailureReason if reason is not FailureReason.CANCELLED)
            raise refusal("on", item, f"a list of {names}", "a cancelled step is not retried")
    # In the order of the enum, so that the same set of reasons is an equal value.
    return tuple(reason for reason in FailureReason if reason in items)


def escalate(compute: Compute, escalation: ComputeEscalation, reason: FailureReason) -> Compute:
    """What the next attempt asks for after one that asked for `compute` and failed for `reason`.

    Never less than before, also where that is above the ceiling already. An amount that is None stays None, as there is
    nothing to multiply: fill in the executor's defaults first.
    """
    if reason not in escalation.reasons:
        return compute
    memory, cpu = compute.memory, compute.cpu
    if memory is not None:
        memory = _grown(memory, escalation.factor, escalation.max_memory, _memory)
    if cpu is not None and escalation.cpu_factor is not None and escalation.max_cpu is not None:
        cpu = _grown(cpu, escalation.cpu_factor, escalation.max_cpu, _cpu)
    return Compute(cpu=cpu, memory=memory, gpu=compute.gpu)


def _grown(before: str, factor: float, ceiling: str, write: Callable[[Fraction], str]) -> str:
    limit = parse_quantity(ceiling)
    if parse_quantity(before) >= limit:
        return before
    # Through str, so that a factor of 1.1 is 11/10 and not the binary fraction next to it.
    grown = write(parse_quantity(before) * Fraction(str(factor)))
    return ceiling if parse_quantity(grown) >= limit else grown
