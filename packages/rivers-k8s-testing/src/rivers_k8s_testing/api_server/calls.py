"""Requests and answers, and what a request means: verb and resource as RBAC names them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from rivers_k8s_testing.refusals import Refusal, Where, no_route

__all__ = ["Answer", "Call", "Request", "Streamed", "Upgraded", "meaning"]

# By group and plural: what the fake knows; all of it is v1
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
    """A request that a cluster has had. `status` is 0 where no answer was sent, `fault` the kind of one that it met."""

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
class Call:
    """A request as it came, and what it means."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    user: str = ""
    verb: str = ""
    where: Where = field(default_factory=lambda: Where("", ""))
    subresource: str = ""
    namespace: str = ""

    @property
    def resource(self) -> str:
        """Such as pods or pods/log."""
        return f"{self.where.plural}/{self.subresource}" if self.subresource else self.where.plural

    def flag(self, name: str) -> bool:
        """Whether a boolean of the query is true."""
        return self.query.get(name, "") in {"1", "true", "True"}

    def number(self, name: str) -> int | None:
        """A whole number of the query.

        Raises:
            Refusal: 400, it is none.
        """
        given = self.query.get(name, "")
        try:
            return int(given) if given else None
        except ValueError:
            raise Refusal(400, f'strconv.ParseInt: parsing "{given}": invalid syntax') from None

    def object(self, kind: str) -> dict[str, Any]:
        """The body, an object of this kind.

        Raises:
            Refusal: 400, it is none.
        """
        try:
            given = msgspec.json.decode(self.body)
        except msgspec.DecodeError as error:
            wrong = f"couldn't get version/kind; json parse error: {error}"
            raise Refusal(400, f"the object provided is unrecognized (must be of type {kind}): {wrong}") from None
        if not isinstance(given, dict) or given.get("kind", kind) != kind:
            raise Refusal(400, f"the object provided is unrecognized (must be of type {kind})")
        return given


@dataclass
class Answer:
    """A whole answer."""

    code: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Streamed:
    """An answer that comes by and by, each piece a chunk."""

    pieces: AsyncIterator[bytes]
    content_type: str = "application/json"
    code: int = 200


@dataclass
class Upgraded:
    """The connection becomes another protocol's: it gets this head, then `run` has it."""

    head: bytes
    run: Callable[..., Awaitable[None]]
    code: int = 101


def meaning(call: Call) -> Call:
    """Say what a request means.

    Raises:
        Refusal: 404, nothing is at its path.
    """
    parts = [part for part in call.path.split("/") if part]
    if parts[:2] == ["api", "v1"]:
        group, rest = "", parts[2:]
    elif parts[:1] == ["apis"] and parts[2:3] == ["v1"]:
        group, rest = parts[1], parts[3:]
    else:
        raise no_route()
    if len(rest) > 2 and rest[0] == "namespaces":
        call.namespace, rest = rest[1], rest[2:]
    kind = KINDS.get((group, rest[0] if rest else ""))
    if kind is None or len(rest) > 3:
        raise no_route()
    name, call.subresource = [*rest[1:], "", ""][:2]
    call.where = Where(rest[0], kind, group, name)
    if call.method == "GET":
        call.verb = "get" if name else "watch" if call.flag("watch") else "list"
    elif call.method == "DELETE" and not name:
        call.verb = "deletecollection"
    else:
        call.verb = _VERBS.get(call.method, call.method.lower())
    return call
