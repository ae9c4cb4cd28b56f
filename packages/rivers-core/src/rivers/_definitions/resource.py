"""Resources: objects that bodies share besides values, such as a client, a connection or settings."""

from __future__ import annotations

from rivers._io.settings import ResourceSettings

__all__ = ["Resource"]


class Resource(ResourceSettings):
    """The base of resources: a pydantic-settings model, whose fields come from arguments or the environment.

        class Database(rs.Resource):
            model_config = SettingsConfigDict(env_prefix="SHOP_DB_")
            url: str

    A body gets it through the parameter of the name that it has in `CodeRepository(resources={...})`. A worker in
    another process builds it again from its fields; make sockets and clients in `setup`. Without an `env_prefix` or an
    alias, a field is not read from a variable that exists for other reasons, such as `PATH`, `HOME` or `PORT`.
    """

    def setup(self) -> None:
        """Prepare the resource where the body runs, before its first use; an error fails the steps that need it."""

    def teardown(self) -> None:
        """Release what `setup` made, when the run or the worker ends, whatever happened."""
