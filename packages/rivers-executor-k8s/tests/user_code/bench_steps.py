"""What the cluster's figures are measured with: steps that do nothing and store nothing, and the same as a function."""

from __future__ import annotations

import time
from typing import Any

import rivers as rs


class Nowhere(rs.BaseIOHandler):
    """Keeps no value, so that no store is measured."""

    def handle_output(self, context: rs.OutputContext, obj: Any) -> None: ...

    def load_input(self, context: rs.InputContext) -> Any:
        return None


def nothing() -> None:
    """The body; also what a bare pod calls."""


@rs.Asset
def no_op() -> None: ...


def no_ops(count: int, chained: bool = False) -> list[rs.Asset]:
    """Assets that do nothing, beside each other or each after the one before."""
    deps = [[rs.AssetDef.dep(f"n{i - 1}")] if chained and i else [] for i in range(count)]
    return [rs.Asset(nothing, name=f"n{i}", deps=deps[i]) for i in range(count)]


def nap() -> None:
    time.sleep(1.0)


def naps(count: int) -> list[rs.Asset]:
    """Assets that take a second each."""
    return [rs.Asset(nap, name=f"n{i}") for i in range(count)]
