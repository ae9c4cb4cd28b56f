"""A small run with every kind of step, which notes each call of a body in a file."""

from __future__ import annotations

import os
from pathlib import Path

import rivers as rs

EXPECTED = {"numbers": [1, 2], "low": 1, "high": 2, "total": 8}


def note(folder: Path, name: str) -> None:
    """Append the name of a body that runs, with one write."""
    file = os.open(folder / "bodies", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{name}\n".encode())
    os.close(file)


def notes(folder: Path) -> list[str]:
    """Return the names of the bodies that have run."""
    path = folder / "bodies"
    return path.read_text().splitlines() if path.exists() else []


def make_repository(folder: Path) -> rs.CodeRepository:
    """Return a repository whose values are in a folder."""

    @rs.Asset
    def numbers(context: rs.AssetExecutionContext) -> list[int]:
        note(folder, "numbers")
        context.add_output_metadata({"rows": 2})
        return [1, 2]

    @rs.Asset.from_multi(output_defs=[rs.AssetDef("low"), rs.AssetDef("high")])
    def bounds(numbers: list[int]) -> tuple[int, int]:
        note(folder, "bounds")
        return min(numbers), max(numbers)

    @rs.Task
    def split(numbers: list[int]) -> list[rs.DynamicOutput]:
        note(folder, "total/split")
        return [rs.DynamicOutput(key=f"k{number}", value=number) for number in numbers]

    @rs.Task
    def twice(part: int) -> int:
        note(folder, f"total/twice[k{part}]")
        return part * 2

    @rs.Task
    def add(parts: list[int], high: int) -> int:
        note(folder, "total/add")
        return sum(parts) + high

    @rs.Asset.from_graph
    def total(numbers: list[int], high: int) -> object:
        return add(split(numbers).map(twice).collect(), high)

    handler = rs.PickleIOHandler(folder / "data", fsync=False)
    return rs.CodeRepository([numbers, bounds, total], default_io_handler=handler)
