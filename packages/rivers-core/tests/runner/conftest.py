"""Fixtures for the tests of runners: a bench, and processes that belong to a runner."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

TESTS = str(Path(__file__).parent.parent)
if TESTS not in sys.path:
    sys.path.append(TESTS)

from runner.bench import Bench  # noqa: E402 - found by the path above
from runner.fd_host import Host  # noqa: E402 - the same


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Yield a new bench; check that no thread is left after the test."""
    before = set(threading.enumerate())
    yield Bench()
    assert set() == set(threading.enumerate()) - before


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Host]:
    """Start a host that runs the named functions of `bodies`, one attempt after another."""

    def start(bodies: str, *names: str, **options: Any) -> Host:
        return Host(tmp_path, bodies, *names, **options)

    return start


@pytest.fixture
def run(start: Callable[..., Host]) -> Callable[..., Host]:
    """Run such a host to its end."""

    def run(bodies: str, *names: str, **options: Any) -> Host:
        with start(bodies, *names, **options) as host:
            return host.finish()

    return run
