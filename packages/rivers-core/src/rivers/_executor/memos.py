"""Read the memos of all values that a run may reuse or loads, before it starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

from rivers._io.base import AtomicIOHandler, BaseIOHandler, Reach
from rivers._io.context import InputContext
from rivers._io.memo import Memo, checked_memo
from rivers._io.pickle import PickleIOHandler
from rivers._plan.partitions import loaded_keys
from rivers._plan.plan import Plan, Step
from rivers._plan.reuse import StoredMemos
from rivers.exceptions import ValueNotFoundError
from rivers.protocol.exception_text import describe_exception
from rivers.protocol.spec import OutputMode

__all__ = ["Place", "is_missing", "read_memos"]

Place: TypeAlias = tuple[BaseIOHandler, str]
"""An IO handler and the storage key of a value that it keeps."""

# Requests to a bucket at once: each takes tens of milliseconds, most of them on the way.
_AT_ONCE = 32


def read_memos(plan: Plan, upstreams: Iterable[Place], warn: Callable[[str], None]) -> StoredMemos:
    """Return the memos of the plan's outputs and of the values that it loads from earlier runs.

    `upstreams` are the places of values that it does not load, but is ordered behind. A handler that raises has no
    memos; `warn` takes the problem, once for each handler.
    """
    stored = StoredMemos()
    reader = _Reader(warn)
    _fill(stored, reader, [*upstreams, *_single(plan)])
    for step in plan.steps:
        for output in step.node.outputs:
            memo = stored.memos.get(f"{output.key}[]")
            if output.mode is OutputMode.DYNAMIC and memo is not None and memo.fingerprint:
                keys = reader.load_keys(output.io_handler, output.key)
                if keys is not None:
                    stored.elements[output.key] = keys
    stored.unreadable.update(_find_unreadable(plan, stored))
    # The keys of elements are known only now; those of new elements have no memos to read.
    _fill(stored, reader, _mapped(plan, stored))
    return stored


def _find_unreadable(plan: Plan, stored: StoredMemos) -> set[str]:
    """Return the keys of partitions that have no memo, but are not missing: a step that loads them fails, or runs."""
    places = {
        key: source.io_handler
        for step in plan.steps
        for node in step.inner or (step.node,)
        for source in node.inputs
        # Of other handlers nothing is compared.
        if source.how == "partitions" and isinstance(source.io_handler, PickleIOHandler)
        for key in loaded_keys(source)
        if key not in stored.memos
    }
    if not places:
        return set()
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="rivers-memos") as pool:
        missing = pool.map(is_missing, places.values(), places)
        return {key for key, is_missing in zip(places, missing, strict=True) if not is_missing}


def is_missing(handler: PickleIOHandler, key: str) -> bool:
    """Return whether no value is stored under a key that has no memo; False for one that cannot be read."""
    try:
        handler.load_input(InputContext(key))
    except ValueNotFoundError:
        return True
    except Exception:  # noqa: BLE001 - the step that loads it says what is wrong
        return False
    # It was stored in between.
    return False


def _fill(stored: StoredMemos, reader: _Reader, places: Iterable[Place]) -> None:
    """Read the memos of these places; those of a bucket many at a time."""
    near: dict[str, BaseIOHandler] = {}
    far: dict[str, BaseIOHandler] = {}
    # Asked once for each handler: it may take microseconds, and there is a place for each value.
    parts: dict[int, dict[str, BaseIOHandler]] = {}
    for handler, key in places:
        part = parts.get(id(handler))
        if part is None:
            part = parts[id(handler)] = far if handler.reach is Reach.ANYWHERE else near
        part[key] = handler
    for key, handler in near.items():
        memo = reader.read(handler, key)
        if memo is not None:
            stored.memos[key] = memo
    if far:
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="rivers-memos") as pool:
            for key, memo in zip(far, pool.map(reader.read, far.values(), far), strict=True):
                if memo is not None:
                    stored.memos[key] = memo


def _single(plan: Plan) -> Iterator[Place]:
    """Yield the places of outputs that are not mapped, of lists of mapping keys, and of values of earlier runs."""
    made = {node.index for step in plan.steps for node in (step.inner or (step.node,))}
    for step in plan.steps:
        for output in step.node.outputs:
            if output.mode is OutputMode.DYNAMIC:
                yield output.io_handler, f"{output.key}[]"
            elif step.mapped_over is None:
                yield output.io_handler, output.key
        for node in step.inner or (step.node,):
            for source in node.inputs:
                if source.how in {"resource", "constant"} or source.io_handler is None:
                    continue
                # Of all partitions the run makes at most one.
                if source.node is None or source.node not in made or source.how == "partitions":
                    for key in loaded_keys(source):
                        yield source.io_handler, key


def _mapped(plan: Plan, stored: StoredMemos) -> Iterator[Place]:
    """Yield the places of stored elements, and of the instances that are mapped over them."""
    for step in plan.steps:
        keys = _keys_over(plan, step, stored)
        for output in step.node.outputs:
            for map_key in stored.elements.get(output.key, ()) if output.mode is OutputMode.DYNAMIC else keys:
                yield output.io_handler, f"{output.key}[{map_key}]"


def _keys_over(plan: Plan, step: Step, stored: StoredMemos) -> tuple[str, ...]:
    """Return the stored mapping keys of the elements that a step is mapped over."""
    source = step
    while source.mapped_over is not None:
        source = plan.steps[source.mapped_over]
    return stored.elements.get(source.node.outputs[-1].key, ()) if source is not step else ()


class _Reader:
    """A reader of memos that survives what a handler raises."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._broken: set[int] = set()

    def read(self, handler: BaseIOHandler, key: str) -> Memo | None:
        if id(handler) in self._broken:
            return None
        try:
            return checked_memo(handler.read_memo(key))
        except Exception as error:  # noqa: BLE001 - a handler may raise anything, and the step then runs
            self._give_up(handler, error)
            return None

    def load_keys(self, handler: BaseIOHandler, key: str) -> tuple[str, ...] | None:
        if not isinstance(handler, AtomicIOHandler):
            return None
        try:
            return tuple(handler.load_input(InputContext(f"{key}[]")))
        except Exception as error:  # noqa: BLE001 - a handler may raise anything, and the step then runs
            self._give_up(handler, error)
            return None

    def _give_up(self, handler: BaseIOHandler, error: Exception) -> None:
        if id(handler) not in self._broken:
            self._broken.add(id(handler))
            name = type(handler).__name__
            self._warn(f"the memos of {name} cannot be read, so its values are made again: {describe_exception(error)}")
