"""Run the step's container of a pod as a process of this machine."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rivers_k8s_testing.node.guard import MARK, kill
from rivers_k8s_testing.node.statuses import ADDRESS, step_name

__all__ = ["ConfigError", "ContainerProcess", "build_environment", "find_step_container"]

Pod = Mapping[str, Any]
# The last bytes of a termination message, which the kubelet keeps
LONGEST_MESSAGE = 4096
# Seconds after which a process has passed its exec and carries its mark
SETTLE = 0.005
# Variables of this process that a container inherits, as if its image had set them
KEPT = re.compile(r"^(PATH|TZ|LANG|LC_\w+|LD_LIBRARY_PATH|PYTHON\w+|COVERAGE_\w+)$")


class ConfigError(Exception):
    """A container's environment refers to a missing object; the message is the kubelet's."""


def find_step_container(pod: Pod) -> Mapping[str, Any]:
    """Return the manifest's container that is started as a process."""
    name = step_name(pod)
    found: Mapping[str, Any] = next(one for one in pod["spec"]["containers"] if one["name"] == name)
    return found


def build_environment(pod: Pod, folder: Path, mark: str, extra: Mapping[str, str]) -> dict[str, str]:
    """Return the process's environment: inherited variables, the manifest's, and those that a local process needs.

    Raises:
        ConfigError: the manifest refers to a Secret or ConfigMap; FakeCluster has none.
    """
    container = find_step_container(pod)
    given = {name: value for name, value in os.environ.items() if KEPT.match(name)}
    given |= {"PYTHONPATH": os.pathsep.join(_import_path()), "PYTHONUNBUFFERED": "1", "HOME": str(folder)}
    given |= {"HOSTNAME": pod["metadata"]["name"], "TMPDIR": str(folder), **extra}
    for source in container.get("envFrom", ()):
        for kind, word in (("secretRef", "secret"), ("configMapRef", "configmap")):
            if kind in source and not source[kind].get("optional"):
                raise ConfigError(f'{word} "{source[kind]["name"]}" not found')
    for variable in container.get("env", ()):
        value = variable.get("value", "") if "valueFrom" not in variable else _value_from(pod, variable["valueFrom"])
        if value is not None:
            given[variable["name"]] = value
    # Port 0, as all pods share one address: the worker announces the port that it gets.
    forced = {"RIVERS_LISTEN": f"{ADDRESS}:0", "RIVERS_TERMINATION_LOG": str(folder / "termination-log")}
    if "RIVERS_SCRATCH" in given:
        # A worker empties these folders, and those of the manifest are this machine's own here.
        forced |= {"RIVERS_SCRATCH": _scratch_folder(folder), "TMPDIR": _scratch_folder(folder)}
    return {**given, **forced, MARK: mark}


def _scratch_folder(folder: Path) -> str:
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    return str(scratch)


def _import_path() -> list[str]:
    """Return the import path of this process without the interpreter's own folders."""
    own = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    own |= {str(Path(path, "lib-dynload")) for path in own} | {str(Path(path).with_suffix("")) for path in own}
    return [path for path in (os.path.abspath(path or ".") for path in sys.path) if path not in own]


def _value_from(pod: Pod, source: Mapping[str, Any]) -> str | None:
    if "fieldRef" in source:
        return _field(pod, source["fieldRef"]["fieldPath"])
    for kind, word in (("secretKeyRef", "secret"), ("configMapKeyRef", "configmap")):
        if kind in source and not source[kind].get("optional"):
            raise ConfigError(f'{word} "{source[kind]["name"]}" not found')
    return None


def _field(pod: Pod, path: str) -> str:
    addresses = {"status.podIP": ADDRESS, "status.podIPs": ADDRESS, "status.hostIP": ADDRESS}
    if path in addresses:
        return addresses[path]
    if found := re.match(r"^metadata\.(labels|annotations)\['(.+)'\]$", path):
        return str((pod["metadata"].get(found[1]) or {}).get(found[2], ""))
    value: Any = pod
    for step in path.split("."):
        value = value.get(step, "") if isinstance(value, Mapping) else ""
    return str(value)


class ContainerProcess:
    """A process with its descendants, which carry a mark in their environment and are killed together."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], folder: Path) -> None:
        self.log = folder / "log"
        self._folder = folder
        self._mark = env[MARK]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 – what the test has chosen to run
                command,
                env=dict(env),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The id of the first process."""
        return self._process.pid

    @property
    def runs(self) -> bool:
        """True until the first process is known to have ended."""
        return self._process.returncode is None

    async def wait(self) -> int:
        """Wait for the end of the first process, then kill the others.

        Returns:
            The exit code as the kubelet reports it: 128 plus the number of a fatal signal.
        """
        loop = asyncio.get_running_loop()
        exited: asyncio.Future[None] = loop.create_future()
        # A pidfd becomes readable at the end of the process; a child watcher would need the main thread.
        descriptor = os.pidfd_open(self.pid)
        try:
            loop.add_reader(descriptor, lambda: None if exited.done() else exited.set_result(None))
            await exited
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
        code = self._process.wait()
        # Twice: a descendant may be within its exec at the first time.
        kill(self._mark)
        await asyncio.sleep(SETTLE)
        kill(self._mark)
        return code if code >= 0 else 128 - code

    def signal(self, number: int) -> None:
        """Send a signal to the first process; SIGKILL, SIGSTOP and SIGCONT go to all of them."""
        if self.runs:
            # By its id: a process that is within its exec has no mark for a moment.
            self._process.send_signal(number)
        if number in {signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT}:
            kill(self._mark, number)

    def reap(self) -> None:
        """Kill the processes without waiting in the loop."""
        self.signal(signal.SIGKILL)
        self._process.wait()

    def message(self, container: Mapping[str, Any], exit_code: int) -> str:
        """Return the termination message, or the end of the log if the policy asks for that after a failure."""
        written = self._folder / "termination-log"
        text = written.read_bytes()[-LONGEST_MESSAGE:] if written.exists() else b""
        if not text and exit_code and container.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            text = b"".join(self.log.read_bytes()[-2048:].splitlines(keepends=True)[-80:])
        return text.decode(errors="replace")
