"""Name the pod of an attempt, and build the labels and annotations by which people find it.

    kubectl get pods -l rivers.io/run=4f1c,rivers.io/step=orders

A name depends on the attempt alone: a create request whose response was lost is repeated under the same name and finds
its own pod. A value that does not fit a label is shortened and gets a digest; annotations hold the full values.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from rivers.protocol import StepSpec
from rivers_executor_k8s.pod.objects import Pod

__all__ = [
    "ATTEMPT_ID",
    "DIGEST",
    "MANAGED",
    "OF_ATTEMPT",
    "PORT",
    "RUN_LABEL",
    "STEP_CONTAINER",
    "WORKER_ATTEMPT",
    "build_annotations",
    "build_labels",
    "describe_attempt",
    "is_kept_after_failure",
    "is_ours",
    "label_value",
    "pod_name",
    "run_selector",
]

# The worker's container; a container of this name in a template is merged with it
STEP_CONTAINER = "rivers-step"
# The port of the worker in its pod
PORT = 7433
RUN_LABEL = "rivers.io/run"
# The annotation with the id of the pod's attempt
ATTEMPT_ID = "rivers.io/attempt-id"
# That of a warm pod with the id of its first attempt, whose name its worker's certificate has
WORKER_ATTEMPT = "rivers.io/worker-attempt-id"
# The annotation with a digest of the whole manifest, which distinguishes our pod from a namesake
DIGEST = "rivers.io/digest"
# Selects the pods of all runs
MANAGED = "app.kubernetes.io/managed-by=rivers"

# Labels and annotations that name the attempt; those of a warm pod follow the current one
OF_ATTEMPT = frozenset({"rivers.io/step", "rivers.io/attempt", ATTEMPT_ID, DIGEST})

_KEEP_LABEL = "rivers.io/keep-failed"
_LABEL_VALUE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_MOST = 63
# Characters of a digest in base32: 80 bits
_HASH = 16


@functools.lru_cache(maxsize=1024)  # each attempt asks for its pod's name three times
def pod_name(step: str, attempt_id: str, nonce: int = 0) -> str:
    """Return the name of an attempt's pod, a DNS label of at most 63 characters.

    Another `nonce` gives another name, in case a pod of somebody else has this one.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", step[: 4 * _MOST].lower()).strip("-")
    slug = slug[: _MOST - len("rivers--") - _HASH].rstrip("-")
    return "-".join(filter(None, ("rivers", slug, _digest(step, attempt_id, nonce))))


@functools.lru_cache(maxsize=1024)
def label_value(text: str) -> str:
    """Return a text as the value of a label: itself if it is legal, else its legal part and a digest.

    Different texts have different values, except for a collision in 80 bits.
    """
    if _LABEL_VALUE.fullmatch(text):
        return text
    slug = re.sub(r"[^A-Za-z0-9_.]+", "-", text[: 4 * _MOST])[: _MOST - 1 - _HASH].strip("-_.")
    return f"{slug}-{_digest(text)}" if slug else _digest(text)


def build_labels(spec: StepSpec, *, keep_failed: bool = False) -> dict[str, str]:
    """Return the labels of an attempt's pod; `keep_failed` keeps the pod if the attempt fails."""
    return {
        "app.kubernetes.io/managed-by": "rivers",
        "rivers.io/role": "worker",
        RUN_LABEL: label_value(spec.run_id),
        "rivers.io/step": label_value(spec.step),
        "rivers.io/attempt": str(spec.attempt),
        "rivers.io/attempt-id": label_value(spec.attempt_id),
        _KEEP_LABEL: "true" if keep_failed else "false",
        "sidecar.istio.io/inject": "false",  # controller and worker are each other's only authority already
    }


def build_annotations(spec: StepSpec, *, epoch: int = 0, is_warm: bool = False) -> dict[str, str]:
    """Return the annotations of an attempt's pod: the full values of its labels, and its controller's `epoch`."""
    return {
        **({WORKER_ATTEMPT: spec.attempt_id} if is_warm else {}),
        "rivers.io/run": spec.run_id,
        "rivers.io/step": spec.step,
        ATTEMPT_ID: spec.attempt_id,
        "rivers.io/epoch": str(epoch),
        "kubectl.kubernetes.io/default-container": STEP_CONTAINER,
    }


def describe_attempt(spec: StepSpec) -> dict[str, dict[str, str]]:
    """Return the labels and annotations that name an attempt, as a patch of a pod's metadata."""
    texts = {"labels": build_labels(spec), "annotations": build_annotations(spec)}
    return {part: {key: value for key, value in given.items() if key in OF_ATTEMPT} for part, given in texts.items()}


def run_selector(run_id: str) -> str:
    """Return the label selector of a run's pods."""
    return f"{MANAGED},{RUN_LABEL}={label_value(run_id)}"


def is_ours(pod: Pod, manifest: Mapping[str, Any]) -> bool:
    """Return True if the pod was created from this manifest, and not by somebody else under its name."""
    digest: str = manifest["metadata"]["annotations"][DIGEST]
    return pod.metadata.annotations.get(DIGEST) == digest


def is_kept_after_failure(pod: Pod) -> bool:
    """Return True if the pod has to stay after its attempt has failed."""
    return pod.metadata.labels.get(_KEEP_LABEL) == "true"


def _digest(*parts: object) -> str:
    """Return 80 bits of a digest, in characters with which a DNS label may begin and end."""
    hashed = hashlib.sha256(json.dumps(parts).encode()).digest()
    return base64.b32encode(hashed[:10]).decode().lower()
