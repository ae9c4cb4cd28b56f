"""A module that ends the process which imports it, if the environment asks for it."""

from __future__ import annotations

import os

import rivers as rs

if "RIVERS_TEST_EXITS" in os.environ:
    os._exit(3)


@rs.Asset(io_handler="store")
def beyond() -> int:
    return 1
