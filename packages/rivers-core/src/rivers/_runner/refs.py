"""Following refs: from a name to the live object, in the worker.

A ref from the network is not obeyed blindly: a worker can limit the modules whose definitions it runs (`allowed`),
and pickles are loaded only where the worker itself was started with the key of the run.
"""

from __future__ import annotations

import importlib
import pickle
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from rivers._runner.allow_list import AllowList
from rivers.exceptions import RefResolutionError
from rivers.protocol.exception_text import describe_exception
from rivers.protocol.ref import ConfiguredRef, ImportRef, InlineRef, LocalRef, PickledRef, Ref, is_signed
from rivers.protocol.spec import StepSpec

__all__ = ["Resolver"]


class Resolver:
    """A cache of the objects that refs lead to: a ref is the same object for as long as the resolver lives.

    `local` holds the objects behind LocalRefs; `allowed` are modules, each with those below it, that may define what is
    run (empty: any importable module); `pickle_key` is the run's key where pickles are allowed, empty where they are
    not. A pickle can name any function of any module, so none is loaded where `allowed` limits them.
    """

    def __init__(
        self, local: Mapping[str, Any] | None = None, *, allowed: Sequence[str] = (), pickle_key: bytes = b""
    ) -> None:
        self._local = local if local is not None else {}
        self._allowed = AllowList(allowed) if allowed else None
        self._pickle_key = pickle_key
        self._found: dict[Ref, Any] = {}

    def resolve(self, ref: Ref) -> Any:
        """Return the object that a ref leads to.

        Raises:
            RefResolutionError: it cannot be found, imported, built or trusted; the cause is the original error.
        """
        if type(ref) is LocalRef:
            try:
                return self._local[ref.token]
            except KeyError:
                raise RefResolutionError(
                    f"{ref.token!r} lives in another process and cannot be reached from here"
                ) from None
        found = self._found.get(ref, _MISSING)
        if found is _MISSING:
            found = self._found[ref] = self._resolve(ref)
        return found

    def check(self, spec: StepSpec) -> None:
        """Check the commands and constants of a spec against the allowed definitions, where modules are limited.

        Raises:
            RefResolutionError: no definition has them.
        """
        if self._allowed is not None:
            self._allowed.check_spec(spec, self.resolve)

    def _resolve(self, ref: Ref) -> Any:
        if isinstance(ref, ImportRef):
            return self._import(ref)
        if isinstance(ref, ConfiguredRef):
            return self._configured(ref)
        # It leads nowhere: the values are in the spec.
        if isinstance(ref, InlineRef):
            return ref
        assert isinstance(ref, PickledRef)
        return self._unpickle(ref)

    def _import(self, ref: ImportRef) -> Any:
        if self._allowed is not None:
            self._allowed.check_module(ref)
        module = sys.modules.get(ref.module)
        if module is None:
            try:
                module = importlib.import_module(ref.module)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                raise RefResolutionError(
                    f"importing {ref.module!r} in the worker raised {describe_exception(error)}",
                    hint="the worker needs the same packages and modules as the controller",
                ) from error
        found: Any = module
        for name in ref.qualname.split("."):
            if self._allowed is not None:
                self._allowed.check_step(found, name, ref)
            try:
                found = getattr(found, name)
            except AttributeError:
                raise RefResolutionError(
                    f"module {ref.module!r} has no {ref.qualname!r}",
                    hint="is the worker's code the same version as the controller's?",
                ) from None
        if self._allowed is not None:
            self._allowed.check_end(found, ref)
        return found

    def _configured(self, ref: ConfiguredRef) -> Any:
        cls = self.resolve(ref.cls)
        if not (isinstance(cls, type) and issubclass(cls, BaseModel)):
            raise RefResolutionError(f"{ref.cls.module}:{ref.cls.qualname} is no pydantic class, but {cls!r:.80}")
        if self._allowed is not None:
            self._allowed.check_configured(cls, ref.cls)
        try:
            return cls.model_validate_json(ref.json)
        except ValidationError as error:
            fields = ", ".join(".".join(map(str, problem["loc"])) for problem in error.errors())
            raise RefResolutionError(
                f"{cls.__name__} cannot be built from its fields here; wrong are {fields}",
                hint="secrets do not travel: set those among them in the environment of the worker",
            ) from None

    def _unpickle(self, ref: PickledRef) -> Any:
        """Load a pickle, in the one place that unpickles code, and only if the controller of this run has signed it."""
        if self._allowed is not None:
            raise RefResolutionError(
                "a pickled function was sent, and this worker runs only what allowed modules define",
                hint="move the function to module scope of an allowed module",
            )
        if not self._pickle_key:
            raise RefResolutionError(
                "a pickled function was sent, and this worker does not allow pickles",
                hint="move the function to module scope",
            )
        if not is_signed(ref, self._pickle_key):
            raise RefResolutionError("a pickled function does not bear this run's signature; it was not loaded")
        try:
            return pickle.loads(ref.payload)  # noqa: S301 - signed with this run's key, verified above
        except Exception as error:
            raise RefResolutionError(
                f"a pickled function could not be loaded: {describe_exception(error)}",
                hint="the worker needs the same Python and packages as the controller; module scope avoids this",
            ) from error


_MISSING = object()
