"""rivers as a user gets it: the wheels of core, worker and executors, and a program outside the repository."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = (
    "rivers-core",
    "rivers-executor-dask",
    "rivers-executor-k8s",
    "rivers-executor-parallel",
    "rivers-executor-slurm",
    "rivers-executor-ssh",
    "rivers-k8s-testing",
    "rivers-worker",
)

WHERE = """
import rivers
import rivers as rs

@rs.Asset
def packages() -> list[str]:
    import rivers_executor_parallel
    return [rivers.__file__, rivers_executor_parallel.__file__]
"""
PROGRAM = """
import os
import assets
import rivers as rs

with rs.CodeRepository(assets=[assets.packages], default_executor=rs.Executor.parallel(max_workers=1)) as repo:
    step = repo.materialize().steps["packages"]
    assert step.worker != f"pid {os.getpid()}"
    print(*assets.packages(), *repo.load_node("packages"), sep="\\n")
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what installing the wheels puts into site-packages."""
    site = tmp_path_factory.mktemp("site")
    for package in PACKAGES:
        built = tmp_path_factory.mktemp(package)
        command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(built)]
        subprocess.run(command, cwd=ROOT / "packages" / package, check=True, capture_output=True)
        (wheel,) = built.glob("*.whl")
        with zipfile.ZipFile(wheel) as opened:
            opened.extractall(site)
    return site


def run(program: str, folder: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Run a script with the wheels in front of what the session has, which may be the same packages, editable."""
    (folder / "program.py").write_text(program)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-W", "error", "program.py"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_wheels_do_not_overlap(site: Path) -> None:
    """Each wheel brings its own import packages and metadata, and no file of another's."""
    names = {
        "cli",
        "executor_dask",
        "executor_k8s",
        "executor_parallel",
        "executor_slurm",
        "executor_ssh",
        "k8s_testing",
        "process",
        "pytest",
        "worker",
    }
    assert {"rivers", *(f"rivers_{name}" for name in names)} == {
        path.name for path in site.iterdir() if path.suffix != ".dist-info"
    }


def test_both_sides_run_the_wheels(site: Path, tmp_path: Path) -> None:
    """The program and its workers import rivers and the executor from the installed wheels."""
    (tmp_path / "assets.py").write_text(WHERE)
    ended = run(PROGRAM, tmp_path, site)

    assert (0, "") == (ended.returncode, ended.stderr)
    assert 2 * [f"{site}/{name}/__init__.py" for name in ("rivers", "rivers_executor_parallel")] == (
        ended.stdout.splitlines()
    )


@pytest.mark.parametrize("readme", ["README.md", *(f"packages/{package}/README.md" for package in PACKAGES)])
def test_readmes_run(site: Path, tmp_path: Path, readme: str) -> None:
    """What a README shows runs as one script, prints nothing, warns of nothing and leaves no file.

    A block with a title is a file that the others import.
    """
    fence = r"^```python(?: title=\"(\S+)\")?\n(.*?)^```$"
    blocks = re.findall(fence, (ROOT / readme).read_text(), re.DOTALL | re.MULTILINE)
    files = {name: text for name, text in blocks if name}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    ended = run("\n".join(text for name, text in blocks if not name), tmp_path, site)

    assert blocks
    assert (0, "", "") == (ended.returncode, ended.stdout, ended.stderr)
    assert {"program.py", *files} == {path.name for path in tmp_path.iterdir()} - {"__pycache__"}
