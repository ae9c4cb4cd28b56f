"""The public names of rivers-core with their signatures, pinned in public_api.txt.

A test fails when they differ. Whoever has meant the change runs `python tests/test_public_api.py --update` and commits
the new file together with a changelog fragment; docs/stability.md says which changes are allowed when.

The names are read off the source, not imported: the text is the same on every Python and without any extra.
"""

from __future__ import annotations

import ast
import difflib
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "packages/rivers-core/src"
SNAPSHOT = ROOT / "tests/public_api.txt"
MODULES = (
    *(f"rivers{name}" for name in ("", ".events", ".exceptions", ".io_handlers", ".protocol", ".spi", ".testing")),
    "rivers_process.fork",
    "rivers_process.prctl",
)
Definition = tuple[str, ast.stmt]
"""The module that defines a name, and the statement."""


@cache
def parse(module: str) -> ast.Module:
    folder = SOURCE.joinpath(*module.split("."))
    path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"))


def exported(module: str) -> list[str]:
    """Return the `__all__` of a module."""
    for node in parse(module).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []


@cache
def find(module: str, name: str) -> Definition | None:
    """Return the definition of a name that a module defines or imports from another one of rivers."""
    for node in parse(module).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rivers":
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    # `from rivers import events` imports a module, which has pages of its own here.
                    inner = f"{node.module}.{alias.name}"
                    return (inner, ast.Pass()) if inner in MODULES else find(str(node.module), alias.name)
        elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            return module, node
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return module, node
        elif isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == name:
            return module, node
    return None


def is_public(name: str) -> bool:
    return not name.startswith("_") or name == "__init__"


def describe_function(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    for decorator in node.decorator_list:
        yield f"@{ast.unparse(decorator)}"
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    prefix = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    yield f"{prefix} {node.name}({ast.unparse(node.args)}){returns}"


def members(module: str, node: ast.ClassDef, seen: set[str]) -> Iterator[str]:
    """Yield the public members of a class and, as those are nowhere else, of its private bases."""
    for item in node.body:
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) and is_public(item.name):
            # An overload and a setter have the name a second time.
            if item.name not in seen or item.decorator_list:
                yield from describe_function(item)
            seen.add(item.name)
        elif isinstance(item, ast.AnnAssign | ast.Assign):
            target = ast.unparse(item.target if isinstance(item, ast.AnnAssign) else item.targets[0])
            if target not in seen and not target.startswith("_"):
                seen.add(target)
                yield ast.unparse(item)
    for base in node.bases:
        name = ast.unparse(base).partition("[")[0]
        found = find(module, name)
        if found is not None and isinstance(found[1], ast.ClassDef) and name not in public_names():
            yield from members(found[0], found[1], seen)


@cache
def public_names() -> set[str]:
    return {name for module in MODULES for name in exported(module)}


def describe(module: str, name: str) -> Iterator[str]:
    found = find(module, name)
    assert found is not None, f"{module}.{name} is exported and defined nowhere in rivers"
    where, node = found
    if isinstance(node, ast.ClassDef):
        settings = [*map(ast.unparse, node.bases), *(f"{word.arg}={ast.unparse(word.value)}" for word in node.keywords)]
        for decorator in node.decorator_list:
            yield f"@{ast.unparse(decorator)}"
        yield f"class {name}" + (f"({', '.join(settings)})" if settings else "")
        yield from (f"    {line}" for line in members(where, node, set()))
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        yield from describe_function(node)
    else:
        yield f"module {where}" if isinstance(node, ast.Pass) else ast.unparse(node)


def describe_all() -> str:
    """Return the text of the snapshot."""
    lines = [
        "# The public names of rivers-core. `python tests/test_public_api.py --update` writes this file; see",
        "# docs/stability.md for the changes that are allowed. A name that stands above is not repeated.",
    ]
    seen: set[Definition] = set()
    for module in MODULES:
        lines += ["", f"## {module}", ""]
        for name in exported(module):
            definition = find(module, name)
            is_repeated = definition in seen
            lines += [f"{name}"] if is_repeated else list(describe(module, name))
            if definition is not None:
                seen.add(definition)
    return "\n".join(lines) + "\n"


def test_public_api_is_pinned() -> None:
    """The public names and signatures are those of public_api.txt."""
    pinned, now = SNAPSHOT.read_text(encoding="utf-8"), describe_all()
    changes = difflib.unified_diff(pinned.splitlines(), now.splitlines(), "pinned", "source", lineterm="", n=1)

    if pinned != now:
        pytest.fail(
            "the public API has changed:\n" + "\n".join(changes) + "\nIf you mean it, see docs/stability.md, "
            "run `python tests/test_public_api.py --update` and write a changelog fragment",
            pytrace=False,
        )


@pytest.mark.parametrize(
    "line",
    [
        "## rivers.spi",
        "SPI_VERSION = (1, 1)",
        "class ExecutorBackend(ABC, Generic[ExecutorT])",
        "    spi_version: ClassVar[tuple[int, int]] = (1, 0)",
        "    def cancel(self, attempt_id: str, grace: float) -> None",
        "PROTOCOL_VERSION = 1",
        "def encode_spec(spec: StepSpec) -> bytes",
        "    attempt_id: str",
    ],
)
def test_the_snapshot_has_what_authors_use(line: str) -> None:
    """The snapshot holds names, signatures, fields and version numbers, one a line."""
    assert line in SNAPSHOT.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("def cancel(self, attempt_id: str, grace: float)", "def cancel(self, attempt_id: str)"),
        ("max_steps: int | None = None", "max_steps: int | None = 1"),
        ('    "Capabilities",\n', ""),
    ],
)
def test_a_change_is_noticed(monkeypatch: pytest.MonkeyPatch, before: str, after: str) -> None:
    """A parameter that goes, a default that changes and a name that is no longer exported change the text."""
    original = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path, **how: original(path, **how).replace(before, after))
    try:
        for cached in (parse, find, public_names):
            cached.cache_clear()
        changed = describe_all()
    finally:
        monkeypatch.undo()
        for cached in (parse, find, public_names):
            cached.cache_clear()

    assert changed != describe_all()


if __name__ == "__main__":
    if sys.argv[1:] != ["--update"]:
        sys.exit("usage: python tests/test_public_api.py --update")
    SNAPSHOT.write_text(describe_all(), encoding="utf-8")
