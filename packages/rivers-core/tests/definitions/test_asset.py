"""Single assets and external ones: settings, names, upstreams (contract.md §3)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rivers as rs
from rivers.exceptions import (
    AssetDefinitionError,
    ConfigurationError,
    GraphValidationError,
    InvalidMetadataError,
)


def plain() -> int:
    return 1


class TestDecorator:
    def test_bare(self) -> None:
        """`@rs.Asset` names the asset by its function and keeps nothing else."""

        @rs.Asset
        def bare() -> int:
            """Doc."""
            return 1

        assert ("bare", (), (), None, None, None, None, (), None, None, None) == (
            bare.name, bare.tags, bare.kinds, bare.group, bare.code_version, bare.io_handler, bare.metadata,
            bare.deps, bare.retry, bare.compute, bare.timeout,
        )  # fmt: skip
        assert "<Asset 'bare'>" == repr(bare)

    def test_settings(self) -> None:
        """`@rs.Asset(...)` keeps every setting, and the context tells the body of them."""
        handler = rs.InMemoryIOHandler()

        @rs.Asset(
            name="named",
            tags=["t"],
            kinds="table",
            group="g",
            code_version="v1",
            io_handler=handler,
            metadata={"owner": "me"},
            deps=["other"],
            retry=rs.RetryPolicy(max_retries=2),
            compute=rs.Compute(cpu="1"),
            timeout=5,
        )
        def function(context: rs.AssetExecutionContext) -> Any:
            return (
                context.asset_name, context.tags, context.kinds, context.group, context.code_version,
                context.asset_metadata, context.attempt, context.config,
            )  # fmt: skip

        repository = rs.CodeRepository([function, rs.Asset(plain, name="other")])
        repository.materialize()

        expected: Any = ("named", ["t"], ["table"], "g", "v1", {"owner": "me"}, 1, {})
        assert expected == repository.load_node("named")
        assert handler is repository.io_handler_for_output("named")
        assert (2, "1", 5.0) == (function.retry.max_retries, function.compute.cpu, function.timeout)

    def test_many(self) -> None:
        """One decorator makes many assets, each with its settings and its own name."""
        etl = rs.Asset(tags=["etl"], metadata={"rivers/executor": "in_process"})

        @etl
        def first() -> int:
            return 1

        @etl
        def second(first: int) -> int:
            return first + 1

        repository = rs.CodeRepository([first, second])
        repository.materialize()

        assert [("first", ("etl",)), ("second", ("etl",))] == [(one.name, one.tags) for one in (first, second)]
        assert 2 == repository.load_node("second")

    @pytest.mark.parametrize("given_", ["name", 3, None])
    def test_not_a_function(self, given_: Any) -> None:
        """A name or a number where the function stands is refused, with what to write."""
        if given_ is None:
            with pytest.raises(AssetDefinitionError, match="expected a function"):
                rs.Asset(name="x")(3)
            return
        with pytest.raises(AssetDefinitionError, match="name="):
            rs.Asset(given_)

    def test_twice(self) -> None:
        """An asset or a task cannot become an asset once more."""
        for once in (rs.Asset(plain), rs.Task(plain)):
            with pytest.raises(AssetDefinitionError, match="decorate it once"):
                rs.Asset(once)

    def test_decorator_in_a_repository(self) -> None:
        """A decorator that decorated nothing is a mistake that `resolve` tells."""
        with pytest.raises(GraphValidationError, match="decorated nothing") as caught:
            rs.CodeRepository([rs.Asset(name="x")]).resolve()
        assert __file__ in str(caught.value)
        with pytest.raises(GraphValidationError, match="neither a name nor a function"):
            rs.CodeRepository([rs.Asset()]).resolve()

    @pytest.mark.parametrize(
        ("setting", "value"),
        [
            ("tags", "one"),
            ("tags", {"a": "b"}),
            ("tags", [1]),
            ("tags", 3),
            ("kinds", [1]),
            ("kinds", {"a": "b"}),
            ("group", 3),
            ("code_version", 1.5),
            ("io_handler", 3),
            ("io_handler", rs.InMemoryIOHandler),
            ("metadata", [("a", "b")]),
            ("metadata", {"a": 1}),
            ("metadata", {1: "a"}),
            ("metadata", {"rivers/executors": "parallel"}),
            ("deps", "other"),
            ("deps", [3]),
            ("deps", 3),
            ("deps", [rs.Asset()]),
            ("retry", 3),
            ("compute", "500m"),
            ("timeout", 0),
            ("timeout", -1),
            ("timeout", True),
            ("timeout", float("nan")),
            ("timeout", float("inf")),
            ("timeout", "5"),
        ],
        ids=repr,
    )
    def test_wrong_setting(self, setting: str, value: Any) -> None:
        """A wrong value is refused where it is written, naming the asset, the setting and the value."""
        error = InvalidMetadataError if setting == "metadata" else AssetDefinitionError
        if isinstance(value, dict) and "rivers/executors" in value:
            error = AssetDefinitionError

        with pytest.raises(error, match=rf"'plain'.*{setting}"):
            rs.Asset(plain, **{setting: value})


class TestNames:
    @pytest.mark.parametrize(
        "name",
        [
            "",
            " a",
            "a ",
            "a/",
            "/a",
            "a//b",
            "..",
            "../a",
            "a/../b",
            ".",
            "a[b]",
            "a*",
            "a,b",
            "a\nb",
            "a\x00b",
            "x" * 181,
            3,
        ],
        ids=repr,
    )
    def test_refused(self, name: Any) -> None:
        """A name that could not be a storage key, a file name and a selection as it is, is refused, with the rule."""
        with pytest.raises(AssetDefinitionError, match="a name is 1 to 180 bytes"):
            rs.Asset(plain, name=name)

    @given(st.text(max_size=300))
    @settings(max_examples=100, deadline=None)
    def test_any(self, name: str) -> None:
        """A name is refused where it is written, or works to the end: plan, run, load, another asset's upstream."""
        try:
            asset = rs.Asset(plain, name=name)
        except AssetDefinitionError:
            return
        after = rs.Asset(lambda: 2, name=f"{name[:50].strip()}x"[-50:] + "'s child", deps=[name])
        repository = rs.CodeRepository([asset, after])

        result = repository.materialize()

        assert [name, after.name] == result.materialized_assets
        assert 1 == repository.load_node(name)

    @given(st.lists(st.text(st.sampled_from("abAB/.-_ é"), min_size=1, max_size=6), unique=True, max_size=12))
    @settings(max_examples=100, deadline=None)
    def test_apart(self, names: list[str]) -> None:
        """Different names are different assets, however alike they are: none overwrites another's value."""
        assets = []
        for name in names:
            try:
                assets.append(rs.Asset(lambda value=name: value, name=name))
            except AssetDefinitionError:
                continue
        repository = rs.CodeRepository(assets)
        repository.materialize()

        for asset in assets:
            assert asset.name == repository.load_node(asset.name)

    def test_slash(self) -> None:
        """A name with slashes is not confused with a task of a graph asset of the same name: that is refused."""

        @rs.Task
        def load() -> int:
            return 1

        def g() -> Any:
            load()
            return load()

        repository = rs.CodeRepository([rs.Asset.from_graph(g), rs.Asset(plain, name="g/load")])

        with pytest.raises(GraphValidationError, match="'g/load' has the name of a step of"):
            repository.resolve()


class TestDeps:
    def test_all_forms(self) -> None:
        """`deps` takes `AssetDef.dep`, `AssetDef.input`, assets and names; a dep comes first and is not loaded."""
        order: list[str] = []

        def noting(name: str, value: int) -> rs.Asset:
            def body() -> int:
                order.append(name)
                return value

            return rs.Asset(body, name=name)

        a, b, c, d = (noting(name, index) for index, name in enumerate("abcd"))

        def last(d: int) -> int:
            order.append("last")
            return d

        end = rs.Asset(last, deps=[rs.AssetDef.dep("a"), b, "c", rs.AssetDef.input("d")])
        repository = rs.CodeRepository([end, d, c, b, a])
        repository.materialize()

        assert "last" == order[-1]
        assert {"a", "b", "c", "d", "last"} == set(order)
        assert 3 == repository.load_node("last")

    def test_input_handler(self) -> None:
        """`AssetDef.input(name, io_handler=…, metadata=…)` says how this asset, and no other, loads that upstream."""
        seen: list[Any] = []

        class Doubled(rs.InMemoryIOHandler):
            def load_input(self, context: rs.InputContext) -> Any:
                seen.append((context.asset_name, context.asset_metadata))
                return 20

        def reader(plain: int) -> int:
            return plain

        special = rs.Asset(
            reader, name="special", deps=[rs.AssetDef.input("plain", io_handler="other", metadata={"as": "table"})]
        )
        repository = rs.CodeRepository([rs.Asset(plain), special, rs.Asset(reader)], resources={"other": Doubled()})
        repository.materialize()

        assert [20, 1] == [repository.load_node(name) for name in ("special", "reader")]
        assert [("plain", {"as": "table"})] == seen

    def test_wrong(self) -> None:
        """Deps that are no assets, inputs without a parameter and an asset that comes after itself are all reported."""

        def reader(plain: int = 0) -> int:
            return plain

        assets = [
            rs.Asset(plain),
            rs.Asset(reader, name="a", deps=["plein"]),
            rs.Asset(reader, name="b", deps=[rs.AssetDef.input("plan")]),
            rs.Asset(reader, name="c", deps=["c"]),
            rs.Asset(reader, name="d", deps=[rs.AssetDef.input("plain", io_handler="nothing")]),
        ]
        with pytest.raises(GraphValidationError) as caught:
            rs.CodeRepository(assets).resolve()

        problems = {problem.asset: problem for problem in caught.value.problems}
        assert ["a", "b", "c", "d"] == list(problems)
        assert "plain" == problems["a"].closest
        assert "plain" == problems["b"].closest
        assert "after itself" in problems["c"].message
        assert "'nothing'" in problems["d"].message

    def test_input_of_nothing(self) -> None:
        """An explicit input that is no asset is reported, though its parameter has a default."""

        def reader(gone: int = 0) -> int:
            return gone

        with pytest.raises(GraphValidationError, match=r"AssetDef\.input\('gone'\) is no asset"):
            rs.CodeRepository([rs.Asset(reader, deps=[rs.AssetDef.input("gone")])]).resolve()


class TestHandlers:
    def test_by_name(self) -> None:
        """`io_handler="name"` is the repository's resource of that name, and the body may take it as well."""
        store = rs.InMemoryIOHandler()

        def body(store: rs.InMemoryIOHandler) -> bool:
            return isinstance(store, rs.InMemoryIOHandler)

        repository = rs.CodeRepository([rs.Asset(body, io_handler="store")], resources={"store": store})
        repository.materialize()

        assert store is repository.io_handler_for_output("body")
        assert True is repository.load_node("body")

    def test_wrong_name(self) -> None:
        """An unknown name, and one of a resource that is no IO handler, are reported with the names that are."""

        class Settings(rs.Resource):
            pass

        assets = [rs.Asset(plain, name="a", io_handler="stor"), rs.Asset(plain, name="b", io_handler="settings")]
        resources: dict[str, Any] = {"store": rs.InMemoryIOHandler(), "settings": Settings()}
        with pytest.raises(GraphValidationError) as caught:
            rs.CodeRepository(assets, resources=resources).resolve()

        first, second = caught.value.problems
        assert ("a", "store", ("store",)) == (first.asset, first.closest, first.allowed)
        assert ("b", ("store",)) == (second.asset, second.allowed)
        assert "is no IO handler" in second.message


class TestExternal:
    def test_loaded(self) -> None:
        """An external asset is no step; whoever needs it loads it with its handler; its function is never called."""

        class Elsewhere(rs.InMemoryIOHandler):
            def load_input(self, context: rs.InputContext) -> Any:
                return {"key": context.asset_name, "path": context.asset_metadata}

        @rs.Asset.external(io_handler="elsewhere", metadata={"path": "there"})
        def outside() -> None:
            raise AssertionError

        direct = rs.Asset.external(name="direct", io_handler=Elsewhere(), kinds="table")

        def reader(outside: Any, direct: Any) -> Any:
            return outside, direct

        repository = rs.CodeRepository(
            [rs.Asset(reader, deps=[direct]), outside, direct], resources={"elsewhere": Elsewhere()}
        )
        result = repository.materialize()

        expected = {"key": "outside", "path": {"path": "there"}}, {"key": "direct", "path": None}
        assert ["reader"] == result.materialized_assets
        assert expected == repository.load_node("reader")
        assert expected[0] == repository.load_node("outside")
        with pytest.raises(ConfigurationError, match="external"):
            repository.materialize("outside")

    def test_wrong(self) -> None:
        """An external asset needs a handler and a name; one without a function has the location of its call."""
        with pytest.raises(AssetDefinitionError, match="io_handler"):
            rs.Asset.external(name="x", io_handler=None)  # type: ignore[arg-type]
        nameless = rs.Asset.external(io_handler=rs.InMemoryIOHandler())
        unknown = rs.Asset.external(name="x", io_handler="nothing")
        with pytest.raises(GraphValidationError) as caught:
            rs.CodeRepository([nameless, unknown]).resolve()

        assert all(str(problem.where).startswith(__file__) for problem in caught.value.problems)
        assert 2 == len(caught.value.problems)
