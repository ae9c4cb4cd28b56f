"""Steps at module scope, where workers can import them."""

from __future__ import annotations


def numbers() -> list[int]:
    return [3, 1, 2]


def total(numbers: list[int]) -> int:
    return sum(numbers)
