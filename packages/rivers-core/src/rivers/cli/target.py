"""The repository that a command names: `package.module`, `package.module:name` or `path/to/file.py`."""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from rivers._definitions.names import did_you_mean
from rivers._repository.repository import CodeRepository
from rivers.cli.errors import CommandError, brief, user_frame
from rivers.exceptions import RiversError

__all__ = ["LoadedTarget", "load_target", "target_identity"]

_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
LIKELY = ("repository", "repo", "definitions", "assets", "main", "pipeline")
"""Names of modules in which people put a repository."""
EXPECTED = "package.module, package.module:name or path/to/file.py"


@dataclass(frozen=True, slots=True)
class LoadedTarget:
    """A repository and the text that names it: `module:name` or `file.py:name`."""

    name: str
    repository: CodeRepository


def load_target(text: str) -> LoadedTarget:
    """Import the module of a target and return the repository in it.

    The working directory comes first on `sys.path`, as with `python -m`; a file's folder, or the folder above its
    package, comes before it, so that worker processes can import it by name.

    Raises:
        CommandError: the target cannot be imported, or it does not name exactly one repository.
    """
    place, _, attribute = text.rpartition(":") if _has_attribute(text) else (text, "", "")
    if place != text and not _DOTTED.fullmatch(attribute):
        raise CommandError(f"invalid TARGET={text!r}: expected a name after the colon, such as {place}:repo")
    _put_first(Path.cwd())
    if place.endswith(".py") or os.sep in place:
        module = _import_file(Path(place).expanduser())
    elif _DOTTED.fullmatch(place):
        module = _import_module(place)
    else:
        raise CommandError(f"invalid TARGET={text!r}: expected {EXPECTED}")
    if attribute:
        return LoadedTarget(text, _named(module, place, attribute))
    name, repository = _only_one(module, place)
    return LoadedTarget(f"{place}:{name}", repository)


def target_identity(text: str, folder: str | Path) -> tuple[str, str]:
    """Return what all names of one repository share: `shop:repo`, `shop.py:repo` and `./shop.py:repo`.

    It is the folder from which the module is imported, "" for one that is installed, and `module:name`. `folder` is the
    working directory in which the text names it.
    """
    place, _, attribute = text.rpartition(":") if _has_attribute(text) else (text, "", "")
    if place.endswith(".py") or os.sep in place:
        parts, root = _module_of((Path(folder) / Path(place).expanduser()).resolve())
        return str(root), f"{'.'.join(parts)}:{attribute}"
    first = Path(folder) / place.partition(".")[0]
    is_here = first.is_dir() or first.with_name(f"{first.name}.py").exists()
    return str(Path(folder).resolve()) if is_here else "", f"{place}:{attribute}"


def _has_attribute(text: str) -> bool:
    # A folder may have a colon in its name.
    return ":" in text and os.sep not in text.rpartition(":")[2] and not text.endswith(".py")


def _put_first(folder: Path) -> None:
    # Worker processes get the same `sys.path`.
    path = str(folder)
    if path in sys.path:
        sys.path.remove(path)
    sys.path.insert(0, path)


def _import_file(path: Path) -> ModuleType:
    if not path.exists():
        siblings = [str(other) for other in sorted(path.parent.glob("*.py"))] if path.parent.is_dir() else []
        raise CommandError(f"there is no file {str(path)!r}{did_you_mean(str(path), siblings)}")
    full = path.resolve()
    if full.is_dir() and not (full / "__init__.py").is_file():
        raise CommandError(
            f"{str(path)!r} is a folder without __init__.py", hint="name one of its files, such as repository.py"
        )
    parts, folder = _module_of(full)
    wrong = next((part for part in parts if not _DOTTED.fullmatch(part) or "." in part), None)
    if wrong is not None:
        raise CommandError(
            f"{str(path)!r} cannot be imported by worker processes: {wrong!r} is no name of a module",
            hint=f"rename it, for example to {re.sub(r'[^0-9A-Za-z_]+', '_', wrong)}",
        )
    _put_first(folder)
    module = _import_module(".".join(parts))
    # `random.py` beside a run would be the standard library's module, which rivers has imported already.
    found = Path(module.__file__ or "").resolve()
    if found not in (full, full / "__init__.py"):
        raise CommandError(
            f"the name of {str(path)!r} is taken: {module.__name__!r} is already the module {module.__file__ or ''}",
            hint="rename the file",
        )
    return module


def _module_of(full: Path) -> tuple[list[str], Path]:
    """Return the names of a file's module and of the packages that it is in, and the folder above them."""
    parts, folder = [full.stem if full.suffix == ".py" else full.name], full.parent
    # A file of a package is imported as a module of it: its relative imports work, and no module exists twice.
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    return parts, folder


def _import_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # The target itself, or a package above it; anything else is an import inside the target.
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            raise _not_found(name, error.name) from error
        if isinstance(error, RiversError):
            message = f"cannot import {name}: {error.message}"
        else:
            message = f"cannot import {name}: {brief(error)}"
        hint = error.hint if isinstance(error, RiversError) else None
        if isinstance(error, ModuleNotFoundError):
            hint = f"install the package that provides {error.name!r} into {sys.prefix}, or correct the import"
        elif isinstance(error, SystemExit):
            hint = 'keep what a script does when it is started below if __name__ == "__main__":'
        raise CommandError(message, at=user_frame(error), hint=hint or "--verbose shows the traceback") from error


def _not_found(name: str, missing: str) -> CommandError:
    parent, _, last = missing.rpartition(".")
    package = sys.modules.get(parent)
    folders = list(package.__path__) if package is not None and hasattr(package, "__path__") else [str(Path.cwd())]
    near = did_you_mean(last, [found.name for found in pkgutil.iter_modules(folders)])
    hint = "run the command in the folder that holds the package, or give the path of a file"
    if (Path("src") / missing.partition(".")[0]).exists() or Path("src", f"{missing}.py").exists():
        hint = "install the project (pip install -e .), or set PYTHONPATH=src"
    return CommandError(f"no module {missing!r}{f' in {parent}' if parent else ' here'}{near}", hint=hint)


def _named(module: ModuleType, place: str, attribute: str) -> CodeRepository:
    value: Any = module
    for part in attribute.split("."):
        if not hasattr(value, part):
            names = list(_repositories(module)) or [name for name in vars(module) if not name.startswith("_")]
            raise CommandError(
                f"{place} has no {attribute!r}{did_you_mean(attribute, names)}", hint=_offer(module, place)
            )
        value = getattr(value, part)
    if isinstance(value, CodeRepository):
        return value
    # Not whatever is callable: calling an asset would run its body.
    if inspect.isroutine(value):
        value = _call(value, f"{place}:{attribute}")
        if isinstance(value, CodeRepository):
            return value
    raise CommandError(
        f"{place}:{attribute} is no CodeRepository: it is of type {type(value).__name__}", hint=_offer(module, place)
    )


def _call(factory: Any, name: str) -> Any:
    try:
        inspect.signature(factory).bind()
    except (TypeError, ValueError):
        raise CommandError(
            f"{name} needs arguments: expected a CodeRepository or a function without parameters that returns one"
        ) from None
    try:
        return factory()
    except Exception as error:
        raise CommandError(
            f"{name}() raised {brief(error)}", at=user_frame(error), hint="--verbose shows the traceback"
        ) from error


def _only_one(module: ModuleType, place: str) -> tuple[str, CodeRepository]:
    found = _repositories(module)
    if not found:
        raise CommandError(f"{place} has no CodeRepository", hint=_offer(module, place))
    if len(found) > 1:
        names = ", ".join(f"{place}:{name}" for name in found)
        raise CommandError(f"{place} has {len(found)} repositories: expected one of {names}")
    return next(iter(found.items()))


def _repositories(module: ModuleType) -> dict[str, CodeRepository]:
    """Return the repositories of a module by name; one with several names under its first."""
    # By identity, as an import may give a repository a second name.
    found: dict[int, tuple[str, CodeRepository]] = {}
    for name, value in vars(module).items():
        if isinstance(value, CodeRepository):
            found.setdefault(id(value), (name, value))
    return dict(found.values())


def _offer(module: ModuleType, place: str) -> str:
    repositories = list(_repositories(module))
    if repositories:
        return f"it has {', '.join(f'{place}:{name}' for name in repositories)}"
    factories = [
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value)
        and str(value.__annotations__.get("return", "")).strip("'\"").rpartition(".")[2].strip("'>") == "CodeRepository"
    ]
    if factories:
        return f"name the function that makes one: {place}:{factories[0]}"
    if hasattr(module, "__path__"):
        inside = [found.name for found in pkgutil.iter_modules(module.__path__) if found.name in LIKELY]
        if inside:
            return f"it may be in a module of the package: {module.__name__}.{inside[0]}"
    return "write repo = rs.CodeRepository(assets=[...]) at its module scope"
