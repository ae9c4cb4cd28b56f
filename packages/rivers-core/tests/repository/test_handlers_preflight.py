"""IO handlers that cannot work here are found by resolve()."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import rivers as rs
from rivers.exceptions import ConfigurationError, GraphValidationError


class Picky(rs.BaseIOHandler):
    def preflight(self) -> str | None:
        return "it needs the moon to be full"

    def handle_output(self, context: rs.OutputContext, obj: Any) -> None: ...

    def load_input(self, context: rs.InputContext) -> Any: ...


def test_a_handler_that_cannot_work_is_found() -> None:
    """A handler's preflight message is a problem of the repository, once, with the first asset that uses it."""
    handler = Picky()
    assets = [rs.Asset(lambda: 1, name=name, io_handler=handler) for name in ("first", "second")]

    with pytest.raises(GraphValidationError) as caught:
        rs.CodeRepository(assets).resolve()
    (problem,) = caught.value.problems
    assert "first" == problem.asset
    assert "its IO handler Picky cannot be used: it needs the moon to be full" == problem.message


def test_a_missing_package_is_found_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket without obstore is refused by resolve(), with the command that installs it."""
    monkeypatch.delitem(sys.modules, "rivers._io.files.object_store", raising=False)
    monkeypatch.setitem(sys.modules, "obstore", None)
    asset = rs.Asset(lambda: 1, name="orders", io_handler=rs.PickleIOHandler("s3://bucket/folder"))

    with pytest.raises(GraphValidationError, match=r"pip install 'rivers-core\[objectstore\]'"):
        rs.CodeRepository([asset]).resolve()


class TestDefaultHandler:
    @pytest.mark.parametrize("by_name", [True, False], ids=["by name", "itself"])
    def test_it_stores_what_has_none_of_its_own(self, tmp_path: Path, by_name: bool) -> None:
        """The repository's handler stores and loads the values of everything that names no other, tasks included."""
        store, own = rs.PickleIOHandler(tmp_path / "all"), rs.PickleIOHandler(tmp_path / "own")
        first = rs.Asset(lambda: 1, name="first")
        second = rs.Asset(lambda first: first + 1, name="second", io_handler=own)
        repository = rs.CodeRepository(
            [first, second],
            [rs.Task(lambda: 3, name="third")],
            resources={"store": store},
            default_io_handler="store" if by_name else store,
        )
        with repository:
            repository.materialize(["first", "second", "third"])

        stored = [rs.Asset.external(name=name, io_handler=store) for name in ("first", "third")]
        assert [1, 3] == [rs.CodeRepository(stored).load_node(asset.name) for asset in stored]
        assert (tmp_path / "own").is_dir()

    def test_a_name_that_is_none(self, tmp_path: Path) -> None:
        """A name that no handler has is refused at once, with the closest one."""
        with pytest.raises(ConfigurationError, match="did you mean 'store'"):
            rs.CodeRepository([], resources={"store": rs.PickleIOHandler(tmp_path)}, default_io_handler="stor")
