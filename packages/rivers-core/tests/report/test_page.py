"""The page of a run: its data, what it leaves out, and that nothing in a run becomes markup."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
import threading
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import rivers as rs
from rivers._events.event import RunFinished, RunStarted, StepFailed, StepLog, StepStarted, StepSucceeded
from rivers._record.header import FORMAT, RunHeader, StepHeader
from rivers._record.reader import read_run
from rivers._record.redact import Redactor
from rivers._record.view import RunView
from rivers._report.data import page_data
from rivers._report.write import report_html, write_report
from rivers.protocol.failure import Failure, FailureReason
from rivers.protocol.result import OutputRecord

sys.path.append(str(Path(__file__).parent))

from synthetic import make_view

HOSTILE = "</script><script>alert(1)</script><!--\u2028'\"&<img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """The elements of a page, and the text of its data."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._texts: list[list[str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._texts.append([])

    def handle_data(self, data: str) -> None:
        if self._texts:
            self._texts[-1].append(data)

    def text(self, tag: str) -> list[str]:
        return ["".join(text) for (name, _), text in zip(self.elements, self._texts, strict=True) if name == tag]

    @property
    def data(self) -> dict[str, Any]:
        return dict(json.loads(self.text("script")[0]))


def hostile_view() -> RunView:
    """Return a view in which every text is an attack."""
    header = RunHeader(
        format=FORMAT,
        run_id="r",
        started=100.0,
        repository=HOSTILE,
        steps=(StepHeader(key=HOSTILE, executor=0, level=0, group=HOSTILE, description=HOSTILE, tags=(HOSTILE,)),),
    )
    view = RunView(header)
    failure = Failure(reason=FailureReason.ERROR, type=HOSTILE, message=HOSTILE, traceback=HOSTILE, notes=(HOSTILE,))
    common: dict[str, Any] = {"run_id": "r", "step": HOSTILE, "attempt": 1}
    for event in (
        RunStarted(run_id="r", time=100.0),
        StepStarted(**common, time=100.5, attempt_id="a", executor=HOSTILE, worker=HOSTILE),
        StepLog(**common, time=100.6, message=HOSTILE, logger=HOSTILE),
        StepFailed(**common, time=101.0, failure=failure),
        RunFinished(run_id="r", time=102.0, status="failure"),
    ):
        view.apply(event)
    return view


def test_nothing_in_a_run_becomes_markup() -> None:
    """Names, logs and failures that hold tags are data: the page has the elements of the page without them."""
    page, plain = Page(report_html(hostile_view())), Page(report_html(make_view(3)))

    assert [tag for tag, _ in plain.elements] == [tag for tag, _ in page.elements]
    assert HOSTILE in page.data["texts"]
    assert [HOSTILE] == page.data["nodes"]["key"]


def test_the_page_allows_its_own_script_alone() -> None:
    """The policy forbids the network and every script but the page's own, which its hash names."""
    page = Page(report_html(make_view(3)))
    (policy,) = [attributes["content"] or "" for tag, attributes in page.elements if "http-equiv" in attributes]

    assert "default-src 'none'" in policy
    assert re.search(r"script-src 'sha256-[\w+/]{43}='; ", policy)
    assert "connect-src 'none'" in policy
    assert [] == [a for _, a in page.elements if {"src", "href"} & a.keys()]


def test_the_bundle_is_small_and_free_of_addresses() -> None:
    """The page around the data has less than 500 KB, and nothing in it is fetched."""
    text = report_html(RunView())

    assert len(text) < 500_000
    assert not re.search(r"""(src|href)=["']?(https?:)?//|@import|url\(\s*['"]?http""", text)


def test_the_data_of_many_steps_stay_small() -> None:
    """A step of a run of 2,000 takes less than 400 bytes of the page."""
    view = make_view(1600, mapped=400, failing=0.01)

    size = len(report_html(view)) - len(report_html(RunView()))

    assert size / len(view.steps) < 400


def test_texts_are_stored_once() -> None:
    """A failure that many steps share stands once in the data."""
    view = RunView()
    failure = Failure(reason=FailureReason.ERROR, type="E", message="no", traceback="Traceback\nE: no")
    for number in range(100):
        view.apply(StepFailed(run_id="r", time=1.0, step=f"a[{number}]", attempt=1, failure=failure))

    data = page_data(view)

    assert 100 == len(data["attempts"]["failure"])
    assert 1 == len(data["failures"])
    assert ["no", "Traceback\nE: no"] == data["texts"]


def test_what_is_left_out_is_counted() -> None:
    """Of a long log the first and the last records are in the page, with the number of all; long texts are cut."""
    view = RunView(RunHeader(format=FORMAT, run_id="r", started=0.0, steps=(StepHeader(key="a", executor=0, level=0),)))
    for number in range(2000):
        view.apply(StepLog(run_id="r", time=1.0, step="a", attempt=1, message=f"line {number}" + "x" * 3000))

    data = page_data(view, now=2.0)
    first, last = data["logs"]["0"]

    assert 2000 == data["steps"]["logCount"]["0"]
    assert (50, 450) == (len(first), len(last))
    assert data["texts"][last[-1][2]].startswith("line 1999")
    assert data["texts"][last[-1][2]].endswith("… [1,009 more characters]")


def test_a_full_table_of_texts_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metadata beyond the size of the page are left out as -1, and counted."""
    monkeypatch.setattr("rivers._report.data.MOST_TEXT", 1000)
    view = RunView()
    for number in range(5):
        output = OutputRecord(name="result", key="k", metadata=json.dumps({"n": str(number) * 300}))
        view.apply(StepSucceeded(run_id="r", time=1.0, step=f"s{number}", attempt=1, outputs=(output,)))

    data = page_data(view, now=2.0)

    assert [0, 1, 2, -1, -1] == list(data["outputs"]["metadata"].values())
    assert 2 == data["textsCut"]


def test_half_a_surrogate_pair_is_no_error() -> None:
    """A name that UTF-8 has no bytes for, as a file name may hold, is shown and ends nothing."""
    view = RunView()
    view.apply(StepLog(run_id="r", time=1.0, step="a", attempt=1, message="caf\udce9"))

    assert ["caf\udce9"] == Page(report_html(view)).data["texts"]


def test_secrets_do_not_reach_the_page() -> None:
    """With the redactor of its run, neither data nor title hold a secret, also where JSON escapes it."""
    view = hostile_view()
    view.apply(StepLog(run_id="r", time=101.0, step="a", attempt=1, message='the key is "s3cr\u00e9t" here'))

    text = report_html(view, Redactor({'"s3cr\u00e9t"'}))

    assert "s3cr" not in text
    assert any("the key is *** here" in one for one in Page(text).data["texts"])


def test_a_report_replaces_a_file_whole(tmp_path: Path) -> None:
    """The file appears with all of its text and the permissions of an ordinary file; nothing else is left."""
    target = tmp_path / "deep" / "run.html"
    target.parent.mkdir()
    target.write_text("old")

    assert target == write_report(make_view(3), target)

    assert target.read_text("utf-8").startswith("<!doctype html>")
    umask = os.umask(0)
    os.umask(umask)
    assert 0o666 & ~umask == stat.S_IMODE(target.stat().st_mode)
    assert [target] == list(target.parent.iterdir())


def test_a_report_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    """Where the path is refused, the error is the system's and no file is left behind."""
    blocked = tmp_path / "file"
    blocked.write_text("")

    with pytest.raises(OSError, match="file"):
        write_report(make_view(3), blocked / "run.html")

    assert [blocked] == list(tmp_path.iterdir())


def test_a_report_to_a_pipe_is_written(tmp_path: Path) -> None:
    """A path that is no file, such as a named pipe, gets the text and is not replaced."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text("utf-8")))
    reader.start()

    write_report(make_view(3), pipe)
    reader.join(10)

    assert read[0].endswith("</html>\n")
    assert pipe.is_fifo()


@rs.Asset
def numbers() -> rs.Output:
    print("hello")
    return rs.Output([1, 2], metadata={"rows": 2})


@rs.Asset
def fails(numbers: list[int]) -> int:
    raise ValueError("no")


@rs.Asset
def skipped(fails: int) -> int:
    return fails


def test_the_record_of_a_real_run_is_shown(tmp_path: Path) -> None:
    """The data of a recorded run have its states, its edges, its output's metadata, its log and the user's frame."""
    repository = rs.CodeRepository([numbers, fails, skipped])
    result = repository.materialize(record=tmp_path, raise_on_error=False)
    assert result.record is not None
    view, _ = read_run(result.record)

    data = page_data(view)

    states = dict(zip(data["nodes"]["key"], (data["states"][one] for one in data["steps"]["state"]), strict=True))
    assert {"numbers": "succeeded", "fails": "failed", "skipped": "skipped"} == states
    assert {"numbers": (), "fails": (0,), "skipped": (1,)} == dict(
        zip(data["nodes"]["key"], data["nodes"]["deps"], strict=True)
    )
    assert '{"rows":2}' in data["texts"]
    assert "hello" in data["texts"]
    (failure,) = data["failures"]
    assert failure["frame"].endswith("in fails")
    assert ["numbers", "fails"] == [list(view.steps)[index] for index in data["analysis"]["path"]]


@rs.Asset(retry=rs.RetryPolicy(1))
def flaky() -> int:
    raise ValueError("no")


def test_a_result_writes_its_picture(tmp_path: Path) -> None:
    """`RunResult.report` writes the picture of a run, also of one that nobody recorded; no attempt of it is open."""
    result = rs.CodeRepository([numbers, flaky]).materialize(raise_on_error=False)
    assert result.record is None

    path = result.report(tmp_path / "run.html")

    data = Page(path.read_text("utf-8")).data
    assert {"succeeded": 1, "failed": 1} == data["run"]["counts"]
    assert [1, 1, 2] == data["attempts"]["number"]
    assert [] == data["attempts"]["open"]
    assert [0] * 8 == data["attempts"]["phases"][1]
