"""The laws of the conformance kit, on a cluster of real processes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from dask_processes import ClusterProcesses
from distributed import Client

import rivers as rs
from rivers.testing import ExecutorConformance
from rivers_executor_dask import DaskExecutor


# A task of Dask that starts an interpreter for each attempt: several minutes for all laws.
@pytest.mark.long
class TestDask(ExecutorConformance):
    address = ""

    @property
    def executor(self) -> DaskExecutor:
        return DaskExecutor(self.address, max_concurrent_steps=2)

    @contextmanager
    def start_service(self) -> Iterator[None]:
        with tempfile.TemporaryDirectory() as folder:
            cluster = ClusterProcesses(Path(folder))
            cluster.add_worker(threads=2)
            self.address = cluster.address
            try:
                yield
            finally:
                cluster.close()

    def leftovers(self) -> list[str]:
        """Return the tasks that the scheduler still has."""
        with Client(self.address, set_as_default=False) as client:
            found = client.run_on_scheduler(lambda dask_scheduler: [str(key) for key in dask_scheduler.tasks])
        return list(found)

    def io_handler(self, tmp_path: Path) -> rs.BaseIOHandler:
        return rs.PickleIOHandler(tmp_path / "store", shared=True)
