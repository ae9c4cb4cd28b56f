"""A peer of another minor version: it sends fields that are not known here, or leaves out those it does not know."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rivers.protocol import StepEvent, StepSpec, decode_event, decode_spec
from rivers.protocol.protobuf import decode_event_protobuf, decode_spec_protobuf, from_protobuf
from rivers.protocol.v1 import step_pb2

CORPUS = Path(__file__).resolve().parents[4] / "proto" / "conformance"
CASES = [
    pytest.param(case, id=f"{path.parent.name} {case['name']}")
    for path in sorted(CORPUS.glob("v*/*.json"))
    for case in json.loads(path.read_text(encoding="utf-8"))
    if "error" not in case
]
UNKNOWN_FIELDS = b"\xc2\x3e\x03new" + b"\xc8\x3e\x07" + b"\xc2\x3e\x02\x0a\x00"
"""Field 1000 as text, field 1001 as a number, field 1000 again as a message."""

Edit = Callable[[dict[str, Any]], dict[str, Any]]


def value_of(case: dict[str, Any]) -> Any:
    kind: Any = StepSpec if "spec" in case else StepEvent
    return msgspec.json.decode(json.dumps(case.get("spec") or case["event"]), type=kind)


def structs_edited(value: Any, edit: Callable[[msgspec.Struct, dict[str, Any]], dict[str, Any]]) -> Any:
    """A value as the tree that goes onto the wire, with each struct's map edited."""
    if isinstance(value, msgspec.Struct):
        tree = {name: structs_edited(getattr(value, name), edit) for name in value.__struct_fields__}
        config = value.__struct_config__
        if config.tag_field:
            tree[config.tag_field] = config.tag
        return edit(value, tree)
    return [structs_edited(item, edit) for item in value] if isinstance(value, tuple) else value


def with_unknown_fields(value: msgspec.Struct, tree: dict[str, Any]) -> dict[str, Any]:
    return {"new_first": {"deep": [1, {"x": b"y"}]}, **tree, "new_last": "text"}


def without_defaults(value: msgspec.Struct, tree: dict[str, Any]) -> dict[str, Any]:
    fields = {field.name: field.default for field in msgspec.structs.fields(value)}
    return {name: item for name, item in tree.items() if name not in fields or getattr(value, name) != fields[name]}


def messages(message: Any) -> list[Any]:
    """A message and all messages in it, but for the entries of maps, which have no fields of their own."""
    found = [message]
    for field, item in message.ListFields():
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for inner in [item] if hasattr(item, "ListFields") else item:
                found += messages(inner)
    return found


@pytest.mark.parametrize("edit", [with_unknown_fields, without_defaults])
@pytest.mark.parametrize("case", CASES)
def test_msgpack(case: dict[str, Any], edit: Any) -> None:
    """Fields of a newer minor are ignored at every level, those an older one leaves out take their defaults."""
    value = value_of(case)
    decode: Callable[[bytes], Any] = decode_spec if "spec" in case else decode_event
    assert value == decode(msgspec.msgpack.encode(structs_edited(value, edit)))


@pytest.mark.parametrize("case", CASES)
def test_protobuf_newer(case: dict[str, Any]) -> None:
    """Fields of a newer minor are ignored in every message."""
    kind = step_pb2.StepSpec if "spec" in case else step_pb2.StepEvent
    decode: Callable[[bytes], Any] = decode_spec_protobuf if "spec" in case else decode_event_protobuf
    message = kind.FromString(base64.b64decode(case["protobuf"]))
    for inner in messages(message):
        inner.MergeFromString(UNKNOWN_FIELDS)
    data = message.SerializeToString()
    assert data.count(UNKNOWN_FIELDS) == len(messages(message))
    assert value_of(case) == decode(data)


@pytest.mark.parametrize("case", CASES)
def test_protobuf_older(case: dict[str, Any]) -> None:
    """Fields that are left out take the structs' defaults, not protobuf's zeros."""
    value = value_of(case)
    kind = step_pb2.StepSpec if "spec" in case else step_pb2.StepEvent
    message = kind.FromString(base64.b64decode(case["protobuf"]))
    bare = message if "spec" in case else getattr(message, message.WhichOneof("event"))
    for field in msgspec.structs.fields(value):
        if field.name != "refs" and not field.required and getattr(value, field.name) == field.default:
            bare.ClearField(field.name)
    assert value == from_protobuf(message)
