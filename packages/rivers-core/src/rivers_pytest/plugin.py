"""The pytest plug-in of the conformance kit: a test for each law, markers, options and the report.

    pytest tests/test_conformance.py --rivers-tier full --rivers-report conformance.json

It works on subclasses of `rivers.testing.ExecutorConformance`, which it knows by an attribute: a session that has none
does not import rivers for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

__all__ = ["ConformanceReport"]

PROPERTY = "rivers_conformance"
"""The property of a test's report that holds the law's result, as JSON: it crosses the processes of pytest-xdist."""
TIME_LIMITS = {"quick": 300, "full": 1800}
"""Seconds for pytest-timeout, whose own default may be less than a law's deadlines together."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the kit."""
    group = parser.getgroup("rivers", "conformance of rivers executors")
    group.addoption(
        "--rivers-tier",
        choices=("quick", "full"),
        default="quick",
        help="the laws to run: the quick ones, or all of them with more cases",
    )
    group.addoption("--rivers-report", metavar="FILE.json", help="write the result of every law to this file")


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, so that --strict-markers knows them, and the report."""
    config.addinivalue_line("markers", "rivers_law(name): the law of the conformance kit that a test judges by")
    config.addinivalue_line("markers", "rivers_full: a law of the full tier, which takes long")
    config.pluginmanager.register(ConformanceReport(config), "rivers-conformance-report")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test of each law of the class's tier."""
    kit: Any = metafunc.cls
    if "rivers_law" not in metafunc.fixturenames or not getattr(kit, "is_executor_conformance", False):
        return
    tier = kit.tier or metafunc.config.getoption("rivers_tier")
    has_timeout = metafunc.config.pluginmanager.hasplugin("timeout")
    parameters = []
    for law in kit.laws_of(tier):
        marks = [pytest.mark.rivers_law(law.name)]
        marks += [pytest.mark.rivers_full] if law.tier == "full" else []
        marks += [pytest.mark.timeout(TIME_LIMITS[tier])] if has_timeout else []
        parameters.append(pytest.param(law, id=law.name, marks=marks))
    metafunc.parametrize("rivers_law", parameters)


@pytest.fixture(scope="class")
def rivers_subject(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The executor under test of an ExecutorConformance class, with its service running."""
    kit: Any = request.cls()
    with ExitStack() as stack:
        stack.enter_context(kit.start_service())
        executor = kit.executor if kit.has_executor_value() else request.getfixturevalue("executor")
        tier = kit.tier or request.config.getoption("rivers_tier")
        yield stack.enter_context(kit.open_subject(executor, tier))


@pytest.fixture
def rivers_judge(
    request: pytest.FixtureRequest,
    rivers_law: Any,
    rivers_subject: Any,
    record_property: Callable[[str, object], None],
) -> Callable[[], None]:
    """Judge the executor under test by a law, and end the test as the result says."""

    def judge() -> None:
        __tracebackhide__ = True
        verdict = request.cls.judge(rivers_law, rivers_subject)
        record = {"test": request.node.nodeid, **verdict}
        record_property(PROPERTY, json.dumps(record, ensure_ascii=False))
        if verdict["outcome"] == "skipped":
            pytest.skip(verdict["text"])
        if verdict["outcome"] == "xfailed":
            pytest.xfail(verdict["text"])
        if verdict["outcome"] != "passed":
            pytest.fail(verdict["text"], pytrace=False)

    return judge


class ConformanceReport:
    """The results of all laws of a session, for `--rivers-report` and for the figures at its end."""

    def __init__(self, config: pytest.Config) -> None:
        self._path: str | None = config.getoption("rivers_report")
        self._is_worker = hasattr(config, "workerinput")
        self._laws: list[dict[str, Any]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect the result of a law."""
        if report.when == "call":
            self._laws += [json.loads(str(value)) for name, value in report.user_properties if name == PROPERTY]

    def pytest_sessionfinish(self) -> None:
        """Write the report where one is asked for; a process of pytest-xdist hands its results to the controller."""
        if self._path is not None and not self._is_worker:
            text = json.dumps({"version": 1, "laws": self._laws}, indent=1, ensure_ascii=False)
            Path(self._path).write_text(text + "\n", encoding="utf-8")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print what laws have measured."""
        measured = [one for one in self._laws if one["figures"]]
        if measured:
            terminalreporter.section("rivers conformance")
        for one in measured:
            figures = ", ".join(f"{name} {value:g}" for name, value in one["figures"].items())
            terminalreporter.line(f"{one['executor']} {one['law']}: {figures}")
