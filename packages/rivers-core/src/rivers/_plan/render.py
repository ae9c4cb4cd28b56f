"""Draw a plan: as text, as a Mermaid flowchart, as a Graphviz graph, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from rivers._definitions.executor import Executor
from rivers._plan.graph import Node
from rivers._terminal.text import count_of, wrap

__all__ = ["plan_to_data", "plan_to_dot", "plan_to_mermaid", "plan_to_text"]

COLORS = ("#e3f2fd", "#e8f5e9", "#fff3e0", "#f3e5f5", "#fce4ec", "#e0f7fa")
"""Fills of the steps of each executor, light enough for dark text."""


class DrawnStep(Protocol):
    """The part of a step that is drawn."""

    key: str
    index: int
    level: int
    executor_index: int
    executor: Executor
    node: Node
    assets: tuple[str, ...]
    deps: tuple[int, ...]
    mapped_over: int | None
    inner: tuple[Node, ...]


Steps = Sequence[DrawnStep]


def plan_to_text(steps: Steps, executors: Sequence[Executor], width: int = 100) -> str:
    """Return the steps by level and executor, in lines of at most `width` characters where names allow it."""
    if not steps:
        return "no steps"
    # A batch is what one executor runs of one level.
    levels: dict[tuple[int, int], list[str]] = {}
    for step in steps:
        name = f"{step.key}[…]" if step.mapped_over is not None else step.key
        levels.setdefault((step.level, step.executor_index), []).append(name)
    count = 1 + max(level for level, _ in levels)
    lines = [f"{count_of(len(steps), 'step')} in {count_of(count, 'level')}"]
    for level, executor in sorted(levels):
        names = levels[level, executor]
        lines.append(f"level {level}  {executors[executor]!r}  {count_of(len(names), 'step')}")
        lines += [f"  {line}" for line in wrap(", ".join(names), width - 2)]
    return "\n".join(lines)


def plan_to_mermaid(steps: Steps, executors: Sequence[Executor]) -> str:
    """Return a Mermaid flowchart, for Markdown pages and notebooks; each executor has a colour where there are some."""
    lines = ["flowchart LR"]
    for owner, members in _by_owner(steps).items():
        indent = "  "
        if owner is not None:
            lines.append(f'  subgraph g{members[0].index}["{_mermaid_text(owner)}"]')
            indent = "    "
        for step in members:
            # A stacked shape for the instances of a mapped step.
            left, right = ("[[", "]]") if step.mapped_over is not None else ("[", "]")
            lines.append(f'{indent}s{step.index}{left}"{_mermaid_text(_label(step, owner))}"{right}')
        if owner is not None:
            lines.append("  end")
    # By index: keys may have any character.
    lines += [f"  s{above} --> s{step.index}" for step in steps for above in step.deps]
    if len(executors) > 1:
        for index, executor in enumerate(executors):
            names = [f"s{step.index}" for step in steps if step.executor_index == index]
            color = COLORS[index % len(COLORS)]
            lines.append(f"  classDef {executor.kind}{index} fill:{color},stroke:#546e7a,color:#263238")
            lines.append(f"  class {','.join(names)} {executor.kind}{index}")
    return "\n".join(lines)


def plan_to_dot(steps: Steps, executors: Sequence[Executor]) -> str:
    """Return a graph for Graphviz; each executor has a colour."""
    lines = ["digraph plan {", "  rankdir=LR;", '  node [shape=box, style="rounded,filled", fontname="sans-serif"];']
    for owner, members in _by_owner(steps).items():
        if owner is not None:
            lines.append(f'  subgraph cluster_{members[0].index} {{ label="{_dot_text(owner)}";')
        for step in members:
            color = COLORS[step.executor_index % len(COLORS)]
            facts = f'label="{_dot_text(_label(step, owner))}", fillcolor="{color}"'
            facts += f', tooltip="{_dot_text(repr(executors[step.executor_index]))}"'
            facts += ", peripheries=2" if step.mapped_over is not None else ""
            lines.append(f"  s{step.index} [{facts}];")
        if owner is not None:
            lines.append("  }")
    lines += [f"  s{above} -> s{step.index};" for step in steps for above in step.deps]
    return "\n".join([*lines, "}"])


def plan_to_data(
    steps: Steps, executors: Sequence[Executor], reasons: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Any]:
    """Return a plan as plain data for JSON; `reasons` are those for which its steps run, where they are known."""
    return {
        "executors": [{"kind": executor.kind, "text": repr(executor)} for executor in executors],
        "steps": [
            {
                "key": step.key,
                "level": step.level,
                "executor": step.executor_index,
                "assets": list(step.assets),
                "deps": [steps[index].key for index in step.deps],
                "mapped_over": steps[step.mapped_over].key if step.mapped_over is not None else None,
                "inner": [node.key for node in step.inner],
                "location": step.node.definition.where,
                **({"reasons": list(reasons[step.key])} if reasons is not None else {}),
            }
            for step in steps
        ],
    }


def _by_owner(steps: Steps) -> dict[str | None, list[DrawnStep]]:
    """Return the steps by the graph asset whose tasks they are; None for all others."""
    found: dict[str | None, list[DrawnStep]] = {None: []}
    for step in steps:
        owner = step.node.composition if not step.inner else None
        found.setdefault(owner, []).append(step)
    return found


def _label(step: DrawnStep, owner: str | None) -> str:
    name = step.key.removeprefix(f"{owner}/") if owner is not None else step.key
    return f"{name} × n" if step.mapped_over is not None else name


def _mermaid_text(text: str) -> str:
    for character, code in (("#", "#35;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;"), ("`", "#96;")):
        text = text.replace(character, code)
    return text


def _dot_text(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
