"""Tests of the clean-up alone, in a process that stands in for a worker's server: the faults are real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from warm_worker import free_port

from rivers_worker.clean_up.scratch import ScratchFolder

HERE = Path(__file__).parent
PROCESSES = (
    *("child", "child_of_shell", "session", "double_fork", "stopped_child", "deaf_child", "nested_subreapers"),
    *("process_groups", "traced_child", "headless_child", "zombies", "fork_bomb", "runaway", "pid_namespace"),
    *("lock_of_a_child", "abstract_socket", "tcp_port"),
)
FILES = (
    *("file_in_scratch", "file_in_tmp", "file_in_cwd", "odd_names", "many_files", "deep_tree", "closed_folders"),
    *("links_to_outside", "fifo_and_socket", "sparse_file", "scratch_mode", "setgid_folder"),
)
STATE = (
    *("nonblocking_output", "output_flags", "output_lock", "output_position", "server_soft_limits", "server_cpus"),
    *("server_io_priority", "server_policy", "stopped_fork_server"),
)

CPUSETS = Path("/sys/fs/cgroup/cpuset")
LOSES_A_CPU = """
import os, sys, time
from pathlib import Path
from rivers_worker.clean_up import CleanUp

group = Path(sys.argv[1])
(group / "cgroup.procs").write_text(str(os.getpid()))
clean_up = CleanUp([], list)
first, *_ = (group / "cpuset.cpus").read_text().split(",")[0].split("-")
(group / "cpuset.cpus").write_text(first)
print(clean_up.run(time.monotonic() + 5.0), len(os.sched_getaffinity(0)))
"""

Leave = Callable[..., dict[str, str | None]]


@pytest.fixture
def leave(tmp_path: Path, nothing_is_left: str) -> Iterator[Leave]:
    """Leaves something behind in each of these ways, one after the other; returns the reason after each clean-up."""
    scratch, outside, notes = tmp_path / "scratch", tmp_path / "outside", tmp_path / "notes"
    for folder in (scratch / "start", scratch / "cwd", outside):
        folder.mkdir(parents=True)
    (scratch / "start" / "file").write_text("stays")
    (outside / "kept").write_text("kept")

    def leave(*ways: str) -> dict[str, str | None]:
        given = {
            "LEFT_SCRATCH": str(scratch),
            "LEFT_OUTSIDE": str(outside),
            "LEFT_PORT": str(free_port()),
            "TMPDIR": str(scratch),
            "RIVERS_TEST_NOTES": str(notes),
        }
        command = [sys.executable, str(HERE / "clean_up_process.py"), *ways]
        with (tmp_path / "output").open("w") as output:
            subprocess.run(command, check=True, env={**os.environ, **given}, stdout=output, timeout=60)
        return {way: reason for way, reason, _ in map(json.loads, notes.read_text().splitlines())}

    yield leave
    assert "kept" == (outside / "kept").read_text()


@pytest.mark.parametrize("ways", [PROCESSES, FILES, STATE], ids=["processes", "files", "state"])
def test_nothing_is_left(leave: Leave, tmp_path: Path, ways: tuple[str, ...]) -> None:
    """After each way to leave something behind there is no reason to retire, and the scratch folder is as before."""
    assert dict.fromkeys(ways) == leave(*ways)
    left = [str(path.relative_to(tmp_path / "scratch")) for path in (tmp_path / "scratch").rglob("*")]
    assert ["cwd", "start", "start/file"] == sorted(left)
    assert "stays" == (tmp_path / "scratch" / "start" / "file").read_text()


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("changed_file", "start/file, which was there at the start, has changed"),
        ("removed_file", "start/file, which was there at the start, is gone"),
        ("removed_cwd", "cwd, which was there at the start, is gone"),
        ("replaced_scratch", "another folder has taken the place of"),
        ("killed_fork_server", "which serves all attempts, has ended"),
    ],
)
def test_reason(leave: Leave, way: str, words: str) -> None:
    """A change that cannot be undone gives a reason, which names it."""
    assert words in (leave(way)[way] or "")


def test_mounts_below(tmp_path: Path) -> None:
    """What is mounted below a scratch folder is not emptied, on the same device neither; all around it is."""
    scratch, volume = tmp_path / "scratch", tmp_path / "volume"
    mounted = scratch / "deep" / "mounted"
    mounted.mkdir(parents=True)
    volume.mkdir()
    if subprocess.run(["mount", "--bind", str(volume), str(mounted)], check=False, capture_output=True).returncode:
        pytest.skip("this user may not mount")
    try:
        folder = ScratchFolder(scratch)
        for place in (scratch, scratch / "deep", mounted):
            (place / "new").write_text("new")

        assert [] == list(folder.empty(time.monotonic() + 5.0))
        assert [mounted / "new"] == list(scratch.rglob("new"))
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


def test_fewer_cpus() -> None:
    """A worker does not retire because its cpuset has lost a CPU, as those of pods do while other pods start."""
    group = CPUSETS / f"rivers-{uuid.uuid4().hex}"
    try:
        group.mkdir()
        for name in ("cpuset.mems", "cpuset.cpus"):
            (group / name).write_text((CPUSETS / name).read_text())
    except OSError as error:
        pytest.skip(f"no cpuset of version 1 to take a CPU from: {error}")
    try:
        command = [sys.executable, "-c", LOSES_A_CPU, str(group)]
        assert "None 1" == subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    finally:
        group.rmdir()
