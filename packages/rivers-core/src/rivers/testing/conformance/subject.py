"""The executor that is judged, with what its laws share."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from rivers._definitions.executor import Executor
from rivers._executor.registry import backend_for
from rivers._io.base import BaseIOHandler, Reach
from rivers._io.pickle import PickleIOHandler
from rivers._repository.describe import slots_of
from rivers._repository.repository import CodeRepository
from rivers.spi import Capabilities
from rivers.testing.conformance.bodies import UnsharedHandler

__all__ = ["Subject"]


class Subject:
    """The executor value under test, for as long as its laws run; a context manager that removes its folder.

    Args:
        executor: The value to judge; the registry must find its backend.
        tier: `quick`, or `full` for the laws that take long and for more cases of the others.
        io_handler: Makes an IO handler whose values reach the workers, from an empty folder; by default one that
            stores files there, which is right for workers on this machine.
        leftovers: Returns the names of the platform's objects that exist now, such as jobs, pods or tasks.
        orphans: Returns those of them that run; by default all of them.
        orphans_end_within: Seconds after a controller's SIGKILL within which its workers must be gone.
        patience: Seconds within which an attempt must begin, and end once nothing holds it.
    """

    def __init__(
        self,
        executor: Executor,
        *,
        tier: Literal["quick", "full"] = "quick",
        io_handler: Callable[[Path], BaseIOHandler | None] | None = None,
        leftovers: Callable[[], Sequence[str]] | None = None,
        orphans: Callable[[], Sequence[str]] | None = None,
        orphans_end_within: float = 2.0,
        patience: float = 30.0,
    ) -> None:
        self.executor = executor
        self.tier = tier
        self.leftovers = leftovers
        self.orphans = orphans or self.objects
        self.orphans_end_within = orphans_end_within
        self.patience = patience
        self.capabilities: Capabilities = backend_for(executor).capabilities
        self.figures: dict[str, float] = {}
        self._make_handler = io_handler
        # A short path, as sockets below it may have at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="rivers-kit-"))
        self._shared: dict[object, Any] = {}

    def __enter__(self) -> Subject:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def slots(self) -> int | None:
        """Return the number of sync steps that run at once, None for no limit."""
        return slots_of(self.executor, self.capabilities)

    @cached_property
    def has_store(self) -> bool:
        """Return whether values can be stored where workers and this process find them."""
        return not isinstance(self.io_handler(), UnsharedHandler)

    def objects(self) -> Sequence[str]:
        """Return the names of the platform's objects, none without the hook."""
        return self.leftovers() if self.leftovers is not None else ()

    def new_folder(self) -> Path:
        """Return a new empty folder."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    def io_handler(self) -> BaseIOHandler:
        """Return an IO handler with a new, empty store that reaches the workers, or one that stores nothing."""
        folder = self.new_folder()
        made = self._make_handler(folder) if self._make_handler is not None else None
        if made is not None:
            return made
        reach = max(self.capabilities.reach, self.capabilities.of(is_async=True).reach)
        return UnsharedHandler() if reach is Reach.ANYWHERE else PickleIOHandler(folder)

    @contextlib.contextmanager
    def repository(self, assets: Sequence[Any], **more: Any) -> Iterator[CodeRepository]:
        """Open a repository of these assets whose default executor is the one under test."""
        given = {"default_executor": self.executor, "default_io_handler": self.io_handler(), **more}
        with CodeRepository(assets, **given) as repository:
            yield repository

    def share(self, key: object, make: Callable[[], Any]) -> Any:
        """Return what `make` returned when this key was first asked for; what it raised is raised again."""
        if key not in self._shared:
            try:
                self._shared[key] = make()
            except AssertionError as error:
                self._shared[key] = error
        found = self._shared[key]
        if isinstance(found, AssertionError):
            raise found
        return found
