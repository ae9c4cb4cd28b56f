"""A real sshd on loopback ports, run by the current user: each port is a host of its own, with keys of its own."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from rivers_process.processes import child_processes, command_line, find_marked_processes

__all__ = ["Loopback", "LoopbackHost", "missing_program", "wait_for"]

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
VARIABLE = "RIVERS_TEST_HOST"


def missing_program() -> str:
    """Return the reason why no sshd can run here, or an empty text."""
    missing = [name for name in ("ssh", "ssh-keygen") if shutil.which(name) is None]
    return f"needs OpenSSH: there is no {', '.join(missing or ['sshd'])}" if missing or SSHD is None else ""


def wait_for(condition: Callable[[], object], patience: float = 10.0) -> bool:
    """Return whether the condition holds within the patience."""
    until = time.monotonic() + patience
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


class LoopbackHost:
    """An sshd on a port: `address` is what an executor is given; all that it starts carries a mark."""

    def __init__(self, folder: Path, name: str, authorized: Path, *, options: str = "") -> None:
        self.folder, self.name = folder, name
        folder.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.port = server.getsockname()[1]
        self.address = name
        self.mark = f"{VARIABLE}={folder}"
        self.key = folder / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True)
        (folder / "temporary").mkdir()
        self.config = folder / "sshd_config"
        environment = f"{self.mark} TMPDIR={folder / 'temporary'} PYTHONDONTWRITEBYTECODE=1"
        self.config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.key}\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {authorized}\nStrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\n"
            f"PermitUserRC no\nSetEnv {environment}\nSubsystem sftp internal-sftp\n{options}"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start sshd, and wait until it answers."""
        assert SSHD is not None
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [SSHD, "-D", "-e", "-f", self.config], stdin=subprocess.DEVNULL, stderr=log
            )
        assert wait_for(self._answers), (self.folder / "log").read_text()

    def stop(self, *, connections: bool = True) -> None:
        """Stop sshd, with its connections or without them, as a restart of the service does."""
        if self._process is None:
            return
        children = child_processes(self._process.pid)
        self._process.kill()
        self._process.wait()
        self._process = None
        if connections:
            self.kill(children)

    def cut(self) -> None:
        """Kill the processes of sshd that hold connections."""
        assert self._process is not None
        self.kill(child_processes(self._process.pid))

    @staticmethod
    def kill(processes: list[object]) -> None:
        # sshd's monitor has an unprivileged child, where it runs as root.
        for process in processes:
            for each in [*child_processes(process.pid), process]:  # type: ignore[attr-defined]
                with contextlib.suppress(ProcessLookupError):
                    if "sshd" in command_line(each.pid):
                        os.kill(each.pid, signal.SIGKILL)

    def processes(self) -> dict[int, str]:
        """Return the processes that were started through this sshd, sessions among them."""
        found = {pid: command_line(pid) for pid in find_marked_processes(self.mark)}
        return {pid: line for pid, line in found.items() if line}

    def kill_all(self) -> None:
        """Kill all that was started on it, as a loss of power does."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.folder / "temporary")
        (self.folder / "temporary").mkdir()

    def left(self) -> list[str]:
        """Return what is left on the host: processes, and temporary files."""
        return [*map(str, self.processes().items()), *os.listdir(self.folder / "temporary")]

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as connection:
            return connection.recv(4) == b"SSH-"
        return False


class Loopback:
    """Hosts of this machine, and the configuration with which ssh knows them by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hosts: list[LoopbackHost] = []
        self.config = folder / "ssh_config"
        self.known_hosts = folder / "known_hosts"
        self._key = folder / "id"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self._key], check=True)
        if os.geteuid() == 0:
            # sshd of root separates its privileges, and needs this empty folder.
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)

    def add(self, name: str, *, is_known: bool = True, starts: bool = True, options: str = "") -> LoopbackHost:
        """Add a host, and start it."""
        host = LoopbackHost(self.folder / name, name, self._key.with_suffix(".pub"), options=options)
        self.hosts.append(host)
        if is_known:
            kind, text = host.key.with_suffix(".pub").read_text().split()[:2]
            with open(self.known_hosts, "a") as known:
                known.write(f"[127.0.0.1]:{host.port} {kind} {text}\n")
        with open(self.config, "a") as config:
            config.write(
                f"Host {name}\n  HostName 127.0.0.1\n  Port {host.port}\n  User {getpass.getuser()}\n"
                f"  IdentityFile {self._key}\n  IdentitiesOnly yes\n  IdentityAgent none\n"
                f"  UserKnownHostsFile {self.known_hosts}\n  GlobalKnownHostsFile none\n"
            )
        if starts:
            host.start()
        return host

    def close(self) -> None:
        """Stop all hosts, and kill what is left there."""
        for host in self.hosts:
            host.stop()
            host.kill_all()
