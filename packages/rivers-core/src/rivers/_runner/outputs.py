"""Check the value that a body returned and store its outputs, all or none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec.structs import replace

from rivers._definitions.elements import elements_of
from rivers._definitions.output import DynamicOutput, Output, check_metadata
from rivers._io.base import AtomicIOHandler, BaseIOHandler
from rivers._io.context import OutputContext
from rivers._io.files.value_files import commit_error
from rivers._io.inline.transfer import check_total, make_output
from rivers._io.memo import short_version
from rivers._runner.callee import Callee
from rivers._runner.notes import note_of, version_of
from rivers._runner.refs import Resolver
from rivers._runner.type_check import Check
from rivers.exceptions import (
    AssetOutputValidationError,
    OutputCommitError,
    ResultDefinitionError,
)
from rivers.protocol.exception_text import describe_exception
from rivers.protocol.ref import InlineRef, InlineValue
from rivers.protocol.result import OutputRecord
from rivers.protocol.spec import NodeKind, OutputMode, StepSpec
from rivers.protocol.spec import Output as OutputSpec

__all__ = ["StoreFailedError", "check_outputs", "check_single", "plain_value", "store"]


class StoreFailedError(OutputCommitError):
    """An IO handler raised while storing; the cause is its exception."""


def check_outputs(spec: StepSpec, callee: Callee | None, value: Any) -> dict[str, Output]:
    """Return one `Output` for each output of the spec, checked against the hints.

    Raises:
        AssetOutputValidationError: a type does not fit, an output is missing or unknown.
        ResultDefinitionError: the returned value cannot be read as outputs.
    """
    whole = callee.checks[""] if callee is not None else None
    if spec.node is not NodeKind.MULTI:
        name = spec.outputs[0].name if spec.outputs else ""
        return {name: check_single(value, whole, name)}
    outputs = _by_name(spec, value, whole)
    for name, output in outputs.items():
        check = callee.checks.get(name) if callee is not None else None
        if check is not None:
            _check(check, output.value, name)
    return outputs


def check_single(value: Any, check: Check | None, name: str) -> Output:
    """Return the output of a body with one output: its value, or the `Output` that it returned or yielded."""
    if type(value) is list and value and isinstance(value[0], Output):
        if len(value) > 1:
            raise AssetOutputValidationError(
                f"output {name!r}: the body yielded {len(value)} items, the first of them an rs.Output, for one value",
                hint="yield plain values to get a list of them, or declare the outputs with rs.Asset.from_multi",
            )
        value = value[0]
    output = value if isinstance(value, Output) else Output(value)
    if output.output_name is not None and output.output_name != name:
        raise AssetOutputValidationError(f"the body returned an output named {output.output_name!r}; it has {name!r}")
    # The hint may also say rs.Output.
    if check is not None and (output is not value or check(value) is not None):
        _check(check, output.value, name)
    return output


def store(
    spec: StepSpec,
    callee: Callee | None,
    outputs: dict[str, Output],
    resolver: Resolver,
    extra: dict[str, Any] | None,
    version: str | None,
) -> tuple[OutputRecord, ...]:
    """Store all outputs and return their records; after an error no value of an atomic handler is visible.

    `extra` is the metadata and `version` the data version that the body registered with its context.
    """
    if len(spec.outputs) == 1 and spec.outputs[0].mode is OutputMode.VALUE:
        declared = spec.outputs[0]
        output = outputs[declared.name]
        registered = version_of(spec, callee, output, resolver, version)
        context = _context(spec, callee, declared, declared.key, registered)
        if type(declared.io_handler) is InlineRef:
            value = make_output(declared.key, plain_value(output.value), spec.run_id, spec.step)
            return (_record(declared, output, context, extra, registered, values=(value,)),)
        handler: BaseIOHandler = resolver.resolve(declared.io_handler)
        context.note = note_of(spec, callee, output, resolver, extra, registered)
        _call(handler, context, plain_value(output.value), handler.handle_output)
        return (_record(declared, output, context, extra, registered),)
    return _store_many(spec, callee, outputs, resolver, extra, version)


def _store_many(
    spec: StepSpec,
    callee: Callee | None,
    outputs: dict[str, Output],
    resolver: Resolver,
    extra: dict[str, Any] | None,
    version: str | None,
) -> tuple[OutputRecord, ...]:
    staged: dict[int, tuple[AtomicIOHandler, list[str]]] = {}
    records: list[OutputRecord] = []
    try:
        for declared in spec.outputs:
            is_inline = type(declared.io_handler) is InlineRef
            handler: BaseIOHandler = resolver.resolve(declared.io_handler)
            output = outputs[declared.name]
            registered = version_of(spec, callee, output, resolver, version)
            values: list[InlineValue] = []
            versions: list[str] = []
            map_keys: tuple[str, ...] | None = None
            if declared.mode is OutputMode.DYNAMIC:
                elements = elements_of(output.value, declared.name)
                map_keys = tuple(elements)
                parts = [(f"{declared.key}[{key}]", value) for key, value in elements.items()]
                # Lets core recognise a commit after the worker is lost.
                if isinstance(handler, AtomicIOHandler):
                    parts.append((f"{declared.key}[]", map_keys))
            else:
                parts = [(declared.key, plain_value(output.value))]
            context = _context(spec, callee, declared, declared.key, registered)
            for key, value in parts:
                # A version of the whole says nothing of one element.
                context = _context(spec, callee, declared, key, None if map_keys is not None else registered)
                # Of a mapped output it stands with the list of keys, once for all elements.
                if map_keys is None or value is map_keys:
                    context.note = note_of(spec, callee, output, resolver, extra, registered)
                if is_inline:
                    values.append(make_output(key, value, spec.run_id, spec.step))
                elif isinstance(handler, AtomicIOHandler):
                    staged.setdefault(id(handler), (handler, []))[1].append(key)
                    _call(handler, context, value, handler.stage)
                else:
                    _call(handler, context, value, handler.handle_output)
                versions.append(context.data_version or spec.attempt_id)
            record = _record(declared, output, context, extra, registered, map_keys, tuple(values))
            if map_keys is not None and spec.fingerprint is not None:
                record = replace(record, versions=tuple(map(short_version, versions[: len(map_keys)])))
            records.append(record)
        _check_inline(spec, records)
    except BaseException:
        for handler, keys in staged.values():
            handler.discard(spec.run_id, spec.step, spec.attempt_id, keys)
        raise
    # Memory cannot fail to commit, so it comes after what can.
    for handler, keys in sorted(staged.values(), key=lambda item: -item[0].reach):
        handler.commit(spec.run_id, spec.step, spec.attempt_id, keys)
    return tuple(records)


def _check_inline(spec: StepSpec, records: Sequence[OutputRecord]) -> None:
    """Check that the inline values of all outputs fit into the result."""
    problem = check_total([value for record in records for value in record.values])
    if problem is not None:
        hint = "give the outputs an io_handler, or the repository a default_io_handler"
        message = f"the outputs of {spec.step!r} are too many: {problem}"
        raise commit_error(message, spec.run_id, spec.step, retryable=False, hint=hint)


def plain_value(value: Any) -> Any:
    """Return a value as it is read as a whole: a list of DynamicOutputs becomes the list of their values."""
    if type(value) is list and value and isinstance(value[0], DynamicOutput):
        return [item.value if isinstance(item, DynamicOutput) else item for item in value]
    return value


def _call(handler: BaseIOHandler, context: OutputContext, value: Any, how: Any) -> None:
    try:
        how(context, value)
    except OutputCommitError:
        raise
    except Exception as error:
        raise StoreFailedError(
            f"storing {context.asset_name!r} with {type(handler).__name__} raised " + describe_exception(error)
        ) from error


def _context(
    spec: StepSpec, callee: Callee | None, declared: OutputSpec, key: str, registered: str | None
) -> OutputContext:
    return OutputContext(
        key,
        declared.metadata,
        callee.output_hints.get(declared.name if spec.node is NodeKind.MULTI else "") if callee is not None else None,
        run_id=spec.run_id,
        step=spec.step,
        attempt=spec.attempt,
        attempt_id=spec.attempt_id,
        fingerprint=spec.fingerprint,
        data_version=registered,
        partition=spec.partition,
    )


def _record(
    declared: OutputSpec,
    output: Output,
    context: OutputContext,
    extra: dict[str, Any] | None,
    registered: str | None,
    map_keys: tuple[str, ...] | None = None,
    values: tuple[InlineValue, ...] = (),
) -> OutputRecord:
    """Return the record of an output; the IO handler's metadata wins over the Output's, and that over the context's."""
    stored = context.output_metadata
    metadata: str | None = None
    if extra or output.metadata or stored:
        merged = {**(extra or {}), **(output.metadata or {}), **(stored or {})}
        metadata = check_metadata(merged).decode()
    return OutputRecord(
        name=declared.name,
        key=declared.key,
        metadata=metadata,
        data_version=context.data_version or registered,
        map_keys=map_keys,
        values=values,
    )


def _check(check: Any, value: Any, name: str) -> None:
    problem = check(value)
    if problem is not None:
        raise AssetOutputValidationError(f"output {name!r}: {problem}; nothing was stored")


def _by_name(spec: StepSpec, value: Any, whole: Any) -> dict[str, Output]:
    """Return the outputs of a multi-asset from a dict by name, a tuple in order, or a list of yielded Outputs."""
    names = [output.name for output in spec.outputs]
    if whole is not None:
        _check(whole, value, spec.step)
    if isinstance(value, Output):
        value = [value]
    if isinstance(value, dict):
        pairs: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list | tuple) and value and all(isinstance(item, Output) for item in value):
        pairs = _named(value, names)
    elif isinstance(value, tuple | list):
        if len(value) != len(names):
            raise AssetOutputValidationError(
                f"the body returned {len(value)} values for {len(names)} outputs: {', '.join(names)}"
            )
        pairs = zip(names, value, strict=True)
    else:
        raise ResultDefinitionError(
            "a multi-asset returns a dict or a tuple or yields rs.Outputs with output_name=, "
            f"not {type(value).__name__}"
        )
    found: dict[str, Output] = {}
    for name, item in pairs:
        if name not in names:
            raise AssetOutputValidationError(f"the body returned an output {name!r}; declared are {', '.join(names)}")
        if name in found:
            raise AssetOutputValidationError(f"the body returned output {name!r} twice")
        found[name] = item if isinstance(item, Output) else Output(item)
        if found[name].output_name not in (None, name):
            raise AssetOutputValidationError(
                f"the body returned an output named {found[name].output_name!r} instead of {name!r}"
            )
    missing = [name for name in names if name not in found]
    if missing:
        raise AssetOutputValidationError(f"the body did not return {', '.join(map(repr, missing))}; nothing was stored")
    return found


def _named(value: Sequence[Output], names: list[str]) -> list[tuple[str, Output]]:
    """Return Outputs with their names; unnamed ones in the order of `names` if all are there."""
    if all(item.output_name is None for item in value) and len(value) == len(names):
        return list(zip(names, value, strict=True))
    found: list[tuple[str, Output]] = []
    for item in value:
        if item.output_name is None:
            raise AssetOutputValidationError(
                f"the body returned an rs.Output without output_name; declared are {', '.join(names)}"
            )
        found.append((item.output_name, item))
    return found
