"""Map an API error of a create request to a decision: adopt the existing pod, retry, or fail.

| response | decision |
|---|---|
| 409 AlreadyExists | adopt: the pod may be ours, created by a request whose response was lost |
| 429, 408, 5xx, other conflicts, no response | retry: the same request may succeed later |
| 403 exceeded quota, quota not counted yet | retry when other pods are gone |
| 400, 422 and other errors of the manifest | fail and name the fields |
| 401, 403, 404 | fail: permissions, admission, service account, namespace |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rivers_executor_k8s.api.client import ApiError, ApiUnreachableError

__all__ = ["CreateDecision", "classify_create_error", "is_transient"]

Action = Literal["adopt", "retry", "fail"]

# Statuses that say nothing about the request itself
TRANSIENT = frozenset((408, 425, 429, 500, 502, 503, 504))
QUOTA = ("exceeded quota", "status unknown for quota")


@dataclass(frozen=True)
class CreateDecision:
    """The action to take, its reason as one CamelCase word, and a message for the user."""

    action: Action
    reason: str
    message: str


def is_transient(error: ApiError | ApiUnreachableError) -> bool:
    """Return True if the same request may succeed later, whatever it was."""
    return isinstance(error, ApiUnreachableError) or error.status in TRANSIENT


def classify_create_error(error: ApiError | ApiUnreachableError, namespace: str) -> CreateDecision:
    """Decide what to do after a pod's create request has failed."""
    if isinstance(error, ApiUnreachableError):
        return CreateDecision("retry", "ApiUnreachable", str(error))
    message, status = error.message, error.status
    if status == 409:
        # Other conflicts, such as one on a quota object, are races between writers in the API server.
        action: Action = "adopt" if error.reason == "AlreadyExists" else "retry"
        return CreateDecision(action, error.reason or "Conflict", message)
    if is_transient(error):
        reason = "TooManyRequests" if status == 429 else error.reason or "ApiError"
        return CreateDecision("retry", reason, f"the API server answers {error}")
    if status == 403:
        return _classify_forbidden(error, namespace)
    if status == 404:
        return CreateDecision("fail", "NamespaceNotFound", f"namespace {namespace!r} cannot be used: {message}")
    if status == 401:
        text = f"the API server does not accept this process's credentials: {message}"
        return CreateDecision("fail", "Unauthorized", text)
    return CreateDecision("fail", error.reason or "Invalid", _describe_faults(error))


def _classify_forbidden(error: ApiError, namespace: str) -> CreateDecision:
    """Decide about a 403: a quota may free up, every other cause stays."""
    # The API server has one reason, Forbidden, for all of these; only its message tells them apart.
    message = error.message
    if any(words in message for words in QUOTA):
        return CreateDecision("retry", "ExceededQuota", message)
    terminating = any(cause.reason == "NamespaceTerminating" for cause in error.causes)
    if terminating or "is being terminated" in message:
        return CreateDecision("fail", "NamespaceTerminating", f"namespace {namespace!r} is being deleted: {message}")
    if "error looking up service account" in message:
        hint = "create the service account, or pass an existing one to rs.Executor.kubernetes(service_account=…)"
        return CreateDecision("fail", "ServiceAccountNotFound", f"{message}; {hint}")
    if "violates PodSecurity" in message:
        return CreateDecision("fail", "PodSecurity", message)
    if "cannot create resource" in message:
        hint = "the documentation has the Role that is needed, under permissions"
        return CreateDecision("fail", "NotPermitted", f"{message}; {hint}")
    return CreateDecision("fail", error.reason or "Forbidden", message)


def _describe_faults(error: ApiError) -> str:
    """Return the manifest's faults field by field, or the error's message where the API server names no field."""
    faults = [f"{cause.field}: {cause.message}" for cause in error.causes if cause.field]
    return "; ".join(faults) if faults else error.message
