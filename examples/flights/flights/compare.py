"""Compare the values of two runs, to the last bit: both ran the same code on the same data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

import rivers as rs


def value_names(result: rs.RunResult) -> list[str]:
    """Return the name of every value that a run has stored: assets, tasks of graphs, and their instances."""
    return [*result.materialized_assets, *(key for key in result.steps if "/" in key)]


def differences(names: Iterable[str], one: rs.CodeRepository, other: rs.CodeRepository) -> Iterator[str]:
    """Yield a line for each of these values that differs between both repositories."""
    for name in names:
        difference = difference_of(one.load_node(name), other.load_node(name))
        if difference is not None:
            yield f"{name}: {difference}"


def difference_of(one: Any, other: Any) -> str | None:
    """Describe the difference of two values in one line, or return None. Two unknown numbers (NaN) are equal.

    Tables are compared with their types and their order; of paths it is the files' names and bytes that count.
    """
    if type(one) is not type(other):
        return f"a {type(one).__name__} and a {type(other).__name__}"
    if isinstance(one, pd.DataFrame):
        try:
            pd.testing.assert_frame_equal(one, other, check_exact=True)
        except AssertionError as error:
            return " ".join(str(error).split())
        return None
    if isinstance(one, Path):
        same = one.name == other.name and one.read_bytes() == other.read_bytes()
        return None if same else f"{one} and {other} hold different bytes"
    if isinstance(one, dict):
        return difference_of(list(one), list(other)) or difference_of(list(one.values()), list(other.values()))
    if isinstance(one, list | tuple):
        if len(one) != len(other):
            return f"{len(one)} and {len(other)} elements"
        pairs = (difference_of(*pair) for pair in zip(one, other, strict=True))
        return next((difference for difference in pairs if difference is not None), None)
    if one == other or (isinstance(one, float) and math.isnan(one) and math.isnan(other)):
        return None
    return f"{one!r} and {other!r}"
