"""The kit can fail: each law catches a wrong backend, the correct one keeps all laws, and no law can be taken away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from judge import open_subject
from sinners import CAUGHT_BY, ONLY, SINNERS
from sinners.leftovers import remove_left

from rivers.testing.conformance import LAWS, Subject, run_law

AT_ONCE = 2 * (os.cpu_count() or 1)
"""Wrong backends that are judged at once: laws mostly wait."""


def by_tier(names: list[str]) -> list[object]:
    """Return parameters, those whose law is of the full tier marked as long."""
    long = (pytest.mark.long, pytest.mark.timeout(240))
    return [pytest.param(name, marks=long if LAWS[CAUGHT_BY.get(name, name)].tier == "full" else ()) for name in names]


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    yield
    remove_left()


@pytest.fixture(scope="module")
def correct() -> Iterator[Subject]:
    with open_subject(patience=30.0) as subject:
        yield subject


@pytest.mark.parametrize("law", by_tier([*LAWS]))
def test_correct_backend_keeps(correct: Subject, law: str) -> None:
    """The correct backend keeps every law, or lacks the capability that it names."""
    result = run_law(law, correct)

    assert result.outcome != "failed", result.text


@pytest.mark.parametrize("sin", by_tier([*SINNERS]))
def test_sinner_is_caught(sin: str) -> None:
    """A wrong backend breaks the law that names its sin, and the failure says law, reason and page."""
    law = LAWS[CAUGHT_BY[sin]]
    with open_subject(sin, patience=4.0) as subject:
        result = run_law(law, subject)

    assert ("failed", True) == (result.outcome, result.text.startswith(f"{law.name}: ")), result.text
    assert law.reason in result.text
    assert law.page in result.text


def test_each_law_has_a_sinner_of_its_own() -> None:
    """There are more than 20 wrong backends, and for every law one that it alone should catch."""
    assert len(SINNERS) > 20
    assert sorted(LAWS) == sorted(CAUGHT_BY[sin] for sin in ONLY)


@pytest.fixture(scope="module")
def judged() -> Iterator[dict[str, Future[dict[str, str]]]]:
    """The laws that each of the finer sinners breaks, each judged in a process of its own, in the background."""
    here = Path(__file__).parent

    def judge(sin: str) -> dict[str, str]:
        command = [sys.executable, str(here / "judge.py"), sin, LAWS[CAUGHT_BY[sin]].tier]
        ended = subprocess.run(command, cwd=here, capture_output=True, check=True, timeout=600)
        return dict(json.loads(ended.stdout))

    pool = ThreadPoolExecutor(AT_ONCE)
    yield {sin: pool.submit(judge, sin) for sin in ONLY}
    pool.shutdown(cancel_futures=True)


@pytest.mark.long
@pytest.mark.timeout(240)
@pytest.mark.parametrize("sin", ONLY)
def test_no_law_can_be_taken_away(judged: dict[str, Future[dict[str, str]]], sin: str) -> None:
    """Without the law that catches it, a wrong backend keeps all laws of its tier."""
    broken = judged[sin].result()

    assert {CAUGHT_BY[sin]} == set(broken), broken
