"""A quick look at a spec or a result: most steps have stored inputs, ASCII names and no failure.

Each step is held to its limits four times: as a spec and as a result, by its sender and by its reader. The checks of
`struct_checks` take twice as long for it: 19 us instead of 12 to encode a typical spec. What is not passed here is not
wrong, but checked field by field. A field that is missing here would be a hole: `test_ordinary.py` looks for one.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from rivers.protocol.field_checks import Check, Refused, are_ascii_keys, are_short_ascii, check_metadata
from rivers.protocol.limits import LIMITS
from rivers.protocol.result import Ending, OutputRecord, StepResult, Timings
from rivers.protocol.spec import NodeKind, Output, OutputMode, StepSpec, StoredInput

__all__ = ["is_ordinary"]

_STORED: set[type] = {StoredInput}
_OUTPUT: set[type] = {Output}
_RECORD: set[type] = {OutputRecord}
_FLOAT = {float}
_INT64 = 1 << 63


def is_ordinary(value: Any, check_ref: Check, check_logs: Check) -> bool:
    """Return whether a value is a spec or a result that is plainly within all limits."""
    try:
        if type(value) is StepSpec:
            return _is_ordinary_spec(value, check_ref, check_logs)
        return type(value) is StepResult and _is_ordinary_result(value)
    except (Refused, TypeError):
        return False


def _is_ordinary_spec(spec: StepSpec, check_ref: Check, check_logs: Check) -> bool:
    keys = [spec.run_id, spec.step, spec.attempt_id]
    if spec.partition is not None:
        keys.append(spec.partition)
    maps = [given for given in (spec.metadata, spec.run_tags) if given is not None]
    texts = [*spec.tags, *spec.kinds]
    for given in _all_of(spec.inputs, _STORED):
        keys += (given.parameter, given.key)
        if given.run_id is not None:
            keys.append(given.run_id)
        if given.partition is not None:
            keys.append(given.partition)
        if given.metadata is not None:
            maps.append(given.metadata)
        check_ref(given.io_handler)
    for output in _all_of(spec.outputs, _OUTPUT):
        keys += (output.name, output.key)
        if output.metadata is not None:
            maps.append(output.metadata)
        check_ref(output.io_handler)
        if type(output.mode) is not OutputMode:
            return False
    check_ref(spec.function)
    check_logs(spec.logs)
    return (
        are_ascii_keys(keys)
        and type(spec.tags) is tuple is type(spec.kinds)
        and are_short_ascii(texts, LIMITS.text)
        and all(map(_is_short_map, maps))
        and type(spec.protocol_version) is int is type(spec.attempt) is type(spec.epoch)
        # msgpack has no ints of more than 64 bits.
        and -_INT64 <= spec.protocol_version < _INT64
        and 0 < spec.attempt <= LIMITS.attempt
        and 0 <= spec.epoch < _INT64
        and type(spec.node) is NodeKind
        and type(spec.is_async) is bool
        and (spec.timeout is None or (type(spec.timeout) is float and 0 < spec.timeout <= LIMITS.timeout))
        and spec.config is spec.group is spec.code_version is None
        and spec.compute is None
        and spec.graph is None
        and spec.inner == ()
        and spec.refs == ()
        and spec.trace_context is None
        and spec.values == ()
        and (spec.fingerprint is None or are_short_ascii((spec.fingerprint,), LIMITS.fingerprint))
    )


def _is_ordinary_result(result: StepResult) -> bool:
    keys = [result.attempt_id]
    texts = [result.worker]
    for record in _all_of(result.outputs, _RECORD):
        keys += (record.name, record.key)
        if record.values != () or record.versions is not None:
            return False
        if record.metadata is not None:
            check_metadata(record.metadata)
        if record.data_version is not None:
            texts.append(record.data_version)
        if record.map_keys is not None:
            if type(record.map_keys) is not tuple:
                return False
            keys += record.map_keys
    timings = result.timings
    if type(timings) is not Timings:
        return False
    boot = (timings.boot, timings.schedule, timings.pull)
    seconds = (timings.queued, *boot, timings.load, timings.run, timings.store)
    return (
        are_ascii_keys(keys)
        and len(keys) <= LIMITS.nodes
        and are_short_ascii(texts, LIMITS.text)
        and {*map(type, seconds)} == _FLOAT
        # One NaN or infinity makes the sum so.
        and math.isfinite(sum(seconds))
        and type(result.ending) is Ending
        and result.failure is None
    )


def _all_of(items: tuple[Any, ...], kind: set[type]) -> Collection[Any]:
    """Return the items of a tuple that holds nothing but this class; raise TypeError for another one."""
    if type(items) is not tuple or len(items) > LIMITS.inputs or not {*map(type, items)} <= kind:
        raise TypeError
    return items


def _is_short_map(given: object) -> bool:
    return type(given) is dict and are_short_ascii((*given, *given.values()), LIMITS.metadata)
