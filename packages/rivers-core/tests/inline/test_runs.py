"""Runs whose small values travel in specs and results, as no store reaches the steps."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from far import Anywhere, Far, FarBackend
from msgspec.structs import replace

import rivers as rs
from rivers.exceptions import GraphValidationError, InputLoadError, OutputCommitError
from rivers.protocol import Ending, FailureReason, InlineValue, OutputRecord, StepEvent, StepResult, StepSpec

HERE = {"rivers/executor": "in_process"}
CANARY = "hunter2-canary-5b1f"


@rs.Asset
def orders() -> list[dict[str, Any]]:
    return [{"n": 1, "days": (1, 2)}, {"n": 2, "days": {3}}, {"n": 3, "days": None}]


@rs.Task
def double(order: dict[str, Any]) -> dict[str, Any]:
    return {**order, "n": 2 * order["n"]}


@rs.Task
def added(orders: list[dict[str, Any]]) -> int:
    return sum(one["n"] for one in orders)


@rs.Task
def streamed(orders: Iterator[dict[str, Any]]) -> list[int]:
    return sorted(one["n"] for one in orders)


@rs.Asset.from_graph
def sales(orders: Any) -> Any:
    return added(orders.map(double).collect())


@rs.Asset.from_graph
def live(orders: Any) -> Any:
    return streamed(orders.map(double).collect_stream())


def repository(*assets: Any, **more: Any) -> rs.CodeRepository:
    return rs.CodeRepository([*assets], **{"default_executor": Far(), **more})


def failure(result: rs.RunResult, step: str) -> Any:
    found = result.steps[step].failure
    assert found is not None
    return found


class TestValues:
    def test_all_partitions(self) -> None:
        """Those that are stored travel to a step that loads all of them, and the others are left out."""
        days = rs.Partitions.static(["a", "b", "c"])

        @rs.Asset(partitions=days)
        def part(context: rs.AssetExecutionContext) -> str:
            return f"value of {context.partition}"

        @rs.Asset
        def whole(part: dict[str, str]) -> dict[str, str]:
            return dict(part)

        repo = repository(part, whole)
        repo.materialize(partition="a")
        repo.materialize(partition="c")

        assert {"a": "value of a", "c": "value of c"} == repo.load_node("whole")

    def test_unchanged(self) -> None:
        """Values that travel are stored with their memos, so that an equal run runs nothing."""
        repo = repository(orders, sales, live)
        repo.materialize(skip_unchanged=True)
        result = repo.materialize(skip_unchanged=True)

        assert {"unchanged"} == {step.state.value for step in result.steps.values()}

    @pytest.mark.parametrize("is_protobuf", [False, True])
    def test_fan_out(self, is_protobuf: bool) -> None:
        """Elements, lists and streams of a fan-out travel; the controller has all of them afterwards."""
        repo = repository(orders, sales, live, default_executor=Far(is_protobuf=is_protobuf))
        result = repo.materialize()

        assert {"far away"} == {step.worker for step in result.steps.values()}
        assert (12, [2, 4, 6]) == (repo.load_node("sales"), repo.load_node("live"))
        assert {"n": 4, "days": {3}} == repo.load_node("sales/double[1]")
        assert [{"n": 2, "days": (1, 2)}, {"n": 4, "days": {3}}, {"n": 6, "days": None}] == repo.load_node(
            "live/double"
        )

    def test_wide(self) -> None:
        """A group of so many keys that other stores keep them for the reader travels whole, in order."""
        repo = repository(numbered, default_executor=Far(is_protobuf=True))
        repo.materialize()
        assert [*range(1_100)] == repo.load_node("numbered")
        assert max(size for step, size in FarBackend.seen if step == "numbered/listed") < 100_000

    def test_executors_side_by_side(self) -> None:
        """Steps in this process and in local workers give values to steps far away, and take theirs."""

        @rs.Asset(metadata=HERE)
        def here(orders: Any) -> set[int]:
            return {one["n"] for one in orders}

        @rs.Asset(metadata={"rivers/executor": "parallel"})
        def beside(orders: Any) -> tuple[int, ...]:
            return tuple(one["n"] for one in orders)

        @rs.Asset
        def both(here: set[int], beside: tuple[int, ...], orders: Any) -> list[Any]:
            return [here, beside, len(orders)]

        workers = {"parallel": rs.Executor.parallel(1)}
        with repository(orders, here, beside, both, executors=workers) as repo:
            repo.materialize()
            assert [{1, 2, 3}, (1, 2, 3), 3] == repo.load_node("both")

    def test_graph_in_one_step(self) -> None:
        """A graph asset that runs in one worker takes a value inline and gives one."""
        one_step = {"rivers/executor": "far", "rivers/node/executor": "in_process"}
        fused = rs.Asset.from_graph(sales.function, name="fused", metadata=one_step)
        repo = repository(orders, fused, default_executor=rs.Executor.in_process(), executors={"far": Far()})
        result = repo.materialize()

        assert {"orders", "fused"} == set(result.steps)
        assert "far away" == result.steps["fused"].worker
        assert 12 == repo.load_node("fused")

    def test_outputs_with_and_without_a_handler(self, tmp_path: Path) -> None:
        """Of a multi-asset, the outputs with an IO handler of their own are stored, and the others travel."""

        @rs.Asset.from_multi(output_defs=[rs.AssetDef("stored", io_handler=Anywhere(tmp_path)), rs.AssetDef("sent")])
        def parted() -> dict[str, int]:
            return {"stored": 1, "sent": 2}

        @rs.Asset
        def sums(stored: int, sent: int) -> int:
            return stored + sent

        repo = repository(parted, sums)
        repo.materialize()
        assert 3 == repo.load_node("sums")
        assert ["stored.pkl"] == [path.name for path in tmp_path.glob("*.pkl")]

    def test_earlier_run(self) -> None:
        """A later run takes what an earlier one has stored, wherever that was made."""
        repo = repository(orders, sales)
        repo.materialize(["orders"], executor=rs.Executor.in_process())
        repo.materialize(["sales"])
        assert 12 == repo.load_node("sales")

    @pytest.mark.parametrize("is_protobuf", [False, True])
    def test_many_inputs(self, is_protobuf: bool) -> None:
        """A spec of so many outputs or inputs that it has a table of refs carries their values all the same."""
        names = [f"a{n}" for n in range(70)]
        many = rs.Asset.from_multi(lambda: tuple(range(70)), name="many", output_defs=[*map(rs.AssetDef, names)])
        body = f"def total({', '.join(names)}) -> int:\n    return {' + '.join(names)}\n"
        found: dict[str, Any] = {}
        exec(body, found)
        repo = repository(many, rs.Asset(found["total"]), default_executor=Far(is_protobuf=is_protobuf))
        repo.materialize()
        assert sum(range(70)) == repo.load_node("total")

    def test_steps_of_this_process(self, far: type[FarBackend], monkeypatch: pytest.MonkeyPatch) -> None:
        """Steps that such an executor runs in this process use the store itself, as async ones may."""
        monkeypatch.setattr(far, "async_closures", "local")

        @rs.Asset
        async def local() -> object:
            return len

        repo = repository(local)
        repo.materialize()
        assert len is repo.load_node("local")

    def test_metadata_and_version(self) -> None:
        """What a body says of its output arrives with an inline value, too."""

        @rs.Asset
        def described() -> rs.Output:
            return rs.Output(5, metadata={"rows": 1}, data_version="v2")

        repo = repository(described)
        (record,) = repo.materialize().steps["described"].outputs
        assert ('{"rows":1}', "v2", 5) == (record.metadata, record.data_version, repo.load_node("described"))

    def test_a_handler_is_obeyed(self, tmp_path: Path) -> None:
        """With a default IO handler nothing travels inline: its user says where values are to be."""
        repo = repository(orders, sales, default_io_handler=Anywhere(tmp_path))
        repo.materialize()
        assert 12 == pickle.loads((tmp_path / "sales.pkl").read_bytes())

        with pytest.raises(GraphValidationError, match="InMemoryIOHandler"):
            repository(orders, default_io_handler=rs.InMemoryIOHandler()).resolve()

    def test_off(self) -> None:
        """Without the option the repository is refused, and the error names the option."""
        with pytest.raises(GraphValidationError, match="or inline_values=True on the executor for small values"):
            repository(orders, default_executor=Far(inline_values=False)).resolve()


class TestRefusals:
    def test_large_output(self) -> None:
        """A value above the limit fails its step for good: with type, size, limit and the way out."""

        @rs.Asset(retry=rs.RetryPolicy(3))
        def large() -> bytes:
            return bytes(40_000)

        with pytest.raises(
            OutputCommitError, match=r"'large', a bytes, holds more than 32,768 bytes of text"
        ) as raised:
            repository(large).materialize()
        assert "give 'large' an io_handler, or the repository a default_io_handler" in str(raised.value)
        assert 1 == raised.value.result.steps["large"].attempts  # type: ignore[attr-defined]  # as its docs say

    def test_foreign_output(self) -> None:
        """An object fails its step for good: with its type, its position and what to return instead."""

        @rs.Asset.from_multi(output_defs=[rs.AssetDef("a"), rs.AssetDef("b")])
        def parted() -> dict[str, Any]:
            return {"a": 1, "b": [{"x": Path("/")}]}

        repo = repository(parted)
        with pytest.raises(
            OutputCommitError, match=r"has a pathlib.*Path at value\[0\]\['x'\], so it cannot travel inline"
        ):
            repo.materialize()
        with pytest.raises(InputLoadError):
            repo.load_node("a")

    def test_one_shot(self) -> None:
        """An iterator that is more than its items is refused as the default store refuses it."""

        class Once:
            def __next__(self) -> int:
                raise StopIteration

        result = repository(rs.Asset(Once, name="once")).materialize(raise_on_error=False)
        assert "is an iterator, which only its first reader could use" in failure(result, "once").message

    def test_input(self) -> None:
        """A value of this process that cannot travel fails its reader, which never starts."""

        @rs.Asset(metadata=HERE)
        def local() -> object:
            return len

        @rs.Asset
        def reads(local: object) -> int:
            return 1

        result = repository(local, reads).materialize(raise_on_error=False)
        assert (
            "the value of 'local' is a builtin_function_or_method, so it cannot travel inline to 'reads'"
            in failure(result, "reads").message
        )
        assert "give 'local' an io_handler" in failure(result, "reads").message
        assert "" == result.steps["reads"].worker

    def test_missing_input(self) -> None:
        """A value that was never made is named as with any store."""
        with pytest.raises(InputLoadError, match="'orders', an input of 'sales/each', does not exist"):
            repository(orders, sales).materialize(["sales"])

    def test_too_many_inputs(self) -> None:
        """A step whose inputs are too large together is refused by number, bytes and limit, and others go on."""
        repo = repository(orders, wide, joined, sales)
        result = repo.materialize(raise_on_error=False)
        message = failure(result, "joined/total").message
        assert "the inputs of 'joined/total' are too many: 120 values of 3,600,360 bytes travel inline" in message
        assert "at most 3,145,728 bytes may" in message
        assert result.steps["sales/added"].state.value == "succeeded"

    def test_too_many_elements(self) -> None:
        """So is a step whose elements are too large together, where it ends."""
        result = repository(split).materialize(raise_on_error=False)
        message = failure(result, "split/parts").message
        assert "the outputs of 'split/parts' are too many: 120 values of 3,600,360 bytes travel inline" in message


@rs.Asset
def wide() -> list[int]:
    return [*range(120)]


@rs.Task
def fat(n: int) -> bytes:
    return bytes(30_000)


@rs.Task
def total(parts: list[bytes]) -> int:
    return len(parts)


@rs.Asset.from_graph
def joined(wide: Any) -> Any:
    return total(wide.map(fat).collect())


@rs.Task
def parts() -> list[bytes]:
    return [bytes(30_000)] * 120


@rs.Asset.from_graph
def split() -> Any:
    return total(parts().map(fat).collect())


@rs.Task
def numbers() -> list[int]:
    return [*range(1_100)]


@rs.Task
def same(n: int) -> int:
    return n


@rs.Task
def listed(found: list[int]) -> list[int]:
    return found


@rs.Asset.from_graph
def numbered() -> Any:
    return listed(numbers().map(same).collect())


class TestResults:
    """Results that a worker sends, and what becomes of their values."""

    @pytest.fixture
    def edit(self, far: type[FarBackend], monkeypatch: pytest.MonkeyPatch) -> Any:
        """Change the values of results on their way, the first so many times."""

        def edit(change: Any, times: int = 1000) -> None:
            left = [times]

            def edited(event: StepEvent) -> StepEvent:
                if not isinstance(event, StepResult) or not left[0]:
                    return event
                left[0] -= 1
                records = tuple(replace(record, values=change(record.values)) for record in event.outputs)
                return replace(event, outputs=records)

            monkeypatch.setattr(far, "edit", staticmethod(edited))

        return edit

    def test_lost_value(self, edit: Any) -> None:
        """A result that arrives without its value is a failure that a retry mends."""
        edit(lambda values: (), times=1)
        repo = repository(rs.Asset(lambda: 7, name="seven"))
        result = repo.materialize(retry=rs.RetryPolicy(1))
        assert (2, 7) == (result.steps["seven"].attempts, repo.load_node("seven"))

    def test_damaged_value(self, edit: Any) -> None:
        """A value that is no encoding fails its step, and shows nothing of it."""
        edit(lambda values: tuple(replace(value, data=b"\xc1" + CANARY.encode()) for value in values))
        result = repository(rs.Asset(lambda: 7, name="seven")).materialize(raise_on_error=False)
        found = failure(result, "seven")
        assert found.reason is FailureReason.INFRASTRUCTURE
        assert "the value of 'seven', which a worker has sent, cannot be decoded" in found.message
        assert CANARY not in repr(found)

    def test_value_of_another_key(self, edit: Any) -> None:
        """A value under a key that the step does not have is not stored."""
        edit(lambda values: (*values, InlineValue(key="orders", data=b"\x01")))
        repo = repository(orders, rs.Asset(lambda: 7, name="seven"))
        repo.materialize(["seven"])
        assert 7 == repo.load_node("seven")
        with pytest.raises(InputLoadError):
            repo.load_node("orders")

    def test_values_that_nobody_asked_for(
        self, far: type[FarBackend], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """A worker that sends values of its own accord stores nothing, and they reach no event."""

        def edited(event: StepEvent) -> StepEvent:
            if not isinstance(event, StepResult):
                return event
            value = InlineValue(key="seven", data=b"\x01")
            return replace(event, outputs=tuple(replace(record, values=(value,)) for record in event.outputs))

        monkeypatch.setattr(far, "edit", staticmethod(edited))
        sink = rs.ListSink()
        seven = rs.Asset(lambda: 7, name="seven", io_handler=Anywhere(tmp_path))
        for executor in (Far(inline_values=False), Far()):
            repo = repository(seven, default_executor=executor)
            repo.materialize(on_event=sink)
            assert 7 == repo.load_node("seven")
        ends = [event for event in sink.events if isinstance(event, rs.events.StepSucceeded)]
        assert [(), ()] == [event.outputs[0].values for event in ends]

    def test_late_result(self, far: type[FarBackend], monkeypatch: pytest.MonkeyPatch) -> None:
        """The value of an attempt that nobody waits for any more is not stored."""
        record = OutputRecord(name="seven", key="seven", values=(InlineValue(key="seven", data=b"\x01"),))
        late = StepResult(attempt_id="an attempt that was given up", ending=Ending.SUCCEEDED, outputs=(record,))
        submit = far.submit

        def submit_both(backend: FarBackend, spec: StepSpec) -> None:
            backend.send(late)
            submit(backend, spec)

        monkeypatch.setattr(far, "submit", submit_both)
        repo = repository(rs.Asset(lambda: 1 / 0, name="seven"))
        assert not repo.materialize(raise_on_error=False).success
        with pytest.raises(InputLoadError):
            repo.load_node("seven")

    def test_second_attempt(self) -> None:
        """A retry stores what it returns."""
        attempts: list[int] = []

        @rs.Asset(retry=rs.RetryPolicy(1))
        def flaky(context: rs.AssetExecutionContext) -> int:
            if context.attempt == 1:
                raise ValueError("not yet")
            return context.attempt

        repo = repository(flaky)
        repo.materialize(on_event=lambda event: attempts.append(getattr(event, "attempt", 0)))
        assert (2, 2) == (max(attempts), repo.load_node("flaky"))

    def test_nothing_is_shown(self, tmp_path: Path) -> None:
        """A value is in no event, report, record or picture, nor in the repr of a spec or a result."""

        @rs.Asset
        def secret() -> dict[str, str]:
            return {"token": CANARY}

        @rs.Asset
        def uses(secret: dict[str, str]) -> int:
            return len(secret["token"])

        seen: list[str] = []
        repo = repository(secret, uses)
        result = repo.materialize(on_event=lambda event: seen.append(repr(event)), record=tmp_path)
        result.report(tmp_path / "report.html")
        texts = [*seen, repr(result), str(result), repr(result.steps), repr(InlineValue(key="a", data=CANARY.encode()))]
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert len(CANARY) == repo.load_node("uses")
        assert len(files) > 1
        assert [] == [text for text in texts if CANARY in text]
        assert [] == [path for path in files if CANARY.encode() in path.read_bytes()]
