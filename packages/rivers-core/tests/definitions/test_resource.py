"""Resources as definitions: pydantic-settings with names in the repository (contract.md §3)."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError
from pydantic_settings import SettingsConfigDict

import rivers as rs
from rivers.exceptions import ConfigurationError, GraphValidationError


class Plain(BaseModel):
    size: int = 1


class Warehouse(rs.Resource):
    model_config = SettingsConfigDict(env_prefix="WAREHOUSE_")

    url: str = "local"
    size: int = 1


def reads(warehouse: Warehouse) -> tuple[str, int]:
    return warehouse.url, warehouse.size


class TestFields:
    def test_arguments_and_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Fields come from arguments, else from the environment, else from their defaults."""
        monkeypatch.setenv("WAREHOUSE_SIZE", "7")
        repository = rs.CodeRepository([rs.Asset(reads)], resources={"warehouse": Warehouse(url="there")})
        repository.materialize()

        assert ("there", 7) == repository.load_node("reads")

    def test_wrong_value(self) -> None:
        """A wrong field is pydantic's own error, where the resource is made."""
        with pytest.raises(ValidationError, match="size"):
            Warehouse(size="many")  # type: ignore[arg-type]


class TestNames:
    @pytest.mark.parametrize(
        "resources",
        [{"a": 3}, {"a": Warehouse}, {"": Warehouse()}, {1: Warehouse()}, [Warehouse()], {"a": Plain()}],
        ids=["number", "class", "empty", "key", "list", "model"],
    )
    def test_wrong(self, resources: Any) -> None:
        """`resources` is a dict of Resource and IO handler instances by name."""
        with pytest.raises(ConfigurationError, match="resources"):
            rs.CodeRepository([rs.Asset(reads)], resources=resources)

    def test_ambiguous(self) -> None:
        """A parameter that could be an asset or a resource is refused: which of them is loaded would be chance."""

        @rs.Asset
        def warehouse() -> int:
            return 1

        @rs.Task
        def task(x: Any) -> Any:
            return x

        def graph(warehouse: Any) -> Any:
            return task(warehouse)

        assets = [warehouse, rs.Asset(reads), rs.Asset.from_graph(graph)]
        with pytest.raises(GraphValidationError) as caught:
            rs.CodeRepository(assets, resources={"warehouse": Warehouse()}).resolve()

        assert ["reads", "graph"] == [problem.asset for problem in caught.value.problems]
        assert all("the asset or the resource" in problem.message for problem in caught.value.problems)

    def test_not_ambiguous(self) -> None:
        """The same name for both is no mistake as long as no parameter asks for it."""

        @rs.Asset
        def warehouse() -> int:
            return 1

        rs.CodeRepository([warehouse], resources={"warehouse": Warehouse()}).materialize()

    def test_closest(self) -> None:
        """A mistyped resource is told with the closest name, among assets and resources."""

        def mistyped(warehose: Any) -> Any:
            return warehose

        with pytest.raises(GraphValidationError) as caught:
            rs.CodeRepository([rs.Asset(mistyped)], resources={"warehouse": Warehouse()}).resolve()

        assert "warehouse" == caught.value.problems[0].closest
