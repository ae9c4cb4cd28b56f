"""What answers to a create request mean: the texts are those of an API server 1.34."""

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
    (409, "AlreadyExists", 'pods "p" already exists', "look", "AlreadyExists"),
    (409, "AlreadyExists", 'object is being deleted: pods "p" already exists', "look", "AlreadyExists"),
    (409, "Conflict", 'Operation cannot be fulfilled on resourcequotas "q"', "wait", "Conflict"),
    (403, "Forbidden", FORBIDDEN + "exceeded quota: q, requested: pods=1, used: pods=1", "wait", "ExceededQuota"),
    (403, "Forbidden", FORBIDDEN + "status unknown for quota: q, resources: pods", "wait", "ExceededQuota"),
    (403, "Forbidden", FORBIDDEN + "failed quota: q: must specify limits.cpu", "give up", "Forbidden"),
    (403, "Forbidden", FORBIDDEN + USER, "give up", "NotPermitted"),
    (403, "Forbidden", FORBIDDEN + ENDING, "give up", "NamespaceTerminating"),
    (403, "Forbidden", FORBIDDEN + 'violates PodSecurity "restricted:latest"', "give up", "PodSecurity"),
    (403, "Forbidden", FORBIDDEN + "error looking up service account ns/x", "give up", "ServiceAccountNotFound"),
    (403, "Forbidden", "admission webhook said no", "give up", "Forbidden"),
    (403, "", "Forbidden: the proxy says no", "give up", "Forbidden"),
    (404, "NotFound", 'namespaces "ns" not found', "give up", "NamespaceNotFound"),
    (401, "Unauthorized", "Unauthorized", "give up", "Unauthorized"),
    (400, "BadRequest", "Pod cannot be handled as a Pod", "give up", "BadRequest"),
    (422, "Invalid", 'Pod "p" is invalid', "give up", "Invalid"),
    (413, "RequestEntityTooLarge", "limit is 3145728", "give up", "RequestEntityTooLarge"),
    (302, "", "Found", "give up", "Invalid"),
    (408, "Timeout", "late", "wait", "Timeout"),
    (429, "TooManyRequests", MANY, "wait", "TooManyRequests"),
    (429, "", "Too Many Requests", "wait", "TooManyRequests"),
    (500, "InternalError", 'failed calling webhook "w"', "wait", "InternalError"),
    (502, "", "Bad Gateway", "wait", "ApiError"),
    (503, "ServiceUnavailable", "apiserver is shutting down", "wait", "ServiceUnavailable"),
    (504, "Timeout", "request did not complete within the allotted timeout", "wait", "Timeout"),
]


@pytest.mark.parametrize(("status", "reason", "message", "deed", "word"), TABLE)
def test_what_an_answer_means(status: int, reason: str, message: str, deed: str, word: str) -> None:
    """Each answer is waited out, looked into or final, and has a cause in a word and the server's own in its text."""
    meaning = classify_create_error(ApiError(status, reason, message), "ns")

    assert (deed, word) == (meaning.deed, meaning.word)
    assert message in meaning.text


def test_no_answer_means_to_wait() -> None:
    """Without an answer nothing is known, and the same request is sent again."""
    meaning = classify_create_error(ApiUnreachableError("no route to host"), "ns")

    assert ("wait", "ApiUnreachable", "no route to host") == (meaning.deed, meaning.word, meaning.text)


def test_a_terminating_namespace_is_known_by_its_cause() -> None:
    """What an API server gives as the cause counts, in whatever words it says it."""
    cause = StatusCause(reason="NamespaceTerminating", field="metadata.namespace")

    assert "NamespaceTerminating" == classify_create_error(ApiError(403, "Forbidden", "no", causes=(cause,)), "ns").word


def test_faults_are_named_by_field() -> None:
    """Where fields are named, each fault stands with the path of its field."""
    first = StatusCause(field="spec.containers[0].image", message="Required value")
    second = StatusCause(field="metadata.name", message="too long")

    meaning = classify_create_error(ApiError(422, "Invalid", "Pod is invalid", causes=(first, second)), "ns")

    assert "spec.containers[0].image: Required value; metadata.name: too long" == meaning.text


@pytest.mark.parametrize(("status", "passes"), [(429, True), (500, True), (503, True), (404, False), (410, False)])
def test_which_errors_pass(status: int, passes: bool) -> None:
    """An overloaded or broken server may answer later; what is about the request does not change."""
    assert passes is is_transient(ApiError(status))
