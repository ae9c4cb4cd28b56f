"""Properties of the protobuf form alone; other tests run both codecs."""

from __future__ import annotations

import subprocess
import sys

import pytest
from msgspec.structs import replace

from rivers.exceptions import SpecDecodeError, SpecTooLargeError, SpecVersionError
from rivers.protocol import LIMITS, Ending, LogRecord, OutputRecord, StepResult, StepSpec, StepStarted
from rivers.protocol import protobuf as pb
from rivers.protocol.v1 import step_pb2


def test_messages_there_and_back(spec: StepSpec) -> None:
    """A spec is a StepSpec message and an event a StepEvent message, and both come back as they went."""
    started = StepStarted(attempt_id="a", time=1.5)
    assert isinstance(pb.to_protobuf(spec), step_pb2.StepSpec)
    assert isinstance(pb.to_protobuf(started), step_pb2.StepEvent)
    assert spec == pb.from_protobuf(pb.to_protobuf(spec))
    assert started == pb.from_protobuf(pb.to_protobuf(started))


def test_message_of_another_major(spec: StepSpec) -> None:
    """The version gate holds for messages that somebody else decoded, before the rest of them is looked at."""
    with pytest.raises(SpecVersionError, match="version 7; this side speaks version 1"):
        pb.from_protobuf(step_pb2.StepSpec(protocol_version=7))


def test_wrong_types(spec: StepSpec) -> None:
    """A value that is no spec or event is a TypeError that names the accepted types."""
    with pytest.raises(TypeError, match="StepSpec or StepEvent message, not Ref"):
        pb.from_protobuf(step_pb2.Ref())
    with pytest.raises(TypeError, match="only a StepSpec or an event crosses a process, not a str"):
        pb.to_protobuf("spec")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="LogRecord does not go into a StepSpec"):
        pb.encode_spec_protobuf(LogRecord(attempt_id="a", message="m"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="StepSpec does not go into a StepEvent"):
        pb.encode_event_protobuf(spec)  # type: ignore[arg-type]


def test_errors_name_the_field(spec: StepSpec) -> None:
    """A message without a required field is refused with the path of the field."""
    message = pb.to_protobuf(spec)
    assert isinstance(message, step_pb2.StepSpec)
    message.inputs.add().literal.json = "1"
    message.inputs.add()
    with pytest.raises(SpecDecodeError, match=r"missing inputs\[1\]: expected one of stored, collect, stream"):
        pb.from_protobuf(message)
    del message.inputs[:]
    message.outputs.add(name="o", key="o")
    with pytest.raises(SpecDecodeError, match=r"missing outputs\[0\].io_handler: expected a value"):
        pb.from_protobuf(message)
    del message.outputs[:]
    message.node = 9  # type: ignore[assignment]
    with pytest.raises(SpecDecodeError, match=r"invalid node=9: expected one of 1 \(ASSET\), 2 \(MULTI\)"):
        pb.from_protobuf(message)


def test_an_empty_fan_out_is_not_an_absent_one() -> None:
    """Absent and empty lists stay apart: a DYNAMIC output without elements is a result."""
    for keys in (None, (), ("a", "b")):
        record = OutputRecord(name="each", key="graph/each", map_keys=keys)
        event = StepResult(attempt_id="a", ending=Ending.SUCCEEDED, outputs=(record,))
        assert event == pb.decode_event_protobuf(pb.encode_event_protobuf(event))


def test_large_message(spec: StepSpec) -> None:
    """A message above the size limit is refused, however it was made."""
    message = step_pb2.StepSpec(tags=["x" * 200_000] * (LIMITS.size // 200_000 + 1))
    with pytest.raises(SpecTooLargeError):
        pb.from_protobuf(message)


@pytest.mark.parametrize("number", [10, 11, 14, 22, 1000], ids=["inputs", "outputs", "tags", "inner", "unknown"])
def test_many_fields_are_counted_before_they_are_built(spec: StepSpec, number: int) -> None:
    """Megabytes of two-byte messages are refused by their number, not after two million of them were built."""
    tag = number << 3 | 2
    unit = bytes([tag & 0x7F | 0x80, tag >> 7, 0]) if tag > 0x7F else bytes([tag, 0])
    head = pb.encode_spec_protobuf(spec)
    with pytest.raises(SpecTooLargeError, match="more than 250000 values"):
        pb.decode_spec_protobuf(head + unit * ((LIMITS.size - len(head)) // len(unit)))


def test_the_scan_goes_into_messages(spec: StepSpec) -> None:
    """Fields are counted at every level, not only at the top."""
    record = b"\x0a\x01n\x12\x01k"
    many = (b"\x1a" + bytes([len(record)]) + record) * 85_000
    length = bytes([len(many) & 0x7F | 0x80, len(many) >> 7 & 0x7F | 0x80, len(many) >> 14])
    assert LIMITS.nodes * 2 < len(many) < 1 << 21
    with pytest.raises(SpecTooLargeError, match="more than 250000 values"):
        pb.decode_event_protobuf(b"\x1a" + length + many)


def test_every_prefix_is_an_error_or_lacks_something(spec: StepSpec) -> None:
    """A message that was cut off raises an error of ours, or is a message that ends with a whole field."""
    data = pb.encode_spec_protobuf(replace(spec, timeout=1.5, config='{"a": "ü"}', metadata={"k": "v"}))
    whole = 0
    for end in range(len(data)):
        try:
            whole += isinstance(pb.decode_spec_protobuf(data[:end]), StepSpec)
        except SpecDecodeError:
            continue
    assert whole < 10


def test_without_protobuf() -> None:
    """Where protobuf is not installed, rivers.protocol works, and its protobuf module names the package to install."""
    code = (
        "import sys; sys.modules['google.protobuf'] = None\n"
        "import rivers.protocol\n"
        "try: import rivers.protocol.protobuf\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert "rivers.protocol.protobuf needs protobuf: pip install 'rivers-core[protobuf]'\n" == done.stdout


def test_protocol_does_not_load_protobuf() -> None:
    """Importing rivers.protocol does not import protobuf."""
    code = "import sys, rivers.protocol; print('google.protobuf' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert "False\n" == done.stdout
