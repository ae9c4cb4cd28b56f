"""The flights in pods of a real cluster, with their values in a real bucket: every figure is that of one process."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from deployed import LACKING, ROOT, Deployed

EXAMPLE = ROOT / "examples" / "flights"
PICTURES = {"carrier_picture", "destination_picture", "hour_picture", "weather_picture"}
AT_ONCE = "--at-once=4"
"""With 400m each that is what two CPUs carry; less would throttle a worker's start."""

pytestmark = [pytest.mark.long, pytest.mark.skipif(bool(LACKING), reason="; ".join(LACKING)), pytest.mark.timeout(600)]


@pytest.fixture
def store() -> str:
    """A folder of the bucket for one run."""
    return f"{os.environ['RIVERS_TEST_STORE']}/{uuid.uuid4().hex}"


def from_outside(deployed: Deployed, store: str, out: Path, *options: str, **environment: str) -> str:
    """What `python -m flights --executor kubernetes --compare` prints, as somebody at a laptop runs it."""
    cluster = [f"--image={os.environ['RIVERS_TEST_FLIGHTS_IMAGE']}", f"--namespace={deployed.name}", AT_ONCE]
    values = [f"--store={store}", "--pod-template=pod.yaml", f"--out={out}"]
    done = subprocess.run(
        [sys.executable, "-m", "flights", "--executor=kubernetes", "--compare", *cluster, *values, *options],
        cwd=EXAMPLE,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=540,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


def states(table: str) -> dict[str, tuple[str, str]]:
    """Executor and state of each row of a printed table of steps."""
    _, _, *rows = (re.split(r"\s{2,}", line) for line in table.splitlines())
    return {row[0]: (row[1], row[2]) for row in rows}


def expected(steps: set[str]) -> dict[str, tuple[str, str]]:
    """What those steps have come to: in pods, but for the pictures."""
    return {step: ("in_process" if step in PICTURES else "kubernetes", "succeeded") for step in steps}


def test_from_outside(deployed: Deployed, store: str, tmp_path: Path) -> None:
    """The whole job in pods that are called directly: 134 values, and not a bit of them is another than in-process."""
    printed = from_outside(deployed, store, tmp_path, RIVERS_KUBERNETES_DIAL="direct")
    _, here, _, _, there, _, verdict = printed.split("\n\n")

    assert expected(set(states(here))) == states(there)
    assert "destination_delays/airport_figures[*] x 105" in states(there)
    assert "in_process and kubernetes: 134 values compared, none different\n" == verdict
    assert [] == deployed.left()


def test_through_the_api_server(deployed: Deployed, store: str, tmp_path: Path) -> None:
    """By port-forward, as a user with no right but the Role for that: a fan-out and all that it is made of."""
    user = deployed.outsider("rivers-controller-outside")
    environment = {"KUBECONFIG": str(user), "RIVERS_KUBERNETES_DIAL": "port-forward"}
    printed = from_outside(deployed, store, tmp_path, "--select", "origin_delays", "wind_delays", **environment)
    _, here, _, _, there, _, verdict = printed.split("\n\n")

    assert expected(set(states(here))) == states(there)
    assert re.fullmatch(r"in_process and kubernetes: \d\d values compared, none different\n", verdict)
    assert [] == deployed.left()


def test_from_a_pod(deployed: Deployed, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`deploy/job`, with an image and a bucket: what it has stored is, to the last bit, what this process makes."""
    name, _, tag = os.environ["RIVERS_TEST_FLIGHTS_IMAGE"].rpartition(":")
    changes = [
        {"op": "replace", "path": "/spec/template/spec/containers/0/env/0/value", "value": store},
        {"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": AT_ONCE},
    ]
    deployed.apply(
        ROOT / "deploy" / "job",
        images=[{"name": "rivers-flights", "newName": name, "newTag": tag}],
        patches=[{"target": {"kind": "Job"}, "patch": json.dumps(changes)}],
    )
    monkeypatch.syspath_prepend(EXAMPLE)
    repository, compare = (importlib.import_module(f"flights.{module}") for module in ("repository", "compare"))
    with repository.flights_repository(tmp_path / "here") as here:
        names = set(compare.value_names(here.get_job("flights").execute())) - PICTURES
        ending = deployed.ended("flights", 480)
        log = deployed.kubectl("logs", "job/flights")
        assert "Complete" == ending, log
        with repository.flights_repository(tmp_path / "there", store=store) as there:
            different = list(compare.differences(sorted(names), here, there))

    steps = states(log[log.index("step  ") :].partition("\n\n")[0])  # what pods waited for stands before it
    assert expected(set(steps)) == steps
    assert PICTURES < set(steps)
    assert re.search(r"^run \w+: success, 22 assets, ", log, re.MULTILINE)
    assert (130, []) == (len(names), different)
    assert [] == deployed.left()
