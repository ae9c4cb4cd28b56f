"""Tests of the commands and of the texts for what fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from loopback import missing_program

from rivers_executor_ssh import SshHost
from rivers_executor_ssh.commands import SHELL, SshTarget, boot_line, describe_failure, shell_path


@pytest.mark.skipif(bool(missing_program()), reason=missing_program() or "ssh is there")
def test_options_are_known(tmp_path: Path) -> None:
    """ssh accepts the command, and the user's configuration cannot switch off what the connection needs."""
    config = tmp_path / "config"
    config.write_text(
        "Host *\n  BatchMode no\n  ControlPersist yes\n  RemoteCommand x\n  ForwardAgent yes\n  Compression yes\n"
    )
    target = SshTarget(SshHost("me@node:2222"), tmp_path / "control", str(config), 7.4)
    command = target.master()
    shown = subprocess.run([command[0], "-G", *command[1:]], capture_output=True, text=True, check=True).stdout
    options = dict(line.split(" ", 1) for line in shown.splitlines() if " " in line)

    expected = {"batchmode": "yes", "controlpersist": "no", "controlmaster": "true", "connecttimeout": "7"}
    expected |= {"user": "me", "hostname": "node", "port": "2222", "forwardagent": "no", "requesttty": "false"}
    assert expected == {name: options[name] for name in expected}
    assert "yes" == options["compression"]
    assert str(tmp_path / "control") == options["controlpath"]


def test_commands(tmp_path: Path) -> None:
    """The other commands use the connection by its control socket."""
    target = SshTarget(SshHost("node"), tmp_path / "c", None, 10)

    forward = ["ssh", "-S", f"{tmp_path}/c", "-O", "forward", "-L", "/s/1:127.0.0.1:77", "--", "node"]
    assert forward == target.forward(Path("/s/1"), 77)
    assert "cancel" in target.forward(Path("/s/1"), 77, cancel=True)
    assert ["--", "node", SHELL] == target.session()[-3:]
    assert "[::1]" == SshTarget(SshHost("[::1]"), tmp_path, None, 1).destination


@pytest.mark.parametrize("shell", ["sh", "bash", "zsh", "fish", "tcsh"])
def test_boot(tmp_path: Path, shell: str) -> None:
    """The login shell, whichever it is, starts the interpreter, whose stdin begins right behind the line."""
    folder = tmp_path / "a 'quoted' $folder"
    folder.mkdir()
    (folder / "json.py").write_text("raise ImportError('the wrong module')")
    python = tmp_path / "an interpreter"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$PWD" "$@"; cat\n')
    python.chmod(0o755)
    line = boot_line(str(python), str(folder), None, 7)
    try:
        ran = subprocess.run([shell, "-c", SHELL], check=False, input=line + b"rest", capture_output=True, timeout=20)
    except FileNotFoundError:
        pytest.skip(f"there is no {shell} on this machine")

    ready, there, option, program, rest = ran.stdout.decode().splitlines()
    assert ("rivers-ssh ready", str(folder), "-c", "rest") == (ready, there, option, rest)
    ended = subprocess.run([sys.executable, option, program], check=False, input=b"", capture_output=True, cwd=folder)
    assert b'{"greeting": ' in ended.stdout, ended.stderr


def test_paths() -> None:
    """A leading ~ is the home directory, and nothing else is special."""
    assert ['"$HOME"/x', "'a b'", "'~x'", "'$(x)'", '"$HOME"' + "''"] == [
        shell_path(path) for path in ("~/x", "a b", "~x", "$(x)", "~")
    ]


def test_texts(tmp_path: Path) -> None:
    """A failure names the command that a person would type, the exit code or the signal, and what ssh wrote."""
    command = SshTarget(SshHost("node:22"), tmp_path / "c", None, 10).plain

    assert "`ssh -p 22 node` ended with exit code 255: a | b" == describe_failure(command, 255, "a\r\n\n b\n")
    assert "`ssh -p 22 node` was ended by signal 9: it wrote nothing" == describe_failure(command, -9, "")
    assert "`ssh -p 22 node` has not answered in time: it wrote nothing" == describe_failure(command, None, "")
