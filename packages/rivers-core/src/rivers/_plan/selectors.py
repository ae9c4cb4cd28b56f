"""Turn selectors, the text that people write to choose assets, into the names of assets.

    orders          an asset, a task, or an output of a multi-asset (the whole step is selected)
    stg_*           every asset whose name matches, with * and ?
    +orders         orders and everything upstream of it
    orders+         orders and everything downstream of it
    group:sales     the assets of a group
    tag:daily       the assets with a tag

Selectors in one text are separated by commas; all of them add to the selection. `+` goes with every kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from rivers._definitions.asset import Asset
from rivers._definitions.names import did_you_mean
from rivers._definitions.task import BashTask, Task
from rivers._plan.graph import AssetGraph
from rivers.exceptions import AssetNotFoundError, ConfigurationError

__all__ = ["find_owners", "select_names"]

PREFIXES = ("group", "tag")


def select_names(graph: AssetGraph, selectors: Iterable[str], among: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the names of the assets and tasks that the selectors choose, in the order of the repository.

    Args:
        graph: The graph of the repository.
        selectors: Texts with one or more selectors.
        among: The names that may be chosen, such as those of a job; None is all that a run without a selection makes.

    Raises:
        AssetNotFoundError: a selector names or matches nothing; the message has the closest name.
        ConfigurationError: a selector is malformed, or names something outside `among`.
    """
    owners = find_owners(graph)
    # A pattern in a job means its members alone.
    candidates = [name for name in owners if name in among] if among is not None else owners
    edges = _edges(graph)
    chosen: set[str] = set()
    for text in selectors:
        for selector in text.split(","):
            chosen |= _select(graph, selector.strip(), candidates, edges, is_limited=among is not None)
    return tuple(name for name in (*owners, *sorted(chosen.difference(owners))) if name in chosen)


def find_owners(graph: AssetGraph) -> list[str]:
    """Return the names of the assets and tasks that a run without a selection makes, in the order of the repository."""
    return list(dict.fromkeys(node.owner.name for node in graph.nodes if node.index not in graph.aside))


Edges = tuple[dict[str, set[str]], dict[str, set[str]]]


def _edges(graph: AssetGraph) -> Edges:
    """Return the upstream and the downstream owners of each owner."""
    up: dict[str, set[str]] = {}
    down: dict[str, set[str]] = {}
    for node in graph.nodes:
        # A task of graph assets runs by itself only when it is named.
        if node.index in graph.aside:
            continue
        name = node.owner.name
        for index in node.upstream:
            other = graph.nodes[index].owner.name
            if other != name:
                up.setdefault(name, set()).add(other)
                down.setdefault(other, set()).add(name)
        for key in (*(source.key for source in node.inputs), *node.order):
            if key in graph.externals:
                down.setdefault(key, set()).add(name)
    return up, down


def _select(graph: AssetGraph, selector: str, candidates: Sequence[str], edges: Edges, is_limited: bool) -> set[str]:
    is_up, is_down = selector.startswith("+"), selector.endswith("+") and len(selector) > 1
    core = selector.removeprefix("+").removesuffix("+").strip()
    if not core:
        raise ConfigurationError(
            f"invalid selector {selector!r}: expected a name, a pattern, group:NAME or tag:NAME",
            hint="+name adds what is upstream of it, name+ what is downstream",
        )
    chosen = _match(graph, core, candidates, is_limited)
    found = set(chosen)
    if is_up:
        found |= _reach(chosen, edges[0])
    if is_down:
        found |= _reach(chosen, edges[1])
    if is_up or is_down:
        # No step makes an external asset; by itself it is an error of the selection.
        found -= graph.externals.keys()
    return found & set(candidates) if is_limited else found


def _reach(start: Iterable[str], edges: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = list(start)
    while waiting:
        new = edges.get(waiting.pop(), set()) - found
        found |= new
        waiting.extend(new)
    return found


def _match(graph: AssetGraph, core: str, candidates: Sequence[str], is_limited: bool) -> set[str]:
    # A name wins over everything else, as it may hold a colon or a question mark.
    definition = graph.assets.get(core)
    if definition is not None:
        # An output of a multi-asset is made together with the others.
        name = definition.name
        if is_limited and name not in candidates:
            raise ConfigurationError(f"{core!r} is not part of the job", hint=f"it has {', '.join(candidates[:10])}")
        return {name}
    prefix, colon, value = core.partition(":")
    if colon and prefix in PREFIXES:
        return _match_label(graph, prefix, value, candidates)
    if "*" in core or "?" in core:
        found = {name for name in candidates if fnmatchcase(name, core)}
        # A pattern may name one output of a multi-asset, and so the whole.
        found |= {
            made.name for name, made in graph.assets.items() if made.name in candidates and fnmatchcase(name, core)
        }
        if found:
            return found
        raise AssetNotFoundError(f"no asset matches {core!r}", hint=f"there are {_first(candidates)}")
    if colon and prefix.isidentifier() and prefix.islower():
        near = did_you_mean(prefix, PREFIXES)
        raise ConfigurationError(f"invalid selector {core!r}: expected group:NAME or tag:NAME before the colon{near}")
    raise AssetNotFoundError(
        f"no asset {core!r} in the repository{did_you_mean(core, [*candidates, *graph.assets])}",
        hint=f"it has {_first(candidates)}",
    )


def _match_label(graph: AssetGraph, prefix: str, value: str, candidates: Sequence[str]) -> set[str]:
    labels = {name: _labels(graph.assets[name], prefix) for name in candidates}
    found = {name for name in candidates if any(fnmatchcase(label, value) for label in labels[name])}
    if found:
        return found
    known = sorted({label for name in candidates for label in labels[name]})
    what = "of the group" if prefix == "group" else "with the tag"
    raise AssetNotFoundError(
        f"no asset {what} {value!r}{did_you_mean(value, known)}",
        hint=f"the {prefix}s are {_first(known)}" if known else f"no asset has a {prefix}",
    )


def _labels(definition: Asset | Task | BashTask, prefix: str) -> Sequence[str]:
    if prefix == "tag":
        return tuple(definition.tags or ())
    group = definition.group if isinstance(definition, Asset) else None
    return (group,) if group else ()


def _first(names: Sequence[str]) -> str:
    return f"{', '.join(names[:10])}{', …' if len(names) > 10 else ''}" or "none"
