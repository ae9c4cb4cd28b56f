"""The amounts of CPU, memory and GPUs that a step asks for, and their growth after a failure.

Amounts are Kubernetes quantities: `"500m"` is half a CPU, `"512Mi"` is 512 · 2²⁰ bytes, `"1G"` is 10⁹ bytes
(kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from rivers._definitions.arguments import argument_error, check_number, constructor_repr, plain_number, plain_text
from rivers._definitions.hints import call_hint
from rivers.exceptions import DefinitionError
from rivers.protocol import spec
from rivers.protocol.failure import FailureReason

__all__ = [
    "Compute",
    "ComputeEscalation",
    "check_compute",
    "check_cpu",
    "check_memory",
    "escalate",
    "parse_quantity",
]

_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE]([+-]?[0-9]{1,2})|([A-Za-z]*))")
_DECIMAL = ("n", "u", "m", "", "k", "M", "G", "T", "P", "E")
_BINARY = ("Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_UNITS = {suffix: Fraction(1000) ** power for power, suffix in enumerate(_DECIMAL, -3)} | {
    suffix: Fraction(1024) ** power for power, suffix in enumerate(_BINARY, 1)
}
_SUFFIXES = f"{' '.join(filter(None, _UNITS))}, or nothing"
# Kubernetes holds a quantity in an int64.
_MOST = 2**63 - 1
_MILLI = Fraction(1, 1000)
_MEBI = 2**20

CPU_RULE = 'a number of CPUs of at least 0.001, or a Kubernetes quantity such as "500m", "2" or "1.5"'
MEMORY_RULE = 'a Kubernetes quantity of bytes above 0, such as "512Mi", "4Gi" or "2G", or a whole number of bytes'
GPU_RULE = "a whole number of at least 1"
# A smaller number is not taken for bytes: whoever writes `memory=8` means something else.
_LEAST_NUMBER_OF_BYTES = 2**20


def parse_quantity(text: str) -> Fraction:
    """Return the exact value of a Kubernetes quantity: CPUs, or bytes.

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


def check_cpu(name: str, value: object) -> str:
    """Return an amount of CPUs, given as a number or a quantity, as a quantity.

    Raises:
        ConfigurationError: it is none, or finer than the thousandths in which Kubernetes counts.
    """
    amount = _amount(name, value, CPU_RULE)
    if amount < _MILLI or amount % _MILLI:
        raise argument_error(name, value, CPU_RULE, "nothing finer than a thousandth of a CPU can be asked for")
    return plain_text(value) or _cpu(amount)


def check_memory(name: str, value: object) -> str:
    """Return an amount of memory, given as a quantity or as bytes, as a quantity.

    Raises:
        ConfigurationError: it is none, a fraction of a byte, or a number below 1 MiB.
    """
    amount = _amount(name, value, MEMORY_RULE)
    text = plain_text(value)
    if text is None and amount < _LEAST_NUMBER_OF_BYTES:
        hint = f'a number is bytes; write {name}="{value}Mi" or {name}="{value}Gi"' if amount > 0 else None
        raise argument_error(name, value, MEMORY_RULE, hint)
    if amount < 1 or amount.denominator != 1:
        hint = f'"m" is a thousandth of a byte; did you mean "{text[:-1]}Mi"?' if text and text.endswith("m") else None
        raise argument_error(name, value, MEMORY_RULE, hint)
    return text or str(int(amount))


def check_gpu(name: str, value: object) -> str:
    """Return a whole number of GPUs, given as a number or as text, as text; no GPU is None.

    Raises:
        ConfigurationError: it is none.
    """
    amount = _amount(name, value, GPU_RULE)
    if amount < 1 or amount.denominator != 1:
        raise argument_error(name, value, GPU_RULE, "leave it out for no GPU" if amount == 0 else None)
    return plain_text(value) or str(int(amount))


def _amount(name: str, value: object, rule: str) -> Fraction:
    number, text = plain_number(value), plain_text(value)
    if number is not None and math.isfinite(number):
        # Through str, so that 0.1 is a tenth and not the binary fraction next to it.
        amount = Fraction(str(number))
    elif text is None:
        raise argument_error(name, value, rule)
    else:
        try:
            amount = parse_quantity(text)
        except ValueError as error:
            byte = re.fullmatch(r"([0-9.]+)([KkMGT]i?)[Bb]", text)
            hint = f'quantities have no "B": write "{byte[1]}{byte[2].replace("k", "K")}i"' if byte else str(error)
            raise argument_error(name, value, rule, hint.replace("ii", "i")) from None
    if amount > _MOST:
        raise argument_error(name, value, rule, "Kubernetes holds quantities up to 2**63 - 1")
    return amount


def _memory(amount: Fraction) -> str:
    """Return bytes as a quantity: exact where a unit of at least 1 MB divides them, else rounded up to whole Mi."""
    # Whole Mi where no unit fits: nobody can read a limit of 1127428915 bytes.
    size = math.ceil(amount)
    for suffix in ("Ei", "Pi", "Ti", "Gi", "Mi", "E", "P", "T", "G", "M"):
        count, rest = divmod(size, int(_UNITS[suffix]))
        if count and not rest:
            return f"{count}{suffix}"
    return str(size) if size < _MEBI else f"{-(-size // _MEBI)}Mi"


def _cpu(amount: Fraction) -> str:
    """Return CPUs as a quantity, rounded up to thousandths."""
    milli = math.ceil(amount * 1000)
    return f"{milli}m" if milli % 1000 else str(milli // 1000)


@dataclass(frozen=True, repr=False, init=False)
class Compute:
    """The CPUs, memory and GPUs of one step, on an executor that provisions machines (kubernetes).

        @rs.Asset(compute=rs.Compute(cpu=2, memory="8Gi", gpu=1))

    Each amount is both request and limit; None takes the executor's default. `cpu` and `gpu` are numbers or Kubernetes
    quantities, `memory` is a quantity or bytes. The fields hold quantities as text. On other executors `resolve()`
    warns.

    Raises:
        ConfigurationError: an amount is malformed, zero, or finer than a thousandth of a CPU or a byte.
    """

    cpu: str | None = None
    memory: str | None = None
    gpu: str | None = None

    def __init__(
        self, *, cpu: str | float | None = None, memory: str | float | None = None, gpu: str | float | None = None
    ) -> None:
        # The dataclass is frozen, so its fields are set past its own __setattr__.
        object.__setattr__(self, "cpu", None if cpu is None else check_cpu("cpu", cpu))
        object.__setattr__(self, "memory", None if memory is None else check_memory("memory", memory))
        object.__setattr__(self, "gpu", None if gpu is None else check_gpu("gpu", gpu))

    def __repr__(self) -> str:
        return constructor_repr(self, name="Compute")

    def to_protocol(self) -> spec.Compute:
        """Return the same amounts as a part of a StepSpec."""
        return spec.Compute(cpu=self.cpu, memory=self.memory, gpu=self.gpu)


def check_compute(value: object, owner: str, error: type[DefinitionError]) -> Compute | None:
    """Return a Compute or None.

    Raises:
        DefinitionError: the value is something else.
    """
    if value is None or isinstance(value, Compute):
        return value
    hint = call_hint(value)
    if isinstance(value, Mapping):
        hint = f"write compute=rs.Compute({', '.join(f'{key}={amount!r}' for key, amount in value.items()):.80})"
    elif plain_number(value) is not None or isinstance(value, str):
        hint = f"write compute=rs.Compute(cpu={value!r:.80}), or memory=, or gpu="
    raise argument_error("compute", value, "an rs.Compute or None", hint, owner=owner, error=error)


@dataclass(frozen=True, repr=False, init=False)
class ComputeEscalation:
    """More memory, and CPUs, for each retry of a step that ran out of memory, up to a ceiling.

        rs.RetryPolicy(3, escalate=rs.ComputeEscalation(max_memory="16Gi"))

    Memory is multiplied by `factor` until `max_memory`. CPUs are multiplied by `cpu_factor` until `max_cpu` where both
    are given. `on` lists the failure reasons that escalate; None is OUT_OF_MEMORY alone.

    Raises:
        ConfigurationError: an amount or a factor is invalid, or one of `cpu_factor` and `max_cpu` is missing.
    """

    max_memory: str
    factor: float = 2.0
    cpu_factor: float | None = None
    max_cpu: str | None = None
    on: tuple[FailureReason, ...] | None = None

    def __init__(
        self,
        *,
        max_memory: str | float,
        factor: float = 2.0,
        cpu_factor: float | None = None,
        max_cpu: str | float | None = None,
        on: Iterable[FailureReason] | FailureReason | None = None,
    ) -> None:
        fields = {
            "max_memory": check_memory("max_memory", max_memory),
            "factor": check_number("factor", factor, above=1, most=1000),
            "cpu_factor": check_number("cpu_factor", cpu_factor, above=1, most=1000, optional=True),
            "max_cpu": None if max_cpu is None else check_cpu("max_cpu", max_cpu),
            "on": None if on is None else _reasons(on),
        }
        for first, second in (("cpu_factor", "max_cpu"), ("max_cpu", "cpu_factor")):
            if fields[first] is None and fields[second] is not None:
                raise argument_error(
                    first,
                    None,
                    f"a value, as {second}={fields[second]!r} is given",
                    "CPUs grow by cpu_factor up to max_cpu; leave both out to let them be",
                )
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return constructor_repr(self, name="ComputeEscalation")

    @property
    def reasons(self) -> frozenset[FailureReason]:
        """The failure reasons that escalate."""
        return frozenset({FailureReason.OUT_OF_MEMORY} if self.on is None else self.on)


def _reasons(on: object) -> tuple[FailureReason, ...]:
    given = (on,) if isinstance(on, FailureReason) else on
    if not isinstance(given, Iterable) or isinstance(given, str) or not (items := tuple(given)):
        raise argument_error("on", on, "a list of at least one rs.FailureReason")
    for item in items:
        if not isinstance(item, FailureReason) or item is FailureReason.CANCELLED:
            names = ", ".join(str(reason) for reason in FailureReason if reason is not FailureReason.CANCELLED)
            raise argument_error("on", item, f"a list of {names}", "a cancelled step is not retried")
    # In the order of the enum, so that the same reasons in another order are an equal value.
    return tuple(reason for reason in FailureReason if reason in items)


def escalate(compute: Compute, escalation: ComputeEscalation, reason: FailureReason) -> Compute:
    """Return the amounts for the next attempt after one with `compute` failed for `reason`.

    An amount never becomes less, also where it is above the ceiling already. An amount that is None stays None: fill in
    the executor's defaults first.
    """
    if reason not in escalation.reasons:
        return compute
    memory, cpu = compute.memory, compute.cpu
    if memory is not None:
        memory = _grow(memory, escalation.factor, escalation.max_memory, _memory)
    if cpu is not None and escalation.cpu_factor is not None and escalation.max_cpu is not None:
        cpu = _grow(cpu, escalation.cpu_factor, escalation.max_cpu, _cpu)
    return Compute(cpu=cpu, memory=memory, gpu=compute.gpu)


def _grow(before: str, factor: float, ceiling: str, write: Callable[[Fraction], str]) -> str:
    limit = parse_quantity(ceiling)
    if parse_quantity(before) >= limit:
        return before
    # Through str, so that a factor of 1.1 is 11/10 and not the binary fraction next to it.
    amount = write(parse_quantity(before) * Fraction(str(factor)))
    return ceiling if parse_quantity(amount) >= limit else amount
