"""Resolve requests to verb and resource as RBAC names them, and define the kinds of responses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from rivers_k8s_testing.api_errors import ApiStatusError, ResourceRef, path_not_found

__all__ = ["ApiCall", "Request", "Response", "StreamResponse", "UpgradeResponse", "resolve_call"]

# The supported kinds by group and plural, all of them v1
KINDS: Mapping[tuple[str, str], str] = {
    ("", "pods"): "Pod",
    ("", "events"): "Event",
    ("", "namespaces"): "Namespace",
    ("", "resourcequotas"): "ResourceQuota",
    ("coordination.k8s.io", "leases"): "Lease",
    ("authorization.k8s.io", "selfsubjectaccessreviews"): "SelfSubjectAccessReview",
}
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True)
class Request:
    """A request that the cluster has received; `status` is 0 without a response, `fault` the kind of fault it met."""

    method: str
    path: str
    query: Mapping[str, str]
    verb: str
    resource: str
    name: str
    user: str
    status: int
    fault: str = ""


@dataclass
class ApiCall:
    """A request with its verb, resource and user."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    user: str = ""
    verb: str = ""
    where: ResourceRef = field(default_factory=lambda: ResourceRef("", ""))
    subresource: str = ""
    namespace: str = ""

    @property
    def resource(self) -> str:
        """The resource as RBAC names it, such as pods or pods/log."""
        return f"{self.where.plural}/{self.subresource}" if self.subresource else self.where.plural

    def flag(self, name: str) -> bool:
        """Return True if a boolean query parameter is true."""
        return self.query.get(name, "") in {"1", "true", "True"}

    def number(self, name: str) -> int | None:
        """Return an integer query parameter, or None if it is missing.

        Raises:
            ApiStatusError: 400, it is malformed.
        """
        given = self.query.get(name, "")
        try:
            return int(given) if given else None
        except ValueError:
            raise ApiStatusError(400, f'strconv.ParseInt: parsing "{given}": invalid syntax') from None

    def object(self, kind: str) -> dict[str, Any]:
        """Return the body, an object of this kind.

        Raises:
            ApiStatusError: 400, it is another kind or malformed.
        """
        try:
            given = msgspec.json.decode(self.body)
        except msgspec.DecodeError as error:
            wrong = f"couldn't get version/kind; json parse error: {error}"
            raise ApiStatusError(
                400, f"the object provided is unrecognized (must be of type {kind}): {wrong}"
            ) from None
        if not isinstance(given, dict) or given.get("kind", kind) != kind:
            raise ApiStatusError(400, f"the object provided is unrecognized (must be of type {kind})")
        return given


@dataclass
class Response:
    """A complete response."""

    code: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class StreamResponse:
    """A response that is sent in chunks as its pieces arrive."""

    pieces: AsyncIterator[bytes]
    content_type: str = "application/json"
    code: int = 200


@dataclass
class UpgradeResponse:
    """A switch to another protocol: `head` is sent, then `run` gets the connection."""

    head: bytes
    run: Callable[..., Awaitable[None]]
    code: int = 101


def resolve_call(call: ApiCall) -> ApiCall:
    """Set verb, resource, name and namespace of a request by its method and path.

    Raises:
        ApiStatusError: 404, its path has no resource.
    """
    parts = [part for part in call.path.split("/") if part]
    if parts[:2] == ["api", "v1"]:
        group, rest = "", parts[2:]
    elif parts[:1] == ["apis"] and parts[2:3] == ["v1"]:
        group, rest = parts[1], parts[3:]
    else:
        raise path_not_found()
    if len(rest) > 2 and rest[0] == "namespaces":
        call.namespace, rest = rest[1], rest[2:]
    kind = KINDS.get((group, rest[0] if rest else ""))
    if kind is None or len(rest) > 3:
        raise path_not_found()
    name, call.subresource = [*rest[1:], "", ""][:2]
    call.where = ResourceRef(rest[0], kind, group, name)
    if call.method == "GET":
        call.verb = "get" if name else "watch" if call.flag("watch") else "list"
    elif call.method == "DELETE" and not name:
        call.verb = "deletecollection"
    else:
        call.verb = _VERBS.get(call.method, call.method.lower())
    return call
