"""The pytest plug-in of the conformance kit, in sessions of its own that know only what is installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAD = "import pytest\nimport rivers as rs\nfrom rivers.testing import ExecutorConformance\n"
FEW = "\n    @classmethod\n    def laws_of(cls, tier): return super().laws_of(tier)[:2]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project with a configuration of its own, so that nothing of this workspace's holds there."""
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    return tmp_path


def run(folder: Path, code: str, *options: str) -> tuple[int, str]:
    (folder / "test_mine.py").write_text(HEAD + code)
    command = [sys.executable, "-m", "pytest", "--strict-markers", "--strict-config", "-rsxX", "-p", "no:cacheprovider"]
    ended = subprocess.run([*command, *options], cwd=folder, capture_output=True, text=True, check=False)
    return ended.returncode, ended.stdout + ended.stderr


@pytest.mark.parametrize(
    "executor",
    [
        "executor = rs.Executor.in_process()",
        "@property\n    def executor(self): return rs.Executor.in_process()",
        "@pytest.fixture(scope='class')\n    @classmethod\n    def executor(cls): return rs.Executor.in_process()",
    ],
    ids=["value", "property", "fixture"],
)
def test_an_executor_is_given(executor: str, folder: Path) -> None:
    """A class needs an executor alone: as a value, a property or a fixture; its laws are tests."""
    code, text = run(folder, f"class TestMine(ExecutorConformance):\n    {executor}\n{FEW}")

    assert (0, True) == (code, "2 passed" in text), text


def test_the_service_runs_meanwhile(folder: Path) -> None:
    """`start_service` surrounds all laws, and what it sets is there for the executor."""
    code, text = run(
        folder,
        "from contextlib import contextmanager\n"
        "class TestMine(ExecutorConformance):\n"
        "    @contextmanager\n"
        "    def start_service(self):\n"
        "        self.made = rs.Executor.in_process(); print('up'); yield; print('down')\n"
        f"    @property\n    def executor(self): return self.made\n{FEW}",
        "-s",
    )

    assert (0, 1, 1) == (code, text.count("up\n"), text.count("down\n")), text


def test_expected_failures_are_strict(folder: Path) -> None:
    """An expected failure that passes fails, one that fails is reported with its reason, an unknown law is an error."""
    kit = (
        "from rivers.testing.conformance import LAWS, run_laws\n"
        "class TestMine(ExecutorConformance):\n    executor = rs.Executor.in_process()\n"
    )
    passing, text = run(folder, f"{kit}    expected_failures = {{'one-result': 'known'}}\n{FEW}")
    assert (1, True) == (passing, "passed, and is in expected_failures (known)" in text), text

    broken = (
        "from rivers.testing import ScriptedExecutor\n"
        "class TestMine(ExecutorConformance):\n    executor = ScriptedExecutor()\n    patience = 0.2\n"
        "    expected_failures = {'one-result': 'runs nothing', 'event-order': 'logs nothing', 'own-attempt': 'same'}\n"
        "    @classmethod\n    def laws_of(cls, tier): return [LAWS['one-result']]\n"
    )
    failing, text = run(folder, "from rivers.testing.conformance import LAWS\n" + broken)
    assert (0, True) == (failing, "1 xfailed" in text), text
    assert "runs nothing" in text

    unknown, text = run(folder, f"{kit}    expected_failures = {{'one-resul': 'known'}}\n")
    assert (2, True) == (unknown, "did you mean 'one-result'?" in text), text


def test_the_report(folder: Path) -> None:
    """The report has each law with its outcome and page; a skip names the capability, a failure its law and reason."""
    code, text = run(
        folder,
        "from rivers.testing import ScriptedExecutor\n"
        "class TestMine(ExecutorConformance):\n    executor = rs.Executor.in_process()\n"
        "class TestWrong(ExecutorConformance):\n    executor = ScriptedExecutor()\n    patience = 0.2\n",
        "--rivers-report=report.json",
        "-k",
        "one-result or exit-0",
    )
    report = json.loads((folder / "report.json").read_text())
    found = {(law["test"].split("::")[1], law["law"]): law for law in report["laws"]}

    assert 1 == code, text
    assert "passed" == found["TestMine", "one-result"]["outcome"]
    skipped = found["TestMine", "exit-0-is-no-success"]
    assert ("skipped", "needs Capabilities.isolation='process' or 'container'") == (skipped["outcome"], skipped["text"])
    failed = found["TestWrong", "one-result"]
    assert "failed" == failed["outcome"]
    assert failed["text"].startswith("one-result: ")
    assert "docs/conformance.md#one-result" in failed["text"]
    assert "one-result: " in text


def test_a_session_without_the_kit(folder: Path) -> None:
    """A session that has no such class does not import rivers for the plug-in."""
    (folder / "test_mine.py").write_text("import sys\ndef test(): assert 'rivers' not in sys.modules\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]

    assert 0 == subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode
