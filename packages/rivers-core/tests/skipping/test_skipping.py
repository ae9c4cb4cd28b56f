"""A run with skip_unchanged runs what has changed, and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import rivers as rs
from rivers.events import StepSucceeded, StepUnchanged
from rivers.exceptions import AssetDefinitionError, ConfigurationError
from rivers.io_handlers import BaseIOHandler, InputContext, Memo, OutputContext

Run = Callable[..., set[str]]


def chain(first: int = 1, factor: int = 2) -> tuple[rs.Asset, rs.Asset, rs.Asset]:
    """Return three assets, each of the one before."""

    @rs.Asset
    def a() -> int:
        return first

    @rs.Asset
    def b(a: int) -> int:
        return a * factor

    @rs.Asset
    def c(b: int) -> int:
        return b + 1

    return a, b, c


class TestUnmapped:
    def test_nothing_changed(self, run: Run) -> None:
        """The second of two equal runs runs nothing, also in another repository and with other definitions."""
        assert {"a", "b", "c"} == run(*chain())
        assert set() == run(*chain())

    def test_changed_code(self, run: Run) -> None:
        """A change runs the step and what takes its new value."""
        run(*chain())

        assert {"b", "c"} == run(*chain(factor=3))

    def test_equal_value(self, run: Run) -> None:
        """A step that makes the same value as before changes nothing downstream."""
        run(*chain(first=0))

        assert {"b"} == run(*chain(first=0, factor=3))

    def test_off(self, run: Run) -> None:
        """A run without the argument, or with False, runs everything, and leaves no memo for the next."""
        run(*chain())
        assert {"a", "b", "c"} == run(*chain(), skip_unchanged=None)
        assert {"a", "b", "c"} == run(*chain(), skip_unchanged=False)
        assert {"a", "b", "c"} == run(*chain())

    def test_selection(self, run: Run) -> None:
        """A value of an earlier run has the version that was stored with it."""
        run(*chain())

        assert set() == run(*chain(), selection=["c"])
        assert {"b"} == run(*chain(factor=3), selection=["b"])
        assert {"c"} == run(*chain(factor=3), selection=["c"])

    def test_another_run_overwrote_a_value(self, run: Run) -> None:
        """A value that another code has stored meanwhile is made again."""
        run(*chain())
        run(*chain(factor=3), selection=["b"])

        assert {"b"} == run(*chain())

    def test_code_version(self, run: Run) -> None:
        """With a code version nothing but the version counts as code."""

        def make(value: int, version: str) -> rs.Asset:
            @rs.Asset(code_version=version)
            def a() -> int:
                return value

            return a

        run(make(1, "1"))
        assert set() == run(make(2, "1"))
        assert {"a"} == run(make(2, "2"))

    def test_order(self, run: Run) -> None:
        """A step that is ordered behind another runs again when that one has, whatever it returned."""

        def make(table: str) -> tuple[rs.Asset, rs.Asset]:
            @rs.Asset
            def load() -> None:
                assert table

            @rs.Asset(deps=["load"])
            def report() -> int:
                return 1

            return load, report

        run(*make("x"))
        assert set() == run(*make("x"))
        assert {"load", "report"} == run(*make("y"))

    def test_no_value(self, run: Run) -> None:
        """A step that returns None has made its data elsewhere, so what takes it runs again."""

        def make(table: str) -> tuple[rs.Asset, rs.Asset]:
            @rs.Asset
            def load() -> None:
                assert table

            @rs.Asset
            def report(load: None) -> int:
                return 1

            return load, report

        run(*make("x"))
        assert {"load", "report"} == run(*make("y"))

    def test_registered_version(self, run: Run) -> None:
        """A registered version decides for what takes the value."""

        def make(value: int, version: str) -> tuple[rs.Asset, rs.Asset]:
            @rs.Asset
            def a() -> rs.Output:
                return rs.Output(value, data_version=version)

            @rs.Asset
            def b(a: int) -> int:
                return a

            return a, b

        run(*make(1, "v1"))
        assert {"a"} == run(*make(2, "v1"))
        assert {"a", "b"} == run(*make(2, "v2"))

    def test_multi_asset(self, run: Run) -> None:
        """A multi-asset is unchanged as a whole; its outputs have versions of their own."""

        def make(y: int) -> tuple[rs.Asset, ...]:
            @rs.Asset.from_multi(output_defs=[rs.AssetDef("x"), rs.AssetDef("y")])
            def both() -> tuple[int, int]:
                return 1, y

            @rs.Asset
            def of_x(x: int) -> int:
                return x

            @rs.Asset
            def of_y(y: int) -> int:
                return y

            return both, of_x, of_y

        run(*make(1))
        assert set() == run(*make(1))
        assert {"both", "of_y"} == run(*make(2))

    def test_async_and_generators(self, run: Run) -> None:
        """Async bodies and generators are compared like others."""

        @rs.Asset
        async def slow() -> int:
            return 1

        @rs.Asset
        def many(slow: int) -> Any:
            yield slow
            yield slow + 1

        run(slow, many)
        assert set() == run(slow, many)

    def test_failed_step(self, tmp_path: Path) -> None:
        """A failed step runs again, and what did not depend on it does not."""
        handler = rs.PickleIOHandler(tmp_path, fsync=False)

        def make(fails: bool) -> rs.CodeRepository:
            @rs.Asset
            def good() -> int:
                return 1

            @rs.Asset
            def bad(good: int) -> int:
                if fails:
                    raise ValueError("broken")
                return good

            return rs.CodeRepository(assets=[good, bad], default_io_handler=handler)

        make(True).materialize(skip_unchanged=True, raise_on_error=False)
        result = make(False).materialize(skip_unchanged=True)

        assert {"good": "unchanged", "bad": "succeeded"} == {key: one.state for key, one in result.steps.items()}


class Limits(BaseModel):
    most: int = 3
    name: str = ""


class TestSettings:
    def test_config(self, run: Run) -> None:
        """Config counts by its values: those that are given and those that are left at their defaults."""

        @rs.Asset
        def a(context: rs.AssetExecutionContext[Limits]) -> int:
            return context.config.most

        run(a)
        assert set() == run(a, config={"a": {"most": 3}})
        assert {"a"} == run(a, config={"a": {"most": 4}})

    def test_resource(self, run: Run) -> None:
        """The fields of a resource count, its secrets do not."""

        class Database(rs.Resource):
            host: str = "here"

        @rs.Asset
        def a(database: Database) -> str:
            return database.host

        run(a, resources={"database": Database()})
        assert set() == run(a, resources={"database": Database()})
        assert {"a"} == run(a, resources={"database": Database(host="there")})

    def test_tags_and_metadata(self, run: Run) -> None:
        """Tags, kinds, groups, metadata and retries do not count."""

        def make(**settings: Any) -> rs.Asset:
            @rs.Asset(**settings)
            def a() -> int:
                return 1

            return a

        run(make())
        more = {"tags": ["x"], "group": "g", "kinds": ["k"], "metadata": {"owner": "me"}, "timeout": 5}
        assert set() == run(make(**more, retry=rs.RetryPolicy(max_retries=1)))

    def test_asset_that_always_runs(self, run: Run) -> None:
        """An asset with skip_unchanged=False runs in every run, and what takes its value only if that differs."""

        @rs.Asset(skip_unchanged=False)
        def a() -> int:
            return 1

        @rs.Asset
        def b(a: int) -> int:
            return a

        run(a, b)
        assert {"a"} == run(a, b)

    def test_asset_that_is_always_skipped(self, run: Run) -> None:
        """An asset with skip_unchanged=True is skipped in a run that leaves it to the assets, and no other is."""

        @rs.Asset
        def a() -> int:
            return 1

        @rs.Asset(skip_unchanged=True)
        def b(a: int) -> int:
            return a

        run(a, b, skip_unchanged=None)
        assert {"a"} == run(a, b, skip_unchanged=None)
        assert {"a", "b"} == run(a, b, skip_unchanged=False)

    @pytest.mark.parametrize("given", ["yes", 1, []])
    def test_wrong_argument(self, given: Any) -> None:
        """Neither an asset nor a run takes anything but True, False and None."""
        with pytest.raises(AssetDefinitionError, match="invalid skip_unchanged="):
            rs.Asset(lambda: 1, name="a", skip_unchanged=given)
        with pytest.raises(ConfigurationError, match="invalid skip_unchanged="):
            rs.CodeRepository(assets=[]).materialize(skip_unchanged=given)

    def test_job(self, tmp_path: Path) -> None:
        """A job takes the argument, too."""
        a, b, c = chain()
        handler = rs.PickleIOHandler(tmp_path, fsync=False)
        repo = rs.CodeRepository([a, b, c], jobs=[rs.Job("all", [a, b, c])], default_io_handler=handler)
        repo.get_job("all").execute(skip_unchanged=True)

        result = repo.get_job("all").execute(skip_unchanged=True)

        assert {"unchanged"} == {report.state.value for report in result.steps.values()}


def graph(numbers: list[int], factor: int = 2, *, streamed: bool = False) -> rs.Asset:
    """Return a graph asset that maps over numbers and adds up."""

    @rs.Task
    def split() -> list[rs.DynamicOutput]:
        return [rs.DynamicOutput(key=f"k{number}", value=number) for number in numbers]

    @rs.Task
    def double(number: int) -> int:
        return number * factor

    @rs.Task
    def add_up(found: list[int]) -> int:
        return sum(found)

    @rs.Asset.from_graph
    def total() -> Any:
        mapped = split().map(double)
        return add_up(mapped.collect_stream(ordered=True) if streamed else mapped.collect())

    return total


class TestMapped:
    @pytest.mark.parametrize("streamed", [False, True])
    def test_nothing_changed(self, run: Run, streamed: bool) -> None:
        """No instance runs again if nothing changed, whether they are collected or streamed."""
        run(graph([1, 2, 3], streamed=streamed))

        assert set() == run(graph([1, 2, 3], streamed=streamed))

    @pytest.mark.parametrize("streamed", [False, True])
    def test_new_element(self, run: Run, streamed: bool) -> None:
        """A new element runs its own instance, and what collects them."""
        run(graph([1, 2], streamed=streamed))

        expected = {"total/split", "total/double[k3]", "total/add_up"}
        assert expected == run(graph([1, 2, 3], streamed=streamed))

    def test_missing_element(self, run: Run) -> None:
        """An element that is gone changes what collects them, and runs again when it comes back."""
        run(graph([1, 2, 3]))
        assert {"total/split", "total/add_up"} == run(graph([1, 3]))
        assert {"total/split", "total/double[k2]", "total/add_up"} == run(graph([1, 2, 3]))

    def test_changed_code(self, run: Run) -> None:
        """Changed code of the mapped task runs all instances."""
        run(graph([1, 2]))

        assert {"total/double[k1]", "total/double[k2]", "total/add_up"} == run(graph([1, 2], factor=3))


class TestUnknown:
    def test_unknown_code(self, run: Run) -> None:
        """A step whose code cannot be known runs in every run, and what takes its value only if that differs."""
        lock = threading.Lock()

        @rs.Asset
        def a() -> int:
            with lock:
                return 1

        @rs.Asset
        def b(a: int) -> int:
            return a

        run(a, b)
        assert {"a"} == run(a, b)

    def test_handler_without_memos(self, run: Run) -> None:
        """A handler that keeps no memos has its steps run in every run, and what takes their values."""
        values: dict[str, Any] = {}

        class Plain(BaseIOHandler):
            def handle_output(self, context: OutputContext, obj: Any) -> None:
                values[context.asset_name] = obj

            def load_input(self, context: InputContext) -> Any:
                return values[context.asset_name]

        @rs.Asset(io_handler=Plain())
        def a() -> int:
            return 1

        @rs.Asset
        def b(a: int) -> int:
            return a

        run(a, b)
        assert {"a", "b"} == run(a, b)

    def test_external_asset(self, run: Run) -> None:
        """An external value has the version that its handler knows; without one, what takes it runs."""
        versions: list[str] = ["1"]

        class Table(BaseIOHandler):
            def handle_output(self, context: OutputContext, obj: Any) -> None: ...

            def load_input(self, context: InputContext) -> Any:
                return 1

            def read_memo(self, key: str) -> Memo | None:
                return Memo("", versions[0]) if versions[0] else None

        raw = rs.Asset.external(io_handler=Table(), name="raw")

        @rs.Asset
        def a(raw: int) -> int:
            return raw

        run(raw, a)
        assert set() == run(raw, a)
        versions[0] = "2"
        assert {"a"} == run(raw, a)
        versions[0] = ""
        assert {"a"} == run(raw, a)
        assert {"a"} == run(raw, a)

    def test_broken_handler(self, tmp_path: Path) -> None:
        """A handler whose read_memo raises is warned of once, and its steps run."""

        class Broken(rs.InMemoryIOHandler):
            def read_memo(self, key: str) -> Memo | None:
                raise OSError("no answer")

        events: list[Any] = []
        repo = rs.CodeRepository(chain(), default_io_handler=Broken())
        result = repo.materialize(skip_unchanged=True, on_event=events.append)

        assert result.success
        warned = [event.message for event in events if type(event).__name__ == "RunWarning"]
        assert 1 == len(warned)
        assert "OSError: no answer" in warned[0]

    def test_damaged_value(self, tmp_path: Path) -> None:
        """A stored value that is cut short is made again."""
        repo = rs.CodeRepository(chain(), default_io_handler=rs.PickleIOHandler(tmp_path, fsync=False))
        repo.materialize(skip_unchanged=True)
        path = tmp_path / "b.pkl"
        path.write_bytes(path.read_bytes()[:-3])

        result = repo.materialize(skip_unchanged=True)

        assert ["b"] == result.materialized_assets


class TestResults:
    def test_state(self) -> None:
        """An unchanged step has a state and an event of its own, and the run is a success."""
        events: list[Any] = []
        with rs.CodeRepository(chain()) as repo:
            repo.materialize(skip_unchanged=True)
            result = repo.materialize(skip_unchanged=True, on_event=events.append)

            assert repo.load_node("c") == 3
        assert result.success
        assert [] == result.materialized_assets
        assert ["a", "b", "c"] == [event.step for event in events if isinstance(event, StepUnchanged)]
        assert [] == [event for event in events if isinstance(event, StepSucceeded)]
        assert "3 unchanged" in str(result)
        assert {"unchanged"} == {row["state"] for row in result.steps_table()}

    def test_record(self, tmp_path: Path) -> None:
        """The record has the unchanged steps, and the picture shows them."""
        with rs.CodeRepository(chain()) as repo:
            repo.materialize(skip_unchanged=True)
            result = repo.materialize(skip_unchanged=True, record=tmp_path)

        assert "3 unchanged" in str(result)
        assert "unchanged" in result.report(tmp_path / "run.html").read_text()

    def test_outputs(self) -> None:
        """The report of an unchanged step has its outputs with their data versions."""
        with rs.CodeRepository(chain()) as repo:
            made = repo.materialize(skip_unchanged=True).steps["a"].outputs
            kept = repo.materialize(skip_unchanged=True).steps["a"].outputs

        assert ["a"] == [record.key for record in kept]
        assert [record.data_version for record in kept] != [None]
        assert [record.name for record in made] == [record.name for record in kept]
