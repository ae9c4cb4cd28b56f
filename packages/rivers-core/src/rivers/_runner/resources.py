"""Resources in a worker: set up before their first use, torn down when the worker ends."""

from __future__ import annotations

import inspect
import threading
from typing import Any

from rivers._definitions.resource import Resource
from rivers._runner.failures import text_of
from rivers._runner.refs import Resolver
from rivers.exceptions import ExecutionError
from rivers.protocol.ref import Ref

__all__ = ["ResourceSetupError", "Resources"]


class ResourceSetupError(ExecutionError):
    """A resource's `setup` raised; the cause is what it raised."""


class Resources:
    """The resources of one worker, by their name in the repository.

    An object that several runs of one process use at the same time is set up by the first and torn down by the last.
    """

    _lock = threading.RLock()
    _users: dict[int, int] = {}  # noqa: RUF012 - shared by design: users of a live object across runs, by id

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._ready: dict[str, Any] = {}

    def get(self, name: str, ref: Ref) -> Any:
        """The resource, set up.

        Raises:
            ResourceSetupError: its `setup` raised; the next step that needs it tries again.
        """
        if name in self._ready:
            return self._ready[name]
        found = self._resolver.resolve(ref)
        if isinstance(found, Resource):
            with self._lock:
                users = self._users.get(id(found), 0)
                if users == 0:
                    try:
                        started: Any = found.setup()  # type: ignore[func-returns-value]  # a user's may be async by mistake
                        if inspect.iscoroutine(started):
                            started.close()
                            raise TypeError("setup is async; make it a plain method, and await in the body")
                    except Exception as error:
                        raise ResourceSetupError(
                            f"setup() of {type(found).__name__} {name!r} raised "
                            f"{type(error).__name__}: {text_of(error)}"
                        ) from error
                self._users[id(found)] = users + 1
        self._ready[name] = found
        return found

    def close(self) -> list[str]:
        """Tear everything down, the last one set up first; what goes wrong is returned, one line each."""
        problems: list[str] = []
        for name, found in reversed(self._ready.items()):
            if not isinstance(found, Resource):
                continue
            with self._lock:
                self._users[id(found)] -= 1
                if self._users[id(found)]:
                    continue
                del self._users[id(found)]
                try:
                    found.teardown()
                except Exception as error:  # noqa: BLE001 - whatever it raises, the others are torn down too
                    problems.append(f"teardown() of resource {name!r} raised {type(error).__name__}: {text_of(error)}")
        self._ready.clear()
        return problems
