"""Tests of the choice of modules that the next attempt's process imports."""

from __future__ import annotations

import pytest

from rivers_worker.reported_modules import modules_to_import


def test_names_of_modules() -> None:
    """Names that no import statement could have, and very long ones, are left out."""
    odd = ["", ".", "a.", ".a", "a..b", "a b", "a/b", "a;b", "1a", "a" * 201, "a\0"]

    assert ("a", "a.b_1", "a" * 200) == modules_to_import(["a", *odd, "a.b_1", "a", "a" * 200], ())


def test_number() -> None:
    """A report of very many modules is cut."""
    names = [f"m{number}" for number in range(1000)]

    assert tuple(names[:256]) == modules_to_import(names, ())


def test_allowed_modules() -> None:
    """Where modules are limited, these and those below them are imported."""
    assert ("shop", "shop.a.b", "lib.x") == modules_to_import(
        ["shop", "shopping", "os", "shop.a.b", "lib", "lib.x", "rivers"], ("shop", "lib.x")
    )


@pytest.mark.parametrize("reported", ["os", {"os": 1}, None, ["os", 1], [["os"]]])
def test_no_list_of_names(reported: object) -> None:
    """Another value is none that a body of rivers sends."""
    with pytest.raises(ValueError, match="modules"):
        modules_to_import(reported, ())
