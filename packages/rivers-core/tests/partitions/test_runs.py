"""Runs with a partition: what they store, what they load, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rivers as rs
from rivers.exceptions import ConfigurationError, GraphValidationError, InputLoadError

DAYS = rs.Partitions.daily("2026-11-01", "2026-11-03")
FIRST, SECOND, THIRD = DAYS.keys()


@pytest.fixture(params=["default", "memory", "pickle", "bucket"])
def handler(request: pytest.FixtureRequest, tmp_path: Path) -> rs.BaseIOHandler | None:
    """Return each kind of store."""
    makers: dict[str, Callable[[], rs.BaseIOHandler | None]] = {
        "default": lambda: None,
        "memory": rs.InMemoryIOHandler,
        "pickle": lambda: rs.PickleIOHandler(tmp_path),
        "bucket": lambda: rs.PickleIOHandler("memory://"),
    }
    return makers[request.param]()


@rs.Asset
def rate() -> int:
    return 10


@rs.Asset(partitions=DAYS)
def orders(context: rs.AssetExecutionContext) -> int:
    assert context.partition is not None
    return int(context.partition[-2:])


@rs.Asset(partitions=DAYS)
def revenue(orders: int, rate: int) -> int:
    return orders * rate


@rs.Asset
def report(revenue: dict[str, int]) -> dict[str, int]:
    return dict(revenue)


def _repo(handler: rs.BaseIOHandler | None, *assets: rs.Asset) -> rs.CodeRepository:
    return rs.CodeRepository([*assets], default_io_handler=handler)


def test_each_partition_has_a_value_of_its_own(handler: rs.BaseIOHandler | None) -> None:
    repo = _repo(handler, rate, orders, revenue, report)
    for key in (FIRST, THIRD):
        result = repo.materialize(partition=key)
        assert result.materialized_assets == ["rate", "orders", "revenue", "report"]
        assert [record.key for record in result.steps["orders"].outputs] == [f"orders@{key}"]
    assert repo.load_node("orders", partition=FIRST) == 1
    assert repo.load_node("revenue", partition=THIRD) == 30
    assert repo.load_node("rate") == 10


def test_an_unpartitioned_asset_loads_all_stored_partitions(handler: rs.BaseIOHandler | None) -> None:
    repo = _repo(handler, rate, orders, revenue, report)
    assert repo.materialize(partition=THIRD).success
    assert repo.load_node("report") == {THIRD: 30}
    assert repo.materialize(partition=FIRST).success
    assert repo.load_node("report") == {FIRST: 10, THIRD: 30}
    assert list(repo.load_node("report")) == [FIRST, THIRD]
    assert repo.load_node("revenue") == repo.load_node("report")
    repo.materialize(["orders", "revenue"], partition=SECOND)
    assert repo.materialize("report").success
    assert repo.load_node("report") == {FIRST: 10, SECOND: 20, THIRD: 30}


def test_a_partition_that_cannot_be_read_is_no_missing_one(tmp_path: Path) -> None:
    repo = _repo(rs.PickleIOHandler(tmp_path), rate, orders, revenue, report)
    repo.materialize(["rate", "orders", "revenue"], partition=FIRST)
    (tmp_path / f"revenue@{FIRST}.pkl").write_bytes(b"damaged")
    with pytest.raises(InputLoadError, match="damaged"):
        repo.materialize("report")


def test_without_a_stored_partition_the_input_is_empty() -> None:
    repo = _repo(rs.InMemoryIOHandler(), rate, orders, revenue, report)
    repo.materialize("report")
    assert repo.load_node("report") == {}


def test_a_step_that_failed_leaves_its_downstream_of_all_partitions_out() -> None:
    @rs.Asset(partitions=DAYS)
    def revenue(context: rs.AssetExecutionContext) -> int:
        if context.partition == SECOND:
            raise ValueError("no data")
        return 1

    repo = _repo(None, revenue, report)
    repo.materialize(partition=FIRST)
    result = repo.materialize(partition=SECOND, raise_on_error=False)
    assert result.steps["report"].state is rs.StepState.SKIPPED
    assert repo.load_node("report") == {FIRST: 1}


@rs.Asset.from_multi(partitions=DAYS, output_defs=[rs.AssetDef("low"), rs.AssetDef("high")])
def parted(context: rs.AssetExecutionContext) -> dict[str, str]:
    return {"low": f"low {context.partition}", "high": f"high {context.partition}"}


@rs.Task
def split(context: rs.TaskExecutionContext, low: str) -> list[str]:
    assert context.partition is not None
    return [low, context.partition]


@rs.Task
def upper(context: rs.TaskExecutionContext, text: str) -> str:
    return f"{text.upper()} {context.partition}"


@rs.Task
def joined(texts: list[str]) -> str:
    return "; ".join(texts)


@rs.Asset.from_graph(partitions=DAYS)
def summary(low: Any) -> Any:
    return joined(split(low).map(upper).collect())


@pytest.mark.parametrize("is_one_step", [False, True])
def test_multi_assets_and_mapped_tasks_have_partitions(handler: rs.BaseIOHandler | None, is_one_step: bool) -> None:
    metadata = {"rivers/executor": "in_process"} if is_one_step else None
    graph = rs.Asset.from_graph(summary.function, partitions=DAYS, metadata=metadata)
    repo = _repo(handler, parted, graph)
    for key in (FIRST, SECOND):
        assert repo.materialize(partition=key).success
        assert repo.load_node("high", partition=key) == f"high {key}"
        assert repo.load_node("summary", partition=key) == f"LOW {key} {key}; {key} {key}"
    if not is_one_step:
        assert repo.load_node("summary/upper", partition=FIRST) == [f"LOW {FIRST} {FIRST}", f"{FIRST} {FIRST}"]
        assert repo.load_node("summary/upper[1]", partition=SECOND) == f"{SECOND} {SECOND}"


def test_an_unpartitioned_graph_asset_takes_all_partitions() -> None:
    @rs.Task
    def total(revenue: dict[str, int]) -> int:
        return sum(revenue.values())

    @rs.Asset.from_graph
    def whole(revenue: Any) -> Any:
        return total(revenue)

    repo = _repo(None, rate, orders, revenue, whole)
    repo.materialize(partition=FIRST)
    repo.materialize(partition=SECOND)
    assert repo.load_node("whole") == 30


class Keyed(rs.BaseIOHandler):
    """A handler that notes its contexts and says by a FileNotFoundError that it has nothing."""

    def model_post_init(self, context: Any, /) -> None:
        self._values: dict[str, Any] = {}
        self._seen: list[tuple[str, str | None, Any]] = []

    @property
    def reach(self) -> rs.io_handlers.Reach:
        return rs.io_handlers.Reach.PROCESS

    def handle_output(self, context: rs.OutputContext, obj: Any) -> None:
        self._seen.append((context.asset_name, context.partition, None))
        self._values[context.asset_name] = obj

    def load_input(self, context: rs.InputContext) -> Any:
        self._seen.append((context.asset_name, context.partition, context.type_hint))
        if context.asset_name not in self._values:
            raise FileNotFoundError(context.asset_name)
        return self._values[context.asset_name]


def test_a_handler_learns_the_partition_of_each_value() -> None:
    own = Keyed()
    repo = _repo(own, rate, orders, revenue, report)
    repo.materialize(partition=FIRST)
    assert own._seen == [
        ("rate", None, None),
        (f"orders@{FIRST}", FIRST, None),
        (f"orders@{FIRST}", FIRST, int),
        ("rate", None, int),
        (f"revenue@{FIRST}", FIRST, None),
        (f"revenue@{FIRST}", FIRST, int),
        (f"revenue@{SECOND}", SECOND, int),
        (f"revenue@{THIRD}", THIRD, int),
        ("report", None, None),
    ]


def test_an_external_asset_has_partitions() -> None:
    own = Keyed()
    own._values = {f"raw@{FIRST}": 5}
    raw = rs.Asset.external(name="raw", io_handler=own, partitions=DAYS)

    @rs.Asset(partitions=DAYS)
    def clean(raw: int) -> int:
        return raw + 1

    repo = _repo(rs.InMemoryIOHandler(), raw, clean)
    repo.materialize(partition=FIRST)
    assert repo.load_node("clean", partition=FIRST) == 6
    assert repo.load_node("raw") == {FIRST: 5}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"'orders', 'revenue' need a partition.*\n.*such as '2026-11-03'"),
        ({"partition": "2026-11-07"}, "invalid partition='2026-11-07': expected a day.*\n.*'2026-11-03'"),
        ({"partition": 3}, "invalid partition=3"),
        ({"selection": "report", "partition": FIRST}, "expected none, as no asset of the run has partitions"),
    ],
)
def test_a_run_is_refused_before_anything_starts(arguments: dict[str, Any], message: str) -> None:
    repo = _repo(None, rate, orders, revenue, report)
    with pytest.raises(ConfigurationError, match=message):
        repo.materialize(**arguments)
    with pytest.raises(InputLoadError):
        repo.load_node("rate")


def test_loading_a_partition_that_is_none_is_refused() -> None:
    repo = _repo(None, rate, orders)
    with pytest.raises(ConfigurationError, match="did you mean"):
        repo.load_node("orders", partition="2026-10-31")
    with pytest.raises(ConfigurationError, match="'rate' has no partitions"):
        repo.load_node("rate", partition=FIRST)


def test_one_run_has_one_kind_of_partitions() -> None:
    @rs.Asset(partitions=rs.Partitions.static(["de", "fr"]))
    def regions() -> int:
        return 1

    repo = _repo(None, orders, regions)
    repo.resolve()
    with pytest.raises(ConfigurationError, match="a run has one partition, but"):
        repo.materialize(partition=FIRST)
    assert repo.materialize("regions", partition="fr").success


@pytest.mark.parametrize("has_value", [True, False])
def test_upstreams_with_other_partitions_are_refused(has_value: bool) -> None:
    other = rs.Partitions.daily("2026-11-02", "2026-11-03")
    if has_value:

        @rs.Asset(partitions=other)
        def later(orders: int) -> int:
            return orders
    else:

        @rs.Asset(partitions=other, deps=["orders"])
        def later() -> int:
            return 1

    with pytest.raises(GraphValidationError, match=r"its upstream 'orders' has Partitions.daily\('2026-11-01'"):
        _repo(None, orders, later).resolve()


def test_a_hint_that_is_no_dict_is_refused_for_all_partitions() -> None:
    @rs.Asset
    def whole(orders: int) -> int:
        return orders

    with pytest.raises(GraphValidationError, match=r"write dict\[str, int\], or give the asset the partitions"):
        _repo(None, orders, whole).resolve()


def test_a_name_that_is_the_key_of_a_partition_is_refused() -> None:
    trap = rs.Asset(lambda: 1, name=f"orders@{FIRST}")
    with pytest.raises(GraphValidationError, match="has the name of a partition of 'orders'"):
        _repo(None, orders, trap).resolve()
    # Without partitions it is a name like any other.
    plain = rs.Asset(lambda: 1, name="orders")
    _repo(None, plain, trap).resolve()


def test_jobs_and_submitted_runs_take_a_partition() -> None:
    repo = rs.CodeRepository([rate, orders, revenue], jobs=[rs.Job("daily", [rate, orders, revenue])])
    assert repo.get_job("daily").execute(partition=FIRST).success
    assert repo.submit(partition=SECOND).wait(30).success
    assert repo.load_node("revenue") == {FIRST: 10, SECOND: 20}


def test_the_context_of_a_test_by_hand_has_a_partition() -> None:
    assert orders(rs.AssetExecutionContext("orders", partition=SECOND)) == 2
    assert rs.AssetExecutionContext("orders").partition is None


def test_a_plan_needs_no_partition() -> None:
    repo = _repo(None, rate, orders, revenue, report)
    assert [step.assets for step in repo.plan().steps] == [step.assets for step in repo.plan(partition=FIRST).steps]
    assert repo.plan().partition is None
    assert repo.plan(partition=FIRST).partition == FIRST


def test_a_command_and_a_hook_know_the_partition() -> None:
    seen: list[tuple[str | None, Any]] = []

    @rs.Hook.success
    def note(context: rs.HookContext) -> None:
        seen.append((context.partition, context.output))

    @rs.Asset.from_graph(partitions=DAYS, hooks=[note])
    def listing() -> Any:
        return rs.BashTask("print", 'printf %s "$RIVERS_PARTITION"')()

    @rs.Asset(hooks=[note])
    def plain(listing: dict[str, str]) -> int:
        return len(listing)

    assert _repo(None, listing, plain).materialize(partition=SECOND).success
    assert seen == [(SECOND, SECOND), (None, 1)]
