"""Copy the project to the hosts, and make its environment there, once for each content.

~/.cache/rivers/ssh/KEY/lock    held while the folder is made; its time is that of the last use
                        ready   once tree is complete
                        tree    the project, and .venv if the host has uv
"""

from __future__ import annotations

import asyncio
import hashlib
import shlex
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from rivers_executor_ssh.commands import READY, SHELL, SshError, SshTarget
from rivers_executor_ssh.connection import SshConnection, run_command
from rivers_executor_ssh.executor import SshExecutor
from rivers_executor_ssh.link import Prepare

__all__ = ["SYNC_WITHIN", "project_sync"]

SYNC_WITHIN = 900.0
"""Seconds for a copy and its environment; a later run with the same content finds both."""
KEPT_DAYS = 14
RSYNC = ["rsync", "-a", "-s", "--exclude=.git", "--exclude=.venv", "--exclude=__pycache__", "--filter=:- .gitignore"]
# No identity of the user's is needed for a commit that nothing refers to.
GIT = ["git", "-c", "user.name=rivers", "-c", "user.email=rivers@localhost"]

_FOLDER = (
    'set -eu; umask 077; root="${XDG_CACHE_HOME:-$HOME/.cache}/rivers/ssh"; d="$root"/%s; mkdir -p "$d"; cd "$d"; '
)
_STATUS = _FOLDER + 'mkdir -p tree; touch lock; echo "$d/tree"; if [ -e ready ]; then echo ready; fi'
_MAKE = (
    _FOLDER + 'exec 9>lock; flock -w 600 9 || { echo "another run has held $d/lock for 600 s" >&2; exit 75; }; '
    'find "$root" -mindepth 2 -maxdepth 2 -name lock -mtime +%d -exec sh -c \'rm -rf "${1%%/lock}"\' sh {} \\; ; '
    "if [ ! -e ready ]; then %s; %s; : >ready; fi"
)
_UNPACK = "rm -rf tree; mkdir tree; tar -xf - -C tree"
_ENVIRONMENT = (
    'PATH="$PATH:$HOME/.local/bin:$HOME/.cargo/bin"; '
    "if [ -f tree/pyproject.toml ] && command -v uv >/dev/null; then cd tree; "
    "uv sync --quiet $(if [ -f uv.lock ]; then echo --frozen; fi) >&2; cd ..; fi"
)
_PYTHON = _FOLDER + 'if [ -x tree/.venv/bin/python ]; then echo "$d/tree/.venv/bin/python"; fi'


async def project_sync(executor: SshExecutor, folder: Path) -> Prepare:
    """Return the function that copies the project to a host; `folder` is for temporary files.

    Raises:
        SshError: there is nothing that can be copied.
    """
    if executor.sync is None:
        return _leave
    project = Path(executor.project or ".")
    if executor.sync == "git":
        commit = await _text([*GIT, "stash", "create"], project) or "HEAD"
        key = await _text([*GIT, "rev-parse", "--verify", f"{commit}:./"], project)
        return _GitCopy(executor, key, project, commit, folder)
    listing = await _text([*RSYNC, "--list-only", "./"], project)
    # rsync, too, takes files of the same size and time for the same. A folder's time also changes with its caches.
    files = sorted(line for line in listing.splitlines() if not line.startswith("d"))
    key = hashlib.sha256("\n".join(files).encode()).hexdigest()[:40]
    return _RsyncCopy(executor, key, project)


async def _leave(connection: SshConnection, target: SshTarget) -> tuple[str | None, str | None]:
    return None, None


class ProjectCopy(ABC):
    """The copy of a project with this content key, called for each host."""

    receive = ":"

    def __init__(self, executor: SshExecutor, key: str, project: Path) -> None:
        # With an interpreter of the user's own, uv has nothing to do.
        makes_environment = executor.python is None
        self._key = shlex.quote(key if makes_environment else f"{key}-plain")
        environment = _ENVIRONMENT if makes_environment else ":"
        self._make = _MAKE % (self._key, KEPT_DAYS, self.receive, environment)
        self.project = project

    async def __call__(self, connection: SshConnection, target: SshTarget) -> tuple[str | None, str | None]:
        """Copy it unless the host has it; return the interpreter, if there is an environment, and the folder."""
        found = await _session(target, _STATUS % self._key)
        if not found:
            raise SshError(f"`{target.plain}`: its shell does not answer `{_STATUS % self._key}`")
        folder, *is_ready = found
        if not is_ready:
            await self.send(target, folder, self._make)
        python = await _session(target, _PYTHON % self._key)
        return (python[0] if python else None), folder

    @abstractmethod
    async def send(self, target: SshTarget, folder: str, make: str) -> None:
        """Copy it to `folder`, and run the line `make`."""


class _GitCopy(ProjectCopy):
    """The files that git tracks, as they are in the working tree."""

    receive = _UNPACK

    def __init__(self, executor: SshExecutor, key: str, project: Path, commit: str, folder: Path) -> None:
        super().__init__(executor, key, project)
        self._commit = commit
        self._folder = folder

    async def send(self, target: SshTarget, folder: str, make: str) -> None:
        """Unpack an archive there, which follows the line on stdin."""
        with tempfile.TemporaryFile(dir=self._folder) as file:
            file.write(f"{make}\n".encode())
            file.flush()
            await run_command([*GIT, "archive", self._commit], cwd=self.project, within=SYNC_WITHIN, stdout=file)
            file.seek(0)
            await run_command(target.session(), within=SYNC_WITHIN, stdin=file, target=target)


class _RsyncCopy(ProjectCopy):
    """All files that no .gitignore excludes."""

    async def send(self, target: SshTarget, folder: str, make: str) -> None:
        """Copy the files, then run the line."""
        destination = f"{target.destination}:{folder}/"
        command = [*RSYNC, "-e", shlex.join(target.session(None)), "./", destination]
        await run_command(command, cwd=self.project, within=SYNC_WITHIN, target=target)
        await _session(target, make)


async def _session(target: SshTarget, line: str) -> list[str]:
    """Run a line of the host's shell in a session of its own, and return the lines that it prints."""
    output = await run_command(target.session(SHELL), within=SYNC_WITHIN, data=f"{line}\n".encode(), target=target)
    # A login may print something before.
    return output.rpartition(READY)[2].decode(errors="replace").splitlines()


async def _text(command: Sequence[str], project: Path) -> str:
    """Return the output of a command in the project's folder."""
    if not await asyncio.to_thread(project.is_dir):
        raise SshError(f"invalid project={str(project)!r}: expected a folder of this machine")
    return (await run_command(command, cwd=project, within=SYNC_WITHIN)).decode(errors="replace").strip()
