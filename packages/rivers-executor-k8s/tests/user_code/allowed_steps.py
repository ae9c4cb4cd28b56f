"""Steps of every kind that a worker with a list of modules has to run."""

from __future__ import annotations

import rivers as rs

hostname = rs.BashTask("hostname", ["echo", "a host"], env={"A": "1"})


@rs.Task
def times(value: int, factor: int = 2) -> int:
    return value * factor


@rs.Task
def total(values: list[int]) -> int:
    return sum(values)


@rs.Task
def text_of(text: str, value: int) -> str:
    return f"{text.strip()} {value}"


@rs.Asset
def numbers() -> list[int]:
    return [1, 2, 3]


@rs.Asset.from_graph
def tripled(numbers: list[int]) -> int:
    """Maps over an upstream, with a constant."""
    return total(numbers.map(times, factor=3).collect())  # type: ignore[attr-defined, no-any-return]


@rs.Asset.from_graph(metadata={"rivers/executor": "limited", "rivers/node/executor": "in_process"})
def fused(numbers: list[int], greeting: str = "hello") -> str:
    """Runs in one pod."""
    inline = rs.BashTask("inline", f'echo "{greeting} $WHOM"', cwd="/")
    tripled = total(numbers.map(times, factor=3).collect())  # type: ignore[attr-defined]
    return text_of(inline(WHOM="you"), tripled)  # type: ignore[no-any-return]


@rs.Asset.from_graph
def commands(tripled: int, unit: str = "pieces") -> str:
    """Composes a command with a default of its own, gives it variables, one of them a constant."""
    inline = rs.BashTask("inline", f'echo "$COUNT {unit} of $KIND"')
    return text_of(inline(COUNT=tripled, KIND="shoes"), 7)  # type: ignore[no-any-return]
