"""What a body hands over besides plain values, and how outputs and upstreams are declared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from rivers._definitions.names import check_name
from rivers._io.base import BaseIOHandler
from rivers.exceptions import AssetDefinitionError, DefinitionError, InvalidMetadataError, ResultDefinitionError
from rivers.protocol.exception_text import describe_exception

__all__ = ["AssetDef", "DepDef", "DynamicOutput", "Output", "check_metadata"]

MAX_METADATA_BYTES = 256 * 1024


def check_metadata(metadata: dict[str, Any]) -> bytes:
    """Return metadata as JSON text; raise InvalidMetadataError naming the key that is none."""
    if not isinstance(metadata, dict):
        raise InvalidMetadataError(f"metadata must be a dict of JSON values, not {type(metadata).__name__}")
    for key in metadata:
        if not isinstance(key, str):
            raise InvalidMetadataError(f"metadata keys are strings, not {type(key).__name__}: {key!r:.80}")
    try:
        text = msgspec.json.encode(metadata)
    except (TypeError, ValueError, RecursionError, OverflowError):
        raise _culprit(metadata) from None
    if len(text) > MAX_METADATA_BYTES:
        raise InvalidMetadataError(f"metadata is {len(text)} bytes as JSON; at most {MAX_METADATA_BYTES} are kept")
    return text


def _culprit(metadata: dict[str, Any]) -> InvalidMetadataError:
    """The error for the first value that is no JSON."""
    for key, value in metadata.items():
        try:
            msgspec.json.encode(value)
        except (TypeError, ValueError, RecursionError, OverflowError) as error:
            return InvalidMetadataError(
                f"metadata {key!r} is no JSON value: {value!r:.80} ({type(value).__name__}): "
                f"{describe_exception(error)}",
                hint="use str, int, float, bool, None, or lists and dicts of them",
            )
    return InvalidMetadataError("metadata is no JSON")


class Output:
    """A value with facts about it; what an asset returns or yields instead of the bare value.

    A multi-asset yields one for each output and names it by `output_name`.

    Raises:
        ResultDefinitionError: `output_name` or `data_version` is no string.
        InvalidMetadataError: `metadata` is no JSON.
    """

    __slots__ = ("data_version", "metadata", "output_name", "value")

    def __init__(
        self,
        value: Any = None,
        *,
        output_name: str | None = None,
        metadata: dict[str, Any] | None = None,
        data_version: str | None = None,
    ) -> None:
        for what, given in (("output_name", output_name), ("data_version", data_version)):
            if given is not None and not isinstance(given, str):
                raise ResultDefinitionError(f"Output({what}={given!r:.80}): must be a str, not {type(given).__name__}")
        if metadata is not None:
            check_metadata(metadata)
        self.value = value
        self.output_name = output_name
        self.metadata = metadata
        self.data_version = data_version

    def __repr__(self) -> str:
        return f"Output({self.value!r:.80}, output_name={self.output_name!r})"


class DynamicOutput:
    """One element of an output that is mapped over, under a key of your own instead of its position.

    Raises:
        ResultDefinitionError: `key` is no string of 1 to 128 bytes, printable, without `[` and `]`.
    """

    __slots__ = ("key", "value")

    def __init__(self, key: str, value: Any) -> None:
        if not isinstance(key, str):
            raise ResultDefinitionError(
                f"DynamicOutput(key={key!r:.80}): a mapping key is a str, not {type(key).__name__}",
                hint="write key=str(...)",
            )
        if not 1 <= len(key) <= 128 or not key.isprintable() or "[" in key or "]" in key or len(key.encode()) > 128:
            raise ResultDefinitionError(
                f"DynamicOutput(key={key!r:.80}): a mapping key is 1 to 128 bytes of printable text without '[' and ']'"
            )
        self.key = key
        self.value = value

    def __repr__(self) -> str:
        return f"DynamicOutput({self.key!r}, {self.value!r:.80})"


class DepDef:
    """One upstream: made by `AssetDef.input` (its value is loaded) or `AssetDef.dep` (order only)."""

    __slots__ = ("io_handler", "is_input", "metadata", "name")

    def __init__(
        self,
        name: str,
        *,
        is_input: bool,
        io_handler: BaseIOHandler | str | None = None,
        metadata: dict[str, str] | None = None,
    ) -> None:
        self.name = check_name(name, "upstream", error=AssetDefinitionError)
        self.is_input = is_input
        self.io_handler = check_io_handler(io_handler, f"upstream {name!r}")
        self.metadata = check_static_metadata(metadata, f"upstream {name!r}")

    def __repr__(self) -> str:
        return f"AssetDef.{'input' if self.is_input else 'dep'}({self.name!r})"


class AssetDef:
    """One output of a multi-asset: an asset of its own, made together with its siblings.

    `type_hint` is checked like a return hint. `deps` are upstreams of the multi-asset for the sake of this output.

    Raises:
        AssetDefinitionError: the name or a value is not acceptable.
    """

    __slots__ = ("code_version", "deps", "group", "io_handler", "kinds", "metadata", "name", "tags", "type_hint")

    def __init__(
        self,
        name: str,
        tags: Sequence[str] | None = None,
        kinds: str | Sequence[str] | None = None,
        group: str | None = None,
        code_version: str | None = None,
        io_handler: BaseIOHandler | str | None = None,
        metadata: dict[str, str] | None = None,
        deps: Sequence[Any] = (),
        type_hint: Any = None,
    ) -> None:
        self.name = check_name(name, "output", error=AssetDefinitionError)
        what = f"output {name!r}"
        self.tags = check_strings(tags, "tags", what)
        self.kinds = check_strings([kinds] if isinstance(kinds, str) else kinds, "kinds", what)
        self.group = check_text_or_none(group, "group", what)
        self.code_version = check_text_or_none(code_version, "code_version", what)
        self.io_handler = check_io_handler(io_handler, what)
        self.metadata = check_static_metadata(metadata, what)
        self.deps = deps
        if isinstance(type_hint, str):
            raise AssetDefinitionError(f"{what}: type_hint is a type, not the string {type_hint!r}")
        self.type_hint = type_hint

    @staticmethod
    def input(
        name: str, io_handler: BaseIOHandler | str | None = None, metadata: dict[str, str] | None = None
    ) -> DepDef:
        """Declare an upstream whose value is loaded into the parameter of its name, by `io_handler` if one is given."""
        return DepDef(name, is_input=True, io_handler=io_handler, metadata=metadata)

    @staticmethod
    def dep(name: str) -> DepDef:
        """Declare an upstream for the order only: it comes first, its value is not loaded."""
        return DepDef(name, is_input=False)

    def __repr__(self) -> str:
        return f"AssetDef({self.name!r})"


def check_strings(
    values: object, field: str, what: str, error: type[DefinitionError] = AssetDefinitionError
) -> tuple[str, ...]:
    """A list of strings as a tuple; a single string or a dict is the mistake this is here to catch."""
    if values is None:
        return ()
    if isinstance(values, Iterable) and not isinstance(values, str | bytes | Mapping):
        found = tuple(values)
        if all(isinstance(value, str) for value in found):
            return found
    raise error(f"{what}: {field}={values!r:.80}: a list of str is allowed")


def check_text_or_none(value: object, field: str, what: str) -> str | None:
    """A str or None."""
    if value is None or isinstance(value, str):
        return value
    raise AssetDefinitionError(f"{what}: {field}={value!r:.80}: a str is allowed")


def check_io_handler(
    io_handler: object, what: str, error: type[DefinitionError] = AssetDefinitionError
) -> BaseIOHandler | str | None:
    """An IO handler, the name of a resource that is one, or None."""
    if io_handler is None or isinstance(io_handler, BaseIOHandler | str):
        return io_handler
    raise error(
        f"{what}: io_handler={io_handler!r:.80}: allowed are an instance of a BaseIOHandler or a resource's name",
        hint=f"write {io_handler.__name__}(...)" if isinstance(io_handler, type) else None,
    )


def check_static_metadata(metadata: dict[str, str] | None, what: str) -> dict[str, str] | None:
    """Metadata of a definition: strings under strings."""
    if metadata is None:
        return None
    if not isinstance(metadata, dict):
        raise InvalidMetadataError(f"{what}: metadata={metadata!r:.80}: a dict of str to str is allowed")
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise InvalidMetadataError(f"{what}: metadata {key!r:.80}: {value!r:.80}: keys and values are str")
    return dict(metadata)
