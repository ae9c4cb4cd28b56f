"""The answers that are errors, in the API server's own words (compared with those of a Kubernetes 1.34)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Refusal", "Where", "no_route", "status"]

# The `reason` that goes with a code, where nothing else is said
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
    """A Status object: what an error's body is. `details` are those of Kubernetes; None and empty ones are left out."""
    reason = REASONS.get(code, "") if reason is None else reason
    said = {name: value for name, value in details.items() if value}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        **({"reason": reason} if reason else {}),
        **({"details": said} if said else {}),
        "code": code,
    }


class Refusal(Exception):
    """A request is answered with an error: `code` is the HTTP status, `body` its Status object."""

    def __init__(self, code: int, message: str, reason: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.body = status(code, message, reason, **details)


def no_route() -> Refusal:
    """404: nothing is at a path."""
    refusal = Refusal(404, "the server could not find the requested resource")
    refusal.body["details"] = {}
    return refusal


class Where:
    """A kind of resource, and one of its objects where a request names one; its methods are what may be wrong there."""

    def __init__(self, plural: str, kind: str, group: str = "", name: str = "") -> None:
        self.plural = plural
        self.kind = kind
        self.group = group
        self.name = name

    @property
    def full(self) -> str:
        """Such as `pods`, or `leases.coordination.k8s.io`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def named(self, name: str) -> Where:
        """The same kind, and another object."""
        return Where(self.plural, self.kind, self.group, name)

    def _refusal(self, code: int, message: str, reason: str | None = None, **details: Any) -> Refusal:
        return Refusal(code, message, reason, name=self.name, group=self.group, kind=self.plural, **details)

    def not_found(self) -> Refusal:
        """404: there is no object of this name."""
        return self._refusal(404, f'{self.full} "{self.name}" not found')

    def exists(self) -> Refusal:
        """409: the name is taken."""
        return self._refusal(409, f'{self.full} "{self.name}" already exists', "AlreadyExists")

    def modified(self) -> Refusal:
        """409: the resourceVersion of an update is not the object's any more."""
        wrong = "the object has been modified; please apply your changes to the latest version and try again"
        return self._refusal(409, f'Operation cannot be fulfilled on {self.full} "{self.name}": {wrong}')

    def another_uid(self, given: str, uid: str) -> Refusal:
        """409: a precondition means another object of the same name."""
        wrong = f"the UID in the precondition ({given}) does not match the UID in record ({uid})."
        wrong += " The object might have been deleted and then recreated"
        message = f'Operation cannot be fulfilled on {self.kind} "{self.name}": {wrong}'
        return Refusal(409, message, name=self.name, kind=self.kind)

    def forbidden(self, why: str, **details: Any) -> Refusal:
        """403, by an admission controller."""
        return self._refusal(403, f'{self.full} "{self.name}" is forbidden: {why}', **details)

    def denied(self, user: str, verb: str, subresource: str, namespace: str) -> Refusal:
        """403, by RBAC."""
        what = f'{self.full} "{self.name}"' if self.name else self.full
        resource = f"{self.plural}/{subresource}" if subresource else self.plural
        scope = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
        can = f'User "{user}" cannot {verb} resource "{resource}" in API group "{self.group}" {scope}'
        return self._refusal(403, f"{what} is forbidden: {can}")

    def invalid(self, *faults: tuple[str, str, str]) -> Refusal:
        """422; each fault is a field, a reason such as FieldValueRequired, and what is wrong there."""
        causes = [{"reason": reason, "message": wrong, "field": field} for field, reason, wrong in faults]
        said = [f"{field}: {wrong}" for field, _, wrong in faults]
        message = f'{self.kind} "{self.name}" is invalid: {said[0] if len(said) == 1 else _listed(said)}'
        return Refusal(422, message, name=self.name, group=self.group, kind=self.kind, causes=causes)

    def no_method(self) -> Refusal:
        """405: the fake does not do that."""
        return Refusal(405, "the server does not allow this method on the requested resource")


def _listed(said: Sequence[str]) -> str:
    return f"[{', '.join(said)}]"
