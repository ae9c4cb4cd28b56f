"""Hooks: calls at the ends of steps, in the controller, that change nothing else."""

from __future__ import annotations

import asyncio
import contextvars
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydantic
import pytest

import rivers as rs
from rivers._repository import hooks as hooks_module

sys.path.append(str(Path(__file__).parent))

from bodies import doubled, fails, numbers, skipped


class Vault(rs.Resource):
    token: pydantic.SecretStr = pydantic.SecretStr("tok-12345")


class Calls:
    """Hooks that note their calls."""

    def __init__(self) -> None:
        self.contexts: list[rs.HookContext] = []

    def hook(self, kind: Callable[..., rs.Hook], name: str) -> rs.Hook:
        return kind(self.contexts.append, name=name)

    @property
    def of(self) -> list[tuple[str, str]]:
        return [(context.hook_name, context.step_key) for context in self.contexts]


def warnings_of(sink: rs.ListSink) -> list[Any]:
    return [event for event in sink.events if isinstance(event, rs.events.RunWarning)]


def test_order_and_places() -> None:
    """A step's hooks are the asset's, then the job's, then the repository's, each of them once."""
    calls = Calls()
    first, second, third = (calls.hook(rs.Hook.success, name) for name in ("asset", "job", "repository"))

    @rs.Asset(hooks=[first, third])
    def one() -> int:
        return 1

    repository = rs.CodeRepository(
        [one, numbers], jobs=[rs.Job("daily", [one, numbers], hooks=[second])], hooks=[third]
    )
    repository.get_job("daily").execute()

    assert calls.of == [
        ("asset", "one"),
        ("repository", "one"),
        ("job", "one"),
        ("job", "numbers"),
        ("repository", "numbers"),
    ]
    assert {context.job_name for context in calls.contexts} == {"daily"}


@pytest.mark.parametrize("executor", [rs.Executor.in_process(), rs.Executor.parallel(max_workers=2)], ids=repr)
def test_contexts(executor: rs.Executor) -> None:
    """Each step that ends gets one call, after its last attempt, in this process, without secrets in text."""
    calls, pids = Calls(), set()
    succeeded = calls.hook(rs.Hook.success, "succeeded")
    failed = calls.hook(rs.Hook.failure, "failed")

    @rs.Hook.success
    def note_pid(context: rs.HookContext) -> None:
        pids.add((os.getpid(), threading.current_thread() is threading.main_thread()))

    with rs.CodeRepository(
        [numbers, fails, skipped, doubled],
        hooks=[succeeded, failed, note_pid],
        resources={"vault": Vault()},
        default_executor=executor,
    ) as repository:
        result = repository.materialize(raise_on_error=False, tags={"k": "v"})

    assert pids == {(os.getpid(), False)}
    found = {(context.hook_name, context.step_key): context for context in calls.contexts}
    assert len(found) == len(calls.contexts)
    assert set(found) == {
        ("succeeded", "numbers"),
        ("failed", "fails"),
        ("succeeded", "doubled/split"),
        ("succeeded", "doubled/twice[3]"),
        ("failed", "doubled/twice[1]"),
        ("succeeded", "doubled/twice[2]"),
    }
    first = found["succeeded", "numbers"]
    assert (first.asset_name, first.run_id, first.hook_type) == ("numbers", result.run_id, "success")
    assert (first.error, first.failure, first.exception, first.attempts) == (None, None, None, 1)
    assert (first.metadata, first.tags) == ({"rows": 3, "note": "the token is ***"}, {"k": "v"})
    assert (first.executor, first.assets) == (executor.kind, ("numbers",))

    second = found["failed", "fails"]
    assert (second.error, second.attempts, second.output) == ("ValueError: the token is ***", 2, None)
    assert second.failure is not None
    assert "tok-12345" not in str(second.failure)
    assert isinstance(second.exception, ValueError)
    third = found["failed", "doubled/twice[1]"]
    assert (third.asset_name, third.assets, third.error) == ("doubled", (), "KeyError: 1")


def test_output_is_loaded_when_it_is_read() -> None:
    """`output` is the stored value: of a multi-asset by name, of a task that maps a list of its elements."""
    outputs: dict[str, Any] = {}

    @rs.Hook.success
    def keep(context: rs.HookContext) -> None:
        outputs[context.step_key] = context.output

    @rs.Asset.from_multi(output_defs=[rs.AssetDef("left"), rs.AssetDef("right")])
    def both() -> dict[str, int]:
        return {"left": 1, "right": 2}

    with rs.CodeRepository([numbers, both, doubled], hooks=[keep]) as repository:
        repository.materialize(raise_on_error=False)

    assert outputs == {
        "numbers": [3, 1, 2],
        "both": {"left": 1, "right": 2},
        "doubled/split": [3, 1, 2],
        "doubled/twice[3]": 6,
        "doubled/twice[2]": 4,
    }


class Limits(pydantic.BaseModel):
    rows: int = 5


def test_config() -> None:
    """A hook gets the asset's config of this run, in the model that its annotation names."""
    found: list[Any] = []

    @rs.Hook.success
    def plain(context: rs.HookContext) -> None:
        found.append(context.config)

    @rs.Hook.success
    def typed(context: rs.HookContext[Limits]) -> None:
        found.append(context.config)

    repository = rs.CodeRepository([numbers], hooks=[plain, typed])
    repository.materialize(config={"numbers": {"rows": 7}})
    repository.materialize()

    assert found == [{"rows": 7}, Limits(rows=7), {}, Limits()]


TENANT: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="none")


def test_context_variables() -> None:
    """A hook sees the context variables of the code that starts the run."""
    found: list[str] = []
    token = TENANT.set("shop")

    @rs.Hook.success
    def look(context: rs.HookContext) -> None:
        found.append(TENANT.get())

    rs.CodeRepository([numbers], hooks=[look]).materialize()
    TENANT.reset(token)

    assert found == ["shop"]


def test_async_hook() -> None:
    """An async hook is awaited."""
    done: list[str] = []

    @rs.Hook.success
    async def later(context: rs.HookContext) -> None:
        await asyncio.sleep(0.01)
        done.append(context.asset_name)

    rs.CodeRepository([numbers], hooks=[later]).materialize()

    assert done == ["numbers"]


@pytest.mark.parametrize("error", [ValueError("tok-12345 is bad"), SystemExit(3)], ids=["Exception", "SystemExit"])
def test_own_error_is_reported_and_changes_nothing_else(error: BaseException) -> None:
    """A hook that raises is a warning before the run's last event; other hooks and the result are as without it."""
    calls, sink = Calls(), rs.ListSink()

    @rs.Hook.success
    def breaks(context: rs.HookContext) -> None:
        raise error

    repository = rs.CodeRepository(
        [numbers], hooks=[breaks, calls.hook(rs.Hook.success, "after")], resources={"vault": Vault()}
    )
    result = repository.materialize(on_event=sink)

    assert result.success
    assert calls.of == [("after", "numbers")]
    (warning,) = warnings_of(sink)
    assert warning.step == "numbers"
    assert re.match(r"the success hook 'breaks' of step 'numbers' raised (Value|SystemExit)", warning.message)
    assert "test_hooks.py:" in warning.message
    assert "tok-12345" not in warning.message
    assert isinstance(sink.events[-1], rs.events.RunFinished)


def test_warning_where_nobody_listens(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a sink the error goes to the logger `rivers.run`, and the body prints as without hooks."""

    @rs.Hook.success
    def breaks(context: rs.HookContext) -> None:
        raise ValueError("bad")

    @rs.Asset
    def prints() -> int:
        print("hello")
        return 1

    rs.CodeRepository([prints], hooks=[breaks]).materialize()

    assert "the success hook 'breaks' of step 'prints' raised ValueError: bad" in caplog.text
    assert capsys.readouterr().out == "hello\n"


def test_hook_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook that hangs is given up with a warning that names it; the others are called, and the run ends."""
    monkeypatch.setattr(hooks_module, "CALL_DEADLINE", 0.3)
    release, calls, sink = threading.Event(), Calls(), rs.ListSink()

    @rs.Hook.success
    def hangs(context: rs.HookContext) -> None:
        release.wait(20)

    @rs.Asset
    def second(numbers: list[int]) -> int:
        return 1

    began = time.monotonic()
    repository = rs.CodeRepository([numbers, second], hooks=[hangs, calls.hook(rs.Hook.success, "after")])
    assert repository.materialize(on_event=sink).success

    assert time.monotonic() - began < 5
    assert calls.of == [("after", "numbers"), ("after", "second")]
    (warning,) = warnings_of(sink)
    assert warning.message == (
        "the success hook 'hangs' of step 'numbers' has not returned within 0.3 s and is not called again in this run "
        "(1 further calls are left out)"
    )
    release.set()


def test_hooks_that_are_slow_for_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of the run waits for hooks up to a deadline, and says which of them it has left out."""
    monkeypatch.setattr(hooks_module, "FINISH_DEADLINE", 0.3)
    release, sink = threading.Event(), rs.ListSink()

    @rs.Hook.success
    def hangs(context: rs.HookContext) -> None:
        release.wait(20)

    calls = Calls()
    repository = rs.CodeRepository([numbers], hooks=[hangs, calls.hook(rs.Hook.success, "after")])
    assert repository.materialize(on_event=sink).success

    first, second = (warning.message for warning in warnings_of(sink))
    assert first == "the success hook 'hangs' of step 'numbers' had not returned after 0 s, when the run ended"
    assert second == "1 calls of hooks were left out as the run ended: 'after'"
    release.set()
    time.sleep(0.1)
    assert calls.of == []


def test_decorators() -> None:
    """All forms make a hook, which is callable like its function."""

    @rs.Hook.failure
    def bare(context: rs.HookContext) -> str:
        return context.asset_name

    @rs.Hook.success(name="alert")
    def named(context: rs.HookContext) -> None: ...

    assert (bare.name, named.name) == ("bare", "alert")
    assert isinstance(bare, rs.Hook.Failure)
    assert isinstance(named, rs.Hook.Success)
    assert repr(named) == "<Hook.success 'alert'>"
    assert bare(rs.HookContext("orders", "failure", error="KeyError: 'x'")) == "orders"


def two(context: object, other: object) -> None: ...


def none() -> None: ...


def generator(context: object) -> Any:
    yield


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rs.Hook.success(3), r"invalid function 3 \(of type int\): expected a function for the hook to wrap"),
        (lambda: rs.Hook.success(two), "expected a function of one parameter, the rs.HookContext"),
        (lambda: rs.Hook.failure(none), "it cannot be called with one argument: too many positional arguments"),
        (lambda: rs.Hook.failure(generator), "it is a generator"),
        (lambda: rs.Hook(none), r"rs.Hook.success\(...\) or rs.Hook.failure\(...\)"),
        (lambda: rs.Hook.success(rs.Hook.success(print)), "is a hook already"),
        (lambda: rs.Hook.success(lambda context: None), "a lambda has no name of its own"),
        (lambda: rs.Asset(hooks=rs.Hook.success(print)), r"write hooks=\[print\], a list of one"),
        (lambda: rs.Asset(name="a", hooks=[two]), r"asset 'a': invalid hooks\[0\]=.*write rs.Hook.success\(two\) or"),
        (lambda: rs.Asset(hooks=[rs.Hook.success(name="alert")]), r"decorate a function with it: @rs.Hook.success"),
        (lambda: rs.Job("j", ["a"], hooks=two), r"job 'j': invalid hooks=.*write hooks=\[rs.Hook.failure"),
        (lambda: rs.CodeRepository([], hooks="x"), "invalid hooks='x': expected a list of rs.Hook"),
    ],
)
def test_bad_input(make: Callable[[], object], message: str) -> None:
    """A wrong hook is refused when it is made, or where it is given."""
    with pytest.raises(rs.exceptions.DefinitionError) as error:
        make()
    assert re.search(message, str(error.value).replace("\n", " ")), str(error.value)
