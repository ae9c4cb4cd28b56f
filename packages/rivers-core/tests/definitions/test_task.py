"""Tasks and bash tasks by themselves (contract.md §3)."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

import rivers as rs
from rivers.exceptions import (
    ConfigurationError,
    ExecutionError,
    GraphValidationError,
    InvalidMetadataError,
    TaskDefinitionError,
)


def plain(x: int = 1) -> int:
    return x + 1


class TestTask:
    def test_calling(self) -> None:
        """Outside a composition a task is its function."""
        assert 3 == rs.Task(plain)(2)

    def test_many(self) -> None:
        """One decorator makes many tasks with the same settings."""
        etl = rs.Task(tags=["etl"], timeout=3, metadata={"owner": "me"}, retry="often", compute=rs.Compute(cpu="1"))

        @etl
        def first() -> int:
            return 1

        assert ("first", ("etl",), 3.0, {"owner": "me"}, "often", "1") == (
            first.name, first.tags, first.timeout, first.metadata, first.retry, first.compute.cpu,
        )  # fmt: skip
        assert "<Task 'first'>" == repr(first)

    @pytest.mark.parametrize(
        ("setting", "value"),
        [
            ("tags", "one"),
            ("tags", {"a": "b"}),
            ("io_handler", 3),
            ("metadata", {"a": 1}),
            ("metadata", {"rivers/node/executors": "parallel"}),
            ("retry", 3),
            ("compute", "500m"),
            ("timeout", 0),
        ],
        ids=repr,
    )
    def test_wrong_setting(self, setting: str, value: Any) -> None:
        """A wrong value is refused where it is written, as a mistake of the task, for functions and for commands."""
        error: Any = (TaskDefinitionError, InvalidMetadataError)

        with pytest.raises(error, match=rf"task 'plain'.*{setting}"):
            rs.Task(plain, **{setting: value})
        with pytest.raises(error, match=rf"bash task 'plain'.*{setting}"):
            rs.BashTask("plain", "true", **{setting: value})

    @pytest.mark.parametrize("given", ["name", 3])
    def test_not_a_function(self, given: Any) -> None:
        """A name or a number where the function stands is refused."""
        with pytest.raises(TaskDefinitionError, match="name="):
            rs.Task(given)
        with pytest.raises(TaskDefinitionError, match="expected a function"):
            rs.Task(name="x")(given)

    @pytest.mark.parametrize("name", ["", "a/../b", "a[b]", 3])
    def test_names(self, name: Any) -> None:
        """A task's name follows the rule of all names."""
        for make in (lambda: rs.Task(plain, name=name), lambda: rs.BashTask(name, "true")):
            with pytest.raises(TaskDefinitionError, match="task name"):
                make()


class TestAlone:
    def test_upstreams(self) -> None:
        """A task of the repository runs by itself, with assets and resources by parameter name, and is an upstream."""

        def base() -> int:
            return 4

        def after(plain: int) -> int:
            return plain * 10

        def with_base(base: int) -> int:
            return base + 1

        task = rs.Task(with_base, name="plain")
        repository = rs.CodeRepository([rs.Asset(base), rs.Asset(after)], tasks=[task])
        result = repository.materialize()

        assert 50 == repository.load_node("after")
        assert 5 == repository.load_node("plain")
        assert "succeeded" == result.steps["plain"].state.value

    def test_used_by_a_graph(self) -> None:
        """A listed task that a graph asset uses needs no upstreams, and runs alone only when it is selected."""

        @rs.Task
        def source() -> int:
            return 1

        @rs.Task
        def step(value: int) -> int:
            return value + 1

        def g() -> Any:
            return step(source())

        repository = rs.CodeRepository([rs.Asset.from_graph(g)], tasks=[source, step], jobs=[rs.Job("j", [source])])

        assert ["g/source", "g/step"] == [found.key for found in repository.plan().steps]
        assert ["source"] == list(repository.get_job("j").execute().steps)
        with pytest.raises(ConfigurationError, match="runs only within graph assets"):
            repository.plan("step")

    def test_no_function(self) -> None:
        """A task that decorated nothing is reported."""
        with pytest.raises(GraphValidationError, match="decorated nothing"):
            rs.CodeRepository([], tasks=[rs.Task(name="x")]).resolve()


class TestBash:
    def test_calling(self, tmp_path: Path) -> None:
        """Outside a composition a bash task runs its command: shell or arguments, environment, directory, stdout."""
        in_shell = rs.BashTask("a", "printf $WORD; pwd", env={"WORD": "x"}, cwd=tmp_path)
        arguments = rs.BashTask("b", [sys.executable, "-c", "import sys; print(sys.argv[1])", "$HOME"])

        assert f"x{os.path.realpath(tmp_path)}" == in_shell().strip()
        assert "$HOME" == arguments().strip()

    def test_numbers_and_paths(self, tmp_path: Path) -> None:
        """Numbers and paths are words of a command and values of its environment."""
        listing = rs.BashTask("a", ["printf", "%s-", 5, 0.5, tmp_path])
        variables = rs.BashTask("b", 'printf "$N $P"', env={"N": 4, "P": tmp_path})
        script = tmp_path / "with space.sh"
        script.write_text("#!/bin/sh\nprintf ran")
        script.chmod(0o755)

        assert f"5-0.5-{tmp_path}-" == listing()
        assert f"4 {tmp_path}" == variables()
        assert "ran" == rs.BashTask("c", script)()

    def test_home_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A cwd below ~ is in the home folder of who runs the command."""
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / "work").mkdir()

        assert os.path.realpath(tmp_path / "work") == rs.BashTask("a", "pwd", cwd="~/work")().strip()

    def test_failing(self) -> None:
        """A code other than 0 is an error that has the code and the end of stderr."""
        with pytest.raises(ExecutionError, match=r"code 3(?s:.*)oh no"):
            rs.BashTask("a", "echo oh no >&2; exit 3")()

    def test_alone(self) -> None:
        """A bash task runs as a step of the repository by itself."""
        hello = rs.BashTask("hello", "printf hello")

        def after(hello: str) -> str:
            return hello.upper()

        repository = rs.CodeRepository([rs.Asset(after)], tasks=[hello])
        repository.materialize()

        assert "HELLO" == repository.load_node("after")

    @pytest.mark.parametrize(
        ("setting", "value"),
        [
            ("command", ""),
            ("command", []),
            ("command", ["a", ""]),
            ("command", [None]),
            ("command", [True]),
            ("command", None),
            ("command", b"true"),
            ("env", ["A=b"]),
            ("env", {"A": True}),
            ("env", {"A": None}),
            ("cwd", 3),
        ],
        ids=repr,
    )
    def test_wrong(self, setting: str, value: Any) -> None:
        """A wrong command, environment or directory is refused where it is written."""
        with pytest.raises(TaskDefinitionError, match=rf"bash task 'a': invalid {setting}(\['A'\])?="):
            rs.BashTask("a", **{"command": "true", setting: value})

    def test_where(self) -> None:
        """The location of a bash task is the call that makes it, so that two of one name are both found."""
        line = sys._getframe().f_lineno + 1
        first, second = rs.BashTask("a", "true"), rs.BashTask("a", "false")

        assert f"{__file__}:{line}" == first.where
        with pytest.raises(GraphValidationError) as caught:
            rs.CodeRepository([], tasks=[first, second]).resolve()
        assert 2 == str(caught.value).count(f"{__file__}:{line}")
