"""The executor of `far.py`, as if its package were installed."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from rivers._executor import registry

sys.path.insert(0, str(Path(__file__).parent))

from far import FarBackend


@pytest.fixture(autouse=True)
def far(monkeypatch: pytest.MonkeyPatch) -> type[FarBackend]:
    """Return the backend's class, which counts the bytes of specs and events."""
    packages = {**registry.installed(), "far": EntryPoint("far", "far:FarBackend", registry.GROUP)}
    monkeypatch.setattr(registry, "installed", lambda: packages)
    monkeypatch.setattr(FarBackend, "seen", [])
    return FarBackend
