"""Durable runs: a controller that comes back adopts what the killed one has left."""

from __future__ import annotations

import asyncio
import json
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from adopt_runs import DurableRun
from adopt_steps import LINES
from plain_cluster import opened

from rivers_executor_k8s.pod.names import MANAGED
from rivers_k8s_testing import FakeCluster

pytestmark = pytest.mark.timeout(240)

MakeRun = Callable[..., DurableRun]
LOGS = [f"{when} {i}" for when in ("before", "after") for i in range(LINES)]
WARM = {"worker_reuse": "run"}


@pytest.fixture
def make_run(fake: FakeCluster, tmp_path: Path, nothing_is_left: str) -> Iterator[MakeRun]:
    runs: list[DurableRun] = []

    def make(**settings: object) -> DurableRun:
        runs.append(DurableRun(tmp_path / "run", nothing_is_left, **settings))
        return runs[-1]

    yield make
    for run in runs:
        run.kill_all()


def kill_in_body(run: DurableRun, line: str = "before 4") -> None:
    """Start a run, and kill its controller once the body of `gated` has printed a line."""
    controller = run.start()
    run.wait_for(lambda: line in run.logs(), "the body")
    controller.kill()
    controller.wait(10)


async def leases_of(fake: FakeCluster) -> list[str]:
    async with opened(fake) as cluster:
        return [lease["metadata"]["name"] for lease in await cluster.list_leases(MANAGED)]


def worker_of(run: DurableRun, step: str = "gated") -> str:
    return str(run.events("StepStarted", step)[-1]["worker"])


def wait_for_adoption(run: DurableRun, fake: FakeCluster, resumed: subprocess.Popen[str]) -> None:
    """Wait until the run goes on in this controller."""
    begun = len(run.events("RunStarted"))
    run.wait_for(lambda: len(run.events("RunStarted")) > begun or resumed.poll() is not None, "the resume")
    assert resumed.poll() is None, run.output


def check_whole(run: DurableRun, fake: FakeCluster) -> None:
    """Check that the run is over, with each body and each event once, and that nothing of it is left."""
    assert "success 3" in run.output, run.output
    assert ["first", "gated 1", "last"] == run.bodies()
    assert LOGS == run.logs()
    assert {1} == set(run.attempt_ids().values())
    assert 3 == len(run.attempt_ids())
    assert 1 == len(run.events("StepStarted", "gated"))
    [ended] = run.events("StepSucceeded", "gated")
    assert 2 * LINES == json.loads(ended["outputs"][0]["metadata"])["lines"]
    assert not (run.record / "private").exists()
    assert [] == fake.pods()
    assert [] == asyncio.run(leases_of(fake))


@pytest.mark.parametrize("settings", [{}, WARM], ids=["cold", "warm"])
def test_killed_controller(make_run: MakeRun, fake: FakeCluster, settings: dict[str, object]) -> None:
    """The controller is killed while a body runs; the next one reads on, and the body runs once."""
    run = make_run(**settings)
    kill_in_body(run)

    resumed = run.resume()
    wait_for_adoption(run, fake, resumed)
    run.open_gate()

    assert 0 == resumed.wait(60), run.output
    check_whole(run, fake)


@pytest.mark.parametrize("settings", [{}, WARM], ids=["cold", "warm"])
def test_body_ends_alone(make_run: MakeRun, fake: FakeCluster, settings: dict[str, object]) -> None:
    """A body that ends while there is no controller hands over its result, its metadata and its logs."""
    run = make_run(**settings)
    kill_in_body(run, "before 0")
    run.open_gate()
    run.wait_for((run.folder / "values" / "gated.pkl").exists, "the commit")

    assert 0 == run.resume().wait(90), run.output
    check_whole(run, fake)


def test_worker_gives_up(make_run: MakeRun, fake: FakeCluster) -> None:
    """A worker that no controller calls for `orphan_ttl` kills its body; a new attempt does not count as a retry."""
    run = make_run(orphan_ttl=3.0)
    kill_in_body(run)
    run.wait_for(lambda: all(pod["status"].get("phase") == "Failed" for pod in fake.pods()), "the end of the worker")
    run.open_gate()

    assert 0 == run.resume().wait(90), run.output
    assert ["first", "gated 1", "gated 1", "last"] == run.bodies()
    [retrying] = run.events("StepRetrying", "gated")
    assert retrying["free"]
    assert {1} == set(run.attempt_ids().values())


def test_result_of_an_ended_worker(make_run: MakeRun, fake: FakeCluster) -> None:
    """The result of a body that has failed is found in its pod's status, after its worker has given up."""
    run = make_run(orphan_ttl=3.0)
    kill_in_body(run)
    (run.gates / "fails").touch()
    run.open_gate()
    run.wait_for(lambda: all(pod["status"].get("phase") == "Failed" for pod in fake.pods()), "the end of the worker")

    assert 1 == run.resume().wait(90)
    [failed] = run.events("StepFailed", "gated")
    assert "no good" in failed["failure"]["message"]
    assert ["first", "gated 1"] == run.bodies()


def test_killed_worker(make_run: MakeRun, fake: FakeCluster) -> None:
    """A pod that was deleted while there was no controller is replaced."""
    run = make_run()
    kill_in_body(run)
    fake.delete(worker_of(run), force=True)
    run.wait_for(lambda: not fake.pods(), "the deletion")
    run.open_gate()

    assert 0 == run.resume().wait(90), run.output
    assert ["first", "gated 1", "gated 1", "last"] == run.bodies()
    assert {1} == set(run.attempt_ids().values())


def test_lost_identity(make_run: MakeRun, fake: FakeCluster) -> None:
    """Without the key that workers know their pods are deleted, and their attempts begin anew."""
    run = make_run()
    kill_in_body(run)
    (run.record / "private" / "controller.pem").unlink()
    resumed = run.resume()
    run.wait_for(lambda: 2 == len(run.events("StepSubmitted", "gated")), "the new attempt")
    run.open_gate()

    assert 0 == resumed.wait(90), run.output
    assert ["first", "gated 1", "gated 1", "last"] == run.bodies()
    assert {1} == set(run.attempt_ids().values())
    assert 4 == len(run.attempt_ids())
    assert [] == fake.pods()


def test_three_controllers(make_run: MakeRun, fake: FakeCluster) -> None:
    """One is killed in the body, one while it adopts, one is evicted, and the last one ends the run; all in order."""
    run = make_run()
    kill_in_body(run)
    second = run.resume()
    wait_for_adoption(run, fake, second)
    second.kill()
    second.wait(10)
    third = run.resume()
    wait_for_adoption(run, fake, third)
    third.terminate()
    assert 128 + signal.SIGTERM == third.wait(10)
    fourth = run.resume()
    wait_for_adoption(run, fake, fourth)
    run.open_gate()

    assert 0 == fourth.wait(60), run.output
    assert [0, 1, 2, 3] == [one["epoch"] for one in run.events("RunStarted")]
    check_whole(run, fake)


def test_two_resumes(make_run: MakeRun, fake: FakeCluster) -> None:
    """Of two controllers that resume at once, one does."""
    run = make_run()
    kill_in_body(run)
    both = [run.resume(), run.resume()]
    run.wait_for(lambda: any(one.poll() is not None for one in both), "the refusal")
    run.open_gate()

    assert [0, 1] == sorted(one.wait(90) for one in both)
    assert "the run still goes on" in run.output
    check_whole(run, fake)


def test_overdue(make_run: MakeRun, fake: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The timeout counts from the recorded start: it ends an attempt that was begun before."""
    monkeypatch.setenv("RIVERS_TEST_TIMEOUT", "12")
    run = make_run(grace=1.0)
    kill_in_body(run)

    assert 1 == run.resume().wait(90)
    [failed] = run.events("StepFailed", "gated")
    assert 1 == len(run.events("StepStarted", "gated"))
    assert "timeout" == failed["failure"]["reason"]
    assert [] == fake.pods()


def test_cancel_of_an_adopted_attempt(make_run: MakeRun, fake: FakeCluster) -> None:
    """Ctrl-C cancels what was adopted, and leaves nothing."""
    run = make_run(grace=1.0)
    kill_in_body(run)
    resumed = run.resume()
    wait_for_adoption(run, fake, resumed)
    resumed.send_signal(signal.SIGINT)

    resumed.wait(60)
    assert [1] == [one["attempt"] for one in run.events("StepCancelled", "gated")]
    assert not (run.record / "private").exists()
    assert [] == fake.pods()


def test_private_folder(make_run: MakeRun, fake: FakeCluster) -> None:
    """Only its user can read what a later controller needs, and it is nowhere else."""
    run = make_run()
    kill_in_body(run)
    private = run.record / "private"
    secrets = [(private / name).read_bytes() for name in ("controller.pem", "key")]

    assert 0o700 == stat.S_IMODE(private.stat().st_mode)
    assert {0o600} == {stat.S_IMODE((private / name).stat().st_mode) for name in ("controller.pem", "key")}
    key = secrets[0].split(b"-----")[2].strip().splitlines()[0]
    others = [path for path in run.folder.rglob("*") if path.is_file() and private not in path.parents]
    assert not [path for path in others if key in path.read_bytes() or secrets[1] in path.read_bytes()]
    assert (private / "workers" / worker_of(run)).exists()
