"""The rules that no linter here knows, read off the source: names, imports, unpickling, sizes.

Layers are import contracts in pyproject.toml; this file has what import-linter cannot say. Each rule is a function from
a syntax tree to the lines that break it, and a table of snippets proves that it bites.
"""

from __future__ import annotations

import ast
import os
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = {
    ".".join(path.relative_to(src).with_suffix("").parts).removesuffix(".__init__"): path
    for src in ROOT.glob("packages/*/src")
    for path in sorted(src.rglob("*.py"))
    if not path.stem.endswith(("_pb2", "_pb2_grpc"))
}

FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc"}

LATE_IMPORTS = {
    # module: what it may load at first use, because the core must work without an optional extra
    "rivers._io.pickle": {"rivers._io.files.object_store"},  # extra [objectstore]
    "rivers._io.shared.out_of_band": {"cloudpickle"},  # classes of __main__ in values that processes share
    "rivers._io.inline.arrays": {"numpy"},  # values that travel inline
    "rivers._io.inline.frames": {"pandas", "polars", "pyarrow", "pyarrow.ipc"},
    "rivers._telemetry.activation": {"rivers._telemetry.sink"},  # extra [otel]
    "rivers._telemetry.worker": {"rivers._telemetry.propagation", "rivers._telemetry.worker_export"},  # the same
    "rivers._plan.refs": {"cloudpickle"},  # the fallback for closures, where an executor asks for it
    "rivers_worker.__main__": {"rivers_worker.serve"},  # gRPC and cryptography load while the body's process starts
    "rivers_cli.main": {"rivers_cli.app", "rivers_cli.arguments"},  # extra [cli]
    "rivers_cli.app": {  # help is shown without importing rivers
        *(
            f"rivers.cli.{name}"
            for name in (
                *("backfill", "command", "executors", "follow", "plan"),
                *("report", "request", "resume", "run", "runs", "show"),
            )
        ),
    },
    "rivers_cli.completion": {"rivers.cli.completion"},  # modules and runs are completed without importing rivers
    "rivers.cli.run": {"rivers.cli.live"},  # an HTTP server, which few runs need
    "rivers.cli.request": {"rivers.cli.config_file"},  # YAML, the same
    "rivers._repository.observe": {"rivers._terminal.choose"},  # most runs show nothing
    "rivers._repository.run": {"rivers._report.write", "rivers._terminal.summary"},  # few results are drawn or printed
    "rivers._plan.plan": {"rivers._plan.render"},  # few plans are drawn
    "rivers._terminal.html": {"html"},  # its table of entities, for notebooks alone
    "rivers._terminal.choose": {"rivers._terminal.notebook"},  # HTML is for notebooks alone
    "rivers._definitions.signature": {"annotationlib"},  # of Python 3.14, where it evaluates annotations late
}

UNPICKLERS = {
    # module: why it may load pickles
    "rivers._io.shared.out_of_band": "the default store's own format, from a folder that is closed to other users",
    "rivers._io.files.pickles": "the handler's own format; outputs are trusted as much as the store that holds them",
    "rivers.testing.conformance.controller": "the executor under test, from the process that started this one",
    "rivers._runner.refs": "a PickledRef in the worker, after its HMAC with the key of the run was verified",
}

LONG_FILES: dict[str, str] = {
    # module: why it is not split
    "rivers._plan.frontier": "one state machine; its queues, streams, ledger and units are modules already",
    "rivers._repository.repository": "the public class: signatures and docstrings; all work is in modules of its own",
}

LOADERS = {
    *(f"{module}.{name}" for module in ("pickle", "_pickle", "cloudpickle", "dill") for name in ("load", "loads")),
    *(f"{module}.Unpickler" for module in ("pickle", "_pickle", "dill")),
    *("marshal.load", "marshal.loads", "shelve.open", "joblib.load", "torch.load", "pandas.read_pickle"),
}


# ---- the rules ------------------------------------------------------------------------------------------------------


def type_checking_blocks(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if "TYPE_CHECKING" in (getattr(node, "id", None), getattr(node, "attr", None), getattr(node, "name", None)):
            yield node.lineno  # type: ignore[attr-defined]  # every node with one of these has a line


def late_imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Modules imported anywhere but at the top: in a function, or by name at run time with a fixed name."""
    for outer in ast.walk(tree):
        if not isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        for node in ast.walk(outer):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield node.lineno, node.module or "."
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
                # A name that is only known at run time is a ref being followed: what rivers is for.
                yield from ((node.lineno, str(name.value)) for name in node.args[:1] if isinstance(name, ast.Constant))


def is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def unpickling(tree: ast.Module) -> Iterator[int]:
    """Lines that name something that loads pickles, under whatever alias."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                if f"{node.module}.{alias.name}" in LOADERS:
                    yield node.lineno
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if f"{names.get(node.value.id, node.value.id)}.{node.attr}" in LOADERS:
                yield node.lineno
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("load", "read_array")):
            # numpy's own switch, whatever numpy is called here.
            yield from (
                node.lineno for word in node.keywords if word.arg == "allow_pickle" and not is_false(word.value)
            )


def imports_of_the_facade(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "rivers":
            yield node.lineno
        elif isinstance(node, ast.Import) and any(alias.name == "rivers" for alias in node.names):
            yield node.lineno


def code_in_init(tree: ast.Module) -> Iterator[int]:
    """What an `__init__.py` holds beside a docstring, imports and `__all__`."""
    for node in tree.body:
        is_all = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not (isinstance(node, ast.Import | ast.ImportFrom) or is_all or is_text):
            yield node.lineno


def exported(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            value = ast.literal_eval(node.value)
            return list(value)
    return None


def long_functions(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            documentation = ast.get_docstring(node, clean=False)
            length = (node.end_lineno or 0) - node.lineno + 1 - (documentation or "").count("\n") - bool(documentation)
            if length > 60:
                yield node.lineno, node.name


@pytest.mark.parametrize(
    ("rule", "snippet"),
    [
        (type_checking_blocks, "from typing import TYPE_CHECKING\n"),
        (type_checking_blocks, "import typing\nif typing.TYPE_CHECKING:\n    import os\n"),
        (late_imports, "def f():\n    import os\n"),
        (late_imports, "class A:\n    async def f(self):\n        from rivers import x\n"),
        (late_imports, "def f():\n    importlib.import_module('obstore')\n"),
        (unpickling, "import pickle\npickle.loads(b'')\n"),
        (unpickling, "import pickle as p\nload = p.load\n"),
        (unpickling, "from cloudpickle import loads as read\n"),
        (unpickling, "import pickle\nclass Mine(pickle.Unpickler): ...\n"),
        (unpickling, "import numpy\nnumpy.load(f, allow_pickle=True)\n"),
        (imports_of_the_facade, "import rivers as rs\n"),
        (imports_of_the_facade, "from rivers import Asset\n"),
        (code_in_init, "import os\nif os.name == 'nt':\n    pass\n"),
        (long_functions, "def f():\n" + "    g()\n" * 60),
    ],
)
def test_each_rule_bites(rule: Callable[[ast.Module], Iterator[object]], snippet: str) -> None:
    """A snippet that breaks a rule is found by it."""
    assert list(rule(ast.parse(snippet)))


@pytest.mark.parametrize(
    ("rule", "snippet"),
    [
        (late_imports, "import os\ntry:\n    import a\nexcept ImportError:\n    a = None\n"),
        (late_imports, "def follow(name):\n    return importlib.import_module(name)\n"),
        (unpickling, "import json, pickle\njson.loads('1')\npickle.dumps(1)\n"),
        (unpickling, "import numpy\nnumpy.load(f, allow_pickle=False)\n"),
        (unpickling, "rs.Executor.kubernetes(allow_pickle=True)\n"),
        (imports_of_the_facade, "from rivers.protocol import StepSpec\n"),
        (code_in_init, '"""What."""\nfrom a import b\n__all__ = ["b"]\n'),
        (long_functions, 'def f():\n    """' + "\n" * 80 + '    """\n' + "    g()\n" * 58),
    ],
)
def test_no_rule_bites_too_much(rule: Callable[[ast.Module], Iterator[object]], snippet: str) -> None:
    """A snippet that is fine is not found."""
    assert [] == list(rule(ast.parse(snippet)))


# ---- the source -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    return {module: ast.parse(path.read_text(encoding="utf-8")) for module, path in SOURCES.items()}


def broken(trees: dict[str, ast.Module], rule: Callable[[ast.Module], Iterator[object]]) -> list[str]:
    return [f"{module}: {line}" for module, tree in trees.items() for line in rule(tree)]


def test_the_source_is_found() -> None:
    """The rules below look at something: the core's modules are among what they read."""
    assert {"rivers.exceptions", "rivers.spi", "rivers.protocol"} <= SOURCES.keys()


def test_no_file_has_an_empty_name() -> None:
    """No Python file or folder is called utils, helpers, common, manager or misc."""
    folders = ("packages", "tests", "examples", "bench", "fuzz", "proto")
    paths = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))

    assert [] == [
        str(path.relative_to(ROOT))
        for path in paths
        if FORBIDDEN_NAMES & {part.strip("_") for part in path.relative_to(ROOT).with_suffix("").parts}
    ]


def test_no_type_checking_blocks(trees: dict[str, ast.Module]) -> None:
    """No cycle of imports is hidden behind TYPE_CHECKING."""
    assert [] == broken(trees, type_checking_blocks)


def test_imports_stand_at_the_top(trees: dict[str, ast.Module]) -> None:
    """Nothing is imported inside a function but the optional extras listed here, each in its one module."""
    found = {(module, name) for module, tree in trees.items() for _, name in late_imports(tree)}

    assert {(module, name) for module, names in LATE_IMPORTS.items() for name in names} == found


def test_pickles_are_loaded_in_listed_modules_only(trees: dict[str, ast.Module]) -> None:
    """Bytes are unpickled in the listed modules and nowhere else, and each listed module still does it."""
    assert UNPICKLERS.keys() == {module for module, tree in trees.items() if list(unpickling(tree))}


def test_no_module_imports_the_facade(trees: dict[str, ast.Module]) -> None:
    """`rivers/__init__.py` is for users: no module below it imports it, but the kit's cases, written as users do."""
    cases = "rivers.testing.conformance.cases"
    below = {module: tree for module, tree in trees.items() if module != "rivers" and not module.startswith(cases)}

    assert [] == broken(below, imports_of_the_facade)


def test_the_shared_process_code_imports_the_standard_library_alone(trees: dict[str, ast.Module]) -> None:
    """`rivers_process` imports nothing that is not in the standard library or in itself."""
    imported = {
        name.split(".")[0]
        for module, tree in trees.items()
        if module.split(".")[0] == "rivers_process"
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or "."] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }

    assert imported
    assert imported <= {"rivers_process", *sys.stdlib_module_names}


def test_init_files_hold_imports_and_all(trees: dict[str, ast.Module]) -> None:
    """An `__init__.py` is imports and `__all__`, nothing else."""
    inits = {module: tree for module, tree in trees.items() if SOURCES[module].name == "__init__.py"}

    assert [] == broken(inits, code_in_init)


def test_public_modules_say_what_they_export(trees: dict[str, ast.Module]) -> None:
    """Every module whose path has no underscore has an `__all__`; one that is only a docstring needs none."""
    public = {
        module: tree
        for module, tree in trees.items()
        if tree.body[1:] and not any(p[0] == "_" for p in module.split("."))
    }

    assert [] == [module for module, tree in public.items() if exported(tree) is None]


def test_exports_are_sorted(trees: dict[str, ast.Module]) -> None:
    """Every `__all__` is sorted as ruff sorts it (CONSTANTS, Classes, functions) and names nothing twice."""
    exports = {module: exported(tree) or [] for module, tree in trees.items()}

    assert {
        module: sorted(set(names), key=lambda name: (not name.isupper(), not name[0].isupper(), name))
        for module, names in exports.items()
    } == exports


def test_files_and_functions_stay_small(trees: dict[str, ast.Module]) -> None:
    """A file has at most 400 lines or a listed reason, a function at most 60 without its docstring."""
    long = {module for module, path in SOURCES.items() if path.read_text(encoding="utf-8").count("\n") > 400}

    assert LONG_FILES.keys() == long
    assert [] == broken(trees, long_functions)


# ---- the workspace --------------------------------------------------------------------------------------------------


def test_the_session_refuses_to_start_beside_the_other_rivers(tmp_path: Path) -> None:
    """Where the distribution `rivers` is installed, pytest ends with a usage error that names it, before any test."""
    info = tmp_path / "rivers-0.6.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rivers\nVersion: 0.6.2\n")

    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/test_boundaries.py", "--collect-only", "-p", "no:cacheprovider"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert pytest.ExitCode.USAGE_ERROR == ended.returncode
    assert "`rivers` 0.6.2 is installed" in ended.stderr


def test_the_hook_of_import_contracts_sees_every_package() -> None:
    """Run alone, the hook has the sources of all root packages of the contracts on its path."""
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    entry = next(line.split("entry: ")[1] for line in hooks.splitlines() if "lint-imports" in line)

    shown = subprocess.run(
        shlex.split(entry.replace("exec lint-imports --no-cache", "exec printenv PYTHONPATH")),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    seen = {path.name for folder in shown.stdout.strip().split(":") if folder for path in (ROOT / folder).iterdir()}
    assert set(contracts["root_packages"]) <= seen


def test_hooks_use_the_versions_of_the_lint_session() -> None:
    """The tools of .pre-commit-config.yaml are pinned as in the dependency group `lint`."""
    pins = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["lint"]
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    used = {part.split('"')[1] for part in hooks.splitlines() if "additional_dependencies" in part}

    assert used
    assert used <= set(pins)
