"""A user's pod template: read from YAML, and merged as Kubernetes merges patches.

Objects are merged field by field. Lists of named things are merged by what names them (containers by name, mounts by
path, …), as Kubernetes' strategic merge does; other lists are replaced. Four things differ, each where Kubernetes' own
way makes a pod that nobody wants:

- null takes nothing away but the three ids in `_REMOVABLE`: a field that was left empty must not undo a restriction
- an environment variable is replaced as a whole: `value` beside `valueFrom` is invalid
- so is a volume of another kind
- tolerations add up
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

# What an API server takes at most is about this much
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
    """The pod template in a YAML (or JSON) file, checked.

    Raises:
        ConfigurationError: it cannot be read, is no single YAML object, or holds what a template may not.
    """
    where = f"pod_template={path!r}"
    try:
        with Path(path).expanduser().open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        hint = f"it is looked for from {Path.cwd()}" if not path.startswith(("/", "~")) else None
        raise ConfigurationError(f"{where} cannot be read: {error.strerror or error}", hint=hint) from None
    except RuntimeError as error:  # a user without a home folder
        raise ConfigurationError(f"{where} cannot be read: {error}") from None
    if len(data) > MOST_BYTES:
        raise ConfigurationError(f"{where} holds more than {MOST_BYTES} bytes")
    template = _parsed(data, where)
    try:
        check_pod_template(template, allow_insecure=allow_insecure)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error.message}", hint=error.hint) from None
    return template


def _parsed(data: bytes, where: str) -> dict[str, Any]:
    try:
        documents = [document for document in yaml.safe_load_all(data) if document is not None]
        # Through JSON, as what YAML knows beside it (dates, sets, keys that are no text) cannot be sent.
        text = json.dumps(documents, allow_nan=False)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{where} is no YAML: {error}") from None
    except (TypeError, ValueError, RecursionError) as error:
        hint = "write dates and the like in quotes"
        raise ConfigurationError(f"{where} holds what is not JSON: {error}", hint=hint) from None
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise ConfigurationError(f"{where} holds {_seen(documents)}: one object, a Pod manifest, is allowed")
    template: dict[str, Any] = json.loads(text)[0]
    return template


def _seen(documents: Sequence[object]) -> str:
    if len(documents) == 1:
        return f"a {type(documents[0]).__name__}"
    return f"{len(documents)} documents" if documents else "nothing"


def merge_template(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """An object with what `above` says, and what `below` says where `above` says nothing; neither is changed.

    Merging the same once more changes nothing.
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
    """What makes two items of a list the same one."""
    if len(_KEYS[name]) == 1:
        return str(item.get(_KEYS[name][0]))
    return tuple(str(item.get(field, "TCP" if field == "protocol" else None)) for field in _KEYS[name])
