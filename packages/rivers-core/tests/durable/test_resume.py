"""Resume recorded runs: what is reused, what runs, and what is refused before anything starts."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

import rivers as rs
from rivers._plan import frontier
from rivers._record.journal import RunJournal
from rivers._record.reader import read_run
from rivers._record.view import ViewState
from rivers.events import StepReused
from rivers.exceptions import RecordError, ResumeError
from rivers.testing import Attempt, Script, ScriptedExecutor

sys.path.append(str(Path(__file__).parent))

from small_run import EXPECTED, make_repository, notes


def fail_in(folder: Path) -> str:
    """Let `b` fail in a run, and return the run's id."""
    (folder / "fail").touch()
    result = repository(folder).materialize(record=folder, raise_on_error=False)
    assert not result.success
    (folder / "fail").unlink()
    return result.run_id


def repository(folder: Path, **changes: Any) -> rs.CodeRepository:
    """Two assets after one another, of which `b` fails while the folder has a file `fail`."""

    def count(name: str) -> None:
        with (folder / "bodies").open("a") as file:
            file.write(f"{name}\n")

    @rs.Asset(code_version=changes.get("version"))
    def a(context: rs.AssetExecutionContext) -> int:
        count("a")
        return int(context.config.get("start", 1))

    @rs.Asset(retry=changes.get("retry"))
    def b(context: rs.AssetExecutionContext, a: int) -> int:
        count(f"b{context.attempt}")
        if (folder / "fail").exists():
            raise ValueError("not yet")
        return a + 1

    @rs.Asset(deps=[rs.AssetDef.dep("a")] if changes.get("is_dep") else [])
    def c(b: int) -> int:
        count("c")
        return b + 1

    assets = [a, b, c]
    if changes.get("is_longer"):
        assets.append(rs.Asset(lambda c: c, name="d"))
    handler = changes.get("handler", rs.PickleIOHandler(folder / changes.get("data", "data"), fsync=False))
    return rs.CodeRepository(assets, default_io_handler=handler, jobs=[rs.Job("daily", ["a", "b"])])


def events_of(folder: Path, run_id: str) -> list[dict[str, Any]]:
    """Return the lines of the run's record."""
    return [json.loads(line) for line in (folder / "runs" / run_id / "events.jsonl").read_bytes().splitlines()]


# ---- what runs ------------------------------------------------------------------------------------------------------


def test_failed_run(tmp_path: Path) -> None:
    """A resumed run reuses what it has committed and runs what failed and what was skipped for it."""
    run_id = fail_in(tmp_path)
    sink = rs.ListSink()
    repo = repository(tmp_path)
    result = repo.resume(run_id, record=tmp_path, on_event=sink)

    assert (run_id, "success") == (result.run_id, result.status)
    assert ["a", "b1", "b1", "c"] == notes(tmp_path)
    assert 3 == repo.load_node("c")
    (reused,) = (event for event in sink.events if isinstance(event, StepReused))
    assert ("a", f"{run_id}-0-0.0") == (reused.step, reused.attempt_id)
    assert ["a", "b", "c"] == result.materialized_assets
    assert "success" == read_run(tmp_path / "runs" / run_id)[0].status


def test_again_and_again(tmp_path: Path) -> None:
    """Each process has an epoch of its own, so that no attempt id is given twice, however often the run is resumed."""
    (tmp_path / "fail").touch()
    run_id = repository(tmp_path).materialize(record=tmp_path, raise_on_error=False).run_id
    for _ in range(3):
        assert "failure" == repository(tmp_path).resume(run_id, record=tmp_path, raise_on_error=False).status
    ids = [event["attempt_id"] for event in events_of(tmp_path, run_id) if event["event"] == "StepSubmitted"]

    assert [f"{run_id}-0-0.0", *(f"{run_id}-1-{epoch}.0" for epoch in range(4))] == ids


@pytest.mark.parametrize("how", ["resume", "retry"])
def test_skips_unchanged_again(tmp_path: Path, how: str) -> None:
    """A run that was to skip what has not changed does so when it goes on: what it stores then can be skipped, too."""
    (tmp_path / "fail").touch()
    run_id = repository(tmp_path).materialize(record=tmp_path, raise_on_error=False, skip_unchanged=True).run_id
    (tmp_path / "fail").unlink()
    if how == "resume":
        repository(tmp_path).resume(run_id, record=tmp_path)
    else:
        repository(tmp_path).materialize(retry_of=run_id, record=tmp_path)
    result = repository(tmp_path).materialize(skip_unchanged=True)

    assert {"unchanged"} == {report.state.value for report in result.steps.values()}


def test_cancelled_run(tmp_path: Path) -> None:
    """A run that was cancelled, as an evicted pod's is by its SIGTERM, goes on where it was."""
    repo = repository(tmp_path)

    def cancel(event: rs.events.Event) -> None:
        if isinstance(event, rs.events.StepSucceeded) and event.step == "a":
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        repo.materialize(record=tmp_path, on_event=cancel)
    (record,) = (tmp_path / "runs").iterdir()
    before = notes(tmp_path)

    assert repo.resume(record.name, record=tmp_path).success
    assert "a" in before
    assert 1 == notes(tmp_path).count("a")


def test_retries_go_on(tmp_path: Path) -> None:
    """The attempts of a step that was interrupted between two of them count; one that failed has all of them anew."""
    policy = rs.RetryPolicy(2)
    killer = textwrap.dedent(
        f"""
        import os, sys
        from pathlib import Path
        sys.path.append({str(Path(__file__).parent)!r})
        import rivers as rs
        from test_resume import repository
        folder = Path({str(tmp_path)!r})
        (folder / "fail").touch()
        def kill(event):
            if type(event).__name__ == "StepRetrying":
                os.kill(os.getpid(), 9)
        repository(folder, retry=rs.RetryPolicy(2)).materialize(record=folder, on_event=kill)
        """
    )
    done = subprocess.run([sys.executable, "-c", killer], capture_output=True, timeout=50, check=False)
    assert -signal.SIGKILL == done.returncode, done.stderr
    (record,) = (tmp_path / "runs").iterdir()
    repo = repository(tmp_path, retry=policy)

    assert "failure" == repo.resume(record.name, record=tmp_path, raise_on_error=False).status
    assert ["a", "b1", "b2", "b3"] == notes(tmp_path)
    assert "failure" == repo.resume(record.name, record=tmp_path, raise_on_error=False).status
    assert ["b1", "b2", "b3"] == notes(tmp_path)[4:]


def test_metadata_of_reused_steps(tmp_path: Path) -> None:
    """What the record has of a committed attempt is in the result: metadata, times and worker."""
    repo = make_repository(tmp_path)
    first = repo.materialize(["numbers"], record=tmp_path)
    record = first.record
    assert record is not None
    lines = (record / "events.jsonl").read_bytes().splitlines(keepends=True)
    # As if it was killed before it noted the end of the run; then the store still has all of the run.
    (record / "events.jsonl").write_bytes(b"".join(line for line in lines if b'"RunFinished"' not in line))
    result = make_repository(tmp_path).resume(first.run_id, record=tmp_path)

    report = result.steps["numbers"]
    assert 2 == json.loads(report.outputs[0].metadata or "")["rows"]
    assert (report.worker, report.timings.run) == (
        first.steps["numbers"].worker,
        first.steps["numbers"].timings.run,
    )
    assert ["numbers"] == notes(tmp_path)


def test_default_store(tmp_path: Path) -> None:
    """Values in the default store are lost with their process, so their steps run again; in this one they are not."""
    run_id = fail_in_memory(tmp_path, repo := repository(tmp_path, handler=None))
    (tmp_path / "fail").touch()
    repo.resume(run_id, record=tmp_path, raise_on_error=False)
    assert ["a", "b1", "b1"] == notes(tmp_path)
    (tmp_path / "fail").unlink()

    assert repository(tmp_path, handler=None).resume(run_id, record=tmp_path).success
    assert ["a", "b1", "c"] == notes(tmp_path)[3:]


def test_memory_of_failed_runs(tmp_path: Path) -> None:
    """A process whose runs often fail keeps the values of the last 8 of them, and forgets older ones."""
    repo = repository(tmp_path, handler=(handler := rs.InMemoryIOHandler()))
    ids = [fail_in_memory(tmp_path, repo) for _ in range(10)]

    assert [None, None] == [handler.committed(run_id, "a") for run_id in ids[:2]]
    assert [f"{run_id}-0-0.0" for run_id in ids[2:]] == [handler.committed(run_id, "a") for run_id in ids[2:]]


def fail_in_memory(folder: Path, repo: rs.CodeRepository) -> str:
    """Let `b` fail in a run of this repository, and return the run's id."""
    (folder / "fail").touch()
    run_id = repo.materialize(record=folder, raise_on_error=False).run_id
    (folder / "fail").unlink()
    return run_id


def test_parallel(tmp_path: Path) -> None:
    """Workers in other processes store under the epoch of the new controller."""
    run_id = fail_in(tmp_path)
    result = repository(tmp_path).resume(run_id, record=tmp_path, executor=rs.Executor.parallel(max_workers=1))

    assert result.success
    assert ["in_process", "parallel"] == sorted(
        {step["executor"] for step in events_of(tmp_path, run_id) if "executor" in step}
    )
    assert {f"{run_id}-1-1.0", f"{run_id}-2-1.0"} < {event.get("attempt_id") for event in events_of(tmp_path, run_id)}


def test_job_tags_and_config(tmp_path: Path) -> None:
    """The run keeps its job, its tags and its config."""
    (tmp_path / "fail").touch()
    job = repository(tmp_path).get_job("daily")
    run_id = job.execute(record=tmp_path, raise_on_error=False, tags={"k": "v"}, config={"a": {"start": 5}}).run_id
    (tmp_path / "fail").unlink()
    # `a` has to run again, with the config that was recorded.
    for path in (tmp_path / "data").rglob("*a.pkl"):
        path.unlink()
    repo = repository(tmp_path)
    result = repo.resume(run_id, record=tmp_path)

    assert 6 == repo.load_node("b")
    assert {"a", "b"} == set(result.steps)
    started = [event for event in events_of(tmp_path, run_id) if event["event"] == "RunStarted"]
    assert [("daily", {"k": "v"}, 0), ("daily", {"k": "v"}, 1)] == [(s["job"], s["tags"], s["epoch"]) for s in started]


def test_view_of_a_resumed_run(tmp_path: Path) -> None:
    """The view of the record counts each step once, with the attempts of all processes."""
    run_id = fail_in(tmp_path)
    repository(tmp_path).resume(run_id, record=tmp_path)
    view, damaged = read_run(tmp_path / "runs" / run_id)

    assert [] == damaged
    assert 3 == view.counts[ViewState.SUCCEEDED] == view.total
    assert [1, 2, 1] == [len(view.steps[key].attempts) for key in "abc"]


def test_torn_and_doubled_lines(tmp_path: Path) -> None:
    """A last line that was cut short is cut off, and a line that stands twice counts once."""
    run_id = fail_in(tmp_path)
    path = tmp_path / "runs" / run_id / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line * 2 for line in lines) + lines[-1][:20])

    assert repository(tmp_path).resume(run_id, record=tmp_path).success
    assert ["a", "b1", "b1", "c"] == notes(tmp_path)
    assert [] == read_run(path.parent)[1]


# ---- what is refused ------------------------------------------------------------------------------------------------


def test_success_is_not_resumed(tmp_path: Path) -> None:
    """A run that has succeeded has nothing to resume."""
    result = repository(tmp_path).materialize(record=tmp_path)
    with pytest.raises(ResumeError, match="has succeeded: there is nothing to resume"):
        repository(tmp_path).resume(result.run_id[:8], record=tmp_path)
    with pytest.raises(RecordError, match="no recorded run"):
        repository(tmp_path).resume("nothing", record=tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": "2"}, r"asset 'a' .*: code_version is '2', it was None"),
        ({"is_dep": True}, r"asset 'c' .*: the list of its upstreams is a, b, it was b"),
        ({"data": "elsewhere"}, r"asset 'b' .*: its IO handler is .*elsewhere.*, it was .*data"),
    ],
)
def test_changed_plan(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    """A plan that is another one by now is refused with the steps and what is different; nothing runs."""
    run_id = fail_in(tmp_path)
    before = notes(tmp_path)
    with pytest.raises(ResumeError, match=rf"(?s)plan has changed.*{message}"):
        repository(tmp_path, **changes).resume(run_id, record=tmp_path)

    assert before == notes(tmp_path)
    # It is given up for another one.
    assert repository(tmp_path).resume(run_id, record=tmp_path).success


def test_superseded(tmp_path: Path) -> None:
    """A run whose values a later run has replaced is refused, with the attempt that did it."""
    run_id = fail_in(tmp_path)
    later = repository(tmp_path).materialize("a", record=False)
    before = notes(tmp_path)
    with pytest.raises(ResumeError, match=rf"a later run has stored 'a' since, in attempt '{later.run_id}-0-0.0'"):
        repository(tmp_path).resume(run_id, record=tmp_path)

    assert before == notes(tmp_path)


def test_another_repository(tmp_path: Path) -> None:
    """A repository that has none of the steps, or lacks one, is refused; an asset that the run did not have is not."""
    run_id = fail_in(tmp_path)
    with pytest.raises(ResumeError, match="one of another repository"):
        make_repository(tmp_path).resume(run_id, record=tmp_path)
    fewer = rs.CodeRepository([asset for name, asset in repository(tmp_path).assets.items() if name != "c"])
    with pytest.raises(ResumeError, match=r"'c': the repository no longer has this step"):
        fewer.resume(run_id, record=tmp_path)

    assert {"a", "b", "c"} == set(repository(tmp_path, is_longer=True).resume(run_id, record=tmp_path).steps)


class Plain(rs.BaseIOHandler):
    """A handler that cannot know what it has committed."""

    folder: Path

    def handle_output(self, context: rs.OutputContext, obj: Any) -> None:
        (self.folder / f"{context.asset_name}.json").write_text(json.dumps(obj))

    def load_input(self, context: rs.InputContext) -> Any:
        return json.loads((self.folder / f"{context.asset_name}.json").read_text())


def test_handler_that_is_not_atomic(tmp_path: Path) -> None:
    """Where nothing can tell whether a step has committed, the run is refused, with the step."""
    (tmp_path / "fail").touch()
    repo = repository(tmp_path, handler=Plain(folder=tmp_path))
    run_id = repo.materialize(record=tmp_path, raise_on_error=False).run_id
    with pytest.raises(ResumeError, match=r"(?s)asset 'a' .*its IO handler Plain is not atomic") as refused:
        repo.resume(run_id, record=tmp_path)

    assert "'b'" not in str(refused.value)  # it has failed, and the record has seen it


def test_unreadable_store(tmp_path: Path) -> None:
    """A store that cannot be read is no empty one: the run is refused."""
    run_id = fail_in(tmp_path)
    runs = tmp_path / "data/.rivers/runs"
    runs.rename(tmp_path / "aside")
    runs.write_text("no folder")
    with pytest.raises(ResumeError, match=r"its store cannot tell whether 'a' was committed"):
        repository(tmp_path).resume(run_id, record=tmp_path)


def test_changed_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In another working directory the remedy of a plan that looks changed is the one where the run was started."""
    run_id = fail_in(tmp_path)
    with pytest.raises(ResumeError) as here:
        repository(tmp_path, data="other").resume(run_id, record=tmp_path)
    assert (here.value.hint or "").startswith("undo the change, or run")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ResumeError) as elsewhere:
        repository(tmp_path, data="other").resume(run_id, record=tmp_path)

    assert (
        f", where it was started, or run what did not succeed in a new run: materialize(retry_of='{run_id[:8]}')"
        in (elsewhere.value.hint or "")
    )


def test_secret_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A config that held a secret has to be given again."""
    monkeypatch.setenv("START_TOKEN", "1234567")
    (tmp_path / "fail").touch()
    config = {"a": {"start": "1234567"}}
    run_id = repository(tmp_path).materialize(record=tmp_path, raise_on_error=False, config=config).run_id
    (tmp_path / "fail").unlink()
    with pytest.raises(ResumeError, match="the config of a held a secret"):
        repository(tmp_path).resume(run_id, record=tmp_path)

    assert repository(tmp_path).resume(run_id, record=tmp_path, config=config).success


def test_record_of_an_earlier_version(tmp_path: Path) -> None:
    """Records without intents are of runs that were ended in their stores whatever came of them."""
    run_id = fail_in(tmp_path)
    path = tmp_path / "runs" / run_id / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line for line in lines if b"StepSubmitted" not in line))
    with pytest.raises(ResumeError, match="earlier version"):
        repository(tmp_path).resume(run_id, record=tmp_path)


def test_attempt_that_may_still_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run with an attempt that never reports its end is ended in its stores, so that it cannot commit any more."""
    monkeypatch.setattr(frontier, "SILENCE", 0.05)
    can = rs.spi.Capabilities(closures="local", reach=rs.spi.Reach.PROCESS, grace=0.05)
    script = Script({"a": Attempt.hold}, on_cancel=Attempt.ignore, capabilities=can)
    repo = repository(tmp_path, handler=None)
    handle = repo.submit(executor=ScriptedExecutor(script), record=tmp_path)
    script.attempt("a")
    handle.cancel()
    assert "cancelled" == handle.wait(20).status
    endings = [event["event"] for event in events_of(tmp_path, handle.run_id)][-2:]

    assert ["RunEnding", "RunFinished"] == endings
    with pytest.raises(ResumeError, match="may still be running"):
        repo.resume(handle.run_id, record=tmp_path)


# ---- one at a time --------------------------------------------------------------------------------------------------


def test_running_elsewhere(tmp_path: Path) -> None:
    """A run whose record another process holds goes on there."""
    run_id = fail_in(tmp_path)
    journal = RunJournal(tmp_path / "runs" / run_id)
    try:
        with pytest.raises(ResumeError, match=rf"still goes on in process {os.getpid()}"):
            repository(tmp_path).resume(run_id, record=tmp_path)
    finally:
        journal.close()

    assert repository(tmp_path).resume(run_id, record=tmp_path).success


def resume_in_child(folder: Path, run_id: str, answers: Any) -> None:
    """Resume the run and put what came of it."""
    try:
        answers.put(repository(folder).resume(run_id, record=folder).status)
    except ResumeError as error:
        answers.put(error.message)


def test_two_at_once(tmp_path: Path) -> None:
    """Of several processes that resume a run at once one carries it on, and the others are refused."""
    run_id = fail_in(tmp_path)
    context = multiprocessing.get_context("fork")
    answers: Any = context.SimpleQueue()
    children = [context.Process(target=resume_in_child, args=(tmp_path, run_id, answers)) for _ in range(4)]
    for child in children:
        child.start()
    found = sorted(answers.get() for _ in children)
    for child in children:
        child.join(20)

    assert 1 == found.count("success"), found
    assert all("still goes on" in text or "has succeeded" in text for text in found if text != "success")
    assert ["a", "b1", "b1", "c"] == notes(tmp_path)


def in_subprocess(folder: Path, run_id: str, room: int) -> str:
    """Resume the run in a process whose files may have `room` bytes; return its error."""
    script = textwrap.dedent(
        f"""
        import resource, sys
        from pathlib import Path
        sys.path.append({str(Path(__file__).parent)!r})
        from test_resume import repository
        folder = Path({str(folder)!r})
        repo = repository(folder)
        resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))
        try:
            repo.resume({run_id!r}, record=folder)
        except Exception as error:
            sys.stderr.write(f"{{type(error).__name__}}: {{error}}")
        """
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=False)
    return done.stderr


@pytest.mark.parametrize("what", ["header", "events"])
def test_full_disk(what: str, tmp_path: Path) -> None:
    """A record that cannot be written refuses the run: without it, attempt ids could be given twice."""
    run_id = fail_in(tmp_path)
    record = tmp_path / "runs" / run_id
    events = record / "events.jsonl"
    header = (record / "header.json").stat().st_size
    if what == "events":
        # Longer than the header, so that only the journal meets the limit.
        filler = {"event": "RunWarning", "run_id": run_id, "time": 1.0, "message": "x" * 2 * header}
        with events.open("a") as file:
            file.write(json.dumps(filler) + "\n")
    before = notes(tmp_path)
    error = in_subprocess(tmp_path, run_id, header // 2 if what == "header" else events.stat().st_size + 10)

    assert "ResumeError" in error
    assert "cannot be written" in error
    assert before == notes(tmp_path)
    assert repository(tmp_path).resume(run_id, record=tmp_path).success


def test_store_that_takes_no_values(tmp_path: Path) -> None:
    """A store that takes no values fails the steps that have to run, and the run can be resumed later."""
    run_id = fail_in(tmp_path)
    data = tmp_path / "data"
    # Root may write anywhere, but not below a file.
    for path in (data / "b.pkl", data / "c.pkl"):
        path.mkdir()
        (path / "x").touch()
    result = repository(tmp_path).resume(run_id, record=tmp_path, raise_on_error=False)
    assert not result.success
    for path in (data / "b.pkl", data / "c.pkl"):
        (path / "x").unlink()
        path.rmdir()

    assert repository(tmp_path).resume(run_id, record=tmp_path).success


def test_nothing_is_left(tmp_path: Path) -> None:
    """Neither threads nor descriptors are left by runs that were refused."""
    run_id = fail_in(tmp_path)
    threads, descriptors = set(threading.enumerate()), set(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(ResumeError):
            repository(tmp_path, version="2").resume(run_id, record=tmp_path)

    assert threads == set(threading.enumerate())
    assert descriptors == set(os.listdir("/proc/self/fd"))


def test_values(tmp_path: Path) -> None:
    """The values of a run that was resumed are those of a whole one."""
    repo = make_repository(tmp_path)
    repo.materialize(record=tmp_path)

    assert {name: repo.load_node(name) for name in EXPECTED} == EXPECTED
