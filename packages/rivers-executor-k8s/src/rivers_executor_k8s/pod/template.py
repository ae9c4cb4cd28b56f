"""Read a user's pod template from YAML, and merge it as Kubernetes' strategic merge patch does.

Objects are merged field by field. Lists of named items are merged by their keys (containers by name, mounts by path);
other lists are replaced. Four rules differ from Kubernetes, where its own would give a useless pod:

- null removes only the three ids in `_REMOVABLE`: a field that was left empty must not undo a restriction
- an environment variable is replaced as a whole, as `value` beside `valueFrom` is invalid
- a volume of another kind is replaced as a whole
- tolerations are added
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from rivers.exceptions import ConfigurationError
from rivers.spi import check_pod_template

__all__ = ["merge_template", "read_template"]

# About the largest object that an API server accepts
MOST_BYTES = 1 << 20

_KEYS: Mapping[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "ports": ("containerPort", "protocol"),
    "imagePullSecrets": ("name",),
    "hostAliases": ("ip",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "resourceClaims": ("name",),
    "schedulingGates": ("name",),
}
# Null leaves these to the image or, on OpenShift, to the cluster; `runAsNonRoot` holds all the same
_REMOVABLE = frozenset({"runAsUser", "runAsGroup", "fsGroup"})


def read_template(path: str, *, allow_insecure: bool) -> dict[str, Any]:
    """Return the checked pod template of a YAML or JSON file.

    Raises:
        ConfigurationError: it cannot be read, is not one YAML object, or sets a field that a template may not set.
    """
    where = f"pod_template={path!r}"
    try:
        with Path(path).expanduser().open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        hint = f"relative paths start at {Path.cwd()}" if not path.startswith(("/", "~")) else None
        raise ConfigurationError(f"{where} cannot be read: {error.strerror or error}", hint=hint) from None
    except RuntimeError as error:  # a user without a home folder
        raise ConfigurationError(f"{where} cannot be read: {error}") from None
    if len(data) > MOST_BYTES:
        raise ConfigurationError(f"{where} holds more than {MOST_BYTES} bytes")
    template = _parse(data, where)
    try:
        check_pod_template(template, allow_insecure=allow_insecure)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error.message}", hint=error.hint) from None
    return template


def _parse(data: bytes, where: str) -> dict[str, Any]:
    try:
        documents = [document for document in yaml.safe_load_all(data) if document is not None]
        # The request is JSON, which has no dates, sets and keys other than text, as YAML does.
        text = json.dumps(documents, allow_nan=False)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{where} is not YAML: {error}") from None
    except (TypeError, ValueError, RecursionError) as error:
        hint = "write dates and the like in quotes"
        raise ConfigurationError(f"{where} holds what is not JSON: {error}", hint=hint) from None
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise ConfigurationError(f"{where} holds {_describe(documents)}: expected one object, a Pod manifest")
    template: dict[str, Any] = json.loads(text)[0]
    return template


def _describe(documents: Sequence[object]) -> str:
    if len(documents) == 1:
        return f"a {type(documents[0]).__name__}"
    return f"{len(documents)} documents" if documents else "nothing"


def merge_template(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return `below` overridden by `above`; neither is changed.

    Merging the same template once more changes nothing.
    """
    result = dict(below)
    for name, value in above.items():
        if isinstance(value, (str, int)):  # most are, and checks against abstract classes are slow
            result[name] = value
        elif value is None:
            if name in _REMOVABLE:
                result.pop(name, None)
        elif isinstance(value, (dict, Mapping)):
            under = result.get(name)
            result[name] = merge_template(
                {} if under is None or not isinstance(under, (dict, Mapping)) else under, value
            )
        elif isinstance(value, list):
            under = result.get(name)
            result[name] = _merge_list(name, under if isinstance(under, list) else [], value)
        else:
            result[name] = value
    return result


def _merge_list(name: str, below: list[Any], above: list[Any]) -> list[Any]:
    given = [merge_template({}, item) if isinstance(item, (dict, Mapping)) else item for item in above]
    if name == "tolerations":
        keys = [toleration.get("key") for toleration in given]
        return [*given, *(one for one in below if one not in given and one.get("key") not in keys)]
    if name not in _KEYS or not below:
        return given
    items = list(below)
    places = {_identity(name, item): place for place, item in enumerate(items)}
    for item in given:
        place = places.get(_identity(name, item))
        if place is None:
            items.append(item)
        elif name == "env" or (name == "volumes" and items[place].keys() != item.keys()):
            items[place] = item
        else:
            items[place] = merge_template(items[place], item)
    return items


def _identity(name: str, item: Mapping[str, Any]) -> str | tuple[str, ...]:
    """Return the key by which two items of a list are merged."""
    if len(_KEYS[name]) == 1:
        return str(item.get(_KEYS[name][0]))
    return tuple(str(item.get(field, "TCP" if field == "protocol" else None)) for field in _KEYS[name])
