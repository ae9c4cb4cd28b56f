"""Admit pods as the API server does: defaults, validation, quota."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from rivers_k8s_testing.api_errors import ApiStatusError, ResourceRef
from rivers_k8s_testing.node.statuses import is_over

__all__ = ["Quota", "admit_pod"]

Pod = Mapping[str, Any]
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_QUANTITY = re.compile(r"([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)")
_SCALES: Mapping[str, Decimal] = {
    **{
        letter: Decimal(1000) ** power
        for power, letter in zip(range(-3, 7), ("n", "u", "m", "", "k", *"MGTPE"), strict=True)
    },
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)},
}
WRONG_NAME = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    f"end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{_NAME.pattern}')"
)
WRONG_LABEL = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    f"'{_LABEL.pattern}')"
)
WRONG_QUANTITY = f"quantities must match the regular expression '^{_QUANTITY.pattern}$'"


def admit_pod(given: Mapping[str, Any], namespace: str) -> dict[str, Any]:
    """Return the pod to store, with the server's defaults.

    Raises:
        ApiStatusError: 400 or 422, with the API server's messages.
    """
    meta, spec = dict(given.get("metadata") or {}), dict(given.get("spec") or {})
    if meta.setdefault("namespace", namespace) != namespace:
        raise ApiStatusError(
            400, "the namespace of the provided object does not match the namespace sent on the request"
        )
    if not meta.get("name") and meta.get("generateName"):
        meta["name"] = meta["generateName"] + secrets.token_hex(3)[:5]
    where = ResourceRef("pods", "Pod", name=meta.get("name", ""))
    # Quantities fail when the body is decoded, so before everything else, and with 400.
    _check_quantities(spec)
    faults = [*_metadata_faults(meta), *_container_faults(spec)]
    if faults:
        raise where.invalid(*faults)
    defaults = {
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "serviceAccountName": "default",
        "schedulerName": "default-scheduler",
        "securityContext": {},
    }
    containers = [
        {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File", "resources": {}, **one}
        for one in spec["containers"]
    ]
    kept = {**defaults, **spec, "containers": containers}
    return {"kind": "Pod", "apiVersion": "v1", "metadata": meta, "spec": kept, "status": {"phase": "Pending"}}


Fault = tuple[str, str, str]


def _metadata_faults(meta: Mapping[str, Any]) -> Iterable[Fault]:
    name = meta.get("name", "")
    if not name:
        yield "metadata.name", "FieldValueRequired", "Required value: name or generateName is required"
    elif not _NAME.fullmatch(name):
        yield "metadata.name", "FieldValueInvalid", f'Invalid value: "{name}": {WRONG_NAME}'
    elif len(name) > 253:
        yield "metadata.name", "FieldValueInvalid", f'Invalid value: "{name}": must be no more than 253 characters'
    for value in (meta.get("labels") or {}).values():
        if not _LABEL.fullmatch(value):
            yield "metadata.labels", "FieldValueInvalid", f'Invalid value: "{value}": {WRONG_LABEL}'
        elif len(value) > 63:
            wrong = "must be no more than 63 characters"
            yield "metadata.labels", "FieldValueTooLong", f'Invalid value: "{value}": {wrong}'


def _container_faults(spec: Mapping[str, Any]) -> Iterable[Fault]:
    if not spec.get("containers"):
        yield "spec.containers", "FieldValueRequired", "Required value"
    for number, container in enumerate(spec.get("containers") or ()):
        at = f"spec.containers[{number}]"
        for needed in ("name", "image"):
            if not container.get(needed):
                yield f"{at}.{needed}", "FieldValueRequired", "Required value"
        resources = container.get("resources") or {}
        limits = resources.get("limits") or {}
        for name, asked in (resources.get("requests") or {}).items():
            if name in limits and parse_quantity(asked) > parse_quantity(limits[name]):
                wrong = f'Invalid value: "{asked}": must be less than or equal to {name} limit of {limits[name]}'
                yield f"{at}.resources.requests", "FieldValueInvalid", wrong


def _check_quantities(spec: Mapping[str, Any]) -> None:
    for container in spec.get("containers") or ():
        for amounts in (container.get("resources") or {}).values():
            for amount in amounts.values() if isinstance(amounts, Mapping) else ():
                parse_quantity(amount)


def parse_quantity(text: Any) -> Decimal:
    """Return the number for a quantity such as 100m or 2Gi.

    Raises:
        ApiStatusError: 400, it is malformed.
    """
    found = _QUANTITY.fullmatch(str(text))
    scale = _SCALES.get(found[2]) if found else None
    if found is None or scale is None:
        raise ApiStatusError(400, f'Pod in version "v1" cannot be handled as a Pod: {WRONG_QUANTITY}')
    return Decimal(found[1]) * scale


@dataclass
class Quota:
    """A ResourceQuota; `hard` has a quantity for each resource, such as pods or requests.cpu, and empty is no limit."""

    name: str = "quota"
    hard: Mapping[str, str] = field(default_factory=dict)

    def check(self, where: ResourceRef, pod: Pod, others: Iterable[Pod]) -> None:
        """Refuse a pod that would exceed the quota; pods that have ended do not count.

        Raises:
            ApiStatusError: 403.
        """
        # A quota on a resource makes its request or limit mandatory in every container.
        lacks = []
        for resource in sorted(self.hard):
            without = [one["name"] for one in pod["spec"]["containers"] if _amount_of(one, resource) is None]
            if without:
                lacks.append(f"{resource} for: {','.join(without)}")
        if lacks:
            raise where.forbidden(f"failed quota: {self.name}: must specify {'; '.join(lacks)}")
        # A pod counts from its creation to its last phase.
        running = [other for other in others if not is_over(other)]
        requested = {resource: _total([pod], resource) for resource in self.hard}
        used = {resource: _total(running, resource) for resource in self.hard}
        over = [name for name, hard in self.hard.items() if used[name] + requested[name] > parse_quantity(hard)]
        if over:
            amounts = (("requested", requested), ("used", used), ("limited", self.hard))
            words = [
                f"{word}: {','.join(f'{name}={_text(of[name])}' for name in sorted(over))}" for word, of in amounts
            ]
            raise where.forbidden(f"exceeded quota: {self.name}, {', '.join(words)}")


def _amount_of(container: Mapping[str, Any], resource: str) -> Decimal | None:
    """Return a container's amount of a resource such as requests.cpu; 0 for one that is counted by pod."""
    kind, _, name = resource.partition(".")
    if not name:
        return Decimal(0)
    amount = ((container.get("resources") or {}).get(kind) or {}).get(name)
    return None if amount is None else parse_quantity(amount)


def _total(pods: Iterable[Pod], resource: str) -> Decimal:
    if resource in {"pods", "count/pods"}:
        return Decimal(len(list(pods)))
    return sum(
        (_amount_of(one, resource) or Decimal(0) for pod in pods for one in pod["spec"]["containers"]), Decimal(0)
    )


def _text(amount: Decimal | str) -> str:
    """Return a quantity as the API server writes it."""
    if isinstance(amount, str):
        return amount
    if amount == amount.to_integral_value():
        for letter in "EPTGMK":
            if amount and amount % _SCALES[f"{letter}i"] == 0:
                return f"{int(amount / _SCALES[f'{letter}i'])}{letter}i"
        return str(int(amount))
    return f"{int(amount * 1000)}m"
