"""A controller that is killed in its pod: it owns what its run has made, so that all of it goes with that pod."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from deployed import LACKING, ROOT, Deployed

pytestmark = [pytest.mark.long, pytest.mark.skipif(bool(LACKING), reason="; ".join(LACKING)), pytest.mark.timeout(300)]

# Its controller is not the container's first process, which no signal from inside could kill; the container goes on.
OUTLIVED = [
    "/bin/sh",
    "-c",
    'python -m flights "$@" & echo $! >/tmp/controller; wait; echo ended; exec sleep 600',
    "--",
]
COLLECTED = 150.0
"""Seconds for the cluster's collector of garbage and the workers' grace; it took a minute on a busy machine."""
WORKERS = ("pods", "--selector=app.kubernetes.io/managed-by=rivers")


def until(found: Callable[[], list[Any]], wanted: Callable[[list[Any]], bool], seconds: float) -> list[Any]:
    """What is found once it is as wanted; the test fails when that takes longer."""
    deadline = time.monotonic() + seconds
    while not wanted(things := found()):
        assert time.monotonic() < deadline, f"after {seconds:g} s there is {things}"
        time.sleep(0.5)
    return things


def test_killed_in_its_pod(deployed: Deployed) -> None:
    """SIGKILL leaves pods and a lease, whose only owner is the controller's pod; with it they are gone (K41)."""
    name, _, tag = os.environ["RIVERS_TEST_FLIGHTS_IMAGE"].rpartition(":")
    store = f"{os.environ['RIVERS_TEST_STORE']}/{uuid.uuid4().hex}"
    container = "/spec/template/spec/containers/0"
    changes = [
        {"op": "replace", "path": f"{container}/command", "value": OUTLIVED},
        {"op": "replace", "path": f"{container}/env/0/value", "value": store},
        {"op": "add", "path": f"{container}/args/-", "value": "--at-once=2"},
    ]
    deployed.apply(
        ROOT / "deploy" / "job",
        images=[{"name": "rivers-flights", "newName": name, "newTag": tag}],
        patches=[{"target": {"kind": "Job"}, "patch": json.dumps(changes)}],
    )

    def left(*kind: str) -> list[Any]:
        return list(deployed.find(*kind)["items"])

    until(lambda: [step_of(pod) for pod in left(*WORKERS)], lambda steps: bool({*steps} - {"preflight"}), 120)
    deployed.kubectl("exec", "job/flights", "--", "/bin/sh", "-c", "kill -KILL $(cat /tmp/controller)")
    until(lambda: deployed.kubectl("logs", "job/flights").splitlines(), lambda lines: "ended" in lines, 30)
    controller = deployed.find("pods", "--selector=job-name=flights")["items"][0]["metadata"]
    orphans = [*left(*WORKERS), *left("leases")]
    deployed.kubectl("delete", "job", "flights", "--wait=false", "--cascade=background")
    deployed.kubectl("delete", "pod", controller["name"], "--wait=false", "--grace-period=1")
    until(lambda: [step_of(thing) for thing in [*left(*WORKERS), *left("leases")]], lambda steps: not steps, COLLECTED)

    assert {"Pod", "Lease"} == {thing["kind"] for thing in orphans}
    owners = [[owner["uid"] for owner in thing["metadata"].get("ownerReferences", ())] for thing in orphans]
    assert [[controller["uid"]]] * len(orphans) == owners


def step_of(thing: Any) -> str | None:
    """The step that a pod is for; a lease is for none."""
    step: str | None = thing["metadata"].get("labels", {}).get("rivers.io/step")
    return step
