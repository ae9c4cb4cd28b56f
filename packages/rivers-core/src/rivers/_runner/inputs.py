"""Load the inputs of a step into the arguments of its call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, get_args

import msgspec

from rivers._definitions.partitions import storage_key
from rivers._io.base import BaseIOHandler
from rivers._io.context import InputContext
from rivers._io.inline.transfer import load_input
from rivers._runner.refs import Resolver
from rivers._runner.resources import Resources
from rivers.exceptions import InputLoadError, RefResolutionError, StepCancelledError, ValueNotFoundError
from rivers.protocol.exception_text import describe_exception
from rivers.protocol.ref import InlineRef, InlineValue, Ref
from rivers.protocol.spec import (
    CollectInput,
    GroupInput,
    Input,
    LiteralInput,
    ObjectInput,
    PartitionsInput,
    ResourceInput,
    StepSpec,
    StoredInput,
    StreamInput,
)

__all__ = ["Inputs", "LoadFailedError", "ValueStream"]


class LoadFailedError(InputLoadError):
    """An IO handler raised while loading; the cause is its exception."""

    retryable = True


class ValueStream:
    """An iterator over the values of mapped instances, which loads one value at a time.

    `broken` is set if an instance failed: the step then fails even if its body goes on.
    """

    def __init__(self, keys: Iterator[str], load: Callable[[str], Any]) -> None:
        self._keys = keys
        self._load = load
        self.broken: StepCancelledError | None = None

    def __iter__(self) -> ValueStream:
        return self

    def __next__(self) -> Any:
        try:
            key = next(self._keys)
        except StepCancelledError as error:
            self.broken = error
            raise
        return self._load(key)


class Inputs:
    """A loader of inputs, with the worker's resolver and resources."""

    def __init__(
        self,
        resolver: Resolver,
        resources: Resources,
        next_item: Callable[[str, str, int], str | None] | None,
    ) -> None:
        self._resolver = resolver
        self._resources = resources
        self._next_item = next_item
        self._inline: tuple[tuple[InlineValue, ...], dict[str, InlineValue]] = ((), {})

    def load(self, spec: StepSpec, hints: dict[str, Any]) -> tuple[dict[str, Any], list[ValueStream]]:
        """Return the arguments of a step by parameter name, and the streams among them."""
        arguments: dict[str, Any] = {}
        streams: list[ValueStream] = []
        for given in spec.inputs:
            kind = type(given)
            if kind is StoredInput:
                arguments[given.parameter] = self.stored(given, spec, hints.get(given.parameter))  # type: ignore[arg-type]  # `kind` tells
            else:
                value = arguments[given.parameter] = self.other(given, spec, hints)
                if type(value) is ValueStream:
                    streams.append(value)
        return arguments, streams

    def stored(self, given: StoredInput, spec: StepSpec, hint: Any) -> Any:
        """Load one value."""
        return self._load(spec, given.io_handler, given.key, given.run_id, given.metadata, hint, given.partition)

    def other(self, given: Input, spec: StepSpec, hints: dict[str, Any]) -> Any:
        """Return the value of an input of any kind."""
        if isinstance(given, StoredInput):
            return self.stored(given, spec, hints.get(given.parameter))
        if isinstance(given, ResourceInput):
            return self._resources.get(given.name, given.ref)
        if isinstance(given, LiteralInput):
            return msgspec.json.decode(given.json)
        if isinstance(given, ObjectInput):
            return self._resolver.resolve(given.ref)

        if isinstance(given, PartitionsInput):
            return self._partitions(given, spec, hints.get(given.parameter))

        def element(key: str) -> Any:
            assert isinstance(given, CollectInput | StreamInput | GroupInput)
            return self._load(spec, given.io_handler, f"{given.key}[{key}]", given.run_id, None, None, spec.partition)

        if isinstance(given, CollectInput):
            return [element(key) for key in given.map_keys]
        if isinstance(given, GroupInput):
            keys: Iterable[str] = self._load(
                spec, given.io_handler, given.keys, given.run_id, None, None, spec.partition
            )
            return ValueStream(iter(keys), element) if given.how == "stream" else [element(key) for key in keys]
        if isinstance(given, StreamInput):
            return ValueStream(self._live_keys(spec.attempt_id, given) if given.live else iter(given.map_keys), element)
        raise RefResolutionError(f"input {given.parameter!r} exists inside a fused graph only")

    def _partitions(self, given: PartitionsInput, spec: StepSpec, hint: Any) -> dict[str, Any]:
        """Load the value of every stored partition, by its key."""
        arguments = get_args(hint)
        of_value = arguments[1] if len(arguments) == 2 else None
        values: dict[str, Any] = {}
        for key in given.partitions:
            is_made = key == given.partition
            run_id = given.run_id if is_made else None
            place = storage_key(given.key, key)
            try:
                values[key] = self._load(spec, given.io_handler, place, run_id, given.metadata, of_value, key)
            except InputLoadError as error:
                if is_made or not _is_missing(error):
                    raise
        return values

    def _live_keys(self, attempt_id: str, given: StreamInput) -> Iterator[str]:
        if self._next_item is None:
            raise RefResolutionError(
                f"input {given.parameter!r} is a live stream, and this worker has no connection to the run"
            )
        position = 0
        while (key := self._next_item(attempt_id, given.parameter, position)) is not None:
            yield key
            position += 1

    def _load(
        self,
        spec: StepSpec,
        ref: Ref,
        key: str,
        run_id: str | None,
        metadata: dict[str, str] | None,
        hint: Any,
        partition: str | None,
    ) -> Any:
        if type(ref) is InlineRef:
            return load_input(self._inline_values(spec), key, spec.step)
        handler: BaseIOHandler = self._resolver.resolve(ref)
        try:
            return handler.load_input(InputContext(key, spec.step, metadata, hint, run_id=run_id, partition=partition))
        except InputLoadError:
            raise
        except Exception as error:
            raise LoadFailedError(
                f"loading {key!r} with {type(handler).__name__} raised {describe_exception(error)}",
                hint=f"is {key!r} materialized? select it, too, or pass include_upstream=True",
            ) from error

    def _inline_values(self, spec: StepSpec) -> dict[str, InlineValue]:
        """Return the inline values of a spec by key; kept, as a stream or a list asks for each of thousands."""
        values, by_key = self._inline
        # The specs of inner steps are copies with the same tuple.
        if values is not spec.values:
            by_key = {value.key: value for value in spec.values}
            self._inline = (spec.values, by_key)
        return by_key


def _is_missing(error: InputLoadError) -> bool:
    """Return whether a value is not stored; a handler of somebody else may say so by a FileNotFoundError."""
    found = error.__cause__ if isinstance(error, LoadFailedError) else error
    return isinstance(found, ValueNotFoundError | FileNotFoundError)
