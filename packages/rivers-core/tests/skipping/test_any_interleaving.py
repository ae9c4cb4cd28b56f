"""Any interleaving of runs, failures, kills, resumes, retries and edits ends with the values of a clean run."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, event, settings
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

import rivers as rs
from rivers.exceptions import ResumeError

sys.path.append(str(Path(__file__).parent))

import any_version
from any_version import ASSETS, BODIES, FAILS, KILLED, Version, make_assets

EDITS: dict[str, st.SearchStrategy[Any]] = {
    "first": st.integers(0, 2),
    "factor": st.integers(1, 3),
    "keys": st.lists(st.sampled_from(["x", "y", "zz", "w"]), unique=True).map(tuple),
    "table": st.integers(0, 2),
    "pair": st.tuples(st.integers(0, 1), st.integers(0, 1)),
    "config": st.integers(0, 1),
    "rate": st.integers(1, 2),
    "tags": st.lists(st.sampled_from(["a", "b"]), unique=True).map(tuple),
}
SKIPS = st.sampled_from([True, None])


def in_child(work: Callable[[], object]) -> int:
    """Run a function in a forked child and return its exit code, or the negative signal that has ended it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Interleaving(RuleBasedStateMachine):
    """The history of a store, and the runs that may be resumed or retried."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="rivers-any-"))
        (self.folder / "clean").mkdir()
        self.version = Version()
        self.handler = rs.PickleIOHandler(self.folder / "store", fsync=False)
        self.open: list[str] = []

    # ── what happens ──

    @rule(data=st.data(), name=st.sampled_from(list(EDITS)))
    def edit(self, data: st.DataObject, name: str) -> None:
        """Change code, config, a constant of a helper, or what does not count."""
        setattr(self.version, name, data.draw(EDITS[name]))

    @rule(skip=SKIPS)
    def run(self, skip: bool | None) -> None:
        """Run everything."""
        assert self.materialize(skip_unchanged=skip).success

    @rule(skip=SKIPS, names=st.lists(st.sampled_from(ASSETS), min_size=1, max_size=3, unique=True))
    def run_part(self, skip: bool | None, names: list[str]) -> None:
        """Run some assets, which fail where they have no inputs yet."""
        self.keep(self.materialize(names, skip_unchanged=skip))

    @rule(skip=SKIPS, body=st.sampled_from(BODIES))
    def fail(self, skip: bool | None, body: str) -> None:
        """Run everything while a body fails."""
        self.keep(self.with_variable(FAILS, body, lambda: self.materialize(skip_unchanged=skip)))

    @rule(skip=SKIPS, body=st.sampled_from(BODIES))
    def kill(self, skip: bool | None, body: str) -> None:
        """Run everything in a process that is killed when it comes to a body."""
        before = self.runs()
        ended = self.with_variable(KILLED, body, lambda: in_child(lambda: self.materialize(skip_unchanged=skip)))
        assert ended in (0, -signal.SIGKILL)
        self.open += sorted(self.runs() - before) if ended else []

    @precondition(lambda self: self.open)
    @rule(index=st.integers(0, 9), body=st.none() | st.sampled_from(BODIES))
    def resume(self, index: int, body: str | None) -> None:
        """Resume a run that has failed or was killed; another body may fail then."""
        run_id = self.open.pop(index % len(self.open))
        try:
            self.keep(self.with_variable(FAILS, body or "", lambda: self.carry_on(run_id)))
        except ResumeError as error:
            # Nothing was started.
            event(f"refused: {str(error).splitlines()[0][:30]}")
        else:
            event("resumed")

    @precondition(lambda self: self.open)
    @rule(index=st.integers(0, 9), body=st.none() | st.sampled_from(BODIES))
    def kill_resumed(self, index: int, body: str | None) -> None:
        """Resume a run in a process that is killed when it comes to a body."""
        run_id = self.open[index % len(self.open)]
        ended = self.with_variable(KILLED, body or "", lambda: in_child(lambda: self.carry_on(run_id)))
        assert ended in (0, 1, -signal.SIGKILL)
        if ended != -signal.SIGKILL:
            self.open.remove(run_id)

    @precondition(lambda self: self.open)
    @rule(index=st.integers(0, 9), body=st.none() | st.sampled_from(BODIES), skip=SKIPS)
    def retry(self, index: int, body: str | None, skip: bool | None) -> None:
        """Run what a failed or killed run has not made, in a new one."""
        run_id = self.open[index % len(self.open)]
        self.keep(
            self.with_variable(
                FAILS, body or "", lambda: self.materialize(retry_of=run_id, config=None, skip_unchanged=skip)
            )
        )

    # ── what holds ──

    def teardown(self) -> None:
        """Check that a run which skips what did not change has the values of a clean run, and is whole."""
        try:
            result = self.materialize(skip_unchanged=True)
            assert result.success
            with self.repository() as repository:
                found = repository.load_node("everything")
            clean = rs.InMemoryIOHandler()
            with rs.CodeRepository(
                make_assets(self.version, self.folder / "clean"), default_io_handler=clean
            ) as repository:
                assert repository.materialize(config=self.config()).success
                assert repository.load_node("everything") == found
            again = self.materialize(skip_unchanged=True)
            assert {"unchanged"} == {report.state.value for report in again.steps.values()}
        finally:
            shutil.rmtree(self.folder)

    # ── how ──

    def repository(self) -> rs.CodeRepository:
        """Return a repository of the present version."""
        any_version.RATE = self.version.rate
        return rs.CodeRepository(make_assets(self.version, self.folder), default_io_handler=self.handler)

    def config(self) -> dict[str, dict[str, int]]:
        """Return the config of the present version."""
        return {"scaled": {"plus": self.version.config}}

    def materialize(self, names: list[str] | None = None, **given: Any) -> rs.RunResult:
        """Run assets, all by default."""
        is_configured = names is None or "scaled" in names
        given = {"config": self.config() if is_configured else None, **given}
        with self.repository() as repository:
            return repository.materialize(names, record=self.folder / "home", raise_on_error=False, **given)

    def carry_on(self, run_id: str) -> rs.RunResult:
        """Resume a run."""
        with self.repository() as repository:
            return repository.resume(run_id, record=self.folder / "home", raise_on_error=False)

    def keep(self, result: rs.RunResult) -> None:
        """Keep a run that did not succeed, to be resumed."""
        if not result.success:
            self.open.append(result.run_id)

    def runs(self) -> set[str]:
        """Return the ids of all recorded runs."""
        return {path.parent.name for path in self.folder.glob("home/runs/*/events.jsonl")}

    def with_variable(self, name: str, value: str, act: Callable[[], Any]) -> Any:
        """Do something while the environment has a variable."""
        os.environ[name] = value
        try:
            return act()
        finally:
            del os.environ[name]


COMMON: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    # Not shrunk: each history takes a second, and a failure is wanted before the test's time is over.
    "phases": [Phase.explicit, Phase.reuse, Phase.generate],
}


class TestInterleaving(Interleaving.TestCase):  # type: ignore[misc, valid-type]
    """Histories that are the same each time."""

    pytestmark = pytest.mark.timeout(300)
    settings = settings(max_examples=40, stateful_step_count=12, derandomize=True, **COMMON)


class TestManyInterleavings(Interleaving.TestCase):  # type: ignore[misc, valid-type]
    """The same with more and longer histories, which are others each time."""

    pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]
    settings = settings(max_examples=300, stateful_step_count=20, **COMMON)
