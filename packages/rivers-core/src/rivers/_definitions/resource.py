"""Resources: what bodies share besides values, such as a client, a connection or settings."""

from __future__ import annotations

from rivers._io.settings import ResourceSettings

__all__ = ["Resource"]


class Resource(ResourceSettings):
    """Base of resources: a pydantic-settings model, so that fields come from arguments or the environment.

    A body gets it through a parameter of the name it has in `CodeRepository(resources={...})`. A worker in another
    process builds it again from its fields; what is no field (sockets, clients) belongs into `setup`.
    """

    def setup(self) -> None:
        """Called before the first use in a run, where the body runs; an error fails the steps that need it."""

    def teardown(self) -> None:
        """Called once `setup` has succeeded, when the run (or the worker) ends, whatever happened."""
