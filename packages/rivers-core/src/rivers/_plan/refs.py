"""Making refs: from a live object to the name, the JSON or the pickle that a worker finds it by.

Which ref an object gets depends on how far away it will be followed: a backend in this process may share live objects,
any other gets names and JSON, or a signed pickle where it allows that, or nothing.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, Literal, TypeAlias

import msgspec
from pydantic import BaseModel

from rivers._definitions.asset import Asset, MultiAsset
from rivers._definitions.source_lines import pickle_with_source
from rivers._definitions.task import BashTask, Task
from rivers._plan.field_json import field_json
from rivers.exceptions import ConfigurationError, RefResolutionError
from rivers.protocol.exception_text import describe_exception
from rivers.protocol.ref import ConfiguredRef, ImportRef, LocalRef, PickledRef, Ref, sign
from rivers.protocol.spec import Input, LiteralInput, ObjectInput

__all__ = ["Closures", "Refs"]

Closures: TypeAlias = Literal["local", "pickled", "none"]


class Refs:
    """Makes refs for one run; `local` collects the live objects behind LocalRefs."""

    def __init__(self, key: bytes) -> None:
        self.local: dict[str, Any] = {}
        self._key = key
        self._made: dict[tuple[int, Closures], Ref] = {}
        self._kept: list[Any] = []
        self._names: dict[str, dict[int, str]] = {}

    def function(self, definition: Asset | Task, closures: Closures) -> Ref:
        """The ref of an asset's or task's function: by import where it lives at module scope.

        Raises:
            RefResolutionError: it does not, and the executor takes nothing else.
        """
        ref = self._made.get((id(definition), closures))
        if ref is None:
            ref = self._remember(definition, closures, self._function(definition, closures))
        return ref

    def location(self, definition: Asset | Task | BashTask) -> ImportRef | None:
        """Return the name under which the module that makes a definition holds it; None where it has none."""
        if isinstance(definition, BashTask):
            module = definition.module
        else:
            module = definition.signature.module if definition.signature is not None else ""
        if module in ("", "__main__") or module not in sys.modules or not _is_importable(module):
            return None
        name = self._names_in(module).get(id(definition))
        return ImportRef(module=module, qualname=name) if name is not None else None

    def object(self, found: Any, closures: Closures, role: str, name: str) -> Ref:
        """The ref of an IO handler or a resource: live in this process, else its class and its fields as JSON.

        `role` and `name` say in an error what it is to whom.

        Raises:
            RefResolutionError: its class cannot be imported by name.
            ConfigurationError: its fields do not survive the way as JSON; names them.
        """
        ref = self._made.get((id(found), closures))
        if ref is None:
            what = f"{role} {name!r}"
            made = self._local(found, what) if closures == "local" else self._configured(found, what, closures)
            ref = self._remember(found, closures, made)
        return ref

    def constant(self, parameter: str, value: Any, closures: Closures) -> Input:
        """A constant of a composition: as JSON when that gives the same value back, else like a closure."""
        try:
            text = msgspec.json.encode(value)
            if msgspec.json.decode(text) == value and _is_plain_json(value):
                return LiteralInput(parameter=parameter, json=text.decode())
        except (TypeError, ValueError, RecursionError, OverflowError):
            # No JSON value: it goes as an object.
            pass
        if closures == "local":
            return ObjectInput(parameter=parameter, ref=self._local(value, f"constant {parameter}"))
        if closures == "pickled":
            return ObjectInput(parameter=parameter, ref=self._pickled(value, f"constant {parameter!r}"))
        raise RefResolutionError(
            f"the constant {value!r:.80} for parameter {parameter!r} is no JSON value, so it cannot leave this process",
            hint="make it inside a task, or give it as an upstream",
        )

    def _remember(self, found: Any, closures: Closures, ref: Ref) -> Ref:
        # An id is only unique while the object lives.
        self._kept.append(found)
        self._made[id(found), closures] = ref
        return ref

    def _local(self, found: Any, what: str) -> LocalRef:
        token = f"{len(self.local)}:{what}"
        self.local[token] = found
        return LocalRef(token=token)

    def _function(self, definition: Asset | Task, closures: Closures) -> Ref:
        function: Any = definition.function
        module, qualname = getattr(function, "__module__", None), getattr(function, "__qualname__", "<unnamed>")
        if definition.signature is not None and definition.signature.module != module:
            # A module may make a step of another's function; a worker with a list of modules knows it by the step.
            location = self.location(definition)
            if location is not None:
                return location
        if module not in (None, "__main__") and (closures == "local" or _is_importable(module)):
            name = self._name_of(definition, function, module, qualname)
            if name is not None:
                return ImportRef(module=module, qualname=name)
        if closures == "local":
            return self._local(definition, definition.name)
        if closures == "pickled":
            return self._pickled(function, f"the function of {definition.name!r}")
        raise RefResolutionError(
            f"{module}:{qualname} ({definition.where}) cannot be imported by name, as a worker elsewhere has to",
            hint="move the function to module scope of an importable module",
        )

    def _name_of(self, definition: Any, function: Any, module: str, qualname: str) -> str | None:
        """The name under which importing the module gives this very definition, or else its plain function."""
        loaded = sys.modules.get(module)
        if loaded is None:
            return None
        found: Any = None
        if "<locals>" not in qualname:
            found = loaded
            for part in qualname.split("."):
                found = getattr(found, part, None)
        if found is definition:
            return qualname
        name = self._names_in(module).get(id(definition))
        if name is not None:
            return name
        if found is function and not isinstance(definition, MultiAsset):
            return qualname
        return None

    def _names_in(self, module: str) -> dict[int, str]:
        names = self._names.get(module)
        if names is None:
            names = self._names[module] = {
                id(value): name
                for name, value in vars(sys.modules[module]).items()
                if isinstance(value, Asset | Task | BashTask)
            }
        return names

    def _pickled(self, found: Any, what: str) -> PickledRef:
        try:
            cloudpickle = importlib.import_module("cloudpickle")
        except ImportError:
            raise RefResolutionError(
                f"{what} has no module scope, and pickling it needs the package cloudpickle",
                hint="pip install cloudpickle",
            ) from None
        try:
            with _by_value(cloudpickle, found):
                payload = pickle_with_source(cloudpickle, found)
        except Exception as error:
            raise RefResolutionError(
                f"{what} has no module scope and cannot be pickled: {describe_exception(error)}",
                hint="move it to module scope of an importable module",
            ) from error
        return sign(payload, self._key)

    def _configured(self, found: Any, what: str, closures: Closures) -> ConfiguredRef | PickledRef:
        cls = type(found)
        ref = ImportRef(module=cls.__module__, qualname=cls.__qualname__)
        loaded: Any = sys.modules.get(cls.__module__)
        for part in cls.__qualname__.split("."):
            loaded = getattr(loaded, part, None)
        if loaded is not cls or cls.__module__ == "__main__":
            if closures == "pickled" and isinstance(found, BaseModel):
                return self._pickled(_ModelByValue(cls, field_json(found, what)), what)
            raise RefResolutionError(
                f"{what}: its class {cls.__module__}:{cls.__qualname__} cannot be imported by name, as a worker has to",
                hint="move the class to module scope of an importable module",
            )
        if not isinstance(found, BaseModel):
            raise ConfigurationError(
                f"{what}: a {cls.__name__} cannot leave this process", hint="make it an rs.Resource"
            )
        return ConfiguredRef(cls=ref, json=field_json(found, what))


@cache
def _is_importable(module: str) -> bool:
    """Return whether a fresh process could import a module: ask the finders, and ignore what is loaded here."""
    path: Any = None
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        name = ".".join(parts[:end])
        specs = (finder.find_spec(name, path) for finder in sys.meta_path if hasattr(finder, "find_spec"))
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is None or not parts[end - 1].isidentifier():
            return False
        path = spec.submodule_search_locations
    return True


@contextmanager
def _by_value(cloudpickle: Any, found: Any) -> Iterator[None]:
    """Let cloudpickle pickle a module by value that no other process can import, such as pytest's test modules."""
    while isinstance(found, partial):
        found = found.func
    module = sys.modules.get(getattr(found, "__module__", None) or "")
    if module is None or module.__name__ == "__main__" or _is_importable(module.__name__):
        yield
        return
    cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(module)


class _ModelByValue:
    """An object that unpickles as a model: its class travels by value, its fields as JSON."""

    def __init__(self, cls: type[BaseModel], json: str) -> None:
        self._cls = cls
        self._json = json

    def __reduce__(self) -> tuple[Any, ...]:
        return self._cls.model_validate_json, (self._json,)


def _is_plain_json(value: Any) -> bool:
    """Return whether a value comes back from JSON with the same types: a tuple would come back as a list."""
    if isinstance(value, dict):
        return all(type(key) is str and _is_plain_json(item) for key, item in value.items())
    if type(value) is list:
        return all(_is_plain_json(item) for item in value)
    return type(value) in (str, int, float, bool, type(None))
