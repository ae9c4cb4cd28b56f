"""Hashes of functions whose source is not that of a plain module."""

from __future__ import annotations

import ast
import functools
import importlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rivers._code.hasher import CodeHash, CodeHasher
from rivers._code.syntax import digest_function


def _hash(function: Callable[..., Any]) -> CodeHash:
    return CodeHasher().hash(function)


def _run(text: str, name: str = "f") -> Callable[..., Any]:
    scope: dict[str, Any] = {"__name__": "from_text"}
    exec(compile(text, "<text>", "exec"), scope)
    found: Callable[..., Any] = scope[name]
    return found


def test_code_without_a_source_is_known_by_its_instructions() -> None:
    """Two functions of `exec` have one hash if they do the same, and two if they do not."""
    assert _hash(_run("def f():\n    return 1")).digest == _hash(_run("def f():\n\n    return 1")).digest
    assert _hash(_run("def f():\n    return 1")).digest != _hash(_run("def f():\n    return 2")).digest
    assert _hash(_run("A = 1\ndef f():\n    return A")).digest != _hash(_run("A = 2\ndef f():\n    return A")).digest


def test_a_file_that_was_edited_since_its_import_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hash is that of the code that runs, not of the text that now stands in its file."""
    path = tmp_path / "edited_since.py"
    path.write_text("def f():\n    return 1\n\n\ndef g():\n    return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("edited_since")
    of_f = _hash(module.f).digest

    path.write_text("def f():\n    return 2\n\n\ndef g():\n    return 2\n")

    assert of_f == _hash(module.f).digest
    assert of_f is not None
    edited = _hash(_run("def g():\n    return 2\n", "g")).digest
    assert edited != _hash(module.g).digest


def test_a_value_of_the_module_is_read_in_each_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A constant that was assigned anew, as in a notebook, changes the hash though no text changed."""
    (tmp_path / "assigned_anew.py").write_text("RATE = 1\n\n\ndef f():\n    return RATE\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("assigned_anew")
    before = _hash(module.f).digest

    module.RATE = 2  # type: ignore[attr-defined]  # a module of this test

    assert before != _hash(module.f).digest


def test_an_unknown_value_in_a_closure_gives_no_hash() -> None:
    """A function that closes over a lock has no hash, and the reason names the variable."""
    lock = threading.Lock()

    def locked() -> bool:
        return lock.locked()

    found = _hash(locked)

    assert found.digest is None
    assert "it closes over 'lock': a _thread.lock is no plain value" == found.unknown


def test_a_partial_is_known_by_its_arguments() -> None:
    """Two partials of a function differ by what they are given."""

    def add(one: int, other: int) -> int:
        return one + other

    assert _hash(functools.partial(add, 1)).digest == _hash(functools.partial(add, 1)).digest
    assert _hash(functools.partial(add, 1)).digest != _hash(functools.partial(add, 2)).digest


def test_names_of_locals_count_where_the_code_sees_them() -> None:
    """A renamed local changes the hash of a function that calls `locals`."""

    def syntax(text: str) -> bytes:
        node = ast.parse(text).body[0]
        assert isinstance(node, ast.FunctionDef)
        return digest_function(node, lambda reference: False).digest

    assert syntax("def f():\n    a = 1\n    return a") == syntax("def f():\n    b = 1\n    return b")
    assert syntax("def f():\n    a = 1\n    return locals()") != syntax("def f():\n    b = 1\n    return locals()")
    assert syntax("def f():\n    'text'\n    return f.__doc__") != syntax("def f():\n    'more'\n    return f.__doc__")


def test_parts_name_the_functions_that_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts of a hash name the function and its helpers, so that a change can be explained."""
    (tmp_path / "has_parts.py").write_text("def g():\n    return 1\n\n\ndef f():\n    return g()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("has_parts")

    assert ["has_parts:f", "has_parts:g"] == list(_hash(module.f).parts)
