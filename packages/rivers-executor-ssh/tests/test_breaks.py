"""Tests of connections that break, of hosts that die, and of a controller that is killed.

A body that goes on while its connection is broken has run once, and its result arrives.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ssh_steps
from host_run import CODE, HostRun
from loopback import Loopback, LoopbackHost, wait_for

from rivers_process.processes import child_processes, command_line

Start = Callable[..., HostRun]
Two = tuple[LoopbackHost, LoopbackHost]


def masters() -> list[int]:
    """Return the ssh processes of this controller that hold connections."""
    found = [child.pid for child in child_processes(os.getpid())]
    return [pid for pid in found if "ControlMaster=yes" in command_line(pid)]


def finish(run: HostRun) -> None:
    """Let the body end, and check that it has run once, on one host, and that all it printed has arrived."""
    run.go.touch()
    result = run.end()
    assert result.success, result.failed_assets
    assert ["+waits", "-waits"] == [line.partition("@")[0] for line in run.lines()]
    assert ["it waits", "it went on"] == run.logs()


def kill_masters() -> None:
    for pid in masters():
        os.kill(pid, signal.SIGKILL)


def test_ssh_killed(loopback: Loopback, start: Start) -> None:
    """The ssh process of a connection is killed: another one takes over, and nobody notices."""
    loopback.add("a")
    run = start(ssh_steps.waits)
    run.until(1)
    kill_masters()
    finish(run)

    assert [] == run.warnings()


def test_ssh_killed_again(loopback: Loopback, start: Start) -> None:
    """The ssh processes that take over are killed, too, while they connect."""
    loopback.add("a")
    run = start(ssh_steps.waits)
    run.until(1)
    for _ in range(4):
        before = masters()
        kill_masters()
        assert wait_for(lambda before=before: masters() and masters() != before)
    finish(run)


def test_connection_cut(loopback: Loopback, start: Start) -> None:
    """The host's end of a connection is killed."""
    host = loopback.add("a")
    run = start(ssh_steps.waits)
    run.until(1)
    host.cut()
    finish(run)


@pytest.mark.timeout(90)
def test_ssh_frozen(loopback: Loopback, start: Start) -> None:
    """A connection that falls silent without an end is given up and replaced."""
    loopback.add("a")
    run = start(ssh_steps.waits, orphan_ttl=60)
    run.until(1)
    (frozen,) = masters()
    os.kill(frozen, signal.SIGSTOP)
    assert wait_for(lambda: masters() not in ([], [frozen]), 30)
    finish(run)


def test_sshd_restarted(loopback: Loopback, start: Start) -> None:
    """sshd is stopped with its connections and started later: the worker has gone on, and its host is back."""
    host = loopback.add("a")
    run = start(ssh_steps.waits)
    run.until(1)
    host.stop()
    assert wait_for(run.warnings)
    host.start()
    assert wait_for(lambda: len(run.warnings()) > 1, 20)
    finish(run)

    out, back = run.warnings()
    assert "host 'a' is out, and its steps go elsewhere: `ssh -F " in out
    assert "Connection refused" in out
    assert "host 'a' answers again" == back


def test_closed_while_cut_off(loopback: Loopback, start: Start) -> None:
    """A run ends while its host is cut off for a moment: nothing is left there, long before orphan_ttl."""
    host = loopback.add("a")
    run = start(ssh_steps.waits, orphan_ttl=60)
    run.until(1)
    host.stop()
    run.handle.cancel()
    timer = threading.Timer(5.0, host.start)
    timer.start()
    result = run.end()
    timer.join()

    assert not result.success
    assert wait_for(lambda: not host.left(), 5), host.left()


def test_service_restarted(loopback: Loopback, start: Start) -> None:
    """sshd is restarted as by its service, which keeps the connections: nobody notices."""
    host = loopback.add("a")
    run = start(ssh_steps.waits)
    run.until(1)
    host.stop(connections=False)
    host.start()
    finish(run)

    assert [] == run.warnings()


def test_host_dead_from_the_start(loopback: Loopback, start: Start) -> None:
    """A host that does not answer is taken out with a warning, and the other one does all the work."""
    loopback.add("a")
    loopback.add("b", starts=False)
    run = start(*ssh_steps.many(4))
    result = run.end()

    assert result.success
    assert {"a"} == {step.worker.split("/")[0] for step in result.steps.values()}
    assert 1 == len([text for text in run.warnings() if "host 'b' is out" in text and "Connection refused" in text])


def test_host_dies(two: Two, start: Start) -> None:
    """A host dies with its workers: their steps fail with evidence within orphan_ttl, others run on the other host."""
    run = start(ssh_steps.waits, *ssh_steps.many(8), orphan_ttl=4, max_workers_per_host=1)
    run.until(1)
    assert wait_for(lambda: any("waits" in line for line in run.lines()))
    (name,) = [line.partition("@")[2] for line in run.lines() if line.startswith("+waits")]
    (host,) = [host for host in two if host.name == name]
    host.stop()
    host.kill_all()
    result = run.end()

    failure = result.steps["waits"].failure
    assert "infrastructure" == failure.reason.value
    assert host.name == failure.evidence.node
    assert "has not answered for" in failure.evidence.detail
    assert 1 == len([line for line in run.lines() if line.startswith("+waits")])
    others = [step for name, step in result.steps.items() if name != "waits" and step.failure is None]
    assert len(others) >= 7


def test_agent_killed(loopback: Loopback, start: Start) -> None:
    """The agent of a host is killed, and its workers with it: a new one takes over, and the step fails at once."""
    host = loopback.add("a")
    run = start(ssh_steps.waits)
    run.until(1)
    began = time.monotonic()
    for pid, line in host.processes().items():
        if "rivers_worker.agent" in line and os.getsid(pid) == pid:
            os.kill(pid, signal.SIGKILL)
    failure = run.end().steps["waits"].failure

    assert "infrastructure" == failure.reason.value
    assert "agent is gone" in failure.evidence.detail
    assert time.monotonic() - began < 15


@pytest.fixture
def controller(two: Two, loopback: Loopback, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    (tmp_path / "c").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "c")}
    program = [sys.executable, str(CODE.parent / "controller.py"), loopback.config, str(tmp_path), str(CODE)]
    with subprocess.Popen(program, env=environment) as process:
        assert wait_for(lambda: (tmp_path / "notes").exists() and "waits" in (tmp_path / "notes").read_text(), 30)
        yield process
        process.kill()


def test_controller_killed(controller: subprocess.Popen[bytes], two: Two, tmp_path: Path) -> None:
    """After the controller's SIGKILL nothing is left on the hosts within orphan_ttl, here 4 s, and some grace."""
    controller.kill()
    controller.wait()
    killed = time.monotonic()
    assert wait_for(lambda: not any(host.left() for host in two), 20), [host.left() for host in two]
    print(f"nothing was left after {time.monotonic() - killed:.1f} s")

    assert time.monotonic() - killed < 4 + 3


def test_controller_killed_while_the_host_is_cut_off(
    controller: subprocess.Popen[bytes], two: Two, loopback: Loopback
) -> None:
    """The same while sshd is stopped: nobody on the host needs a connection for it."""
    for host in two:
        host.stop()
    controller.kill()
    controller.wait()

    assert wait_for(lambda: not any(host.left() for host in two), 20), [host.left() for host in two]


def test_interrupt(controller: subprocess.Popen[bytes], two: Two, tmp_path: Path) -> None:
    """Ctrl-C ends a run as it does everywhere: bodies are cancelled, and the hosts are clean when the program ends."""
    os.kill(controller.pid, signal.SIGINT)

    assert controller.wait(30) != 0
    assert [] == [line for host in two for line in host.left()]
    assert [] == os.listdir(tmp_path / "c")
