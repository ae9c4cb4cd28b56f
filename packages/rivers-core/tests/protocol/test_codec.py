"""The msgpack codec: the values that it carries, and those that it refuses before it builds them."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from rivers.exceptions import (
    SpecDecodeError,
    SpecLimitError,
    SpecTooDeepError,
    SpecTooLargeError,
    SpecVersionError,
)
from rivers.protocol import (
    LIMITS,
    CollectInput,
    ConfiguredRef,
    ImportRef,
    LiteralInput,
    LocalRef,
    LogRecord,
    ObjectInput,
    Output,
    StepEvent,
    StepSpec,
    StepStarted,
    codec,
    decode_event,
    decode_spec,
    encode_event,
    encode_spec,
)
from rivers.protocol.protobuf import decode_spec_protobuf, encode_spec_protobuf

REF = ImportRef(module="shop.assets", qualname="orders")
ENCODERS = [encode_spec, encode_spec_protobuf]

pack = msgspec.msgpack.encode


def tree_of(spec: StepSpec) -> dict[str, Any]:
    tree: dict[str, Any] = msgspec.msgpack.decode(encode_spec(spec))
    return tree


class TestVersion:
    @pytest.mark.parametrize("version", [0, 2, 99])
    def test_other_major(self, spec: StepSpec, version: int) -> None:
        """Another major is refused with both versions and what to do, even if nothing else of it makes sense."""
        with pytest.raises(SpecVersionError) as raised:
            decode_spec(pack({"protocol_version": version, "function": 7, "steps": [spec.step]}))
        assert f"version {version}; this side speaks version 1" in str(raised.value)
        assert "install the same version of rivers-core" in str(raised.value)

    def test_says_which_side_is_older(self) -> None:
        """The error names the side that has to be upgraded."""
        with pytest.raises(SpecVersionError, match="this side is older"):
            decode_spec(pack({"protocol_version": 2}))
        with pytest.raises(SpecVersionError, match="the other side is older"):
            decode_spec(pack({"protocol_version": 0}))

    @pytest.mark.parametrize("encode", ENCODERS)
    def test_another_major_is_not_encoded(self, spec: StepSpec, encode: Callable[[StepSpec], bytes]) -> None:
        """A version that the peer would refuse is refused by the sender."""
        with pytest.raises(SpecVersionError):
            encode(replace(spec, protocol_version=2))


class TestDepth:
    @pytest.mark.parametrize("levels", [1_000, 100_000])
    @pytest.mark.parametrize("unit", [b"\x91", b"\x81\x01", b"\x81\xa1x", b"\xdc\x00\x01"])
    def test_deep_nesting(self, unit: bytes, levels: int) -> None:
        """Nesting is refused as such before anything is built, however deep."""
        with pytest.raises(SpecTooDeepError):
            decode_spec(unit * levels)

    def test_limit_is_exact(self, spec: StepSpec) -> None:
        """32 levels are accepted in a field that is ignored, 33 are not."""
        at_limit: Any = 0
        for _ in range(LIMITS.depth - 1):
            at_limit = [at_limit]
        assert spec == decode_spec(pack({**tree_of(spec), "new": at_limit, "more": [[]] * 40}))
        with pytest.raises(SpecTooDeepError):
            decode_spec(pack({**tree_of(spec), "new": [at_limit]}))

    @pytest.mark.parametrize("encode", ENCODERS)
    def test_json_depth_is_exact(self, spec: StepSpec, encode: Callable[[StepSpec], bytes]) -> None:
        """32 levels of JSON are accepted, 33 are not; brackets inside of strings are text."""
        inside = '"' + "[{" * 100 + '\\"[\\\\"'
        deepest = '{"a":' + "[" * 31 + inside + "]" * 31 + "}"
        wide = '{"a":[' + ",".join(["[[{}]]"] * 500) + "]}"
        encode(replace(spec, config=deepest))
        encode(replace(spec, config=wide))
        encode(replace(spec, config='{"' + "[" * 99 + '":"' + "]" * 99 + '"}'))
        with pytest.raises(SpecTooDeepError, match="config"):
            encode(replace(spec, config='{"a":' + "[" * 32 + "]" * 32 + "}"))
        with pytest.raises(SpecTooDeepError, match="config"):
            encode(replace(spec, config='{"a":' + "[" * 100_000 + "]" * 100_000 + "}"))

    def test_a_literal_of_brackets_is_text(self, spec: StepSpec) -> None:
        """A JSON string of nothing but brackets nests not at all."""
        spec = replace(spec, inputs=(LiteralInput(parameter="p", json='"' + "[" * 1_000 + '"'),))
        assert spec == decode_spec(encode_spec(spec))


class TestSize:
    @pytest.mark.parametrize("encode", ENCODERS)
    def test_names_the_biggest_field(self, spec: StepSpec, encode: Callable[[StepSpec], bytes]) -> None:
        """A spec above the size limit is refused before it is sent, with the field that is to blame."""
        literals = tuple(LiteralInput(parameter=f"p{n}", json=f'"{"x" * 200_000}"') for n in range(21))
        with pytest.raises(
            SpecTooLargeError, match=r"expected at most 4128768; the biggest field is inputs with 4200\d+ bytes"
        ):
            encode(replace(spec, inputs=literals, config='{"a": 1}'))

    @pytest.mark.parametrize("encode", ENCODERS)
    def test_one_huge_field(self, spec: StepSpec, encode: Callable[[StepSpec], bytes]) -> None:
        """A spec that is too large is reported as such, also where its one field has a limit of its own."""
        with pytest.raises(SpecTooLargeError, match="the biggest field is config with 5000008 bytes"):
            encode(replace(spec, config='"' + "x" * 5_000_001 + '"'))

    @pytest.mark.parametrize("encode", ENCODERS)
    def test_too_many_values(self, spec: StepSpec, encode: Callable[[StepSpec], bytes]) -> None:
        """More than 250,000 values are refused, with the field that is to blame."""
        keys = tuple(str(number) for number in range(250_000))
        collect = CollectInput(parameter="all", key="graph/each", io_handler=REF, map_keys=keys)
        with pytest.raises(SpecTooLargeError, match="more than 250000 values; the biggest field is inputs"):
            encode(replace(spec, inputs=(collect,)))

    def test_many_values_within_the_limit(self, spec: StepSpec) -> None:
        """A collect of 100,000 mapping keys travels, also of keys as long as a UUID."""
        keys = tuple(f"{number:036}" for number in range(100_000))
        spec = replace(spec, inputs=(CollectInput(parameter="p", key="k", io_handler=REF, map_keys=keys),))
        assert spec == decode_spec(encode_spec(spec))
        assert spec == decode_spec_protobuf(encode_spec_protobuf(spec))

    def test_bytes_above_the_limit(self) -> None:
        """Bytes above the size limit are refused by their length, whatever they hold."""
        with pytest.raises(SpecTooLargeError):
            decode_spec(bytes(LIMITS.size + 1))
        with pytest.raises(SpecTooLargeError):
            decode_spec_protobuf(bytes(LIMITS.size + 1))

    @pytest.mark.parametrize(
        "head",
        [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdc\xff\xff", b"\xde\xff\xff", b"\xdb\xff\xff\xff\xff"],
    )
    @pytest.mark.parametrize("field", ["inputs", "tags", "metadata", "run_id", "unknown"])
    @pytest.mark.parametrize("rest", [b"", b"\x90" * 40, b"\x90" * 30_000], ids=["bare", "short", "long"])
    def test_length_bombs(self, field: str, head: bytes, rest: bytes) -> None:
        """A declared length that the bytes do not hold is an error at once, not an allocation."""
        with pytest.raises(SpecDecodeError):
            decode_spec(b"\x81" + pack(field) + head + rest)

    def test_scan_agrees_with_the_walk(self, spec: StepSpec) -> None:
        """The first look passes only bytes that the walk from value to value passes."""
        values = (0, -1, 300, 2**40, 1.5, "x" * 40, "ü" * 300, b"b" * 70_000, None, True, msgspec.msgpack.Ext(1, b"xx"))
        for value in values:
            for tree in (value, [value] * 20, {"k": {"k": [value]}}, [[[[value]]]] * 5):
                codec._scan(pack(tree))
                codec._walk(pack(tree))
                with pytest.raises((SpecDecodeError, IndexError)):
                    codec._walk(pack([tree, tree])[:-1] if value is None else pack([tree, 1])[:-1])
        codec._walk(encode_spec(spec))


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"run_id": ""}, "invalid run_id=''"),
    ({"step": "a\x1bb"}, "invalid step='a"),
    ({"step": "s" * 513}, r"invalid step='s+'… \(513 long\): expected 1 to 512 bytes"),
    ({"attempt": 0}, "invalid attempt=0: expected an int from 1 to 1000"),
    ({"attempt": True}, "invalid attempt=True"),
    ({"attempt": 1.5}, "invalid attempt=1.5"),
    ({"attempt_id": 5}, "invalid attempt_id=5"),
    ({"epoch": 2**63}, "invalid epoch=9223372036854775808"),
    ({"epoch": 10**5000}, "invalid epoch=<int of more than 64 bits>"),
    ({"node": "asset"}, "invalid node='asset': expected a NodeKind"),
    ({"function": None}, "invalid function=None"),
    (
        {"function": "shop.assets"},
        "invalid function='shop.assets': expected one of ImportRef, ConfiguredRef",
    ),
    ({"function": LocalRef(token="t")}, "invalid function=<LocalRef>.*\n.*never leaves its process"),
    ({"function": ImportRef(module="__main__", qualname="f")}, "invalid function.module='__main__'"),
    ({"function": ImportRef(module="a..b", qualname="f")}, "invalid function.module='a..b'"),
    ({"function": ImportRef(module="a.1", qualname="f")}, "invalid function.module='a.1'"),
    ({"function": ImportRef(module="m", qualname="f.<locals>.g")}, "invalid function.qualname=.*\n.*module scope"),
    ({"function": ImportRef(module="m", qualname="f.____")}, "invalid function.qualname='f.____'"),
    ({"function": ImportRef(module="m", qualname="f\n")}, r"invalid function.qualname='f.n'"),
    ({"function": ImportRef(module=None, qualname="f")}, "invalid function.module=None"),  # type: ignore[arg-type]
    ({"inputs": [LiteralInput(parameter="p", json="1")]}, "invalid inputs=<list of 1>: expected a tuple"),
    (
        {"inputs": (LiteralInput(parameter="p", json="1"), 5)},
        r"invalid inputs\[1\]=5: expected one of StoredInput,",
    ),
    (
        {"inputs": (LiteralInput(parameter="p", json="NaN"),)},
        r"invalid inputs\[0\].json: expected the text",
    ),
    ({"inputs": (ObjectInput(parameter="p", ref=LocalRef(token="t")),)}, r"invalid inputs\[0\].ref=<LocalRef>"),
    (
        {"outputs": (Output(name="o", key="o", io_handler=ConfiguredRef(cls=REF, json="[]")),)},
        r"invalid outputs\[0\].io_handler.json: expected the text of a JSON object",
    ),
    ({"config": {"a": 1}}, "invalid config=<dict of 1>: expected the text of a JSON object"),
    ({"config": '{"a": NaN}'}, "invalid config: expected"),
    ({"metadata": {"k": "x" * 262_145}}, r"invalid metadata\['k'\]='x+'… \(262145 long\)"),
    (
        {"metadata": {str(n): "x" * 70_000 for n in range(4)}},
        "invalid metadata=<dict of 4>: expected at most 262144 bytes",
    ),
    ({"metadata": {"k": 5}}, r"invalid metadata\['k'\]=5"),
    ({"metadata": {5: "v"}}, "invalid metadata=5"),
    ({"metadata": []}, "invalid metadata=<list of 0>: expected a dict"),
    ({"tags": ("a", "b\ud800")}, r"invalid tags\[1\]='b.ud800': expected Unicode text"),
    ({"group": object()}, "invalid group=<object>"),
    ({"compute": {"cpu": "1"}}, "invalid compute=<dict of 1>: expected a Compute"),
    ({"timeout": float("nan")}, "invalid timeout=nan"),
    ({"timeout": float("inf")}, "invalid timeout=inf: expected more than 0 and at most 2592000 seconds"),
    ({"timeout": -0.0}, "invalid timeout=-0.0"),
    ({"timeout": 2_592_000.5}, "invalid timeout=2592000.5"),
    ({"is_async": 1}, "invalid is_async=1: expected a bool"),
]


class TestLimits:
    @pytest.mark.parametrize("encode", ENCODERS)
    @pytest.mark.parametrize(("fields", "message"), WRONG, ids=[message for _, message in WRONG])
    def test_field(
        self, spec: StepSpec, fields: dict[str, Any], message: str, encode: Callable[[StepSpec], bytes]
    ) -> None:
        """A field outside its limit is named before it is sent, with its value shortened and what is expected."""
        with pytest.raises(SpecLimitError, match=message):
            encode(replace(spec, **fields))

    def test_json_content_is_not_shown(self, spec: StepSpec) -> None:
        """A resource's fields may be secrets: an error about them does not repeat them."""
        ref = ConfiguredRef(cls=REF, json='{"password": "hunter2" "broken"}')
        with pytest.raises(SpecLimitError) as raised:
            encode_spec(replace(spec, function=ref))
        assert "hunter2" not in str(raised.value)

    def test_errors_stay_short(self, spec: StepSpec) -> None:
        """An error about a megabyte does not quote the megabyte."""
        for tree in ({"node": "z" * 900_000}, {"function": {"kind": "z" * 900_000}}, {"step": "z" * 200_000}):
            with pytest.raises(SpecDecodeError) as raised:
                decode_spec(pack({**tree_of(spec), **tree}))
            assert len(str(raised.value)) < 700

    def test_table_is_frozen(self) -> None:
        """The table of limits cannot be changed at run time."""
        with pytest.raises(dataclasses.FrozenInstanceError):
            LIMITS.size = 5  # type: ignore[misc]

    def test_the_published_limits(self) -> None:
        """The limits are those of the security page."""
        assert (2**22 - 2**16, 32, 250_000, 10_000, 2**18) == (
            LIMITS.size, LIMITS.depth, LIMITS.nodes, LIMITS.inputs, LIMITS.text
        )  # fmt: skip
        assert (512, 255, 2**18, 2**14, 2**16) == (
            LIMITS.key, LIMITS.name, LIMITS.metadata, LIMITS.log, LIMITS.traceback
        )  # fmt: skip
        assert (30 * 24 * 3600, 1_000, 2**20) == (LIMITS.timeout, LIMITS.attempt, LIMITS.pickle)

    def test_more_than_10_000_inputs(self, spec: StepSpec) -> None:
        """A list of inputs has at most 10,000 elements: the error names the field, not only the number of values."""
        with pytest.raises(SpecLimitError, match="invalid inputs=<tuple of 10001>"):
            encode_spec(replace(spec, inputs=(LiteralInput(parameter="p", json="1"),) * 10_001))


class TestEvents:
    @pytest.mark.parametrize(
        "event",
        [StepStarted(attempt_id="a"), LogRecord(attempt_id="a", message="m" * LIMITS.log)],
        ids=["started", "log"],
    )
    def test_round_trip(self, event: StepEvent) -> None:
        """An event comes back as it went, up to its limit."""
        assert event == decode_event(encode_event(event))

    def test_long_message(self) -> None:
        """A log message of more than 16 KiB is refused; the capture cuts messages before that."""
        with pytest.raises(SpecLimitError, match=r"invalid message='m+'… \(16385 long\)"):
            encode_event(LogRecord(attempt_id="a", message="m" * 16_385))

    def test_a_spec_is_no_event(self, spec: StepSpec) -> None:
        """A spec is no event and an event no spec, as values and as bytes."""
        with pytest.raises(TypeError, match="takes a StepStarted, LogRecord or StepResult, not StepSpec"):
            encode_event(spec)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="takes a StepSpec, not StepStarted"):
            encode_spec(StepStarted(attempt_id="a"))  # type: ignore[arg-type]
        with pytest.raises(SpecDecodeError):
            decode_event(encode_spec(spec))
        with pytest.raises(SpecDecodeError):
            decode_spec(encode_event(StepStarted(attempt_id="a")))


def test_decoding_imports_nothing(spec: StepSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The modules that a spec names are not imported by encoding or decoding it, in either codec."""
    (tmp_path / "rivers_protocol_trap.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    trap = ImportRef(module="rivers_protocol_trap", qualname="orders")
    spec = replace(
        spec,
        function=trap,
        outputs=(Output(name="o", key="o", io_handler=ConfiguredRef(cls=trap, json="{}")),),
    )
    assert spec == decode_spec(encode_spec(spec))
    assert spec == decode_spec_protobuf(encode_spec_protobuf(spec))
    assert "rivers_protocol_trap" not in sys.modules


def test_every_prefix_is_an_error(spec: StepSpec) -> None:
    """A spec that is cut off anywhere is a SpecDecodeError, never a shorter spec."""
    data = encode_spec(replace(spec, timeout=1.5, config='{"a": "ü"}'))
    for end in range(len(data)):
        with pytest.raises(SpecDecodeError):
            decode_spec(data[:end])
