"""Tests of copying the project to a host, and of its environment there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from loopback import Loopback

import rivers as rs
from rivers.exceptions import GraphValidationError
from rivers_executor_ssh import SshExecutor

Make = Callable[..., SshExecutor]

needs_rsync = pytest.mark.skipif(shutil.which("rsync") is None, reason="needs rsync, which is not on this machine")
MODULE = "import rivers as rs\nimport os\n\n\n@rs.Asset\ndef place() -> str:\n    return f'{os.getcwd()} WORD'\n"


def git(project: Path, *words: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=n", "-c", "user.email=e", *words], cwd=project, check=True, capture_output=True
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A git repository with a package in a folder, an ignored file and one that git does not know."""
    top = tmp_path / "top"
    project = top / "project"
    project.mkdir(parents=True)
    (project / "synced_steps.py").write_text(MODULE)
    (project / ".gitignore").write_text("*.log\n")
    (top / "above.txt").write_text("not in the project")
    git(top, "init", "-q")
    git(top, "add", ".")
    git(top, "commit", "-qm", "first")
    (project / "a.log").write_text("ignored")
    (project / "new.txt").write_text("unknown to git")
    return project


@pytest.fixture
def cache(loopback: Loopback, tmp_path: Path) -> Path:
    """The cache of a host, which no other test has."""
    folder = tmp_path / "cache"
    # Login shells get no other variables than sshd's own.
    loopback.add("a", options="AcceptEnv XDG_*\n").config.write_text(
        loopback.hosts[0].config.read_text().replace("PYTHONDONTWRITEBYTECODE=1", f"XDG_CACHE_HOME={folder}")
    )
    loopback.hosts[0].stop()
    loopback.hosts[0].start()
    return folder / "rivers" / "ssh"


def run(executor: SshExecutor, project: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the project's step, and return its value."""
    monkeypatch.syspath_prepend(str(project))
    sys.modules.pop("synced_steps", None)
    import synced_steps

    repo = rs.CodeRepository(
        assets=[synced_steps.place],
        default_executor=executor,
        default_io_handler=rs.PickleIOHandler(folder / "store", shared=True),
    )
    repo.materialize()
    return str(repo.load_node("place"))


def trees(cache: Path) -> dict[str, set[str]]:
    return {str(tree): {path.name for path in tree.iterdir()} - {"__pycache__"} for tree in cache.glob("*/tree")}


def test_git(
    loopback: Loopback, executor: Make, project: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tracked files arrive with their uncommitted changes, once for each content."""
    (project / "synced_steps.py").write_text(MODULE.replace("WORD", "changed"))
    given = executor(sync="git", project=project, cwd=None, env={"PYTHONPATH": str(tmp_path.parent)})
    given = executor(
        sync="git", project=project, cwd=None, env={"PYTHONPATH": str(Path(__file__).parent / "user_code")}
    )
    first = run(given, project, tmp_path, monkeypatch)

    ((folder, names),) = trees(cache).items()
    assert f"{folder} changed" == first
    assert {".gitignore", "synced_steps.py"} == names

    made = os.stat(f"{folder}/synced_steps.py").st_ctime_ns
    assert first == run(given, project, tmp_path, monkeypatch)
    assert made == os.stat(f"{folder}/synced_steps.py").st_ctime_ns
    assert (
        "" == subprocess.run(["git", "stash", "list"], cwd=project, check=True, capture_output=True, text=True).stdout
    )

    (project / "synced_steps.py").write_text(MODULE.replace("WORD", "again"))
    assert run(given, project, tmp_path, monkeypatch).endswith(" again")
    assert 2 == len(trees(cache))


@needs_rsync
def test_rsync(
    loopback: Loopback, executor: Make, project: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All files arrive that are not ignored, whether git knows them or not."""
    env = {"PYTHONPATH": str(Path(__file__).parent / "user_code")}
    given = executor(sync="rsync", project=project, cwd=None, env=env)
    first = run(given, project, tmp_path, monkeypatch)

    ((folder, names),) = trees(cache).items()
    assert f"{folder} WORD" == first
    assert {".gitignore", "synced_steps.py", "new.txt"} == names

    assert first == run(given, project, tmp_path, monkeypatch)
    assert 1 == len(trees(cache))
    (project / "new.txt").write_text("another text")
    run(given, project, tmp_path, monkeypatch)
    assert 2 == len(trees(cache))


def test_environment(
    loopback: Loopback, executor: Make, project: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the host has uv, the project's environment is made, and its interpreter is the one that is used."""
    home = tmp_path / "home"
    uv = home / ".local" / "bin" / "uv"
    uv.parent.mkdir(parents=True)
    # A stand-in for uv, which would download packages: it notes its arguments, and links an interpreter.
    uv.write_text(
        f'#!/bin/sh\necho "$PWD $*" >>{home}/calls\nmkdir -p .venv/bin\n'
        f"printf '#!/bin/sh\\nexec {sys.executable} \"$@\"\\n' >.venv/bin/python\nchmod +x .venv/bin/python\n"
    )
    uv.chmod(0o755)
    host = loopback.hosts[0]
    host.config.write_text(host.config.read_text().replace("XDG_CACHE_HOME=", f"HOME={home} XDG_CACHE_HOME="))
    host.stop()
    host.start()
    (project / "pyproject.toml").write_text("[project]\nname = 'synced'\nversion = '1'\n")
    (project / "uv.lock").write_text("")
    git(project, "add", ".")
    env = {"PYTHONPATH": str(Path(__file__).parent / "user_code")}
    given = executor(sync="git", project=project, cwd=None, python=None, env=env)
    for _ in range(2):
        assert run(given, project, tmp_path, monkeypatch).endswith(" WORD")

    ((folder, _),) = trees(cache).items()
    assert [f"{folder} sync --quiet --frozen"] == (home / "calls").read_text().splitlines()


@pytest.mark.parametrize(
    ("name", "text"), [("empty", "not a git repository"), ("none", "expected a folder of this machine")]
)
def test_nothing_to_copy(
    loopback: Loopback,
    executor: Make,
    project: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    text: str,
) -> None:
    """A folder that git does not know, or that is not there, refuses the run."""
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    with pytest.raises(GraphValidationError, match=text):
        run(executor(sync="git", project=tmp_path / name, cwd=None), project, tmp_path, monkeypatch)
