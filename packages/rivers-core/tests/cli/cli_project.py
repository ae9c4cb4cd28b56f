"""A project to run, and the command line as a program."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

SHOP = """
import rivers as rs


@rs.Asset(group="source", tags=["daily"])
def orders() -> list[int]:
    print("printed by orders")
    return [3, 4]


@rs.Asset(group="reports", tags=["daily", "slow"])
def total(orders: list[int]) -> int:
    return sum(orders)


@rs.Asset
def broken(orders: list[int]) -> int:
    return orders["first"]


@rs.Asset
def after(broken: int) -> int:
    return broken


repo = rs.CodeRepository(
    [orders, total, broken, after], jobs=[rs.Job("good", [orders, total], tags={"kind": "nightly"})]
)
"""


class Ended(NamedTuple):
    code: int
    out: str
    err: str


Cli = Callable[..., Ended]


def program(*arguments: str) -> list[str]:
    """Return the command of the program `rivers`, as its entry point starts it."""
    return [sys.executable, "-c", "from rivers_cli.main import main; main()", *arguments]


def run_program(*arguments: str, folder: Path, **variables: str) -> Ended:
    """Run the program to its end."""
    environment = {**os.environ, **variables}
    ended = subprocess.run(
        program(*arguments), cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=50
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def write(path: Path, text: str) -> Path:
    """Write a file of source code."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path
