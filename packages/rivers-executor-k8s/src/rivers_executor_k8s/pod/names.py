"""How the pod of an attempt is called, and the labels and annotations by which a person finds it again.

    kubectl get pods -l rivers.io/run=4f1c,rivers.io/step=orders

A name is made of the attempt, and of nothing else: a create whose answer was lost is repeated under the same name, and
meets its own pod. What does not fit a label stands there shortened, with a digest; annotations hold everything in full.
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
    "DIGEST",
    "MANAGED",
    "PORT",
    "RUN_LABEL",
    "STEP_CONTAINER",
    "build_annotations",
    "build_labels",
    "is_kept_after_failure",
    "is_ours",
    "label_value",
    "pod_name",
    "run_selector",
]

# The container in which the worker runs; a container of this name in a template is merged with it
STEP_CONTAINER = "rivers-step"
# Where a worker in a pod listens
PORT = 7433
RUN_LABEL = "rivers.io/run"
# The annotation with a digest of the whole manifest, which tells a pod of ours from a namesake
DIGEST = "rivers.io/digest"
# Selects every pod that rivers has made, of any run
MANAGED = "app.kubernetes.io/managed-by=rivers"

_KEEP_LABEL = "rivers.io/keep-failed"
_LABEL_VALUE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_MOST = 63
# Characters of a digest in base32: 80 bits
_HASH = 16


@functools.lru_cache(maxsize=1024)  # each attempt asks for its pod's name three times
def pod_name(step: str, attempt_id: str, nonce: int = 0) -> str:
    """The name of an attempt's pod: a DNS label of at most 63 characters.

    Another `nonce` gives another name, for when somebody else's pod has this one.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", step[: 4 * _MOST].lower()).strip("-")
    slug = slug[: _MOST - len("rivers--") - _HASH].rstrip("-")
    return "-".join(filter(None, ("rivers", slug, _digest(step, attempt_id, nonce))))


@functools.lru_cache(maxsize=1024)
def label_value(text: str) -> str:
    """A text as the value of a label: itself where it can be one, else its legal part and a digest.

    Different texts have different values, but for a collision in 80 bits.
    """
    if _LABEL_VALUE.fullmatch(text):
        return text
    slug = re.sub(r"[^A-Za-z0-9_.]+", "-", text[: 4 * _MOST])[: _MOST - 1 - _HASH].strip("-_.")
    return f"{slug}-{_digest(text)}" if slug else _digest(text)


def build_labels(spec: StepSpec, *, keep_failed: bool = False) -> dict[str, str]:
    """The labels of an attempt's pod; `keep_failed` says that nobody is to remove the pod if the attempt fails."""
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


def build_annotations(spec: StepSpec, *, epoch: int = 0) -> dict[str, str]:
    """The annotations of an attempt's pod: in full what its labels may have shortened; `epoch` is its controller's."""
    return {
        "rivers.io/run": spec.run_id,
        "rivers.io/step": spec.step,
        "rivers.io/attempt-id": spec.attempt_id,
        "rivers.io/epoch": str(epoch),
        "kubectl.kubernetes.io/default-container": STEP_CONTAINER,
    }


def run_selector(run_id: str) -> str:
    """Selects the pods of one run."""
    return f"{MANAGED},{RUN_LABEL}={label_value(run_id)}"


def is_ours(pod: Pod, manifest: Mapping[str, Any]) -> bool:
    """Whether a pod that was found under the manifest's name was made from this very manifest."""
    digest: str = manifest["metadata"]["annotations"][DIGEST]
    return pod.metadata.annotations.get(DIGEST) == digest


def is_kept_after_failure(pod: Pod) -> bool:
    """Whether whoever made the pod wanted it to stay where its attempt fails."""
    return pod.metadata.labels.get(_KEEP_LABEL) == "true"


def _digest(*parts: object) -> str:
    """80 bits of what is given, in the characters that a DNS label may begin and end with."""
    hashed = hashlib.sha256(json.dumps(parts).encode()).digest()
    return base64.b32encode(hashed[:10]).decode().lower()
