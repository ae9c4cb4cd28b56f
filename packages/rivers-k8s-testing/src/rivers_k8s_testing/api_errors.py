"""Build error responses with the API server's own messages; tests compare them with those of Kubernetes 1.34."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["ApiStatusError", "ResourceRef", "path_not_found", "status"]

# The default `reason` of a code
REASONS: Mapping[int, str] = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


def status(code: int, message: str, reason: str | None = None, **details: Any) -> dict[str, Any]:
    """Return a Status object, the body of an error; empty `details` are left out."""
    reason = REASONS.get(code, "") if reason is None else reason
    given = {name: value for name, value in details.items() if value}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        **({"reason": reason} if reason else {}),
        **({"details": given} if given else {}),
        "code": code,
    }


class ApiStatusError(Exception):
    """An error response: `code` is the HTTP status, `body` the Status object."""

    def __init__(self, code: int, message: str, reason: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.body = status(code, message, reason, **details)


def path_not_found() -> ApiStatusError:
    """Return 404 for a path without a resource."""
    refusal = ApiStatusError(404, "the server could not find the requested resource")
    refusal.body["details"] = {}
    return refusal


class ResourceRef:
    """A kind of resource, and the object that a request names; its methods return the errors about them."""

    def __init__(self, plural: str, kind: str, group: str = "", name: str = "") -> None:
        self.plural = plural
        self.kind = kind
        self.group = group
        self.name = name

    @property
    def full(self) -> str:
        """The resource with its group, such as `pods` or `leases.coordination.k8s.io`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def named(self, name: str) -> ResourceRef:
        """Return a reference to another object of this kind."""
        return ResourceRef(self.plural, self.kind, self.group, name)

    def _refusal(self, code: int, message: str, reason: str | None = None, **details: Any) -> ApiStatusError:
        return ApiStatusError(code, message, reason, name=self.name, group=self.group, kind=self.plural, **details)

    def not_found(self) -> ApiStatusError:
        """Return 404: no object has this name."""
        return self._refusal(404, f'{self.full} "{self.name}" not found')

    def exists(self) -> ApiStatusError:
        """Return 409: the name is taken."""
        return self._refusal(409, f'{self.full} "{self.name}" already exists', "AlreadyExists")

    def modified(self) -> ApiStatusError:
        """Return 409: the resourceVersion of an update is outdated."""
        wrong = "the object has been modified; please apply your changes to the latest version and try again"
        return self._refusal(409, f'Operation cannot be fulfilled on {self.full} "{self.name}": {wrong}')

    def another_uid(self, given: str, uid: str) -> ApiStatusError:
        """Return 409: a precondition has the uid of another object."""
        wrong = f"the UID in the precondition ({given}) does not match the UID in record ({uid})."
        wrong += " The object might have been deleted and then recreated"
        message = f'Operation cannot be fulfilled on {self.kind} "{self.name}": {wrong}'
        return ApiStatusError(409, message, name=self.name, kind=self.kind)

    def forbidden(self, why: str, **details: Any) -> ApiStatusError:
        """Return 403 of an admission controller."""
        return self._refusal(403, f'{self.full} "{self.name}" is forbidden: {why}', **details)

    def denied(self, user: str, verb: str, subresource: str, namespace: str) -> ApiStatusError:
        """Return 403 of RBAC."""
        what = f'{self.full} "{self.name}"' if self.name else self.full
        resource = f"{self.plural}/{subresource}" if subresource else self.plural
        scope = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
        can = f'User "{user}" cannot {verb} resource "{resource}" in API group "{self.group}" {scope}'
        return self._refusal(403, f"{what} is forbidden: {can}")

    def invalid(self, *faults: tuple[str, str, str]) -> ApiStatusError:
        """Return 422; each fault is a field, a reason such as FieldValueRequired, and a message."""
        causes = [{"reason": reason, "message": wrong, "field": field} for field, reason, wrong in faults]
        texts = [f"{field}: {wrong}" for field, _, wrong in faults]
        message = f'{self.kind} "{self.name}" is invalid: {texts[0] if len(texts) == 1 else _join(texts)}'
        return ApiStatusError(422, message, name=self.name, group=self.group, kind=self.kind, causes=causes)

    def no_method(self) -> ApiStatusError:
        """Return 405: FakeCluster does not support the verb."""
        return ApiStatusError(405, "the server does not allow this method on the requested resource")


def _join(texts: Sequence[str]) -> str:
    return f"[{', '.join(texts)}]"
