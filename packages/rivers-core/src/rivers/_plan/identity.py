"""The identity of a step: what its value depends on, apart from the data that it loads.

Code, config, IO handlers, resources and constants count. Tags, metadata, retries, compute and the executor do not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any
from zlib import crc32

import msgspec
from pydantic import BaseModel

from rivers._code.hasher import CodeHash, CodeHasher
from rivers._code.home import CodeHome
from rivers._definitions.asset import GraphAsset
from rivers._definitions.task import BashTask
from rivers._io.base import BaseIOHandler
from rivers._io.memory import InMemoryIOHandler
from rivers._io.pickle import PickleIOHandler
from rivers._io.shared.default_store import DefaultStore
from rivers._plan.field_json import secret_fields
from rivers._plan.fingerprint import detail
from rivers._plan.graph import Node, Source
from rivers._plan.plan import Step

__all__ = ["StepIdentity", "make_identity"]

# Characters of details about code and about anything else; what is more is left out, and then cannot be explained.
_MOST_CODE = 900
_MOST_OTHER = 500
_OTHER = frozenset({"resource", "constant"})
# Where they store, and how they sweep, changes no value.
_PLAIN_HANDLERS = (PickleIOHandler, InMemoryIOHandler, DefaultStore)


@dataclass(frozen=True, slots=True)
class StepIdentity:
    """The identity of one step.

    `seed` is a digest, `details` explain it. `inputs` are the sources of its data with the names to show, `order` the
    storage keys of upstreams that it does not load. `unknown` says why it cannot be compared; "" if it can.
    """

    seed: bytes
    details: str
    inputs: tuple[tuple[Source, str], ...]
    order: tuple[str, ...]
    unknown: str


def make_identity(
    step: Step, hasher: CodeHasher, configs: Mapping[str, str], kept: dict[int, tuple[object, StepIdentity]]
) -> StepIdentity:
    """Return the identity of a step; `configs` are JSON texts by asset, `kept` the identities of earlier runs."""
    key = _key_of(step, hasher, configs)
    if key is not None:
        known = kept.get(step.index)
        if known is not None and known[0] == key:
            return known[1]
    found = _make(step, hasher, configs)
    if key is not None:
        # About 60 µs a step: more than all the rest of the comparison.
        kept[step.index] = (key, found)
    return found


def _key_of(step: Step, hasher: CodeHasher, configs: Mapping[str, str]) -> object | None:
    """Return what the identity of a plain step depends on, None for a step that is more than its function."""
    node = step.node
    definition = node.definition
    function = getattr(definition, "function", None)
    if step.inner or function is None or definition.name in configs or definition.signature is None:
        return None
    if definition.signature.context is not None or any(source.how in _OTHER for source in node.inputs):
        return None
    if not all(type(output.io_handler) in _PLAIN_HANDLERS for output in node.outputs):
        return None
    if not all(source.io_handler is None or type(source.io_handler) in _PLAIN_HANDLERS for source in node.inputs):
        return None
    owner = node.owner
    versions = getattr(definition, "code_version", None), getattr(owner, "code_version", None)
    digest = hasher.hash(function).digest
    # Without a digest the identity says why there is none.
    return (versions, digest) if digest is not None else None


def _make(step: Step, hasher: CodeHasher, configs: Mapping[str, str]) -> StepIdentity:
    writer = _IdentityWriter(hasher)
    nodes = step.inner or (step.node,)
    siblings = {node.index for node in nodes}
    inputs: list[tuple[Source, str]] = []
    for node in nodes:
        prefix = f"{node.key}." if step.inner else ""
        writer.add("node", node.key, str(node.mapped_over is not None))
        writer.add_code(node)
        writer.add_config(node, configs.get(node.definition.name))
        for source in node.inputs:
            name = prefix + (source.parameter or source.key)
            # The key, too: a registered version says nothing of whose it is.
            writer.add("input", name, source.how, source.key)
            if source.how == "resource":
                writer.add_resource(node, source, name)
            elif source.how == "constant":
                writer.add_constant(node, source, name)
            elif source.node is None or source.node not in siblings:
                inputs.append((source, name))
                writer.add_loading(node, source)
    for output in step.node.outputs:
        writer.add_handler(step.node, output.io_handler, output.key, output.metadata)
    order = tuple(key for node in nodes for key in node.order)
    return StepIdentity(writer.digest(), writer.details(), tuple(inputs), order, writer.unknown)


class _IdentityWriter:
    """A collector of the parts of one identity."""

    def __init__(self, hasher: CodeHasher) -> None:
        self.unknown = ""
        self._hasher = hasher
        self._parts: list[str] = []
        self._code: dict[str, str] = {}
        self._other: list[str] = []

    def digest(self) -> bytes:
        return blake2b("\0".join(self._parts).encode("utf-8", "surrogatepass"), digest_size=16).digest()

    def details(self) -> str:
        # The step's own function comes first, and stays if there is room for few.
        code = _fitting([detail("c", name, short) for name, short in self._code.items()], _MOST_CODE)
        return code + _fitting(self._other, _MOST_OTHER)

    def add(self, *parts: str) -> None:
        self._parts += parts

    def add_code(self, node: Node) -> None:
        definition = node.definition
        version = getattr(definition, "code_version", None)
        if version is None and isinstance(node.owner, GraphAsset):
            version = node.owner.code_version
        if version is not None:
            self.add("code_version", version)
            self._explain("v", "", version)
        elif isinstance(definition, BashTask):
            text = repr((definition.command, sorted((definition.env or {}).items()), definition.cwd))
            self.add("command", text)
            self._code[f":{definition.name}"] = _short(text)
        elif definition.function is not None:
            found = self._add_hash("code", definition.function)
            if found.digest is None:
                self._give_up(f"code of `{definition.name}`: {found.unknown}")

    def add_config(self, node: Node, text: str | None) -> None:
        """Add the fields of the config as the body sees them, so that a changed default counts; secrets do not."""
        signature = node.definition.signature
        model = signature.config_model if signature is not None and signature.context is not None else None
        if isinstance(model, type) and issubclass(model, BaseModel):
            found = self._add_hash("config model", model)
            if found.digest is None:
                self._give_up(f"config of `{node.definition.name}`: {found.unknown}")
            role = f"config of `{node.definition.name}`"
            fields = self._fields(model.model_validate_json(text or "{}"), node.definition.function, role)
        elif text is not None:
            fields = {name: json.dumps(value, sort_keys=True) for name, value in msgspec.json.decode(text).items()}
        else:
            return
        for name, encoded in sorted(fields.items()):
            self.add("config", name, encoded)
            self._explain("g", name, encoded)

    def add_resource(self, node: Node, source: Source, name: str) -> None:
        self._add_object(node, source.value, "r", name, f"resource `{source.key}`")

    def add_handler(self, node: Node, handler: BaseIOHandler, key: str, metadata: Mapping[str, str] | None) -> None:
        if type(handler) in _PLAIN_HANDLERS:
            self.add("handler", key, type(handler).__name__)
            self._explain("h", key, type(handler).__name__)
            return
        # A handler of somebody else may store by the metadata.
        self.add("metadata", repr(sorted((metadata or {}).items())))
        self._add_object(node, handler, "h", key, f"IO handler of `{key}`")

    def add_loading(self, node: Node, source: Source) -> None:
        """Add the IO handler that loads an input; one of rivers loads what is stored."""
        if source.io_handler is not None and type(source.io_handler) not in _PLAIN_HANDLERS:
            self.add_handler(node, source.io_handler, source.key, source.metadata)

    def add_constant(self, node: Node, source: Source, name: str) -> None:
        found = self._hasher.hash_value(source.value, node.definition.function)
        if found.digest is None:
            self._give_up(f"constant `{name}`: {found.unknown}")
            return
        self.add("constant", found.digest.hex())
        self._explain("k", name, found.digest.hex())

    def _add_object(self, node: Node, found: Any, kind: str, name: str, role: str) -> None:
        """Add the class and the fields of a resource or an IO handler, without its secrets."""
        cls, user = type(found), node.definition.function
        parts = [f"{cls.__module__}:{cls.__qualname__}"]
        if user is not None and CodeHome(user).owns(cls.__module__):
            code = self._hasher.hash_value(cls, user)
            parts.append(code.digest.hex() if code.digest is not None else "")
            if code.digest is None:
                self._give_up(f"{role}: {code.unknown}")
        if isinstance(found, BaseModel):
            parts += [f"{field}={text}" for field, text in sorted(self._fields(found, user, role).items())]
        else:
            self._give_up(f"{role}: a {cls.__name__} has no fields to compare")
        self.add(kind, name, *parts)
        self._explain(kind, name, "\0".join(parts))

    def _fields(self, model: BaseModel, user: Callable[..., Any] | None, role: str) -> dict[str, str]:
        """Return the fields of a model as texts, without its secrets."""
        found: dict[str, str] = {}
        try:
            secrets = secret_fields(model)
            for name in (*type(model).model_fields, *(model.model_extra or {})):
                if secrets.get(name) is not True:
                    found[name] = self._field(model, name, user, secrets.get(name))
        except Exception as error:  # noqa: BLE001 - a field or a serializer of the class may raise anything
            self._give_up(f"{role}: reading its fields raised {type(error).__name__}")
        return found

    def _field(self, model: BaseModel, name: str, user: Callable[..., Any] | None, secrets: Any) -> str:
        if not secrets:
            exact = self._hasher.hash_value(getattr(model, name), user or type(model))
            if exact.digest is not None:
                return exact.digest.hex()
        # An object that is no plain value: as its model writes it.
        left_out = {name: secrets} if secrets else None
        written = model.model_dump(mode="json", include={name}, exclude=left_out, serialize_as_any=True)
        return json.dumps(written[name], sort_keys=True)

    def _add_hash(self, role: str, code: Any) -> CodeHash:
        found = self._hasher.hash(code)
        self.add(role, found.digest.hex() if found.digest is not None else "")
        for name, short in found.parts.items():
            self._code.setdefault(name, short)
        return found

    def _explain(self, kind: str, name: str, text: str) -> None:
        self._other.append(detail(kind, name, _short(text)))

    def _give_up(self, reason: str) -> None:
        self.unknown = self.unknown or reason


def _short(text: str) -> str:
    return f"{crc32(text.encode('utf-8', 'surrogatepass')):x}"


def _fitting(details: list[str], most: int) -> str:
    """Return as many details as fit."""
    found, size = [], 0
    for one in details:
        size += len(one)
        if size > most:
            break
        found.append(one)
    return "".join(found)
