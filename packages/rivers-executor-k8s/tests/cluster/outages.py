"""Breaks parts of a cluster on this machine, and repairs them: its components, packets, processes in its pods.

RIVERS_CLUSTER_TOOLS names a folder with a program `component NAME stop|kill|freeze|thaw|start`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from namespaces import Namespace

from rivers_executor_k8s.pod.names import PORT

__all__ = ["NEEDS_TOOLS", "TOOLS", "Outages", "connections_to", "server_of", "sleep_until"]

TOOLS = os.environ.get("RIVERS_CLUSTER_TOOLS")
NEEDS_TOOLS = pytest.mark.skipif(TOOLS is None, reason="RIVERS_CLUSTER_TOOLS is not set: no part can be broken")
START = 180.0
"""Seconds that a part gets to start; one that others wait for takes them longer than its own outage was."""
REPAIR = 90.0
"""Seconds in which a part that is started again has to work."""


class Outages:
    """What is broken, until `repair`. A method breaks one thing, at once."""

    def __init__(self) -> None:
        self._rules: list[tuple[str, ...]] = []
        self._broken: dict[str, str] = {}
        self._stopped: list[int] = []

    def break_part(self, name: str, how: str = "stop") -> None:
        """`how` is `stop`, `kill` or `freeze`."""
        self._broken[name] = how
        _component(name, how)

    def repair_part(self, name: str) -> None:
        """Have it work again; it may take some seconds until it does."""
        _component(name, "thaw" if self._broken.pop(name) == "freeze" else "start")

    @contextlib.contextmanager
    def without(self, name: str, seconds: float, how: str = "stop") -> Iterator[None]:
        """What is within happens while the part is away, which it is for so many seconds."""
        begun = time.monotonic()
        self.break_part(name, how)
        yield
        sleep_until(begun + seconds)
        self.repair_part(name)

    def drop(self, *match: str) -> None:
        """Packets that iptables matches so, in or out, vanish."""
        for chain in ("INPUT", "OUTPUT"):
            rule = (chain, *match, "-j", "DROP")
            self._rules.append(rule)
            _iptables("-I", rule)

    def cut_off(self, address: str) -> None:
        """Nothing gets to or from the worker at this address of a pod; its other connections work."""
        port = str(PORT)
        for end in (("-d", address, "--dport", port), ("-s", address, "--sport", port)):
            self.drop("-p", "tcp", *end)

    def let_pass(self) -> None:
        """No packet is lost any more."""
        while self._rules:
            _iptables("-D", self._rules.pop())

    def signal(self, pid: int, number: signal.Signals) -> None:
        """Send a signal to a process of a pod, from outside its container."""
        os.kill(pid, number)
        if number == signal.SIGSTOP:
            self._stopped.append(pid)

    def repair(self) -> None:
        """Everything works again."""
        self.let_pass()
        for pid in self._stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        for name in list(self._broken):
            self.repair_part(name)

    @staticmethod
    def until_healthy(namespace: Namespace) -> None:
        """Wait until the API server answers and the node takes pods."""
        until = time.monotonic() + REPAIR
        while True:
            with contextlib.suppress(Exception):
                nodes = namespace.ask("GET", "/api/v1/nodes")["items"]
                if all(_is_ready(node) and not node["spec"].get("taints") for node in nodes):
                    return
            assert time.monotonic() < until, f"the cluster does not work again within {REPAIR:g} s"
            time.sleep(0.5)


def sleep_until(moment: float) -> None:
    """Sleep until a moment of the monotonic clock; not at all where it is over."""
    time.sleep(max(0.0, moment - time.monotonic()))


def connections_to(port: int) -> list[int]:
    """Our own ports of this process's connections to that port."""
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            links.append(os.readlink(descriptor))
    ours = {link.removeprefix("socket:[").removesuffix("]") for link in links if link.startswith("socket:")}
    fields = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    established = [f for f in fields if f[3] == "01" and f[9] in ours and int(f[2].split(":")[1], 16) == port]
    return [int(f[1].split(":")[1], 16) for f in established]


def _component(name: str, action: str) -> None:
    subprocess.run([f"{TOOLS}/component", name, action], check=True, timeout=START, capture_output=True)


def _iptables(action: str, rule: tuple[str, ...]) -> None:
    subprocess.run(["iptables", "-w", action, *rule], check=True, timeout=30, capture_output=True)


def _is_ready(node: dict[str, object]) -> bool:
    status: dict[str, list[dict[str, str]]] = node["status"]  # type: ignore[assignment]
    return any(c["type"] == "Ready" and c["status"] == "True" for c in status["conditions"])


def server_of(namespace: Namespace, pod: str) -> int:
    """The pid on this machine of the first process of a pod's container, which is the worker's server."""
    status = namespace.ask("GET", f"{namespace.path}/pods/{pod}")["status"]["containerStatuses"][0]
    container = status["containerID"].rpartition("/")[2]
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if process.name.isdigit() and container in (process / "cgroup").read_text():
                numbers = next(x for x in (process / "status").read_text().splitlines() if x.startswith("NSpid:"))
                if numbers.split()[-1] == "1":
                    return int(process.name)
    raise AssertionError(f"no process of {pod} was found")
