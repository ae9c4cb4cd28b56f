"""The default store keeps values in memory until a run is shared, then where other processes reach them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rivers._io.shared.default_store import DefaultStore
from rivers.exceptions import ExecutionError, InputLoadError, OutputCommitError
from rivers.io_handlers import AtomicIOHandler, OutputContext, Reach

Out = Callable[..., OutputContext]
Load = Callable[..., Any]
Writer = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DefaultStore]:
    """The store as a repository has it."""
    monkeypatch.setenv("RIVERS_DEFAULT_STORE", str(tmp_path))
    store = DefaultStore()
    yield store
    store.close()


def worker(store: DefaultStore) -> DefaultStore:
    """The store as a worker builds it again: from its fields as JSON."""
    return DefaultStore.model_validate_json(store.model_dump_json())


class TestTwoPlaces:
    def test_memory(self, store: DefaultStore, out: Out, load: Load) -> None:
        """A run that is not shared keeps the very object, also one that cannot be pickled, and makes no folder."""
        value = threading.Lock()
        store.handle_output(out("k"), value)

        assert value is load(store, "k", "run1") is load(store, "k")
        assert () == store.folders()
        assert store.folder is None

    def test_shared(self, store: DefaultStore, out: Out, load: Load) -> None:
        """A worker loads the values that a shared run stores here, and the other way round."""
        store.share("run1")
        there = worker(store)
        store.handle_output(out("here"), [1])
        there.handle_output(out("there"), [2])

        assert [[1], [1]] == [load(there, "here", run) for run in ("run1", None)]
        assert [[2], [2]] == [load(store, "there", run) for run in ("run1", None)]
        assert "a1" == store.committed("run1", "there") == there.committed("run1", "here")

    def test_runs_at_the_same_time(self, store: DefaultStore, out: Out, load: Load) -> None:
        """A shared run and one in memory, at the same time on the same key, each read their own."""
        store.handle_output(out("k", "memory"), "memory")
        store.share("shared")
        store.handle_output(out("k", "shared"), "shared")
        store.handle_output(out("other", "memory"), 1)

        assert ["memory", "shared"] == [load(store, "k", run) for run in ("memory", "shared")]

    @pytest.mark.parametrize("order", ["ms", "sm", "sms", "msm", "msms"])
    @pytest.mark.parametrize("several", [False, True])
    def test_latest(self, store: DefaultStore, out: Out, load: Load, order: str, several: bool) -> None:
        """Without a run, the value that was stored last is loaded, in memory or not, during the runs and after them."""
        for number, kind in enumerate(order):
            run, step = f"run{number}", "multi" if several else None
            if kind == "s":
                store.share(run)
            writer = worker(store) if kind == "s" else store
            for key in ("x", "y") if several else ("x",):
                writer.stage(out(key, run, step=step), number) if several else writer.handle_output(
                    out(key, run), number
                )
            if several:
                writer.commit(run, "multi", "a1", ("x", "y"))
            assert number == load(store, "x")
            store.end_run(run)
            assert number == load(store, "x") == load(store, "x", "run-of-somebody-else")

    def test_superseded_values_are_let_go(self, store: DefaultStore, out: Out) -> None:
        """A value in memory that a shared run has replaced does not stay in memory."""
        value = np.ones(3)
        store.handle_output(out("k", "run1"), value)
        store.end_run("run1")
        before = sys.getrefcount(value)
        store.share("run2")
        worker(store).handle_output(out("k", "run2"), 2)
        store.end_run("run2")

        assert before - 1 == sys.getrefcount(value)

    def test_attempt_after_the_end(self, store: DefaultStore, out: Out, load: Load) -> None:
        """A late attempt of a shared run is refused in this process after the run's end, as in a worker."""
        store.share("run1")
        store.handle_output(out("k"), 1)
        store.end_run("run1")

        for late in (store, worker(store)):
            with pytest.raises(OutputCommitError, match="the run has ended"):
                late.handle_output(out("k", attempt_id="late"), 2)
        assert 1 == load(store, "k")

    def test_nothing_of_a_run_stays(self, store: DefaultStore, out: Out) -> None:
        """After a run's end the folder holds the latest values and the mark of the end, nothing else."""
        store.share("run1")
        there = worker(store)
        there.handle_output(out("a/b[c]"), 1)
        there.stage(out("staged", step="never"), 2)
        store.end_run("run1")

        assert store.folder is not None
        files = [str(path.relative_to(store.folder)) for path in Path(store.folder).rglob("*") if path.is_file()]
        assert [".rivers/ended/run1", "a/b[c].pkl"] == sorted(files)


class TestHandOver:
    def test_value(self, store: DefaultStore, out: Out, load: Load) -> None:
        """A value that an earlier run has left in memory reaches workers, and stays the object it is here."""
        value = {"a": [1, 2]}
        store.handle_output(out("k", "run1"), value)
        store.share("run2")
        store.hand_over("k")

        assert value == load(worker(store), "k")
        assert value is load(store, "k")

    def test_again(self, store: DefaultStore, out: Out, load: Load) -> None:
        """A second hand-over replaces an older value in the folder, and keeps a newer one."""
        store.share("run0")
        for number in (1, 2):
            store.handle_output(out("k", f"run{number}"), number)
            store.hand_over("k")
            assert number == load(worker(store), "k")
        worker(store).handle_output(out("k", "run0"), 3)
        store.hand_over("k")

        assert 3 == load(worker(store), "k") == load(store, "k")

    def test_elements(self, store: DefaultStore, out: Out) -> None:
        """The keys of a fan-out belong to its name."""
        for key in ("g/t[a]", "g/t[b]", "g/t[]", "g/tt", "g"):
            store.handle_output(out(key), key)

        assert {"g/t": ["g/t[a]", "g/t[b]", "g/t[]"], "g/tt": ["g/tt"], "g": ["g"]} == store.keys_in_memory()

    def test_what_cannot_be_pickled(self, store: DefaultStore, out: Out) -> None:
        """The OutputCommitError names key, type and remedy."""
        store.handle_output(out("k"), threading.Lock())
        store.share("run2")

        with pytest.raises(OutputCommitError, match=r"'k', a _thread.lock, cannot be pickled") as caught:
            store.hand_over("k")
        assert not caught.value.retryable
        assert "another IO handler" in str(caught.value)


class TestClosed:
    def test_values(self, store: DefaultStore, out: Out, load: Load) -> None:
        """A closed store has no folder: loading shared values raises an error, values in memory stay loadable."""
        store.share("run1")
        store.handle_output(out("shared"), 1)
        store.end_run("run1")
        store.handle_output(out("memory", "run2"), 2)
        there, places = worker(store), store.folders()
        loaded = load(there, "shared")
        store.close()

        assert [] == [place for place in places if os.path.exists(place)]
        assert () == store.folders()
        assert [1, 2] == [loaded, load(store, "memory")]
        for handler in (store, there):
            with pytest.raises(
                InputLoadError, match=r"'shared'.* was removed with .*\n.*the repository was shut down"
            ) as caught:
                load(handler, "shared")
            assert not caught.value.retryable
        with pytest.raises(ExecutionError, match="shut down"):
            store.share("run3")

    def test_late_worker(self, store: DefaultStore, out: Out) -> None:
        """A worker that stores when the folder is gone is refused for good, and does not make it again."""
        store.share("run1")
        there = worker(store)
        there.handle_output(out("k"), 1)
        store.close()

        with pytest.raises(OutputCommitError, match=r"comes too late: .* no longer exists") as caught:
            there.handle_output(out("j"), 2)
        assert not caught.value.retryable
        assert not os.path.exists(str(there.folder))

    def test_mapped_values_stay(self, store: DefaultStore, out: Out, load: Load) -> None:
        """An array that was loaded before is whole after the store is closed."""
        store.share("run1")
        store.handle_output(out("k"), np.arange(100_000))
        loaded = load(store, "k")
        store.close()

        assert np.array_equal(np.arange(100_000), loaded)


def test_reach(store: DefaultStore) -> None:
    """Its values reach every process of this machine and none elsewhere."""
    assert Reach.MACHINE == store.reach


def test_fields_are_not_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable FOLDER of another program is not taken for the store's folder."""
    monkeypatch.setenv("FOLDER", "/somewhere")

    assert DefaultStore().folder is None


def test_a_folder_that_others_may_enter_is_refused(store: DefaultStore, out: Out, load: Load) -> None:
    """A worker unpickles nothing from a folder that is not closed to others."""
    store.share("run1")
    store.handle_output(out("k"), 1)
    os.chmod(str(store.folder), 0o755)

    with pytest.raises(ExecutionError, match="closed to others"):
        load(worker(store), "k")
    with pytest.raises(ExecutionError, match="closed to others"):
        worker(store).handle_output(out("j"), 1)


class TestMain:
    """Classes of `__main__` go by value: the process that loads them has another `__main__`."""

    @pytest.fixture
    def main(self, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
        """A `__main__` with a class in it."""
        pytest.importorskip("cloudpickle")
        module = types.ModuleType("__main__")
        exec("class Point:\n    def __init__(self, x): self.x = x", vars(module))
        monkeypatch.setitem(sys.modules, "__main__", module)
        return module

    def test_own_class(self, store: DefaultStore, out: Out, load: Load, main: Any) -> None:
        """This process gets instances of its own class back, with the buffers still beside the pickle."""
        store.share("run1")
        store.handle_output(out("k"), [main.Point(np.arange(100_000))])

        (point,) = load(store, "k")
        assert type(point) is main.Point
        assert not point.x.flags.writeable

    def test_other_process(self, store: DefaultStore, out: Out, main: Any) -> None:
        """A process whose `__main__` has no such class loads it all the same."""
        store.share("run1")
        store.handle_output(out("k"), main.Point(7))
        code = (
            "from rivers._io.shared.default_store import DefaultStore\nfrom rivers.io_handlers import InputContext\n"
            f"print(DefaultStore(folder={store.folder!r}).load_input(InputContext('k')).x)"
        )

        assert "7\n" == subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout

    def test_local_class(self, store: DefaultStore, out: Out, load: Load) -> None:
        """So does a class inside a function, which pickle alone refuses."""

        pytest.importorskip("cloudpickle")

        class Local:
            y = 3

        store.share("run1")
        store.handle_output(out("k"), Local())

        assert type(load(store, "k")) is Local

    def test_without_cloudpickle(
        self, store: DefaultStore, out: Out, load: Load, main: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without cloudpickle they travel by name, which this process can resolve; those without a name are refused."""
        monkeypatch.setitem(sys.modules, "cloudpickle", None)
        store.share("run1")
        store.handle_output(out("k"), main.Point(1))

        assert type(load(store, "k")) is main.Point
        with pytest.raises(OutputCommitError, match="cannot be pickled"):
            store.handle_output(out("j"), lambda: None)


class TestProcesses:
    """The tests of writer.py on a folder of pickles, run on the default store."""

    @pytest.fixture(autouse=True)
    def default_store(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WRITER_HANDLER", "default")

    def test_races(self, tmp_path: Path, writer: Writer) -> None:
        """Of two processes that commit the same step at once exactly one wins, 100 times, and its value is seen."""
        process = writer("races", tmp_path, 100)
        said, errors = process.communicate(timeout=55)

        assert 0 == process.returncode, errors
        assert 100 == sum(int(line.split()[1]) for line in said.splitlines())

    def test_kills(self, tmp_path: Path, writer: Writer) -> None:
        """After a SIGKILL at a random moment no value is torn, and reported and committed values are visible."""
        process = writer("kills", tmp_path, 100)
        said, errors = process.communicate(timeout=55)

        assert 0 == process.returncode, said + errors

    @pytest.mark.parametrize(("call", "after"), [("link", 0), ("link", 1), ("rename", 0), ("rename", 1), ("rename", 2)])
    def test_cut(self, tmp_path: Path, writer: Writer, call: str, after: int, load: Load) -> None:
        """The next reader finishes a publication that was cut short after its commit; before it nothing is visible."""
        process = writer("die", tmp_path, call, after)
        _, errors = process.communicate(timeout=30)
        assert -9 == process.returncode, errors
        handler: AtomicIOHandler = DefaultStore(folder=str(tmp_path))

        winner = handler.committed("run1", "multi")
        assert winner == (None if (call, after) == ("link", 0) else "a1")
        for key in ("x", "y"):
            if winner is None:
                with pytest.raises(InputLoadError):
                    load(handler, key)
            else:
                assert key == load(handler, key, "run1") == load(handler, key)
