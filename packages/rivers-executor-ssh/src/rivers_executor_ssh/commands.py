"""Commands for ssh, and the text that a host's shell reads: pure functions."""

from __future__ import annotations

import shlex
from importlib import metadata
from pathlib import Path

from rivers_executor_ssh.executor import SshHost

__all__ = ["READY", "SHELL", "SshError", "SshTarget", "boot_line", "describe_failure", "shell_path"]

READY = b"rivers-ssh ready\n"
# Everything else comes by stdin, where no other user's `ps` sees it, and no login shell (fish, csh) parses it. `read`
# takes no byte beyond its line, so what the line starts finds the rest.
SHELL = "exec sh -c 'echo rivers-ssh ready; IFS= read -r line && eval \"$line\"'"
ALIVE_EVERY = 5
ALIVE_COUNT = 3

_HINTS = {
    "Host key verification failed": "accept its key once with `{ssh}`, or add it to known_hosts; rivers never does",
    "Permission denied": "nobody can type a password here: set up a key or an agent so that `{ssh} true` asks nothing",
    "Could not resolve hostname": "check the address, and the Host entries of ssh's configuration",
    "No module named": f"install rivers-worker=={metadata.version('rivers-worker')} there, or set python= accordingly",
    "administratively prohibited": "its sshd must allow TCP forwarding to its loopback: AllowTcpForwarding, PermitOpen",
    "not found": "set python= to the path of an interpreter on the host",
    "can't cd to": "set cwd= to a folder that exists on the host",
}


class SshError(Exception):
    """A host that cannot be used now; the text names it, the command, and what ssh wrote."""


class SshTarget:
    """The commands for one host, with the control socket `control` of its connection."""

    def __init__(self, host: SshHost, control: Path, config: str | None, connect_timeout: float) -> None:
        self._destination, port = host.destination
        self._plain = ["ssh", *(["-F", config] if config else []), *(["-p", port] if port else [])]
        self.control = control
        self._timeout = max(1, round(connect_timeout))

    @property
    def plain(self) -> str:
        """The command with which a person would connect."""
        return shlex.join([*self._plain, self._destination])

    @property
    def destination(self) -> str:
        """The host with the user, as for rsync."""
        return f"[{self._destination}]" if ":" in self._destination else self._destination

    def master(self) -> list[str]:
        """Return the command that connects, shares the connection by the control socket, and runs the shell."""
        options = {
            # A password, a passphrase or a question would wait for an answer for ever.
            "BatchMode": "yes",
            "ConnectTimeout": self._timeout,
            "ServerAliveInterval": ALIVE_EVERY,
            "ServerAliveCountMax": ALIVE_COUNT,
            # With the user's own, another program's exit could end this connection, or the other way round.
            "ControlMaster": "yes",
            "ControlPersist": "no",
            "StreamLocalBindUnlink": "yes",
            "ClearAllForwardings": "yes",
            "PermitLocalCommand": "no",
            "RemoteCommand": "none",
            "RequestTTY": "no",
        }
        return [*self._base(options), "-a", "-x", "--", self._destination, SHELL]

    def session(self, remote: str | None = SHELL) -> list[str]:
        """Return the command of a further session on the connection; without `remote`, its beginning, for rsync."""
        base = self._base({"BatchMode": "yes", "ControlMaster": "no", "RemoteCommand": "none", "RequestTTY": "no"})
        return base if remote is None else [*base, "--", self._destination, remote]

    def forward(self, socket: Path, port: int, *, cancel: bool = False) -> list[str]:
        """Return the command that forwards a local socket to a port of the host's loopback, or ends that."""
        return [
            *self._base({}), "-O", "cancel" if cancel else "forward", "-L", f"{socket}:127.0.0.1:{port}",
            "--", self._destination,
        ]  # fmt: skip

    def probe(self) -> list[str]:
        """Return the command that asks for a port of the host at which nobody listens."""
        return [*self._base({}), "-W", "127.0.0.1:1", "--", self._destination]

    def _base(self, options: dict[str, object]) -> list[str]:
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return [*self._plain, "-S", str(self.control), *words]


def boot_line(python: str, cwd: str | None, folder: str | None, orphan_ttl: float) -> bytes:
    """Return the shell's line that starts the agent, or the session that finds the one in `folder` again."""
    old = 'sys.exit(f"Python {sys.version.split()[0]} at {sys.executable}: expected 3.11 or newer")'
    # Modules of the working directory must not hide those of the standard library.
    program = f'import sys; sys.path.remove(""); sys.version_info >= (3, 11) or {old}; '
    program += f"from rivers_worker.agent import main; main({folder!r}, {orphan_ttl!r})"
    change = f"cd {shell_path(cwd)} && " if cwd else ""
    return f"{change}exec {shell_path(python)} -c {shlex.quote(program)}\n".encode()


def shell_path(path: str) -> str:
    """Return a path quoted for the shell; `~` is the home directory."""
    if path == "~" or path.startswith("~/"):
        return f'"$HOME"{shlex.quote(path[1:])}'
    return shlex.quote(path)


def describe_failure(command: str, code: int | None, stderr: str, doing: str = "") -> str:
    """Return the text for a command that has failed, with a hint where ssh's text has a common cause."""
    text = " | ".join(line.strip() for line in stderr.strip().splitlines() if line.strip())[-1000:]
    ended = "has not answered in time" if code is None else f"ended with exit code {code}"
    if code is not None and code < 0:
        ended = f"was ended by signal {-code}"
    hint = next((hint for known, hint in _HINTS.items() if known in text), None)
    advice = f" → {hint.format(ssh=command)}" if hint else ""
    return f"`{command}`{doing} {ended}: {text or 'it wrote nothing'}{advice}"
