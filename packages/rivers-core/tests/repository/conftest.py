"""An executor package as a third party would publish it: a module and the metadata of an installed distribution."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest

from rivers._executor.registry import installed

MODULE = """
from dataclasses import dataclass

import rivers as rs
from rivers import spi


@dataclass(frozen=True)
class Here(rs.Executor):
    kind = {kind!r}
    lane: str = "default"


class Backend(spi.ExecutorBackend):
    executor_type = {executor}

    @property
    def capabilities(self):
        return spi.Capabilities(
            blocking=True, closures={closures!r}, reach=spi.Reach.{reach}, isolation="none", timeout="none"
        )

    def open(self, run, emit):
        self.emit = emit
        self.runner = spi.Runner(emit, local=run.local, keep_error=run.keep_error, worker=repr(self.executor))

    def submit(self, spec):
        self.emit(self.runner.run_step(spec))

    def cancel(self, attempt_id, grace):
        self.runner.stop(attempt_id)

    def close(self, deadline):
        self.runner.close()
"""

Install = Callable[..., type]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install an executor package of a kind; returns its Executor class. The backend runs steps in this process."""
    made: list[str] = []

    def install(
        kind: str,
        executor: str = "Here",
        closures: str = "local",
        reach: str = "PROCESS",
        source: str = MODULE,
        spi_version: object = None,
    ) -> type:
        name = f"rivers_test_{kind}"
        site = tmp_path / name
        info = site / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        text = source.format(kind=kind, executor=executor, closures=closures, reach=reach)
        if spi_version is not None:
            text += f"    spi_version = {spi_version!r}\n"
        (site / f"{name}.py").write_text(textwrap.dedent(text))
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[rivers.executors]\n{kind} = {name}:Backend\n")
        monkeypatch.syspath_prepend(str(site))
        installed.cache_clear()
        made.append(name)
        found: type = import_module(name).Here if source is MODULE else object
        return found

    yield install
    for name in made:
        sys.modules.pop(name, None)
    installed.cache_clear()
