"""Bodies that outlive their controller, and wait for what the test says meanwhile."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import rivers as rs

LINES = 5
PATIENCE = 120.0


def note(text: str) -> None:
    """Append a line to the test's notes; one write, so that it is whole."""
    with open(os.environ["RIVERS_TEST_NOTES"], "a") as file:
        file.write(f"{text}\n")


def wait_for(name: str) -> None:
    """Wait until the test has opened this gate."""
    gate = Path(os.environ["RIVERS_TEST_GATES"]) / name
    until = time.monotonic() + PATIENCE
    while not gate.exists():
        if time.monotonic() > until:
            raise TimeoutError(f"nobody has opened {gate}")
        time.sleep(0.02)


@rs.Asset
def first() -> int:
    note("first")
    return 1


@rs.Asset(timeout=float(os.environ.get("RIVERS_TEST_TIMEOUT", "300")))
def gated(context: rs.AssetExecutionContext, first: int) -> int:
    note(f"gated {context.attempt}")
    for i in range(LINES):
        print(f"before {i}", flush=True)
    wait_for("gated")
    if (Path(os.environ["RIVERS_TEST_GATES"]) / "fails").exists():
        raise ValueError("no good")
    for i in range(LINES):
        print(f"after {i}", flush=True)
    context.add_output_metadata({"lines": 2 * LINES})
    return first + 1


@rs.Asset
def last(gated: int) -> int:
    note("last")
    return gated + 1


ASSETS: list[Any] = [first, gated, last]
