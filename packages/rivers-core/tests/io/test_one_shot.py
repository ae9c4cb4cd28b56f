"""One-shot values are recognized, listed or refused, before anything keeps them by reference."""

from __future__ import annotations

import csv
import io
import itertools
import os
import sqlite3
import tempfile
from collections import deque
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rivers._io.one_shot import is_one_shot, list_items, own_copy, refuse_one_shot
from rivers.exceptions import OutputCommitError, ResultDefinitionError


@pytest.mark.parametrize(
    ("iterator", "items"),
    [
        (map(str, range(2)), ["0", "1"]),
        (zip("a", "b", strict=True), [("a", "b")]),
        (filter(None, [0, 1]), [1]),
        (enumerate("a"), [(0, "a")]),
        (reversed([1, 2]), [2, 1]),
        (iter([1]), [1]),
        (iter({"a": 1}), ["a"]),
        (iter({"a": 1}.items()), [("a", 1)]),
        (iter(deque([1])), [1]),
        (iter(int, 0), []),
        ((number for number in [1]), [1]),
        (itertools.chain([1], [2]), [1, 2]),
        (itertools.repeat(1, 2), [1, 1]),
        (csv.reader(["a,b"]), [["a", "b"]]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_plain_iterators(iterator: Any, items: list[Any]) -> None:
    """An iterator that is nothing but its items becomes a list of them."""
    assert is_one_shot(iterator)
    assert items == list_items(iterator)


@pytest.mark.parametrize(
    "value", [itertools.count(), itertools.cycle("a"), itertools.repeat(1)], ids=lambda one: type(one).__name__
)
def test_without_an_end(value: Any) -> None:
    """An iterator without an end is refused, not read until memory is full."""
    with pytest.raises(ResultDefinitionError, match="expected an iterator with an end"):
        list_items(value)


@pytest.mark.parametrize(
    "value", [[1], (1,), {"a": 1}, "text", range(3), {1}.__iter__, deque([1]), None], ids=lambda one: type(one).__name__
)
def test_everything_else(value: Any) -> None:
    """A value that can be read again stays as it is."""
    assert not is_one_shot(value)
    assert value is list_items(value)
    refuse_one_shot(value, "k", "run", "k")


def test_files(tmp_path: Path) -> None:
    """Open files, temporary ones and cursors are neither listed nor kept."""
    (tmp_path / "file").write_text("a\n")
    with (
        open(tmp_path / "file") as text,
        open(tmp_path / "file", "rb") as binary,
        open(tmp_path / "file", "rb", buffering=0) as raw,
        tempfile.NamedTemporaryFile() as temporary,
        closing(sqlite3.connect(":memory:")) as database,
    ):
        for value, what in (
            (text, "an open file"),
            (binary, "an open file"),
            (raw, "an open file"),
            (temporary, "an open file"),
            (database.cursor(), "an iterator"),
        ):
            assert value is list_items(value)
            with pytest.raises(OutputCommitError, match=f"is {what}, which only its first reader") as caught:
                refuse_one_shot(value, "k", "run", "k")
            assert not caught.value.retryable
    with os.scandir(tmp_path) as entries:
        assert ["file"] == [entry.name for entry in list_items(entries)]


def test_file_in_memory() -> None:
    """Each reader of a file in memory has a position of its own."""
    file = io.BytesIO(b"bytes")
    first, second = own_copy(file), own_copy(file)

    refuse_one_shot(file, "k", "run", "k")
    assert [b"bytes", b"bytes", b"bytes"] == [first.read(), second.read(), file.read()]
