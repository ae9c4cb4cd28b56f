"""Tests of preflight: hosts that cannot run steps, and the texts that say so."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import ssh_steps
from loopback import Loopback

import rivers as rs
from rivers.exceptions import GraphValidationError
from rivers_executor_ssh import SshExecutor

Make = Callable[..., SshExecutor]


def refusal(executor: SshExecutor, folder: Path) -> list[str]:
    """Return the problems for which a run is refused."""
    repo = rs.CodeRepository(
        assets=[ssh_steps.where],
        default_executor=executor,
        default_io_handler=rs.PickleIOHandler(folder / "store", shared=True),
    )
    with pytest.raises(GraphValidationError) as caught:
        repo.materialize()
    return [str(problem) for problem in caught.value.problems]


def test_no_hosts(tmp_path: Path) -> None:
    """The name alone is a value, and preflight names what it lacks."""
    (problem,) = refusal(SshExecutor(), tmp_path)

    assert "executor SshExecutor() has no hosts: write SshExecutor(hosts=[…])" in problem


def test_unknown_host_key(loopback: Loopback, executor: Make, tmp_path: Path) -> None:
    """A host whose key is not known is refused, with the command that shows its key."""
    loopback.add("a", is_known=False)
    (problem,) = refusal(executor(), tmp_path)

    assert f"host 'a': `ssh -F {loopback.config} a` ended with exit code 255: " in problem
    assert "Host key verification failed" in problem
    assert f"accept its key once with `ssh -F {loopback.config} a`" in problem


def test_other_host_key(loopback: Loopback, executor: Make, tmp_path: Path) -> None:
    """A host with another key than the known one is refused with ssh's own warning."""
    one, other = loopback.add("a"), loopback.add("b", starts=False)
    kind, text = other.key.with_suffix(".pub").read_text().split()[:2]
    loopback.known_hosts.write_text(f"[127.0.0.1]:{one.port} {kind} {text}\n")
    (problem,) = refusal(executor("a"), tmp_path)

    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in problem


def test_no_access(loopback: Loopback, executor: Make, tmp_path: Path) -> None:
    """No password is asked for."""
    host = loopback.add("a")
    host.config.write_text(host.config.read_text().replace("id.pub", "nobody.pub"))
    host.stop()
    host.start()
    (problem,) = refusal(executor(), tmp_path)

    assert "Permission denied" in problem
    assert "set up a key or an agent" in problem


def test_nobody_listens(loopback: Loopback, executor: Make, tmp_path: Path) -> None:
    """All hosts that do not answer are named."""
    loopback.add("a", starts=False)
    loopback.add("b", starts=False)
    problems = refusal(executor(), tmp_path)

    assert ["a", "b"] == [problem.split("'")[1] for problem in problems]
    assert all("Connection refused" in problem for problem in problems)


def test_silent_host(loopback: Loopback, executor: Make, tmp_path: Path) -> None:
    """A host that accepts and says nothing is given up after connect_timeout."""
    host = loopback.add("a", starts=False)
    with socket.create_server(("127.0.0.1", host.port)):
        (problem,) = refusal(executor(connect_timeout=1), tmp_path)

    assert "timed out" in problem


def test_no_python(loopback: Loopback, executor: Make, tmp_path: Path) -> None:
    """An interpreter that is not there is named, with the shell's text."""
    loopback.add("a")
    (problem,) = refusal(executor(python="/opt/none/bin/python"), tmp_path)

    assert "`/opt/none/bin/python` there ended with exit code 127" in problem
    assert "set python= to the path of an interpreter on the host" in problem


def test_no_folder(loopback: Loopback, executor: Make, tmp_path: Path) -> None:
    """A working directory that is not there is named."""
    loopback.add("a")
    (problem,) = refusal(executor(cwd="~/none/such folder"), tmp_path)

    assert "none/such folder" in problem
    assert "set cwd= to a folder that exists on the host" in problem


def test_no_rivers_worker(loopback: Loopback, executor: Make, tmp_path: Path) -> None:
    """An interpreter without rivers-worker is named, with the command that installs it."""
    loopback.add("a")
    bare = tmp_path / "bare"
    # Its base is the interpreter of these tests, and it sees no installed packages.
    os.system(f"{sys.executable} -m venv --without-pip {bare}")
    (problem,) = refusal(executor(python=str(bare / "bin" / "python")), tmp_path)

    assert f"and `{bare}/bin/python` there ended with exit code 1: " in problem
    assert "No module named 'rivers_worker' → install rivers-worker==" in problem


@pytest.mark.parametrize("protocol", [1, 2])
def test_other_version(loopback: Loopback, executor: Make, tmp_path: Path, protocol: int) -> None:
    """A host with another minor version of rivers-worker, or of its protocol, is refused, naming both."""
    loopback.add("a")
    version = "0.9.3" if protocol == 1 else "0.1.0"
    other = tmp_path / "python"
    greeting = {"greeting": "/opt/python", "protocol": protocol, "version": version, "cpus": 1}
    other.write_text(f"#!/bin/sh\necho '{json.dumps(greeting)}'\n")
    other.chmod(0o755)
    (problem,) = refusal(executor(python=str(other)), tmp_path)

    assert f"/opt/python there has rivers-worker {version}, expected 0.1.0 as here" in problem


def test_old_python(loopback: Loopback, executor: Make, tmp_path: Path) -> None:
    """An interpreter that is too old is named with its version."""
    loopback.add("a")
    old = tmp_path / "python"
    # The interpreter of these tests, which takes itself for an older one.
    old.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} -c "import sys; sys.version_info = (3, 10); $1"\n')
    old.chmod(0o755)
    (problem,) = refusal(executor(python=str(old)), tmp_path)

    assert f"Python {sys.version.split()[0]} at {sys.executable}: expected 3.11 or newer" in problem


def test_no_forwarding(loopback: Loopback, executor: Make, tmp_path: Path) -> None:
    """A host whose sshd forbids forwarding, without which no worker can be called, is refused."""
    loopback.add("a", options="AllowTcpForwarding no\n")
    (problem,) = refusal(executor(), tmp_path)

    assert "administratively prohibited: open failed → its sshd must allow TCP forwarding" in problem
    assert "AllowTcpForwarding" in problem


def test_noisy_login(loopback: Loopback, executor: Make, tmp_path: Path) -> None:
    """What a login prints before the shell starts is no part of the dialogue."""
    loopback.add("a", options="Banner /etc/hostname\n")
    home = tmp_path / "home"
    home.mkdir()
    noise = home / "noise"
    noise.write_text('#!/bin/sh\necho welcome; echo \'{"hello" is no greeting\'; exec sh -c "$SSH_ORIGINAL_COMMAND"\n')
    noise.chmod(0o755)
    host = loopback.hosts[0]
    host.config.write_text(f"{host.config.read_text()}ForceCommand {noise}\n")
    host.stop()
    host.start()
    repo = rs.CodeRepository(
        assets=[ssh_steps.where],
        default_executor=executor(),
        default_io_handler=rs.PickleIOHandler(tmp_path / "store", shared=True),
    )

    assert repo.materialize().success
