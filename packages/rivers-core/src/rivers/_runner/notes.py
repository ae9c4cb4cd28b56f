"""Make the notes that are stored with the outputs of a step."""

from __future__ import annotations

import functools
import os
from typing import Any

from rivers._definitions.output import Output
from rivers._io.note import make_note
from rivers._record.redact import Redactor, secrets_of
from rivers._runner.callee import Callee
from rivers._runner.refs import Resolver
from rivers.protocol.ref import InlineRef
from rivers.protocol.spec import ResourceInput, StepSpec

__all__ = ["note_of", "version_of"]


def version_of(
    spec: StepSpec, callee: Callee | None, output: Output, resolver: Resolver, version: str | None
) -> str | None:
    """Return the data version of an output without secrets; None, at no cost, where the body has registered none.

    `version` is the one that it registered with its context. It is masked here, as all that know it compare it.
    """
    registered = output.data_version or version
    return _redactor_of(spec, callee, resolver).text(registered) if registered is not None else None


def note_of(
    spec: StepSpec,
    callee: Callee | None,
    output: Output,
    resolver: Resolver,
    extra: dict[str, Any] | None,
    registered: str | None,
) -> str | None:
    """Return the note of an output; None, at no cost, for a body that has said nothing of it.

    `extra` is the metadata that the body registered with its context, `registered` the data version of the output.
    """
    if not extra and not output.metadata and registered is None:
        return None
    redactor = _redactor_of(spec, callee, resolver)
    return make_note({**(extra or {}), **(output.metadata or {})}, registered, redactor)


def _redactor_of(spec: StepSpec, callee: Callee | None, resolver: Resolver) -> Redactor:
    """Return a redactor of the secrets that a step knows."""
    refs = [declared.io_handler for declared in spec.outputs if type(declared.io_handler) is not InlineRef]
    refs += [given.ref for given in spec.inputs if isinstance(given, ResourceInput)]
    holders: list[Any] = [resolver.resolve(ref) for ref in refs]
    if callee is not None and callee.config_model is not None:
        holders.append(callee.config_model.model_validate_json(spec.config or "{}"))
    return _redactor(frozenset(secrets_of(holders, os.environ)))


@functools.lru_cache(maxsize=8)
def _redactor(secrets: frozenset[str]) -> Redactor:
    return Redactor(secrets)
