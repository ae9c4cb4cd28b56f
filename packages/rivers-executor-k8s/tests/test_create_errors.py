"""Decisions on errors of create requests, with the messages of an API server 1.34."""

from __future__ import annotations

import pytest

from rivers_executor_k8s.api.client import ApiError, ApiUnreachableError
from rivers_executor_k8s.api.create_errors import classify_create_error, is_transient
from rivers_executor_k8s.pod.objects import StatusCause

FORBIDDEN = 'pods "p" is forbidden: '
USER = 'User "u" cannot create resource "pods" in API group "" in the namespace "ns"'
ENDING = "unable to create new content in namespace ns because it is being terminated"
MANY = "etcdserver: too many requests"

TABLE = [
    (409, "AlreadyExists", 'pods "p" already exists', "adopt", "AlreadyExists"),
    (409, "AlreadyExists", 'object is being deleted: pods "p" already exists', "adopt", "AlreadyExists"),
    (409, "Conflict", 'Operation cannot be fulfilled on resourcequotas "q"', "retry", "Conflict"),
    (403, "Forbidden", FORBIDDEN + "exceeded quota: q, requested: pods=1, used: pods=1", "retry", "ExceededQuota"),
    (403, "Forbidden", FORBIDDEN + "status unknown for quota: q, resources: pods", "retry", "ExceededQuota"),
    (403, "Forbidden", FORBIDDEN + "failed quota: q: must specify limits.cpu", "fail", "Forbidden"),
    (403, "Forbidden", FORBIDDEN + USER, "fail", "NotPermitted"),
    (403, "Forbidden", FORBIDDEN + ENDING, "fail", "NamespaceTerminating"),
    (403, "Forbidden", FORBIDDEN + 'violates PodSecurity "restricted:latest"', "fail", "PodSecurity"),
    (403, "Forbidden", FORBIDDEN + "error looking up service account ns/x", "fail", "ServiceAccountNotFound"),
    (403, "Forbidden", "admission webhook said no", "fail", "Forbidden"),
    (403, "", "Forbidden: the proxy says no", "fail", "Forbidden"),
    (404, "NotFound", 'namespaces "ns" not found', "fail", "NamespaceNotFound"),
    (401, "Unauthorized", "Unauthorized", "fail", "Unauthorized"),
    (400, "BadRequest", "Pod cannot be handled as a Pod", "fail", "BadRequest"),
    (422, "Invalid", 'Pod "p" is invalid', "fail", "Invalid"),
    (413, "RequestEntityTooLarge", "limit is 3145728", "fail", "RequestEntityTooLarge"),
    (302, "", "Found", "fail", "Invalid"),
    (408, "Timeout", "late", "retry", "Timeout"),
    (429, "TooManyRequests", MANY, "retry", "TooManyRequests"),
    (429, "", "Too Many Requests", "retry", "TooManyRequests"),
    (500, "InternalError", 'failed calling webhook "w"', "retry", "InternalError"),
    (502, "", "Bad Gateway", "retry", "ApiError"),
    (503, "ServiceUnavailable", "apiserver is shutting down", "retry", "ServiceUnavailable"),
    (504, "Timeout", "request did not complete within the allotted timeout", "retry", "Timeout"),
]


@pytest.mark.parametrize(("status", "reason", "message", "action", "cause"), TABLE)
def test_what_an_answer_means(status: int, reason: str, message: str, action: str, cause: str) -> None:
    """Each error leads to adopt, retry or fail, with a reason and the server's message."""
    decision = classify_create_error(ApiError(status, reason, message), "ns")

    assert (action, cause) == (decision.action, decision.reason)
    assert message in decision.message


def test_no_answer_means_to_wait() -> None:
    """Without a response the same request is sent again."""
    decision = classify_create_error(ApiUnreachableError("no route to host"), "ns")

    assert ("retry", "ApiUnreachable", "no route to host") == (decision.action, decision.reason, decision.message)


def test_a_terminating_namespace_is_known_by_its_cause() -> None:
    """The API server's cause counts, whatever its message."""
    cause = StatusCause(reason="NamespaceTerminating", field="metadata.namespace")

    assert (
        "NamespaceTerminating" == classify_create_error(ApiError(403, "Forbidden", "no", causes=(cause,)), "ns").reason
    )


def test_faults_are_named_by_field() -> None:
    """Each fault of the manifest is reported with the path of its field."""
    first = StatusCause(field="spec.containers[0].image", message="Required value")
    second = StatusCause(field="metadata.name", message="too long")

    decision = classify_create_error(ApiError(422, "Invalid", "Pod is invalid", causes=(first, second)), "ns")

    assert "spec.containers[0].image: Required value; metadata.name: too long" == decision.message


@pytest.mark.parametrize(("status", "passes"), [(429, True), (500, True), (503, True), (404, False), (410, False)])
def test_which_errors_pass(status: int, passes: bool) -> None:
    """An overloaded or broken server may answer later; what is about the request does not change."""
    assert passes is is_transient(ApiError(status))
