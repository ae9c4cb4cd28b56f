"""The golden corpus of proto/conformance through both codecs."""

from __future__ import annotations

import base64
import enum
import hashlib
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rivers import exceptions
from rivers.exceptions import SpecDecodeError
from rivers.protocol import StepEvent, StepSpec, decode_event, decode_spec, encode_event, encode_spec
from rivers.protocol import protobuf as pb
from rivers.protocol.v1 import step_pb2

CORPUS = Path(__file__).resolve().parents[4] / "proto" / "conformance"
FILES = ("specs.json", "events.json", "rejected.json")
CODECS: dict[tuple[str, str], tuple[Callable[[bytes], Any], Callable[[Any], bytes]]] = {
    ("msgpack", "spec"): (decode_spec, encode_spec),
    ("msgpack", "event"): (decode_event, encode_event),
    ("protobuf", "spec"): (pb.decode_spec_protobuf, pb.encode_spec_protobuf),
    ("protobuf", "event"): (pb.decode_event_protobuf, pb.encode_event_protobuf),
}
FORMS = ("msgpack", "protobuf")


def cases(*names: str) -> list[Any]:
    """The cases of these files in every released minor, with the minor and the name as the test's id."""
    found = []
    for path in sorted(CORPUS.glob("v*/*.json")):
        if path.name in names:
            for case in json.loads(path.read_text(encoding="utf-8")):
                found.append(pytest.param(case, id=f"{path.parent.name} {case['name']}"))
    return found


def value_of(case: dict[str, Any]) -> Any:
    """The value of a case's JSON form, which need not be within the limits."""
    kind: Any = StepSpec if "spec" in case else StepEvent
    return msgspec.json.decode(json.dumps(case.get("spec") or case["event"]), type=kind)


def takes(case: dict[str, Any]) -> str:
    return case.get("takes") or ("spec" if "spec" in case else "event")


def unchecked(form: str, value: Any) -> bytes:
    """Bytes as a peer without any checks would send them."""
    if form == "msgpack":
        return msgspec.msgpack.encode(value)
    message = step_pb2.StepSpec() if isinstance(value, StepSpec) else step_pb2.StepEvent()
    pb._fill(message, value)
    data: bytes = message.SerializeToString()
    return data


def test_corpus_is_there() -> None:
    """Every released minor has its three files, each with cases, and the corpus says where it is from."""
    minors = sorted(path.name for path in CORPUS.glob("v*"))
    assert "v1.0" in minors
    for minor in minors:
        for name in FILES:
            assert 10 < len(json.loads((CORPUS / minor / name).read_text(encoding="utf-8")))
    assert (CORPUS / "PROVENANCE.md").is_file()


def test_released_minors_are_unchanged() -> None:
    """The files of every released minor have the digests of SHA256SUMS; only the newest minor may be unreleased."""
    lines = (CORPUS / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    released = {name: digest for digest, name in (line.split("  ") for line in lines)}
    *older, newest = sorted(path.name for path in CORPUS.glob("v*"))

    assert released == {name: hashlib.sha256((CORPUS / name).read_bytes()).hexdigest() for name in released}
    assert {f"{minor}/{name}" for minor in older for name in FILES} <= set(released)
    assert set(released) <= {f"{minor}/{name}" for minor in (*older, newest) for name in FILES}


@pytest.mark.parametrize("name", FILES)
def test_cases_are_carried_on(name: str) -> None:
    """Every case of a released minor is in the next one too, so that its writers and readers are judged by it."""
    minors = sorted(CORPUS.glob("v*"))
    names = [{case["name"] for case in json.loads((minor / name).read_text(encoding="utf-8"))} for minor in minors]

    assert [set()] * (len(names) - 1) == [older - newer for older, newer in itertools.pairwise(names)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", cases("specs.json", "events.json"))
def test_valid(case: dict[str, Any], form: str) -> None:
    """Golden bytes decode to the value of their JSON form, and what we encode decodes to it again."""
    decode, encode = CODECS[form, takes(case)]
    value = value_of(case)
    assert value == decode(base64.b64decode(case[form]))
    assert value == decode(encode(value))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", [case for case in cases("rejected.json") if "takes" not in case.values[0]])
def test_rejected_value(case: dict[str, Any], form: str) -> None:
    """A value outside the limits is refused with its error on both sides: here and by a peer that gets it anyhow."""
    decode, encode = CODECS[form, takes(case)]
    value = value_of(case)
    expected = getattr(exceptions, case["error"])
    with pytest.raises(SpecDecodeError) as here:
        encode(value)
    assert expected is type(here.value)
    if '"kind": "local"' in json.dumps(case) and form == "protobuf":
        return  # the .proto has no place for it, so no peer can send it
    with pytest.raises(SpecDecodeError) as there:
        decode(unchecked(form, value))
    assert expected is type(there.value)


@pytest.mark.parametrize(
    ("case", "form"),
    [
        pytest.param(case.values[0], form, id=f"{case.id} {form}")
        for case in cases("rejected.json")
        for form in FORMS
        if form in case.values[0]
    ],
)
def test_rejected_bytes(case: dict[str, Any], form: str) -> None:
    """Bytes that are no acceptable value raise their error and no other."""
    decode, _ = CODECS[form, takes(case)]
    with pytest.raises(SpecDecodeError) as raised:
        decode(base64.b64decode(case[form]))
    assert getattr(exceptions, case["error"]) is type(raised.value)


@pytest.mark.parametrize("minor", ["v1.0", "v1.1", "v1.2", "v1.3", "v1.4"])
def test_bytes_with_a_table_of_refs(minor: str) -> None:
    """Protocol 1.1 writes repeated refs once; 1.0 did not know the table, and golden bytes of 1.0 have none."""
    found = []
    for case in cases("specs.json"):
        if case.id.startswith(minor):
            tree = msgspec.msgpack.decode(base64.b64decode(case.values[0]["msgpack"]))
            message = step_pb2.StepSpec.FromString(base64.b64decode(case.values[0]["protobuf"]))
            assert len(tree.get("refs", ())) == len(message.refs)
            found += [(case.values[0]["name"], len(message.refs))] if message.refs else []
    assert ([("repeated refs", 2)] if minor != "v1.0" else []) == found


def test_every_field_and_variant_is_covered() -> None:
    """The valid cases of the newest minor use every field, every variant and every enum value of the protocol."""
    newest = max(path.name for path in CORPUS.glob("v*"))
    seen: set[str] = set()
    for case in cases("specs.json", "events.json"):
        if case.id.startswith(newest):
            collect(value_of(case.values[0]), seen)
    wanted: set[str] = set()
    for name in step_pb2.DESCRIPTOR.message_types_by_name.values():
        if not {"StringMap", "StringList", "Ref", "Input", "StepEvent"} & {name.name}:
            wanted |= {f"{name.name}.{field.name}" for field in name.fields}
    for kind in step_pb2.DESCRIPTOR.enum_types_by_name.values():
        wanted |= {value.name for value in kind.values if value.number}
    # Another protocol_version is another major, which is refused; the table of refs is in the bytes alone.
    assert {"StepSpec.protocol_version", "StepSpec.refs", "TableRef.index"} == wanted - seen


def collect(value: Any, seen: set[str]) -> None:
    """Note which fields differ from their default (required ones: are there) and which enum values occur."""
    if isinstance(value, tuple):
        for item in value:
            collect(item, seen)
    elif isinstance(value, msgspec.Struct):
        for field in msgspec.structs.fields(value):
            item = getattr(value, field.name)
            if field.required or item != field.default:
                seen.add(f"{type(value).__name__}.{field.name}")
            collect(item, seen)
    elif isinstance(value, enum.Enum):
        values = step_pb2.DESCRIPTOR.enum_types_by_name[type(value).__name__].values_by_number
        seen.add(values[pb._NUMBERS[type(value)][value]].name)
