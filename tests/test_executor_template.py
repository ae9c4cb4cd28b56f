"""The template of an executor as its author uses it: copied, renamed, installed beside the wheel of rivers, green."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEMPLATE = ROOT / "examples/executor-template"


def run(folder: Path, *command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program that finds nothing of this session, and fail with its output."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST", "RIVERS"))}
    ended = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert 0 == ended.returncode, f"{ended.stdout[-8000:]}\n{ended.stderr[-4000:]}"
    return ended


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of rivers-core."""
    folder = tmp_path_factory.mktemp("wheels")
    command = (sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder)
    run(ROOT / "packages/rivers-core", *command)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """The interpreter of a fresh environment with pip, which finds this session's libraries and none of its packages.

    A folder in a .pth file is not searched for further .pth files, which are how editable packages are found.
    """
    folder = tmp_path / "environment"
    venv.create(folder, with_pip=True, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin/python"


def renaming() -> str:
    """Return the commands of the README that give the copy another name."""
    found = re.search(r"\n\n((?: {8}\S.*\n)+)", (TEMPLATE / "README.md").read_text(encoding="utf-8"))
    assert found is not None
    return re.sub(r"(?m)^ {8}", "", found[1])


@pytest.mark.timeout(300)
def test_copied_renamed_and_green(tmp_path: Path, wheel: Path, python: Path) -> None:
    """A copy with another name installs beside rivers-core's wheel, is found by its name, and passes its own tests."""
    copy = tmp_path / "copy"
    shutil.copytree(TEMPLATE, copy, ignore=shutil.ignore_patterns("__pycache__", ".*_cache"))
    run(copy, "bash", "-euc", renaming())
    left = [
        path for path in copy.rglob("*") if path.is_file() and re.search("acme", path.read_text() + path.name, re.I)
    ]
    assert [] == left

    alone = ("--no-index", "--no-deps", "--no-build-isolation", "--quiet")
    run(copy, python, "-m", "pip", "install", *alone, wheel, copy)
    where = run(copy, python, "-c", "import rivers, rivers_executor_mine as m; print(rivers.__file__, m.__file__)")
    assert 2 == where.stdout.count(str(tmp_path / "environment"))

    ended = run(copy, python, "-m", "pytest", "-p", "no:cacheprovider", "--rivers-report", "report.json")
    assert re.search(r"\d+ passed", ended.stdout)
    assert (copy / "report.json").is_file()
