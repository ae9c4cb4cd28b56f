"""List the permissions that a controller needs, all of them in its namespace.

`deploy/` holds the same rules as files; a test compares them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["OPTIONAL", "OUTSIDE", "REQUIRED", "WARM", "Permission", "required_permissions", "role_name", "role_yaml"]


@dataclass(frozen=True)
class Permission:
    """One verb on one kind of object, with the reason for it."""

    verb: str
    resource: str
    why: str
    subresource: str = ""
    group: str = ""

    @property
    def target(self) -> str:
        """The kind of object as a Role's rule names it."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource

    def __str__(self) -> str:
        return f"{self.verb} {self.target}" + (f" ({self.group})" if self.group else "")


_LEASES = "coordination.k8s.io"

# Needed by every controller
REQUIRED = (
    Permission("create", "pods", "one pod for each attempt of a step"),
    Permission("get", "pods", "the image of the controller's own pod; a pod of which nothing was heard"),
    Permission("list", "pods", "where a watch begins, and begins again; what a dead controller has left"),
    Permission("watch", "pods", "why a pod waits, and how it ended"),
    Permission("delete", "pods", "after every attempt"),
    Permission("get", "pods", "the line with which a worker announces itself; its last lines", subresource="log"),
    Permission("create", "leases", "one controller for each run", group=_LEASES),
    Permission("get", "leases", "who carries out a run, and whether that one is alive", group=_LEASES),
    Permission("list", "leases", "which controllers are dead, for whom to clean up", group=_LEASES),
    Permission("update", "leases", "to show that it is alive, every 10 s", group=_LEASES),
    Permission("delete", "leases", "at the end of the run", group=_LEASES),
)

# Needed in addition by a controller outside the cluster
OUTSIDE = (
    # A WebSocket begins as a GET: up to Kubernetes 1.34 it is checked for `get`, from then on for `create` as well.
    Permission("get", "pods", "pods' addresses are not reachable from outside", subresource="portforward"),
    Permission("create", "pods", "pods' addresses are not reachable from outside", subresource="portforward"),
)

# Needed in addition with `worker_reuse="run"`
WARM = (Permission("patch", "pods", "the labels of a pod that serves many steps name the current one"),)

# Useful, but a run works without
OPTIONAL = (
    Permission("list", "events", "why a pod waits, where its status does not say: a volume's Secret is missing"),
)


def required_permissions(outside: bool, are_warm: bool = False) -> tuple[Permission, ...]:
    """Return the permissions that a controller must have, inside the cluster or outside, with warm pods or without."""
    return REQUIRED + (OUTSIDE if outside else ()) + (WARM if are_warm else ())


def role_name(outside: bool) -> str:
    """Return the name of the published Role."""
    return "rivers-controller-outside" if outside else "rivers-controller"


def role_yaml(namespace: str, outside: bool, are_warm: bool = False) -> str:
    """Return the Role as YAML for `kubectl apply -f -`, with the command that binds it."""
    name = role_name(outside)
    rules = "\n".join(
        _rule(permissions) for permissions in _group_by_target((*required_permissions(outside, are_warm), *OPTIONAL))
    )
    whom = "--user=USER" if outside else f"--serviceaccount={namespace}:rivers-controller"
    return f"""\
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {name}
  namespace: {namespace}
rules:
{rules}
# bind it: kubectl -n {namespace} create rolebinding {name} --role={name} {whom}
"""


def _group_by_target(permissions: Sequence[Permission]) -> list[list[Permission]]:
    groups: dict[tuple[str, str], list[Permission]] = {}
    for permission in permissions:
        groups.setdefault((permission.group, permission.target), []).append(permission)
    return list(groups.values())


def _rule(permissions: Sequence[Permission]) -> str:
    verbs = ", ".join(permission.verb for permission in permissions)
    first = permissions[0]
    return f"""\
  - apiGroups: ["{first.group}"]
    resources: [{first.target}]
    verbs: [{verbs}]"""
