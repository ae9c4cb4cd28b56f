"""The folders of the default store: location, permissions and removal with their process."""

from __future__ import annotations

import gc
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rivers._io.shared import room
from rivers._io.shared.default_store import DefaultStore
from rivers._io.shared.machine_space import MachineSpace, choose_bases, is_private, make_space, sweep
from rivers._io.shared.room import Memory, has_room, is_roomy, read_memory
from rivers.exceptions import ConfigurationError
from rivers.io_handlers import OutputContext

Out = Callable[..., OutputContext]
Load = Callable[..., Any]

MIB, GIB = 1 << 20, 1 << 30

HOLDER = """
import signal, sys
from rivers._io.shared.default_store import DefaultStore
from rivers.io_handlers import OutputContext
store = DefaultStore()
store.share("run1")
store.handle_output(OutputContext("k", run_id="run1", step="k", attempt_id="a1"), 1)
print(*store.folders(), flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that RIVERS_DEFAULT_STORE names."""
    folder = tmp_path / "base"
    folder.mkdir()
    monkeypatch.setenv("RIVERS_DEFAULT_STORE", str(folder))
    return folder


@pytest.fixture
def holder() -> Iterator[Callable[[], tuple[subprocess.Popen[str], list[str]]]]:
    """Start a process that has a store with a value in it; returns it and the store's folders."""
    started: list[subprocess.Popen[str]] = []

    def start() -> tuple[subprocess.Popen[str], list[str]]:
        command = [sys.executable, "-c", HOLDER]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline().split()

    yield start
    for process in started:
        process.kill()
        process.communicate()


class TestRoom:
    @pytest.mark.parametrize(
        ("free", "available", "expected"),
        [
            (64 * MIB, 100 * GIB, False),  # a container's usual /dev/shm
            (GIB - 1, 2 * GIB, False),
            (GIB, 2 * GIB - 2, False),
            (GIB, 2 * GIB, True),
            (12 * GIB, 20 * GIB, True),
        ],
    )
    def test_roomy(self, free: int, available: int, expected: bool) -> None:
        """Memory is chosen if one GiB is free in it and two are available, never if that is unknown."""
        assert expected is is_roomy(free, Memory(32 * GIB, available))
        assert not is_roomy(free, None)

    @pytest.mark.parametrize(
        ("size", "free", "available", "expected"),
        [
            (10 * MIB, 42 * MIB, 8 * GIB, True),
            (10 * MIB, 42 * MIB - 1, 8 * GIB, False),
            (GIB, 4 * GIB, 2 * GIB, True),
            (GIB, 4 * GIB, 2 * GIB - 1, False),
        ],
    )
    def test_room_for_one(self, size: int, free: int, available: int, expected: bool) -> None:
        """A value goes to memory while 32 MiB of the folder and an eighth of 8 GiB stay free."""
        assert expected is has_room(size, 4 * GIB, free, Memory(8 * GIB, available))

    def cgroup(self, root: Path, line: str, files: dict[str, str]) -> Path:
        (root / "proc/self").mkdir(parents=True)
        (root / "proc/meminfo").write_text("MemTotal: 8388608 kB\nMemFree: 1 kB\nMemAvailable: 4194304 kB\n")
        (root / "proc/self/cgroup").write_text(f"{line}\n")
        for name, text in files.items():
            file = root / "sys/fs/cgroup" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return root

    def test_memory_of_the_machine(self, tmp_path: Path) -> None:
        """Without a limit, the kernel's numbers for the machine count."""
        files = {"a/memory.max": "max\n", "a/memory.current": "5\n"}

        assert Memory(8 * GIB, 4 * GIB) == read_memory(self.cgroup(tmp_path, "0::/a", files))

    def test_cgroup_v2(self, tmp_path: Path) -> None:
        """The smallest limit of all cgroups above counts, less the memory in use; reclaimable files are not in use."""
        files = {
            "a/memory.max": f"{GIB}\n",
            "a/memory.current": f"{600 * MIB}\n",
            "a/memory.stat": f"anon 1\ninactive_file {100 * MIB}\n",
            "a/b/memory.max": "max\n",
            "a/b/memory.current": "1\n",
        }

        assert Memory(GIB, 524 * MIB) == read_memory(self.cgroup(tmp_path, "0::/a/b", files))

    def test_cgroup_v1(self, tmp_path: Path) -> None:
        """The same in the older layout, where a container's path is the host's and the mount is its own."""
        files = {
            "memory/memory.limit_in_bytes": f"{2 * GIB}\n",
            "memory/memory.usage_in_bytes": f"{GIB}\n",
            "memory/memory.stat": f"inactive_file 7\ntotal_inactive_file {MIB}\n",
        }

        assert Memory(2 * GIB, GIB + MIB) == read_memory(self.cgroup(tmp_path, "5:memory:/docker/abc", files))

    def test_this_machine(self) -> None:
        """This machine has plausible numbers."""
        found = read_memory()
        if found is None:
            pytest.skip("this system has no /proc/meminfo")
        assert 0 < found.available <= found.total


class TestBases:
    def test_in_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without the variable it is memory if that is roomy, else the folder of temporary files."""
        monkeypatch.delenv("RIVERS_DEFAULT_STORE", raising=False)
        if not os.path.isdir("/dev/shm"):
            pytest.skip("this system has no /dev/shm")
        monkeypatch.setattr(room, "LEAST", 0)
        assert "/dev/shm" == choose_bases()[0]
        monkeypatch.setattr(room, "LEAST", 1 << 60)
        assert (tempfile.gettempdir(), None) == choose_bases()

    def test_home_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """RIVERS_DEFAULT_STORE may begin with ~."""
        (tmp_path / "spaces").mkdir()
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("RIVERS_DEFAULT_STORE", "~/spaces")

        assert str(tmp_path / "spaces") == choose_bases()[0]

    def test_variable(self, base: Path) -> None:
        """RIVERS_DEFAULT_STORE is the folder; if it is on the disk of temporary files there is no second one."""
        beside = None if os.stat(base).st_dev == os.stat(tempfile.gettempdir()).st_dev else tempfile.gettempdir()

        assert (str(base), beside) == choose_bases()

    def test_no_such_folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A missing folder is refused when the first run needs it; the error names the variable."""
        monkeypatch.setenv("RIVERS_DEFAULT_STORE", "/no/such/folder")

        with pytest.raises(ConfigurationError, match="RIVERS_DEFAULT_STORE='/no/such/folder'"):
            DefaultStore().share("run1")


class TestPrivate:
    def test_mode_and_name(self, base: Path) -> None:
        """The folder is closed to others whatever the umask, and 128 random bits make its name."""
        before = os.umask(0)
        try:
            first, second = make_space(str(base)), make_space(str(base))
        finally:
            os.umask(before)

        assert {0o700} == {stat.S_IMODE(os.stat(space.path).st_mode) for space in (first, second)}
        assert 32 == len(first.path.rpartition("-")[2])
        assert first.path != second.path
        assert is_private(first.path)
        first.remove(), second.remove()

    @pytest.mark.parametrize("mode", [0o770, 0o707, 0o701])
    def test_open_to_others(self, tmp_path: Path, mode: int) -> None:
        """A folder that anybody else may enter in any way is not private."""
        folder = tmp_path / "open"
        folder.mkdir()
        folder.chmod(mode)

        assert not is_private(str(folder))

    def test_not_ours(self, tmp_path: Path) -> None:
        """Neither is one of another user, nor a link to one of ours, nor a file, nor nothing."""
        ours = tmp_path / "ours"
        ours.mkdir(mode=0o700)
        (tmp_path / "link").symlink_to(ours)
        (tmp_path / "file").touch(0o600)

        assert is_private(str(ours))
        for name in ("link", "file", "nothing"):
            assert not is_private(str(tmp_path / name))
        if os.geteuid() == 0:
            os.chown(ours, 12345, 12345)
            assert not is_private(str(ours))
        else:
            assert not is_private("/")


class TestLifetime:
    def test_garbage(self, base: Path) -> None:
        """The folder is removed when the store is garbage-collected."""
        store = DefaultStore()
        store.share("run1")
        gone = weakref.ref(store)
        assert 1 == len(list(base.iterdir()))
        del store
        gc.collect()

        assert gone() is None
        assert [] == list(base.iterdir())

    def test_exit(self, base: Path, holder: Any) -> None:
        """It is removed at the exit of an interpreter that did not close the store."""
        process, places = holder()
        assert [str(path) for path in base.iterdir()] == places[:1]
        process.communicate("\n", timeout=20)

        assert [] == [place for place in places if os.path.exists(place)]

    def test_killed(self, base: Path, holder: Any) -> None:
        """After a SIGKILL it stays, closed to others, until the next process creates one and removes it."""
        killed, places = holder()
        killed.send_signal(signal.SIGKILL)
        killed.wait(20)
        assert is_private(places[0])
        assert Path(places[0], "k.pkl").exists()
        _, others = holder()

        assert [] == [place for place in places if os.path.exists(place)]
        assert [str(path) for path in base.iterdir()] == others[:1]

    def test_killed_while_it_was_removed(self, base: Path) -> None:
        """One that was being removed when its process died is removed, too."""
        (base / f"rivers-{os.geteuid()}-{'0' * 32}~").mkdir(mode=0o700)
        sweep([str(base)])

        assert [] == list(base.iterdir())

    def test_the_living_are_left_alone(self, base: Path, holder: Any) -> None:
        """Two processes and two stores of one of them do not remove each other's folders."""
        _, first = holder()
        _, second = holder()
        stores = [DefaultStore(), DefaultStore()]
        for store in stores:
            store.share("run1")

        assert len(list(base.iterdir())) == 4
        assert all(Path(places[0], "k.pkl").exists() for places in (first, second))
        for store in stores:
            store.close()
        assert len(list(base.iterdir())) == 2

    def test_many_at_once(self, base: Path) -> None:
        """Of many that make folders and sweep at the same time everyone keeps its own."""
        spaces: list[MachineSpace] = []
        start = threading.Barrier(8)

        def work() -> None:
            start.wait(10)
            for _ in range(20):
                sweep([str(base)])
                spaces.append(make_space(str(base)))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert 160 == len(spaces) == len(list(base.iterdir()))
        for space in spaces:
            space.remove()

    def test_what_is_not_ours_is_left_alone(self, base: Path) -> None:
        """A sweep touches no other names, no links, and nothing that is open to others."""
        prefix = f"rivers-{os.geteuid()}-"
        (base / "data").mkdir(mode=0o700)
        (base / f"{prefix}open").mkdir()
        (base / f"{prefix}open").chmod(0o755)
        (base / f"{prefix}link").symlink_to(base / "data")
        (base / f"{prefix}file").touch()
        sweep([str(base), "/no/such/folder"])

        assert ["data", f"{prefix}file", f"{prefix}link", f"{prefix}open"] == sorted(p.name for p in base.iterdir())

    def test_forked_child(self, base: Path) -> None:
        """A forked child that ends, or closes the store, leaves the parent's folder alone."""
        store = DefaultStore()
        store.share("run1")
        child = os.fork()
        if child == 0:
            store.close()
            os._exit(0)
        os.waitpid(child, 0)

        assert is_private(store.folders()[0])
        store.close()

    def test_removed_by_somebody(self, base: Path, out: Out, load: Load) -> None:
        """If a cleaner has removed the folder, the next shared run creates a new one."""
        store = DefaultStore()
        store.share("run1")
        first = store.folders()[0]
        os.rmdir(first)
        store.share("run2")
        store.handle_output(out("k", "run2"), 1)

        assert store.folders()[0] != first
        assert 1 == load(store, "k")
        store.close()
