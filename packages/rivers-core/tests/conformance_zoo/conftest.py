"""Make the zoo importable for the session, and its executor installed for its own tests alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

import pytest

from rivers._executor.registry import installed

HERE = Path(__file__).parent
sys.path.append(str(HERE))


@pytest.fixture(scope="package", autouse=True)
def zoo_is_installed() -> Iterator[None]:
    """Put the metadata of the package `zoo` on the path; workers are forked from a server that ends with the tests."""
    site = str(HERE / "site")
    sys.path.append(site)
    installed.cache_clear()
    yield
    sys.path.remove(site)
    installed.cache_clear()
    forkserver._forkserver._stop()
    resource_tracker._resource_tracker._stop()
