"""Values, exceptions and closures that cannot cross, must not, or explode: other steps go on."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import worker_steps as steps
import worker_values as values

import rivers as rs


def peak() -> int:
    """The most memory that this process has had since it was last reset, in bytes."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) << 10


def test_a_value_that_explodes(repository: Callable[..., rs.CodeRepository]) -> None:
    """A value that ends the process which unpickles it is stored, and ends the worker that loads it (L10)."""
    repo = repository(values.bomb, values.opens_the_bomb, steps.base, steps.after_base)
    result = repo.materialize(raise_on_error=False)

    failure = result.steps["opens_the_bomb"].failure
    assert failure is not None
    assert (rs.FailureReason.INFRASTRUCTURE, 9) == (failure.reason, failure.evidence.exit_code)
    assert {"bomb", "base", "after_base"} == {
        key for key, report in result.steps.items() if report.state == "succeeded"
    }


@pytest.mark.parametrize(
    ("asset", "name", "message"),
    [
        (values.raises_two_words, "worker_values.TwoWords", "hello world"),
        (values.raises_held, "worker_values.Held", "held"),
        (values.raises_explosive, "worker_values.Explosive", "boom"),
        (
            values.raises_unprintable,
            "worker_values.Unprintable",
            "Unprintable whose text could not be made: RuntimeError",
        ),
    ],
    ids=lambda given: getattr(given, "name", ""),
)
def test_an_exception_that_cannot_be_pickled(
    repository: Callable[..., rs.CodeRepository], asset: rs.Asset, name: str, message: str
) -> None:
    """The class, text and traceback of an exception arrive, whatever pickle makes of it; its worker goes on (L11)."""
    repo = repository(asset, steps.pid, steps.other_pid, workers=1)
    result = repo.materialize(raise_on_error=False)

    failure = result.steps[asset.name].failure
    assert failure is not None
    assert (rs.FailureReason.ERROR, name) == (failure.reason, failure.type)
    assert message in failure.message
    assert f"in {asset.name}" in (failure.traceback or "")
    assert repo.load_node("pid") == repo.load_node("other_pid")


def test_an_endless_exception(repository: Callable[..., rs.CodeRepository]) -> None:
    """An exception of 50 MB that is its own cause is cut to what fits (I5)."""
    result = repository(values.raises_endlessly).materialize(raise_on_error=False)

    failure = result.steps["raises_endlessly"].failure
    assert failure is not None
    assert "ValueError" == failure.type
    assert len(failure.message) + len(failure.traceback or "") < 1 << 18


def test_a_closure_that_cannot_be_pickled(repository: Callable[..., rs.CodeRepository]) -> None:
    """A function that holds a lock refuses the run by name before anything starts; the next run is as usual (L12)."""
    lock = threading.Lock()

    @rs.Asset(io_handler="store")
    def locked() -> bool:
        return lock.locked()

    repo = repository(locked, steps.base)

    with pytest.raises(rs.exceptions.GraphValidationError, match=r"'locked'.*cannot pickle '_thread\.lock' object"):
        repo.materialize()
    assert repo.materialize(steps.base).success


class Mine:
    """A value that pickles well, and ends or fails the process that unpickles it."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced


@pytest.mark.parametrize(
    ("mine", "reason", "message"),
    [
        (Mine(os._exit, 9), rs.FailureReason.INFRASTRUCTURE, "exited with code 9"),
        (Mine(int, "no number"), rs.FailureReason.INFRASTRUCTURE, "no number"),
    ],
    ids=["exits", "raises"],
)
def test_a_closure_that_explodes(
    repository: Callable[..., rs.CodeRepository], mine: Mine, reason: rs.FailureReason, message: str
) -> None:
    """Unpickling a function that ends its worker is charged to its own step (L13)."""

    @rs.Asset(io_handler="store")
    def mined() -> bool:
        return mine is None

    result = repository(mined, steps.base, steps.after_base).materialize(raise_on_error=False)

    failure = result.steps["mined"].failure
    assert failure is not None
    assert reason is failure.reason
    assert message in failure.message
    assert {"base": ("succeeded", 1), "after_base": ("succeeded", 1)} == {
        key: (report.state, report.attempts) for key, report in result.steps.items() if key != "mined"
    }


def test_big_values_do_not_cross(repository: Callable[..., rs.CodeRepository]) -> None:
    """A value of 200 MiB goes from worker to worker by the store: the controller does not grow by half (L15)."""
    repo = repository(values.big, values.size)
    repo.materialize()  # what it takes to run at all
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = peak()
    repo.materialize()

    assert peak() - before < 100 << 20
    assert 200 << 20 == repo.load_node("size")


def test_metadata_that_is_too_large(repository: Callable[..., rs.CodeRepository]) -> None:
    """Metadata beyond the limit fails its own step with a limit in the message, and is not tried again."""
    repo = repository(values.much_metadata, steps.base)
    result = repo.materialize(raise_on_error=False, retry=rs.RetryPolicy(max_retries=2, retry_on=rs.RetryOn.TRANSIENT))

    report = result.steps["much_metadata"]
    assert report.failure is not None
    assert ("failed", 1) == (report.state, report.attempts)
    assert "metadata" in report.failure.message
    assert "succeeded" == result.steps["base"].state


def test_a_secret_within_a_resource(
    repository: Callable[..., rs.CodeRepository], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret in a model within, which the environment has, reaches the body in a worker."""
    monkeypatch.setenv("WAREHOUSE_LOGIN__PASSWORD", "hunter2")
    warehouse = values.Warehouse(login={"user": "me"})  # type: ignore[arg-type]  # as pydantic takes it
    repo = repository(values.logged_in, warehouse=warehouse)
    repo.materialize()

    assert "me:7" == repo.load_node("logged_in")


def test_an_obstore_store(repository: Callable[..., rs.CodeRepository], tmp_path: Path) -> None:
    """A handler on an obstore LocalStore is built again in a worker; one on a MemoryStore is refused by resolve()."""
    obstore = pytest.importorskip("obstore.store")
    made, there = rs.Asset(values.seven, io_handler="local"), rs.Asset(values.seven, io_handler="memory")
    repo = repository(made, local=rs.PickleIOHandler(store=obstore.LocalStore(prefix=tmp_path)))
    repo.materialize()

    assert 7 == repo.load_node("seven")
    assert (tmp_path / "seven.pkl").is_file()
    with pytest.raises(rs.exceptions.GraphValidationError, match="seven"):
        repository(there, memory=rs.PickleIOHandler(store=obstore.MemoryStore())).resolve()
