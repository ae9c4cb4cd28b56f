"""The registry of laws, its page, and what a broken law reports."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import rivers as rs
from rivers.testing import Attempt, Script, ScriptedExecutor
from rivers.testing.conformance import LAWS, Law, Subject, run_law, run_laws

PAGE = Path(__file__).parents[4] / "docs" / "conformance.md"


@pytest.mark.parametrize("law", LAWS.values(), ids=lambda law: law.name)
def test_each_law_is_explained(law: Law) -> None:
    """A law has a kebab-case name, one sentence of demand, a reason, and a heading of its page with both."""
    text = " ".join(PAGE.read_text(encoding="utf-8").split())

    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+|throughput", law.name)
    assert law.demand.endswith(".")
    assert law.reason.endswith(".")
    assert f"### {law.name} **{law.demand}** {law.reason[0].upper()}{law.reason[1:]} The law: " in text


def test_the_page_has_no_other_laws() -> None:
    """Every third-level heading of the page is a law, in the order of the registry."""
    headings = re.findall(r"^### (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)

    assert list(LAWS) == headings


def test_a_skip_names_the_capability() -> None:
    """Each need's text names a capability of the SPI, a hook of the kit or the executor's value."""
    texts = {need.text for law in LAWS.values() for need in law.needs}

    assert 10 <= len(texts)
    assert all("Capabilities." in text or "leftovers()" in text or "executor value" in text for text in texts)


def test_a_failure_says_all() -> None:
    """A failure begins with the law's name and what was seen; law, reason and page follow."""
    silent = ScriptedExecutor(Script(Attempt.start))
    with Subject(silent, patience=0.2) as subject:
        result = run_law("one-result", subject)
    first, *rest = result.text.splitlines()

    assert "failed" == result.outcome
    assert first == "one-result: no StepResult within 0.2 s, only StepStarted"
    law = LAWS["one-result"]
    assert [f"  law: {law.demand}", f"  why: {law.reason}", "  see: docs/conformance.md#one-result"] == rest


def test_an_error_of_the_executor_is_a_failure() -> None:
    """An executor that raises where it should not breaks the law, and the kit goes on."""

    def broken() -> None:
        raise ValueError("no server")

    with Subject(ScriptedExecutor(Script(on_open=broken)), patience=0.2) as subject:
        results = run_laws(subject, [LAWS["one-result"], LAWS["event-order"]])

    assert ["failed", "failed"] == [result.outcome for result in results]
    assert results[0].text.startswith("one-result: open raised ValueError: no server")


def test_a_hanging_executor_does_not_stop_the_kit() -> None:
    """A submit that never returns is reported after the patience."""

    def hang(attempt: Attempt) -> None:
        attempt.cancelled.wait(30)

    with Subject(ScriptedExecutor(Script(hang)), patience=0.2) as subject:
        result = run_law("one-result", subject)

    assert "submit has not returned within 0.2 s" in result.text


def test_an_executor_alone() -> None:
    """A law judges an executor without a subject, and tiers choose among the laws."""
    assert "passed" == run_law("event-order", rs.Executor.in_process()).outcome
    assert {"quick", "full"} == {law.tier for law in LAWS.values()}
