"""The structs and step.proto are the same contract, field for field."""

from __future__ import annotations

import enum
import re
from typing import Any

import msgspec
import pytest
from google.protobuf.descriptor import FieldDescriptor
from msgspec import inspect

from rivers.protocol import StepEvent, StepSpec
from rivers.protocol.struct_checks import _RULES
from rivers.protocol.v1 import step_pb2

FILE = step_pb2.DESCRIPTOR
WRAPPERS = {"StringMap", "StringList"}
UNIONS = {"Ref", "Input", "StepEvent"}
SCALARS = {
    inspect.StrType: FieldDescriptor.TYPE_STRING,
    inspect.BytesType: FieldDescriptor.TYPE_BYTES,
    inspect.BoolType: FieldDescriptor.TYPE_BOOL,
    inspect.IntType: FieldDescriptor.TYPE_INT64,
    inspect.FloatType: FieldDescriptor.TYPE_DOUBLE,
}
KINDS = {number: name.lower() for name, number in vars(FieldDescriptor).items() if name.startswith("TYPE_")}


def reachable(kind: inspect.Type, found: dict[str, Any]) -> None:
    """Collect every struct, enum and union of structs below a type, by name (unions by their set of variants)."""
    if isinstance(kind, inspect.StructType) and kind.cls.__name__ not in found:
        found[kind.cls.__name__] = kind
        for field in kind.fields:
            reachable(field.type, found)
    elif isinstance(kind, inspect.EnumType):
        found[kind.cls.__name__] = kind
    elif isinstance(kind, inspect.VarTupleType):
        reachable(kind.item_type, found)
    elif isinstance(kind, inspect.UnionType):
        for option in kind.types:
            reachable(option, found)


FOUND: dict[str, Any] = {}
for root in (StepSpec, StepEvent):
    reachable(inspect.type_info(root), FOUND)
del FOUND["LocalRef"]  # has no form outside of its process
STRUCTS: dict[str, inspect.StructType] = {n: kind for n, kind in FOUND.items() if isinstance(kind, inspect.StructType)}
ENUMS: dict[str, type[enum.Enum]] = {n: kind.cls for n, kind in FOUND.items() if isinstance(kind, inspect.EnumType)}


def options(kind: inspect.Type) -> list[inspect.Type]:
    """The types a field may have, without None and LocalRef."""
    kinds = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    return [
        option
        for option in kinds
        if not isinstance(option, inspect.NoneType)
        and not (isinstance(option, inspect.StructType) and option.cls.__name__ == "LocalRef")
    ]


def of_struct(field: inspect.Field) -> str:
    """A struct's field as the .proto has to spell it."""
    present = options(field.type)
    nullable = isinstance(field.type, inspect.UnionType) and inspect.NoneType() in field.type.types
    if isinstance(present[0], inspect.VarTupleType):
        return "StringList" if nullable else f"repeated {of_options(options(present[0].item_type))}"
    if isinstance(present[0], inspect.DictType):
        return "StringMap" if nullable else "map"
    kind = of_options(present)
    message = len(present) > 1 or isinstance(present[0], inspect.StructType)
    return kind if message or field.required else f"optional {kind}"


def of_options(present: list[inspect.Type]) -> str:
    if len(present) > 1:
        tags = {struct.tag for struct in present if isinstance(struct, inspect.StructType)}
        return next(name for name in sorted(UNIONS) if tags == set(FILE.message_types_by_name[name].fields_by_name))
    kind = present[0]
    if isinstance(kind, inspect.StructType | inspect.EnumType):
        return kind.cls.__name__
    return KINDS[SCALARS[type(kind)]]


def of_proto(field: Any) -> str:
    """A message's field as the .proto spells it."""
    if field.message_type is not None:
        kind = field.message_type.name
    elif field.enum_type is not None:
        kind = field.enum_type.name
    else:
        kind = KINDS[field.type]
    if isinstance(field.default_value, list):
        return f"repeated {kind}"
    return f"optional {kind}" if field.has_presence and field.message_type is None else kind


def test_messages() -> None:
    """The .proto has a message for every struct, one for every union and the two wrappers, and no other."""
    assert set(STRUCTS) | UNIONS | WRAPPERS == set(FILE.message_types_by_name)


@pytest.mark.parametrize("name", sorted(STRUCTS))
def test_fields(name: str) -> None:
    """A struct and its message have the same fields of the same kinds, required and optional in the same places."""
    expected = {field.name: of_struct(field) for field in STRUCTS[name].fields}
    assert expected == {field.name: of_proto(field) for field in FILE.message_types_by_name[name].fields}


@pytest.mark.parametrize("name", sorted(UNIONS))
def test_unions(name: str) -> None:
    """A union's message is one oneof, whose fields are the variants' tags and types."""
    message = FILE.message_types_by_name[name]
    expected = {struct.tag: cls for cls, struct in STRUCTS.items()}
    types = {field.name: field.message_type.name for field in message.fields if field.message_type}
    assert 1 == len(message.oneofs)
    assert set(message.fields) == set(message.oneofs[0].fields)
    assert {tag: expected[tag] for tag in types} == types
    assert len(types) == len(message.fields)


@pytest.mark.parametrize("name", sorted(ENUMS))
def test_enum_values(name: str) -> None:
    """An enum has the same members in the .proto, after an UNSPECIFIED that stands for no value."""
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", name).upper()
    members = ["UNSPECIFIED", *(member.name for member in ENUMS[name])]
    expected = {f"{prefix}_{member}": number for number, member in enumerate(members)}
    assert expected == {value.name: value.number for value in FILE.enum_types_by_name[name].values}


def test_enums() -> None:
    """The .proto has the structs' enums and no other."""
    assert set(ENUMS) == set(FILE.enum_types_by_name)


def test_enum_values_are_names() -> None:
    """An enum's value in msgpack and JSON is its member's name in lower case, so that both forms read alike."""
    for cls in ENUMS.values():
        assert [member.name.lower() for member in cls] == [member.value for member in cls]


def test_structs_ignore_what_they_do_not_know() -> None:
    """No struct forbids unknown fields: a newer minor may send them."""
    assert [] == [name for name, info in STRUCTS.items() if info.forbid_unknown_fields or info.array_like]


def test_every_rule_of_a_limit_has_a_field() -> None:
    """A limit written for a field that is not there would guard nothing."""
    names = {field.name for info in STRUCTS.values() for field in info.fields}
    full = {f"{name}.{field.name}" for name, info in STRUCTS.items() for field in info.fields}
    assert set() == set(_RULES) - names - full


def test_structs_are_found() -> None:
    """The walk over the structs finds every struct that the package exports."""
    import rivers.protocol as protocol

    exported = {
        name
        for name in protocol.__all__
        if isinstance(value := getattr(protocol, name), type) and issubclass(value, msgspec.Struct)
    }
    assert exported == {*STRUCTS, "LocalRef"}
