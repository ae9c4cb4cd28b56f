"""IO handlers that cannot work here are found by resolve()."""

from __future__ import annotations

import sys
from typing import Any

import pytest

import rivers as rs
from rivers.exceptions import GraphValidationError


class Picky(rs.BaseIOHandler):
    def preflight(self) -> str | None:
        return "it needs the moon to be full"

    def handle_output(self, context: rs.OutputContext, obj: Any) -> None: ...

    def load_input(self, context: rs.InputContext) -> Any: ...


def test_a_handler_that_cannot_work_is_found() -> None:
    """What a handler's preflight says is a problem of the repository, told once, with the first asset that uses it."""
    handler = Picky()
    assets = [rs.Asset(lambda: 1, name=name, io_handler=handler) for name in ("first", "second")]

    with pytest.raises(GraphValidationError) as caught:
        rs.CodeRepository(assets).resolve()
    (problem,) = caught.value.problems
    assert "first" == problem.asset
    assert "its IO handler Picky cannot be used: it needs the moon to be full" == problem.message


def test_a_missing_package_is_found_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket without obstore is refused by resolve(), with the command that installs it."""
    monkeypatch.delitem(sys.modules, "rivers._io.object_store", raising=False)
    monkeypatch.setitem(sys.modules, "obstore", None)
    asset = rs.Asset(lambda: 1, name="orders", io_handler=rs.PickleIOHandler("s3://bucket/folder"))

    with pytest.raises(GraphValidationError, match=r"pip install 'rivers-core\[objectstore\]'"):
        rs.CodeRepository([asset]).resolve()
