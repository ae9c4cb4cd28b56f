"""The check of a user's pod template against the rules of `pod_rules`.

A template is a Pod manifest that the kubernetes executor merges its own with. Null is "not given". Whether the pod is
valid otherwise is for the API server to say: preflight asks it by a strict dry run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rivers._definitions.arguments import short_repr
from rivers._definitions.kubernetes.pod_rules import (
    CLOSED,
    LISTS,
    OBJECTS,
    OPEN_TO_HOSTS,
    OWNED,
    SAFE,
    SAME_RULES,
    SUSPICIOUS,
)
from rivers._definitions.names import closest
from rivers.exceptions import ConfigurationError

__all__ = ["RESERVED_ENV", "check_pod_template"]

STEP_CONTAINER = "rivers-step"
"""The worker's container; a container of this name in a template is merged with it, others are side-cars."""
_SET = "RUN_ID ATTEMPT_ID CONTROLLER_CERTIFICATE LISTEN WORKER ORPHAN_TTL GRACE HEARTBEAT MODULES TERMINATION_LOG"
_SET_FOR_MANY = "MAX_ATTEMPTS MAX_AGE IDLE_TTL SCRATCH"
RESERVED_ENV = frozenset(f"RIVERS_{name}" for name in f"{_SET} {_SET_FOR_MANY}".split())
"""Variables that rivers sets for a worker. Others are for images and templates, such as RIVERS_ALLOW_PICKLE."""

_TEXTS = ("metadata.labels", "metadata.annotations")
_IN_BRACKETS = (*_TEXTS, "worker.resources.requests", "worker.resources.limits")
_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
_HANDLERS = frozenset(f"sidecar.{name}" for name in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe"))
_HARMLESS = frozenset({"hostAliases", "hostUsers", "hostname", "hostnameOverride", "hostIP", "securityContext"})


def check_pod_template(template: Mapping[str, Any], *, allow_insecure: bool) -> None:
    """Refuse a pod template that changes what rivers sets or, unless `allow_insecure`, that loosens the pod's security.

    Raises:
        ConfigurationError: names the path, the value and what is expected.
    """
    if not isinstance(template, Mapping):
        raise _error("pod_template", template, "an object")
    for name, value in template.items():
        _Check(allow_insecure).visit(value, f"pod_template.{name}", str(name))


class _Check:
    """One walk through a template: `path` is where it is for the user, `at` the position in the tables."""

    def __init__(self, insecure: bool) -> None:
        self._insecure = insecure

    def visit(self, value: Any, path: str, at: str) -> None:
        """Check one value and all that is in it."""
        if value is None:
            return
        # One table serves the security contexts of the pod and of all containers.
        at = SAME_RULES.get(at, at)
        owned = OWNED.get(at)
        if owned is not None:
            if value not in owned.same:
                same = " or ".join(map(repr, owned.same)) or "nothing"
                raise _error(path, value, f"{same}, as rivers sets it", owned.hint)
        elif at in LISTS:
            self._visit_list(value, path, at)
        elif at in OBJECTS:
            self._visit_object(value, path, at)
        safe = SAFE.get(at)
        if safe is not None and not safe.accepts(value):
            self._refuse_insecure(path, value, safe.expected)
        if at in _HANDLERS:
            for host_path, host in _hosts(value, path):
                self._refuse_insecure(host_path, host, "no host, which is the pod itself")

    def _refuse_insecure(self, path: str, value: Any, expected: str, hint: str | None = None) -> None:
        if not self._insecure:
            way_out = "what loosens the pod's security needs rs.Executor.kubernetes(allow_insecure_pod=True)"
            raise _error(path, value, expected, hint or way_out)

    def _visit_object(self, value: Any, path: str, at: str) -> None:
        if not isinstance(value, Mapping):
            raise _error(path, value, "an object")
        for name, given in value.items():
            field = f"{at}.{name}"
            field_path = f"{path}[{name!r}]" if at in _IN_BRACKETS else f"{path}.{name}"
            if given is not None:
                self._check_known(name, given, field_path, at)
                if at in _TEXTS:
                    self._check_text(name, given, field_path, at)
                self.visit(given, field_path, field)
        self._check_special(value, path, at)

    def _check_known(self, name: str, given: Any, path: str, at: str) -> None:
        """Refuse an unknown field where it could loosen the pod."""
        field = f"{at}.{name}"
        if field in OWNED or field in SAFE:
            return
        if at in CLOSED:
            known = {*CLOSED[at].split(), *(safe[len(at) + 1 :] for safe in SAFE if safe.startswith(f"{at}."))}
            if name not in known:
                near = closest(name, known)
                expected = f"one of the fields {', '.join(sorted(known))}"
                self._refuse_insecure(path, given, expected, f"did you mean {near!r}?" if near else None)
        elif at in OPEN_TO_HOSTS and SUSPICIOUS.match(name) and name not in _HARMLESS:
            self._refuse_insecure(path, given, "a field that rivers knows to be safe")

    def _check_text(self, name: str, given: Any, path: str, at: str) -> None:
        if not isinstance(given, str):
            raise _text_error(path, given)
        if name.startswith("rivers.io/"):
            raise _error(path, given, "nothing, as rivers sets it", "labels of rivers begin with rivers.io/")
        # The old form of appArmorProfile.
        if name.startswith(_APPARMOR) and at == "metadata.annotations" and given != "runtime/default":
            self._refuse_insecure(path, given, "'runtime/default'")

    def _check_special(self, value: Mapping[str, Any], path: str, at: str) -> None:
        """Check what depends on several fields."""
        if at == "worker":
            read_only = (value.get("securityContext") or {}).get("readOnlyRootFilesystem")
            if read_only is not None and read_only is not True:
                self._refuse_insecure(f"{path}.securityContext.readOnlyRootFilesystem", read_only, "True")
        elif at == "sidecar" and not value.get("image"):
            hint = f"the worker's container is named {STEP_CONTAINER!r}"
            raise _error(f"{path}.image", value.get("image"), "the image of a side-car", hint)
        elif at in ("worker.env[]", "sidecar.env[]"):
            if value.get("value") is not None and not isinstance(value["value"], str):
                raise _text_error(f"{path}.value", value["value"])
            if at == "worker.env[]" and value.get("name") in RESERVED_ENV:
                raise _error(f"{path}.name", value["name"], "another name, as rivers sets this one")
        elif at == "source.serviceAccountToken":
            # A token for somebody else than the API server is how a body gets an identity.
            audience = value.get("audience")
            if not isinstance(audience, str) or not audience or "kubernetes.default" in audience:
                hint = "name who is to accept it"
                self._refuse_insecure(f"{path}.audience", audience, "an audience other than the API server", hint)

    def _visit_list(self, value: Any, path: str, at: str) -> None:
        if not isinstance(value, list):
            raise _error(path, value, "a list")
        # Duplicate keys would be merged into one item without a word.
        item_at, key = LISTS[at]
        seen: dict[str, int] = {}
        for number, item in enumerate(value):
            item_path = f"{path}[{number}]"
            if item is None or (key is not None and not isinstance(item, Mapping)):
                raise _error(item_path, item, "an object")
            if key is not None:
                _check_key(item.get(key), f"{item_path}.{key}", number, seen, path)
            self.visit(item, item_path, _container_at(item, item_path, item_at))


def _container_at(item: Any, path: str, at: str) -> str:
    """Return the position of a container: the worker's or a side-car's."""
    if at not in ("container", "initContainer"):
        return at
    if item.get("name") != STEP_CONTAINER:
        return "sidecar"
    if at == "initContainer":
        raise _error(f"{path}.name", STEP_CONTAINER, "another name, as the worker has this one")
    return "worker"


def _check_key(name: Any, path: str, number: int, seen: dict[str, int], list_path: str) -> None:
    if name is not None and not isinstance(name, str):
        raise _text_error(path, name)
    if not name:
        raise _error(path, name, "a str that is not empty")
    if seen.setdefault(name, number) != number:
        raise _error(path, name, "another one", f"{list_path}[{seen[name]}] has it already")


def _hosts(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield every field `host` in a probe or a lifecycle handler that names one."""
    if isinstance(value, Mapping):
        for name, given in value.items():
            if name == "host" and given not in (None, ""):
                yield f"{path}.host", given
            yield from _hosts(given, f"{path}.{name}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _hosts(item, f"{path}[{number}]")


def _error(path: str, value: object, expected: str, hint: str | None = None) -> ConfigurationError:
    # No more than one plain value is shown: what is longer may hold what is not for logs.
    given = f"={short_repr(value)}" if value is None or isinstance(value, str | int | float) else f" ({_kind(value)})"
    return ConfigurationError(f"invalid {path}{given}: expected {expected}", hint=hint)


def _text_error(path: str, value: object) -> ConfigurationError:
    # Not shown: it may be a password without quotes.
    return ConfigurationError(f"invalid {path} ({_kind(value)}): expected a str", hint="write it in quotes")


def _kind(value: object) -> str:
    names = ((Mapping, "an object"), (list, "a list"), (bool, "a bool"), (str, "a str"))
    return next((name for kind, name in names if isinstance(value, kind)), "a number")
