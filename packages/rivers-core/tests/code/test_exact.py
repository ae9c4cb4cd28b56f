"""What cannot be hashed exactly is not known, and never counts as nothing."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rivers._code.hasher import CodeHash, CodeHasher

sys.path.append(str(Path(__file__).parent))

from exact_cases import FOREIGN, KNOWN, STRANGE, UNKNOWN

HashText = Callable[..., CodeHash]


@pytest.fixture
def hash_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HashText]:
    """Return a function that imports a text as a module anew and hashes the function of its last line."""
    library = tmp_path / "library"
    library.mkdir()
    (library / "foreign_exact.py").write_text(FOREIGN)
    monkeypatch.syspath_prepend(str(library))
    versions: list[Path] = []

    def hash_it(text: str, number: int = 2, **others: str) -> CodeHash:
        folder = tmp_path / str(len(versions))
        folder.mkdir()
        versions.append(folder)
        head, _, expression = text.rpartition("a = ")
        (folder / "shop_exact.py").write_text(f"{head}def a(): return {expression}\n".replace("$", str(number)))
        for name, other in others.items():
            (folder / f"{name}.py").write_text(other.replace("$", str(number)))
        _forget()
        monkeypatch.syspath_prepend(str(folder))
        return CodeHasher().hash(importlib.import_module("shop_exact").a)

    yield hash_it
    _forget()


def _forget() -> None:
    for name in [name for name in sys.modules if name.endswith("_exact") and name != "test_exact"]:
        del sys.modules[name]


@pytest.mark.parametrize("case", KNOWN)
def test_a_number_in_an_unusual_place_counts(hash_text: HashText, case: str) -> None:
    """The hash is known, stays the same, and is another one if the number is."""
    before, again, after = hash_text(KNOWN[case]), hash_text(KNOWN[case]), hash_text(KNOWN[case], 3)

    assert before.digest is not None, before.unknown
    assert before.digest == again.digest
    assert before.digest != after.digest


@pytest.mark.parametrize("case", STRANGE)
def test_a_value_that_cannot_be_read_counts_by_its_statement(hash_text: HashText, case: str) -> None:
    """Whatever a value raises ends no run."""
    found = hash_text(STRANGE[case])

    assert found.digest is not None, found.unknown


@pytest.mark.parametrize("case", UNKNOWN)
def test_code_that_cannot_be_read_is_unknown(hash_text: HashText, case: str) -> None:
    """The reason names the error, and has none of its text."""
    text, error = UNKNOWN[case]
    found = hash_text(text, lazy_exact="def __getattr__(name): raise ImportError('secret')")

    assert found.digest is None
    assert f"reading it raised {error}" == found.unknown
