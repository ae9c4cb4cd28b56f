"""What cannot be hashed exactly is not known, and never counts as nothing."""

from __future__ import annotations

import enum
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rivers._code.hasher import CodeHash, CodeHasher

sys.path.append(str(Path(__file__).parent))

from exact_cases import FOREIGN, IMPORTED, KNOWN, STRANGE, UNKNOWN

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
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / f"{name}.py").write_text(other.replace("$", str(number)))
        _forget()
        monkeypatch.syspath_prepend(str(folder))
        return CodeHasher().hash(importlib.import_module("shop_exact").a)

    yield hash_it
    _forget()


def _forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0].endswith("_exact") and name != "test_exact"]:
        del sys.modules[name]


@pytest.mark.parametrize("case", KNOWN)
def test_a_number_in_an_unusual_place_counts(hash_text: HashText, case: str) -> None:
    """The hash is known, stays the same, and is another one if the number is."""
    before, again, after = hash_text(KNOWN[case]), hash_text(KNOWN[case]), hash_text(KNOWN[case], 3)

    assert before.digest is not None, before.unknown
    assert before.digest == again.digest
    assert before.digest != after.digest


@pytest.mark.parametrize("case", IMPORTED)
def test_code_that_only_a_body_imports_counts(hash_text: HashText, case: str) -> None:
    """In a folder without a package, too, and all that a name may stand for."""
    text, others = IMPORTED[case]
    before, again, after = hash_text(text, **others), hash_text(text, **others), hash_text(text, 3, **others)

    assert before.digest is not None, before.unknown
    assert before.digest == again.digest
    assert before.digest != after.digest


def test_members_that_a_body_has_asked_for_do_not_count() -> None:
    """An enum keeps the combinations of its flags."""

    class Way(enum.IntFlag):
        IN = 1
        OUT = 2

    def use() -> Way:
        return Way.IN | Way.OUT

    before = CodeHasher().hash(use)
    use()

    assert before.digest is not None, before.unknown
    assert before.digest == CodeHasher().hash(use).digest


def test_a_default_from_a_factory_that_is_no_plain_value_is_unknown(hash_text: HashText) -> None:
    """Its expression does not say what it was."""
    text = "class O: pass\ndef make(o):\n    def f(x=o): return x\n    return f\nG = {'f': make(O())}\na = G['f']()"

    assert "no plain value" in hash_text(text).unknown


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
