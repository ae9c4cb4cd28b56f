"""Outputs and upstreams: values with metadata, mapped elements, and declarations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from rivers._definitions.arguments import argument_error, plain_number, plain_text, short_repr
from rivers._definitions.names import check_name
from rivers._definitions.settings import (
    check_io_handler,
    check_metadata_strings,
    check_optional_text,
    check_strings,
)
from rivers._io.base import BaseIOHandler
from rivers.exceptions import AssetDefinitionError, InvalidMetadataError, ResultDefinitionError
from rivers.protocol.exception_text import describe_exception

__all__ = ["AssetDef", "DepDef", "DynamicOutput", "Output", "check_metadata"]

MAX_METADATA_BYTES = 256 * 1024
MAPPING_KEY_RULE = "a mapping key, which is 1 to 128 bytes of printable text without '[' and ']'"


def check_metadata(metadata: Mapping[str, Any]) -> bytes:
    """Return metadata as JSON text.

    Raises:
        InvalidMetadataError: it is no dict of JSON values, or larger than 256 KiB; names the key.
    """
    if not isinstance(metadata, Mapping):
        raise argument_error("metadata", metadata, "a dict of JSON values", error=InvalidMetadataError)
    metadata = dict(metadata)
    for key in metadata:
        if not isinstance(key, str):
            raise InvalidMetadataError(
                f"invalid metadata key {key!r:.80} (of type {type(key).__name__}): expected a str"
            )
    try:
        text = msgspec.json.encode(metadata)
    except (TypeError, ValueError, RecursionError, OverflowError):
        raise _metadata_error(metadata) from None
    if len(text) > MAX_METADATA_BYTES:
        raise InvalidMetadataError(f"metadata is {len(text)} bytes as JSON; at most {MAX_METADATA_BYTES} are kept")
    return text


def _metadata_error(metadata: dict[str, Any]) -> InvalidMetadataError:
    """Return the error for the first value that is no JSON."""
    for key, value in metadata.items():
        try:
            msgspec.json.encode(value)
        except (TypeError, ValueError, RecursionError, OverflowError) as error:
            return InvalidMetadataError(
                f"invalid metadata[{key!r}]={short_repr(value)} ({type(value).__name__}): expected a JSON value: "
                f"{describe_exception(error)}",
                hint="use str, int, float, bool, None, or lists and dicts of them",
            )
    return InvalidMetadataError("metadata is no JSON")


class Output:
    """A value with metadata, which a body returns or yields in place of the bare value.

    A multi-asset yields one for each output, with its `output_name`. `data_version` is a version of the value, such as
    a checksum; `metadata` holds JSON values under strings, at most 256 KiB.

    Raises:
        ResultDefinitionError: `output_name` or `data_version` is no str.
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
        for name, given in (("output_name", output_name), ("data_version", data_version)):
            if given is not None and not isinstance(given, str):
                raise argument_error(name, given, "a str or None", owner="Output", error=ResultDefinitionError)
        if metadata is not None:
            check_metadata(metadata)
        self.value = value
        self.output_name = output_name
        self.metadata = metadata
        self.data_version = data_version

    def __repr__(self) -> str:
        return f"Output({self.value!r:.80}, output_name={self.output_name!r})"


class DynamicOutput:
    """One element of an output that is mapped over, under a mapping key of its own.

    Raises:
        ResultDefinitionError: `key` is no printable str of 1 to 128 bytes without `[` and `]`.
    """

    __slots__ = ("key", "value")

    def __init__(self, key: str, value: Any) -> None:
        # The key is a part of step keys, which hold 512 bytes together with two names.
        text = plain_text(key)
        if text is None or not text.isprintable() or "[" in text or "]" in text or not 1 <= len(text.encode()) <= 128:
            hint = "write key=str(...)" if plain_number(key) is not None else None
            raise argument_error("key", key, MAPPING_KEY_RULE, hint, owner="DynamicOutput", error=ResultDefinitionError)
        self.key = text
        self.value = value

    def __repr__(self) -> str:
        return f"DynamicOutput({self.key!r}, {self.value!r:.80})"


class DepDef:
    """A declared upstream: made by `AssetDef.input` (its value is loaded) or `AssetDef.dep` (order only)."""

    __slots__ = ("io_handler", "is_input", "metadata", "name")

    def __init__(
        self,
        name: Any,
        *,
        is_input: bool,
        io_handler: BaseIOHandler | str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        # Not every `name`: a member of an enum and a path have one, too.
        own = getattr(name, "name", None) if hasattr(name, "signature") else None
        self.name = check_name(name if own is None else own, "upstream", error=AssetDefinitionError)
        self.is_input = is_input
        self.io_handler = check_io_handler(io_handler, f"upstream {self.name!r}")
        self.metadata = check_metadata_strings(metadata, f"upstream {self.name!r}")

    def __repr__(self) -> str:
        return f"AssetDef.{'input' if self.is_input else 'dep'}({self.name!r})"


class AssetDef:
    """One output of a multi-asset: an asset of its own, made together with the other outputs.

    `type_hint` is checked like a return hint. `deps` are upstreams of the whole multi-asset. Other settings are those
    of `Asset`.

    Raises:
        AssetDefinitionError: the name or a setting is invalid.
        InvalidMetadataError: `metadata` is no dict of str to str.
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
        metadata: Mapping[str, str] | None = None,
        deps: Sequence[Any] = (),
        type_hint: Any = None,
    ) -> None:
        self.name = check_name(name, "output", error=AssetDefinitionError)
        owner = f"output {self.name!r}"
        self.tags = check_strings(tags, "tags", owner)
        self.kinds = check_strings([kinds] if isinstance(kinds, str) else kinds, "kinds", owner)
        self.group = check_optional_text(group, "group", owner)
        self.code_version = check_optional_text(code_version, "code_version", owner)
        self.io_handler = check_io_handler(io_handler, owner)
        self.metadata = check_metadata_strings(metadata, owner)
        self.deps = deps
        if isinstance(type_hint, str):
            raise AssetDefinitionError(f"{owner}: type_hint is a type, not the string {type_hint!r}")
        self.type_hint = type_hint

    @staticmethod
    def input(
        name: Any, io_handler: BaseIOHandler | str | None = None, metadata: Mapping[str, str] | None = None
    ) -> DepDef:
        """Declare an upstream, an asset or its name, whose value goes into the parameter of that name.

        `io_handler` loads it, if one is given, in place of the upstream's own.
        """
        return DepDef(name, is_input=True, io_handler=io_handler, metadata=metadata)

    @staticmethod
    def dep(name: Any) -> DepDef:
        """Declare an upstream, an asset or its name, for the order only: it runs before, its value is not loaded."""
        return DepDef(name, is_input=False)

    def __repr__(self) -> str:
        return f"AssetDef({self.name!r})"
