"""Durable runs on a real cluster: killed controllers, and a Job whose controller is evicted half-way."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import adopt_shop
import pytest
from accounts import ACCOUNT, bind, published
from namespaces import Namespace
from real_runs import NEEDS_IMAGE, account

pytestmark = [pytest.mark.long, NEEDS_IMAGE, pytest.mark.timeout(600)]

SECONDS = 60
LINES = [f"line {i}" for i in range(SECONDS * adopt_shop.PER_SECOND)]
PATIENCE = 180.0
KILLS, LONGEST = 5, 22.0
"""Controllers that are killed, and the most seconds that one gets: of these it waits 15 for the lease."""
STEP = "slow"
RIVERS = "from rivers_cli.main import main; main()"
"""The program `rivers`."""


def shop_environment(namespace: Namespace) -> dict[str, str]:
    """Return what the repository reads from its environment, with a store of its own."""
    return {
        **{name: value for name, value in os.environ.items() if name.startswith("AWS_")},
        "SHOP_IMAGE": os.environ["RIVERS_TEST_IMAGE"],
        "SHOP_NAMESPACE": namespace.name,
        "SHOP_STORE": f"{os.environ['RIVERS_TEST_STORE']}/{uuid.uuid4().hex}",
        "SHOP_SECONDS": str(SECONDS),
    }


def events_in(text: str) -> list[dict[str, Any]]:
    """Return the events of a record; its last line may not have ended."""
    return [json.loads(line) for line in text.split("\n")[:-1]]


def check_whole(events: list[dict[str, Any]], controllers: int) -> None:
    """Check that so many controllers have carried out the run, with each attempt, line and result once."""
    logs = [one["message"] for one in events if one["event"] == "StepLog" and one["step"] == STEP]
    submitted = Counter(one["attempt_id"] for one in events if one["event"] == "StepSubmitted")
    started = Counter(one["step"] for one in events if one["event"] == "StepStarted")
    succeeded = {one["step"]: one for one in events if one["event"] == "StepSucceeded"}

    assert "success" == events[-1]["status"]
    assert [*range(controllers)] == [one["epoch"] for one in events if one["event"] == "RunStarted"]
    assert LINES == [line for line in logs if line.startswith("line ")]
    assert {1} == set(submitted.values())
    assert {"quick": 1, "slow": 1, "total": 1} == started
    assert len(LINES) == json.loads(succeeded[STEP]["outputs"][0]["metadata"])["lines"]


def left(namespace: Namespace) -> list[str]:
    """Return the names of workers' pods and of leases whose deletion nobody has requested."""
    selector = {"labelSelector": "app.kubernetes.io/managed-by=rivers"}
    found = [
        *namespace.ask("GET", f"{namespace.path}/pods", query=selector)["items"],
        *namespace.ask("GET", namespace.leases)["items"],
    ]
    return [one["metadata"]["name"] for one in found if "deletionTimestamp" not in one["metadata"]]


# ---- controllers outside ---------------------------------------------------------------------------------------------


class Shop:
    """The run of the repository by `rivers run` in processes of this machine."""

    def __init__(self, namespace: Namespace, home: Path, **more: str) -> None:
        self._home = home
        self._environment = {**os.environ, **shop_environment(namespace), **more}
        self._environment["PYTHONPATH"] = str(Path(adopt_shop.__file__).parent)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        """Begin the run, or carry it on."""
        options = ["--durable", "--resume-if-interrupted", "--home", str(self._home)]
        with (self._home / "output").open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", RIVERS, "run", "adopt_shop", *options],
                env=self._environment,
                cwd=self._home,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        return self.process

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)

    @property
    def events(self) -> list[dict[str, Any]]:
        files = list(self._home.glob("runs/*/events.jsonl"))
        return events_in(files[0].read_text()) if files else []

    def wait_for(self, true: Callable[[list[dict[str, Any]]], bool]) -> None:
        until = time.monotonic() + PATIENCE
        while not true(self.events):
            assert time.monotonic() < until, (self._home / "output").read_text()
            time.sleep(0.2)


@pytest.fixture
def make_shop(namespace: Namespace, tmp_path: Path) -> Iterator[Callable[..., Shop]]:
    namespace.make("serviceaccounts", account)
    shops: list[Shop] = []

    def make(**more: str) -> Shop:
        shops.append(Shop(namespace, tmp_path, **more))
        return shops[-1]

    yield make
    for shop in shops:
        shop.kill()


@pytest.mark.parametrize("warm", ["", "1"], ids=["cold", "warm"])
def test_killed_controllers(make_shop: Callable[..., Shop], namespace: Namespace, warm: str) -> None:
    """Two controllers are killed while a body runs; the third one ends the run, and no line is lost or doubled."""
    shop = make_shop(SHOP_WARM=warm)
    for seen in (10, 40):
        shop.start()
        shop.wait_for(lambda events, seen=seen: any(one.get("message") == f"line {seen}" for one in events))
        shop.kill()
    assert 0 == shop.start().wait(PATIENCE)

    check_whole(shop.events, 3)
    assert [] == left(namespace)


def test_killed_at_any_moment(make_shop: Callable[..., Shop]) -> None:
    """Controllers are killed at random moments: while they wait for the lease, adopt, run or end."""
    seed = int(os.environ.get("RIVERS_TEST_SEED") or random.SystemRandom().randrange(2**32))
    print(f"RIVERS_TEST_SEED={seed}", flush=True)
    chance = random.Random(seed)
    shop = make_shop()
    shop.start()
    shop.wait_for(bool)
    for _ in range(KILLS):
        time.sleep(chance.uniform(0.0, LONGEST))
        shop.kill()
        shop.start()
    assert shop.process is not None
    assert 0 == shop.process.wait(PATIENCE)

    events = shop.events
    check_whole(events, len([one for one in events if one["event"] == "RunStarted"]))


# ---- a controller that is evicted ------------------------------------------------------------------------------------

RECORDS = "/records"


@pytest.fixture
def volume(namespace: Namespace, tmp_path: Path) -> Iterator[str]:
    """A claim for a volume for records, on the node."""
    folder = tmp_path / "records"
    folder.mkdir()
    folder.chmod(0o777)
    name = f"{namespace.name}-records"
    size = {"storage": "1Gi"}
    common = {"accessModes": ["ReadWriteOnce"], "storageClassName": ""}
    volume = {"capacity": size, "hostPath": {"path": str(folder)}, **common}
    namespace.ask("POST", "/api/v1/persistentvolumes", {"metadata": {"name": name}, "spec": volume})
    claim = {"volumeName": name, "resources": {"requests": size}, **common}
    namespace.make("persistentvolumeclaims", {"metadata": {"name": "records"}, "spec": claim})
    yield "records"
    namespace.ask("DELETE", f"/api/v1/persistentvolumes/{name}")


def controller_spec(environment: dict[str, str], *command: str) -> dict[str, Any]:
    """Return the specification of a controller's pod."""
    container = {
        "name": "controller",
        "image": os.environ["RIVERS_TEST_IMAGE"],
        "imagePullPolicy": "IfNotPresent",
        "command": [*command],
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "resources": {"requests": {"cpu": "100m"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "records", "mountPath": RECORDS}],
    }
    return {
        "serviceAccountName": ACCOUNT,
        "restartPolicy": "Never",
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "records", "persistentVolumeClaim": {"claimName": "records"}}],
    }


def pods_of(namespace: Namespace, selector: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = namespace.ask("GET", f"{namespace.path}/pods", query={"labelSelector": selector})[
        "items"
    ]
    return found


def test_evicted_job(namespace: Namespace, volume: str) -> None:
    """A Job's controller is evicted half-way, twice; its successors adopt the step, and the Job completes."""
    namespace.make("serviceaccounts", account)
    bind(namespace, published(outside=False))
    environment = {**shop_environment(namespace), "RIVERS_HOME": RECORDS}
    command = ("rivers", "run", "adopt_shop", "--durable", "--resume-if-interrupted")
    spec = {"backoffLimit": 10, "template": {"spec": controller_spec(environment, *command)}}
    jobs = f"/apis/batch/v1/namespaces/{namespace.name}/jobs"
    namespace.ask("POST", jobs, {"metadata": {"name": "shop"}, "spec": spec})
    for seen in (20, 120):
        worker = namespace.until(lambda: next(iter(pods_of(namespace, f"rivers.io/step={STEP}")), None), PATIENCE)
        name = worker["metadata"]["name"]
        namespace.until(lambda name=name, seen=seen: f"line {seen}" in namespace.log(name) or None, PATIENCE)
        [controller] = [
            pod for pod in pods_of(namespace, "job-name=shop") if pod["status"].get("phase") in ("Pending", "Running")
        ]
        namespace.evict(controller["metadata"]["name"])

    def is_over() -> str | None:
        conditions = namespace.ask("GET", f"{jobs}/shop")["status"].get("conditions", [])
        ends = ("Complete", "Failed")
        return next((one["type"] for one in conditions if one["status"] == "True" and one["type"] in ends), None)

    assert "Complete" == namespace.until(is_over, PATIENCE)
    namespace.create(
        {
            "metadata": {"name": "reader"},
            "spec": controller_spec({}, "/bin/sh", "-c", f"cat {RECORDS}/runs/*/events.jsonl; ls {RECORDS}/runs/*"),
        }
    )
    namespace.until(lambda: namespace.pod("reader").status.phase == "Succeeded" or None, PATIENCE)
    text = namespace.log("reader")
    events = events_in(text[: text.rindex("}\n") + 2])

    check_whole(events, len([one for one in events if one["event"] == "RunStarted"]))
    assert "private" not in text[text.rindex("}\n") :]
    assert 2 <= len([one for one in events if one["event"] == "RunStarted"])
    assert [] == left(namespace)
