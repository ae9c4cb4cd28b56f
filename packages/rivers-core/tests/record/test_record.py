"""The record that a run writes, and what is read from it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pydantic
import pytest

import rivers as rs
from rivers._record.reader import EventReader, is_being_written, read_header, read_run
from rivers._record.redact import Redactor, secrets_of
from rivers._record.runs import RunRecords
from rivers._record.view import RunView, ViewState

sys.path.append(str(Path(__file__).parent))

from pipeline import REPOSITORY


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The record of a run of all assets."""
    result = REPOSITORY.materialize(record=tmp_path, raise_on_error=False, tags={"k": "v"})
    assert result.record is not None
    return result.record


def test_nothing_is_recorded_unless_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run writes no record by itself; with RIVERS_HOME it does, unless `record=False`."""
    monkeypatch.chdir(tmp_path)
    assert REPOSITORY.materialize("numbers").record is None
    monkeypatch.setenv("RIVERS_HOME", str(tmp_path / "home"))

    assert REPOSITORY.materialize("numbers", record=False).record is None
    assert [] == list(tmp_path.iterdir())

    record = REPOSITORY.materialize("numbers").record
    assert record is not None
    assert record.parent == tmp_path / "home" / "runs"


def test_record_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`record=True` writes to `.rivers/runs/<run id>`."""
    monkeypatch.chdir(tmp_path)
    result = REPOSITORY.materialize("numbers", record=True)

    assert result.record == Path(".rivers") / "runs" / result.run_id


def test_job_and_submit(tmp_path: Path) -> None:
    """A job and a submitted run are recorded, too."""
    repository = rs.CodeRepository(list(REPOSITORY.assets.values()), jobs=[rs.Job("daily", ["numbers"])])
    record = repository.get_job("daily").execute(record=tmp_path).record
    assert record is not None
    header = read_header(record)
    assert header is not None
    assert header.job == "daily"

    assert repository.submit("numbers", record=tmp_path).wait(10).record is not None


@pytest.mark.parametrize("record", ["", 1, 3.5, [], b"x"])
def test_refused_record(record: object) -> None:
    """What is neither a bool nor a path is refused before the run."""
    with pytest.raises(rs.exceptions.ConfigurationError, match="invalid record="):
        REPOSITORY.materialize(record=record)  # type: ignore[arg-type]


def test_header(folder: Path) -> None:
    """The header describes the plan: every step with its upstreams, executor and definition."""
    header = read_header(folder)
    assert header is not None
    steps = {step.key: step for step in header.steps}

    assert header.format == 1
    assert header.tags == {"k": "v"}
    assert [one.kind for one in header.executors] == ["in_process"]
    assert header.pid == os.getpid()
    assert "rivers-core" in header.versions
    assert steps["numbers"].description == "Return three numbers."
    assert (steps["numbers"].group, steps["numbers"].kinds, steps["numbers"].tags) == (
        "source",
        ("python",),
        ("daily",),
    )
    assert [header.steps[index].key for index in steps["total/split"].deps] == ["numbers"]
    assert header.steps[steps["total/twice"].mapped_over or 0].key == "total/split"
    assert steps["fails"].max_attempts == 2
    assert steps["fails"].location is not None
    assert "pipeline.py:" in steps["fails"].location


def test_events_are_those_of_the_run(tmp_path: Path) -> None:
    """The record has each event that a sink gets, in the same order, one JSON object a line."""
    sink = rs.ListSink()
    result = REPOSITORY.materialize(record=tmp_path, raise_on_error=False, on_event=sink)
    assert result.record is not None
    reader = EventReader(result.record / "events.jsonl")
    events = reader.read_all()
    reader.close()

    assert [event for event in events if not isinstance(event, rs.events.StepSubmitted)] == sink.events
    lines = (result.record / "events.jsonl").read_bytes().splitlines()
    assert [type(event).__name__ for event in events] == [msgspec.json.decode(line)["event"] for line in lines]


def test_intents_come_before_the_acts(tmp_path: Path) -> None:
    """The record notes each attempt, retries and mapped instances too, before its body can run."""
    seen: dict[str, list[str]] = {}

    def submitted(run_id: str) -> list[str]:
        lines = (tmp_path / "runs" / run_id / "events.jsonl").read_bytes().splitlines()
        events = [msgspec.json.decode(line) for line in lines]
        return [event["attempt_id"] for event in events if event["event"] == "StepSubmitted"]

    def look(event: rs.events.Event) -> None:
        # Called after the recorder has written the line of the start.
        if isinstance(event, rs.events.StepStarted):
            seen[event.attempt_id] = submitted(event.run_id)

    result = REPOSITORY.materialize(record=tmp_path, raise_on_error=False, on_event=look)
    noted = submitted(result.run_id)

    assert 8 == len(noted) == len(set(noted)) == len(seen)  # numbers, split, 3 × twice, add, 2 × fails
    assert all(attempt_id in known for attempt_id, known in seen.items())


def test_success_names_its_attempt(folder: Path) -> None:
    """The success of a step names the attempt that was noted last for it."""
    reader = EventReader(folder / "events.jsonl")
    events = reader.read_all()
    reader.close()
    noted = {event.step: event.attempt_id for event in events if isinstance(event, rs.events.StepSubmitted)}
    succeeded = {event.step: event.attempt_id for event in events if isinstance(event, rs.events.StepSucceeded)}

    assert 6 == len(succeeded)
    assert succeeded == {step: noted[step] for step in succeeded}


def test_header_has_what_a_later_process_needs(tmp_path: Path) -> None:
    """The header has the configs, the code versions, and where each step stores what; secret fields are masked."""

    class Vault(rs.PickleIOHandler):
        password: pydantic.SecretStr = pydantic.SecretStr("sesame-open")

    @rs.Asset(code_version="7", io_handler=Vault(tmp_path / "data"))
    def kept(context: rs.AssetExecutionContext) -> int:
        return len(context.config)

    repository = rs.CodeRepository([kept])
    record = repository.materialize(record=tmp_path, config={"kept": {"limit": 3}}).record
    assert record is not None
    header = read_header(record)
    assert header is not None
    (step,) = header.steps

    assert {"kept": '{"limit":3}'} == header.configs
    assert ("7", ("kept",)) == (step.code_version, step.outputs)
    (store,) = (header.stores[index] for index in step.stores)
    assert "Vault" in store
    assert str(tmp_path / "data") in store
    assert "sesame" not in (record / "header.json").read_text()


@pytest.mark.parametrize("durability", ["process", "power"])
def test_durability(durability: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With "power" each line but those of logs is forced to disk, and so are header and names; else nothing is."""
    synced: list[str] = []
    for name in ("fsync", "fdatasync"):
        real = getattr(os, name)

        def spy(descriptor: int, real: Any = real) -> None:
            synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
            real(descriptor)

        monkeypatch.setattr(os, name, spy)
    result = REPOSITORY.materialize("numbers", record=tmp_path, durability=durability)
    assert result.record is not None
    lines = (result.record / "events.jsonl").read_text().splitlines()
    events = [line for line in lines if '"StepLog"' not in line]

    assert len(lines) > len(events)
    counts = {Path(path).name: synced.count(path) for path in synced}
    power = {"events.jsonl": len(events), ".header.json": 1, result.run_id: 1, "runs": 1}
    assert counts == (power if durability == "power" else {})


@pytest.mark.parametrize("durability", ["", None, "disk", True])
def test_refused_durability(durability: Any) -> None:
    """Anything but the two words is refused before the run."""
    with pytest.raises(rs.exceptions.ConfigurationError, match="invalid durability="):
        REPOSITORY.materialize("numbers", durability=durability)


def test_view(folder: Path) -> None:
    """The view counts each step once, and has attempts, logs, outputs and the cause of a skip."""
    view, damaged = read_run(folder)

    assert damaged == []
    assert (view.status, view.done, view.total) == ("failure", 8, 8)
    assert {state: count for state, count in view.counts.items() if count} == {
        ViewState.SUCCEEDED: 6,
        ViewState.FAILED: 1,
        ViewState.SKIPPED: 1,
    }
    assert [event.message for event in view.steps["numbers"].logs] == ["hello"]
    assert [attempt.number for attempt in view.steps["fails"].attempts] == [1, 2]
    assert all(attempt.failure is not None for attempt in view.steps["fails"].attempts)
    assert view.steps["skipped"].cause == "fails"
    assert [step.map_key for step in view.instances["total/twice"]] == ["3", "1", "2"]
    assert view.steps["total/split"].outputs[0].map_keys == ("3", "1", "2")


def test_total_before_instances_are_known(folder: Path) -> None:
    """A mapped step counts once until its source has succeeded, then once per element."""
    header = read_header(folder)
    assert header is not None
    view = RunView(header)
    assert view.total == 6
    totals = []
    reader = EventReader(folder / "events.jsonl")
    for event in reader.read_all():
        view.apply(event)
        totals.append(view.total)
    reader.close()
    assert sorted(set(totals)) == [6, 8]


def test_secrets_are_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a SecretStr of a resource nor a variable such as API_TOKEN is in the record."""
    monkeypatch.setenv("API_TOKEN", "tok-12345")

    class Database(rs.Resource):
        password: pydantic.SecretStr = pydantic.SecretStr('quo"te ü')

    @rs.Asset
    def leaks(db: Database) -> int:
        print("password is", db.password.get_secret_value())
        return 1

    repository = rs.CodeRepository([*REPOSITORY.assets.values(), leaks], resources={"db": Database()})
    record = repository.materialize(record=tmp_path, raise_on_error=False).record
    assert record is not None
    text = "".join(path.read_text() for path in record.iterdir())

    assert "tok-12345" not in text
    assert "quo" not in text
    assert "password is ***" in text
    assert read_run(record)[0].steps["leaks"].message == "password is ***"


@pytest.mark.parametrize("secret", ["1795", "attempt", "StepFailed", "message", 'quo"te', "error", "12345678"])
def test_secrets_that_look_like_something_else(tmp_path: Path, secret: str) -> None:
    """A secret that is a number, the name of a field or of an event, or has quotes, leaves a readable record."""

    class Database(rs.Resource):
        password: pydantic.SecretStr = pydantic.SecretStr(secret)

    @rs.Asset
    def leaks(context: rs.AssetExecutionContext, db: Database) -> int:
        context.add_output_metadata({"number": 12345678, "text": f"{secret}!"})
        return 1

    @rs.Asset
    def raises(leaks: int, db: Database) -> int:
        raise ValueError(secret, 12345678)

    repository = rs.CodeRepository([leaks, raises], resources={"db": Database()})
    record = repository.materialize(record=tmp_path, raise_on_error=False).record
    assert record is not None
    view, damaged = read_run(record)
    metadata = view.steps["leaks"].outputs[0].metadata
    failure = view.steps["raises"].failure

    assert damaged == []
    assert (view.status, view.done) == ("failure", 2)
    assert metadata is not None
    number = "***" if secret == "12345678" else 12345678
    assert msgspec.json.decode(metadata) == {"number": number, "text": "***!"}
    assert failure is not None
    assert failure.args is not None
    assert msgspec.json.decode(failure.args) == ["***", number]
    assert secret not in failure.message
    assert view.header is not None


def test_secrets_of_the_environment() -> None:
    """Names with PASSWORD, SECRET, TOKEN or KEY count; short values, words and paths do not."""
    environment = {
        "DB_PASSWORD": "hunter22",
        "MY_SECRET": "abcdef",
        "X": "plain text",
        "USE_TOKEN": "true",
        "KEY_FILE": "/etc/key",
        "KEYS": "1",
    }
    assert secrets_of([], environment) == {"hunter22", "abcdef"}
    assert Redactor(secrets_of([], environment)).text("hunter22 and abcdefg") == "*** and ***g"


@pytest.mark.parametrize("count", [1, 100])
def test_few_and_many_secrets_in_a_line(count: int) -> None:
    """Any of the known secrets is replaced in a line, and a line without them stays as it is."""
    redactor = Redactor([f"secret-{number}-{'x' * 20}" for number in range(count)])
    for number in range(count):
        line = json.dumps({"message": f"it is secret-{number}-{'x' * 20}."}).encode()
        assert {"message": "it is ***."} == json.loads(redactor.line(line))

    assert b'{"message":"secret"}' == redactor.line(b'{"message":"secret"}')


class Opened(dict[str, str]):
    """A value that must not be looked into."""

    def values(self) -> Any:
        raise AssertionError("looked for secrets in a stored value")


def test_stored_values_are_no_secrets() -> None:
    """Of a handler in memory its fields are searched for secrets, and not the values that it keeps."""

    class Keyed(rs.InMemoryIOHandler):
        token: pydantic.SecretStr

    handler = Keyed(token=pydantic.SecretStr("abcdefgh"))
    handler.handle_output(rs.OutputContext("k"), Opened(a="b"))

    assert {"abcdefgh"} == secrets_of([handler], {})


def test_damaged_lines_are_named_and_the_rest_is_read(folder: Path) -> None:
    """A damaged line, an event of a newer version and an unfinished line are listed by number; all else is shown."""
    path = folder / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(
        b"".join([lines[0], b'{"event": "StepDreamt"}\n', *lines[1:], b"\xff\xfe\n", lines[-1][: len(lines[-1]) // 2]])
    )
    view, damaged = read_run(folder)

    assert view.done == 8
    assert [line.number for line in damaged] == [2, len(lines) + 2, len(lines) + 3]
    assert "StepDreamt" in damaged[0].problem


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    """A file without any event, a header of a newer format and a missing run each have an error of their own."""
    foreign = tmp_path / "other.jsonl"
    foreign.write_text('{"name": "x"}\n')
    with pytest.raises(rs.exceptions.RecordError, match=r"line 1: "):
        read_run(foreign)
    with pytest.raises(rs.exceptions.RecordError, match="No such file"):
        read_run(tmp_path / "none.jsonl")
    (tmp_path / "header.json").write_text('{"format": 9, "run_id": "x", "started": 1}')
    with pytest.raises(rs.exceptions.RecordError, match="format 9"):
        read_header(tmp_path)
    (tmp_path / "header.json").write_text("[]")
    with pytest.raises(rs.exceptions.RecordError, match="no header of a run"):
        read_header(tmp_path)


def test_impossible_times_are_damage(folder: Path) -> None:
    """An event whose time no calendar has is damage: every reader shows times as dates."""
    path = folder / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    strange = [re.sub(rb'"time":[0-9.]+', b'"time":' + time, lines[-2]) for time in (b"1e300", b"-5")]
    path.write_bytes(b"".join([lines[0], *strange, *lines[1:]]))
    view, damaged = read_run(folder)

    assert "failure" == view.status
    assert [2, 3] == [line.number for line in damaged]


def test_long_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line without an end is given up, and what comes after it is read: a file of zeros takes no memory."""
    monkeypatch.setattr("rivers._record.reader.MAX_LINE", 2 * 2**20)
    path = folder / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"\0" * 5 * 2**20, b"\n", *lines[1:]]))
    view, damaged = read_run(folder)

    assert "failure" == view.status
    assert [(2, "the line is longer than 2 MiB")] == [(line.number, line.problem) for line in damaged]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("started", 1e300, "invalid started=1e+300"),
        ("executor", 7, "has the executor 7, and there are 1"),
        ("deps", [99], "refers to the step 99"),
        ("mapped_over", -1, "refers to the step -1"),
    ],
)
def test_impossible_header(folder: Path, field: str, value: object, message: str) -> None:
    """A header that refers to what it does not have is damage."""
    path = folder / "header.json"
    header = json.loads(path.read_bytes())
    (header if field in header else header["steps"][0])[field] = value
    path.write_text(json.dumps(header))
    with pytest.raises(rs.exceptions.RecordError, match=re.escape(message)):
        read_header(folder)

    view, damaged = read_run(folder)
    assert ("failure", None, [0]) == (view.status, view.header, [line.number for line in damaged])


def test_runs_are_found(tmp_path: Path) -> None:
    """The newest run, a unique beginning of an id and a path are found; the rest is refused with what there is."""
    records = RunRecords(tmp_path)
    with pytest.raises(rs.exceptions.RecordError, match="no recorded run"):
        records.find()
    made = []
    for number in range(3):
        result = REPOSITORY.materialize("numbers", record=tmp_path)
        assert result.record is not None
        os.utime(result.record / "events.jsonl", (number, number))
        made.append(result.record)

    assert records.folders() == made[::-1]
    assert records.find() == made[2]
    assert records.find(made[0].name[:12]) == made[0]
    assert records.find(str(made[1])) == made[1]
    assert records.find(str(made[1] / "events.jsonl")) == made[1] / "events.jsonl"
    with pytest.raises(rs.exceptions.RecordError, match="no recorded run 'zz'"):
        records.find("zz")
    with pytest.raises(rs.exceptions.RecordError, match="not unique"):
        records.find("")


def test_prune(tmp_path: Path) -> None:
    """The oldest records go by count, by size and by age; other files and the newest record stay."""
    records = RunRecords(tmp_path)
    for number in range(4):
        result = REPOSITORY.materialize("numbers", record=tmp_path)
        assert result.record is not None
        os.utime(result.record / "events.jsonl", (100 + number, 100 + number))
    (records.folder / "notes").mkdir()
    newest = records.folders()

    assert records.prune(3) == newest[3:]
    assert records.prune(older_than=102) == [newest[2]]
    assert records.prune(keep_bytes=0) == [newest[1]]
    assert records.folders() == newest[:1]
    assert (records.folder / "notes").is_dir()


KILLED = """
import os, signal, sys, time
sys.path.insert(0, {here!r})
import rivers as rs
from pipeline import numbers

@rs.Asset
def waits(numbers: list[int]) -> int:
    time.sleep(60)
    return 1

rs.CodeRepository([numbers, waits]).materialize(record={home!r})
"""


def test_record_of_a_killed_process(tmp_path: Path) -> None:
    """While a run goes on its record is readable and is not pruned; after a SIGKILL its last step is lost."""
    script = KILLED.format(here=str(Path(__file__).parent), home=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", script])
    records = RunRecords(tmp_path)
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            folders = records.folders()
            if folders and read_run(folders[0])[0].counts[ViewState.RUNNING] and len(folders) == 1:
                view = read_run(folders[0])[0]
                if view.steps["waits"].state is ViewState.RUNNING:
                    break
            time.sleep(0.02)
        assert is_being_written(records.find() / "events.jsonl")
        assert view.status == "running"
        assert records.prune(0, 0) == []
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    view, damaged = read_run(records.find())

    assert damaged == []
    assert view.status == "lost"
    assert view.steps["numbers"].state is ViewState.SUCCEEDED
    assert view.steps["waits"].state is ViewState.LOST


def test_unwritable_home(tmp_path: Path) -> None:
    """Where the record cannot be made the run goes on, with one warning."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.warns(RuntimeWarning, match="Not a directory") as warned:
        result = REPOSITORY.materialize("numbers", record=blocked / "home")

    assert result.success
    assert len(warned) == 1


FULL = """
import resource, sys
sys.path.insert(0, {here!r})
from pipeline import REPOSITORY

resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
result = REPOSITORY.materialize(record={home!r}, raise_on_error=False)
assert len(result.steps) == 8, result
"""


def test_unreadable_home(tmp_path: Path) -> None:
    """A run whose home cannot even be looked into goes on with one warning; a list of its records is refused."""
    home = tmp_path / ("x" * 300)
    with pytest.warns(RuntimeWarning, match="File name too long") as caught:
        assert REPOSITORY.materialize("numbers", record=home).success
    assert 1 == len(caught)
    with pytest.raises(rs.exceptions.RecordError, match=r"cannot read the records in .*: File name too long"):
        RunRecords(home).folders()


def test_full_disk(tmp_path: Path) -> None:
    """When the disk is full in mid-run the run goes on, with one warning, and all earlier events can be read."""
    # A limit of the file's size: the write that reaches it is cut short as on a full disk, and the next one fails.
    script = FULL.format(here=str(Path(__file__).parent), home=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True, env={**os.environ}
    )
    view, damaged = read_run(RunRecords(tmp_path).find())

    assert done.stderr.count("File too large") == 1, done.stderr
    assert [line.problem for line in damaged] == ["the line is not finished"]
    assert view.steps["numbers"].state is ViewState.SUCCEEDED
    assert view.status == "lost"
