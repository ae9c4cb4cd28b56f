"""Warnings of a run that nobody listens to."""

from __future__ import annotations

import logging
import os

import pytest

import rivers as rs


def test_warnings_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Without `on_event` a run's warnings go to the logger `rivers.run`: what cannot be honoured, what was put back."""

    @rs.Asset(timeout=60)
    def untidy() -> int:
        os.environ["RIVERS_TEST_LEFT"] = "1"
        return 1

    with caplog.at_level(logging.WARNING, logger="rivers.run"):
        rs.CodeRepository([untidy]).materialize()

    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("timeout= cannot stop untidy on in_process")
    assert "step 'untidy'" in second
    assert "RIVERS_TEST_LEFT" in second
    assert "RIVERS_TEST_LEFT" not in os.environ


def test_a_tidy_run_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A run without a warning logs nothing at all."""
    with caplog.at_level(logging.DEBUG, logger="rivers"):
        rs.CodeRepository([rs.Asset(lambda: 1, name="tidy")]).materialize()

    assert [] == caplog.records
