"""A result, a plan and a repository as people look at them: printed, as rows, as data frames, in notebooks."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import rivers as rs


@rs.Asset(group="source")
def numbers(context: rs.AssetExecutionContext) -> list[int]:
    context.add_output_metadata({"rows": 3})
    return [3, 1, 2]


@rs.Asset(retry=rs.RetryPolicy(1))
def fails(numbers: list[int]) -> int:
    raise KeyError("<b>x</b>")


@rs.Asset
def skipped(fails: int) -> int:
    return fails


REPOSITORY = rs.CodeRepository([numbers, fails, skipped])


@pytest.fixture(params=[False, True], ids=["unrecorded", "recorded"])
def result(request: pytest.FixtureRequest, tmp_path: Path) -> rs.RunResult:
    return REPOSITORY.materialize(raise_on_error=False, record=tmp_path if request.param else None)


def test_print(result: rs.RunResult) -> None:
    """The text says how the run ended, what failed, where in the user's code, and what was skipped for it."""
    text = str(result)

    assert "1 failed, 1 skipped, 1 succeeded" in text.splitlines()[0]
    assert "fails  KeyError: '<b>x</b>'" in text
    assert "test_result_access.py" in text
    assert 'raise KeyError("<b>x</b>")' in text
    assert "attempt 2 of 2" in text
    assert "skipped because of it: skipped" in text


def test_steps_table(result: rs.RunResult) -> None:
    """A row has state, executor, worker, times and failure; what is not known is None."""
    rows = {row["step"]: row for row in result.steps_table()}
    made, failed, skipped = rows["numbers"], rows["fails"], rows["skipped"]

    assert ["numbers", "fails", "skipped"] == list(rows)
    assert ("succeeded", "in_process", 1, {"rows": 3}) == tuple(
        made[name] for name in ("state", "executor", "attempts", "metadata")
    )
    assert made["started"] <= made["ended"]
    assert datetime.now(UTC) - made["started"] < timedelta(minutes=1)
    assert made["seconds"] == pytest.approx(made["load"] + made["run"] + made["store"])
    assert ("error", "KeyError: '<b>x</b>'", 2) == tuple(failed[name] for name in ("reason", "error", "attempts"))
    assert ("fails", None, None, 0) == tuple(skipped[name] for name in ("cause", "started", "seconds", "attempts"))


def test_data_frames(result: rs.RunResult) -> None:
    """The frame has the rows of the table; an unknown library is refused with the closest one."""
    for library in ("pandas", "polars"):
        if importlib.util.find_spec(library) is not None:
            assert ["numbers", "fails", "skipped"] == list(result.to_frame(library)["step"])
        else:
            with pytest.raises(rs.exceptions.ConfigurationError, match=f"pip install {library}"):
                result.to_frame(library)
    with pytest.raises(rs.exceptions.ConfigurationError, match=r"invalid library='panda'.*'pandas'"):
        result.to_frame("panda")


def test_notebook(result: rs.RunResult) -> None:
    """HTML of a result, a plan and a repository shows the names; text of the user's is escaped."""
    html = result._repr_html_()
    assert "&lt;b&gt;x&lt;/b&gt;" in html
    assert "<b>" not in html
    assert "<td" in REPOSITORY.plan()._repr_html_()
    assert "Executor.InProcess()" in REPOSITORY.plan()._repr_html_()
    assert "source" in REPOSITORY._repr_html_()


def test_printed_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is printed of a result hides the secrets that the controller knows."""
    monkeypatch.setenv("API_TOKEN", "<b>x</b>")
    text = str(REPOSITORY.materialize(raise_on_error=False))

    assert "<b>x</b>" not in text
    assert "***" in text


LOADED = "import rivers, sys; print([name for name in ('rich', 'typer', 'opentelemetry') if name in sys.modules])"


def test_nothing_of_a_terminal_is_imported() -> None:
    """Importing rivers loads neither rich nor typer nor opentelemetry."""
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            "import rivers, sys; print([m for m in ('rich', 'typer', 'opentelemetry') if m in sys.modules])",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert found.stdout.strip() == "[]"


def test_report(result: rs.RunResult, tmp_path: Path) -> None:
    """`result.report` writes the picture, with logs where the run was recorded."""
    path = result.report(tmp_path / "pictures" / "run.html")

    text = path.read_text("utf-8")
    assert path == tmp_path / "pictures" / "run.html"
    assert "test_result_access.py" in text
    assert "KeyError" in text
