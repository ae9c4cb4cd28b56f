"""The conformance kit on a real Slurm: with jobs of their own, and with pilots."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from real_slurm import no_slurm, slurm

import rivers as rs
from rivers.testing import ExecutorConformance
from rivers_executor_slurm import SlurmExecutor

pytestmark = [
    pytest.mark.skipif(no_slurm() is not None, reason=str(no_slurm())),
    pytest.mark.timeout(300),
]


class SlurmConformance(ExecutorConformance):
    """What both have in common; the settings are those that differ."""

    settings: dict[str, Any]
    patience = 60.0
    orphans_end_within = 20.0

    @contextlib.contextmanager
    def start_service(self) -> Iterator[None]:
        with tempfile.TemporaryDirectory() as folder:
            self.folder = Path(folder)
            yield

    @property
    def executor(self) -> SlurmExecutor:
        folder = getattr(self, "folder", None)
        return SlurmExecutor(folder=folder, max_jobs=2, orphan_ttl=5, grace=5, **self.settings)

    def io_handler(self, tmp_path: Path) -> rs.BaseIOHandler:
        return rs.PickleIOHandler(tmp_path, shared=True)

    def leftovers(self) -> list[str]:
        jobs = slurm("squeue", "-h", "-r", "-O", "State:20,STDOUT:500").splitlines()
        ours = [line for line in jobs if str(self.folder) in line and "COMPLETING" not in line]
        return [*ours, *map(str, self.folder.iterdir())]


@pytest.mark.long
class TestJobs(SlurmConformance):
    settings = {"memory": "300Mi"}


class TestPilots(SlurmConformance):
    settings = {"memory": "400Mi", "worker_reuse": "run"}
