"""Secrets among the options of a bucket, which stay in the environment."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from rivers.exceptions import ConfigurationError

__all__ = ["check_environment", "move_to_environment", "secret_settings"]

_SECRET = ("secret", "token", "password", "_key", "sas_", "bearer", "default_headers")
_NO_SECRET = ("_id", "_file", "_url", "_enabled")
# The prefixes of a scheme's variables; the rest is the setting's name in capitals.
_PREFIXES = {"s3": ("AWS_",), "gs": ("GOOGLE_",), "az": ("AZURE_STORAGE_", "AZURE_")}
_SCHEMES = {"s3a": "s3", "gcs": "gs", "azure": "az", "adl": "az", "abfs": "az", "abfss": "az"}


def secret_settings(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield `config` or `client_options` and the key of each option that may be secret."""
    for part in ("config", "client_options"):
        for key in options.get(part) or {}:
            name = key.lower()
            if any(mark in name for mark in _SECRET) and not name.endswith(_NO_SECRET):
                yield part, key


def move_to_environment(scheme: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with the secrets that the environment also has replaced by its variables' names."""
    # obstore's clients read AWS_*, AZURE_* and GOOGLE_* themselves when they are made, also from a URL.
    config, variables = dict(options.get("config") or {}), list(options.get("environment") or ())
    for part, key in list(secret_settings({"config": config})):
        assert part == "config"
        variable = next((name for name in _variables(scheme, key) if os.environ.get(name) == config[key]), None)
        if variable is not None:
            del config[key]
            variables.append(variable)
    return {**options, "config": config, "environment": sorted(set(variables))}


def check_environment(variables: list[str], address: str) -> None:
    """Raise ConfigurationError if a variable with a secret of the store is missing."""
    missing = [name for name in variables if not os.environ.get(name)]
    if missing:
        raise ConfigurationError(
            f"{address} needs {', '.join(missing)}, which the environment of this process lacks",
            hint="secrets do not travel: set them in the environment of every process that opens the store",
        )


def _variables(scheme: str, key: str) -> Iterator[str]:
    prefixes = _PREFIXES.get(_SCHEMES.get(scheme, scheme), ())
    name = key.upper()
    yield from (prefix + name for prefix in prefixes if not name.startswith(prefix))
    if name.startswith(prefixes):
        yield name
