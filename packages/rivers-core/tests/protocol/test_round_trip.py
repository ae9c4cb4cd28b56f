"""Whatever is within the limits comes back equal from both codecs; whatever is not is a typed error."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from rivers.exceptions import SpecDecodeError
from rivers.protocol import (
    CollectInput,
    Compute,
    ConfiguredRef,
    ElementInput,
    Ending,
    Evidence,
    Failure,
    FailureReason,
    GroupInput,
    ImportRef,
    InlineRef,
    InlineValue,
    InnerStep,
    LiteralInput,
    LoggerLevel,
    LogRecord,
    LogSettings,
    NodeKind,
    ObjectInput,
    Output,
    OutputMode,
    OutputRecord,
    PickledRef,
    ResourceInput,
    StepEvent,
    StepResult,
    StepSpec,
    StepStarted,
    StoredInput,
    StreamInput,
    Timings,
    decode_event,
    decode_spec,
    encode_event,
    encode_spec,
)
from rivers.protocol import protobuf as pb
from rivers.protocol.ordinary import is_ordinary
from rivers.protocol.struct_checks import _CHECKS, _check_logs, _check_ref

SPEC_CODECS = [(encode_spec, decode_spec), (pb.encode_spec_protobuf, pb.decode_spec_protobuf)]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
keys = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20)
segments = st.from_regex(r"[^\W\d]\w{0,8}", fullmatch=True).filter(lambda text: not text.startswith("__"))
dotted = st.lists(segments, min_size=1, max_size=4).map(".".join)
int64 = st.integers(-(2**63), 2**63 - 1)
finite = st.floats(allow_nan=False, allow_infinity=False)
maps = st.dictionaries(texts, texts, max_size=3)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | finite | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
json_texts = json_values.map(json.dumps)
json_objects = st.dictionaries(texts, json_values, max_size=3).map(json.dumps)


def tuples(items: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(items, max_size=3).map(tuple)


def of(kind: Any, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A struct's values: its required fields always, each of the others or its default."""
    required = {field.name for field in msgspec.structs.fields(kind) if field.required}
    return st.fixed_dictionaries(
        {name: fields[name] for name in fields if name in required},
        optional={name: fields[name] for name in fields if name not in required},
    ).map(lambda chosen: kind(**chosen))


import_refs = of(ImportRef, module=dotted, qualname=dotted)
digests = st.binary(min_size=32, max_size=32)
refs = st.one_of(
    import_refs,
    of(ConfiguredRef, cls=import_refs, json=json_objects),
    of(PickledRef, payload=st.binary(min_size=1, max_size=40), sha256=digests, hmac=digests),
    of(InlineRef),
)
values = tuples(of(InlineValue, key=keys, data=st.binary(min_size=1, max_size=40)))
inputs = st.one_of(
    of(StoredInput, parameter=keys, key=keys, io_handler=refs, run_id=keys, metadata=maps),
    of(CollectInput, parameter=keys, key=keys, io_handler=refs, map_keys=tuples(keys), run_id=keys),
    of(StreamInput, parameter=keys, key=keys, io_handler=refs, map_keys=tuples(keys), live=st.booleans(), run_id=keys),
    of(
        GroupInput,
        parameter=keys,
        key=keys,
        io_handler=refs,
        keys=keys,
        run_id=keys,
        how=st.sampled_from(["collect", "stream"]),
    ),
    of(LiteralInput, parameter=keys, json=json_texts),
    of(ObjectInput, parameter=keys, ref=refs),
    of(ResourceInput, parameter=keys, name=keys, ref=refs),
    of(ElementInput, parameter=keys, step=keys, how=st.sampled_from(["value", "element", "collect", "stream"])),
)
specs = of(
    StepSpec,
    run_id=keys,
    step=keys,
    attempt=st.integers(1, 1000),
    attempt_id=keys,
    epoch=st.integers(0, 2**63 - 1),
    node=st.sampled_from(NodeKind),
    function=refs,
    is_async=st.booleans(),
    inputs=tuples(inputs),
    outputs=tuples(of(Output, name=keys, key=keys, io_handler=refs, mode=st.sampled_from(OutputMode), metadata=maps)),
    config=json_objects,
    metadata=maps,
    tags=tuples(texts),
    kinds=tuples(texts),
    group=texts,
    code_version=texts,
    run_tags=maps,
    values=values,
    compute=of(Compute, cpu=texts, memory=texts, gpu=texts),
    timeout=st.floats(0, 2_592_000, exclude_min=True),
    logs=of(LogSettings, level=int64, capture=st.booleans(), loggers=tuples(of(LoggerLevel, name=keys, level=int64))),
    inner=tuples(
        of(
            InnerStep,
            key=keys,
            node=st.sampled_from(NodeKind),
            function=refs,
            inputs=tuples(inputs),
            is_async=st.booleans(),
            mapped_over=keys,
        )
    ),
)
evidence = of(
    Evidence,
    exit_code=int64,
    signal=int64,
    container_reason=texts,
    node=texts,
    worker=texts,
    memory_peak=int64,
    memory_limit=int64,
    oom_kills=int64,
    timed_out=st.booleans(),
    cancelled=st.booleans(),
    native_traceback=texts,
    detail=texts,
)
failures = of(
    Failure,
    reason=st.sampled_from(FailureReason),
    type=texts,
    message=texts,
    mro=tuples(texts),
    args=st.lists(json_values, max_size=3).map(json.dumps),
    traceback=texts,
    notes=tuples(texts),
    evidence=evidence,
    transient=st.booleans(),
)
events = st.one_of(
    of(StepStarted, attempt_id=keys, worker=texts, time=finite),
    of(
        LogRecord,
        attempt_id=keys,
        message=texts,
        level=int64,
        logger=texts,
        stream=st.sampled_from(["log", "stdout", "stderr"]),
        time=finite,
    ),
    of(
        StepResult,
        attempt_id=keys,
        ending=st.sampled_from(Ending),
        outputs=tuples(
            of(
                OutputRecord,
                name=keys,
                key=keys,
                metadata=json_objects,
                data_version=texts,
                map_keys=tuples(keys),
                values=values,
            )
        ),
        failure=failures,
        timings=of(Timings, queued=finite, boot=finite, load=finite, run=finite, store=finite),
        worker=texts,
    ),
)

HOSTILE = st.one_of(
    st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 2**63, 2**64, -(2**63) - 1, 10**400, 1e308]),
    st.sampled_from([dt.datetime(2024, 1, 1), dt.date(2024, 1, 1), dt.timedelta(1)]),  # noqa: DTZ001
    st.sampled_from(["\ud800", "a\x00b", "", "NaN", "{", "[]", b"", b"orders", bytearray(b"x"), memoryview(b"x")]),
    st.sampled_from([object(), object, len, set(), frozenset("a"), NodeKind.ASSET, OutputMode.VALUE, Exception("x")]),
    st.sampled_from([(), [], {}, (1,), {1: 2}, {"a": math.nan}, {"a": b"x"}, ((),), True, False, 0, 1.0, None]),
    st.text(),
    st.binary(),
    int64,
    st.floats(),
    refs,
    inputs,
)


@given(specs)
def test_spec(spec: StepSpec) -> None:
    """A spec within the limits comes back equal, with the same types, from both codecs."""
    for encode, decode in SPEC_CODECS:
        assert repr(spec) == repr(sorted_like(decode(encode(spec)), spec))


@given(events)
def test_event(event: StepEvent) -> None:
    """An event or result comes back equal from both codecs."""
    assert event == decode_event(encode_event(event))
    assert event == pb.decode_event_protobuf(pb.encode_event_protobuf(event))


@given(specs)
def test_json_form(spec: StepSpec) -> None:
    """The JSON form of the golden corpus holds every spec, too."""
    assert spec == msgspec.json.decode(msgspec.json.encode(spec), type=StepSpec)


@pytest.mark.parametrize(("encode", "decode"), SPEC_CODECS, ids=["msgpack", "protobuf"])
@given(spec=specs, field=st.sampled_from([field.name for field in msgspec.structs.fields(StepSpec)]), value=HOSTILE)
def test_hostile_value(
    encode: Callable[[StepSpec], bytes], decode: Callable[[bytes], StepSpec], spec: StepSpec, field: str, value: Any
) -> None:
    """Any value in any field either makes the round trip or is a typed error: NaN, 65 bits, times, bytes for text."""
    spec = replace(spec, **{field: value})
    try:
        data = encode(spec)
    except SpecDecodeError:
        return
    assert spec == decode(data)


@given(specs)
def test_ordinary_spec(spec: StepSpec) -> None:
    """A spec that the quick look passes also passes the checks of its fields."""
    if is_ordinary(spec, _check_ref, _check_logs):
        _CHECKS[StepSpec](spec)


@given(events)
def test_ordinary_event(event: StepEvent) -> None:
    """Of events the quick look passes results only, and those that the checks of their fields pass."""
    if is_ordinary(event, _check_ref, _check_logs):
        assert isinstance(event, StepResult)
        _CHECKS[StepResult](event)


@given(st.binary(max_size=200))
def test_random_bytes(data: bytes) -> None:
    """Random bytes give a typed error or, rarely, a value within the limits."""
    for decode, encode in (
        (decode_spec, encode_spec),
        (decode_event, encode_event),
        (pb.decode_spec_protobuf, encode_spec),
        (pb.decode_event_protobuf, encode_event),
    ):
        try:
            value = decode(data)
        except SpecDecodeError:
            continue
        assert encode(value)


def test_duplicate_keys() -> None:
    """A map that has a key twice is read once, as the last one says; the result passes the limits like any other."""
    pack = msgspec.msgpack.encode
    function = {"kind": "import", "module": "m", "qualname": "q"}
    pairs = [("run_id", "r"), ("step", "a\nb"), ("attempt_id", "a"), ("function", function)]
    head = b"".join(pack(key) + pack(value) for key, value in pairs)
    spec = decode_spec(b"\x85" + head + pack("step") + pack("good"))
    assert "good" == spec.step
    with pytest.raises(SpecDecodeError, match="invalid step="):
        decode_spec(b"\x86" + head + pack("step") + pack("good") + pack("step") + pack("b\x07d"))


def sorted_like(spec: StepSpec, model: StepSpec) -> StepSpec:
    """The spec with its maps in the model's order, which no codec promises, so that reprs can be compared."""

    def order(got: Any, like: Any) -> Any:
        if isinstance(got, dict) and isinstance(like, dict) and got == like:
            return {key: got[key] for key in like}
        if isinstance(got, tuple) and isinstance(like, tuple) and len(got) == len(like):
            return tuple(order(*pair) for pair in zip(got, like, strict=True))
        if isinstance(got, msgspec.Struct) and type(got) is type(like):
            names = got.__struct_fields__
            return replace(got, **{name: order(getattr(got, name), getattr(like, name)) for name in names})
        return got

    ordered: StepSpec = order(spec, model)
    return ordered
