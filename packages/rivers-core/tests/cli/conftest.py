"""A project folder, and the command line in this process."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rivers_cli.app import app
from rivers_cli.arguments import expand_arguments

sys.path.append(str(Path(__file__).parent))

from cli_project import SHOP, Cli, Ended


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with the module `shop`; what is imported from it is forgotten afterwards."""
    (tmp_path / "shop.py").write_text(SHOP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RIVERS_HOME", raising=False)
    path, level, show = sys.path[:], logging.getLogger().level, warnings.showwarning
    yield tmp_path
    sys.path[:] = path
    logging.getLogger().setLevel(level)
    warnings.showwarning = show
    forget_modules(tmp_path)


def forget_modules(folder: Path) -> None:
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(f"{folder}/"):
            del sys.modules[name]


@pytest.fixture
def cli(project: Path) -> Cli:
    """Run the command line in this process."""

    def invoke(*arguments: str) -> Ended:
        # A command shuts its repository down, and each process has one command.
        forget_modules(project)
        result = CliRunner().invoke(app, expand_arguments(arguments))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ended(result.exit_code, result.stdout, result.stderr)

    return invoke
