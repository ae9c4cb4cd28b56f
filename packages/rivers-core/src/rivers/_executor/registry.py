"""The installed executors: core's own, and those that packages register under the group `rivers.executors`."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points, version

from rivers._definitions.executor import Executor
from rivers._executor.backend import SPI_VERSION, ExecutorBackend
from rivers._executor.in_process import InProcessBackend
from rivers.exceptions import ConfigurationError, ExecutorNotInstalledError
from rivers.protocol.exception_text import describe_exception

__all__ = ["GROUP", "backend_for", "default_of", "installed"]

GROUP = "rivers.executors"
_OWN: dict[str, type[ExecutorBackend]] = {InProcessBackend.executor_type.kind: InProcessBackend}


@cache
def installed() -> dict[str, EntryPoint]:
    """Return the entry points of installed executor packages by kind; looked up once, the first time one is needed.

    Of two packages with one kind the one that stands first on the path counts, as with imports.
    """
    # Reversed, so that the first one on the path comes last and wins.
    return {point.name: point for point in reversed(tuple(entry_points(group=GROUP)))}


def backend_type(kind: str, requirement: str | None = None) -> type[ExecutorBackend]:
    """Return the backend class of a kind, loading its package if need be; `requirement` is what pip would install.

    Raises:
        ExecutorNotInstalledError: no installed package has it, or its package cannot be imported.
        ConfigurationError: the package registers something that is no ExecutorBackend, or is made for another version
            of the SPI.
    """
    if kind in _OWN:
        return _OWN[kind]
    point = installed().get(kind)
    if point is None:
        raise ExecutorNotInstalledError(
            f"the executor {kind!r} is not installed; installed are {', '.join(sorted([*_OWN, *installed()]))}",
            hint=f"pip install '{requirement}'" if requirement else f"install the package that provides {kind!r}",
        )
    try:
        found = point.load()
    except Exception as error:
        raise ExecutorNotInstalledError(
            f"the executor {kind!r} is registered, but loading {point.value!r} raised {describe_exception(error)}",
            hint=_upgrade_hint(point, error),
        ) from error
    if not (isinstance(found, type) and issubclass(found, ExecutorBackend)):
        raise ConfigurationError(
            f"the entry point {kind!r} = {point.value!r} in {GROUP!r} is no rivers.spi.ExecutorBackend: {found!r:.80}"
        )
    _check_version(kind, point, found)
    executor_type = getattr(found, "executor_type", None)
    if not (isinstance(executor_type, type) and issubclass(executor_type, Executor) and executor_type.kind == kind):
        raise ConfigurationError(
            f"{point.value!r} is registered as executor {kind!r}, but its executor_type is {executor_type!r:.80}",
            hint=f"executor_type must be a subclass of rs.Executor with kind = {kind!r}",
        )
    return found


def _check_version(kind: str, point: EntryPoint, found: type[ExecutorBackend]) -> None:
    """Refuse a backend that is made for another major of the SPI, or for a minor that this one does not have yet."""
    made_for = found.spi_version
    is_pair = isinstance(made_for, tuple) and len(made_for) == 2 and all(type(part) is int for part in made_for)
    if not is_pair:
        raise ConfigurationError(
            f"invalid spi_version={made_for!r:.80} of {point.value!r}: expected two whole numbers, such as (1, 0)"
        )
    if made_for[0] == SPI_VERSION[0] and made_for <= SPI_VERSION:
        return
    package = f"{point.dist.name} {point.dist.version}" if point.dist is not None else point.value
    raise ConfigurationError(
        f"the executor {kind!r} of {package} is made for version {_dotted(made_for)} of rivers.spi, "
        f"and rivers-core {version('rivers-core')} has version {_dotted(SPI_VERSION)}",
        hint=_upgrade(point) if made_for < SPI_VERSION else "pip install --upgrade rivers-core",
    )


def _upgrade_hint(point: EntryPoint, error: Exception) -> str:
    """Return the remedy for a package that cannot be loaded: another version, if it misses a name of rivers."""
    if isinstance(error, ImportError) and (error.name or "").split(".")[0] == "rivers":
        here = f"rivers-core {version('rivers-core')} with version {_dotted(SPI_VERSION)} of rivers.spi is installed"
        return f"{here}; try {_upgrade(point)} rivers-core"
    return "reinstall the package that provides it"


def _upgrade(point: EntryPoint) -> str:
    return f"pip install --upgrade {point.dist.name if point.dist is not None else point.module.split('.')[0]}"


def _dotted(numbers: tuple[int, int]) -> str:
    return ".".join(map(str, numbers))


def backend_for(executor: Executor) -> ExecutorBackend:
    """Make the backend that carries out an executor."""
    return backend_type(executor.kind, executor.requirement)(executor)


def default_of(kind: str) -> Executor:
    """Return the default value of an installed kind."""
    return backend_type(kind).executor_type()
