"""A full folder in memory: values go to the disk beside it, and are removed when they are no longer needed."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rivers._io.shared.default_store import DefaultStore
from rivers.exceptions import OutputCommitError
from rivers.io_handlers import OutputContext

Out = Callable[..., OutputContext]
Load = Callable[..., Any]


@pytest.fixture
def small_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in memory of 4 MiB, with the disk beside it, as RIVERS_DEFAULT_STORE."""
    folder, disk = tmp_path / "memory", tmp_path / "disk"
    folder.mkdir(), disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a tmpfs needs root and the right to mount")
    monkeypatch.setenv("RIVERS_DEFAULT_STORE", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


class TestFull:
    def store(self) -> tuple[DefaultStore, DefaultStore]:
        owner = DefaultStore()
        owner.share("run1")
        return owner, DefaultStore.model_validate_json(owner.model_dump_json())

    @pytest.mark.parametrize("several", [False, True])
    def test_large_values_go_to_disk(self, small_memory: Path, out: Out, load: Load, several: bool) -> None:
        """A value that would not leave enough free is on disk behind a pointer, committed as every other."""
        owner, there = self.store()
        value = np.arange(500_000)
        if several:
            there.stage(out("k", step="multi"), value)
            assert there.committed("run1", "multi") is None
            there.commit("run1", "multi", "a1", ("k",))
        else:
            there.handle_output(out("k"), value)

        memory_place, disk_place = owner.folders()
        assert 8192 > Path(memory_place, "k.pkl").stat().st_size
        assert 4_000_000 < sum(path.stat().st_size for path in Path(disk_place).iterdir())
        for reader in (owner, there):
            for run in ("run1", None):
                assert np.array_equal(value, load(reader, "k", run))
        assert "a1" == owner.committed("run1", "multi" if several else "k")
        owner.close()
        assert [] == [place for place in (memory_place, disk_place) if os.path.exists(place)]

    def test_small_values_too(self, small_memory: Path, out: Out, load: Load) -> None:
        """When many small values have filled the memory, the next ones are on disk, without an error."""
        owner, there = self.store()
        for number in range(12):
            there.handle_output(out(f"k{number}"), bytes([number]) * 500_000)

        assert 0 < len(os.listdir(owner.folders()[1])) < 12
        assert [bytes([number]) * 500_000 for number in range(12)] == [load(owner, f"k{n}") for n in range(12)]
        owner.close()

    def test_what_no_pointer_leads_to(self, small_memory: Path, out: Out, load: Load) -> None:
        """The end of a run removes values on disk, except the latest ones and those of active runs."""
        owner, there = self.store()
        owner.share("run2")
        for run in ("run1", "run2"):
            there.handle_output(out("k", run), np.full(500_000, int(run[-1])))
        there.stage(out("staged", "run1", step="never"), np.ones(500_000))
        there.stage(out("staged", "run2", step="later"), np.ones(500_000))
        disk = owner.folders()[1]
        assert 4 == len(os.listdir(disk))
        owner.end_run("run1")

        assert 2 == len(os.listdir(disk))
        assert [2, 2] == [load(there, "k", run)[0] for run in ("run2", None)]
        there.commit("run2", "later", "a1", ("staged",))
        owner.end_run("run2")
        assert 2 == len(os.listdir(disk))
        assert [2, 1] == [load(there, key)[0] for key in ("k", "staged")]
        owner.close()

    def test_handed_over(self, small_memory: Path, out: Out, load: Load) -> None:
        """A value of an earlier run that is too large for the memory is handed over on disk, and stays there."""
        owner = DefaultStore()
        owner.handle_output(out("k", "run0"), np.arange(500_000))
        owner.share("run1")
        owner.hand_over("k")
        owner.end_run("run1")

        there = DefaultStore.model_validate_json(owner.model_dump_json())
        assert 499_999 == load(there, "k")[-1]
        owner.close()

    def test_full_disk(self, small_memory: Path, out: Out) -> None:
        """If the disk is full, too, storing raises an OutputCommitError with folder and bytes, and leaves nothing."""
        owner, there = self.store()
        disk = owner.folders()[1]
        command = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", disk]
        subprocess.run(command, check=True)
        try:
            with pytest.raises(
                OutputCommitError, match=rf"no space left to write {disk}/\S+: 8,000,\d+ bytes"
            ) as caught:
                there.handle_output(out("k"), np.ones(1_000_000))
            assert caught.value.retryable
            assert [] == os.listdir(disk)
            assert there.committed("run1", "k") is None
        finally:
            subprocess.run(["umount", "-l", disk], check=True)
        owner.close()
