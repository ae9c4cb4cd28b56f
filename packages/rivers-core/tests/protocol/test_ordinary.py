"""The quick look at ordinary specs and results passes nothing that a check field by field would refuse."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from rivers.exceptions import SpecDecodeError
from rivers.protocol import (
    ConfiguredRef,
    Ending,
    ImportRef,
    Output,
    OutputRecord,
    StepResult,
    StepSpec,
    StoredInput,
    encode_event,
    encode_spec,
)
from rivers.protocol.field_checks import Refused
from rivers.protocol.ordinary import is_ordinary
from rivers.protocol.struct_checks import _CHECKS, _check_logs, _check_ref

HANDLER = ConfiguredRef(cls=ImportRef(module="shop.stores", qualname="Store"), json="{}")
INPUT = StoredInput(parameter="orders", key="orders", io_handler=HANDLER, metadata={"k": "v"})
OUTPUT = Output(name="total", key="total", io_handler=HANDLER, metadata={"k": "v"})
SPEC = StepSpec(
    run_id="run",
    step="total",
    attempt_id="attempt",
    function=ImportRef(module="shop.assets", qualname="total"),
    inputs=(INPUT,),
    outputs=(OUTPUT,),
    metadata={"owner": "shop"},
    tags=("daily",),
    timeout=60.0,
)
RECORD = OutputRecord(name="total", key="total", metadata='{"size_bytes":97}', data_version="1", map_keys=("a", "b"))
RESULT = StepResult(attempt_id="attempt", ending=Ending.SUCCEEDED, outputs=(RECORD,), worker="pid 1")
HOSTILE = (object(), b"x", 2**64, float("nan"), "\n\u202e" * 200_000, {1: 2}, [()], (object(),), (5,), ("\ud800",))


def is_plain(value: Any) -> bool:
    return is_ordinary(value, _check_ref, _check_logs)


def fields_of(*values: msgspec.Struct) -> list[Any]:
    return [
        pytest.param(value, name, id=f"{type(value).__name__}.{name}")
        for value in values
        for name in value.__struct_fields__
    ]


def test_ordinary() -> None:
    """What most steps send is ordinary."""
    assert is_plain(SPEC)
    assert is_plain(RESULT)


@pytest.mark.parametrize(("value", "name"), fields_of(SPEC, INPUT, OUTPUT, SPEC.logs, RESULT, RECORD, RESULT.timings))
def test_every_field_is_looked_at(value: msgspec.Struct, name: str) -> None:
    """A value of a wrong type in any field is refused, so the quick look leaves no field out."""
    for hostile in HOSTILE:
        changed = replace(value, **{name: hostile})
        whole: Any = {
            StoredInput: lambda: replace(SPEC, inputs=(INPUT, changed)),  # noqa: B023 - called at once
            Output: lambda: replace(SPEC, outputs=(OUTPUT, changed)),  # noqa: B023
            OutputRecord: lambda: replace(RESULT, outputs=(RECORD, changed)),  # noqa: B023
            type(SPEC.logs): lambda: replace(SPEC, logs=changed),  # noqa: B023
            type(RESULT.timings): lambda: replace(RESULT, timings=changed),  # noqa: B023
        }.get(type(changed), lambda: changed)()  # noqa: B023
        with pytest.raises(SpecDecodeError):
            encode_spec(whole) if isinstance(whole, StepSpec) else encode_event(whole)


def test_beyond_ascii() -> None:
    """A name beyond ASCII is not ordinary, and within the limits all the same; a control character is neither."""
    assert not is_plain(replace(SPEC, step="größe"))
    encode_spec(replace(SPEC, step="größe"))
    with pytest.raises(Refused):
        _CHECKS[StepSpec](replace(SPEC, step="\x07"))
