"""The package as a stranger's: what it imports, how it is found, what its value is."""

from __future__ import annotations

import ast
import pickle
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import rivers_executor_subprocess
from rivers_executor_subprocess import SubprocessBackend, SubprocessExecutor

import rivers as rs
import rivers_process.fork
import rivers_process.prctl
from rivers.exceptions import ConfigurationError

SOURCE = Path(rivers_executor_subprocess.__file__).parent
DOORS = {"rivers", "rivers.exceptions", "rivers.protocol", "rivers.spi", "rivers_process.fork", "rivers_process.prctl"}


def imported() -> set[str]:
    """The modules that the package imports, with what it takes from `rivers` by attribute as `rivers.<name>`."""
    names: set[str] = set()
    for file in SOURCE.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module or ".")
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "rs":
                assert node.attr in rs.__all__
    return names


def test_it_uses_the_public_doors_only() -> None:
    """Beside the standard library and itself, the package imports rivers' public modules and nothing else."""
    foreign = {name for name in imported() if name.partition(".")[0] not in sys.stdlib_module_names}

    assert {name for name in foreign if not name.startswith("rivers_executor_subprocess")} == DOORS


def test_it_takes_public_names_only() -> None:
    """Every name it imports from rivers is in the `__all__` of the module it is imported from."""
    modules = {"rivers.exceptions": rs.exceptions, "rivers.protocol": rs.protocol, "rivers.spi": rs.spi}
    modules |= {"rivers_process.fork": rivers_process.fork, "rivers_process.prctl": rivers_process.prctl}
    for file in SOURCE.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module in modules:
                assert {alias.name for alias in node.names} <= set(modules[node.module].__all__)


def test_the_entry_point() -> None:
    """The installed distribution registers the backend under the executor's kind."""
    (point,) = metadata.distribution("rivers-executor-subprocess").entry_points

    assert ("rivers.executors", SubprocessExecutor.kind) == (point.group, point.name)
    assert SubprocessBackend is point.load()


def test_its_name_is_enough(store: rs.PickleIOHandler) -> None:
    """`rivers/executor: "subprocess"` means the default value, found by its kind without importing the package."""
    code = """
import sys, rivers as rs
@rs.Asset(metadata={"rivers/executor": "subprocess"}, io_handler="store")
def a(): return 1
repo = rs.CodeRepository([a], resources={"store": rs.PickleIOHandler("unused")})
assert "rivers_executor_subprocess" not in sys.modules
(step,) = repo.plan().steps
print(step.executor)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert f"SubprocessExecutor(max_workers={SubprocessExecutor().max_workers}, allow_pickle=False)\n" == ended.stdout


def test_a_wrong_name_is_told_the_right_one(store: rs.PickleIOHandler) -> None:
    """A misspelt plug-in is refused with the installed names, among them this one, as the closest."""

    @rs.Asset(metadata={"rivers/executor": "subproces"}, io_handler="store")
    def a() -> int:
        return 1

    with pytest.raises(rs.exceptions.GraphValidationError, match="did you mean 'subprocess'"):
        rs.CodeRepository([a], resources={"store": store}).resolve()


def test_the_value() -> None:
    """The executor is a frozen value: equal, hashable, pickled, and its repr can be pasted back."""
    value = SubprocessExecutor(max_workers=3, allow_pickle=True)

    assert value == SubprocessExecutor(3, True)
    assert 1 == len({value, SubprocessExecutor(3, True)})
    assert value == pickle.loads(pickle.dumps(value))
    assert value == eval(repr(value))
    with pytest.raises(AttributeError):
        value.max_workers = 4  # type: ignore[misc]  # that is what must not work


@pytest.mark.parametrize(
    "wrong", [{"max_workers": 0}, {"max_workers": True}, {"max_workers": "2"}, {"allow_pickle": 1}]
)
def test_parameters_are_checked(wrong: dict[str, object]) -> None:
    """The error for an invalid argument names it, its value and what is expected."""
    ((name, value),) = wrong.items()

    with pytest.raises(ConfigurationError, match=f"invalid {name}={value!r}: expected"):
        SubprocessExecutor(**wrong)  # type: ignore[arg-type]  # wrong on purpose
