"""Tests of the conformance kit on two hosts."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback import Loopback, missing_program, wait_for

import rivers as rs
from rivers.testing import ExecutorConformance
from rivers_executor_ssh import SshExecutor


@pytest.mark.skipif(bool(missing_program()), reason=missing_program() or "sshd is there")
class TestSsh(ExecutorConformance):
    orphans_end_within = 20.0

    @contextlib.contextmanager
    def start_service(self) -> Iterator[None]:
        with tempfile.TemporaryDirectory(prefix="rivers-hosts-") as folder:
            self.hosts = Loopback(Path(folder))
            try:
                self.hosts.add("a")
                self.hosts.add("b")
                yield
            finally:
                self.hosts.close()

    @property
    def executor(self) -> SshExecutor:
        return SshExecutor(
            ["a", "b"],
            python=sys.executable,
            config=self.hosts.config,
            max_workers_per_host=2,
            orphan_ttl=15,
            grace=1,
            env={"PYTHONPATH": ":".join(filter(None, sys.path))},
        )

    def leftovers(self) -> list[str]:
        # ssh ends a little before the session that it has held on the host.
        return [
            line
            for host in self.hosts.hosts
            if not wait_for(lambda host=host: not host.left(), 3)
            for line in host.left()
        ]

    def io_handler(self, tmp_path: Path) -> rs.BaseIOHandler:
        return rs.PickleIOHandler(tmp_path / "values", shared=True)
