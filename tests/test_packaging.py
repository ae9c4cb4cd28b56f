"""What is built and installed: the files in the distributions, their metadata, and the package alone.

`nox -s package` builds one package and runs this file in a clean environment that has only its wheel: it says which
package by RIVERS_PACKAGE and where the built files are by RIVERS_BUILT. Without them the files are built here.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))
JUDGED = [path for path in PACKAGES if path.name == os.environ.get("RIVERS_PACKAGE", path.name)]
EXECUTORS = (
    "rivers_executor_dask",
    "rivers_executor_parallel",
    "rivers_executor_slurm",
    "rivers_executor_ssh",
    "rivers_executor_k8s",
    "rivers_k8s_testing",
    "rivers_worker",
)
LIBRARIES = (
    "typer",
    "rich",
    "yaml",
    "obstore",
    "google.protobuf",
    "cloudpickle",
    "distributed",
    "loky",
    "kubernetes",
    "opentelemetry",
    "grpc",
    "aiohttp",
    "numpy",
    "pandas",
)
DEPENDENCIES = {
    "rivers-core": ["msgspec", "pydantic", "pydantic-settings", "typing-extensions", "xxhash"],
    "rivers-executor-dask": ["distributed", "msgspec", "rivers-core"],
    "rivers-executor-k8s": ["aiohttp", "kubernetes", "msgspec", "pyyaml", "rivers-core", "rivers-worker", "yarl"],
    "rivers-executor-parallel": ["cloudpickle", "loky", "msgspec", "rivers-core"],
    "rivers-executor-slurm": ["rivers-core", "rivers-worker"],
    "rivers-executor-ssh": ["rivers-core", "rivers-worker"],
    "rivers-k8s-testing": ["msgspec", "rivers-worker"],
    "rivers-worker": ["cryptography", "grpcio", "rivers-core[protobuf]"],
}
KINDS = {
    "rivers-executor-dask": "dask",
    "rivers-executor-k8s": "kubernetes",
    "rivers-executor-parallel": "parallel",
    "rivers-executor-slurm": "slurm",
    "rivers-executor-ssh": "ssh",
}


class Built(NamedTuple):
    package: Path
    wheel: list[str]
    sdist: list[str]


def project(package: Path) -> dict[str, object]:
    table: dict[str, object] = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    return table


def ours_in(name: str) -> set[str]:
    """A package of the workspace and those that it needs, directly or not."""
    direct = {re.split(r"[^\w-]", line)[0] for line in DEPENDENCIES[name]} & set(DEPENDENCIES)
    return {name}.union(*map(ours_in, direct))


@pytest.fixture(scope="module", params=JUDGED, ids=lambda path: path.name)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    package: Path = request.param
    folder = Path(os.environ.get("RIVERS_BUILT") or tmp_path_factory.mktemp(package.name))
    if "RIVERS_BUILT" not in os.environ:
        command = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)]
        subprocess.run(command, cwd=package, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    (sdist,) = folder.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as opened, tarfile.open(sdist) as archive:
        # The first part of an sdist's paths is its name and version.
        inside = [path.partition("/")[2] for path in archive.getnames()]
        return Built(package, sorted(opened.namelist()), sorted(inside))


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program as a stranger would: isolated from this folder and from the environment's settings."""
    command = [sys.executable, "-I", "-W", "error", "-c", code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_wheel_is_the_source_and_nothing_else(built: Built) -> None:
    """A wheel holds every file below src/ once, and beside it only its own metadata."""
    src = built.package / "src"
    files = {str(path.relative_to(src)) for path in src.rglob("*") if path.is_file() and path.suffix != ".pyc"}

    assert files == {name for name in built.wheel if ".dist-info/" not in name}


def test_the_wheel_says_that_it_is_typed_and_how_it_is_licensed(built: Built) -> None:
    """py.typed and the licence's text are in the wheel."""
    name = project(built.package)["name"]
    top = str(name).replace("-", "_") if name != "rivers-core" else "rivers"

    assert f"{top}/py.typed" in built.wheel
    assert [True] == [path.endswith("/LICENSE") for path in built.wheel if "/licenses/" in path]


def test_the_sdist_is_the_allowlist(built: Built) -> None:
    """An sdist holds the source, the changelog and what a build needs, and nothing else of the working tree."""
    beside = {path for path in built.sdist if not path.startswith("src/")}

    # Hatchling adds the ignore file, so that a wheel built from the sdist leaves out the same files.
    assert {"CHANGELOG.md", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml"} == beside - {".gitignore"}
    assert {path for path in built.wheel if ".dist-info/" not in path} == {
        path.removeprefix("src/") for path in built.sdist if path.startswith("src/")
    }


def test_versions_are_equal() -> None:
    """All packages of the workspace carry the same version."""
    assert 1 == len({str(project(package)["version"]) for package in PACKAGES})


def test_licences_are_equal() -> None:
    """Every package carries the workspace's licence, word for word."""
    assert {(ROOT / "LICENSE").read_text()} == {(package / "LICENSE").read_text() for package in PACKAGES}


def test_every_package_has_a_changelog_that_towncrier_can_extend() -> None:
    """Every package has CHANGELOG.md with towncrier's mark, and a folder for fragments."""
    for package in PACKAGES:
        assert "<!-- towncrier release notes start -->" in (package / "CHANGELOG.md").read_text()
        assert (package / "changes" / "README.md").is_file()


@pytest.mark.parametrize("package", JUDGED, ids=lambda path: path.name)
def test_the_installed_metadata_is_the_projects(package: Path) -> None:
    """What is installed is what pyproject.toml says: version, Python, licence, and few dependencies."""
    found = metadata.metadata(package.name)
    required = [line for line in metadata.requires(package.name) or [] if "extra ==" not in line]

    assert project(package)["version"] == found["Version"]
    assert ">=3.11" == found["Requires-Python"]
    assert "Apache-2.0" == found["License-Expression"]
    assert DEPENDENCIES[package.name] == sorted(re.split("[~>!]", line)[0] for line in required)


def test_the_core_has_an_extra_for_each_executor() -> None:
    """The extras of rivers-core are the executors' packages and what some users need."""
    found = metadata.metadata("rivers-core")

    executors = ["dask", "kubernetes", "parallel", "slurm", "ssh"]
    extras = sorted([*executors, "cli", "objectstore", "otel", "otel-grpc", "protobuf"])
    assert extras == sorted(found.get_all("Provides-Extra") or [])


@pytest.mark.parametrize("package", [path.name for path in JUDGED if path.name in KINDS])
def test_an_executor_is_found_by_its_entry_point(package: str) -> None:
    """An installed executor package registers one backend, under its executor's kind, and that can be loaded."""
    (entry,) = metadata.entry_points(group="rivers.executors", name=KINDS[package])

    assert package.replace("-", "_") == entry.module.partition(".")[0]
    assert KINDS[package] == entry.load().executor_type.kind


@pytest.mark.skipif("rivers-worker" not in {path.name for path in JUDGED}, reason="not installed here")
def test_the_worker_is_a_command() -> None:
    """Installing rivers-worker gives the command that images start, and asking it for its version needs no settings."""
    command = Path(sysconfig.get_path("scripts"), "rivers-worker")
    ended = subprocess.run([command, "--version"], capture_output=True, text=True, check=False, timeout=30)

    assert (0, "") == (ended.returncode, ended.stderr)
    assert metadata.version("rivers-worker") in ended.stdout


def test_importing_rivers_loads_no_optional_dependency(tmp_path: Path) -> None:
    """`import rivers` works without any extra, and loads none that is installed, nor an executor's package."""
    optional = (*LIBRARIES, *EXECUTORS)
    ended = run(f"import sys, rivers; print([name for name in {optional!r} if name in sys.modules])", tmp_path)

    assert "[]\n" == ended.stdout, ended.stderr


def test_the_documented_names_exist(tmp_path: Path) -> None:
    """Every name in the `__all__` of each public module is there."""
    code = """
import importlib
for module in ("", ".exceptions", ".io_handlers", ".protocol", ".spi", ".testing"):
    loaded = importlib.import_module("rivers" + module)
    missing = [name for name in loaded.__all__ if not hasattr(loaded, name)]
    assert loaded.__all__ and not missing, (module, missing)
"""
    ended = run(code, tmp_path)

    assert 0 == ended.returncode, ended.stderr


@pytest.mark.parametrize("package", JUDGED, ids=lambda path: path.name)
def test_the_readme_runs_outside_the_repository(package: Path, tmp_path: Path) -> None:
    """The example of a package's README runs from any folder, prints nothing and warns of nothing."""
    (example,) = re.findall(r"^```python\n(.*?)^```$", (package / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    ended = run(example, tmp_path)

    assert re.search(r"\b(materialize|execute|wait_for)\(", example)
    assert (0, "", "") == (ended.returncode, ended.stdout, ended.stderr)


@pytest.mark.skipif("RIVERS_PACKAGE" not in os.environ, reason="only in the clean environment of `nox -s package`")
def test_what_is_installed_is_the_wheel_alone(tmp_path: Path) -> None:
    """In the clean environment rivers comes from site-packages; of the workspace, what the package needs is there."""
    ended = run("import rivers; print(rivers.__file__)", tmp_path)

    assert "site-packages" in ended.stdout, ended.stderr
    assert ours_in(os.environ["RIVERS_PACKAGE"]) == set(DEPENDENCIES) & {
        found.name for found in metadata.distributions()
    }
