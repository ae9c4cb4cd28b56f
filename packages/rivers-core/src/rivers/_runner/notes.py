"""Make the notes that are stored with the outputs of a step."""

from __future__ import annotations

import functools
import os
from typing import Any

from rivers._definitions.output import Output
from rivers._io.note import make_note
from rivers._record.redact import Redactor, secrets_of
from rivers._runner.refs import Resolver
from rivers.protocol.ref import InlineRef
from rivers.protocol.spec import ResourceInput, StepSpec

__all__ = ["note_of"]


def note_of(
    spec: StepSpec, output: Output, resolver: Resolver, extra: dict[str, Any] | None, version: str | None
) -> str | None:
    """Return the note of an output; None, at no cost, for a body that has said nothing of it.

    `extra` is the metadata and `version` the data version that the body registered with its context.
    """
    registered = output.data_version or version
    if not extra and not output.metadata and registered is None:
        return None
    refs = [declared.io_handler for declared in spec.outputs if type(declared.io_handler) is not InlineRef]
    refs += [given.ref for given in spec.inputs if isinstance(given, ResourceInput)]
    secrets = secrets_of([resolver.resolve(ref) for ref in refs], os.environ)
    return make_note({**(extra or {}), **(output.metadata or {})}, registered, _redactor(frozenset(secrets)))


@functools.lru_cache(maxsize=8)
def _redactor(secrets: frozenset[str]) -> Redactor:
    return Redactor(secrets)
