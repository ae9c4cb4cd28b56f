"""What a worker is started with: its environment, which whoever starts it sets."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rivers_worker.errors import CredentialsError

__all__ = ["INTERNAL", "Settings"]

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
)
"""The variables that are the worker's own; a body's environment is without them."""

TERMINATION_LOG = "/dev/termination-log"
"""Where Kubernetes reads a container's last words, unless it was told another path."""
MOST_SECONDS = 1e7


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One attempt's worker: whom it serves, where it listens, how long it waits (seconds), what bodies may import.

    `controller` is the controller's certificate, base64 of DER. `modules` are imported before the spec comes, `allowed`
    are prefixes of the modules that refs may name (none: any). `termination_log` is a path, or None for no last words.
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

    @classmethod
    def from_environment(cls, env: Mapping[str, str], modules: Sequence[str] = ()) -> Settings:
        """Read the variables; `modules` are further ones, from the command line.

        Raises:
            CredentialsError: whom to serve is not said, or a number is none; the text names the variable.
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
        )


def _needed(env: Mapping[str, str], name: str) -> str:
    if not env.get(name):
        raise CredentialsError(f"{name} is not set: a worker serves one attempt of one controller, who sets it")
    return env[name]


def _seconds(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= MOST_SECONDS:
        raise CredentialsError(f"{name}={text!r}: seconds above 0 are allowed")
    return value


def _words(env: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in env.get(name, "").split(",") if word.strip())
