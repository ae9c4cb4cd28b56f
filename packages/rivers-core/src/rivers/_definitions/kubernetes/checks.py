"""Checks of the arguments of `Executor.kubernetes`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any

from rivers._definitions.arguments import (
    argument_error,
    check_count,
    check_flag,
    check_seconds,
    check_text,
    plain_text,
)
from rivers._definitions.compute import check_cpu, check_memory
from rivers._definitions.frozen_json import FrozenJSON
from rivers._definitions.kubernetes.pod_template import RESERVED_ENV, check_pod_template
from rivers._definitions.names import closest
from rivers._definitions.settings import check_environment, check_worker_reuse
from rivers.exceptions import ConfigurationError

__all__ = ["check_env", "check_settings"]

_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_NAMESPACE = re.compile(_LABEL)
_ACCOUNT = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
_IMAGE = re.compile(r"[!-~]+")
_CONTEXT = re.compile(r"[^\x00-\x1f\x7f]+")
# Printable ASCII but the equals sign, as the API server accepts.
_ENV_NAME = re.compile(r"[ -<>-~]+")
_IMAGE_RULE = "the name of an image, without white space, or None"
_NAMESPACE_RULE = "1 to 63 characters of a-z, 0-9 and -, neither first nor last a -, or None"
_ACCOUNT_RULE = "1 to 253 characters of a-z, 0-9, - and ., each part between dots neither first nor last a -"
_CONTEXT_RULE = "the name of a context of the kubeconfig, or None"
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")

_SECONDS = ("orphan_ttl", "grace", "idle_ttl")
# What `rivers-worker serve` accepts
_MOST_SECONDS, _MOST_STEPS = 1e6, 100_000
_FLAGS = ("keep_failed_pods", "allow_pickle", "allow_insecure_pod", "inline_values")


def check_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments by name, each in its plain form.

    Raises:
        ConfigurationError: one is invalid.
    """
    found = {
        "worker_image": _optional_text("worker_image", given, _IMAGE_RULE, _IMAGE),
        "namespace": _optional_text("namespace", given, _NAMESPACE_RULE, _NAMESPACE),
        "service_account": check_text("service_account", given["service_account"], _ACCOUNT_RULE, _ACCOUNT, most=253),
        "context": _optional_text("context", given, _CONTEXT_RULE, _CONTEXT),
        "image_pull_policy": _pull_policy(given["image_pull_policy"]),
        "max_concurrent_steps": check_count("max_concurrent_steps", given["max_concurrent_steps"], optional=True),
        "max_steps_per_worker": check_count("max_steps_per_worker", given["max_steps_per_worker"], most=_MOST_STEPS),
        "worker_reuse": check_worker_reuse("worker_reuse", given["worker_reuse"]),
        "worker_cpu": check_cpu("worker_cpu", given["worker_cpu"]),
        "worker_memory": check_memory("worker_memory", given["worker_memory"]),
        "startup_timeout": check_seconds("startup_timeout", given["startup_timeout"], above=0),
        **{name: check_seconds(name, given[name], above=0, most=_MOST_SECONDS) for name in _SECONDS},
        **{name: check_flag(name, given[name]) for name in _FLAGS},
        "pod_template": _pod_template(given["pod_template"]),
        "env": check_env(given["env"]),
    }
    template = found["pod_template"]
    if isinstance(template, FrozenJSON):
        check_pod_template(json.loads(template.text), allow_insecure=bool(found["allow_insecure_pod"]))
    return found


def _optional_text(name: str, given: Mapping[str, Any], expected: str, pattern: re.Pattern[str]) -> str | None:
    return None if given[name] is None else check_text(name, given[name], expected, pattern)


def _pull_policy(given: object) -> str | None:
    if given is None:
        return None
    text = plain_text(given)
    if text not in _PULL_POLICIES:
        near = closest(text, _PULL_POLICIES) if text is not None else None
        hint = f"did you mean {near!r}?" if near else None
        raise argument_error("image_pull_policy", given, f"one of {', '.join(map(repr, _PULL_POLICIES))} or None", hint)
    return text


def _pod_template(given: object) -> FrozenJSON | str | None:
    """Return the template in a form that can be compared and hashed."""
    if given is None or isinstance(given, FrozenJSON):
        return given
    rule = "a Pod manifest as a dict, the path of a YAML file, or None"
    if isinstance(given, str | os.PathLike):
        path = os.fspath(given)
        if not isinstance(path, str) or not path.strip() or "\x00" in path or "\n" in path:
            raise argument_error("pod_template", given, rule)
        # Not opened: workers import the user's module and may not have the file.
        return path
    if not isinstance(given, Mapping):
        raise argument_error("pod_template", given, rule)
    if (kind := given.get("kind", "Pod")) != "Pod":
        raise argument_error("pod_template['kind']", kind, "'Pod', or no kind at all")
    try:
        return FrozenJSON(given)
    except (TypeError, ValueError, RecursionError) as error:
        raise argument_error("pod_template", given, "a dict that can be written as JSON", str(error)) from None


def check_env(given: object) -> FrozenJSON:
    """Return the environment of the bodies as text under names that the API server accepts.

    Raises:
        ConfigurationError: a name or a value is invalid, or rivers sets the variable itself.
    """
    if isinstance(given, FrozenJSON) and not given:
        return given
    env = check_environment(given, error=ConfigurationError)
    for name in env:
        check_text("env name", name, "a str of printable ASCII without =", _ENV_NAME)
        if name in RESERVED_ENV:
            raise argument_error("env name", name, "a name that rivers does not set itself")
    return FrozenJSON(env)
