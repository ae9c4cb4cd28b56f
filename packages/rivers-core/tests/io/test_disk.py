"""Disks that are full, read-only or lose power; values that are damaged (faults O2, O3, O7, O10)."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import shutil
import subprocess
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rivers.exceptions import InputLoadError, OutputCommitError
from rivers.io_handlers import InputContext, OutputContext, PickleIOHandler

Writer = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a tmpfs needs root and the right to mount")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that a user without rights can walk to: pytest's own is closed to others."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def _out(key: str = "k", attempt_id: str = "a1") -> OutputContext:
    return OutputContext(key, run_id="run1", step=key, attempt_id=attempt_id)


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_disk_full(small_disk: Path) -> None:
    """A full disk raises an OutputCommitError with path and bytes needed; the old value stays, nothing of the new."""
    handler = PickleIOHandler(small_disk)
    handler.handle_output(OutputContext("k", run_id="run0", step="k", attempt_id="a0"), "old")
    handler.end_run("run0")
    before = _files(small_disk)

    with pytest.raises(
        OutputCommitError, match=rf"no space left to write {small_disk}/\S+: 3,000,0\d\d bytes needed"
    ) as caught:
        handler.handle_output(_out(), bytes(3_000_000))

    assert caught.value.retryable
    assert before == _files(small_disk)
    assert "old" == handler.load_input(InputContext("k", run_id="run1"))
    assert 900_000 < os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_bsize
    handler.handle_output(_out(attempt_id="a2"), "fits")
    assert "fits" == handler.load_input(InputContext("k", run_id="run1"))


def test_second_output_does_not_fit(small_disk: Path) -> None:
    """When the second of two outputs does not fit, neither is seen, and discarding gives all space back."""
    handler = PickleIOHandler(small_disk)
    handler.stage(OutputContext("x", run_id="run1", step="multi", attempt_id="a1"), bytes(500_000))
    with pytest.raises(OutputCommitError, match="no space left"):
        handler.stage(OutputContext("y", run_id="run1", step="multi", attempt_id="a1"), bytes(900_000))
    handler.discard("run1", "multi", "a1", ("x", "y"))

    assert [] == _files(small_disk)
    assert handler.committed("run1", "multi") is None


def test_read_only(small_disk: Path) -> None:
    """A read-only file system raises an OutputCommitError that is not retried; stored values can still be read."""
    handler = PickleIOHandler(small_disk)
    handler.handle_output(_out(), "old")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)

    for writer in (handler, PickleIOHandler(small_disk)):
        with pytest.raises(OutputCommitError, match=r"cannot write .*Read-only file system") as caught:
            writer.handle_output(_out(attempt_id="a2"), "new")
        assert not caught.value.retryable
    assert "old" == handler.load_input(InputContext("k"))
    handler.end_run("run1")


def test_no_permission(open_folder: Path, writer: Writer) -> None:
    """A folder without write permission raises an OutputCommitError that is not retried and says what to change."""
    folder = open_folder / "data"
    folder.mkdir(mode=0o555)
    # Root may write anywhere: then a child that has given up its rights tries.
    process = writer("nobody" if os.geteuid() == 0 else "small", folder)
    said, errors = process.communicate(timeout=20)

    assert "retryable=False" in said, said + errors
    assert f"cannot write {folder}" in said
    assert f"make {folder} writable" in said
    assert [] == _files(folder)


def test_latest_not_writable(open_folder: Path, writer: Writer) -> None:
    """Nothing is committed if the latest value could not be published for lack of permission."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to give a folder to somebody else")
    (open_folder / ".rivers" / "runs").mkdir(parents=True)
    for path in (open_folder / ".rivers", open_folder / ".rivers" / "runs"):
        os.chown(path, 65534, 65534)
    said, errors = writer("nobody", open_folder).communicate(timeout=20)

    assert "retryable=False" in said, said + errors
    assert PickleIOHandler(open_folder).committed("run1", "k") is None


@pytest.mark.parametrize("size", [0, 1, 39, 40, 100, 5000, 65535, 65536, 65537])
def test_truncated(tmp_path: Path, size: int) -> None:
    """A truncated value of any length raises an InputLoadError that is not retried and names the key."""
    handler = PickleIOHandler(tmp_path)
    handler.handle_output(_out(), bytes(100_000))
    os.truncate(tmp_path / "k.pkl", size)

    with pytest.raises(InputLoadError, match=r"the value of 'k' is damaged.*cut short") as caught:
        handler.load_input(InputContext("k"))
    assert not caught.value.retryable


def test_flipped(tmp_path: Path) -> None:
    """A changed byte, wherever it is, is found before anything is unpickled; both checksums are named."""
    handler = PickleIOHandler(tmp_path)
    handler.handle_output(_out(), {"a": [1, 2, 3]})
    path = tmp_path / "k.pkl"
    whole = path.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(InputLoadError, match="'k' is damaged") as caught:
            handler.load_input(InputContext("k"))
        assert not caught.value.retryable
    path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    with pytest.raises(InputLoadError, match=r"XXH3-128 expected [0-9a-f]{32}, found [0-9a-f]{32}"):
        handler.load_input(InputContext("k"))


def test_flipped_in_a_large_value(tmp_path: Path) -> None:
    """A value that is read in pieces is checked in whole, before anything is unpickled."""
    handler = PickleIOHandler(tmp_path)
    handler.handle_output(_out(), bytes(1_000_000))
    path = tmp_path / "k.pkl"
    whole = path.read_bytes()
    for place in (0, 1, 262_143, 262_144, 999_999, len(whole) - 60, len(whole) - 10, len(whole) - 1):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(InputLoadError, match="'k' is damaged") as caught:
            handler.load_input(InputContext("k"))
        assert not caught.value.retryable
    for size in (len(whole) - 1, 500_000, 70_000):
        path.write_bytes(whole[:size])
        with pytest.raises(InputLoadError, match=r"'k' is damaged: .* cut short"):
            handler.load_input(InputContext("k"))
    path.write_bytes(whole)
    assert bytes(1_000_000) == handler.load_input(InputContext("k"))


@pytest.mark.parametrize("size", [3, 100_000])
def test_value_of_an_earlier_version(tmp_path: Path, size: int) -> None:
    """A value that was written with a SHA-256 is read and checked as before."""
    names = b"1700000000000000000\na1\nk"
    body = pickle.dumps(bytes(size), 5) + names + len(names).to_bytes(4, "little")
    whole = body + hashlib.sha256(body).digest() + b"RIV1"
    (tmp_path / "k.pkl").write_bytes(whole)
    handler = PickleIOHandler(tmp_path)

    assert bytes(size) == handler.load_input(InputContext("k"))
    (tmp_path / "k.pkl").write_bytes(b"\x00" + whole[1:])
    with pytest.raises(InputLoadError, match=r"SHA-256 expected [0-9a-f]{64}, found [0-9a-f]{64}"):
        handler.load_input(InputContext("k"))


def test_large_values_are_not_copied(tmp_path: Path) -> None:
    """Neither storing nor loading an array takes memory beyond the array itself."""
    numpy = pytest.importorskip("numpy")
    array = numpy.zeros(20_000_000, dtype="u1")
    handler = PickleIOHandler(tmp_path, fsync=False)
    tracemalloc.start()
    try:
        handler.handle_output(_out(), array)
        stored = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        loaded = handler.load_input(InputContext("k"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert (loaded == array).all()
    assert stored < 1_000_000
    assert peak < array.nbytes + 1_000_000


def test_mixed_up(tmp_path: Path) -> None:
    """Another key's value, copied over, is not taken for this one's."""
    handler = PickleIOHandler(tmp_path)
    handler.handle_output(_out("a"), 1)
    handler.handle_output(_out("b"), 2)
    shutil.copy(tmp_path / "a.pkl", tmp_path / "b.pkl")

    with pytest.raises(InputLoadError, match="'b' is damaged: it holds the value of 'a'"):
        handler.load_input(InputContext("b"))


def test_class_is_gone(tmp_path: Path) -> None:
    """A value whose class cannot be imported any more is an InputLoadError with the reason, not retried."""
    handler = PickleIOHandler(tmp_path)
    handler.handle_output(_out(), _Gone())
    cls = globals().pop("_Gone")
    try:
        with pytest.raises(InputLoadError, match=r"cannot be unpickled: AttributeError: .*_Gone") as caught:
            handler.load_input(InputContext("k"))
    finally:
        globals()["_Gone"] = cls
    assert not caught.value.retryable


class _Gone:
    pass


def test_damaged_marker(tmp_path: Path) -> None:
    """An unreadable commit raises an error; it does not count as no commit."""
    handler = PickleIOHandler(tmp_path)
    handler.handle_output(_out(), 1)
    os.truncate(tmp_path / ".rivers/runs/run1/k.pkl", 3)

    with pytest.raises(OutputCommitError, match="cut short"):
        handler.committed("run1", "k")
    handler.end_run("run1")
    assert [] == list((tmp_path / ".rivers/runs").iterdir())


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_order_on_disk(tmp_path: Path, writer: Writer) -> None:
    """The file is on disk before it is committed and published, and the publication is on disk before the end."""
    log = tmp_path / "log"
    trace = ("strace", "-y", "-o", str(log), "-e", "trace=openat,write,fsync,link,rename,unlink")
    process = writer("once", tmp_path / "data", under=trace)
    said, errors = process.communicate(timeout=50)
    if "ptrace" in errors:
        pytest.skip("this machine does not allow ptrace")
    assert "stored" in said, errors
    data = str(tmp_path / "data")
    calls = [line for line in log.read_text().splitlines() if data in line and "mkdir" not in line]
    run = f"{data}/.rivers/runs/run1"
    expected = [
        rf'openat\(.*"{run}/a1~k", O_WRONLY\|O_CREAT\|O_EXCL',
        rf"write\(\d+<{run}/a1~k>",
        rf"fsync\(\d+<{run}/a1~k>\) += 0",
        rf'link\("{run}/a1~k", "{run}/k.pkl"\) += 0',
        rf'rename\("{run}/a1~k", "{data}/k.pkl"\) += 0',
        rf"fsync\(\d+<{data}>\) += 0",
    ]
    start = next(number for number, line in enumerate(calls) if "a1~k" in line and "= -1" not in line)
    done = [line for line in calls[start:] if "O_DIRECTORY" not in line]

    assert len(expected) == len(done), done
    for pattern, line in zip(expected, done, strict=True):
        assert re.match(pattern, line), (pattern, line)
