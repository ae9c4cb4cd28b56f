"""What others do to a run's pods on a real cluster: a pod of a higher priority, and a webhook."""

from __future__ import annotations

import base64
import json
import ssl
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pod_steps
import pytest
from namespaces import Namespace
from outages import NEEDS_TOOLS
from real_runs import ANY_REASON, NEEDS_IMAGE, NO_NOTES, Start, settings
from tls_server import Authority

import rivers as rs
from rivers.spi import parse_quantity

pytestmark = [pytest.mark.long, NEEDS_IMAGE, pytest.mark.timeout(180)]

SHARE = 0.6
"""Of a node's CPUs: two pods that ask for so much do not fit."""


@pytest.fixture
def urgent(namespace: Namespace) -> Iterator[str]:
    """The name of a class of pods that take the place of others."""
    path = "/apis/scheduling.k8s.io/v1/priorityclasses"
    made = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": namespace.name}}
    namespace.ask("POST", path, {**made, "value": 1000})
    yield namespace.name
    namespace.ask("DELETE", f"{path}/{namespace.name}")


def test_preempted(begin: Start, namespace: Namespace, urgent: str) -> None:
    """The scheduler takes a worker's pod away for a more urgent one: that is infrastructure, and says so (K33)."""
    node = namespace.ask("GET", "/api/v1/nodes")["items"][0]
    cpu = f"{1000 * SHARE * parse_quantity(node['status']['allocatable']['cpu']):.0f}m"
    here = {"nodeSelector": {"kubernetes.io/hostname": node["metadata"]["labels"]["kubernetes.io/hostname"]}}
    again = rs.RetryPolicy(1, retry_on=ANY_REASON)
    going = begin(pod_steps.once_slow, retry=again, env=NO_NOTES, worker_cpu=cpu, pod_template={"spec": here})
    going.until("StepStarted", "once_slow")
    namespace.create(rival(cpu, priorityClassName=urgent, **here))
    retrying = going.until("StepRetrying", "once_slow")
    namespace.delete("rival", 0)
    result = going.end()

    assert rs.FailureReason.INFRASTRUCTURE == retrying.failure.reason
    assert "preempt" in retrying.failure.message.lower()
    assert result.success
    assert 2 == result.steps["once_slow"].attempts


def rival(cpu: str, **spec: Any) -> dict[str, Any]:
    """A pod that does nothing, with so many CPUs."""
    container = {
        "name": "sleeps",
        "image": settings("")["worker_image"],
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "600"],
        "resources": {"requests": {"cpu": cpu, "memory": "16Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    metadata = {"name": "rival"}
    body = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "securityContext": security}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {**body, **spec, "containers": [container]},
    }


class Webhook(BaseHTTPRequestHandler):
    """Gives every worker one argument more."""

    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        patch = [{"op": "add", "path": "/spec/containers/0/args", "value": ["--module", "json"]}]
        answer = {
            "uid": review["request"]["uid"],
            "allowed": True,
            "patchType": "JSONPatch",
            "patch": base64.b64encode(json.dumps(patch).encode()).decode(),
        }
        body = json.dumps({**review, "request": None, "response": answer}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def webhook(namespace: Namespace, tmp_path: Path) -> Iterator[None]:
    """A webhook of this process changes the pods of the namespace; the API server is on this machine, too."""
    authority = Authority(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*authority.issue("localhost"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Webhook)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
    name = f"{namespace.name}.rivers.test"
    ca = base64.b64encode(authority.file.read_bytes()).decode()
    hook = {
        "name": name,
        "clientConfig": {"url": f"https://localhost:{server.server_port}/", "caBundle": ca},
        "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace.name}},
        "sideEffects": "None",
        "failurePolicy": "Fail",
        "admissionReviewVersions": ["v1"],
    }
    kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration"}
    namespace.ask("POST", path, {**kind, "metadata": {"name": name}, "webhooks": [hook]})
    try:
        namespace.until(lambda: is_changed(namespace) or None)
        yield
    finally:
        namespace.ask("DELETE", f"{path}/{name}")
        server.shutdown()
        serving.join(10)
        server.server_close()


def is_changed(namespace: Namespace) -> bool:
    """Whether the API server calls the webhook by now."""
    pod = rival("10m")
    pod["metadata"]["name"] = f"trial-{uuid.uuid4().hex[:8]}"
    made = namespace.ask("POST", f"{namespace.path}/pods", pod, {"dryRun": "All"})
    return "args" in made["spec"]["containers"][0]


@NEEDS_TOOLS
@pytest.mark.usefixtures("webhook")
def test_changed_on_its_way_in(begin: Start) -> None:
    """What a webhook makes of the worker's program is told; it may well work (K38)."""
    going = begin(pod_steps.one, env=NO_NOTES)
    result = going.end()
    told = [e.message for e in going.events if type(e).__name__ == "StepLog" and "changed" in e.message]

    assert result.success, result.failed_assets
    assert 1 == len(told), told
    assert told[0].endswith("the cluster has changed it on its way in: args ['--module', 'json'] instead of []")
