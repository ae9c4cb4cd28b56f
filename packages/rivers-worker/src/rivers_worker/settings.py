"""Read a worker's settings from its environment."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rivers_worker.errors import CredentialsError

__all__ = ["INTERNAL", "ServeSettings"]

INTERNAL = (
    "RIVERS_RUN_ID",
    "RIVERS_ATTEMPT_ID",
    "RIVERS_CONTROLLER_CERTIFICATE",
    "RIVERS_LISTEN",
    "RIVERS_WORKER",
    "RIVERS_ORPHAN_TTL",
    "RIVERS_GRACE",
    "RIVERS_MODULES",
    "RIVERS_ALLOWED_MODULES",
    "RIVERS_ALLOW_PICKLE",
    "RIVERS_HEARTBEAT",
    "RIVERS_TERMINATION_LOG",
    "RIVERS_MAX_ATTEMPTS",
    "RIVERS_MAX_AGE",
    "RIVERS_IDLE_TTL",
    "RIVERS_SCRATCH",
)
"""Variables of the worker itself, which are removed from a body's environment."""

TERMINATION_LOG = "/dev/termination-log"
"""Kubernetes' default path for a container's termination message."""
MAX_SECONDS = 1e7
MAX_ATTEMPTS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """The settings of a worker; times are in seconds.

    `controller` is the controller's certificate, base64 of DER. `modules` are imported before the spec comes. `allowed`
    are the modules whose definitions a spec may name, each with the modules below it (none: any). `termination_log` is
    a path, or None to write no outcome.

    `max_attempts` is the number of attempts of a session, or None for a worker that serves `attempt_id` alone. A
    session takes no attempt after `max_age` and ends `idle_ttl` after its last one. `scratch` folders are emptied after
    each.
    """

    run_id: str
    attempt_id: str
    controller: str
    listen: str
    worker: str
    orphan_ttl: float
    grace: float
    heartbeat: float
    modules: tuple[str, ...]
    allowed: tuple[str, ...]
    allow_pickle: bool
    termination_log: str | None
    max_attempts: int | None = None
    max_age: float = math.inf
    idle_ttl: float = math.inf
    scratch: tuple[Path, ...] = ()

    @classmethod
    def from_environment(cls, env: Mapping[str, str], modules: Sequence[str] = ()) -> ServeSettings:
        """Read the environment; `modules` are further ones, from the command line.

        Raises:
            CredentialsError: a required variable is missing, or a number is invalid; the text names the variable.
        """
        log = env.get("RIVERS_TERMINATION_LOG")
        if log is None and os.access(TERMINATION_LOG, os.W_OK):
            log = TERMINATION_LOG
        return cls(
            run_id=_needed(env, "RIVERS_RUN_ID"),
            attempt_id=_needed(env, "RIVERS_ATTEMPT_ID"),
            controller=_needed(env, "RIVERS_CONTROLLER_CERTIFICATE"),
            listen=env.get("RIVERS_LISTEN") or "127.0.0.1:0",
            worker=env.get("RIVERS_WORKER") or socket.gethostname(),
            orphan_ttl=_seconds(env, "RIVERS_ORPHAN_TTL", 120.0),
            grace=_seconds(env, "RIVERS_GRACE", 30.0),
            heartbeat=_seconds(env, "RIVERS_HEARTBEAT", 5.0),
            modules=(*_words(env, "RIVERS_MODULES"), *modules),
            allowed=_words(env, "RIVERS_ALLOWED_MODULES"),
            allow_pickle=env.get("RIVERS_ALLOW_PICKLE") == "1",
            termination_log=log or None,
            max_attempts=_count(env, "RIVERS_MAX_ATTEMPTS"),
            max_age=_seconds(env, "RIVERS_MAX_AGE", math.inf),
            idle_ttl=_seconds(env, "RIVERS_IDLE_TTL", math.inf),
            scratch=_folders(env, "RIVERS_SCRATCH"),
        )


def _needed(env: Mapping[str, str], name: str) -> str:
    if not env.get(name):
        raise CredentialsError(f"{name} is not set: expected the controller that starts the worker to set it")
    return env[name]


def _seconds(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= MAX_SECONDS:
        raise CredentialsError(f"invalid {name}={text!r}: expected seconds above 0")
    return value


def _count(env: Mapping[str, str], name: str) -> int | None:
    text = env.get(name)
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 6 and 1 <= int(text) <= MAX_ATTEMPTS):
        raise CredentialsError(f"invalid {name}={text!r}: expected a whole number from 1 to {MAX_ATTEMPTS}")
    return int(text)


def _folders(env: Mapping[str, str], name: str) -> tuple[Path, ...]:
    folders = tuple(Path(os.path.normpath(text)) for text in env.get(name, "").split(os.pathsep) if text)
    for folder in folders:
        # All of a folder's content is deleted.
        if not folder.is_absolute() or folder == folder.parent:
            raise CredentialsError(f"invalid {name}={str(folder)!r}: expected absolute paths of folders, and not /")
    return folders


def _words(env: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in env.get(name, "").split(",") if word.strip())
