"""A module that the controller can import and a worker cannot (faults.md D4)."""

from __future__ import annotations

import os

import rivers as rs

if os.getpid() != int(os.environ["RIVERS_TEST_CONTROLLER"]):
    import a_package_that_is_missing  # noqa: F401


@rs.Asset(io_handler="store")
def unreachable() -> int:
    return 1
