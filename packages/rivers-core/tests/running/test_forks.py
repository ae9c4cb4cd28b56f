"""A forked child that uses its parent's repository has state of its own, or gets an error at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from running.forked import in_child

import rivers as rs
from rivers._io.context import InputContext, OutputContext
from rivers._io.shared.default_store import DefaultStore
from rivers._io.shared.machine_space import sweep

GO_ON = threading.Event()


@rs.Asset
def pid() -> int:
    return os.getpid()


@rs.Asset
def waits() -> int:
    GO_ON.wait(30)
    return 1


class Connection(rs.Resource):
    """A resource that belongs to the process that has set it up."""

    _owner: int = 0

    def setup(self) -> None:
        self._owner = os.getpid()

    def teardown(self) -> None:
        self._owner = 0


@rs.Asset
def waits_with_it(connection: Connection) -> int:
    GO_ON.wait(30)
    return connection._owner


@rs.Asset
def owner(connection: Connection) -> int:
    return connection._owner


def test_a_child_runs_in_process() -> None:
    """A child materializes its parent's repository by itself, loads its values, and changes nothing there."""
    with rs.CodeRepository([pid]) as repository:
        repository.materialize()

        def again() -> tuple[bool, bool]:
            inherited = repository.load_node("pid") == os.getppid()
            repository.materialize()
            return inherited, repository.load_node("pid") == os.getpid()

        assert "(True, True)" == in_child(again)
        assert os.getpid() == repository.load_node("pid")


@pytest.mark.parametrize("use", ["wait", "cancel", "shutdown", "status"])
def test_a_childs_handle_of_a_run_of_its_parent(use: str) -> None:
    """A submitted run goes on in the parent: waiting for it in a child is refused at once, and nothing else hangs."""
    GO_ON.clear()
    with rs.CodeRepository([waits]) as repository:
        handle = repository.submit()
        while handle.status != "running" or not any(t.name.startswith("rivers-submit") for t in threading.enumerate()):
            time.sleep(0.01)
        uses = {
            "wait": handle.wait,
            "cancel": handle.cancel,
            "shutdown": repository.shutdown,
            "status": lambda: handle.status,
        }
        answer = in_child(uses[use])
        GO_ON.set()

        assert "success" == handle.wait(30).status
    if use == "wait":
        assert f"ExecutionError: run {handle.run_id} runs in the parent of this forked process" in answer
        assert "submit a run of this process's own" in answer
    else:
        assert {"cancel": "None", "shutdown": "None", "status": "'failure'"}[use] == answer


def test_a_childs_handle_of_a_run_that_is_over() -> None:
    """The result of a run that was over before the fork is there in the child, too."""
    with rs.CodeRepository([pid]) as repository:
        handle = repository.submit()
        handle.wait(30)

        assert "'success'" == in_child(lambda: handle.wait(1).status)


@pytest.mark.parametrize("name", ["_lock", "_kept._lock", "_default_store._lock"])
def test_a_lock_that_another_thread_holds(name: str) -> None:
    """A lock of the repository that another thread holds at the fork does not stop the child."""
    with rs.CodeRepository([pid]) as repository:
        holder: object = repository
        for part in name.split("."):
            holder = getattr(holder, part)
        locked, release = threading.Event(), threading.Event()

        def hold() -> None:
            with holder:  # type: ignore[attr-defined]
                locked.set()
                release.wait(60)

        thread = threading.Thread(target=hold)
        thread.start()
        locked.wait()
        answer = in_child(lambda: (repository.materialize().status, repository._default_store.share("run")))
        release.set()
        thread.join()

    assert "('success', None)" == answer


def test_a_child_sets_up_its_resources_itself() -> None:
    """A child that is forked while a run of its parent uses a resource has it set up for its own run."""
    GO_ON.clear()
    connection = Connection()
    assets = [waits_with_it, owner]
    with rs.CodeRepository(assets, resources={"connection": connection}) as repository:
        handle = repository.submit(["waits_with_it"])
        while not connection._owner:
            time.sleep(0.01)

        def child() -> tuple[bool, int]:
            repository.materialize(["owner"])
            return repository.load_node("owner") == os.getpid(), connection._owner

        answer = in_child(child)
        GO_ON.set()
        handle.wait(30)

        assert "(True, 0)" == answer
        assert os.getpid() == repository.load_node("waits_with_it")


def test_a_shared_store_after_a_fork() -> None:
    """A child reads what its parent has shared; what it shares itself is its own, in a folder that goes with it."""
    store = DefaultStore()
    store.share("first")
    for name in ("kept", "changed"):
        store.handle_output(OutputContext(asset_name=name, run_id="first"), [name])
    store.end_run("first")

    def child() -> tuple[object, ...]:
        found = [store.load_input(InputContext(name)) for name in ("kept", "changed")]
        parents, places = store.folder, store.folders()
        store.share("second")
        store.handle_output(OutputContext(asset_name="changed", run_id="second"), "by the child")
        store.end_run("second")
        found += [store.load_input(InputContext(name)) for name in ("kept", "changed")]
        own = Path(store.folder or "")
        store.close()
        return found, places, own != Path(parents or ""), own.exists()

    assert "([['kept'], ['changed'], ['kept'], 'by the child'], (), True, False)" == in_child(child)
    assert [["kept"], ["changed"]] == [store.load_input(InputContext(name)) for name in ("kept", "changed")]
    store.close()


def test_a_folder_is_not_kept_by_a_child() -> None:
    """The lock on a process's folder ends with that process, though a forked child of it lives on."""
    code = """
import os, sys, time
import rivers._io.shared.default_store as d
store = d.DefaultStore()
store.share("run")
if os.fork() == 0:
    print(store.folder, os.getpid(), flush=True)
    os.close(1)
    time.sleep(60)
os.wait()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        folder, child = parent.stdout.readline().split()
        parent.kill()
        parent.wait()
    try:
        assert os.path.isdir(folder)
        sweep([os.path.dirname(folder)])
        assert not os.path.isdir(folder)
    finally:
        os.kill(int(child), signal.SIGKILL)
