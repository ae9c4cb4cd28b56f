"""The user's choice: frozen values, which workers can make, too, as they import the same modules."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any

from rivers.exceptions import ConfigurationError
from rivers.spi import Executor, Reach

__all__ = ["SshExecutor", "SshHost"]

# No word may begin with a dash: ssh would take it for an option.
_ADDRESS = re.compile(
    r"(?:(?P<user>[\w.\\][\w.\\@+$-]*)@)?(?:\[(?P<v6>[0-9A-Fa-f:.%\w]+)\]|(?P<name>\w[\w.-]*))(?::(?P<port>\d{1,5}))?"
)
_VARIABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_SYNCS = (None, "git", "rsync")
_REUSE = ("never", "run")
_SECONDS = ("connect_timeout", "startup_timeout", "orphan_ttl", "grace", "idle_ttl")
_MOST_SECONDS = 1e6


@dataclass(frozen=True)
class SshHost:
    """A host: an `address`, and what differs from the executor's own settings.

    `address` is a name of ssh's configuration or `[user@]host[:port]`; an IPv6 address stands in brackets. `slots` is
    the number of workers at once. `python` and `cwd` are as in `SshExecutor`.

    Raises:
        ConfigurationError: an argument is invalid; names it, its value and what is expected.
    """

    address: str
    slots: int | None = None
    python: str | None = None
    cwd: str | None = None

    def __post_init__(self) -> None:
        match = _ADDRESS.fullmatch(self.address) if isinstance(self.address, str) else None
        if match is None or int(match["port"] or 22) not in range(1, 65536):
            raise _invalid("address", self.address, "[user@]host[:port], without white space")
        _check_count("slots", self.slots, optional=True)
        _check_path("python", self.python)
        _check_path("cwd", self.cwd)

    @property
    def destination(self) -> tuple[str, str | None]:
        """The destination and the port for ssh; without a port its configuration decides."""
        match = _ADDRESS.fullmatch(self.address)
        assert match is not None
        host = match["v6"] or match["name"]
        return (f"{match['user']}@{host}" if match["user"] else host), match["port"]


@dataclass(frozen=True, repr=False)
class SshExecutor(Executor):
    """Run steps on hosts that are reached by ssh, on workers that stay for the run.

    Args:
        hosts: Addresses, or an `SshHost` where a host needs settings of its own.
        python: The interpreter on the hosts, with rivers-worker and the user's modules installed. None is that of the
            synced project's environment, if there is one, else `python3`.
        cwd: The workers' working directory on the hosts, from which modules are imported, too. None is the synced
            project, or the home directory.
        max_workers_per_host: The number of workers at once on a host; None is the number of its CPUs.
        worker_reuse: "run" lets the steps of a run share workers, each in a new process; "never" starts a worker for
            every attempt.
        sync: "git" copies the files that git tracks, with their uncommitted changes, "rsync" all that no .gitignore
            excludes; both make the project's environment if the host has uv. None copies nothing.
        project: The folder that `sync` copies; None is the current one.
        config: A configuration file for ssh, in place of ~/.ssh/config.
        env: Environment variables of the bodies. No secrets: this value's repr shows them.
        connect_timeout: Seconds until a host must answer.
        startup_timeout: Seconds until a worker must answer.
        orphan_ttl: Seconds after which nothing of a run is left on a host that has lost its controller.
        grace: Seconds that a cancelled body has to end by itself.
        idle_ttl: Seconds after which a worker without steps is ended.
        max_steps_per_worker: The number of attempts after which a worker is replaced.
        allow_pickle: Send functions without module scope as cloudpickles.
        inline_values: Let small values of assets without an IO handler travel in specs and results.

    Raises:
        ConfigurationError: an argument is invalid; names it, its value and what is expected.
    """

    kind = "ssh"
    requirement = "rivers-core[ssh]"
    reach = Reach.ANYWHERE

    hosts: Sequence[str | SshHost] = ()
    _: KW_ONLY
    python: str | None = None
    cwd: str | None = None
    max_workers_per_host: int | None = None
    # A worker takes about a second to start, and each step has a process of its own in it.
    worker_reuse: str = "run"
    sync: str | None = None
    project: str | None = None
    config: str | None = None
    env: Mapping[str, str] | Sequence[tuple[str, str]] = ()
    connect_timeout: float = 10
    startup_timeout: float = 60
    orphan_ttl: float = 120
    grace: float = 10
    idle_ttl: float = 60
    max_steps_per_worker: int = 100
    allow_pickle: bool = False
    inline_values: bool = False

    def __post_init__(self) -> None:
        for name, value in _checked({field.name: getattr(self, field.name) for field in fields(self)}).items():
            object.__setattr__(self, name, value)

    @property
    def all_hosts(self) -> tuple[SshHost, ...]:
        """Return the hosts with the settings of this executor where they have none of their own."""
        hosts = [host if isinstance(host, SshHost) else SshHost(host) for host in self.hosts]
        return tuple(
            SshHost(
                host.address,
                host.slots or self.max_workers_per_host,
                host.python or self.python,
                host.cwd or self.cwd,
            )
            for host in hosts
        )


def _checked(given: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments in the form in which they can be compared and hashed."""
    given["hosts"] = _hosts(given["hosts"])
    for name in ("python", "cwd", "project", "config"):
        given[name] = os.fspath(given[name]) if isinstance(given[name], os.PathLike) else given[name]
        _check_path(name, given[name])
    for name in _SECONDS:
        given[name] = _seconds(name, given[name])
    for name in ("allow_pickle", "inline_values"):
        if type(given[name]) is not bool:
            raise _invalid(name, given[name], "True or False")
    for name, allowed in (("worker_reuse", _REUSE), ("sync", _SYNCS)):
        if given[name] not in allowed:
            raise _invalid(name, given[name], f"one of {', '.join(map(repr, allowed))}")
    _check_count("max_workers_per_host", given["max_workers_per_host"], optional=True)
    _check_count("max_steps_per_worker", given["max_steps_per_worker"], most=100_000)
    given["env"] = _environment(given["env"])
    return given


def _hosts(given: object) -> tuple[str | SshHost, ...]:
    if not isinstance(given, Iterable) or isinstance(given, str | Mapping):
        raise _invalid("hosts", given, "a list of addresses and SshHosts")
    found = tuple(given)
    for host in found:
        if not isinstance(host, SshHost):
            SshHost(host)
    addresses = [host.address if isinstance(host, SshHost) else host for host in found]
    twice = next((address for address in addresses if addresses.count(address) > 1), None)
    if twice is not None:
        raise _invalid(
            "hosts", list(found), f"each host once, and {twice!r} stands twice; write SshHost({twice!r}, slots=…)"
        )
    return found


def _environment(given: object) -> tuple[tuple[str, str], ...]:
    try:
        env = dict(given)  # type: ignore[call-overload]  # whatever it is, dict says whether it has pairs
    except (TypeError, ValueError):
        raise _invalid("env", given, "a dict of text") from None
    for name, value in env.items():
        if not isinstance(name, str) or not _VARIABLE.fullmatch(name) or name.startswith("RIVERS_"):
            raise _invalid("env", name, "names of variables that do not begin with RIVERS_")
        if not isinstance(value, str) or "\0" in value:
            raise _invalid(f"env[{name!r}]", value, "a str without NUL")
    return tuple(env.items())


def _check_count(name: str, value: object, *, most: int = 10_000, optional: bool = False) -> None:
    if (value is None and optional) or (type(value) is int and 1 <= value <= most):
        return
    raise _invalid(name, value, f"a whole number from 1 to {most}{' or None' if optional else ''}")


def _check_path(name: str, value: object) -> None:
    if value is not None and (not isinstance(value, str) or not value.strip() or not value.isprintable()):
        raise _invalid(name, value, "a path, or None")


def _seconds(name: str, value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _MOST_SECONDS:
        return value
    raise _invalid(name, value, f"seconds above 0 and up to {_MOST_SECONDS:g}")


def _invalid(name: str, value: object, expected: str) -> ConfigurationError:
    return ConfigurationError(f"invalid {name}={value!r}: expected {expected}")
