"""Set up the resources of a worker before their first use, and tear them down when it ends."""

from __future__ import annotations

import inspect
import os
import threading
from typing import Any

from rivers._definitions.resource import Resource
from rivers._runner.refs import Resolver
from rivers.exceptions import ExecutionError
from rivers.protocol.exception_text import describe_exception
from rivers.protocol.ref import Ref

__all__ = ["ResourceSetupError", "Resources"]


class ResourceSetupError(ExecutionError):
    """A resource's `setup` raised; the cause is its exception."""


class Resources:
    """The resources of one worker, by their name in the repository; safe from any thread.

    An object that several runs of one process use at once is set up by the first and torn down by the last.
    """

    _lock = threading.Lock()
    _uses: dict[int, _Use] = {}  # noqa: RUF012 - shared by design: users of a live object across runs, by id

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._ready: dict[str, Any] = {}
        self._getting: dict[str, threading.RLock] = {}
        self.setups = 0
        """Number of setups so far."""

    @classmethod
    def renew(cls) -> None:
        """Let a forked child set up its resources itself: what its parent's runs use, they never tear down here."""
        cls._lock = threading.Lock()  # another thread may have held it
        cls._uses = {}

    def is_ready(self, name: str) -> bool:
        """Return whether `get` returns this resource without a setup."""
        return name in self._ready

    def get(self, name: str, ref: Ref) -> Any:
        """Return a resource after its setup; callers wait while another one sets it up.

        Raises:
            ResourceSetupError: its `setup` raised; the next step that needs it tries again.
        """
        if name in self._ready:
            return self._ready[name]
        with self._getting.setdefault(name, threading.RLock()):
            if name not in self._ready:
                found = self._resolver.resolve(ref)
                if isinstance(found, Resource):
                    self.setups += 1
                    self._enter(name, found)
                self._ready[name] = found
            return self._ready[name]

    def close(self) -> list[str]:
        """Tear down all resources in reverse order; return the problems, one line each."""
        problems: list[str] = []
        for name, found in reversed(self._ready.items()):
            if not isinstance(found, Resource):
                continue
            try:
                self._leave(found)
            except Exception as error:  # noqa: BLE001 - whatever it raises, the others are torn down too
                problems.append(f"teardown() of resource {name!r} raised {describe_exception(error)}")
        self._ready.clear()
        return problems

    def _enter(self, name: str, found: Resource) -> None:
        with self._lock:
            use = self._uses.setdefault(id(found), _Use())
            use.users += 1
        try:
            with use.changing:
                if not use.ready:
                    _set_up(name, found)
                    use.ready = True
        except BaseException:
            with self._lock:
                use.users -= 1
            self._drop_unused(found, use)
            raise

    def _leave(self, found: Resource) -> None:
        use = self._uses[id(found)]
        # Another user waits meanwhile, and sets it up again.
        with use.changing:
            with self._lock:
                use.users -= 1
            if use.users:
                return
            use.ready = False
            try:
                found.teardown()
            finally:
                self._drop_unused(found, use)

    def _drop_unused(self, found: Resource, use: _Use) -> None:
        with self._lock:
            if not use.users:
                self._uses.pop(id(found), None)


class _Use:
    """The number of users of an object, and whether it is set up.

    Setup and teardown hold a lock of their own, as they may take long.
    """

    __slots__ = ("changing", "ready", "users")

    def __init__(self) -> None:
        self.users = 0
        self.ready = False
        self.changing = threading.RLock()


def _set_up(name: str, found: Resource) -> None:
    try:
        started: Any = found.setup()  # type: ignore[func-returns-value]  # a user's may be async by mistake
        if inspect.iscoroutine(started):
            started.close()
            raise TypeError("setup is async; make it a plain method, and await in the body")
    except Exception as error:
        raise ResourceSetupError(
            f"setup() of {type(found).__name__} {name!r} raised {describe_exception(error)}"
        ) from error


os.register_at_fork(after_in_child=Resources.renew)
