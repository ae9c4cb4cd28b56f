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

pytestmark = pytest.mark.timeout(240)


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
        timeout=230,
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


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with pip, which finds this session's libraries and none of its packages.

    A folder in a .pth file is not searched for further .pth files, which are how editable packages are found.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def renaming() -> str:
    """Return the commands of the README that give the copy another name."""
    found = re.search(r"\n\n((?: {8}\S.*\n)+)", (TEMPLATE / "README.md").read_text(encoding="utf-8"))
    assert found is not None
    return re.sub(r"(?m)^ {8}", "", found[1])


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the template with another name."""
    copy = tmp_path_factory.mktemp("copied") / "copy"
    shutil.copytree(TEMPLATE, copy, ignore=shutil.ignore_patterns("__pycache__", ".*_cache"))
    run(copy, "bash", "-euc", renaming())
    return copy


# One test for each stage, as pytest's faulthandler ends a session whose test takes 90 s.


def test_renamed(copy: Path) -> None:
    """Nothing in the copy has the old name."""
    files = [path for path in copy.rglob("*") if path.is_file()]

    assert len(files) > 8
    assert [] == [path for path in files if re.search("acme", path.read_text() + path.name, re.IGNORECASE)]


def test_environment(environment: Path) -> None:
    """The environment finds the libraries of this session, and no rivers."""
    libraries = run(environment, environment / "bin/python", "-c", "import msgspec, pytest")
    assert "" == libraries.stdout
    with pytest.raises(AssertionError, match="No module named 'rivers'"):
        run(environment, environment / "bin/python", "-c", "import rivers")


def test_installed(copy: Path, wheel: Path, environment: Path) -> None:
    """The copy installs beside rivers-core's wheel, and both are imported from the environment."""
    python = environment / "bin/python"
    alone = ("--no-index", "--no-deps", "--no-build-isolation", "--quiet")
    run(copy, python, "-m", "pip", "install", *alone, wheel, copy)
    where = run(copy, python, "-c", "import rivers, rivers_executor_mine as m; print(rivers.__file__, m.__file__)")

    assert 2 == where.stdout.count(str(environment))


FEW_LAWS = "one-result or exception-type or no-process-left"


@pytest.mark.parametrize(
    ("file", "laws"),
    [
        ("test_executor.py", ""),
        ("test_conformance.py", FEW_LAWS),
        # A minute of two cores.
        pytest.param("test_conformance.py", "", marks=pytest.mark.long),
    ],
)
def test_green(copy: Path, environment: Path, file: str, laws: str) -> None:
    """The tests of the copy pass, the quick laws among them."""
    options = ("-p", "no:cacheprovider", "-n", "2", "--rivers-report", "report.json", "-k", laws)
    ended = run(copy, environment / "bin/python", "-m", "pytest", *options, f"tests/{file}")

    assert re.search(r"\d+ passed", ended.stdout)
