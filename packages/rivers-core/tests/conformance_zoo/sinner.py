"""The register of wrong backends, each with the law that has to catch it."""

from __future__ import annotations

from collections.abc import Callable

from zoo_backend import ZooBackend

SINNERS: dict[str, type[ZooBackend]] = {}
CAUGHT_BY: dict[str, str] = {}
ONLY: list[str] = []
"""The sins that one law alone catches."""


def sinner(sin: str, caught_by: str, *, only: bool = False) -> Callable[[type[ZooBackend]], type[ZooBackend]]:
    """Register a wrong backend under its sin, with the law that catches it, and whether no other law does."""

    def register(backend: type[ZooBackend]) -> type[ZooBackend]:
        assert sin not in SINNERS, sin
        SINNERS[sin] = backend
        CAUGHT_BY[sin] = caught_by
        if only:
            ONLY.append(sin)
        return backend

    return register
