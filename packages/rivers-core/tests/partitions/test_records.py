"""The partition in records, resumed and retried runs, and comparisons with what is stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import rivers as rs
from rivers._record.header import RunHeader
from rivers._telemetry.attributes import run_attributes
from rivers.exceptions import ConfigurationError

DAYS = rs.Partitions.daily("2026-11-01", "2026-11-03")
FIRST, SECOND, THIRD = DAYS.keys()


class Shop:
    """Three assets whose bodies note that they ran; `broken` fails while it is set."""

    def __init__(self, folder: Path) -> None:
        self.ran: list[tuple[str, str | None]] = []
        self.broken = False
        self.factor = 10

        @rs.Asset(partitions=DAYS, code_version="1")
        def orders(context: rs.AssetExecutionContext) -> int:
            self.ran.append(("orders", context.partition))
            return int((context.partition or "")[-2:])

        @rs.Asset(partitions=DAYS, code_version="1")
        def revenue(context: rs.AssetExecutionContext, orders: int) -> int:
            self.ran.append(("revenue", context.partition))
            if self.broken:
                raise ConnectionError("down")
            return orders * self.factor

        @rs.Asset(code_version="1")
        def report(revenue: dict[str, int]) -> int:
            self.ran.append(("report", None))
            return sum(revenue.values())

        self.repo = rs.CodeRepository([orders, revenue, report], default_io_handler=rs.PickleIOHandler(folder / "data"))
        self.home = str(folder / "home")

    def run(self, partition: str | None, **settings: Any) -> rs.RunResult:
        self.ran.clear()
        return self.repo.materialize(partition=partition, record=self.home, raise_on_error=False, **settings)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """Return a shop with a store and records of its own."""
    return Shop(tmp_path)


def _header(result: rs.RunResult) -> dict[str, Any]:
    assert result.record is not None
    header: dict[str, Any] = json.loads((result.record / "header.json").read_text())
    return header


def test_the_record_has_the_partition(shop: Shop) -> None:
    result = shop.run(SECOND)
    assert _header(result)["partition"] == SECOND
    assert result.record is not None
    first = json.loads((result.record / "events.jsonl").read_text().splitlines()[0])
    assert (first["event"], first["partition"]) == ("RunStarted", SECOND)
    assert str(result).startswith(f"✓ Run {result.run_id[:8]} of partition {SECOND} succeeded")
    assert f'"partition":"{SECOND}"' in result.report(result.record / "run.html").read_text()
    assert "partition" not in _header(shop.run(None, selection="report"))


def test_a_resumed_run_keeps_its_partition(shop: Shop) -> None:
    shop.broken = True
    failed = shop.run(SECOND)
    shop.broken = False
    shop.ran.clear()
    resumed = shop.repo.resume(failed.run_id, record=shop.home)
    assert shop.ran == [("revenue", SECOND), ("report", None)]
    assert resumed.run_id == failed.run_id
    assert shop.repo.load_node("revenue") == {SECOND: 20}


def test_a_retry_has_the_partition_of_its_run(shop: Shop) -> None:
    shop.broken = True
    failed = shop.run(SECOND)
    shop.broken = False
    # Another partition's values are none of this one's.
    shop.run(FIRST)
    again = shop.run(None, retry_of=failed.run_id)
    assert shop.ran == [("revenue", SECOND), ("report", None)]
    assert _header(again)["partition"] == SECOND
    with pytest.raises(ConfigurationError, match=f"invalid partition='{FIRST}' with retry_of: expected '{SECOND}'"):
        shop.run(FIRST, retry_of=failed.run_id)


def test_partitions_are_compared_each_by_itself(shop: Shop) -> None:
    shop.run(FIRST, skip_unchanged=True)
    assert shop.ran == [("orders", FIRST), ("revenue", FIRST), ("report", None)]
    shop.run(SECOND, skip_unchanged=True)
    assert shop.ran == [("orders", SECOND), ("revenue", SECOND), ("report", None)]
    for key in (FIRST, SECOND):
        result = shop.run(key, skip_unchanged=True)
        assert shop.ran == []
        assert {step.state for step in result.steps.values()} == {rs.StepState.UNCHANGED}


def test_all_partitions_are_unchanged_only_together(shop: Shop) -> None:
    shop.run(FIRST, skip_unchanged=True)
    shop.run(None, selection="report", skip_unchanged=True)
    assert shop.ran == []
    # Another partition is new.
    shop.run(SECOND, selection=["orders", "revenue"], skip_unchanged=True)
    shop.run(None, selection="report", skip_unchanged=True)
    assert shop.ran == [("report", None)]
    # One of them has another value, which a run without memos has stored.
    shop.factor = 11
    shop.run(SECOND, selection="revenue")
    shop.run(None, selection="report", skip_unchanged=True)
    assert shop.ran == [("report", None)]
    assert shop.repo.load_node("report") == 10 + 22
    shop.run(None, selection="report", skip_unchanged=True)
    assert shop.ran == []


@pytest.mark.parametrize("how", ["damaged", "empty", "folder"])
def test_a_new_partition_that_cannot_be_read_is_no_missing_one(shop: Shop, tmp_path: Path, how: str) -> None:
    """What loads all partitions fails, as without the comparison."""
    shop.run(FIRST, skip_unchanged=True)
    path = tmp_path / f"data/revenue@{SECOND}.pkl"
    if how == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"damaged" * (how == "damaged"))
    result = shop.run(None, selection="report", skip_unchanged=True)
    assert result.status == "failure"
    if how == "folder":
        path.rmdir()
    else:
        path.unlink()
    # Nothing of it is left over.
    assert shop.run(None, selection="report", skip_unchanged=True).success
    assert shop.ran == []


def test_values_in_memory_are_compared_by_no_guess() -> None:
    """A partition without a memo may have any value, so what loads all of them runs."""
    values = {FIRST: 1, SECOND: 2}
    ran: list[int] = []

    @rs.Asset(partitions=DAYS)
    def orders(context: rs.AssetExecutionContext) -> int:
        return values[context.partition or ""]

    @rs.Asset(code_version="1")
    def report(orders: dict[str, int]) -> int:
        ran.append(sum(orders.values()))
        return ran[-1]

    repo = rs.CodeRepository([orders, report])
    repo.materialize("orders", partition=SECOND)
    repo.materialize(partition=FIRST, skip_unchanged=True)
    values[SECOND] = 5
    repo.materialize("orders", partition=SECOND)
    repo.materialize("report", skip_unchanged=True)
    assert ran == [3, 6]


def test_the_plan_says_why_a_partition_runs(shop: Shop) -> None:
    shop.run(FIRST, skip_unchanged=True)
    reasons = shop.repo.plan(skip_unchanged=True, partition=FIRST).reasons
    assert reasons == {"orders": (), "revenue": (), "report": ()}
    reasons = shop.repo.plan(skip_unchanged=True, partition=THIRD).reasons
    assert reasons is not None
    assert reasons["orders"] == (f"`orders@{THIRD}` is not stored with a memo",)
    with pytest.raises(ConfigurationError, match="need a partition"):
        shop.repo.plan(skip_unchanged=True)


def test_what_only_comes_after_a_partition_is_compared_with_it(tmp_path: Path) -> None:
    ran: list[str] = []

    @rs.Asset(partitions=DAYS, code_version="1")
    def table() -> None:
        ran.append("table")

    @rs.Asset(partitions=DAYS, code_version="1", deps=["table"])
    def mail() -> int:
        ran.append("mail")
        return 1

    repo = rs.CodeRepository([table, mail], default_io_handler=rs.PickleIOHandler(tmp_path))
    repo.materialize(partition=FIRST, skip_unchanged=True)
    repo.materialize(partition=SECOND, skip_unchanged=True)
    assert ran == ["table", "mail"] * 2
    repo.materialize("mail", partition=FIRST, skip_unchanged=True)
    assert ran == ["table", "mail"] * 2


def test_what_comes_after_all_partitions_is_never_unchanged(tmp_path: Path) -> None:
    """It may read what any of them has written, not only that of its run."""
    rates = {FIRST: 1, SECOND: 10}

    @rs.Asset(partitions=DAYS, code_version="1")
    def table(context: rs.AssetExecutionContext) -> None:
        (tmp_path / f"{context.partition}.txt").write_text(str(rates[context.partition or ""]))

    @rs.Asset(code_version="1", deps=["table"])
    def total() -> int:
        return sum(int(path.read_text()) for path in tmp_path.glob("*.txt"))

    repo = rs.CodeRepository([table, total], default_io_handler=rs.PickleIOHandler(tmp_path / "data"))
    for key in (SECOND, FIRST):
        repo.materialize(partition=key, skip_unchanged=True)
    rates[SECOND] = 1000
    repo.materialize("table", partition=SECOND)
    result = repo.materialize(partition=FIRST, skip_unchanged=True)
    assert [report.state for report in result.steps.values()] == ["unchanged", "succeeded"]
    assert repo.load_node("total") == 1001
    reasons = repo.plan(skip_unchanged=True, partition=FIRST).reasons
    assert reasons is not None
    assert reasons["total"] == ("upstream `table`: any of its partitions may be a new one",)


def test_the_span_of_a_run_has_the_partition() -> None:
    header = RunHeader(format=1, run_id="r", started=0.0, partition=FIRST)
    assert run_attributes(header)["rivers.run.partition"] == FIRST
