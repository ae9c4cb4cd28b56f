"""Service accounts of a namespace with the published Roles, and the kubeconfigs with which they are used."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from namespaces import Namespace

from rivers_executor_k8s.pod.roles import OPTIONAL, Permission, required_permissions

__all__ = ["ACCOUNT", "bind", "cluster_of", "permit", "published", "token", "user", "write_kubeconfig"]

ACCOUNT = "rivers-controller"


def bind(namespace: Namespace, permissions: Sequence[Permission]) -> None:
    """Make the account, with a Role of these permissions."""
    namespace.make("serviceaccounts", {"metadata": {"name": ACCOUNT}})
    group = "rbac.authorization.k8s.io"
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace.name}
    reference = {"apiGroup": group, "kind": "Role", "name": ACCOUNT}
    namespace.ask("POST", f"{_roles(namespace)}/roles", _role(permissions))
    binding = {"metadata": {"name": ACCOUNT}, "subjects": [subject], "roleRef": reference}
    namespace.ask("POST", f"{_roles(namespace)}/rolebindings", binding)


def permit(namespace: Namespace, permissions: Sequence[Permission]) -> None:
    """Change the account's Role."""
    namespace.ask("PUT", f"{_roles(namespace)}/roles/{ACCOUNT}", _role(permissions))


def published(outside: bool) -> tuple[Permission, ...]:
    """What the published Role permits."""
    return (*required_permissions(outside), *OPTIONAL)


def user(namespace: Namespace) -> str:
    """The account's name among the cluster's users."""
    return f"system:serviceaccount:{namespace.name}:{ACCOUNT}"


def token(namespace: Namespace, secret: str | None = None) -> str:
    """A token of the account for 600 s, which is worth nothing any more when the Secret is gone."""
    spec: dict[str, Any] = {"expirationSeconds": 600}
    if secret is not None:
        spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Secret", "name": secret}
    asked = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": spec}
    answer = namespace.ask("POST", f"{namespace.path}/serviceaccounts/{ACCOUNT}/token", asked)
    text: str = answer["status"]["token"]
    return text


def cluster_of(kubeconfig: str) -> dict[str, Any]:
    """The cluster of a kubeconfig that has one."""
    cluster: dict[str, Any] = yaml.safe_load(Path(kubeconfig).read_text())["clusters"][0]["cluster"]
    return cluster


def write_kubeconfig(path: Path, namespace: Namespace, cluster: dict[str, Any], token_file: Path) -> None:
    """A kubeconfig whose user is whoever the token in the file says."""
    context = {"cluster": "c", "user": "u", "namespace": namespace.name}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": context}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"tokenFile": str(token_file)}}],
    }
    path.write_text(json.dumps(config))


def _roles(namespace: Namespace) -> str:
    return f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace.name}"


def _role(permissions: Sequence[Permission]) -> dict[str, Any]:
    rules = [{"apiGroups": [p.group], "resources": [p.target], "verbs": [p.verb]} for p in permissions]
    return {"metadata": {"name": ACCOUNT}, "rules": rules}
