"""Multi-assets: several values made by one step (contract.md §3)."""

from __future__ import annotations

from typing import Any

import pytest

import rivers as rs
from rivers.exceptions import AssetDefinitionError, ConfigurationError, GraphValidationError, InvalidMetadataError


def values_of(*names: str, **settings: Any) -> dict[str, Any]:
    return {"output_defs": [rs.AssetDef(name) for name in names], **settings}


def base() -> int:
    return 5


BASE = rs.Asset(base)


class TestBodies:
    def test_dict_tuple_yield(self) -> None:
        """A body may return a dict by name, a tuple in order or yield Outputs, sync and async."""

        @rs.Asset.from_multi(**values_of("a", "b"))
        def as_dict(base: int) -> dict[str, int]:
            return {"b": base + 1, "a": base}

        @rs.Asset.from_multi(**values_of("c", "d"))
        def as_tuple(a: int, b: int) -> tuple[int, int]:
            return a, b

        @rs.Asset.from_multi(**values_of("e", "f"))
        def as_outputs(c: int) -> Any:
            yield rs.Output(c + 2, output_name="f", metadata={"rows": 1}, data_version="v")
            yield rs.Output(c, output_name="e")

        @rs.Asset.from_multi(**values_of("g", "h"))
        async def waiting(f: int) -> Any:
            yield rs.Output(f, output_name="g")
            yield rs.Output(f + 1, output_name="h")

        repository = rs.CodeRepository([waiting, as_outputs, as_tuple, as_dict, BASE])
        result = repository.materialize()

        assert [5, 6, 5, 6, 5, 7, 7, 8] == [repository.load_node(name) for name in "abcdefgh"]
        assert {"base", *"abcdefgh"} == set(result.materialized_assets)
        assert ["as_dict", "as_outputs", "as_tuple", "base", "waiting"] == sorted(result.steps)


class TestDefinition:
    @pytest.mark.parametrize(
        "output_defs",
        [[], (), ["a", "b"], [rs.AssetDef("a"), "b"], rs.AssetDef("a"), "ab", None, {"a": rs.AssetDef("a")}],
        ids=repr,
    )
    def test_no_outputs(self, output_defs: Any) -> None:
        """`output_defs` is a list of at least one AssetDef."""
        with pytest.raises(AssetDefinitionError, match=r"output_defs=.*AssetDef"):
            rs.Asset.from_multi(base, output_defs=output_defs)

    def test_names(self) -> None:
        """Two outputs of one name, and an output with the multi-asset's own name, are refused."""
        with pytest.raises(AssetDefinitionError, match=r"\['a'\] more than once"):
            rs.Asset.from_multi(base, **values_of("a", "b", "a"))
        with pytest.raises(AssetDefinitionError, match="own name"):
            rs.Asset.from_multi(base, **values_of("base", "b"))
        with pytest.raises(AssetDefinitionError, match="output name"):
            rs.AssetDef("a/../b")

    @pytest.mark.parametrize(
        ("setting", "value", "error"),
        [
            ("tags", "one", AssetDefinitionError),
            ("kinds", 3, AssetDefinitionError),
            ("group", 3, AssetDefinitionError),
            ("code_version", 3, AssetDefinitionError),
            ("io_handler", 3, AssetDefinitionError),
            ("metadata", {"a": 1}, InvalidMetadataError),
            ("type_hint", "int", AssetDefinitionError),
        ],
    )
    def test_output_settings(self, setting: str, value: Any, error: type[Exception]) -> None:
        """An output's wrong setting is refused where it is written, naming the output."""
        with pytest.raises(error, match="output 'a'"):
            rs.AssetDef("a", **{setting: value})

    @pytest.mark.parametrize("deps", ["base", [3], 3])
    def test_output_deps(self, deps: Any) -> None:
        """An output's deps are checked like an asset's."""
        with pytest.raises(AssetDefinitionError, match=r"output 'a'.*deps"):
            rs.Asset.from_multi(base, output_defs=[rs.AssetDef("a", deps=deps)])

    def test_placement_of_an_output(self) -> None:
        """An output has no executor of its own: the key would have no effect, and is refused."""
        with pytest.raises(AssetDefinitionError, match="one step"):
            rs.Asset.from_multi(base, output_defs=[rs.AssetDef("a", metadata={"rivers/executor": "parallel"})])


class TestUpstreams:
    def test_deps_of_outputs(self) -> None:
        """Upstreams named by an output are upstreams of the step: order without a value, and values by a handler."""

        class Other(rs.InMemoryIOHandler):
            def load_input(self, context: rs.InputContext) -> Any:
                return 50

        @rs.Asset.from_multi(
            output_defs=[
                rs.AssetDef("a", deps=[rs.AssetDef.input("base", io_handler=Other())]),
                rs.AssetDef("b", deps=["first", rs.AssetDef.dep("base")]),
            ]
        )
        def both(base: int) -> tuple[int, int]:
            return base, base + 1

        first = rs.Asset(lambda: 1, name="first")
        repository = rs.CodeRepository([both, first, BASE])
        plan = repository.plan()
        repository.materialize()

        assert {"base", "first"} == {plan.steps[i].key for step in plan.steps if step.key == "both" for i in step.deps}
        assert [50, 51] == [repository.load_node(name) for name in "ab"]

    def test_own_handlers_and_metadata(self) -> None:
        """Each output has its own handler, else the multi-asset's; who loads an output is reported its metadata."""
        seen: dict[str, Any] = {}

        class Noting(rs.InMemoryIOHandler):
            def load_input(self, context: rs.InputContext) -> Any:
                seen[context.asset_name] = context.asset_metadata
                return super().load_input(context)

        own, common = Noting(), Noting()

        @rs.Asset.from_multi(
            output_defs=[rs.AssetDef("a", io_handler=own, metadata={"of": "a"}), rs.AssetDef("b")],
            io_handler=common,
            metadata={"of": "both"},
        )
        def both() -> tuple[int, int]:
            return 1, 2

        def reader(a: int, b: int) -> int:
            return a + b

        repository = rs.CodeRepository([both, rs.Asset(reader)])
        repository.materialize()

        assert own is repository.io_handler_for_output("a")
        assert common is repository.io_handler_for_output("b")
        assert {"a": {"of": "a"}, "b": None} == seen

    def test_by_its_own_name(self) -> None:
        """A multi-asset's own name is good for the order and for selections; as a value it is refused."""
        order: list[str] = []

        @rs.Asset.from_multi(**values_of("a", "b"))
        def both() -> tuple[int, int]:
            order.append("both")
            return 1, 2

        def after() -> None:
            order.append("after")

        def reader(both: Any) -> Any:
            return both

        repository = rs.CodeRepository([rs.Asset(after, deps=[both]), both])
        repository.materialize()

        assert ["both", "after"] == order
        assert ["both"] == [step.key for step in repository.plan(both).steps]
        assert ["both"] == [step.key for step in repository.plan("b").steps]
        with pytest.raises(GraphValidationError, match="no value of its own") as caught:
            rs.CodeRepository([both, rs.Asset(reader)]).resolve()
        assert ("a", "b") == caught.value.problems[0].allowed

    def test_needs_itself(self) -> None:
        """A multi-asset that takes one of its own outputs needs itself."""

        @rs.Asset.from_multi(**values_of("a", "b"))
        def both(a: int) -> tuple[int, int]:
            return a, a

        with pytest.raises(GraphValidationError, match="needs itself, by its parameter 'a'"):
            rs.CodeRepository([both]).resolve()

    def test_config_goes_to_the_step(self) -> None:
        """Config is given under the multi-asset's own name; under an output's it is refused."""

        @rs.Asset.from_multi(**values_of("a", "b"))
        def both(context: rs.AssetExecutionContext) -> tuple[int, int]:
            return context.config["x"], 0

        repository = rs.CodeRepository([both])
        repository.materialize(config={"both": {"x": 3}})

        assert 3 == repository.load_node("a")
        with pytest.raises(ConfigurationError):
            repository.materialize(config={"a": {"x": 3}})
