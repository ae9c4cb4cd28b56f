"""Edits of a package: each changes the hashes of exactly the functions whose values it may change."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

import rivers as rs
from rivers._code.hasher import CodeHash, CodeHasher

sys.path.append(str(Path(__file__).parent))

from shop_edits import CHANGES, COSMETIC, FILES, NAMES, UPSTREAMS, Edit


@pytest.fixture
def write_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ModuleType]]:
    """Return a function that writes the package with some edits, and imports it."""
    versions: list[Path] = []

    def write(*edits: Edit) -> ModuleType:
        folder = tmp_path / str(len(versions)) / "edited_shop"
        versions.append(folder)
        folder.mkdir(parents=True)
        texts = dict(FILES)
        for name, old, new in edits:
            assert texts[name].count(old) == 1, f"{old!r} in {name}"
            texts[name] = texts[name].replace(old, new)
        for name, text in {"__init__.py": "", **texts}.items():
            (folder / name).write_text(text)
        _forget()
        monkeypatch.syspath_prepend(str(folder.parent))
        return importlib.import_module("edited_shop.assets")

    yield write
    _forget()


@pytest.fixture
def hash_package(write_package: Callable[..., ModuleType]) -> Callable[..., dict[str, CodeHash]]:
    """Return a function that hashes the assets of the package with some edits."""

    def hash_it(*edits: Edit) -> dict[str, CodeHash]:
        assets = write_package(*edits)
        hasher = CodeHasher()
        return {name: hasher.hash(getattr(assets, name).function) for name in NAMES}

    return hash_it


@pytest.fixture
def run_package(write_package: Callable[..., ModuleType], tmp_path: Path) -> Callable[..., set[str]]:
    """Return a function that runs the package with some edits and returns the steps that were not unchanged."""

    def run_it(*edits: Edit) -> set[str]:
        assets = write_package(*edits)
        handler = rs.PickleIOHandler(tmp_path / "values", fsync=False)
        # One of the edits gives an asset another name.
        known = {getattr(assets, name).name: name for name in NAMES}
        found = [getattr(assets, name) for name in NAMES]
        with rs.CodeRepository(found, default_io_handler=handler) as repository:
            # An edit may let a body fail, which is no less a run of it.
            result = repository.materialize(skip_unchanged=True, raise_on_error=False)
        return {known[key] for key, report in result.steps.items() if report.state != "unchanged"}

    return run_it


def _downstream(names: set[str]) -> set[str]:
    """Return what depends on these assets, directly or through others."""
    found = {name for name, upstreams in UPSTREAMS.items() if upstreams & names}
    return found | _downstream(found) if found else found


def _forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "edited_shop"]:
        del sys.modules[name]


def _changed(before: dict[str, CodeHash], after: dict[str, CodeHash]) -> set[str]:
    assert not [found.unknown for found in (*before.values(), *after.values()) if found.digest is None]
    return {name for name in NAMES if before[name].digest != after[name].digest}


def test_there_are_forty_edits() -> None:
    """The two tables have the forty edits that the promise is judged by, and some more."""
    assert len(COSMETIC) + len(CHANGES) >= 40


@pytest.mark.parametrize("edit", COSMETIC)
def test_a_cosmetic_edit_changes_no_hash(hash_package: Callable[..., dict[str, CodeHash]], edit: str) -> None:
    """Text that does not change what runs changes no hash."""
    assert set() == _changed(hash_package(), hash_package(*COSMETIC[edit]))


@pytest.mark.parametrize("edit", CHANGES)
def test_a_change_changes_the_hashes_of_what_uses_it(
    hash_package: Callable[..., dict[str, CodeHash]], edit: str
) -> None:
    """A change of code changes the hashes of the functions that use it, and no other."""
    expected, edits = CHANGES[edit]

    assert expected == _changed(hash_package(), hash_package(*edits))


@pytest.mark.parametrize("edit", COSMETIC)
def test_a_cosmetic_edit_reruns_nothing(run_package: Callable[..., set[str]], edit: str) -> None:
    """A run after the edit finds each step unchanged."""
    assert set(NAMES) == run_package()

    assert set() == run_package(*COSMETIC[edit])


@pytest.mark.parametrize("edit", CHANGES)
def test_a_change_reruns_what_depends_on_it(run_package: Callable[..., set[str]], edit: str) -> None:
    """A run after the edit runs what uses the code, and below that only what has other inputs then."""
    assert set(NAMES) == run_package()
    expected, edits = CHANGES[edit]
    ran = run_package(*edits)

    assert expected <= ran
    assert ran - expected <= _downstream(expected)
