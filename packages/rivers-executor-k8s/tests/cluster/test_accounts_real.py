"""A controller that may do no more than the published Role says, with a token that expires."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pod_steps
import pytest
from accounts import bind, cluster_of, permit, published, token, user, write_kubeconfig
from controllers import Controller
from namespaces import Namespace
from outages import NEEDS_TOOLS, TOOLS
from real_runs import NEEDS_IMAGE, NO_NOTES, account, settings

import rivers as rs
from rivers_executor_k8s.api.auth import load_api_config
from rivers_executor_k8s.api.client import ApiClient
from rivers_executor_k8s.api.namespace import Cluster
from rivers_executor_k8s.pod.roles import Permission, required_permissions
from rivers_executor_k8s.run.preflight import missing_permissions

pytestmark = [NEEDS_IMAGE, pytest.mark.timeout(180)]

Right = tuple[str, str, str]

NOT_ALWAYS = {
    ("get", "pods", ""): "a controller in a pod looks at its own; outside, where the answer to a create was lost",
    ("get", "leases", "coordination.k8s.io"): "where a run's lease is another's",
    ("create", "pods/portforward", ""): "from Kubernetes 1.35 on, instead of get",
    ("list", "events", ""): "where a pod waits and its status does not say why",
}
"""Rights that a run which nothing happens to has no use for."""

POD = """
mount -t tmpfs tmpfs /var/run
mkdir -p /var/run/secrets/kubernetes.io
cp -r "$1" /var/run/secrets/kubernetes.io/serviceaccount
shift
exec "$@"
"""
"""Gives a command the files of a service account where a pod has them, and nobody else."""


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """Where a token is looked for."""
    folder = tmp_path / "serviceaccount"
    folder.mkdir()
    return folder / "token"


@pytest.fixture
def config(namespace: Namespace, token_file: Path, tmp_path: Path) -> Path:
    """A kubeconfig whose user is the controller's account, once that has a token."""
    path = tmp_path / "kubeconfig"
    write_kubeconfig(path, namespace, cluster_of(os.environ["KUBECONFIG"]), token_file)
    return path


@pytest.fixture
def store() -> str:
    return f"{os.environ['RIVERS_TEST_STORE']}/{uuid.uuid4().hex}"


def missing(namespace: Namespace, config: Path) -> str:
    """What preflight says to the user of a kubeconfig."""

    async def ask() -> str:
        cluster = Cluster(ApiClient(load_api_config(None, {"KUBECONFIG": str(config)})), namespace.name)
        try:
            return "".join(problem.message for problem in await missing_permissions(cluster))
        finally:
            await cluster.close()

    return asyncio.run(ask())


def test_each_right_is_missed(namespace: Namespace, config: Path, token_file: Path) -> None:
    """Whichever right the published Role lacks, preflight names that one; with all of them it is content."""
    bind(namespace, published(outside=True))
    token_file.write_text(token(namespace))
    said: dict[str, str] = {}
    for left_out in required_permissions(outside=True):
        permit(namespace, [one for one in published(outside=True) if one is not left_out])
        # The API server learns of a changed Role a moment later.
        said[str(left_out)] = namespace.until(lambda: _alone(missing(namespace, config)), 10)
    permit(namespace, published(outside=True))
    namespace.until(lambda: True if missing(namespace, config) == "" else None, 10)

    assert {right: right for right in said} == said


def _alone(text: str) -> str | None:
    """The one right that is said to be missing; None where it is none, or several."""
    rights = text.partition("this user may not ")[2].partition("; the Role")[0]
    return rights if rights and ";" not in rights else None


def test_token_is_replaced(
    namespace: Namespace, config: Path, token_file: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token that is worth nothing any more is read anew from its file, in the middle of a run (K1, K47)."""
    namespace.make("serviceaccounts", account)
    bind(namespace, published(outside=True))
    namespace.make("secrets", {"metadata": {"name": "first"}})
    token_file.write_text(token(namespace, "first"))
    first = token_file.read_text()
    seen: list[str] = []

    def replace(event: object) -> None:
        seen.append(type(event).__name__)
        if seen.count("StepStarted") == 1 and seen[-1] == "StepStarted":
            token_file.write_text(token(namespace))
            namespace.ask("DELETE", f"{namespace.path}/secrets/first")

    monkeypatch.setenv("KUBECONFIG", str(config))
    env = {**NO_NOTES, "RIVERS_TEST_SECONDS": "15"}  # an API server knows a token for ten seconds
    with rs.CodeRepository(
        [pod_steps.sleeps, pod_steps.after_sleep],
        default_executor=rs.Executor.kubernetes(**settings(namespace.name, env=env)),
        default_io_handler=rs.PickleIOHandler(store),
    ) as repo:
        result = repo.materialize(on_event=replace)
    old = config.with_name("old")
    old_token = config.with_name("old-token")
    old_token.write_text(first)
    write_kubeconfig(old, namespace, cluster_of(str(config)), old_token)

    assert result.success
    with pytest.raises(Exception, match="401"):
        missing(namespace, old)


@pytest.fixture
def audit() -> Path:
    """The audit log of the API server."""
    log = subprocess.run([f"{TOOLS}/component", "kube-apiserver", "log"], check=True, text=True, capture_output=True)
    path = Path(log.stdout.strip()).with_name("audit.log")
    if not path.is_file():
        pytest.skip(f"there is no audit log at {path}")
    return path


def rights_used(audit: Path, since: int, name: str) -> set[Right]:
    """What the user has done since then, but for asking what it may do."""
    used = set()
    with audit.open() as file:
        file.seek(since)
        for line in file:
            if name not in line or not line.endswith("\n"):
                continue
            event = json.loads(line)
            about = event.get("objectRef", {})
            target = "/".join(filter(None, (about.get("resource"), about.get("subresource"))))
            if event["user"]["username"] == name and target != "selfsubjectaccessreviews":
                used.add((event["verb"], target, about.get("apiGroup", "")))
    return used


def in_a_pod(namespace: Namespace, config: Path, token_file: Path) -> tuple[Sequence[str], dict[str, str]]:
    """A command, and an environment, that make a process believe that it runs in a pod with the account."""
    cluster = cluster_of(str(config))
    server = urlsplit(cluster["server"])
    token_file.with_name("ca.crt").write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
    token_file.with_name("namespace").write_text(namespace.name)
    command = ("unshare", "--mount", "sh", "-euc", POD, "sh", str(token_file.parent))
    return command, {
        "KUBERNETES_SERVICE_HOST": server.hostname or "",
        "KUBERNETES_SERVICE_PORT": str(server.port),
        "KUBECONFIG": "/nowhere",
    }


@NEEDS_TOOLS
@pytest.mark.parametrize("outside", [True, False], ids=["outside", "inside"])
def test_no_more_than_the_role(
    namespace: Namespace, config: Path, token_file: Path, store: str, audit: Path, outside: bool
) -> None:
    """A run does what the Role says and nothing else, and what the Role says is needed."""
    namespace.make("serviceaccounts", account)
    bind(namespace, published(outside))
    token_file.write_text(token(namespace))
    before: Sequence[str] = ()
    environ = {"KUBECONFIG": str(config), "RIVERS_KUBERNETES_DIAL": "port-forward"}
    if not outside:
        before, environ = in_a_pod(namespace, config, token_file)
    since = audit.stat().st_size
    controller = Controller(namespace, store, {**environ, "RIVERS_TEST_SECONDS": "12"}, before)
    code = controller.end()
    used = namespace.until(lambda: rights_used(audit, since, user(namespace)) or None)
    allowed = {_right(one) for one in published(outside)}

    assert 0 == code, "\n".join(controller.lines)
    assert "StepSucceeded after_sleep" in controller.lines
    assert set() == used - allowed
    assert set() == allowed - used - NOT_ALWAYS.keys()
    assert [] == namespace.ask("GET", f"{namespace.path}/pods")["items"]


def _right(permission: Permission) -> Right:
    return permission.verb, permission.target, permission.group
