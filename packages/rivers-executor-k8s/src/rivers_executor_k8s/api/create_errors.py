"""What an answer of the API server means for a pod that is to be made: wait, look who has its name, or give up.

| answer | means |
|---|---|
| 409 AlreadyExists | look: it may be ours, from a request whose answer was lost |
| 429, 408, 5xx, other conflicts, none at all | wait: the same request may work later |
| 403 exceeded quota, quota not counted yet | wait until other pods are gone |
| 400, 422 and what else is about the manifest | give up; the fields are named |
| 401, 403, 404 | give up: permissions, admission, service account, namespace |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rivers_executor_k8s.api.client import ApiError, ApiUnreachableError

__all__ = ["CreateDecision", "classify_create_error", "is_transient"]

Deed = Literal["look", "wait", "give up"]

# Statuses that say nothing about what was asked for
PASSING = frozenset((408, 425, 429, 500, 502, 503, 504))
QUOTA = ("exceeded quota", "status unknown for quota")
NEVER = frozenset(("NamespaceTerminating",))


@dataclass(frozen=True)
class CreateDecision:
    """What to do, the cause in a word, and in a sentence for the user."""

    deed: Deed
    word: str
    text: str


def is_transient(error: ApiError | ApiUnreachableError) -> bool:
    """Whether the same request may work later, whatever it was."""
    return isinstance(error, ApiUnreachableError) or error.status in PASSING


def classify_create_error(error: ApiError | ApiUnreachableError, namespace: str) -> CreateDecision:
    """What the answer to a pod's create request means."""
    if isinstance(error, ApiUnreachableError):
        return CreateDecision("wait", "ApiUnreachable", str(error))
    said, status = error.message, error.status
    if status == 409:
        deed: Deed = "look" if error.reason == "AlreadyExists" else "wait"
        return CreateDecision(deed, error.reason or "Conflict", said)
    if is_transient(error):
        word = "TooManyRequests" if status == 429 else error.reason or "ApiError"
        return CreateDecision("wait", word, f"the API server answers {error}")
    if status == 403:
        return _forbidden(error, namespace)
    if status == 404:
        return CreateDecision("give up", "NamespaceNotFound", f"namespace {namespace!r} cannot be used: {said}")
    if status == 401:
        text = f"the API server does not accept this process's credentials: {said}"
        return CreateDecision("give up", "Unauthorized", text)
    return CreateDecision("give up", error.reason or "Invalid", _faults(error))


def _forbidden(error: ApiError, namespace: str) -> CreateDecision:
    """Many things are forbidden: by quota for now, by everything else for good."""
    said = error.message
    if any(words in said for words in QUOTA):
        return CreateDecision("wait", "ExceededQuota", said)
    if any(cause.reason in NEVER for cause in error.causes) or "is being terminated" in said:
        return CreateDecision("give up", "NamespaceTerminating", f"namespace {namespace!r} is being deleted: {said}")
    if "error looking up service account" in said:
        text = f"{said}; make the service account, or pass the name of one to rs.Executor.kubernetes(service_account=…)"
        return CreateDecision("give up", "ServiceAccountNotFound", text)
    if "violates PodSecurity" in said:
        return CreateDecision("give up", "PodSecurity", said)
    if "cannot create resource" in said:
        text = f"{said}; the Role that is needed stands in the documentation, under permissions"
        return CreateDecision("give up", "NotPermitted", text)
    return CreateDecision("give up", error.reason or "Forbidden", said)


def _faults(error: ApiError) -> str:
    """What is wrong with the manifest, field by field, where the API server names fields."""
    faults = [f"{cause.field}: {cause.message}" for cause in error.causes if cause.field]
    return "; ".join(faults) if faults else error.message
