"""An executor by strangers, as a user gets it: built, installed as a wheel, found by its entry point, and run."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "examples/rivers-executor-subprocess"

ASSETS = """
import os
import rivers as rs

@rs.Asset(io_handler="store", metadata={"rivers/executor": "subprocess"})
def there() -> int:
    return os.getpid()

@rs.Asset(io_handler="store")
def here(there: int) -> bool:
    return there == os.getpid()
"""
PROGRAM = """
import sys
import assets
import rivers as rs

store = rs.PickleIOHandler("store")
repo = rs.CodeRepository(assets=[assets.there, assets.here], resources={"store": store})
assert "rivers_executor_subprocess" not in sys.modules
result = repo.materialize()
print([(step.step, step.executor, str(step.state)) for step in result.steps.values()], repo.load_node("here"))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what installing the package's wheel puts into site-packages."""
    built, site = tmp_path_factory.mktemp("built"), tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(built)]
    subprocess.run(command, cwd=PACKAGE, check=True, capture_output=True)
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(site)
    return site


def run(folder: Path, *paths: Path) -> subprocess.CompletedProcess[str]:
    (folder / "assets.py").write_text(ASSETS)
    # In front of what the session has: without the wheel a package of that name may be there, too, installed for tests.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, paths), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-W", "error", "-c", PROGRAM]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_wheel_is_its_package_and_its_metadata(site: Path) -> None:
    """The wheel brings one import package and the entry point, no tests and nothing that belongs to rivers."""
    assert {"rivers_executor_subprocess", "rivers_executor_subprocess-0.1.0.dist-info"} == {
        path.name for path in site.iterdir()
    }


def test_an_installed_executor_is_used_by_its_name(site: Path, tmp_path: Path) -> None:
    """With nothing but the wheel added, `rivers/executor: "subprocess"` runs a step in a process of that executor."""
    ended = run(tmp_path, site)

    assert "" == ended.stderr
    assert "[('there', 'subprocess', 'succeeded'), ('here', 'in_process', 'succeeded')] False\n" == ended.stdout
