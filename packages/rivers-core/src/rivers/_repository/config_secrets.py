"""Find the secrets in the configs of a run, and mask them in what its header keeps."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from rivers._plan.plan import Plan
from rivers._record.redact import MASK, Redactor, secrets_of
from rivers._repository.checks import config_model_of, configured_nodes

__all__ = ["config_instances", "mask_configs"]


def config_instances(plan: Plan, configs: Mapping[str, str]) -> Iterator[tuple[str, BaseModel]]:
    """Yield the config of each step that has a class for it, by name; `configs` are JSON texts that were checked."""
    for name, node in configured_nodes(plan).items():
        model = config_model_of(node)
        if model is not None:
            yield name, model.model_validate_json(configs.get(name, "{}"))


def mask_configs(plan: Plan, configs: Mapping[str, str]) -> dict[str, str]:
    """Return the JSON texts with `***` in place of each value that is a secret in the class of its config."""
    if not configs:
        return {}
    found = dict(configs)
    for name, instance in config_instances(plan, configs):
        secrets = secrets_of([instance], {})
        if secrets and name in found:
            masked = _mask(json.loads(found[name]), secrets, Redactor(secrets))
            found[name] = json.dumps(masked, separators=(",", ":"))
    return found


def _mask(value: Any, secrets: set[str], redactor: Redactor) -> Any:
    if isinstance(value, dict):
        return {key: _mask(item, secrets, redactor) for key, item in value.items()}
    if isinstance(value, list):
        return [_mask(item, secrets, redactor) for item in value]
    # A whole field however short it is: unlike a part of a text, it is no coincidence.
    return (MASK if value in secrets else redactor.text(value)) if isinstance(value, str) else value
