from __future__ import annotations

import pickle
from enum import StrEnum
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rivers._definitions.compute import Compute, ComputeEscalation, escalate, parse_quantity
from rivers.exceptions import ConfigurationError
from rivers.protocol import spec
from rivers.protocol.failure import FailureReason

OOM = FailureReason.OUT_OF_MEMORY


class Amount(StrEnum):
    HALF = "500m"


sizes = st.integers(1, 2**50)
units = st.sampled_from(["", "k", "M", "G", "Ki", "Mi", "Gi"])
memories = st.builds(lambda number, unit: f"{number}{unit}", st.integers(1, 2**20), units)
cpus = st.one_of(st.integers(1, 10_000).map(lambda milli: f"{milli}m"), st.integers(1, 512).map(str))
factors = st.floats(1.01, 1000, allow_nan=False)


class TestParseQuantity:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("0", 0),
            ("1", 1),
            ("0.5", Fraction(1, 2)),
            (".5", Fraction(1, 2)),
            ("5.", 5),
            ("500m", Fraction(1, 2)),
            ("1n", Fraction(1, 10**9)),
            ("1u", Fraction(1, 10**6)),
            ("1k", 1000),
            ("2M", 2 * 10**6),
            ("1G", 10**9),
            ("1T", 10**12),
            ("1P", 10**15),
            ("1E", 10**18),
            ("1Ki", 1024),
            ("1.5Gi", 3 * 2**29),
            ("1Ti", 2**40),
            ("1Pi", 2**50),
            ("1Ei", 2**60),
            ("1e3", 1000),
            ("1E3", 1000),
            ("12e+6", 12 * 10**6),
            ("5e-1", Fraction(1, 2)),
        ],
    )
    def test_table(self, text: str, expected: Fraction | int) -> None:
        """Every suffix of Kubernetes has its exact value."""
        assert expected == parse_quantity(text)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "abc",
            "1X",
            "-1",
            "1 Gi",
            " 1",
            "1Gi\n",
            "1K",
            "1mi",
            "1e",
            "1em",
            "1e999999999",
            ".",
            "1.2.3",
            "٣",
            "0x1",
            "1/2",
            "NaN",
            "1" * 65,
        ],
    )
    def test_refuses(self, text: str) -> None:
        """What Kubernetes would not read is a ValueError at once, also a number that would take a computer's memory."""
        with pytest.raises(ValueError, match="quantity"):
            parse_quantity(text)

    @given(st.text(alphabet="0123456789.eE+-kKMGTPinum ", max_size=12))
    def test_never_fails_otherwise(self, text: str) -> None:
        """Any text is a number of at least 0 or a ValueError of ours."""
        try:
            value = parse_quantity(text)
        except ValueError as error:
            message = str(error)
        else:
            message = "quantity" if value >= 0 else f"negative: {value}"

        assert "quantity" in message


class TestCompute:
    def test_to_protocol(self) -> None:
        """The value goes into a spec as it was written."""
        compute = Compute(cpu="1.5", memory="8Gi", gpu="1")

        assert spec.Compute(cpu="1.5", memory="8Gi", gpu="1") == compute.to_protocol()
        assert spec.Compute() == Compute().to_protocol()

    def test_is_a_value(self) -> None:
        """Equal ones are equal, hash alike, survive a pickle, and the repr pasted back is the same again."""
        compute = Compute(cpu="500m", gpu="2")
        again = eval(repr(compute))

        assert "Compute(cpu='500m', gpu='2')" == repr(compute)
        assert compute == again == pickle.loads(pickle.dumps(compute))
        assert 1 == len({compute, Compute(cpu="500m", gpu="2")})

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ({"cpu": 2}, "2"),
            ({"cpu": 0.5}, "500m"),
            ({"cpu": 0.1}, "100m"),
            ({"cpu": 1.5}, "1500m"),
            ({"cpu": Fraction(1, 4)}, "250m"),
            ({"gpu": 1}, "1"),
            ({"gpu": 2.0}, "2"),
            ({"memory": 2**30}, "1073741824"),
            ({"memory": 1e9}, "1000000000"),
            ({"cpu": Amount.HALF}, "500m"),
        ],
        ids=repr,
    )
    def test_numbers(self, given: dict[str, Any], expected: str) -> None:
        """Numbers of CPUs, GPUs and bytes are amounts like their texts, and arrive as text."""
        ((name, _),) = given.items()

        assert expected == getattr(Compute(**given), name)
        assert Compute(**given) == Compute(**{name: expected})  # type: ignore[arg-type]

    @pytest.mark.parametrize("parameter", ["cpu", "memory", "gpu"])
    @pytest.mark.parametrize(
        "value",
        ["", "abc", "0", "0Mi", "-1", "1X", 0, -1, 0.0001, float("nan"), float("inf"), True, b"1", "9Ei", "1e99"],
        ids=repr,
    )
    def test_refuses(self, parameter: str, value: Any) -> None:
        """Malformed, zero and too large amounts, and all that is neither text nor number, are refused by name."""
        with pytest.raises(ConfigurationError, match=f"^invalid {parameter}="):
            Compute(**{parameter: value})

    @pytest.mark.parametrize(
        ("given", "hint"),
        [
            ({"cpu": "0.5m"}, "thousandth of a CPU"),
            ({"memory": 8}, 'a number is bytes; write memory="8Mi" or memory="8Gi"'),
            ({"memory": 0}, None),
            ({"memory": "512m"}, 'did you mean "512Mi"'),
            ({"memory": "0.5"}, None),
            ({"memory": "64GB"}, 'write "64Gi"'),
            ({"memory": "64kb"}, 'write "64Ki"'),
            ({"memory": "64MiB"}, 'write "64Mi"'),
            ({"memory": "1X"}, "Ki Mi Gi"),
            ({"gpu": "0.5"}, None),
            ({"gpu": "0"}, "leave it out"),
        ],
    )
    def test_hints(self, given: dict[str, Any], hint: str | None) -> None:
        """The common slips get the remedy: thousandths of bytes, a B at the end, missing quotes, half a GPU."""
        with pytest.raises(ConfigurationError) as caught:
            Compute(**given)

        assert hint in caught.value.hint if hint and caught.value.hint else hint is caught.value.hint


class TestComputeEscalation:
    def test_is_a_value(self) -> None:
        """Reasons in any order make an equal value, and the repr pasted back is the same again."""
        one = ComputeEscalation(max_memory="1Gi", on=[FailureReason.TIMEOUT, OOM])
        other = ComputeEscalation(max_memory="1Gi", on=(OOM, FailureReason.TIMEOUT))
        again = eval(repr(one))

        assert one == other == again
        assert hash(one) == hash(other)
        assert "on=[FailureReason.TIMEOUT, FailureReason.OUT_OF_MEMORY]" in repr(one)

    @pytest.mark.parametrize(
        ("parameter", "given"),
        [
            ("max_memory", {"max_memory": "0"}),
            ("max_memory", {"max_memory": None}),
            ("factor", {"factor": 1}),
            ("factor", {"factor": 0.5}),
            ("factor", {"factor": float("inf")}),
            ("factor", {"factor": True}),
            ("cpu_factor", {"cpu_factor": "2", "max_cpu": "2"}),
            ("max_cpu", {"cpu_factor": 2, "max_cpu": "abc"}),
            ("max_cpu", {"cpu_factor": 2}),
            ("cpu_factor", {"max_cpu": "2"}),
            ("on", {"on": []}),
            ("on", {"on": "timeout"}),
            ("on", {"on": ["timeout"]}),
            ("on", {"on": [FailureReason.CANCELLED]}),
        ],
    )
    def test_refuses(self, parameter: str, given: dict[str, Any]) -> None:
        """Factors that do not grow, half a CPU rule, no reasons and malformed ceilings are refused by name."""
        with pytest.raises(ConfigurationError, match=f"^invalid {parameter}="):
            ComputeEscalation(**{"max_memory": "1Gi"} | given)


class TestEscalate:
    @pytest.mark.parametrize(
        ("memory", "factor", "ceiling", "expected"),
        [
            ("512Mi", 2, "4Gi", "1Gi"),
            ("512Mi", 1.5, "4Gi", "768Mi"),
            ("1Gi", 1.1, "4Gi", "1127Mi"),
            ("1000Mi", 1.1, "4Gi", "1100Mi"),
            ("1G", 2, "4G", "2G"),
            ("3Gi", 2, "4Gi", "4Gi"),
            ("2Gi", 2, "4Gi", "4Gi"),
            ("4Gi", 2, "4Gi", "4Gi"),
            ("8Gi", 2, "4Gi", "8Gi"),
            ("100", 1.5, "4Gi", "150"),
            ("7Ei", 1000, "7.5Ei", "7.5Ei"),
            (None, 2, "4Gi", None),
        ],
    )
    def test_memory(self, memory: str | None, factor: float, ceiling: str, expected: str | None) -> None:
        """Memory grows by the factor up to the ceiling, never shrinks, and what is not given stays so."""
        grown = escalate(Compute(memory=memory), ComputeEscalation(max_memory=ceiling, factor=factor), OOM)

        assert Compute(memory=expected) == grown

    @pytest.mark.parametrize(
        ("cpu", "factor", "ceiling", "expected"),
        [
            ("500m", 2, "4", "1"),
            ("1", 1.5, "4", "1500m"),
            ("3", 2, "4", "4"),
            ("8", 2, "4", "8"),
            ("1m", 1.1, "4", "2m"),
        ],
    )
    def test_cpu(self, cpu: str, factor: float, ceiling: str, expected: str) -> None:
        """CPUs grow where a factor for them is given, in whole thousandths."""
        rule = ComputeEscalation(max_memory="4Gi", cpu_factor=factor, max_cpu=ceiling)

        assert expected == escalate(Compute(cpu=cpu), rule, OOM).cpu
        assert cpu == escalate(Compute(cpu=cpu), ComputeEscalation(max_memory="4Gi"), OOM).cpu

    @pytest.mark.parametrize("reason", FailureReason)
    def test_reasons(self, reason: FailureReason) -> None:
        """Only the listed reasons escalate, and that is OUT_OF_MEMORY where none is listed."""
        before = Compute(memory="1Gi", gpu="1")
        by_default = escalate(before, ComputeEscalation(max_memory="4Gi"), reason)
        by_list = escalate(before, ComputeEscalation(max_memory="4Gi", on=[FailureReason.TIMEOUT]), reason)

        assert (reason is OOM) == (by_default != before)
        assert (reason is FailureReason.TIMEOUT) == (by_list != before)
        assert "1" == by_default.gpu

    @given(memories, cpus, factors, factors, memories, cpus)
    def test_between_before_and_ceiling(
        self, memory: str, cpu: str, factor: float, cpu_factor: float, max_memory: str, max_cpu: str
    ) -> None:
        """Each step asks for more until the ceiling is reached, and never for more than that."""
        rule = ComputeEscalation(max_memory=max_memory, factor=factor, cpu_factor=cpu_factor, max_cpu=max_cpu)
        before = Compute(memory=memory, cpu=cpu)
        after = escalate(before, rule, OOM)

        for old, new, ceiling in ((memory, after.memory, max_memory), (cpu, after.cpu, max_cpu)):
            assert new is not None
            assert parse_quantity(old) <= parse_quantity(new) <= max(parse_quantity(old), parse_quantity(ceiling))
            assert (new == old) == (parse_quantity(old) >= parse_quantity(ceiling) or old == ceiling)
