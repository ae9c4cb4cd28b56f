"""Resources as definitions: pydantic-settings with names in the repository (contract.md §3)."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, Field, ValidationError
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


RESERVED = ("path", "user", "home", "port", "lang", "shell", "name", "tz")


class Connection(rs.Resource):
    user: str = "etl"
    path: str = "warehouse.db"
    home: str = "here"
    port: int = 5432
    timeout: int = 10


class Folder(rs.BaseIOHandler):
    path: str = "values"
    region: str = "eu"

    def handle_output(self, context: rs.OutputContext, obj: Any) -> None:
        """Store nothing."""

    def load_input(self, context: rs.InputContext) -> Any:
        """Load nothing."""


class Prefixed(rs.Resource):
    model_config = SettingsConfigDict(env_prefix="SHOP_")

    path: str = "shop.db"


class Aliased(rs.Resource):
    home: str = Field(default="here", validation_alias="HOME")
    path: str = "shop.db"


class Required(rs.Resource):
    user: str


class TestReservedVariables:
    """A field of the name of a variable that exists for other reasons is not read from it."""

    @pytest.fixture(autouse=True)
    def environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in (*RESERVED, "region", "timeout", "shop_path"):
            monkeypatch.setenv(name.upper(), "99")

    def test_defaults_stay(self) -> None:
        """Reserved fields keep their defaults; other fields are read as ever."""
        assert Connection(timeout=99) == Connection()
        assert ("values", "99") == (Folder().path, Folder().region)

    def test_arguments(self) -> None:
        """Arguments win."""
        assert ("me", 1) == (Connection(user="me").user, Connection(port=1).port)

    def test_prefix_and_alias(self) -> None:
        """With a prefix, given by the class or the call, or an alias, the variable is meant."""
        assert "99" == Prefixed().path
        assert ("99", "shop.db") == (Aliased().home, Aliased().path)
        assert "99" == Connection(_env_prefix="SHOP_").path  # type: ignore[call-arg]

    def test_nested_delimiter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Parts of a nested field are read from variables of their own."""

        class Nested(rs.Resource):
            model_config = SettingsConfigDict(env_nested_delimiter="__")

            host: Plain = Plain()

        monkeypatch.setenv("HOST", '{"size": 3}')
        monkeypatch.setenv("HOST__SIZE", "7")

        assert 7 == Nested().host.size

    def test_required(self) -> None:
        """A required field says how to have it read, before pydantic misses it."""
        with (
            pytest.warns(UserWarning, match=r"Required\.user is not read from \$USER.*env_prefix='REQUIRED_'"),
            pytest.raises(ValidationError, match="Field required"),
        ):
            Required()  # type: ignore[call-arg]
        assert "me" == Required(user="me").user

    @pytest.mark.parametrize("name", RESERVED)
    def test_every_one(self, name: str) -> None:
        """Any of them, in any spelling, keeps its default."""
        for spelled in (name, name.title(), name.upper()):
            model = type("M", (rs.Resource,), {"__annotations__": {spelled: str}, spelled: "own"})

            assert "own" == getattr(model(), spelled)


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
        """A mistyped resource is reported with the closest name, among assets and resources."""

        def mistyped(warehose: Any) -> Any:
            return warehose

        with pytest.raises(GraphValidationError) as caught:
            rs.CodeRepository([rs.Asset(mistyped)], resources={"warehouse": Warehouse()}).resolve()

        assert "warehouse" == caught.value.problems[0].closest
