"""Targets: modules, files and names, and what is wrong with them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rivers.cli.errors import CommandError, explain
from rivers.cli.target import load_target

sys.path.append(str(Path(__file__).parent))

from cli_project import Cli, write


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("shop", "shop:repo"),
        ("shop:repo", "shop:repo"),
        ("shop.py", "shop.py:repo"),
        ("./shop.py:repo", "./shop.py:repo"),
        ("deep.er.store", "deep.er.store:assets"),
        ("deep/er/store.py", "deep/er/store.py:assets"),
        ("./deep/er", "./deep/er:assets"),
        ("deep.er:make", "deep.er:make"),
        ("deep.er.store:Box.inner", "deep.er.store:Box.inner"),
    ],
)
def test_forms(project: Path, text: str, name: str) -> None:
    """A target is a module, a file or a package, with or without the name of a repository or of its factory."""
    write(project / "deep/__init__.py", "")
    write(project / "deep/er/__init__.py", "from .store import assets\ndef make(): return assets\n")
    write(
        project / "deep/er/store.py",
        "import rivers as rs\nassets = also = rs.CodeRepository([])\nclass Box:\n    inner = assets\n",
    )
    loaded = load_target(text)

    assert name == loaded.name


def error_of(text: str) -> list[str]:
    with pytest.raises(CommandError) as caught:
        load_target(text)
    lines = explain(caught.value)
    assert len(lines) <= 3
    return lines


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("shp", "no module 'shp' here; did you mean 'shop'?"),
        ("shop.sub", "no module 'shop.sub'"),
        ("shp.py", "there is no file 'shp.py'; did you mean 'shop.py'?"),
        ("shop:rep", "shop has no 'rep'; did you mean 'repo'?"),
        ("shop:orders", "shop:orders is no CodeRepository: it is of type Asset"),
        ("shop:", "invalid TARGET='shop:': expected a name after the colon, such as shop:repo"),
        ("shop:re po", "invalid TARGET='shop:re po': expected a name after the colon, such as shop:repo"),
        ("9x", "invalid TARGET='9x': expected package.module, package.module:name or path/to/file.py"),
        ("", "invalid TARGET='': expected package.module, package.module:name or path/to/file.py"),
        ("./folder", "'folder' is a folder without __init__.py"),
        ("my-shop.py", "'my-shop.py' cannot be imported by worker processes: 'my-shop' is no name of a module"),
        ("json.py", "the name of 'json.py' is taken"),
        ("empty", "empty has no CodeRepository"),
        ("two", "two has 2 repositories: expected one of two:first, two:second"),
        ("two:make", "two:make needs arguments: expected a CodeRepository or a function without parameters"),
    ],
)
def test_refused(project: Path, text: str, message: str) -> None:
    """A wrong target is explained in at most three lines, with the closest name."""
    (project / "folder").mkdir()
    write(project / "my-shop.py", "")
    write(project / "json.py", "")
    write(project / "empty.py", "x = 1")
    write(
        project / "two.py",
        "import rivers as rs\nfirst, second = rs.CodeRepository([]), rs.CodeRepository([])\ndef make(name): ...\n",
    )
    assert error_of(text)[0].startswith(f"error: {message}")


@pytest.mark.parametrize(
    ("source", "message", "frame"),
    [
        (
            "import deeper\n",
            "cannot import bad: ZeroDivisionError: division by zero",
            "deeper.py:2, in f: return 1 / 0",
        ),
        ("import nonsens\n", "cannot import bad: ModuleNotFoundError: No module named 'nonsens'", "bad.py:1"),
        ("def f(:\n", "cannot import bad: SyntaxError: ", "bad.py:1: def f(:"),
        ("import sys\nsys.exit(3)\n", "cannot import bad: SystemExit", "bad.py:2: sys.exit(3)"),
        (
            "import rivers as rs\n@rs.Asset(retry=3)\ndef a(): ...\n",
            "cannot import bad: asset '': invalid retry=3",
            "bad.py:2",
        ),
    ],
)
def test_import_error(project: Path, source: str, message: str, frame: str) -> None:
    """A module that raises is shown by its error and the last frame of the user's own code."""
    write(project / "deeper.py", "def f():\n    return 1 / 0\nf()\n")
    write(project / "bad.py", source)
    first, at, hint = error_of("bad")

    assert first.startswith(f"error: {message}")
    assert at.strip().startswith(frame)
    assert hint.startswith("  → ")


def test_factory_is_offered(project: Path) -> None:
    """A module with only a function that makes a repository is shown with the way to name it, and so is one in src/."""
    write(
        project / "make.py",
        "import rivers as rs\ndef build() -> rs.CodeRepository:\n    return rs.CodeRepository([])\n",
    )
    write(project / "src/inner/__init__.py", "")

    assert "  → name the function that makes one: make:build" == error_of("make")[-1]
    assert "PYTHONPATH=src" in error_of("inner")[-1]
    write(project / "package/__init__.py", "")
    write(project / "package/repository.py", "")
    assert "  → it may be in a module of the package: package.repository" == error_of("package")[-1]


def test_verbose_shows_the_traceback(project: Path, cli: Cli) -> None:
    """Errors have no traceback unless it is asked for."""
    write(project / "bad.py", "1 / 0\n")

    brief, full = cli("run", "bad"), cli("run", "bad", "--verbose")

    assert 2 == brief.code == full.code
    assert 3 == len(brief.err.splitlines())
    assert "Traceback" in full.err
    assert full.err.endswith(brief.err)
