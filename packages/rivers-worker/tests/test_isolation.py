"""Tests of what an attempt can leave behind on a worker that stays: the next one sees none of it, or it retires.

Each case is a body in `leaves_behind.py`, which a real `rivers-worker serve --max-attempts` runs. The next attempt on
that worker looks around (`leaves_behind.look`), and must see what the worker's first attempt has seen.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from isolated import can_unshare
from running.left_behind import marked, wait_for_none
from served_worker import numbered, refused
from warm_worker import WarmWorker

from rivers.protocol import StepResult
from rivers_process.processes import read_process
from rivers_worker.v1 import worker_pb2 as pb

FREEZER = Path("/sys/fs/cgroup/freezer")

PROCESSES = (
    *("thread", "daemon_thread", "child", "child_of_shell", "session", "double_fork", "stopped_child", "deaf_child"),
    *("nested_subreapers", "process_groups", "traced_child", "headless_child", "zombies", "fork_bomb", "runaway"),
    *("pid_namespace", "resource_tracker_process"),
)
FILES = (
    *("file_in_scratch", "file_in_tmp", "file_in_cwd", "odd_names", "many_files", "deep_tree", "closed_folders"),
    *("links_to_outside", "fifo_and_socket", "sparse_file", "scratch_mode", "scratch_attribute", "setgid_folder"),
    "lock_of_a_child",
)
NETWORK = ("abstract_socket", "tcp_port")
OWN_PROCESS = (
    *("environment", "signal_mask", "dispositions", "alarm", "nice", "own_priorities", "umask", "own_limits", "cwd"),
    *("process_attributes", "descriptors", "closed_descriptors", "python_state", "memory"),
)
SHARED_OUTPUT = ("nonblocking_output", "output_flags", "output_lock", "output_position")
SERVER = (
    *("server_soft_limits", "server_cpus", "server_policy", "server_oom_score", "server_memory"),
    "stopped_fork_server",
)
CLEAN = (*PROCESSES, *FILES, *NETWORK, *OWN_PROCESS, *SHARED_OUTPUT, *SERVER)
RETIRES = {
    "changed_file": "start/file, which was there at the start, has changed",
    "removed_file": "start/file, which was there at the start, is gone",
    "removed_cwd": "cwd, which was there at the start, is gone",
    "replaced_scratch": "another folder has taken the place of",
    "server_hard_limits": "RLIMIT_NOFILE of process",
    "server_nice": "nice=10",
    # It is seen to have ended by the clean-up ("serves all attempts"), by the next request or by its answer.
    "killed_fork_server": "serve",
    "signalled_fork_server": "serve",
}
CONTAINER = (
    *("shared_memory_file", "system_v_objects", "message_queue", "session_key", "full_disk"),
    *("stopped_server", "killed_server"),
)

Warm = Callable[[str], contextlib.AbstractContextManager[WarmWorker]]


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    """Lends the worker of a kind, or a new one in place of one that has retired or failed a test."""
    workers: dict[str, WarmWorker] = {}
    mark = uuid.uuid4().hex

    @contextlib.contextmanager
    def lend(kind: str) -> Iterator[WarmWorker]:
        worker = workers.pop(kind, None) or WarmWorker(kind, RIVERS_TEST_MARK=mark)
        with contextlib.ExitStack() as failed:
            failed.callback(worker.close)
            yield worker
            if worker.process.poll() is None:
                failed.pop_all()
                workers[kind] = worker

    yield lend
    for worker in workers.values():
        worker.close()
    assert not wait_for_none(lambda: marked(mark))


def sees_none_of_it(worker: WarmWorker) -> None:
    """The next attempt sees what the worker's first one has seen."""
    seen, reply = worker.look()
    assert reply.ready, reply.retires
    assert worker.first_look == seen
    assert "kept" == (worker.outside / "kept").read_text()


def retires(worker: WarmWorker, reply: pb.AckReply, words: str) -> None:
    """The worker takes no more attempts, says why, and ends."""
    assert not reply.ready
    assert words in reply.retires
    worker.ended()


@pytest.mark.parametrize("way", CLEAN)
def test_next_attempt_sees_none_of_it(warm: Warm, way: str) -> None:
    """Whatever an attempt leaves behind, the next one on the same worker sees none of it."""
    with warm("user") as worker:
        leaves_none_of_it(worker, way)


@pytest.mark.parametrize("way", RETIRES)
def test_worker_retires(warm: Warm, way: str) -> None:
    """After a change that cannot be undone the worker takes no more attempts, and says why."""
    with warm("user") as worker:
        _, reply = worker.attempt(way)

        retires(worker, reply, RETIRES[way])


@pytest.mark.parametrize("way", CONTAINER)
def test_container(warm: Warm, way: str) -> None:
    """In a container of its own objects of IPC are removed, and the server, its first process, takes no signal."""
    with warm(container()) as worker:
        leaves_none_of_it(worker, way)


@pytest.mark.parametrize(
    ("way", "words"), [("mount", "another file system is mounted"), ("immutable_file", "Operation not permitted")]
)
def test_container_retires(warm: Warm, way: str, words: str) -> None:
    """A mount, and a file that cannot be removed, end the worker."""
    with warm(container()) as worker:
        result, reply = worker.attempt(way)
        if isinstance(result, StepResult) and result.failure is not None:
            pytest.skip(f"this user cannot do that: {result.failure.message}")

        retires(worker, reply, words)


def test_killed_server(warm: Warm) -> None:
    """An attempt that kills its server ends the worker, and itself."""
    with warm("user") as worker:
        with refused(grpc.StatusCode.UNAVAILABLE):
            worker.attempt("killed_server")

        assert -signal.SIGKILL == worker.ended()


def test_stopped_server(warm: Warm) -> None:
    """A server that an attempt has stopped serves nothing until it is continued, and then none of it is left."""
    with warm("user") as worker:
        worker.attempt_id = uuid.uuid4().hex
        stream = worker.execute(worker.spec("stopped_server", "leaves_behind"))
        until = time.monotonic() + 10
        while (process := read_process(worker.process.pid)) is not None and process.state != "T":
            assert time.monotonic() < until
            time.sleep(0.01)
        worker.process.send_signal(signal.SIGCONT)

        last = numbered(stream)[-1]
        assert worker.ack(last.seq).ready
        sees_none_of_it(worker)


def test_process_of_another_user() -> None:
    """A process that the server may not kill, a stand-in for one in a D state, ends the worker."""
    if os.getuid() != 0:
        pytest.skip("only root can start a process of another user")
    worker = WarmWorker("user+setuid")
    try:
        _, reply = worker.attempt("other_user")
        retires(worker, reply, "processes that cannot be killed")
    finally:
        worker.close()
        kill_marked()


def test_frozen_process() -> None:
    """A process in the freezer, which no signal ends before it is thawed, ends the worker."""
    try:
        group = FREEZER / f"rivers-{uuid.uuid4().hex}"
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup of version 1 to freeze a process in: {error}")
    worker = WarmWorker("user", LEFT_FREEZER=str(group))
    try:
        _, reply = worker.attempt("frozen_child")
        retires(worker, reply, "processes that cannot be killed")
    finally:
        (group / "freezer.state").write_text("THAWED")
        worker.close()
        kill_marked()
        assert not wait_for_none(lambda: (group / "cgroup.procs").read_text().split())
        group.rmdir()


@pytest.mark.long
@pytest.mark.parametrize("way", ["many_zombies", "page_cache"])
def test_heavy(warm: Warm, way: str) -> None:
    """10,000 zombies and 1 GB of page cache are gone before the next attempt."""
    with warm("user") as worker:
        leaves_none_of_it(worker, way)


def leaves_none_of_it(worker: WarmWorker, way: str) -> None:
    """After an attempt that leaves something behind the worker is ready, and the next one sees none of it."""
    result, reply = worker.attempt(way)

    assert isinstance(result, StepResult) and result.failure is None, result
    assert reply.ready, reply.retires
    sees_none_of_it(worker)


def container() -> str:
    """The kind of worker that is in a container."""
    if not can_unshare():
        pytest.skip("this user cannot make PID, mount and IPC namespaces")
    return "container"


def kill_marked() -> None:
    """Kill what a test has left on purpose."""
    for line in marked(os.environ["RIVERS_TEST_MARK"]):
        os.kill(int(line.split()[0]), signal.SIGKILL)
